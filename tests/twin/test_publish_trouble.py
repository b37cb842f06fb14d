"""Publishing what is unusual, and after the store broke away at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async

from quartier.engines.bus import OBSERVED, Bus
from quartier.engines.pools import Pool
from quartier.twin import correct
from quartier.twin.models import ObservedProperty, Series, Thing
from quartier.twin.publish import Publisher
from quartier.twin.record import Observation, Recorder, RecordError
from tests.twin.test_publish import publish, stream
from tests.world import World

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
# Whoever deletes from the table of changes waits until lock 77 is free.
_DELETE_WAITS = """
    CREATE FUNCTION wait_for_77() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END$$;
    CREATE TRIGGER wait_for_77 BEFORE DELETE ON twin_change
        FOR EACH STATEMENT EXECUTE FUNCTION wait_for_77()
"""
MakePublisher = Callable[[], Publisher]


@dataclass(frozen=True, slots=True)
class Line:
    """From the recorder to the stream."""

    world: World
    pool: Pool
    bus: Bus
    recorder: Recorder
    publisher: MakePublisher

    async def record(self, series: Series, minute: float, result: float | None, value: Any = None) -> None:
        await self.recorder.record(
            [Observation(self.world.municipality.pk, series.pk, at(minute), result, value=value)]
        )

    async def published(self) -> list[dict[str, Any]]:
        """Everything in the stream once all is published."""
        await publish(self.pool, self.publisher)
        return await stream(self.bus)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


@pytest.fixture
async def line(world: World, pool: Pool, bus: Bus, publisher: MakePublisher) -> AsyncIterator[Line]:
    recorder = Recorder(pool)
    await recorder.start()
    yield Line(world, pool, bus, recorder, publisher)
    await recorder.close()


def status_series(world: World) -> Series:
    """A series whose results are words."""
    found = ObservedProperty.objects.create(
        slug="status", iri="https://example.org/status", name_de="Zustand", name_en="Status", unit="1"
    )
    return Series.objects.create(
        municipality=world.municipality,
        thing=world.thing,
        observed_property=found,
        unit="1",
        result_type="text",
    )


def results(messages: list[dict[str, Any]]) -> list[Any]:
    return [reading["result"] for message in messages for reading in message["readings"]]


async def test_confirmed_messages_are_not_sent_again_when_the_store_breaks_away(
    line: Line, store: str
) -> None:
    """All is in the stream and confirmed, and the connection is cut before the table is rid of it."""
    series = await sync_to_async(line.world.series)("air_temperature")
    stop = asyncio.Event()
    task = asyncio.create_task(line.publisher().run(stop, poll_s=0.01))
    minutes = iter(range(100))

    async def record() -> None:
        minute = next(minutes)
        await line.record(series, minute, float(minute))

    async def until_published(n: int) -> None:
        for _ in range(250):
            if (await line.bus.js.stream_info(OBSERVED)).state.messages >= n:
                return
            await asyncio.sleep(0.02)

    await record()
    await until_published(1)
    async with await psycopg.AsyncConnection.connect(store, autocommit=True) as holder:
        await holder.execute(_DELETE_WAITS)
        try:
            await holder.execute("SELECT pg_advisory_lock(77)")
            for _ in range(3):
                await record()
            await until_published(2)
            for _ in range(250):
                cursor = await holder.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE 'DELETE FROM twin_change%' AND wait_event = 'advisory'"
                )
                if await cursor.fetchall():
                    break
                await asyncio.sleep(0.02)
            else:
                pytest.fail("the publisher never came to delete")
            await holder.execute("SELECT pg_advisory_unlock(77)")
            await until_published(4)
        finally:
            await holder.execute("DROP FUNCTION wait_for_77 CASCADE")
    await record()
    await until_published(5)
    await asyncio.sleep(0.2)
    stop.set()
    await task
    assert results(await stream(line.bus)) == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_changes_that_a_backup_brought_from_another_server_are_published(line: Line) -> None:
    """Their transaction ids may lie years ahead of this server's."""
    series = await sync_to_async(line.world.series)("air_temperature")
    async with line.pool.connection() as connection:
        for n in range(2):
            await connection.execute(
                "INSERT INTO twin_change (xid, series_ids, times, results, flags)"
                " VALUES (%s::text::xid8, ARRAY[%s], ARRAY[%s::timestamptz], ARRAY[%s::float8], ARRAY[0])",
                [str(2**40), series.pk, at(n), float(n)],
            )
    await line.published()
    await line.record(series, 2, 2.0)
    assert results(await line.published()) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("key", ["Am Markt 1", "markt.nord", "*", ">", "Café"])
