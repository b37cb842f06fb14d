"""Two cities as staff see them: devices in every state, a codec, refusals, findings, people of every role."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from quartier.cities.models import District, Feedback, Municipality, Person, Role, RoleAssignment
from quartier.intake.models import Codec, FieldMapping, QualityFinding, RefusedMessage
from quartier.sources.models import Source
from quartier.twin.models import Deployment, Device, DeviceType, ObservedProperty, Series, Thing
from quartier.twin.properties import catalogue
from quartier.usage.models import Dataset

SCRIPT = """function decodeUplink(input) {
  return {data: {temperature: (input.bytes[0] << 8 | input.bytes[1]) / 10, humidity: input.bytes[2]}};
}
"""
# Temperature 21.5 °C, humidity 55 %.
PAYLOAD = "00d737"
BODY = b'{"device": "%s", "values": {"air_temperature": 21.5}}'


@dataclass(slots=True)
class Scene:
    """The rows that tests refer to."""

    now: datetime
    dortmund: Municipality
    schwerte: Municipality
    properties: dict[str, ObservedProperty]
    device_type: DeviceType
    sources: dict[str, Source] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    refused: dict[str, RefusedMessage] = field(default_factory=dict)
    findings: dict[str, QualityFinding] = field(default_factory=dict)
    feedback: dict[str, Feedback] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)

    def client(self, name: str) -> Client:
        """A browser in which ``name`` is signed in; ``nobody`` is not."""
        client = Client()
        if name != "nobody":
            client.force_login(
                self.people[name], backend="allauth.account.auth_backends.AuthenticationBackend"
            )
        return client

    def municipality(self, slug: str) -> Municipality:
        """Dortmund or Schwerte."""
        return self.dortmund if slug == "dortmund" else self.schwerte


ROLES: dict[str, tuple[Role | None, str | None]] = {
    "citizen": (None, None),
    "maker": (Role.MAKER, "schwerte"),
    "staff": (Role.STAFF, "schwerte"),
    "steward": (Role.STEWARD, "schwerte"),
    "operator": (Role.OPERATOR, "schwerte"),
    "operator_all": (Role.OPERATOR, None),
}


def _municipality(slug: str, name: str, lon: float, lat: float) -> Municipality:
    made = Municipality.objects.create(
        slug=slug,
        name=name,
        lon=lon,
        lat=lat,
        west=lon - 0.1,
        south=lat - 0.1,
        east=lon + 0.1,
        north=lat + 0.1,
    )
    ring = [
        [lon - 0.1, lat - 0.1],
        [lon + 0.1, lat - 0.1],
        [lon + 0.1, lat + 0.1],
        [lon - 0.1, lat + 0.1],
        [lon - 0.1, lat - 0.1],
    ]
    District.objects.create(
        municipality=made, slug="mitte", name="Mitte", polygon={"type": "Polygon", "coordinates": [ring]}
    )
    return made


def record(series: Series, readings: list[tuple[datetime, float, int]]) -> None:
    """Readings with their state and hourly roll-ups, as the recorder and the worker leave them."""
    with connection.cursor() as cursor:
        days = sorted({time.date().replace(day=1) for time, _result, _flags in readings})
        for first in days:
            following = (first + timedelta(days=32)).replace(day=1)
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS twin_observation_{first:%Y_%m} PARTITION OF twin_observation"
                f" FOR VALUES FROM ('{first} 00:00Z') TO ('{following} 00:00Z')"
            )
        cursor.executemany(
            "INSERT INTO twin_observation (municipality_id, series_id, time, flags, result)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(series.municipality_id, series.pk, time, flags, result) for time, result, flags in readings],
        )
        time, result, flags = readings[-1]
        cursor.execute(
            "INSERT INTO twin_state (municipality_id, series_id, n, first_time, time, flags, result, recorded_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [series.municipality_id, series.pk, len(readings), readings[0][0], time, flags, result, time],
        )
        cursor.execute(
            "INSERT INTO twin_rollup_1h (municipality_id, series_id, bucket, n, n_flagged, sum, sum_of_squares,"
            " min, max, first, last) SELECT municipality_id, series_id, date_trunc('hour', time, 'UTC'),"
            " count(*) FILTER (WHERE flags = 0), count(*) FILTER (WHERE flags <> 0),"
            " sum(result) FILTER (WHERE flags = 0),"
            " 0, min(result), max(result), min(result), max(result) FROM twin_observation WHERE series_id = %s"
            " GROUP BY 1, 2, 3",
            [series.pk],
        )


def furnish(dortmund: Municipality, schwerte: Municipality, now: datetime) -> Scene:
    """Devices, messages, findings and the rest, without people."""
    ObservedProperty.objects.bulk_create(
        (
            ObservedProperty(
                slug=one.slug,
                iri=one.iri,
                name_de=one.name_de,
                name_en=one.name_en,
                unit=one.unit,
                decimals=one.decimals,
                category=one.category,
                circular=one.circular,
                result_type=one.result_type,
                aggregation=one.aggregation,
                limits=one.limits_json,
            )
            for one in catalogue().values()
        ),
        ignore_conflicts=True,
    )
    properties = {one.slug: one for one in ObservedProperty.objects.all()}
    device_type = DeviceType.objects.create(key="muster-th", vendor="Muster", model="TH 1")
    Codec.objects.create(device_type=device_type, version=1, script=SCRIPT, note="erste")
    FieldMapping.objects.create(
        device_type=device_type,
        path="temperature",
        observed_property=properties["air_temperature"],
        unit="Cel",
    )
    scene = Scene(now, dortmund, schwerte, properties, device_type)
    for slug in ("dortmund", "schwerte"):
        _city(scene, slug)
    return scene


def build(now: datetime | None = None) -> Scene:
    """Write the whole scene into the database that Django is connected to."""
    dortmund = _municipality("dortmund", "Dortmund", 7.46, 51.51)
    schwerte = _municipality("schwerte", "Schwerte", 7.57, 51.44)
    scene = furnish(dortmund, schwerte, now or datetime.now(UTC))
    for name, (role, place) in ROLES.items():
        person = Person.objects.create_user(f"{name}@example.org", name=name.capitalize())
        if role is not None:
            municipality = scene.municipality(place) if place else None
            RoleAssignment.objects.create(person=person, role=role, municipality=municipality)
        scene.people[name] = person
    scene.people["superuser"] = Person.objects.create_superuser("root@example.org")
    return scene


def _city(scene: Scene, slug: str) -> None:
    city, now = scene.municipality(slug), scene.now
    source = Source.objects.create(
        municipality=city,
        key=f"netz-{slug}",
        name=f"Netz {city.name}",
        kind="generic_http",
        settings={"mapping": {"device": "$.device"}},
        state=Source.State.WAITING if slug == "schwerte" else Source.State.OK,
        state_since=now - timedelta(hours=2),
        last_error="connection refused" if slug == "schwerte" else "",
        failures=7 if slug == "schwerte" else 0,
    )
    scene.sources[slug] = source
    thing = Thing.objects.create(
        municipality=city,
        key=f"{slug}-markt",
        name=f"Markt {city.name}",
        kind="station",
        lon=city.lon,
        lat=city.lat,
    )
    scene.things[slug] = thing
    kinds: dict[str, dict[str, Any]] = {
        "live": {
            "last_seen_at": now - timedelta(minutes=3),
            "battery_percent": 80.0,
            "rssi_dbm": -97.0,
            "snr_db": 7.5,
        },
        "silent": {"last_seen_at": now - timedelta(hours=5), "battery_v": 2.1},
        "never": {},
        "off": {"active": False, "last_seen_at": now - timedelta(days=30)},
    }
    for number, (state, values) in enumerate(kinds.items()):
        device = Device.objects.create(
            municipality=city,
            source_key=source.key,
            external_id=f"{city.pk:08x}{number:08x}",
            name=f"{city.name} {state}",
            device_type=scene.device_type,
            expected_interval_s=900,
            **values,
        )
        scene.devices[f"{slug} {state}"] = device
    live = scene.devices[f"{slug} live"]
    Deployment.objects.create(
        device=live, thing=thing, since=now - timedelta(days=100), height_above_ground_m=3
    )
    other = Thing.objects.create(
        municipality=city, key=f"{slug}-park", name=f"Park {city.name}", kind="station"
    )
    scene.things[f"{slug} park"] = other
    Deployment.objects.create(
        device=scene.devices[f"{slug} silent"], thing=other, since=now - timedelta(days=100)
    )
    series = Series.objects.create(
        municipality=city,
        thing=thing,
        observed_property=scene.properties["air_temperature"],
        device=live,
        unit="Cel",
    )
    scene.series[slug] = series
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    record(
        series,
        [(start + timedelta(minutes=15 * i), 20.0 + i / 10, 1 if 8 <= i < 12 else 0) for i in range(20)],
    )
    scene.findings[slug] = QualityFinding.objects.create(
        municipality=city,
        series=series,
        check_name="range",
        first_time=start + timedelta(minutes=15 * 8),
        last_time=start + timedelta(minutes=15 * 11),
        n=4,
        example=21.1,
    )
    scene.refused[slug] = RefusedMessage.objects.create(
        municipality=city,
        source_key=source.key,
        external_id="ffff00000000000a",
        reason="unknown_device",
        detail="no device 'ffff00000000000a' is registered",
        body=BODY % b"ffff00000000000a",
        headers={"kind": "quartier_json"},
        topic="/api/observations",
        at=now - timedelta(hours=1),
    )
    scene.feedback[slug] = Feedback.objects.create(
        municipality=city,
        kind="barrier",
        page="/orte/",
        message=f"Gruß aus {city.name}",
        email="a@example.org",
    )
    scene.datasets[slug] = Dataset.objects.create(
        municipality=city,
        slug="klima-amt",
        title_de=f"Klima {city.name}",
        title_en=f"Climate {city.name}",
        thing_kinds=["station"],
    )


def count_queries(client: Client, address: str) -> int:
    """How many queries a page takes."""
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(address)
    assert answer.status_code == 200, address
    return len(captured)
