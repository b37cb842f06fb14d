"""Taking observations away and flagging them: nothing is forgotten, and every count stays right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from quartier.engines.pools import Pool
from quartier.twin import correct
from quartier.twin.flags import Flag
from quartier.twin.record import Observation, Recorder

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
OBSERVATIONS = "SELECT series_id, time, result, flags FROM twin_observation ORDER BY 1, 2"
STATE = "SELECT series_id, n, first_time, time, result, flags FROM twin_state ORDER BY municipality_id, 1"
MARKS = "SELECT DISTINCT series_id, hour FROM twin_rollup_mark, unnest(series_ids) AS series_id ORDER BY 1, 2"
CHANGES = "SELECT series_ids, times, results, flags, vals FROM twin_change ORDER BY position"


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def key(minute: float, series: int = 7) -> correct.Key:
    return (1, series, at(minute))


async def fetch(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query)).fetchall()


@pytest.fixture
async def recorder(pool: Pool) -> AsyncIterator[Recorder]:
    """Series 7 has values 0, 60, 120 and 180 at these minutes; marks and changes are worked off."""
    recorder = Recorder(pool)
    await recorder.start()
    await recorder.record([Observation(1, 7, at(n), float(n), 0, 100 + n) for n in (0, 60, 120, 180)])
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE twin_rollup_mark, twin_change")
    yield recorder
    await recorder.close()


async def remove(pool: Pool, *keys: correct.Key) -> int:
    async with pool.connection() as connection:
        return await correct.remove(connection, keys, reason="test")


async def flag(pool: Pool, *keys: correct.Key, set_: int = 0, clear: int = 0) -> int:
    async with pool.connection() as connection:
        return await correct.flag(connection, keys, set_=set_, clear=clear)


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize(
    ("minutes", "n", "first", "newest"),
    [((60,), 3, 0, 180), ((180,), 3, 0, 120), ((0,), 3, 60, 180), ((180, 0, 120), 1, 60, 60)],
)
async def test_state_is_that_of_what_is_left(
    minutes: tuple[int, ...], n: int, first: int, newest: int, pool: Pool
) -> None:
    assert await remove(pool, *(key(minute) for minute in minutes)) == len(minutes)
    assert await fetch(pool, STATE) == [(7, n, at(first), at(newest), float(newest), 0)]
    left = [minute for minute in (0, 60, 120, 180) if minute not in minutes]
    assert await fetch(pool, OBSERVATIONS) == [(7, at(minute), float(minute), 0) for minute in left]
    assert await fetch(pool, MARKS) == [(7, at(minute)) for minute in sorted(minutes)]


@pytest.mark.usefixtures("recorder")
async def test_what_was_taken_away_is_kept_with_its_reason(pool: Pool) -> None:
    await flag(pool, key(60), set_=int(Flag.SPIKE))
    await remove(pool, key(60))
    assert await fetch(
        pool,
        "SELECT municipality_id, series_id, time, flags, result, origin, value, reason FROM twin_revision",
    ) == [(1, 7, at(60), 4, 60.0, 160, None, "test")]


@pytest.mark.usefixtures("recorder")
async def test_series_of_which_nothing_is_left_has_no_state(pool: Pool) -> None:
    assert await remove(pool, *(key(n) for n in (0, 60, 120, 180))) == 4
    assert await fetch(pool, STATE) == []
    assert await fetch(pool, OBSERVATIONS) == []


async def test_only_what_is_there_is_taken_away(pool: Pool, recorder: Recorder) -> None:
    await recorder.record([Observation(1, 9, at(60), 5.0), Observation(2, 7, at(60), 6.0)])
    assert await remove(pool, key(61), key(60, series=8), (3, 7, at(60))) == 0
    assert await remove(pool) == 0
    assert await fetch(pool, "SELECT count(*) FROM twin_observation") == [(6,)]
    assert await remove(pool, key(60), key(60, series=9), key(60)) == 2
    assert await fetch(pool, STATE) == [
        (7, 3, at(0), at(180), 180.0, 0),
        (7, 1, at(60), at(60), 6.0, 0),  # the neighbour's series of this number
    ]


@pytest.mark.usefixtures("recorder")
async def test_removal_that_fails_changes_nothing(pool: Pool) -> None:
    async with pool.connection() as connection:
        with pytest.raises(psycopg.errors.NotNullViolation):
            await correct.remove(connection, [key(60)], reason=None)  # type: ignore[arg-type]
    assert len(await fetch(pool, OBSERVATIONS)) == 4
    assert await fetch(pool, MARKS) == []
    assert await fetch(pool, CHANGES) == []


@pytest.mark.usefixtures("recorder")
async def test_who_records_at_the_same_time_is_not_forgotten(pool: Pool, store: str) -> None:
    """A newer observation is committed while the removal waits for the row of the state."""
    async with await psycopg.AsyncConnection.connect(store) as other:
        await other.execute(
            "INSERT INTO twin_observation (municipality_id, series_id, time, result) VALUES (1, 7, %s, 240)",
            [at(240)],
        )
        await other.execute("UPDATE twin_state SET n = n + 1, time = %s, result = 240", [at(240)])
        removal = asyncio.create_task(remove(pool, key(60)))
        await asyncio.sleep(0.3)
        assert not removal.done()
        await other.commit()
        assert await removal == 1
    assert await fetch(pool, STATE) == [(7, 4, at(0), at(240), 240.0, 0)]


@pytest.mark.usefixtures("recorder")
async def test_flags_are_set_and_cleared_and_the_change_is_told(pool: Pool) -> None:
    assert await flag(pool, key(60), key(180), set_=int(Flag.SPIKE | Flag.RANGE)) == 2
    assert await flag(pool, key(60), key(120), set_=int(Flag.SPATIAL), clear=int(Flag.SPIKE)) == 2
    assert await fetch(pool, OBSERVATIONS) == [
        (7, at(0), 0.0, 0),
        (7, at(60), 60.0, 9),
        (7, at(120), 120.0, 8),
        (7, at(180), 180.0, 5),
    ]
    assert await fetch(pool, STATE) == [(7, 4, at(0), at(180), 180.0, 5)]
    assert await fetch(pool, MARKS) == [(7, at(60)), (7, at(120)), (7, at(180))]
    assert await fetch(pool, CHANGES) == [
        ([7, 7], [at(60), at(180)], [60.0, 180.0], [5, 5], None),
        ([7, 7], [at(60), at(120)], [60.0, 120.0], [9, 8], None),
    ]
    assert await fetch(pool, "SELECT 1 FROM twin_revision") == [], "the value was not changed"


@pytest.mark.usefixtures("recorder")
async def test_flag_that_is_there_already_changes_nothing(pool: Pool) -> None:
    await flag(pool, key(60), set_=int(Flag.SPIKE))
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE twin_rollup_mark, twin_change")
    assert await flag(pool, key(60), set_=int(Flag.SPIKE)) == 0
    assert await flag(pool, key(120), clear=int(Flag.SPIKE)) == 0
    assert await flag(pool, key(61), set_=int(Flag.SPIKE)) == 0
    assert await flag(pool, set_=int(Flag.SPIKE)) == 0
    assert await fetch(pool, MARKS) == []
    assert await fetch(pool, CHANGES) == []


async def test_flag_of_a_text_tells_the_text(pool: Pool, recorder: Recorder) -> None:
    await recorder.record([Observation(1, 9, at(0), None, value="defekt")], publish=False)
    await flag(pool, key(0, series=9), set_=int(Flag.CONFIRMED))
    assert await fetch(pool, CHANGES) == [([9], [at(0)], [None], [64], ["defekt"])]


@pytest.mark.usefixtures("recorder")
async def test_range_of_flagged_readings_includes_its_ends(pool: Pool) -> None:
    await flag(pool, key(0), key(60), key(180), set_=int(Flag.PERSISTENCE))
    await flag(pool, key(120), set_=int(Flag.SPIKE))
    async with pool.connection() as connection:
        cursor = await connection.execute(correct.FLAG_RANGE, [1, 7, at(0), at(120), int(Flag.PERSISTENCE)])
        assert sorted(await cursor.fetchall()) == [key(0), key(60)]
        cursor = await connection.execute(correct.FLAG_RANGE, [1, 7, at(60), at(180), int(Flag.PERSISTENCE)])
        assert sorted(await cursor.fetchall()) == [key(60), key(180)]
