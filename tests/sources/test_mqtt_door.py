"""Who may sign in at the broker, and what then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from nats.aio.msg import Msg

from quartier.cities.models import Municipality, Token
from quartier.cities.rules import SYSTEM
from quartier.engines.bus import Bus
from quartier.engines.nats import Server
from quartier.engines.nkeys import Issuer
from quartier.sources.domain import register_sensor, save_source
from quartier.sources.models import Source
from quartier.sources.mqtt_door import Door, SignInError, decide, pass_of_source, pass_of_token, subject_of
from tests.patience import patient
from tests.sources.conftest import Maker, make_maker
from tests.sources.mqtt_client import mqtt


def _codes(reasons: Sequence[Any]) -> list[int]:
    """What the broker answered to subscriptions: the granted QoS, or 128 for no."""
    return [reason.value for reason in reasons]


def _city() -> Municipality:
    return Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7.4, south=51.4, east=7.6, north=51.6
    )


def _prepare() -> tuple[Maker, str]:
    city = _city()
    maker = make_maker(city)
    register_sensor(maker.actor, city, name="Garten", lon=7.45, lat=51.5)
    saved = save_source(SYSTEM, city, "lns", "LNS", "chirpstack", {"broker": "own"})
    # As the connector notes it once it has subscribed.
    Source.objects.update(cursor={"topics": ["application/+/device/+/event/+"]})
    return maker, saved.generated["broker_password"]


@pytest.fixture
async def door(store: str, bus: Bus, nats_server: Server) -> AsyncIterator[None]:
    """A door that is open."""
    stop = asyncio.Event()
    task = asyncio.create_task(Door(bus, Issuer.of(nats_server.folder)).run(stop))
    await bus.nc.flush()
    yield
    stop.set()
    await task


async def test_maker_publishes_to_her_own_topic_only(door: None, bus: Bus, nats_server: Server) -> None:
    maker, _ = await sync_to_async(_prepare)()
    heard: list[tuple[str, bytes]] = []

    async def hear(message: Msg) -> None:
        heard.append((message.subject, message.data))

    await bus.nc.subscribe("quartier.>", cb=hear)
    await bus.nc.subscribe("inbox.>", cb=hear)
    async with mqtt(nats_server.mqtt_port, "anything", maker.token) as client:
        await client.publish("quartier/v1/garten", b"mine", qos=1)
        await client.publish("quartier/v1/nachbar", b"not mine", qos=1)
        await client.publish("quartier/v1/garten/more", b"too deep", qos=1)
        await client.publish("inbox/musterstadt/makers", b"past the door", qos=0)
        await client.publish("quartier/v1/garten", b"last", qos=1)
    await bus.nc.flush()
    assert heard == [("quartier.v1.garten", b"mine"), ("quartier.v1.garten", b"last")]


async def test_maker_hears_nothing(door: None, nats_server: Server) -> None:
    maker, _ = await sync_to_async(_prepare)()
    async with mqtt(nats_server.mqtt_port, "x", maker.token) as client:
        for topic in ("quartier/v1/garten", "quartier/v1/+", "#", "$SYS/#"):
            assert _codes(await client.subscribe(topic, qos=1)) == [128]


async def test_network_server_publishes_events_and_hears_downlinks(
    door: None, bus: Bus, nats_server: Server
) -> None:
    _, password = await sync_to_async(_prepare)()
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    await bus.nc.subscribe(">", cb=hear)
    async with mqtt(nats_server.mqtt_port, "lns", password) as client:
        await client.publish("application/1/device/2/event/up", b"event", qos=1)
        await client.publish("quartier/v1/garten", b"no", qos=1)
        granted = await client.subscribe("application/+/device/+/command/down")
        assert _codes(granted) == [0]
        refused = await client.subscribe("application/#")
        assert _codes(refused) == [128]
    await bus.nc.flush()
    assert heard.count(b"event") >= 1
    assert b"no" not in heard


async def test_nobody_else_comes_in(door: None, nats_server: Server) -> None:
    maker, _ = await sync_to_async(_prepare)()
    for username, password, client_id in (
        ("lns", "wrong", None),
        ("lns", "", None),
        ("", "", None),
        ("quartier", "wrong", None),
        ("x", "qt_0000000000_nonsense", None),
        ("x", maker.token, "quartier-12345678-makers"),
    ):
        with pytest.raises(aiomqtt.MqttError, match=r"Not authorized|Bad user name or password"):
            async with mqtt(nats_server.mqtt_port, username, password, client_id=client_id):
                pass


async def test_the_platform_never_comes_by_websocket(door: None, nats_server: Server) -> None:
    """Its user may do everything; a page that got hold of the password could not use it."""
    parts = urlsplit(nats_server.url)
    name, password = parts.username or "", unquote(parts.password or "")
    async with mqtt(nats_server.mqtt_port, name, password):
        pass
    with pytest.raises(aiomqtt.MqttError, match=r"Not authorized|Bad user name or password"):
        async with aiomqtt.Client(
            "127.0.0.1",
            nats_server.websocket_port,
            username=name,
            password=password,
            transport="websockets",
            websocket_path="/mqtt",
            timeout=patient(15),
        ):
            pass


async def test_token_opens_no_nats_connection(door: None, nats_server: Server) -> None:
    maker, _ = await sync_to_async(_prepare)()
    host, port = nats_server.url.rsplit("@", 1)[1].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    assert (await reader.readline()).startswith(b"INFO")
    connect = {"user": "x", "pass": maker.token, "verbose": True, "protocol": 1}
    writer.write(b"CONNECT " + json.dumps(connect).encode() + b"\r\nPING\r\n")
    assert await reader.readline() == b"-ERR 'Authorization Violation'\r\n"
    writer.close()
    await writer.wait_closed()


def test_pass_ends_within_the_hour_or_with_the_token(db: None) -> None:
    maker, _ = _prepare()
    now = timezone.now()
    granted = pass_of_token(maker.token)
    assert granted.publish == ["quartier.v1.garten"]
    assert 3590 < granted.until - now.timestamp() <= 3601
    Token.objects.update(expires_at=now + timedelta(minutes=5))
    assert 290 < pass_of_token(maker.token).until - now.timestamp() <= 301


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [("revoked", "token"), ("scope", "scope"), ("device", "no_device"), ("switched_off", "no_device")],
)
def test_spoilt_token(spoil: str, reason: str, db: None) -> None:
    from quartier.twin.models import Device

    maker, _ = _prepare()
    match spoil:
        case "revoked":
            Token.objects.update(revoked_at=timezone.now())
        case "scope":
            Token.objects.update(scopes=["things:read"])
        case "device":
            Device.objects.all().delete()
        case "switched_off":
            Device.objects.update(active=False)
    with pytest.raises(SignInError) as caught:
        decide("x", maker.token, "board", "mqtt")
    assert caught.value.reason == reason


def test_source_that_is_off_or_elsewhere_opens_nothing(db: None) -> None:
    _, password = _prepare()
    assert pass_of_source("lns", password).publish == ["application.*.device.*.event.*"]
    city = Municipality.objects.get()
    save_source(SYSTEM, city, "lns", "LNS", "chirpstack", {"broker": "own"}, enabled=False)
    with pytest.raises(SignInError):
        pass_of_source("lns", password)
    save_source(SYSTEM, city, "lns", "LNS", "chirpstack", {"broker": "other", "host": "lns.example.org"})
    with pytest.raises(SignInError):
        pass_of_source("lns", password)


def test_source_that_nobody_reads_yet_opens_nothing(db: None) -> None:
    _, password = _prepare()
    Source.objects.update(cursor={})
    with pytest.raises(SignInError) as caught:
        pass_of_source("lns", password)
    assert caught.value.reason == "not_ready"


def test_topics_as_subjects() -> None:
    assert subject_of("application/+/device/+/event/+") == ["application.*.device.*.event.*"]
    assert subject_of("v3/#") == ["v3", "v3.>"]
