"""The machine interface: what is taken, and every way of saying no."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from starlette.applications import Starlette
from starlette.routing import Mount

from quartier.cities.models import District, Municipality, Token
from quartier.cities.rules import SYSTEM
from quartier.engines.bus import INBOX, Bus
from quartier.engines.pools import Pool
from quartier.intake.inbox import RawMessage, decode
from quartier.intake.parsers import Uplink, parse
from quartier.sources.api import limits, routes, tokens, webhooks
from quartier.sources.api.answers import ApiError
from quartier.sources.domain import register_sensor, save_source
from quartier.sources.grants import Grants
from quartier.sources.models import Source
from quartier.twin.models import Device, ObservedProperty, Thing
from tests.sources.conftest import Maker, make_maker
from tests.sources.messages import CHIRPSTACK_UP, SENSOR_COMMUNITY, TTS_UP
from tests.world import World

VALUES = {"air_temperature": 21.4, "relative_humidity": 60}


@dataclass(slots=True)
class Scene:
    """A client of the interface, a maker with a sensor, and the inbox."""

    client: httpx.AsyncClient
    bus: Bus
    maker: Maker

    async def post(
        self, path: str, content: Any, *, token: str | None = None, **headers: str
    ) -> httpx.Response:
        """Post JSON (or bytes) with the maker's token."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = (
            {"Authorization": f"Bearer {self.maker.token if token is None else token}"} if token != "" else {}
        )
        return await self.client.post(
            path, content=body, headers={"Content-Type": "application/json", **given, **headers}
        )

    async def messages(self) -> list[RawMessage]:
        """What is in the inbox."""
        info = await self.bus.js.stream_info(INBOX)
        found = []
        for position in range(info.state.first_seq, info.state.last_seq + 1):
            stored = await self.bus.js.get_msg(INBOX, seq=position)
            assert stored.data is not None
            found.append(decode(stored.data))
        return found


def _make() -> Maker:
    city = Municipality.objects.get(slug="musterstadt")
    maker = make_maker(city)
    register_sensor(
        maker.actor,
        city,
        name="Garten",
        lon=7.45,
        lat=51.5,
        sensors={"5a1b2c3d4e5f6a7b8c9d0e1f": "air_temperature"},
    )
    return maker


@asynccontextmanager
async def _client(bus: Bus, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[Mount("/api", routes=routes)])
    app.state.bus, app.state.pool = bus, pool
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartier.example/api") as client:
        yield client


