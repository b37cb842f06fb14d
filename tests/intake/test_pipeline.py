"""The pipeline end to end, with real NATS, PostgreSQL and codec processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.intake import domain, parsers
from quartier.intake.catalogue import Catalogue
from quartier.intake.codecs.sandbox import CodecPool
from quartier.intake.inbox import Inbox, RawMessage
from quartier.intake.interpreter import Interpreter
from quartier.intake.models import Codec, FieldMapping, RefusedMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.intake.pipeline import Pipeline
from quartier.intake.replay import Replayer
from quartier.sources.models import Source
from quartier.twin.models import Deployment, Device, DeviceType
from quartier.twin.record import Recorder
from tests.world import World

NOW = datetime.now(UTC).replace(microsecond=0)
# Temperature in tenths of a degree, battery in mV; the second version has the temperature in hundredths.
TENTHS = """
function decodeUplink(input) {
  if (input.bytes.length !== 4) return {errors: ["four bytes expected"]};
  var t = (input.bytes[0] << 8) | input.bytes[1];
  return {data: {t: t / 10, bat: ((input.bytes[2] << 8) | input.bytes[3]) / 1000}};
}
"""
HUNDREDTHS = TENTHS.replace("t / 10", "t / 100")


def test_parser(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """A minimal wire format, for these tests: JSON with what an uplink has."""
    try:
        content = orjson.loads(message.body)
    except orjson.JSONDecodeError as error:
        raise MessageError("not_json", str(error)) from None
    return [
        Uplink(
            external_id=one["device"],
            received_at=datetime.fromisoformat(one["at"]) if "at" in one else message.received_at,
            payload=bytes.fromhex(one["hex"]) if "hex" in one else None,
            fields=one.get("fields"),
            frame_counter=one.get("counter"),
            port=1,
        )
        for one in content
    ]


test_parser.__test__ = False  # type: ignore[attr-defined]
parsers.register("test", test_parser)


@dataclass(slots=True)
class Running:
    """A pipeline that works on the test's inbox."""

    inbox: Inbox
    pool: Pool
    bus: Bus
    recorder: Recorder
    codecs: CodecPool

    async def send(self, *uplinks: dict[str, Any], body: bytes | None = None) -> int:
        return await self.inbox.put(
            RawMessage(
                municipality="musterstadt",
                source="funk",
                kind="test",
                received_at=datetime.now(UTC),
                body=body if body is not None else orjson.dumps(uplinks),
            )
        )

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query)).fetchall()

    async def settled(
        self, query: str, wanted: Callable[[list[tuple[Any, ...]]], bool]
    ) -> list[tuple[Any, ...]]:
        """The rows of ``query`` as soon as they are as wanted, or after five seconds as they are."""
        for _ in range(250):
            rows = await self.fetch(query)
            if wanted(rows):
                break
            await asyncio.sleep(0.02)
        return rows


OBSERVED = (
    "SELECT p.slug, o.time, o.result, o.flags FROM twin_observation o JOIN twin_series s ON s.id = o.series_id"
    " JOIN twin_observedproperty p ON p.id = s.observed_property_id ORDER BY o.time, p.slug"
)
REFUSED = "SELECT external_id, reason, detail FROM intake_refusedmessage ORDER BY id"


def make_devices(world: World) -> None:
    Source.objects.create(municipality=world.municipality, key="funk", name="Funk", kind="test")
    kind = DeviceType.objects.create(key="muster-1", model="Muster 1")
    Codec.objects.create(device_type=kind, version=1, script=TENTHS)
    FieldMapping.objects.create(
        device_type=kind, path="t", observed_property=world.properties["air_temperature"], unit="[degF]"
    )
    FieldMapping.objects.create(
        device_type=kind, path="$.bat", observed_property=world.properties["battery_voltage"], unit="V"
    )
    for external_id, device_type in (("aa01", kind), ("aa02", kind), ("maker", None)):
        device = Device.objects.create(
            municipality=world.municipality,
            source_key="funk",
            external_id=external_id,
            name=external_id,
            device_type=device_type,
        )
        if external_id != "aa02":
            Deployment.objects.create(device=device, thing=world.thing, since=NOW - timedelta(days=10))


