"""Derived series: from live, late, corrected and flagged inputs of several devices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from nats.js.errors import NotFoundError

from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.twin import correct, derive
from quartier.twin.derive import Derivation, Deriver, Floats, Surroundings
from quartier.twin.flags import Flag
from quartier.twin.publish import Publisher
from quartier.twin.record import Observation, Recorder
from tests.world import World

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def _sum(inputs: Mapping[str, Floats], _: Surroundings) -> Floats:
    result: Floats = inputs["air_temperature"] + inputs["wind_speed"]
    return result


def _double(inputs: Mapping[str, Floats], _: Surroundings) -> Floats:
    return inputs["heat_index"] * 2


SUM = Derivation(
    slug="sum",
    output="heat_index",
    inputs=("air_temperature", "wind_speed"),
    anchor="air_temperature",
    tolerance_s={"wind_speed": 300},
    function=_sum,
)
# A function of a derived series.
DOUBLE = Derivation(
    slug="double", output="pet", inputs=("heat_index",), anchor="heat_index", tolerance_s={}, function=_double
)


class Station:
    """Records inputs, and reads what was derived."""

    def __init__(self, world: World, pool: Pool, recorder: Recorder, series: dict[str, int]) -> None:
        self.city = world.municipality.pk
        self.pool = pool
        self.recorder = recorder
        self.series = series

    async def measure(self, slug: str, minute: float, result: float, flags: int = 0) -> None:
        await self.recorder.record([self.observation(slug, minute, result, flags)])

    def observation(self, slug: str, minute: float, result: float, flags: int = 0) -> Observation:
        return Observation(self.city, self.series[slug], NOON + timedelta(minutes=minute), result, flags)

    async def derived(self, slug: str) -> dict[float, float]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT o.time, o.result FROM twin_observation o JOIN twin_series s ON s.id = o.series_id"
                " WHERE s.derivation = %s",
                [slug],
            )
            return {(time - NOON) / timedelta(minutes=1): result for time, result in await cursor.fetchall()}

    async def becomes(self, slug: str, wanted: dict[float, float]) -> None:
        """Wait until the derived series is as wanted."""
        found: dict[float, float] = {}
        for _ in range(250):
            found = await self.derived(slug)
            if found == wanted:
                return
            await asyncio.sleep(0.02)
        assert found == wanted


@pytest.fixture
async def station(
    world: World, pool: Pool, bus: Bus, publisher: Callable[[], Publisher]
) -> AsyncIterator[Station]:
    def make() -> dict[str, int]:
        return {
            slug: world.series(slug).pk for slug in ("air_temperature", "wind_speed", "relative_humidity")
        }

    series = await sync_to_async(make)()
    recorder = Recorder(pool)
    await recorder.start()
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(publisher().run(stop, poll_s=0.01)),
        asyncio.create_task(Deriver(pool, bus, recorder, [SUM, DOUBLE]).run(stop)),
    ]
    yield Station(world, pool, recorder, series)
    stop.set()
    await asyncio.gather(*tasks)
    await recorder.close()
    await bus.js.delete_consumer("observed", "derive")


async def test_nearest_value_within_tolerance_counts(station: Station) -> None:
    await station.measure("air_temperature", 0, 20)
    await station.measure("wind_speed", 4, 3)  # nearer to minute 5
    await station.measure("wind_speed", -2, 1)
    await station.measure("air_temperature", 5, 21)
    await station.measure("air_temperature", 30, 25)  # no wind within five minutes
    await station.becomes("sum", {0: 21, 5: 24})
    await station.becomes("double", {0: 42, 5: 48})


async def test_late_and_corrected_inputs_are_followed(station: Station) -> None:
    await station.measure("air_temperature", 0, 20)
    await station.measure("wind_speed", 1, 1)
    await station.becomes("sum", {0: 21})
    await station.measure("wind_speed", 0, 2)  # late, and nearer
    await station.becomes("sum", {0: 22})
    await station.recorder.correct([station.observation("wind_speed", 0, 5)], reason="codec")
    await station.becomes("sum", {0: 25})
    await station.becomes("double", {0: 50})


async def test_flagged_input_gives_no_result(station: Station) -> None:
    await station.measure("wind_speed", 0, 1)
    await station.measure("air_temperature", 0, 20)
    await station.measure("air_temperature", 10, 90, int(Flag.RANGE))
    await station.measure("wind_speed", 10, 1)
    await station.becomes("sum", {0: 21})
    key = station.observation("air_temperature", 0, 20)[:3]
    async with station.pool.connection() as connection:
        await correct.flag(connection, [key], set_=int(Flag.SPIKE))
    await station.becomes("sum", {})
    async with station.pool.connection() as connection:
        await correct.flag(connection, [key], set_=int(Flag.DISMISSED))
    await station.becomes("sum", {0: 21})


async def test_thing_without_all_inputs_gets_no_series(station: Station) -> None:
    await station.measure("relative_humidity", 0, 50)

    async def count() -> Any:
        async with station.pool.connection() as connection:
            return await (
                await connection.execute("SELECT count(*) FROM twin_series WHERE derivation <> ''")
            ).fetchone()

    assert await count() == (0,)
    await station.measure("air_temperature", 0, 20)
    await station.becomes("sum", {})
    for _ in range(100):
        if await count() == (2,):
            break
        await asyncio.sleep(0.02)
    assert await count() == (2,), "air temperature and wind are there: the sum, and what follows from it"


async def test_what_follows_from_a_removed_reading_goes_with_it(station: Station) -> None:
    await station.measure("wind_speed", 0, 1)
    await station.measure("air_temperature", 0, 20)
    await station.measure("air_temperature", 1, 21)
    await station.becomes("double", {0: 42, 1: 44})
    async with station.pool.connection() as connection:
        key = station.observation("air_temperature", 0, 20)[:3]
        assert await correct.remove(connection, [key], reason="not in the message") == 1
    await station.becomes("sum", {1: 22})
    await station.becomes("double", {1: 44})


async def test_old_and_new_readings_together_read_only_what_is_near(
    station: Station, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that empties its memory must not bring a year of its inputs into the worker's memory."""
    day = 24 * 60
    await station.recorder.record([station.observation("wind_speed", n * day, 1) for n in range(40)])
    await station.recorder.record([station.observation("air_temperature", n * day, n) for n in range(40)])
    await station.becomes("sum", {n * day: n + 1 for n in range(40)})
    await station.becomes("double", {n * day: 2 * n + 2 for n in range(40)})
    read: list[int] = []
    load = derive._load

    async def counting(connection: Any, jobs: Any) -> Any:
        values = await load(connection, jobs)
        read.extend(len(times) for times, _ in values.values())
        return values

    monkeypatch.setattr(derive, "_load", counting)
    deriver = Deriver(station.pool, bus, station.recorder, [SUM])
    touched = {station.series["air_temperature"]: {NOON, NOON + timedelta(days=39)}}
    assert await deriver.derive(touched) == 0, "all is derived already"
    assert read == [2, 2]


