"""Roll-ups against sums computed by hand from the observations."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest

from quartier.engines.pools import Pool
from quartier.twin import correct, rollups
from quartier.twin.flags import Flag, is_bad
from quartier.twin.record import Observation, Recorder
from tests.world import World

BERLIN = ZoneInfo("Europe/Berlin")
# The night in which clocks go back: the civil day of 25 October 2026 has 25 hours.
START = datetime(2026, 10, 24, 20, tzinfo=UTC)

Row = tuple[datetime, int, int, float, float, float, float, float, float]


def expected(observations: list[Observation], table: str) -> dict[datetime, Row]:
    """Buckets computed from all observations in plain Python."""
    buckets: dict[datetime, list[Observation]] = {}
    for o in sorted(observations, key=lambda o: o.time):
        if table == "15min":
            start = o.time.replace(minute=o.time.minute // 15 * 15, second=0, microsecond=0)
        elif table == "1h":
            start = o.time.replace(minute=0, second=0, microsecond=0)
        else:
            local = o.time.astimezone(BERLIN)
            start = datetime(local.year, local.month, local.day, tzinfo=BERLIN).astimezone(UTC)
        buckets.setdefault(start, []).append(o)
    rows = {}
    for start, members in buckets.items():
        good = [o.result for o in members if o.result is not None and not is_bad(o.flags)]
        rows[start] = (
            start,
            len(good),
            len(members) - len(good),
            math.fsum(good),
            math.fsum(x * x for x in good),
            min(good),
            max(good),
            good[0],
            good[-1],
        )
    return rows


async def stored(pool: Pool, table: str, series_id: int) -> dict[datetime, Row]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            f"SELECT bucket, n, n_flagged, sum, sum_of_squares, min, max, first, last FROM twin_rollup_{table}"
            " WHERE series_id = %s ORDER BY bucket",
            [series_id],
        )
        return {row[0]: row for row in await cursor.fetchall()}


def assert_same(found: dict[datetime, Row], wanted: dict[datetime, Row]) -> None:
    """Equal up to the last bits of sums, whose order of addition is the store's."""
    assert list(found) == sorted(wanted)
    for start, row in wanted.items():
        assert found[start][1:] == pytest.approx(row[1:]), start


async def refresh_all(pool: Pool) -> None:
    async with pool.connection() as connection:
        while await rollups.refresh(connection, most=7):
            pass
        cursor = await connection.execute("SELECT count(*) FROM twin_rollup_mark")
        assert await cursor.fetchone() == (0,)


@pytest.mark.parametrize("table", ["15min", "1h", "1d"])
async def test_rollups_are_right_after_late_data_flags_and_removal(
    world: World, pool: Pool, table: str
) -> None:
    series = await _series(world)
    recorder = Recorder(pool)
    await recorder.start()
    first = [
        Observation(world.municipality.pk, series, START + timedelta(minutes=7 * n), 10 + n % 13, 0)
        for n in range(0, 300, 2)
    ]
    await recorder.record(first)
    await refresh_all(pool)
    # Late ones between the others, one of them implausible, one implausible but found right by a steward.
    late = [
        Observation(world.municipality.pk, series, START + timedelta(minutes=7 * n + 1), -3.5 + n % 5, 0)
        for n in range(1, 300, 3)
    ]
    late[3] = late[3]._replace(result=500.0, flags=int(Flag.RANGE))
    late[4] = late[4]._replace(result=60.0, flags=int(Flag.SPIKE | Flag.DISMISSED))
    await recorder.record(late)
    await refresh_all(pool)
    assert_same(await stored(pool, table, series), expected(first + late, table))
    gone = {(o.municipality_id, o.series_id, o.time) for o in late[:40]}
    async with pool.connection() as connection:
        assert await correct.remove(connection, sorted(gone), reason="test") == 40
        assert await correct.flag(connection, [late[50][:3]], set_=int(Flag.SPATIAL)) == 1
    await refresh_all(pool)
    kept = [o for o in first + late[40:] if o is not late[50]] + [late[50]._replace(flags=int(Flag.SPATIAL))]
    assert_same(await stored(pool, table, series), expected(kept, table))
    await recorder.close()


async def _series(world: World) -> int:
    from asgiref.sync import sync_to_async

    made = await sync_to_async(world.series)("air_temperature")
    return made.pk


async def test_emptied_bucket_vanishes(world: World, pool: Pool) -> None:
    series = await _series(world)
    recorder = Recorder(pool)
    await recorder.start()
    await recorder.record([Observation(world.municipality.pk, series, START, 1.0)])
    await refresh_all(pool)
    async with pool.connection() as connection:
        await correct.remove(connection, [(world.municipality.pk, series, START)], reason="test")
        cursor = await connection.execute("SELECT count(*) FROM twin_state")
        assert await cursor.fetchone() == (0,)
    await refresh_all(pool)
    assert [await stored(pool, t, series) for t in ("15min", "1h", "1d")] == [{}, {}, {}]
    await recorder.close()


async def test_texts_are_not_counted_as_flagged_numbers(world: World, pool: Pool) -> None:
    series = await _series(world)
    recorder = Recorder(pool)
    await recorder.start()
    city = world.municipality.pk
    await recorder.record([Observation(city, series, START, None, 0, value="defekt")])
    await refresh_all(pool)
    assert await stored(pool, "1h", series) == {}
    await recorder.record([Observation(city, series, START + timedelta(minutes=1), 5.0)])
    await refresh_all(pool)
    for table in ("15min", "1h"):
        assert await stored(pool, table, series) == {START: (START, 1, 0, 5.0, 25.0, 5.0, 5.0, 5.0, 5.0)}
    await recorder.close()


async def test_second_worker_leaves_the_marks_to_the_first(world: World, pool: Pool, store: str) -> None:
    """Each would compute the day from the hours that it sees, and not see the hour of the other."""
    series = await _series(world)
    recorder = Recorder(pool)
    await recorder.start()
    city = world.municipality.pk
    first = Observation(city, series, START, 1.0)
    second = Observation(city, series, START + timedelta(hours=1), 2.0)
    await recorder.record([first])
    await refresh_all(pool)
    await recorder.record([first._replace(time=START + timedelta(minutes=1))])
    async with await psycopg.AsyncConnection.connect(store) as other, pool.connection() as connection:
        # The first worker waits for a row that somebody holds.
        await other.execute("SELECT 1 FROM twin_rollup_1h FOR UPDATE")
        waiting = asyncio.create_task(rollups.refresh(connection))
        await asyncio.sleep(0.2)
        await recorder.record([second])
        async with asyncio.timeout(2), pool.connection() as idle:
            assert await rollups.refresh(idle) == 0
        await other.rollback()
        assert await waiting == 1
    await refresh_all(pool)
    all_of_them = [first, first._replace(time=START + timedelta(minutes=1)), second]
    for table in ("15min", "1h", "1d"):
        assert_same(await stored(pool, table, series), expected(all_of_them, table))
    await recorder.close()