@pytest.fixture
async def running(world: World, pool: Pool, bus: Bus) -> AsyncIterator[Running]:
    await sync_to_async(make_devices)(world)
    stop = asyncio.Event()
    recorder = Recorder(pool)
    await recorder.start()
    async with CodecPool(processes=1) as codecs:
        pipeline = Pipeline(pool, bus, recorder, Interpreter(pool, codecs, Catalogue()))
        task = asyncio.create_task(pipeline.run(stop))
        yield Running(Inbox(bus), pool, bus, recorder, codecs)
        stop.set()
        await task
        await recorder.close()
    await bus.js.delete_consumer("inbox", "intake")


async def test_payload_becomes_readings_in_the_propertys_unit(running: Running) -> None:
    at = NOW - timedelta(minutes=3)
    await running.send({"device": "aa01", "at": at.isoformat(), "hex": "02a80c18", "counter": 5})
    rows = await running.settled(OBSERVED, lambda rows: len(rows) == 2)
    # 68.0 °F is 20 °C.
    assert [(slug, time, round(result, 9), flags) for slug, time, result, flags in rows] == [
        ("air_temperature", at, 20.0, 0),
        ("battery_voltage", at, 3.096, 0),
    ]
    device = await running.settled(
        "SELECT last_seen_at, last_frame_counter, battery_v FROM twin_device WHERE external_id = 'aa01'",
        lambda rows: rows[0][0] is not None,
    )
    assert device == [(at, 5, 3.096)]


async def test_each_bad_message_is_listed_with_its_reason_and_costs_no_other(running: Running) -> None:
    at = NOW - timedelta(minutes=2)
    await running.send(body=b"{not json")
    await running.send({"device": "ffff", "hex": "00"})
    await running.send({"device": "aa01", "hex": "0102"})
    await running.send({"device": "aa02", "hex": "02a80c18"})
    await running.send({"device": "maker", "fields": {"voltage": 3}})
    await running.send(
        {"device": "maker", "fields": {"air_temperature": "warm", "relative_humidity": "55.5"}}
    )
    await running.send({"device": "maker", "fields": {"air_temperature": {"value": 1, "unit": "kg"}}})
    await running.send({"device": "maker", "at": at.isoformat(), "fields": {"air_temperature": 7}})
    refused = await running.settled(REFUSED, lambda rows: len(rows) == 7)
    assert [(row[0], row[1]) for row in refused] == [
        ("", "not_json"),
        ("ffff", "unknown_device"),
        ("aa01", "undecodable"),
        ("aa02", "not_deployed"),
        ("maker", "no_known_field"),
        ("maker", "bad_value"),
        ("maker", "bad_unit"),
    ]
    assert refused[2][2] == "codec_reported: four bytes expected"
    assert refused[5][2] == "field air_temperature: 'warm' is not a number"
    assert "kg" in refused[6][2]
    rows = await running.settled(OBSERVED, lambda rows: len(rows) == 2)
    assert [(row[0], row[2]) for row in rows] == [("air_temperature", 7.0), ("relative_humidity", 55.5)]


async def test_frame_that_arrives_twice_is_recorded_once(running: Running) -> None:
    first = NOW - timedelta(minutes=5)
    for at in (first, first + timedelta(seconds=2)):
        await running.send({"device": "aa01", "at": at.isoformat(), "hex": "02a80c18", "counter": 5})
    await running.send({"device": "aa01", "at": NOW.isoformat(), "hex": "02a90c18", "counter": 6})
    rows = await running.settled(OBSERVED, lambda rows: len(rows) == 4)
    assert [row[1] for row in rows] == [first, first, NOW, NOW]
    assert await running.fetch(REFUSED) == []


@pytest.mark.parametrize("stated", ["1970-01-01T00:00:10+00:00", "2100-01-01T00:00:00+00:00"])
async def test_impossible_time_is_replaced_and_flagged(running: Running, stated: str) -> None:
    await running.send({"device": "maker", "at": stated, "fields": {"air_temperature": 7}})
    rows = await running.settled(OBSERVED, lambda rows: len(rows) == 1)
    assert rows[0][3] == 16
    assert abs(rows[0][1] - datetime.now(UTC)) < timedelta(seconds=30)


async def test_implausible_value_is_kept_flagged_and_found(running: Running) -> None:
    await running.send({"device": "maker", "at": NOW.isoformat(), "fields": {"air_temperature": 90}})
    rows = await running.settled(OBSERVED, lambda rows: len(rows) == 1)
    assert (rows[0][2], rows[0][3]) == (90.0, 1)
    findings = await running.settled(
        "SELECT check_name, n, example, state FROM intake_qualityfinding", lambda rows: len(rows) == 1
    )
    assert findings == [("range", 1, 90.0, "open")]


