"""The intake when something changes, breaks or repeats itself at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest
from asgiref.sync import sync_to_async
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.cities.rules import SYSTEM
from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.intake import bookkeeping, catalogue, domain, parsers, replay
from quartier.intake.catalogue import Catalogue, DeviceKey, SeriesKey
from quartier.intake.codecs.sandbox import CodecPool
from quartier.intake.inbox import Inbox, RawMessage
from quartier.intake.interpreter import Arrived, Interpreter, Outcome, Work
from quartier.intake.models import FieldMapping, RefusedMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.intake.pipeline import Pipeline
from quartier.intake.replay import Progress, Replayer
from quartier.sources.models import Source
from quartier.twin.models import Deployment, Device, DeviceType, ObservedProperty, Thing
from quartier.twin.record import Recorder
from tests.world import World

NOW = datetime.now(UTC).replace(microsecond=0)
OBSERVED = (
    "SELECT t.key, p.slug, o.time, o.result FROM twin_observation o JOIN twin_series s ON s.id = o.series_id"
    " JOIN twin_thing t ON t.id = s.thing_id JOIN twin_observedproperty p ON p.id = s.observed_property_id"
    " ORDER BY o.time, 1, 2"
)
REFUSED = "SELECT external_id, reason, resolved_at IS NOT NULL FROM intake_refusedmessage ORDER BY id"
FINDINGS = "SELECT check_name, n, state FROM intake_qualityfinding ORDER BY id"


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def loose_parser(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """JSON with the fields of uplinks."""
    try:
        content = orjson.loads(message.body)
    except orjson.JSONDecodeError as error:
        raise MessageError("not_json", str(error)) from None
    return [
        Uplink(
            **{key: value for key, value in one.items() if key not in ("at", "pad")},
            received_at=datetime.fromisoformat(one["at"]) if "at" in one else message.received_at,
        )
        for one in content
    ]


parsers.register("loose", loose_parser)


def uplink(device: str, minutes: float, counter: int | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "external_id": device,
        "at": ago(minutes).isoformat(),
        "frame_counter": counter,
        "fields": fields,
    }


def raw(*uplinks: dict[str, Any], source: str = "funk", municipality: str = "musterstadt") -> RawMessage:
    return RawMessage(
        municipality=municipality,
        source=source,
        kind="loose",
        received_at=datetime.now(UTC),
        body=orjson.dumps(uplinks),
    )


def make_devices(world: World) -> None:
    """``plain`` names properties, ``clocked`` has a clock of its own; both stand at the market."""
    Source.objects.create(municipality=world.municipality, key="funk", name="Funk", kind="loose")
    clocked = DeviceType.objects.create(key="clocked", model="Clocked")
    temperature = world.properties["air_temperature"]
    FieldMapping.objects.create(device_type=clocked, path="t", observed_property=temperature, unit="Cel")
    FieldMapping.objects.create(device_type=clocked, path="clock", role="time")
    for name, device_type in (("plain", None), ("clocked", clocked)):
        device = Device.objects.create(
            municipality=world.municipality,
            source_key="funk",
            external_id=name,
            name=name,
            device_type=device_type,
        )
        Deployment.objects.create(device=device, thing=world.thing, since=NOW - timedelta(days=10))


@dataclass(slots=True)
class Intake:
    """Interprets without a bus."""

    pool: Pool
    interpreter: Interpreter
    position: int = 0

    async def interpret(self, *messages: RawMessage) -> Outcome:
        batch = []
        for message in messages:
            self.position += 1
            batch.append(Arrived(message, self.position))
        return await self.interpreter.interpret(batch)


def intake_of(pool: Pool, facts: Catalogue | None = None, *, live: bool = True) -> Intake:
    """No message here needs a codec, so their processes are not started."""
    return Intake(pool, Interpreter(pool, CodecPool(processes=1), facts or Catalogue(), live=live))


@pytest.fixture
async def devices(world: World) -> World:
    await sync_to_async(make_devices)(world)
    return world


def summary(outcome: Outcome) -> tuple[list[float | None], list[str], int]:
    return (
        [o.result for o in outcome.observations],
        [r.error.reason for r in outcome.refusals],
        outcome.duplicates,
    )


class RestlessCatalogue(Catalogue):
    """Somebody changes something on the desk whenever a batch waits for the store."""

    async def refresh(self, connection: AsyncConnection[TupleRow]) -> None:
        await super().refresh(connection)
        self.forget()

    async def learn_devices(self, connection: AsyncConnection[TupleRow], keys: Iterable[DeviceKey]) -> None:
        self.forget()
        await super().learn_devices(connection, keys)
        self.forget()

    async def learn_series(
        self, connection: AsyncConnection[TupleRow], wanted: dict[SeriesKey, tuple[int, int]]
    ) -> None:
        self.forget()
        await super().learn_series(connection, wanted)
        self.forget()


@pytest.mark.usefixtures("devices")
async def test_change_on_the_desk_costs_no_message_on_its_way(pool: Pool) -> None:
    intake = intake_of(pool, RestlessCatalogue())
    for n in range(3):
        outcome = await intake.interpret(raw(uplink("plain", 9 - n, air_temperature=n)))
        assert summary(outcome) == ([float(n)], [], 0)


@pytest.mark.usefixtures("devices")
async def test_change_on_the_desk_counts_from_the_next_batch_on(pool: Pool) -> None:
    facts = Catalogue()
    intake = intake_of(pool, facts)
    stop = asyncio.Event()
    listener = asyncio.create_task(catalogue.listen(pool, facts, stop))
    message = raw(uplink("clocked", 1, t=20))

    async def until_stale() -> None:
        for _ in range(250):
            if facts.stale:
                return
            await asyncio.sleep(0.02)
        pytest.fail("nothing was heard")

    def switch_off() -> None:
        Device.objects.get(external_id="clocked").delete()

    await until_stale()  # by beginning to listen
    assert summary(await intake.interpret(message)) == ([20.0], [], 0)
    await sync_to_async(switch_off)()
    await until_stale()
    assert summary(await intake.interpret(message)) == ([], ["unknown_device"], 0)
    stop.set()
    await listener


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("limits", [{"minimum": "low"}, {"minimum": 9, "maximum": 1}, {"unknown": 1}])
async def test_slip_in_the_limits_of_one_property_stops_no_other(limits: dict[str, Any], pool: Pool) -> None:
    await sync_to_async(ObservedProperty.objects.filter(slug="air_temperature").update)(limits=limits)
    outcome = await intake_of(pool).interpret(raw(uplink("plain", 1, air_temperature=998, wind_speed=999)))
    assert sorted((o.result, o.flags) for o in outcome.observations) == [(998.0, 0), (999.0, 1)]


@pytest.mark.usefixtures("devices")
async def test_slip_in_the_unit_of_one_property_stops_no_other(pool: Pool) -> None:
    await sync_to_async(ObservedProperty.objects.filter(slug="air_temperature").update)(unit="bogus")
    outcome = await intake_of(pool).interpret(raw(uplink("plain", 1, air_temperature=20, wind_speed=3)))
    assert sorted(o.result for o in outcome.observations if o.result is not None) == [3.0, 20.0]


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("live", [True, False])
async def test_copy_of_a_frame_in_the_next_batch_is_known(live: bool, pool: Pool) -> None:
    """The store is told of the first batch while the second is interpreted, and of a replay never."""
    intake = intake_of(pool, live=live)
    first = await intake.interpret(raw(uplink("plain", 5, 7, air_temperature=1)))
    copy = await intake.interpret(raw(uplink("plain", 4.9, 7, air_temperature=1)))
    other = await intake.interpret(raw(uplink("plain", 4.8, 8, air_temperature=1)))
    assert [summary(o) for o in (first, copy, other)] == [([1.0], [], 0), ([], [], 1), ([1.0], [], 0)]


@pytest.mark.usefixtures("devices")
async def test_copy_of_a_refused_frame_gets_its_chance(pool: Pool) -> None:
    intake = intake_of(pool)
    bad = await intake.interpret(raw(uplink("plain", 5, 7, nothing=1)))
    good = await intake.interpret(raw(uplink("plain", 4.9, 7, air_temperature=1)))
    assert (summary(bad), summary(good)) == (([], ["no_known_field"], 0), ([1.0], [], 0))


@pytest.mark.usefixtures("devices")
async def test_frame_of_a_device_with_a_clock_is_no_copy_of_itself(pool: Pool) -> None:
    """Delivered again, replayed or tried again, it is told by the time of the network, not by the device's."""
    message = raw(uplink("clocked", 3, 7, t=20, clock=ago(4).isoformat()))
    for live in (True, True, False):
        outcome = await intake_of(pool, live=live).interpret(message)
        assert summary(outcome) == ([20.0], [], 0)
        assert outcome.observations[0].time == ago(4)
        async with pool.connection() as connection:
            await bookkeeping.note_frames(connection, outcome.work)
    copy = raw(uplink("clocked", 2.9, 7, t=20, clock=ago(4).isoformat()))
    assert summary(await intake_of(pool).interpret(copy)) == ([], [], 1)


