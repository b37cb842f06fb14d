"""Which software Basics Stations run, and how many of those that an update is for have it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count
from django.db.models.fields.json import KT

from quartier.cities.rules import Actor
from quartier.desk.access import within
from quartier.lorawan.domain.updates import visible_updates
from quartier.lorawan.models import Gateway
from quartier.lorawan.models_stations import StationUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """So many Stations of a city run this."""

    municipality_id: int
    model: str
    station: str
    package: str
    count: int


def running(actor: Actor) -> list[Running]:
    """What the Stations of the actor's cities told last; those that never asked are left out."""
    rows = (
        Gateway.objects.filter(within(actor), protocol=Gateway.Protocol.STATION, cups__has_key="model")
        .values(
            "municipality_id",
            model=KT("cups__model"),
            station=KT("cups__station"),
            package=KT("cups__package"),
        )
        .annotate(count=Count("pk"))
        .order_by("model", "package", "station", "municipality_id")
    )
    return [
        Running(
            municipality_id=row["municipality_id"],
            model=row["model"] or "",
            station=row["station"] or "",
            package=row["package"] or "",
            count=row["count"],
        )
        for row in rows
    ]


def together(rows: list[Running]) -> list[Running]:
    """The same over all cities."""
    found: dict[tuple[str, str, str], Running] = {}
    for row in rows:
        key = (row.model, row.package, row.station)
        before = found[key].count if key in found else 0
        found[key] = Running(
            municipality_id=0,
            model=row.model,
            station=row.station,
            package=row.package,
            count=before + row.count,
        )
    return [found[key] for key in sorted(found)]


def with_counts(actor: Actor, rows: list[Running]) -> list[tuple[StationUpdate, int, int]]:
    """Updates, each with how many Stations run it, of how many of its model."""
    found = []
    for update in visible_updates(actor):
        meant = [
            row
            for row in rows
            if row.model == update.model and update.municipality_id in (None, row.municipality_id)
        ]
        have = sum(row.count for row in meant if row.package == update.package)
        found.append((update, have, sum(row.count for row in meant)))
    return found
