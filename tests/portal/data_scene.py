"""Two small cities with real readings for the tests of the data pages: recorded and rolled up by the real code.

Committed once per test file, because building it takes longer than reading it; tests change it only inside their own
transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from django.db import connection
from django.utils import timezone

from quartier.cities.models import District, Municipality, Organisation
from quartier.engines.pools import async_pool
from quartier.portal.axes import ZONE
from quartier.twin import rollups
from quartier.twin.flags import Flag
from quartier.twin.models import Deployment, Device, DeviceType, ObservedProperty, Series, Thing
from quartier.twin.properties import catalogue
from quartier.twin.record import Observation, Recorder
from quartier.usage.models import Dataset

TEN_MINUTES = timedelta(minutes=10)


def _square(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


@dataclass(slots=True)
class DataScene:
    """What the tests refer to. ``now`` is the full minute before the data were built."""

    now: datetime
    properties: dict[str, ObservedProperty] = field(repr=False)
    cities: dict[str, Municipality] = field(default_factory=dict, repr=False)
    things: dict[str, Thing] = field(default_factory=dict, repr=False)
    series: dict[tuple[str, str], Series] = field(default_factory=dict, repr=False)
    rows: list[Observation] = field(default_factory=list, repr=False)

    def thing(self, city: str, key: str, name: str, kind: str, **facts: Any) -> Thing:
        """A new thing in a city."""
        made = Thing.objects.create(municipality=self.cities[city], key=key, name=name, kind=kind, **facts)
        self.things[key] = made
        return made

    def measure(
        self,
        key: str,
        slug: str,
        readings: Iterable[tuple[datetime, float, int]],
        device: Device | None = None,
    ) -> Series:
        """A series of a thing with readings (time, result, flags)."""
        thing, prop = self.things[key], self.properties[slug]
        series = Series.objects.create(
            municipality_id=thing.municipality_id,
            thing=thing,
            observed_property=prop,
            device=device,
            unit=prop.unit,
            result_type=prop.result_type,
        )
        self.series[key, slug] = series
        for time, result, flags in readings:
            self.rows.append(Observation(thing.municipality_id, series.pk, time, result, flags))
        return series

    def past(self, hours: float, value: float, *, step: float = 0.0) -> list[tuple[datetime, float, int]]:
        """Readings every ten minutes, the newest a minute ago; ``step`` is added from each to the next one."""
        count = int(hours * 6)
        newest = self.now - timedelta(minutes=1)
        return [(newest - (count - 1 - i) * TEN_MINUTES, round(value + i * step, 3), 0) for i in range(count)]


def database_url() -> str:
    """Address of the database that Django's tests use."""
    settings = connection.settings_dict
    return f"postgresql://{settings['USER']}@/{settings['NAME']}?host={quote(settings['HOST'], safe='')}"


async def _record(rows: list[Observation]) -> None:
    async with async_pool(database_url()) as pool:
        recorder = Recorder(pool)
        await recorder.start()
        await recorder.record(rows, publish=False)
        await recorder.close()
        async with pool.connection() as opened:
            while await rollups.refresh(opened):
                pass


def build() -> DataScene:
    """Write the scene into the database that Django is connected to; what another scene left is used."""
    properties = {
        p.slug: ObservedProperty.objects.update_or_create(
            slug=p.slug,
            defaults={
                "iri": p.iri, "name_de": p.name_de, "name_en": p.name_en, "description_de": p.description_de,
                "description_en": p.description_en, "unit": p.unit, "decimals": p.decimals, "category": p.category,
                "circular": p.circular, "result_type": p.result_type, "aggregation": p.aggregation,
                "limits": p.limits_json,
            },
        )[0]
        for p in catalogue().values()
    }  # fmt: skip
    scene = DataScene(timezone.now().replace(second=0, microsecond=0), properties)
    for slug, name, box in (
        ("dortmund", "Dortmund", (7.30, 51.42, 7.63, 51.60)),
        ("schwerte", "Schwerte", (7.50, 51.39, 7.66, 51.47)),
    ):
        city, _made = Municipality.objects.get_or_create(
            slug=slug,
            defaults={
                "name": name, "theme": slug, "lon": (box[0] + box[2]) / 2, "lat": (box[1] + box[3]) / 2,
                "west": box[0], "south": box[1], "east": box[2], "north": box[3],
            },
        )  # fmt: skip
        scene.cities[slug] = city
        Dataset.objects.update_or_create(
            municipality=city,
            slug="klima",
            defaults={
                "title_de": "Klima", "title_en": "Climate", "attribution": f"Stadt {name}",
                "thing_kinds": ["station", "citizen_sensor"],
            },
        )  # fmt: skip
    Dataset.objects.create(
        municipality=scene.cities["dortmund"], slug="lamps", title_de="x", title_en="x", thing_kinds=["street_lamp"],
        public=False,
    )  # fmt: skip
    hoerde = District.objects.create(
        municipality=scene.cities["dortmund"],
        slug="hoerde",
        name="Hörde",
        polygon=_square(7.48, 51.47, 7.53, 51.50),
    )
    _stations(scene, hoerde)
    _others(scene, hoerde)
    asyncio.run(_record(scene.rows))
    return scene