async def test_corrected_codec_repairs_history_by_replay(running: Running, world: World) -> None:
    times = [NOW - timedelta(minutes=n) for n in (3, 2, 1)]
    for number, at in enumerate(times):
        await running.send({"device": "aa01", "at": at.isoformat(), "hex": "1a900c18", "counter": number})
    await running.settled(OBSERVED, lambda rows: len(rows) == 6)

    def correct_codec() -> int:
        device_type = DeviceType.objects.get(key="muster-1")
        domain.save_codec(SYSTEM, device_type, HUNDREDTHS, "hundredths")
        rows = [domain.MappingRow("t", "air_temperature", "[degF]")]
        domain.save_mapping(SYSTEM, device_type, rows)
        return domain.start_replay(SYSTEM, {"device_type": "muster-1"}).pk

    replay = await sync_to_async(correct_codec)()
    stop = asyncio.Event()
    replayer = asyncio.create_task(
        Replayer(running.pool, running.bus, running.recorder, running.codecs, codecs_started=True).run(stop)
    )
    progress = await running.settled(
        "SELECT total, done, added, corrected, removed, refused, error, finished_at IS NOT NULL FROM intake_replay"
        f" WHERE id = {replay}",
        lambda rows: bool(rows[0][7]),
    )
    stop.set()
    await replayer
    assert progress == [(3, 3, 0, 3, 3, 0, "", True)]
    # 0x1a90 is 6800: 680.0 °F before, 68.00 °F now; the battery is no longer mapped.
    assert [(row[0], row[1], round(row[2], 9), row[3]) for row in await running.fetch(OBSERVED)] == [
        ("air_temperature", at, 20.0, 0) for at in times
    ]
    revised = await running.fetch("SELECT result, reason FROM twin_revision ORDER BY reason, time")
    assert [(pytest.approx(360.0), "replay")] * 3 == revised[:3]
    assert [row[1] for row in revised[3:]] == ["replay: no longer in the message"] * 3


async def test_refused_message_is_recorded_by_a_second_try(running: Running, world: World) -> None:
    at = NOW - timedelta(minutes=2)
    await running.send({"device": "aa02", "at": at.isoformat(), "hex": "02a80c18", "counter": 1})
    await running.send({"device": "bb09", "at": at.isoformat(), "hex": "02a80c18", "counter": 1})
    await running.settled(REFUSED, lambda rows: len(rows) == 2)

    def deploy() -> None:
        device = Device.objects.get(external_id="aa02")
        Deployment.objects.create(device=device, thing=world.thing, since=NOW - timedelta(days=1))
        ids = [row.pk for row in RefusedMessage.objects.all()]
        domain.retry_refused(SYSTEM, ids)

    await sync_to_async(deploy)()
    stop = asyncio.Event()
    replayer = asyncio.create_task(
        Replayer(running.pool, running.bus, running.recorder, running.codecs, codecs_started=True).run(stop)
    )
    await running.settled("SELECT finished_at FROM intake_replay", lambda rows: rows[0][0] is not None)
    stop.set()
    await replayer
    assert len(await running.fetch(OBSERVED)) == 2
    assert await running.fetch(
        "SELECT external_id, resolved_at IS NOT NULL FROM intake_refusedmessage ORDER BY external_id"
    ) == [("aa02", True), ("bb09", False)]


async def test_store_away_loses_nothing(running: Running, store: str) -> None:
    """Every connection is cut again and again while messages flow."""
    import psycopg

    async def cut() -> None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as other:
            for _ in range(10):
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'quartier' AND pid <> pg_backend_pid()"
                )
                await asyncio.sleep(0.1)

    async def flow() -> None:
        for n in range(200):
            at = NOW - timedelta(seconds=1000 - n)
            await running.send({"device": "maker", "at": at.isoformat(), "fields": {"precipitation": n}})
            await asyncio.sleep(0.004)

    await asyncio.gather(cut(), flow())
    rows = await running.settled(OBSERVED, lambda rows: len(rows) == 200)
    assert sorted(row[2] for row in rows) == [float(n) for n in range(200)]
