"""Data that comes with Quartier, written to the database: observed properties and the municipalities of a file.

Every function may run again at any time: what is there is updated, nothing is made twice.
"""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from quartier.cities.models import Municipality

SHIPPED: Final = ("dortmund", "schwerte")


def seed_properties() -> int:
    """Bring the observed properties in line with the catalogue; returns how many were added or changed.

    Limits that an operator has changed stay: only those of new properties are written.
    """
    from quartier.twin.models import ObservedProperty  # noqa: PLC0415 (needs Django set up)
    from quartier.twin.properties import catalogue  # noqa: PLC0415

    existing = {row.slug: row for row in ObservedProperty.objects.all()}
    changed = 0
    for known in catalogue().values():
        values = {
            f.name: getattr(known, f.name) for f in fields(known) if f.name not in {"limits", "limits_json"}
        }
        row = existing.get(known.slug)
        if row is None:
            ObservedProperty.objects.create(**values, limits=known.limits_json)
        elif any(getattr(row, name) != value for name, value in values.items()):
            ObservedProperty.objects.filter(pk=row.pk).update(**values)
        else:
            continue
        changed += 1
    return changed


def shipped_file(slug: str) -> Path:
    """The file of a city that comes with Quartier."""
    return Path(str(files("quartier.cities") / "data" / f"{slug}.json"))


def seed_municipality(file: Path) -> Municipality:
    """Write a municipality with its districts from a JSON file (form: docs/operating.md).

    Raises ClickException that names what is wrong with the file.
    """
    from django.db import transaction  # noqa: PLC0415 (needs Django set up)

    from quartier.cities.models import District, Municipality  # noqa: PLC0415

    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        lon, lat = content["centre"]
        west, south, east, north = content["bbox"]
        values = {
            "name": content["name"],
            "key": content.get("ags", ""),
            "time_zone": content.get("time_zone", "Europe/Berlin"),
            "population": content.get("population"),
            "lon": lon,
            "lat": lat,
            "west": west,
            "south": south,
            "east": east,
            "north": north,
            "theme": content.get("theme", content["slug"]),
        }
        accuracy = content.get("accuracy", "official")
        districts = [(d["slug"], d["name"], d["polygon"]) for d in content.get("districts", [])]
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    except KeyError as error:
        raise click.ClickException(f"{file}: {error.args[0]} is missing") from None
    except (TypeError, ValueError) as error:
        raise click.ClickException(f"{file} is not the description of a municipality: {error}") from None
    with transaction.atomic():
        city, _new = Municipality.objects.update_or_create(slug=content["slug"], defaults=values)
        if content.get("contact"):
            Municipality.objects.filter(pk=city.pk).update(contact=content["contact"])
        for slug, name, polygon in districts:
            District.objects.update_or_create(
                municipality=city,
                slug=slug,
                defaults={"name": name, "polygon": polygon, "accuracy": accuracy},
            )
    return city
