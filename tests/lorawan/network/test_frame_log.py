"""The frame log by day: days are there before lines come, gone when their time is over, and nobody waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from quartier.engines.partitions import Period
from quartier.engines.pools import Pool
from quartier.lorawan.store.frames import DAYS, FrameLog, Heard, Line
from tests.world import World


@pytest.fixture
async def log(world: World, pool: Pool) -> AsyncIterator[FrameLog]:
    """A log without days; they come back by themselves."""

    async def drop_all() -> None:
        async with pool.connection() as connection:
            for day in await DAYS.existing(connection):
                await connection.execute(f"DROP TABLE {DAYS.name(day)}")

    await drop_all()
    yield FrameLog(pool)
    await drop_all()


def line(at: datetime, counter: int = 1) -> Line:
    return Line(
        at=at,
        municipality="musterstadt",
        direction="up",
        kind="unconfirmed_up",
        outcome="accepted",
        size=20,
        data_rate=3,
        frequency_hz=868_100_000,
        gateways=[Heard("025e00fffe000001", -100.0, 5.0)],
        dev_eui="025e00fffe010001",
        dev_addr="00e20001",
        counter=counter,
        port=2,
        detail={"adr": True},
    )


async def write(log: FrameLog, world: World, *times: datetime) -> None:
    for number, at in enumerate(times):
        log.add(line(at, number))
    assert await log.write({"musterstadt": world.municipality.pk}) == len(times)


async def days(pool: Pool) -> list[Period]:
    async with pool.connection() as connection:
        return sorted(await DAYS.existing(connection))


async def fetch(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query)).fetchall()


def test_the_day_after_is_that_of_the_calendar() -> None:
    assert [DAYS.following(one) for one in ((2026, 2, 28), (2028, 2, 28), (2026, 12, 31))] == [
        (2026, 3, 1),
        (2028, 2, 29),
        (2027, 1, 1),
    ]
    assert [DAYS.preceding(one) for one in ((2026, 3, 1), (2027, 1, 1))] == [(2026, 2, 28), (2026, 12, 31)]
    assert DAYS.of(datetime.fromisoformat("2026-07-01T01:30:00+02:00")) == (2026, 6, 30)


async def test_lines_make_their_days(log: FrameLog, world: World, pool: Pool) -> None:
    late = datetime(2026, 7, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    early = late + timedelta(microseconds=1)
    await write(log, world, early, late)
    assert await fetch(
        pool,
        "SELECT tableoid::regclass::text, at, municipality_id, dev_eui, dev_addr, counter, gateways, detail"
        " FROM lorawan_frame ORDER BY at",
    ) == [
        (f"lorawan_frame_{name}", at, world.municipality.pk, "025e00fffe010001", 0x00E20001, counter,
         [{"eui": "025e00fffe000001", "rssi_dbm": -100.0, "snr_db": 5.0}], {"adr": True})
        for name, at, counter in (("2026_07_31", late, 1), ("2026_08_01", early, 0))
    ]  # fmt: skip
    # Each day has the table's key and indexes.
    assert await fetch(
        pool,
        "SELECT split_part(indexdef, 'USING ', 2) FROM pg_indexes WHERE tablename = 'lorawan_frame_2026_07_31'"
        " ORDER BY 1",
    ) == [
        ("btree (device_id, at DESC)",),
        ("btree (id, at)",),
        ("btree (municipality_id, at DESC)",),
    ]


async def test_whole_days_go_when_their_time_is_over(log: FrameLog, world: World, pool: Pool) -> None:
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    kept = today - timedelta(days=14) + timedelta(hours=23, minutes=59)
    over = today - timedelta(days=15) + timedelta(hours=23, minutes=59)
    await write(log, world, now, kept, over)
    await log.keep(14)
    assert await fetch(pool, "SELECT at FROM lorawan_frame ORDER BY at") == [(kept,), (now,)]
    assert await days(pool) == [DAYS.of(today + timedelta(days=n)) for n in (-14, -1, 0, 1, 2, 3)]
    # What still comes of a day that was dropped is taken all the same.
    await write(log, world, over)
    assert await fetch(pool, "SELECT count(*) FROM lorawan_frame") == [(3,)]


async def test_a_day_that_another_process_dropped_is_made_again(
    log: FrameLog, world: World, pool: Pool
) -> None:
    at = datetime(2026, 7, 1, tzinfo=UTC)
    await write(log, world, at)
    async with pool.connection() as connection:
        await DAYS.drop_before(connection, at + timedelta(days=1))
    await write(log, world, at, at)
    assert await fetch(pool, "SELECT counter FROM lorawan_frame ORDER BY counter") == [(0,), (1,)]


async def test_retention_gives_way_to_who_reads_and_lines_are_written_meanwhile(
    log: FrameLog, world: World, pool: Pool, store: str
) -> None:
    await write(log, world, datetime(2015, 3, 1, tzinfo=UTC))
    async with await psycopg.AsyncConnection.connect(store) as reader:
        await reader.execute("SELECT count(*) FROM lorawan_frame")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await log.keep(14)
        await write(log, world, datetime.now(UTC), datetime(2015, 3, 2, tzinfo=UTC))
    assert (2015, 3, 1) in await days(pool)
    await log.keep(14)
    assert await fetch(pool, "SELECT count(*) FROM lorawan_frame") == [(1,)]


async def test_the_newest_lines_of_a_device_are_read_day_by_day(
    log: FrameLog, world: World, pool: Pool
) -> None:
    """The page of a device asks for 15 lines; it must not read all days for them."""
    now = datetime.now(UTC)
    await write(log, world, *(now - timedelta(days=n, seconds=s) for n in range(20) for s in range(50)))
    async with pool.connection() as connection:
        await connection.execute("ANALYZE lorawan_frame")
        await connection.execute("SET enable_seqscan = off")
        cursor = await connection.execute(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF, SUMMARY OFF) SELECT * FROM lorawan_frame"
            " WHERE municipality_id = %s AND at > %s ORDER BY at DESC, id DESC LIMIT 15",
            [world.municipality.pk, now - timedelta(days=30)],
        )
        plan = [str(row[0]) for row in await cursor.fetchall()]
        await connection.execute("RESET enable_seqscan")
    scans = [one for one in plan if "Scan" in one]
    assert len(scans) == 20
    assert sum("never executed" not in one for one in scans) <= 2, plan
