"""A little data for the page tests: both cities, a district each, data sets, and people of every role.

Rooms that need more (things, readings, devices) add it in fixtures of their own that depend on ``scene``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password

from quartier.cities.models import District, Municipality, Person, Role, RoleAssignment
from quartier.twin.models import ObservedProperty
from quartier.twin.properties import catalogue
from quartier.usage.models import Dataset

PASSWORD = "ein langes Kennwort für Tests"


@dataclass(frozen=True, slots=True)
class Scene:
    """The rows that tests refer to."""

    dortmund: Municipality
    schwerte: Municipality
    people: dict[str, Person] = field(default_factory=dict)


@lru_cache(maxsize=1)
def _password_hash() -> str:
    # Argon2 is slow on purpose; once is enough.
    return make_password(PASSWORD)


def _square(west: float, south: float, east: float, north: float) -> dict[str, object]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _municipality(slug: str, name: str, key: str, box: tuple[float, float, float, float]) -> Municipality:
    west, south, east, north = box
    municipality = Municipality.objects.create(
        slug=slug,
        name=name,
        key=key,
        theme=slug,
        lon=(west + east) / 2,
        lat=(south + north) / 2,
        west=west,
        south=south,
        east=east,
        north=north,
        contact={
            "office": f"Stadt {name}, Amt für Beispiele",
            "street": "Friedensplatz 1",
            "place": f"44000 {name}",
            "email": f"daten@{slug}.example",
            "telephone": "+49 231 000000",
        },
    )
    District.objects.create(municipality=municipality, slug="mitte", name="Mitte", polygon=_square(*box))
    return municipality


def build() -> Scene:
    """Write the scene into the database that Django is connected to."""
    dortmund = _municipality("dortmund", "Dortmund", "05913000", (7.30, 51.42, 7.63, 51.60))
    schwerte = _municipality("schwerte", "Schwerte", "05978028", (7.50, 51.39, 7.66, 51.47))
    for municipality in (dortmund, schwerte):
        Dataset.objects.create(
            municipality=municipality,
            slug="klima",
            title_de=f"Klimastationen in {municipality.name}",
            title_en=f"Climate stations in {municipality.name}",
            description_de="Temperatur, Feuchte und gefühlte Temperatur an festen Stationen.",
            description_en="Temperature, humidity and felt temperature at fixed stations.",
            thing_kinds=["station"],
            attribution=f"Stadt {municipality.name}",
            update_interval_s=600,
        )
    ObservedProperty.objects.bulk_create(
        ObservedProperty(
            slug=p.slug,
            iri=p.iri,
            name_de=p.name_de,
            name_en=p.name_en,
            unit=p.unit,
            decimals=p.decimals,
            category=p.category,
            circular=p.circular,
            result_type=p.result_type,
            aggregation=p.aggregation,
            limits=p.limits_json,
        )
        for p in catalogue().values()
    )
    roles = {
        "operator": (Role.OPERATOR, None),
        "steward": (Role.STEWARD, schwerte),
        "staff": (Role.STAFF, dortmund),
        "maker": (Role.MAKER, None),
        "citizen": (None, None),
    }
    people = {}
    for name, (role, municipality_or_all) in roles.items():
        person = Person.objects.create(
            email=f"{name}@example.org", name=name.capitalize(), password=_password_hash()
        )
        if role is not None:
            RoleAssignment.objects.create(person=person, role=role, municipality=municipality_or_all)
        EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
        people[name] = person
    return Scene(dortmund, schwerte, people)