@pytest.mark.usefixtures("devices")
async def test_frame_recorded_with_its_copy_is_read_again(pool: Pool) -> None:
    """Two processes may each have taken one copy; a replay has to correct both readings."""
    messages = [raw(uplink("plain", minute, 7, air_temperature=1)) for minute in (5, 4.9)]
    for message in messages:
        outcome = await intake_of(pool).interpret(message)
        assert summary(outcome) == ([1.0], [], 0)
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS kept_frame (LIKE intake_frame)")
            await bookkeeping.note_frames(connection, outcome.work)
            await connection.execute("INSERT INTO kept_frame SELECT * FROM intake_frame")
            await connection.execute("DELETE FROM intake_frame")
    async with pool.connection() as connection:
        await connection.execute("INSERT INTO intake_frame SELECT * FROM kept_frame")
        await connection.execute("DROP TABLE kept_frame")
    assert summary(await intake_of(pool, live=False).interpret(*messages)) == ([1.0, 1.0], [], 0)


async def test_numbers_of_any_kind_are_noted_with_the_device(devices: World, pool: Pool) -> None:
    """One network writes whole numbers, the other does not, and a third says NaN."""
    outcome = await intake_of(pool).interpret(
        raw({**uplink("plain", 2, 1, air_temperature=1), "rssi_dbm": -60, "battery_percent": 50}),
        raw({**uplink("clocked", 1, 1, t=1), "rssi_dbm": -60.5, "snr_db": 7}),
    )
    for one in outcome.work:
        if one.uplink.external_id == "clocked":
            one.uplink = _with(one, battery_percent=float("nan"))
    async with pool.connection() as connection:
        await bookkeeping.note_devices(connection, outcome.work)
        cursor = await connection.execute(
            "SELECT external_id, last_seen_at, rssi_dbm, snr_db, battery_percent FROM twin_device ORDER BY 1"
        )
        assert await cursor.fetchall() == [
            ("clocked", ago(1), -60.5, 7.0, None),
            ("plain", ago(2), -60.0, None, 50.0),
        ]


