"""Publishing: every committed batch once and in order, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async

from quartier.engines.bus import OBSERVED, Bus
from quartier.engines.pools import Pool
from quartier.twin.publish import Publisher
from quartier.twin.record import Observation, Recorder
from tests.world import World

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
async def recorder(pool: Pool) -> AsyncIterator[Recorder]:
    recorder = Recorder(pool)
    await recorder.start()
    yield recorder
    await recorder.close()


async def stream(bus: Bus) -> list[dict[str, Any]]:
    """Everything in the observed stream."""
    info = await bus.js.stream_info(OBSERVED)
    bodies = []
    for seq in range(info.state.first_seq, info.state.last_seq + 1):
        message = await bus.js.get_msg(OBSERVED, seq)
        bodies.append({"subject": message.subject, **orjson.loads(message.data or b"")})
    return bodies


async def publish(pool: Pool, publisher: Callable[[], Publisher]) -> None:
    """Run a publisher of its own until nothing is left."""
    stop = asyncio.Event()
    task = asyncio.create_task(publisher().run(stop, poll_s=0.01))
    for _ in range(500):
        await asyncio.sleep(0.02)
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT count(*) FROM twin_change")
            if await cursor.fetchone() == (0,):
                break
    stop.set()
    await task


async def test_message_says_all_a_follower_needs(
    world: World, pool: Pool, bus: Bus, recorder: Recorder, publisher: Callable[[], Publisher]
) -> None:
    temperature = await sync_to_async(world.series)("air_temperature")
    failure = await sync_to_async(world.series)("lamp_failure")
    await recorder.record(
        [
            Observation(world.municipality.pk, temperature.pk, NOON, 20.5, 4),
            Observation(world.municipality.pk, failure.pk, NOON, 1.0),
        ]
    )
    await publish(pool, publisher)
    (message,) = await stream(bus)
    change = message.pop("change")
    assert [len(change), change[3]] == [4, 0]
    assert message == {
        "subject": "observed.musterstadt.station.markt",
        "municipality": "musterstadt",
        "kind": "station",
        "thing": "markt",
        "name": "Markt",
        "public": True,
        "readings": [
            {
                "series": temperature.pk,
                "property": "air_temperature",
                "channel": "",
                "unit": "Cel",
                "time": "2026-07-01T12:00:00Z",
                "result": 20.5,
                "flags": 4,
            },
            {
                "series": failure.pk,
                "property": "lamp_failure",
                "channel": "",
                "unit": "1",
                "time": "2026-07-01T12:00:00Z",
                "result": True,
                "flags": 0,
            },
        ],
    }


async def test_publisher_that_dies_before_it_cleans_up_repeats_nothing(
    world: World, pool: Pool, bus: Bus, recorder: Recorder, publisher: Callable[[], Publisher]
) -> None:
    """A change that stands in the stream and still in the table is what a kill between the two leaves behind."""
    series = await sync_to_async(world.series)("air_temperature")
    for n in range(5):
        await recorder.record(
            [Observation(world.municipality.pk, series.pk, NOON + timedelta(minutes=n), float(n))]
        )
    async with pool.connection() as connection:
        await connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM twin_change")
        await publish(pool, publisher)
        await connection.execute("INSERT INTO twin_change OVERRIDING SYSTEM VALUE SELECT * FROM kept")
        await connection.execute("DROP TABLE kept")
    await recorder.record([Observation(world.municipality.pk, series.pk, NOON + timedelta(minutes=9), 9.0)])
    await publish(pool, publisher)
    results = [reading["result"] for message in await stream(bus) for reading in message["readings"]]
    assert results == [0.0, 1.0, 2.0, 3.0, 4.0, 9.0]


async def test_transaction_that_commits_late_is_not_passed_over(
    world: World, pool: Pool, bus: Bus, recorder: Recorder, publisher: Callable[[], Publisher]
) -> None:
    """An older transaction still runs while a younger one commits: the younger waits its turn."""
    series = await sync_to_async(world.series)("air_temperature")
    insert = (
        "INSERT INTO twin_change (series_ids, times, results, flags)"
        " VALUES (ARRAY[%s], ARRAY[%s], ARRAY[%s], ARRAY[0])"
    )
    stop = asyncio.Event()
    task = asyncio.create_task(publisher().run(stop, poll_s=0.01))
    async with pool.connection() as slow, slow.transaction():
        await slow.execute(insert, [series.pk, NOON, 1.0])
        await recorder.record([Observation(world.municipality.pk, series.pk, NOON, 2.0)])
        await asyncio.sleep(0.4)
        assert await stream(bus) == []
    for _ in range(200):
        await asyncio.sleep(0.02)
        if len(await stream(bus)) == 2:
            break
    stop.set()
    await task
    assert [m["readings"][0]["result"] for m in await stream(bus)] == [1.0, 2.0]


async def test_only_one_publisher_works(
    world: World, pool: Pool, bus: Bus, recorder: Recorder, publisher: Callable[[], Publisher]
) -> None:
    series = await sync_to_async(world.series)("air_temperature")
    stop = asyncio.Event()
    tasks = [asyncio.create_task(publisher().run(stop, poll_s=0.01)) for _ in range(3)]
    for n in range(40):
        await recorder.record(
            [Observation(world.municipality.pk, series.pk, NOON + timedelta(minutes=n), float(n))]
        )
    for _ in range(300):
        await asyncio.sleep(0.02)
        if sum(len(m["readings"]) for m in await stream(bus)) >= 40:
            break
    await asyncio.sleep(0.2)
    stop.set()
    await asyncio.gather(*tasks)
    results = [reading["result"] for message in await stream(bus) for reading in message["readings"]]
    assert results == [float(n) for n in range(40)]
