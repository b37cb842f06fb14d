"""What the intake process runs: connectors that follow the sources' rows, the makers' bridge, and kills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.models import Municipality
from quartier.cities.rules import SYSTEM
from quartier.engines import bus as engine
from quartier.engines import nats
from quartier.engines.bus import INBOX, Bus
from quartier.engines.nkeys import Issuer
from quartier.engines.pools import Pool
from quartier.intake.inbox import RawMessage, decode
from quartier.intake.parsers import parse
from quartier.sources import connectors
from quartier.sources.connect.mqtt import OwnBroker
from quartier.sources.connectors import Connectors, delay_s
from quartier.sources.domain import register_sensor, save_source, set_enabled
from quartier.sources.models import Source
from quartier.sources.service import tasks
from tests.sources.conftest import FakeServer, broker_of, make_maker, start_again
from tests.sources.element_server import BEGIN, KEY, Element, packet
from tests.sources.messages import CHIRPSTACK_TOPIC, CHIRPSTACK_UP
from tests.sources.mqtt_client import mqtt, publish_all

in_thread = sync_to_async


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and write more often than in real life."""
    monkeypatch.setattr(connectors, "_RELOAD_S", 0.1)
    monkeypatch.setattr(connectors, "_WRITE_S", 0.1)
    monkeypatch.setattr(connectors, "_FIRST_DELAY_S", 0.1)


def _city() -> Municipality:
    return Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7.4, south=51.4, east=7.6, north=51.6
    )