def _with(one: Work, **values: Any) -> Uplink:
    from dataclasses import replace as changed

    return changed(one.uplink, **values)


async def test_late_message_does_not_turn_the_devices_clock_back(devices: World, pool: Pool) -> None:
    intake = intake_of(pool)
    for minutes, counter in ((1, 9), (5, 8)):
        outcome = await intake.interpret(raw(uplink("plain", minutes, counter, air_temperature=1)))
        async with pool.connection() as connection:
            await bookkeeping.note_devices(connection, outcome.work)
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT last_seen_at, last_frame_counter FROM twin_device WHERE external_id = 'plain'"
        )
        assert await cursor.fetchall() == [(ago(1), 9)]


@dataclass(slots=True)
class Line:
    """A running pipeline."""

    inbox: Inbox
    pool: Pool
    bus: Bus
    recorder: Recorder
    codecs: CodecPool

    async def send(self, *uplinks: dict[str, Any], **where: str) -> int:
        return await self.inbox.put(raw(*uplinks, **where))

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query)).fetchall()

    async def settled(
        self, query: str, wanted: Callable[[list[tuple[Any, ...]]], bool]
    ) -> list[tuple[Any, ...]]:
        """The rows as soon as they are as wanted, or after ten seconds as they are."""
        for _ in range(500):
            rows = await self.fetch(query)
            if wanted(rows):
                break
            await asyncio.sleep(0.02)
        return rows

    async def replayed(self, selection: dict[str, Any]) -> Progress:
        """Carry out one replay."""
        pk = await sync_to_async(lambda: domain.start_replay(SYSTEM, selection).pk)()
        stored = await self.fetch(f"SELECT selection FROM intake_replay WHERE id = {pk}")
        return await self.replayer().carry_out(pk, stored[0][0])

    async def retried(self, *ids: int) -> Progress:
        """Carry out one second try."""
        pk = await sync_to_async(lambda: domain.retry_refused(SYSTEM, ids).pk)()
        return await self.replayer().carry_out(pk, {"refused": list(ids)})

    def replayer(self) -> Replayer:
        return Replayer(self.pool, self.bus, self.recorder, self.codecs, codecs_started=True)