def _stations(scene: DataScene, hoerde: District) -> None:
    owner = Organisation.objects.create(slug="umweltamt", name="Umweltamt Dortmund")
    scene.thing(
        "dortmund", "do-1", "Hörde, Hermannstraße", "station", lon=7.50, lat=51.49, altitude_m=92.4, district=hoerde,
        street="Hermannstraße", house_number="12", postcode="44263", surface="asphalt", owner=owner,
    )  # fmt: skip
    device_type = DeviceType.objects.create(key="dl-sht35", vendor="Decentlab", model="DL-SHT35")
    dortmund = scene.cities["dortmund"]
    now_there, before = (
        Device.objects.create(
            municipality=dortmund, source_key="element", external_id=f"dev-{n}", name=f"DEC{n}",
            device_type=device_type, expected_interval_s=600, last_seen_at=scene.now, battery_v=3.051,
        )
        for n in (1, 2)
    )  # fmt: skip
    swap = datetime(2026, 1, 15, 12, tzinfo=UTC)
    Deployment.objects.create(
        device=now_there, thing=scene.things["do-1"], since=swap, height_above_ground_m=3
    )
    Deployment.objects.create(
        device=before,
        thing=scene.things["do-1"],
        since=swap - timedelta(days=300),
        until=swap,
        note="Blitzschaden",
    )
    temperature = scene.past(30, 20.04, step=0.05)
    spike = len(temperature) - 20
    temperature[spike] = (temperature[spike][0], 55.5, int(Flag.SPIKE))
    scene.measure("do-1", "air_temperature", temperature, now_there)
    scene.measure("do-1", "utci", scene.past(30, 30.0))
    scene.measure("do-1", "precipitation", scene.past(30, 0.1))
    scene.measure("do-1", "wind_direction", scene.past(30, 225.0))
    scene.measure("do-1", "battery_voltage", scene.past(1, 3.05), now_there)
    scene.thing(
        "dortmund", "do-2", "Bolmke, Ardeystraße", "station", lon=7.449, lat=51.4905, street="Ardeystraße"
    )
    scene.measure("do-2", "air_temperature", scene.past(30, 15.0))
    scene.thing(
        "schwerte", "sw-1", "Markt", "station", lon=7.565, lat=51.445, street="Markt", house_number="1"
    )
    scene.measure("sw-1", "air_temperature", scene.past(30, 18.0))
    scene.thing("dortmund", "do-still", "Schweigende Station", "station", lon=7.46, lat=51.52)
    asleep = [(t - timedelta(days=3), x, f) for t, x, f in scene.past(1, 9.0)]
    scene.measure("do-still", "air_temperature", asleep)
    scene.thing("dortmund", "do-neu", "Neue Station", "station")
    scene.thing("dortmund", "do-geheim", "Geheime Station", "station", public=False, lon=7.5, lat=51.49)
    scene.measure("do-geheim", "air_temperature", scene.past(30, 40.0))


def _others(scene: DataScene, hoerde: District) -> None:
    facts = {"lon": 7.501, "lat": 51.491, "district": hoerde}
    scene.thing("dortmund", "do-park", "Tiefgarage Hörde", "car_park", properties={"capacity": 180}, **facts)
    scene.measure("do-park", "free_spaces", scene.past(30, 42.0))
    scene.thing("dortmund", "do-platz", "Stellplatz 1", "parking_space", **facts)
    half = [(t, float(i % 2), f) for i, (t, _x, f) in enumerate(scene.past(30, 0.0))]
    scene.measure("do-platz", "occupied", half)
    scene.thing("dortmund", "do-leuchte", "Leuchte 1", "street_lamp", **facts)
    scene.measure("do-leuchte", "lamp_power", scene.past(30, 40.0))
    scene.thing("dortmund", "do-rad", "Zählstelle Hansa", "counter", lon=7.46, lat=51.51)
    midnight = scene.now.astimezone(ZONE).replace(hour=0, minute=0)
    counted = [(t, 7.0, f) for t, _x, f in scene.past(30, 7.0) if t >= midnight] or scene.past(1, 7.0)
    scene.measure("do-rad", "bicycle_count", counted)
    scene.thing("dortmund", "do-glas", "Glascontainer Hörde", "waste_container", **facts)
    scene.measure("do-glas", "fill_level", scene.past(30, 85.0))
    scene.thing("dortmund", "do-pegel", "Pegel Emscher", "level_gauge", lon=7.42, lat=51.5)
    scene.measure("do-pegel", "water_level", scene.past(30, 10.0, step=1.0))
    scene.thing("dortmund", "do-baum", "Linde", "tree", **facts)
    scene.measure("do-baum", "soil_moisture", scene.past(30, 14.5))