@asynccontextmanager
async def _running(pool: Pool, bus: Bus, own: OwnBroker) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(Connectors(pool, bus, own_broker=own).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def _source(**wanted: Any) -> Source:
    """The source's row, once it is as wanted."""
    async with asyncio.timeout(15):
        while True:
            source = await Source.objects.aget()
            if all(getattr(source, name) == value for name, value in wanted.items()):
                return source
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
    """Wait for something that happens in other processes."""
    async with asyncio.timeout(timeout_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


async def _has(bus: Bus, number: int) -> bool:
    return (await bus.js.stream_info(INBOX)).state.messages >= number


async def _inbox(bus: Bus, number: int, *, timeout_s: float = 15) -> list[RawMessage]:
    """The messages in the inbox, once there are so many."""
    await until(lambda: _has(bus, number), timeout_s=timeout_s)
    info = await bus.js.stream_info(INBOX)
    found = []
    for position in range(info.state.first_seq, info.state.last_seq + 1):
        stored = await bus.js.get_msg(INBOX, seq=position)
        assert stored.data is not None
        found.append(decode(stored.data))
    return found


def _chirpstack(**settings: Any) -> Source:
    return save_source(
        SYSTEM, _city(), "lns", "LNS", "chirpstack", {"broker": "own", "topic": "application/#", **settings}
    ).source


async def test_mqtt_source_brings_everything_into_the_inbox(
    store: str, pool: Pool, bus: Bus, own_broker: OwnBroker
) -> None:
    await in_thread(_chirpstack)(topic="svc1/#")
    async with (
        _running(pool, bus, own_broker),
        mqtt(own_broker.port, own_broker.username, own_broker.password) as client,
    ):
        await _source(state="ok")
        large = b'{"x": "' + b"y" * 300_000 + b'"}'
        await publish_all(
            client,
            [
                ("svc1/event/up", json.dumps(CHIRPSTACK_UP).encode()),
                ("svc1/x", b"not JSON"),
                ("svc1/large", large),
            ],
        )
        await client.publish("svc1/quick", b"{}", qos=0)
        messages = await _inbox(bus, 4)
        source = await _source(received=4)
    by_topic = {message.topic: message for message in messages}
    first = by_topic["svc1/event/up"]
    assert (first.municipality, first.source, first.kind) == ("musterstadt", "lns", "chirpstack")
    assert json.loads(first.body) == CHIRPSTACK_UP
    assert by_topic["svc1/x"].body == b"not JSON"
    assert (by_topic["svc1/large"].body, by_topic["svc1/large"].headers) == (
        large[:4096],
        {"quartier-cut": "300009"},
    )
    assert source.last_message_at is not None
    assert source.cursor == {"topics": ["svc1/#"]}


async def test_retained_copies_are_passed_over(
    store: str, pool: Pool, bus: Bus, own_broker: OwnBroker
) -> None:
    async with mqtt(own_broker.port, own_broker.username, own_broker.password) as client:
        await client.publish("svc2/old", b"{}", qos=1, retain=True)
        await in_thread(_chirpstack)(topic="svc2/#")
        async with _running(pool, bus, own_broker):
            await _source(state="ok")
            await client.publish("svc2/new", b"{}", qos=1)
            assert [message.topic for message in await _inbox(bus, 1)] == ["svc2/new"]


async def test_changes_on_the_desk_take_effect(
    store: str, pool: Pool, bus: Bus, own_broker: OwnBroker
) -> None:
    source = await in_thread(_chirpstack)(topic="svc3/#")
    async with (
        _running(pool, bus, own_broker),
        mqtt(own_broker.port, own_broker.username, own_broker.password) as client,
    ):
        await _source(state="ok")
        await in_thread(set_enabled)(SYSTEM, source, False)
        await asyncio.sleep(0.6)
        await publish_all(client, [("svc3/while-off", b"{}")])
        off = await _source()
        assert (off.state, off.cursor) == ("off", {})
        await in_thread(set_enabled)(SYSTEM, source, True)
        await _source(state="ok")
        await publish_all(client, [("svc3/on", b"{}")])
        # What came while the source was off was not wanted: the session was given up.
        assert [message.topic for message in await _inbox(bus, 1)] == ["svc3/on"]


async def test_element_source_goes_on_where_it_stopped(
    store: str, pool: Pool, bus: Bus, own_broker: OwnBroker, http_server: FakeServer
) -> None:
    server = Element(packets=[packet(n) for n in range(1, 31)])
    http_server.answer = server

    def make() -> Source:
        settings = {"url": f"{http_server.url}/api/v1", "tags": ["klima"], "interval_s": 1, "since": BEGIN}
        return save_source(SYSTEM, _city(), "dew", "DEW", "element", settings, {"api_key": KEY}).source

    await in_thread(make)()
    async with _running(pool, bus, own_broker):
        await _source(received=30, state="ok")
    server.packets.append(packet(31))
    async with _running(pool, bus, own_broker):
        source = await _source(received=31)
    assert source.cursor["tags"]["klima"]["retrieve_after_id"] == packet(31)["id"]
    assert len(await _inbox(bus, 31)) == 31


async def test_failures_are_told_and_tried_again_without_the_key(
    store: str, pool: Pool, bus: Bus, own_broker: OwnBroker, http_server: FakeServer
) -> None:
    server = Element(packets=[packet(1)], refuse=[(500, f'{{"error": "boom {KEY}"}}'.encode(), {})] * 3)
    http_server.answer = server

    def make() -> Source:
        settings = {"url": f"{http_server.url}/api/v1", "tags": ["klima"], "interval_s": 1, "since": BEGIN}
        return save_source(SYSTEM, _city(), "dew", "DEW", "element", settings, {"api_key": KEY}).source

    await in_thread(make)()
    async with _running(pool, bus, own_broker):
        waiting = await _source(state="waiting")
        assert waiting.last_error == "tags/klima/devices: answer 500: boom •••"
        assert waiting.last_error_at is not None
        assert waiting.failures >= 1
        source = await _source(state="ok", received=1)
    assert source.failures == 3


async def test_credentials_sealed_elsewhere_are_told(
    store: str, pool: Pool, bus: Bus, own_broker: OwnBroker
) -> None:
    source = await in_thread(_chirpstack)()
    await Source.objects.filter(pk=source.pk).aupdate(sealed_credentials="gAAAAAnonsense")
    async with _running(pool, bus, own_broker):
        failed = await _source(state="waiting")
    assert failed.last_error == "stored credentials were sealed with another secret key"


def test_pauses_grow_to_five_minutes() -> None:
    longest = [max(delay_s(n) for _ in range(200)) for n in (1, 2, 5, 10, 1000)]
    shortest = [min(delay_s(n) for _ in range(200)) for n in (1, 2, 5, 10, 1000)]
    # The fixture makes the first pause 0.1 s.
    for low, high, wanted in zip(shortest, longest, (0.1, 0.2, 1.6, 51.2, 300), strict=True):
        assert 0.7 * wanted <= low < 0.8 * wanted
        assert 0.9 * wanted < high <= wanted


async def test_makers_message_reaches_the_inbox_as_her_sensor(
    store: str, pool: Pool, bus: Bus, nats_server: nats.Server, own_broker: OwnBroker
) -> None:
    def make() -> str:
        city = _city()
        maker = make_maker(city)
        register_sensor(maker.actor, city, name="Garten", lon=7.45, lat=51.5)
        return maker.token

    token = await in_thread(make)()
    stop = asyncio.Event()
    running = asyncio.gather(
        *tasks(pool, bus, stop, own_broker=own_broker, issuer=Issuer.of(nats_server.folder)).values()
    )
    try:
        async with _signed_in(nats_server.mqtt_port, token) as client:
            await client.publish("quartier/v1/garten", b'{"air_temperature": 21.4}', qos=1)
            (message,) = await _inbox(bus, 1)
    finally:
        stop.set()
        await asyncio.wait_for(running, 15)
    assert (message.municipality, message.source, message.topic) == (
        "musterstadt",
        "makers",
        "quartier/v1/garten",
    )
    (uplink,) = parse(message, {})
    assert (uplink.external_id, uplink.fields) == ("garten", {"air_temperature": 21.4})


@asynccontextmanager
async def _signed_in(port: int, token: str) -> AsyncIterator[Any]:
    """A maker's client; the door may need a moment to open."""
    import aiomqtt

    await asyncio.sleep(0.5)
    for _ in range(50):
        try:
            async with mqtt(port, "maker", token) as client:
                yield client
                return
        except aiomqtt.MqttError as error:
            if "Not authorized" not in str(error):
                raise
            await asyncio.sleep(0.2)
    pytest.fail("the door did not open")


PROCESS = """
import asyncio, sys
from pathlib import Path
import django
django.setup()
from quartier.engines import bus
from quartier.engines.nkeys import Issuer
from quartier.engines.pools import async_pool
from quartier.sources.connect.mqtt import OwnBroker
from quartier.sources.service import tasks

async def main():
    url, folder, port, user, password, database = sys.argv[1:]
    connection = await bus.connect(url)
    async with async_pool(database) as pool:
        own = OwnBroker("127.0.0.1", int(port), user, password)
        stop = asyncio.Event()
        await asyncio.gather(*tasks(pool, connection, stop, own_broker=own, issuer=Issuer.of(Path(folder))).values())

asyncio.run(main())
"""


async def test_every_acknowledged_message_survives_kills_of_us_and_of_nats(
    store: str, tmp_path: Path
) -> None:
    """Publishing goes on all the time; what the sender got a PUBACK for is in the inbox in the end."""

    def make() -> tuple[str, str]:
        city = _city()
        maker = make_maker(city)
        register_sensor(maker.actor, city, name="Garten", lon=7.45, lat=51.5)
        saved = save_source(SYSTEM, city, "lns", "LNS", "chirpstack", {"broker": "own"})
        return maker.token, saved.generated["broker_password"]

    token, password = await in_thread(make)()
    server = nats.start(tmp_path, mqtt_port=0, durable=False)
    own = broker_of(server)

    def start() -> subprocess.Popen[bytes]:
        arguments = [server.url, str(server.folder), str(own.port), own.username, own.password, store]
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "quartier.settings",
            "QUARTIER_POSTGRES_URL": store,
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        }
        return subprocess.Popen([sys.executable, "-c", PROCESS, *arguments], env=environment)

    process = start()
    acknowledged: dict[str, set[int]] = {"maker": set(), "lns": set()}
    publishing = True

    def event(number: int) -> tuple[str, bytes]:
        return CHIRPSTACK_TOPIC, json.dumps({**CHIRPSTACK_UP, "fCnt": number}).encode()

    def reading(number: int) -> tuple[str, bytes]:
        return "quartier/v1/garten", json.dumps({"air_temperature": number}).encode()

    async def publish(
        name: str, username: str, secret: str, make: Callable[[int], tuple[str, bytes]]
    ) -> None:
        number = 0
        while publishing:
            try:
                async with mqtt(own.port, username, secret) as client:
                    while publishing:
                        batch = range(number, number + 20)
                        number += 20
                        await publish_all(client, [make(n) for n in batch])
                        acknowledged[name].update(batch)
                        await asyncio.sleep(0.02)
            except Exception:
                await asyncio.sleep(0.2)

    publishers = [
        asyncio.create_task(publish("maker", "anything", token, reading)),
        asyncio.create_task(publish("lns", "lns", password, event)),
    ]

    async def flowing(more: int) -> None:
        wanted = {name: len(done) + more for name, done in acknowledged.items()}

        async def reached() -> bool:
            return all(len(acknowledged[name]) >= number for name, number in wanted.items())

        await until(reached, timeout_s=40)

    try:
        await flowing(160)
        process.send_signal(signal.SIGKILL)
        process.wait()
        await asyncio.sleep(0.5)
        process = start()
        await flowing(160)
        server.process.kill()
        server.process.wait()
        await asyncio.sleep(0.3)
        server.process = start_again(server)
        await flowing(160)
        publishing = False
        await asyncio.gather(*publishers)
        bus = await engine.connect(server.url, name="count")
        stored = await _stored(bus, acknowledged)
        assert acknowledged["maker"] - stored["maker"] == set()
        assert acknowledged["lns"] - stored["lns"] == set()
        await bus.close()
    finally:
        publishing = False
        process.kill()
        process.wait()
        server.stop()


async def _stored(bus: Bus, wanted: dict[str, set[int]]) -> dict[str, set[int]]:
    """Numbers in the inbox, once all wanted ones are there or nothing has come for a while."""
    stored: dict[str, set[int]] = {"maker": set(), "lns": set()}
    position, quiet = 1, 0
    while quiet < 60 and any(wanted[name] - stored[name] for name in wanted):
        last = (await bus.js.stream_info(INBOX)).state.last_seq
        quiet = quiet + 1 if last < position else 0
        for number in range(position, last + 1):
            message = await bus.js.get_msg(INBOX, seq=number)
            assert message.data is not None
            raw = decode(message.data)
            content = json.loads(raw.body)
            if raw.source == "makers":
                stored["maker"].add(content["air_temperature"])
            else:
                stored["lns"].add(content["fCnt"])
        position = last + 1
        await asyncio.sleep(0.25)
    return stored