@pytest.fixture
async def line(devices: World, pool: Pool, bus: Bus) -> AsyncIterator[Line]:
    stop = asyncio.Event()
    recorder = Recorder(pool)
    await recorder.start()
    codecs = CodecPool(processes=1)
    pipeline = Pipeline(pool, bus, recorder, Interpreter(pool, codecs, Catalogue()))
    task = asyncio.create_task(pipeline.run(stop))
    yield Line(Inbox(bus), pool, bus, recorder, codecs)
    stop.set()
    await task
    await recorder.close()
    await bus.js.delete_consumer("inbox", "intake")


class Gate:
    """Whoever writes to a table waits here, and can be cut off while he waits."""

    def __init__(self, connection: psycopg.AsyncConnection[TupleRow], table: str) -> None:
        self._connection = connection
        self._table = table

    async def close(self) -> None:
        await self._connection.execute(
            "CREATE FUNCTION wait_for_78() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN PERFORM pg_advisory_xact_lock(78); RETURN NULL; END$$;"
            f"CREATE TRIGGER wait_for_78 BEFORE INSERT ON {self._table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION wait_for_78()"
        )
        await self._connection.execute("SELECT pg_advisory_lock(78)")

    async def cut_off(self) -> None:
        for _ in range(500):
            cursor = await self._connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event = 'advisory' AND pid <> pg_backend_pid()"
            )
            if await cursor.fetchall():
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"nobody wrote to {self._table}")

    async def open(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock_all()")
        await self._connection.execute("DROP FUNCTION IF EXISTS wait_for_78 CASCADE")


@pytest.fixture
async def gate(store: str) -> AsyncIterator[Callable[[str], Gate]]:
    async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
        made: list[Gate] = []

        def make(table: str) -> Gate:
            made.append(Gate(connection, table))
            return made[-1]

        yield make
        for one in made:
            await one.open()


async def test_finding_is_not_lost_with_the_connection(line: Line, gate: Callable[[str], Gate]) -> None:
    """The readings are recorded, and the store breaks away before it is noted that the sensor is stuck."""
    closed = gate("intake_frame")
    await closed.close()
    await line.send(*(uplink("plain", 400 - 60 * n, n, air_temperature=20) for n in range(6)))
    await closed.cut_off()
    await closed.open()
    assert await line.settled(FINDINGS, lambda rows: len(rows) == 1) == [("persistence", 2, "open")]
    assert len(await line.fetch("SELECT 1 FROM intake_frame")) == 6


async def test_jump_that_the_next_value_confirms_leaves_no_finding(line: Line) -> None:
    """A cold front, in one batch or over two."""
    await line.send(*(uplink("plain", 30 - n, air_temperature=t) for n, t in enumerate((30, 30, 18))))
    assert await line.settled(FINDINGS, lambda rows: len(rows) == 1) == [("spike", 1, "open")]
    await line.send(uplink("plain", 26, air_temperature=18.2))
    assert await line.settled(FINDINGS, lambda rows: not rows) == []
    await line.send(
        *(uplink("plain", 20 - n, air_temperature=t, wind_speed=1) for n, t in enumerate((30, 30.2)))
    )
    await line.settled(OBSERVED, lambda rows: len(rows) == 8)
    assert (
        await line.settled("SELECT flags FROM twin_observation WHERE flags <> 0", lambda rows: not rows) == []
    )
    assert await line.fetch(FINDINGS) == []


@pytest.mark.parametrize("place", ["municipality", "source"])
async def test_message_that_cannot_even_be_listed_stops_no_other(place: str, line: Line) -> None:
    await line.send(uplink("plain", 3, air_temperature=1))
    await line.inbox.put(raw(uplink("plain", 2, air_temperature=2), **{place: "a\x00b\ud800"[:3]}))
    await line.send(uplink("plain", 1, air_temperature=3))
    rows = await line.settled(OBSERVED, lambda rows: len(rows) == 2)
    assert [row[3] for row in rows] == [1.0, 3.0]
    assert await line.settled(REFUSED, lambda rows: len(rows) == 1) == [("", "internal_error", False)]


async def test_second_try_of_one_device_leaves_the_others_rows_alone(line: Line, devices: World) -> None:
    """A message of several devices: each refusal has its own row, and its own reason to go."""
    await line.send(
        uplink("plain", 1, air_temperature="warm", wind_speed="still", precipitation=0),
        uplink("later", 1, air_temperature=5),
        uplink("never", 1, air_temperature=6),
    )
    await line.settled(REFUSED, lambda rows: len(rows) == 4)
    listed = await line.fetch("SELECT external_id, detail, id FROM intake_refusedmessage")
    ids = {(row[0], row[1].split(":")[0].removeprefix("field ")): row[2] for row in listed}
    assert len(ids) == 4

    def register() -> None:
        device = Device.objects.create(
            municipality=devices.municipality, source_key="funk", external_id="later", name="later"
        )
        Deployment.objects.create(device=device, thing=devices.thing, since=NOW - timedelta(days=1))

    await sync_to_async(register)()
    progress = await line.retried(*ids.values())
    assert (progress.done, progress.added, progress.refused) == (4, 1, 3)
    assert sorted(await line.fetch(REFUSED)) == [
        ("later", "unknown_device", True),
        ("never", "unknown_device", False),
        ("plain", "bad_value", False),
        ("plain", "bad_value", False),
    ]
    details = await line.fetch("SELECT detail FROM intake_refusedmessage WHERE external_id = 'plain'")
    assert sorted(detail for (detail,) in details) == [
        "field air_temperature: 'warm' is not a number",
        "field wind_speed: 'still' is not a number",
    ]


async def test_second_try_that_fails_differently_says_so(line: Line, devices: World) -> None:
    await line.send(uplink("later", 1, air_temperature="warm\x00"))
    ((id_,),) = await line.settled("SELECT id FROM intake_refusedmessage", lambda rows: len(rows) == 1)

    def register() -> None:
        device = Device.objects.create(
            municipality=devices.municipality, source_key="funk", external_id="later", name="later"
        )
        Deployment.objects.create(device=device, thing=devices.thing, since=NOW - timedelta(days=1))

    await sync_to_async(register)()
    progress = await line.retried(id_)
    assert (progress.added, progress.refused) == (0, 1)
    assert await line.fetch("SELECT reason, detail, resolved_at FROM intake_refusedmessage") == [
        ("bad_value", "field air_temperature: 'warm\\x00' is not a number", None)
    ]


async def test_second_try_reads_a_long_message_from_the_inbox(line: Line, devices: World) -> None:
    """The list keeps the first 64 KiB of a message only."""
    long = {**uplink("later", 1, air_temperature=5), "pad": "x" * 100_000}
    await line.send(long)
    ((id_, length),) = await line.settled(
        "SELECT id, length(body) FROM intake_refusedmessage", lambda rows: len(rows) == 1
    )
    assert length == 65_536

    def register() -> None:
        device = Device.objects.create(
            municipality=devices.municipality, source_key="funk", external_id="later", name="later"
        )
        Deployment.objects.create(device=device, thing=devices.thing, since=NOW - timedelta(days=1))

    await sync_to_async(register)()
    progress = await line.retried(id_)
    assert (progress.added, progress.refused) == (1, 0)
    assert await line.fetch(REFUSED) == [("later", "unknown_device", True)]


async def test_second_try_of_an_implausible_value_is_a_finding(line: Line, devices: World) -> None:
    def undeploy() -> None:
        Deployment.objects.update(since=NOW + timedelta(days=1))

    def deploy() -> None:
        Deployment.objects.update(since=NOW - timedelta(days=1))

    await sync_to_async(undeploy)()
    await line.send(uplink("plain", 1, air_temperature=90))
    ((id_,),) = await line.settled("SELECT id FROM intake_refusedmessage", lambda rows: len(rows) == 1)
    await sync_to_async(deploy)()
    await line.retried(id_)
    assert await line.fetch(FINDINGS) == [("range", 1, "open")]


async def test_replay_adds_no_copies_of_frames_that_were_forgotten(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames are remembered for a week, raw messages for a month."""
    monkeypatch.setattr(replay, "_BATCH", 1)
    for minutes in (5, 4.9):
        await line.send(uplink("plain", minutes, 7, air_temperature=1))
    await line.settled(OBSERVED, lambda rows: len(rows) == 1)
    await asyncio.sleep(0.2)
    await line.fetch("DELETE FROM intake_frame RETURNING 1")
    progress = await line.replayed({})
    assert (progress.total, progress.added, progress.corrected, progress.removed) == (2, 0, 0, 0)
    assert len(await line.fetch(OBSERVED)) == 1


async def test_replay_moves_readings_to_where_the_device_really_was(line: Line, devices: World) -> None:
    await line.send(uplink("plain", 60, air_temperature=1))
    await line.send(uplink("plain", 10, air_temperature=2))
    await line.settled(OBSERVED, lambda rows: len(rows) == 2)

    def move() -> None:
        park = Thing.objects.create(
            municipality=devices.municipality, key="park", name="Park", kind="station"
        )
        Deployment.objects.filter(device__external_id="plain").update(thing=park)

    await sync_to_async(move)()
    progress = await line.replayed({"external_ids": ["plain"]})
    assert (progress.added, progress.corrected, progress.removed, progress.refused) == (2, 0, 2, 0)
    assert [(row[0], row[3]) for row in await line.fetch(OBSERVED)] == [("park", 1.0), ("park", 2.0)]
    assert [row[0] for row in await line.fetch("SELECT reason FROM twin_revision")] == [
        "replay: no longer in the message"
    ] * 2


async def test_replay_of_a_period_and_a_device(line: Line) -> None:
    """The period is that of the messages' arrival; other devices of the same messages are left alone."""
    await line.send(uplink("plain", 60, wind_speed=1), uplink("clocked", 60, t=2))
    await asyncio.sleep(0.05)
    middle = datetime.now(UTC)
    await asyncio.sleep(0.05)
    await line.send(uplink("plain", 50, wind_speed=3), uplink("clocked", 50, t=4))
    await line.settled(OBSERVED, lambda rows: len(rows) == 4)
    await line.fetch("UPDATE twin_observation SET result = 0 RETURNING 1")
    for selection, corrected in (
        ({"since": middle.isoformat(), "external_ids": ["plain"]}, 1),
        ({"until": middle.isoformat(), "device_type": "clocked", "municipality": "musterstadt"}, 1),
        ({"source_key": "other"}, 0),
    ):
        progress = await line.replayed(selection)
        assert (progress.added, progress.corrected, progress.removed) == (0, corrected, 0)
    assert [(row[1], row[3]) for row in await line.fetch(OBSERVED)] == [
        ("air_temperature", 2.0),
        ("wind_speed", 0.0),
        ("air_temperature", 0.0),
        ("wind_speed", 3.0),
    ]
    assert (await line.replayed({})).corrected == 2


async def test_replay_keeps_what_a_device_of_the_message_gave_that_is_refused_now(
    line: Line, devices: World
) -> None:
    await line.send(
        uplink("plain", 60, wind_speed=1, wind_gust=2), uplink("clocked", 60, t=2), uplink("clocked", 50, t=3)
    )
    await line.settled(OBSERVED, lambda rows: len(rows) == 4)

    def change() -> None:
        gust = DeviceType.objects.create(key="wind", model="Wind")
        FieldMapping.objects.create(
            device_type=gust, path="wind_speed", observed_property=devices.properties["wind_speed"]
        )
        Device.objects.filter(external_id="plain").update(device_type=gust)
        Device.objects.filter(external_id="clocked").update(active=False)

    await sync_to_async(change)()
    progress = await line.replayed({})
    assert (progress.added, progress.corrected, progress.removed, progress.refused) == (0, 0, 1, 2)
    assert [row[1] for row in await line.fetch(OBSERVED)] == [
        "air_temperature",
        "wind_speed",
        "air_temperature",
    ]


async def test_replay_begins_again_when_the_store_breaks_away(
    line: Line, gate: Callable[[str], Gate]
) -> None:
    await line.send(uplink("plain", 1, air_temperature=1))
    await line.settled(OBSERVED, lambda rows: len(rows) == 1)
    await line.fetch("UPDATE twin_observation SET result = 0 RETURNING 1")
    pk = await sync_to_async(lambda: domain.start_replay(SYSTEM, {}).pk)()
    closed = gate("twin_revision")
    await closed.close()
    stop = asyncio.Event()
    replaying = asyncio.create_task(line.replayer().run(stop))
    await closed.cut_off()
    await closed.open()
    rows = await line.settled(
        f"SELECT finished_at IS NOT NULL, error, total, done, corrected FROM intake_replay WHERE id = {pk}",
        lambda rows: bool(rows[0][0]),
    )
    stop.set()
    await replaying
    assert rows == [(True, "", 1, 1, 1)]


async def test_replay_that_cannot_be_carried_out_ends_with_its_reason(line: Line) -> None:
    """What is wrong with the replay itself would be wrong the next time, too."""
    pk = await sync_to_async(lambda: domain.start_replay(SYSTEM, {}).pk)()
    await line.replayer().carry_out(pk, {"since": "yesterday"})
    ((finished, error),) = await line.fetch(
        f"SELECT finished_at IS NOT NULL, error FROM intake_replay WHERE id = {pk}"
    )
    assert (finished, error) == (True, "ValueError: Invalid isoformat string: 'yesterday'")


async def test_only_one_worker_replays(line: Line, store: str) -> None:
    await line.send(uplink("plain", 1, air_temperature=1))
    await line.settled(OBSERVED, lambda rows: len(rows) == 1)
    pk = await sync_to_async(lambda: domain.start_replay(SYSTEM, {}).pk)()
    begun = f"SELECT started_at IS NOT NULL, finished_at IS NOT NULL FROM intake_replay WHERE id = {pk}"
    stop = asyncio.Event()
    async with await psycopg.AsyncConnection.connect(store, autocommit=True) as other:
        await other.execute("SELECT pg_advisory_lock(%s)", [replay._LOCK])
        second = asyncio.create_task(line.replayer().run(stop))
        await asyncio.sleep(0.3)
        assert await line.fetch(begun) == [(False, False)]
    assert await line.settled(begun, lambda rows: bool(rows[0][1])) == [(True, True)]
    stop.set()
    await second


def test_list_of_refused_messages_is_what_the_tests_think(db: None) -> None:
    assert RefusedMessage._meta.get_field("body").max_length == bookkeeping.STORED_BODY_BYTES