@pytest.fixture
async def scene(world: World, bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Musterstadt with a maker; nothing is remembered from the last test."""
    monkeypatch.setattr(tokens, "_grants", Grants())
    monkeypatch.setattr(tokens, "_limit", limits.RateLimit())
    monkeypatch.setattr(webhooks, "_known", {})
    monkeypatch.setattr(webhooks, "_WRITE_S", 0.05)
    async with _client(bus, pool) as client:
        yield Scene(client, bus, await sync_to_async(_make)())


async def _uplinks(scene: Scene) -> list[Uplink]:
    return [uplink for message in await scene.messages() for uplink in parse(message, {})]


def _refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    body = response.json()
    assert set(body) == {"error", "field", "detail"}
    assert body["detail"]
    return response.status_code, body["error"], body["field"]


# Makers' readings


async def test_reading_is_accepted_when_it_is_durable(scene: Scene) -> None:
    response = await scene.post("/observations", {"device": "garten", "values": VALUES})
    (message,) = await scene.messages()
    info = await scene.bus.js.stream_info(INBOX)
    assert (response.status_code, response.json()) == (202, {"position": info.state.last_seq, "readings": 2})
    assert (message.municipality, message.source, message.kind, message.topic) == (
        "musterstadt",
        "makers",
        "quartier_json",
        "/api/observations",
    )
    assert json.loads(message.body) == {"device": "garten", "values": VALUES}


async def test_list_with_time_and_units(scene: Scene) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    content = [
        {
            "device": "garten",
            "time": moment.isoformat(),
            "values": {"air_temperature": {"value": 70, "unit": "[degF]"}},
        },
        {"device": "garten", "values": {"pm10": "4.5"}},
    ]
    assert (await scene.post("/observations", content)).status_code == 202
    assert [(one.external_id, one.observed_at, one.fields) for one in await _uplinks(scene)] == [
        ("garten", moment, {"air_temperature": {"value": 70, "unit": "[degF]"}}),
        ("garten", None, {"pm10": "4.5"}),
    ]


LONG_AGO = "1970-01-01T00:00:00Z"
NEXT_YEAR = (datetime.now(UTC) + timedelta(days=365)).isoformat()


BAD_READING_IS_REFUSED_WITH_THE_FIELD_AND_CHANGES_NOTHING: list[tuple[Any, ...]] = [
    (b"", (400, "not_json", None)),
    (b'{"device": "garten", "values": {"air_temperature": NaN}}', (400, "not_json", None)),
    ({"values": VALUES}, (400, "missing_field", "device")),
    ({"device": "garten"}, (400, "missing_field", "values")),
    ({"device": "garten", "values": {}}, (400, "missing_field", "values")),
    (
        {"device": "garten", "values": {"air_temperature": "warm"}},
        (400, "bad_value", "values.air_temperature"),
    ),
    (
        {"device": "garten", "values": {"air_temperature": [1]}},
        (400, "wrong_type", "values.air_temperature"),
    ),
    (
        {"device": "garten", "values": {"air_temperatur": 1}},
        (400, "unknown_property", "values.air_temperatur"),
    ),
    (
        {"device": "garten", "values": {"air_temperature": {"value": 1, "unit": "kg"}}},
        (400, "bad_unit", "values.air_temperature"),
    ),
    ({"device": "garten", "values": VALUES, "time": "noon"}, (400, "bad_time", "time")),
    ({"device": "garten", "values": VALUES, "time": LONG_AGO}, (400, "bad_time", "time")),
    ({"device": "garten", "values": VALUES, "time": NEXT_YEAR}, (400, "bad_time", "time")),
    ({"device": "nachbar", "values": VALUES}, (404, "unknown_device", "device")),
    (
        [{"device": "garten", "values": VALUES}, {"device": "garten"}],
        (400, "missing_field", "[1].values"),
    ),
    (b"x" * 300_000, (413, "too_large", "body")),
]


async def test_bad_reading_is_refused_with_the_field_and_changes_nothing(scene: Scene) -> None:
    for content, refusal in BAD_READING_IS_REFUSED_WITH_THE_FIELD_AND_CHANGES_NOTHING:
        assert _refusal(await scene.post("/observations", content)) == refusal, content
    assert await scene.messages() == []


async def test_body_without_length_is_cut_off_at_the_limit(scene: Scene) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    response = await scene.client.post(
        "/observations", content=endless(), headers={"Authorization": f"Bearer {scene.maker.token}"}
    )
    assert _refusal(response) == (413, "too_large", "body")


async def test_other_content_type_is_refused(scene: Scene) -> None:
    response = await scene.post(
        "/observations",
        {"device": "garten", "values": VALUES},
        **{"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert _refusal(response) == (415, "not_json", "Content-Type")


async def test_nobody_and_strangers_are_turned_away(scene: Scene) -> None:
    content = {"device": "garten", "values": VALUES}
    assert _refusal(await scene.post("/observations", content, token="")) == (
        401,
        "no_token",
        "Authorization",
    )
    stranger = await scene.post("/observations", content, token="qt_0123456789_x")
    assert _refusal(stranger) == (401, "bad_token", "Authorization")
    assert stranger.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("spoil", ["revoked_at", "expires_at"])
async def test_token_that_ended(spoil: str, scene: Scene) -> None:
    await Token.objects.aupdate(**{spoil: timezone.now()})
    response = await scene.post("/observations", {"device": "garten", "values": VALUES})
    assert _refusal(response) == (401, "bad_token", "Authorization")


async def test_token_without_the_scope_is_told_which(scene: Scene) -> None:
    await Token.objects.aupdate(scopes=["things:read"])
    response = await scene.post("/observations", {"device": "garten", "values": VALUES})
    assert _refusal(response) == (403, "missing_scope", "token")
    assert response.json()["detail"] == "the token lacks the scope observations:write"


async def test_revoked_token_is_out_within_half_a_minute(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"device": "garten", "values": VALUES}
    monkeypatch.setattr(tokens, "_grants", Grants(remembered_s=0.2))
    assert (await scene.post("/observations", content)).status_code == 202
    await Token.objects.aupdate(revoked_at=timezone.now())
    assert (await scene.post("/observations", content)).status_code == 202
    await asyncio.sleep(0.25)
    assert (await scene.post("/observations", content)).status_code == 401


async def test_a_sensor_registered_a_moment_ago_may_send(scene: Scene) -> None:
    await scene.post("/observations", {"device": "garten", "values": VALUES})

    def register() -> None:
        register_sensor(scene.maker.actor, Municipality.objects.get(), name="Balkon", lon=7.45, lat=51.5)

    await sync_to_async(register)()
    assert (await scene.post("/observations", {"device": "balkon", "values": VALUES})).status_code == 202


async def test_somebody_else_s_sensor_is_unknown(scene: Scene) -> None:
    other = await sync_to_async(lambda: make_maker(Municipality.objects.get()))()
    response = await scene.post("/observations", {"device": "garten", "values": VALUES}, token=other.token)
    assert _refusal(response) == (404, "unknown_device", "device")


async def test_sensors_in_two_cities_in_one_list(scene: Scene) -> None:
    def neighbour() -> None:
        from quartier.cities.models import RoleAssignment
        from quartier.cities.rules import actor_of

        city = Municipality.objects.create(
            slug="nachbar", name="Nachbar", lon=7.7, lat=51.5, west=7.6, south=51.4, east=7.8, north=51.6
        )
        RoleAssignment.objects.create(person=scene.maker.person, role="maker", municipality=city)
        register_sensor(actor_of(scene.maker.person), city, name="Laube", lon=7.7, lat=51.5)

    await sync_to_async(neighbour)()
    content = [
        {"device": name, "values": {"pm10": n}} for n, name in enumerate(["garten", "laube", "garten"])
    ]
    assert (await scene.post("/observations", content)).status_code == 202
    assert [(message.municipality, json.loads(message.body)) for message in await scene.messages()] == [
        ("musterstadt", [content[0], content[2]]),
        ("nachbar", [content[1]]),
    ]


async def test_too_many_requests_are_told_when_to_come_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_limit", limits.RateLimit(per_minute=3))
    content = {"device": "garten", "values": VALUES}
    assert [(await scene.post("/observations", content)).status_code for _ in range(3)] == [202] * 3
    refused = await scene.post("/observations", content)
    assert _refusal(refused) == (429, "too_many_requests", "token")
    assert 15 <= int(refused.headers["retry-after"]) <= 20


def test_rate_limit_fills_steadily() -> None:
    limit = limits.RateLimit(per_minute=60)
    for _ in range(60):
        limit.take(1, now_s=100)
    with pytest.raises(ApiError):
        limit.take(1, now_s=100.9)
    limit.take(1, now_s=101.1)
    limit.take(2, now_s=101.1)


async def test_inbox_away_is_503_and_not_accepted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.bus.js.delete_stream(INBOX)
    try:
        response = await scene.post("/observations", {"device": "garten", "values": VALUES})
    finally:
        from quartier.engines import bus as engine

        again = await engine.connect(str(scene.bus.nc.connected_url.geturl()), name="test")  # type: ignore[union-attr]
        await again.close()
    assert _refusal(response) == (503, "unavailable", None)
    assert response.headers["retry-after"] == "5"


# openSenseMap and sensor.community


async def test_box_sends_as_to_opensensemap(scene: Scene) -> None:
    for scheme in ("", "Bearer "):
        response = await scene.client.post(
            "/boxes/garten/data",
            json=[{"sensor": "5a1b2c3d4e5f6a7b8c9d0e1f", "value": "21.5"}, {"sensor": "pm10", "value": "4"}],
            headers={"Authorization": f"{scheme}{scene.maker.token}"},
        )
        assert (response.status_code, response.json()) == (201, "Measurements saved in box")
    assert [(one.external_id, one.fields) for one in await _uplinks(scene)] == [
        ("garten", {"air_temperature": "21.5", "pm10": "4"})
    ] * 2


async def test_box_sends_csv_bytes_and_single_measurements(scene: Scene) -> None:
    csv = await scene.post("/boxes/garten/data", b"pm10,4\npm2_5,2", **{"Content-Type": "text/csv"})
    sensor = bytes.fromhex("5a1b2c3d4e5f6a7b8c9d0e1f")
    binary = await scene.post(
        "/boxes/garten/data", struct.pack("<12sf", sensor, 21.5), **{"Content-Type": "application/sbx-bytes"}
    )
    single = await scene.post("/boxes/garten/pm1", {"value": 1.5})
    assert [csv.status_code, binary.status_code, single.status_code] == [201, 201, 201]
    assert [one.fields for one in await _uplinks(scene)] == [
        {"pm10": "4", "pm2_5": "2"},
        {"air_temperature": 21.5},
        {"pm1": 1.5},
    ]


BAD_BOX_MESSAGE: list[tuple[Any, ...]] = [
    ("/boxes/garten/data", b"pm10", "text/csv", (400, "not_csv", None)),
    ("/boxes/garten/data", b"[]", "application/xml", (415, "bad_content_type", "Content-Type")),
    ("/boxes/fremd/data", b"[]", "application/json", (404, "unknown_device", "boxId")),
    ("/boxes/garten/data", b'{"smell": 5}', "application/json", (400, "unknown_property", "smell")),
    ("/boxes/garten/data", b'{"pm10": "much"}', "application/json", (400, "bad_value", "pm10")),
    ("/boxes/garten/pm10", b"[1]", "application/json", (400, "wrong_type", "body")),
    ("/boxes/garten/pm10", b"[", "application/json", (400, "not_json", "body")),
]


async def test_bad_box_message(scene: Scene) -> None:
    for path, content, kind, refusal in BAD_BOX_MESSAGE:
        assert _refusal(await scene.post(path, content, **{"Content-Type": kind})) == refusal, content
    assert await scene.messages() == []


def _basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"anything:{token}".encode()).decode()


@pytest.mark.parametrize("way", ["basic", "path", "path without slash", "bearer"])
async def test_firmware_sends_as_to_an_own_api(way: str, scene: Scene) -> None:
    token = scene.maker.token
    path = {"path": f"/push-sensor-data/{token}/", "path without slash": f"/push-sensor-data/{token}"}
    authorization = {
        "basic": {"Authorization": _basic(token)},
        "bearer": {"Authorization": f"Bearer {token}"},
    }
    response = await scene.client.post(
        path.get(way, "/push-sensor-data/"),
        json=SENSOR_COMMUNITY,
        headers={**authorization.get(way, {}), "X-Sensor": "esp8266-1234567", "X-Pin": "1"},
    )
    assert response.status_code == 202
    (message,) = await scene.messages()
    # The token stands in the path of some boxes; it is kept nowhere.
    assert token not in repr(message)
    (uplink,) = parse(message, {})
    # The only sensor of this maker: it needs no id.
    assert uplink.external_id == "garten"
    assert (uplink.fields or {})["air_pressure"] == {"value": "101325.0", "unit": "Pa"}


async def test_firmware_is_known_by_its_chip(scene: Scene) -> None:
    def register() -> None:
        for name, chip in (("Balkon", "esp8266-1234567"), ("Keller", "esp8266-7")):
            register_sensor(
                scene.maker.actor, Municipality.objects.get(), name=name, lon=7.45, lat=51.5, sensor_id=chip
            )

    await sync_to_async(register)()
    assert (await scene.post("/push-sensor-data/", SENSOR_COMMUNITY)).status_code == 202
    assert [one.external_id for one in await _uplinks(scene)] == ["balkon"]
    stranger = await scene.post("/push-sensor-data/", {**SENSOR_COMMUNITY, "esp8266id": "999"})
    assert _refusal(stranger) == (404, "unknown_device", "X-Sensor")


BAD_FIRMWARE_MESSAGE: list[tuple[Any, ...]] = [
    ({"esp8266id": "1"}, (400, "missing_field", "sensordatavalues")),
    (
        {"esp8266id": "1", "sensordatavalues": [{"value_type": "SDS_P1", "value": "nan"}]},
        (400, "bad_value", "sensordatavalues.pm10"),
    ),
    (
        {"esp8266id": "1", "sensordatavalues": [{"value_type": "PMS_N10", "value": "1"}]},
        (400, "unknown_property", "sensordatavalues.PMS_N10"),
    ),
]


async def test_bad_firmware_message(scene: Scene) -> None:
    for content, refusal in BAD_FIRMWARE_MESSAGE:
        assert _refusal(await scene.post("/push-sensor-data/", content)) == refusal, content


# Registering


async def test_sensor_is_registered_by_program_and_listed(scene: Scene) -> None:
    polygon = {
        "type": "Polygon",
        "coordinates": [[[7.4, 51.4], [7.6, 51.4], [7.6, 51.6], [7.4, 51.6], [7.4, 51.4]]],
    }
    city = await Municipality.objects.aget()
    await District.objects.acreate(municipality=city, slug="mitte", name="Mitte", polygon=polygon)
    response = await scene.post(
        "/devices",
        {"name": "Mein Balkon", "lon": 7.5, "lat": 51.5, "height_above_ground_m": 8, "device": "balkon-1"},
    )
    assert response.status_code == 201
    assert response.json() == {
        "device": "balkon-1",
        "name": "Mein Balkon",
        "municipality": "musterstadt",
        "thing": "balkon-1",
        "page": "http://127.0.0.1:8700/orte/musterstadt/balkon-1/",
        "mqtt_topic": "quartier/v1/balkon-1",
        "lon": 7.5,
        "lat": 51.5,
        "height_above_ground_m": 8,
        "public": True,
        "last_seen_at": None,
    }
    assert (await scene.post("/observations", {"device": "balkon-1", "values": VALUES})).status_code == 202
    listed = await scene.client.get(
        "/devices",
        headers={"Authorization": f"Bearer {scene.maker.token}", "Origin": "https://elsewhere.example"},
    )
    assert [one["device"] for one in listed.json()["devices"]] == ["balkon-1", "garten"]
    # Only reading is open to other pages' scripts.
    assert listed.headers["access-control-allow-origin"] == "*"
    preflight = await scene.client.options(
        "/observations",
        headers={"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 400


BAD_REGISTRATION: list[tuple[Any, ...]] = [
    (b"{", (400, "not_json", "body")),
    ({"name": "x", "lon": "east", "lat": 51.5}, (400, "wrong_type", "lon")),
    ({"name": "x", "lon": 7.5, "lat": 51.5, "colour": 1}, (400, "wrong_type", None)),
    ({"name": "x", "lon": 51.5, "lat": 7.5}, (400, "bad_value", "lon")),
    ({"name": "", "lon": 7.5, "lat": 51.5}, (400, "bad_value", "name")),
    ({"name": "x", "lon": 7.5, "lat": 51.5, "municipality": "rom"}, (400, "bad_value", "municipality")),
    ({"name": "x", "lon": 7.5, "lat": 51.5, "device": "garten"}, (400, "bad_value", "device")),
]


async def test_bad_registration(scene: Scene) -> None:
    for content, refusal in BAD_REGISTRATION:
        assert _refusal(await scene.post("/devices", content)) == refusal, content
    assert await Device.objects.acount() == 1
    assert await Thing.objects.filter(kind="citizen_sensor").acount() == 1


# Webhooks


def _hook(kind: str = "chirpstack", **more: Any) -> str:
    settings: dict[str, Any] = (
        {"transport": "webhook"} if kind != "generic_http" else {"mapping": {"device": "$.id"}}
    )
    saved = save_source(SYSTEM, Municipality.objects.get(), "hook", "Hook", kind, settings, **more)
    return saved.source.credentials["webhook_secret"]


@pytest.mark.parametrize(
    ("kind", "path", "content", "external_id"),
    [
        ("chirpstack", "/sources/hook/events?event=up", CHIRPSTACK_UP, "a84041ffff1234ab"),
        ("tts", "/sources/hook/events/up", TTS_UP, "0004a30b001c0530"),
        ("generic_http", "/sources/hook/events", {"id": "a", "t": 1}, "a"),
    ],
)
async def test_webhook_is_kept_as_it_came(
    kind: str, path: str, content: dict[str, Any], external_id: str, scene: Scene
) -> None:
    secret = await sync_to_async(_hook)(kind)
    response = await scene.post(path, content, token="", **{"X-Quartier-Key": secret})
    (message,) = await scene.messages()
    assert response.status_code == 202
    assert response.json().keys() == {"position"}
    assert (message.source, message.kind, message.topic, message.headers) == ("hook", kind, f"/api{path}", {})
    assert json.loads(message.body) == content
    source = await Source.objects.aget()
    assert parse(message, source.settings)[0].external_id == external_id
    await asyncio.sleep(0.3)
    source = await Source.objects.aget()
    assert (source.state, source.received) == ("ok", 1)
    assert source.last_message_at is not None


async def test_webhook_with_bearer_key(scene: Scene) -> None:
    secret = await sync_to_async(_hook)()
    assert (await scene.post("/sources/hook/events?event=up", CHIRPSTACK_UP, token=secret)).status_code == 202


async def test_webhook_with_wrong_key_is_noted_for_the_desk(scene: Scene) -> None:
    await sync_to_async(_hook)()
    assert _refusal(await scene.post("/sources/hook/events", {}, token="")) == (
        401,
        "no_key",
        "Authorization",
    )
    assert _refusal(await scene.post("/sources/hook/events", {}, token="x")) == (
        403,
        "wrong_key",
        "Authorization",
    )
    await asyncio.sleep(0.3)
    source = await Source.objects.aget()
    assert (source.failures, source.last_error) == (1, "a message came with a wrong key")
    assert await scene.messages() == []


BAD_WEBHOOKS: list[tuple[Any, ...]] = [
    ("nobody", b"{}", "application/json", (404, "unknown_source", "key")),
    ("hook", b"{", "application/json", (400, "not_json", "body")),
    ("hook", b'{"a": 1} x', "application/json", (400, "not_json", "body")),
    ("hook", b"{}", "text/plain", (415, "not_json", "Content-Type")),
    ("hook", b"x" * 300_000, "application/json", (413, "too_large", "body")),
]


async def test_bad_webhook(scene: Scene) -> None:
    secret = await sync_to_async(_hook)()
    for key, content, kind, refusal in BAD_WEBHOOKS:
        response = await scene.post(f"/sources/{key}/events", content, token=secret, **{"Content-Type": kind})
        assert _refusal(response) == refusal
    assert await scene.messages() == []


async def test_webhook_of_a_source_that_is_off_or_reads_itself(scene: Scene) -> None:
    secret = await sync_to_async(_hook)(enabled=False)
    response = await scene.post("/sources/hook/events", {}, token=secret)
    assert _refusal(response) == (403, "source_off", "key")

    def reads_itself() -> None:
        save_source(SYSTEM, Municipality.objects.get(), "mqtt", "MQTT", "chirpstack", {"broker": "own"})

    await sync_to_async(reads_itself)()
    assert (await scene.post("/sources/mqtt/events", {}, token=secret)).status_code == 404


async def test_every_property_of_the_catalogue_can_be_sent(scene: Scene) -> None:
    values = {
        one.slug: 1 async for one in ObservedProperty.objects.all() if one.result_type in ("number", "bool")
    }
    response = await scene.post("/observations", {"device": "garten", "values": values})
    assert (response.status_code, response.json()["readings"]) == (202, len(values))