async def test_flood_is_written_in_pieces(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derive, "_PIECE", 7)
    minutes = [n / 16 for n in range(60)]
    await station.recorder.record([station.observation("wind_speed", 3, 1)])
    await station.recorder.record([station.observation("air_temperature", n, n) for n in minutes])
    await station.becomes("sum", {n: n + 1 for n in minutes})


async def test_second_worker_waits_for_the_first(world: World, pool: Pool, bus: Bus, store: str) -> None:
    """Two that compute one result before and after a change would write it in any order."""
    stop = asyncio.Event()
    recorder = Recorder(pool)
    await recorder.start()
    async with await psycopg.AsyncConnection.connect(store, autocommit=True) as first:
        await first.execute("SELECT pg_advisory_lock(%s)", [derive._LOCK])
        second = asyncio.create_task(Deriver(pool, bus, recorder, [SUM]).run(stop))
        await asyncio.sleep(0.3)
        with pytest.raises(NotFoundError):
            await bus.js.consumer_info("observed", "derive")
    for _ in range(200):
        with contextlib.suppress(NotFoundError):
            await bus.js.consumer_info("observed", "derive")
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("the second did not take over")
    stop.set()
    await second
    await recorder.close()
    await bus.js.delete_consumer("observed", "derive")


async def test_what_was_on_its_way_when_a_connection_broke_is_derived(
    world: World, pool: Pool, bus: Bus, publisher: Callable[[], Publisher]
) -> None:
    """The consumer counts it as delivered, and the next confirmation would have covered it."""
    names = ("air_temperature", "wind_speed")
    series = await sync_to_async(lambda: {slug: world.series(slug).pk for slug in names})()
    recorder = Recorder(pool)
    await recorder.start()
    station = Station(world, pool, recorder, series)
    publishing = asyncio.Event()
    publisher_task = asyncio.create_task(publisher().run(publishing, poll_s=0.01))

    @contextlib.asynccontextmanager
    async def deriving() -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(Deriver(pool, bus, recorder, [SUM]).run(stop))
        yield
        stop.set()
        await task

    async with deriving():
        await station.measure("air_temperature", 0, 20)
        await station.measure("wind_speed", 0, 1)
        await station.becomes("sum", {0: 21})
    await recorder.record(
        [station.observation(slug, 60, value) for slug, value in zip(names, (22, 2), strict=True)]
    )
    dead = await bus.js.pull_subscribe_bind(derive.CONSUMER, stream="observed")
    # What was derived before may not have been followed up to its end.
    while not any(b"13:00:00" in message.data for message in await dead.fetch(100, timeout=5)):
        pass
    await dead.unsubscribe()
    async with deriving():
        await station.measure("air_temperature", 120, 24)
        await station.measure("wind_speed", 120, 3)
        await station.becomes("sum", {0: 21, 60: 24, 120: 27})
    publishing.set()
    await publisher_task
    await recorder.close()
    await bus.js.delete_consumer("observed", "derive")
