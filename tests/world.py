"""A little world for tests that record: one city, one station, all properties."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from quartier.cities.models import Municipality
from quartier.lorawan.store.frames import DAYS
from quartier.twin.models import ObservedProperty, Series, Thing
from quartier.twin.properties import catalogue


@dataclass(frozen=True, slots=True)
class World:
    """One municipality with one thing and a series per property asked for."""

    municipality: Municipality
    thing: Thing
    properties: dict[str, ObservedProperty]

    def series(self, slug: str, *, thing: Thing | None = None) -> Series:
        """A new series."""
        found = self.properties[slug]
        return Series.objects.create(
            municipality=self.municipality,
            thing=thing or self.thing,
            observed_property=found,
            unit=found.unit,
            result_type=found.result_type,
        )


def make_world() -> World:
    """Musterstadt with one climate station, and all properties."""
    municipality = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7.4, south=51.4, east=7.6, north=51.6
    )
    thing = Thing.objects.create(
        municipality=municipality, key="markt", name="Markt", kind="station", lon=7.5, lat=51.5, altitude_m=90
    )
    properties = {
        p.slug: ObservedProperty.objects.create(
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
    }
    return World(municipality, thing, properties)


def frame_days(moments: Iterable[datetime]) -> None:
    """Make the days of the frame log in which these moments lie, as the radio does before it writes."""
    with connection.cursor() as cursor:
        for day in {DAYS.of(one) for one in moments}:
            cursor.execute("SELECT to_regclass(%s)", [DAYS.name(day)])
            if cursor.fetchone() == (None,):
                for statement in DAYS.statements(day):
                    cursor.execute(statement)