async def test_thing_with_an_odd_key_holds_nobody_up(key: str, line: Line) -> None:
    """Forms allow slugs only, but an import may bring anything, and one subject that NATS refuses stops all."""

    def make() -> tuple[Series, Series]:
        odd = Thing.objects.create(
            municipality=line.world.municipality, key=key, name="Seltsam", kind="eigene art"
        )
        return line.world.series("air_temperature", thing=odd), line.world.series("air_temperature")

    odd, plain = await sync_to_async(make)()
    await line.record(odd, 0, 1.0)
    await line.record(plain, 0, 2.0)
    messages = await line.published()
    assert results(messages) == [1.0, 2.0]
    assert messages[0]["thing"] == key
    city, kind, thing = messages[0]["subject"].split(".")[1:]
    assert (city, kind) == ("musterstadt", "eigene-art")
    assert thing.replace("-", "").isalnum() or thing == "-"


async def test_many_long_texts_are_sent_in_several_messages(line: Line) -> None:
    series = await sync_to_async(status_series)(line.world)
    texts = [f"{n:03}" + "😀" * 1997 for n in range(300)]  # 8 kB each, 2.4 MB together
    city = line.world.municipality.pk
    await line.recorder.record(
        [Observation(city, series.pk, at(n), None, value=text) for n, text in enumerate(texts)]
    )
    messages = await line.published()
    assert results(messages) == texts
    assert [message["change"][3] for message in messages] == list(range(len(messages)))


async def test_values_of_any_json_are_sent(line: Line) -> None:
    """A whole number beyond 64 bits is JSON, too."""
    series = await sync_to_async(status_series)(line.world)
    values: list[Any] = ["", "ä\n", {"a": [1, None, True]}, [], 2**70, False]
    for n, value in enumerate(values):
        await line.record(series, n, None, value)
    assert results(await line.published()) == [*values[:4], float(2**70), False]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * 70_000, "series 7: the value has 70002 bytes, at most 65536"),
        (float("nan"), "series 7: the value is no JSON: Out of range float values are not JSON compliant"),
        ({1, 2}, "series 7: the value is no JSON: Object of type set is not JSON serializable"),
    ],
)
async def test_value_that_no_message_could_carry_is_refused(value: Any, message: str, line: Line) -> None:
    with pytest.raises(RecordError) as caught:
        await line.recorder.record([Observation(1, 7, NOON, None, value=value)])
    assert str(caught.value).startswith(message)


async def test_followers_hear_of_what_was_taken_away(line: Line) -> None:
    series = await sync_to_async(line.world.series)("air_temperature")
    observation = Observation(line.world.municipality.pk, series.pk, NOON, 20.0, 4)
    await line.recorder.record([observation])
    async with line.pool.connection() as connection:
        assert await correct.remove(connection, [observation[:3]], reason="test") == 1
        assert await correct.remove(connection, [observation[:3]], reason="test") == 0
    messages = await line.published()
    assert [(r["series"], r["time"], r["result"], r["flags"]) for m in messages for r in m["readings"]] == [
        (series.pk, "2026-07-01T12:00:00Z", 20.0, 4),
        (series.pk, "2026-07-01T12:00:00Z", None, 4),
    ]
