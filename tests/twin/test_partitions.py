"""Monthly partitions: there before they are needed, gone after their time, without anybody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from quartier.engines.pools import Pool, async_pool
from quartier.twin import partitions, rollups
from quartier.twin.partitions import Month
from quartier.twin.record import Observation, Recorder

BOUNDS = (
    "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'twin_observation'::regclass ORDER BY 1"
)


@pytest.fixture
async def empty(pool: Pool) -> AsyncIterator[Pool]:
    """A store without partitions; they come back by themselves."""

    async def drop_all() -> None:
        async with pool.connection() as connection:
            for month in await partitions.existing(connection):
                await connection.execute(f"DROP TABLE {partitions.name(month)}")

    await drop_all()
    yield pool
    await drop_all()


async def months(pool: Pool) -> list[Month]:
    async with pool.connection() as connection:
        return sorted(await partitions.existing(connection))


async def fetch(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query)).fetchall()


def test_month_after_december() -> None:
    assert [partitions.following(m) for m in ((2026, 11), (2026, 12), (2027, 1))] == [
        (2026, 12),
        (2027, 1),
        (2027, 2),
    ]


async def test_partition_holds_its_month_in_utc(empty: Pool) -> None:
    async with empty.connection() as connection:
        await partitions.create(connection, [(2026, 12), (2026, 3), (2026, 12)])
        await partitions.create(connection, [(2026, 12)])
    assert await fetch(empty, BOUNDS) == [
        (
            "twin_observation_2026_03",
            "FOR VALUES FROM ('2026-03-01 00:00:00+00') TO ('2026-04-01 00:00:00+00')",
        ),
        (
            "twin_observation_2026_12",
            "FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')",
        ),
    ]


async def test_bounds_do_not_depend_on_the_sessions_time_zone(empty: Pool) -> None:
    async with empty.connection() as connection:
        await connection.execute("SET timezone = 'America/New_York'")
        await partitions.create(connection, [(2026, 7)])
        await connection.execute("SET timezone = 'UTC'")
    assert await fetch(empty, BOUNDS) == [
        (
            "twin_observation_2026_07",
            "FOR VALUES FROM ('2026-07-01 00:00:00+00') TO ('2026-08-01 00:00:00+00')",
        )
    ]


async def test_partition_has_the_tables_key(empty: Pool) -> None:
    """Attached afterwards, it must refuse doubles and use the one index as the table itself does."""
    async with empty.connection() as connection:
        await partitions.create(connection, [(2026, 7)])
    assert await fetch(
        empty,
        "SELECT i.indexdef, p.inhparent::regclass::text FROM pg_indexes i"
        " JOIN pg_inherits p ON p.inhrelid = ('public.' || i.indexname)::regclass"
        " WHERE i.tablename = 'twin_observation_2026_07'",
    ) == [
        (
            "CREATE UNIQUE INDEX twin_observation_2026_07_pkey ON public.twin_observation_2026_07"
            ' USING btree (municipality_id, series_id, "time")',
            "twin_observation_pkey",
        )
    ]
    insert = "INSERT INTO twin_observation (municipality_id, series_id, time) VALUES (1, 1, '2026-07-05Z')"
    async with empty.connection() as connection:
        await connection.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await connection.execute(insert)
        cursor = await connection.execute("SELECT flags FROM twin_observation")
        assert await cursor.fetchall() == [(0,)], "defaults are the table's as well"


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ((2026, 7, 31), [(2026, 6), (2026, 7), (2026, 8), (2026, 9), (2026, 10)]),
        ((2026, 1, 1), [(2025, 12), (2026, 1), (2026, 2), (2026, 3), (2026, 4)]),
        ((2026, 11, 30), [(2026, 10), (2026, 11), (2026, 12), (2027, 1), (2027, 2)]),
        ((2026, 12, 31), [(2026, 11), (2026, 12), (2027, 1), (2027, 2), (2027, 3)]),
    ],
)
async def test_made_ahead_over_the_end_of_the_year(
    empty: Pool, now: tuple[int, int, int], wanted: list[Month]
) -> None:
    async with empty.connection() as connection:
        for _ in range(2):
            await partitions.create_ahead(connection, now=datetime(*now, 23, 59, tzinfo=UTC))
    assert await months(empty) == wanted


async def test_processes_that_start_together_do_not_trip(empty: Pool, store: str) -> None:
    wanted = [(2026, number) for number in range(1, 13)]

    async def make(order: int) -> None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            await partitions.create(connection, wanted[::order])

    await asyncio.gather(*(make(order) for order in (1, -1, 1, -1)))
    assert await months(empty) == wanted


async def test_month_is_made_while_somebody_reads(empty: Pool, store: str) -> None:
    """A download of an hour must not hold up the first observation of a month, nor all readers behind it."""
    async with (
        await psycopg.AsyncConnection.connect(store) as download,
        async_pool(store, statement_timeout_ms=1000) as pool,
    ):
        await download.execute("SELECT count(*) FROM twin_observation")
        recorder = Recorder(pool)
        await recorder.start()
        async with asyncio.timeout(5):
            await recorder.record([Observation(1, 7, datetime(2026, 7, 1, tzinfo=UTC), 1.0)])
        await recorder.close()
    assert await months(empty) == [(2026, 7)]


async def _recorded(pool: Pool, *times: datetime) -> None:
    recorder = Recorder(pool)
    await recorder.start()
    await recorder.record([Observation(1, 7, time, 1.5) for time in times])
    await recorder.close()


async def test_retention_drops_whole_months_and_keeps_their_roll_ups(empty: Pool) -> None:
    times = [datetime(2025, month, 15, 12, tzinfo=UTC) for month in (10, 11, 12)]
    await _recorded(empty, *times)
    async with empty.connection() as connection:
        await rollups.refresh(connection)
        rolled_up = await fetch(empty, "SELECT bucket, n, sum FROM twin_rollup_1h ORDER BY 1")
        assert rolled_up == [(time, 1, 1.5) for time in times]
        almost = datetime(2025, 12, 1, tzinfo=UTC) - timedelta(microseconds=1)
        assert await partitions.drop_before(connection, almost) == [(2025, 10)]
        assert await partitions.drop_before(connection, datetime(2025, 12, 1, tzinfo=UTC)) == [(2025, 11)]
        assert await partitions.drop_before(connection, datetime(2025, 12, 31, tzinfo=UTC)) == []
    assert await months(empty) == [(2025, 12)]
    assert await fetch(empty, "SELECT time FROM twin_observation") == [(times[2],)]
    assert await fetch(empty, "SELECT bucket, n, sum FROM twin_rollup_1h ORDER BY 1") == rolled_up


async def test_month_is_kept_until_it_is_rolled_up(empty: Pool) -> None:
    """Old data that was just imported would be gone before anything is left of it."""
    time = datetime(2015, 3, 31, 23, 59, tzinfo=UTC)
    await _recorded(empty, time)
    async with empty.connection() as connection:
        assert await partitions.drop_before(connection, datetime(2026, 1, 1, tzinfo=UTC)) == []
        await rollups.refresh(connection)
        assert await partitions.drop_before(connection, datetime(2026, 1, 1, tzinfo=UTC)) == [(2015, 3)]
    assert await fetch(empty, "SELECT n, sum FROM twin_rollup_1h") == [(1, 1.5)]


async def test_retention_gives_way_to_who_reads(empty: Pool, store: str) -> None:
    await _recorded(empty, datetime(2015, 3, 1, tzinfo=UTC))
    async with empty.connection() as connection, await psycopg.AsyncConnection.connect(store) as download:
        await rollups.refresh(connection)
        await download.execute("SELECT count(*) FROM twin_observation")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await partitions.drop_before(connection, datetime(2026, 1, 1, tzinfo=UTC))
    assert await months(empty) == [(2015, 3)]


async def test_late_observation_of_a_dropped_month_is_taken(empty: Pool) -> None:
    """The recorder remembers which months it made; retention works in another process."""
    recorder = Recorder(empty)
    await recorder.start()
    first = datetime(2015, 3, 1, tzinfo=UTC)
    await recorder.record([Observation(1, 7, first, 1.0)])
    async with empty.connection() as connection:
        await rollups.refresh(connection)
        assert await partitions.drop_before(connection, datetime(2026, 1, 1, tzinfo=UTC)) == [(2015, 3)]
    late = first + timedelta(hours=1)
    await recorder.record([Observation(1, 7, late, 2.0), Observation(1, 7, late.replace(month=4), 3.0)])
    await recorder.close()
    assert await fetch(empty, "SELECT time, result FROM twin_observation ORDER BY 1") == [
        (late, 2.0),
        (late.replace(month=4), 3.0),
    ]
