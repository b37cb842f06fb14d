"""Recording: what is acknowledged is there, exactly once, with state, marks and change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from quartier.engines.pools import Pool
from quartier.twin import record, rollups
from quartier.twin.record import Corrected, Observation, Recorder, RecordError

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def minutes(n: float) -> datetime:
    return NOON + timedelta(minutes=n)


@pytest.fixture
async def recorder(pool: Pool) -> AsyncIterator[Recorder]:
    recorder = Recorder(pool)
    await recorder.start()
    yield recorder
    await recorder.close()


async def fetch(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query)).fetchall()


OBSERVATIONS = "SELECT series_id, time, result, flags, origin, value FROM twin_observation ORDER BY 1, 2"
STATE = "SELECT series_id, n, first_time, time, result, flags, value FROM twin_state ORDER BY 1"


async def test_record_keeps_state_marks_and_change(pool: Pool, recorder: Recorder) -> None:
    rows = [
        Observation(1, 7, minutes(0), 20.5, 0, 100),
        Observation(1, 7, minutes(70), 21.25, 1, 101),
        Observation(1, 9, minutes(5), None, 0, None, {"text": "ä", "n": [1, 2]}),
    ]
    await recorder.record(rows)
    assert await fetch(pool, OBSERVATIONS) == [
        (7, minutes(0), 20.5, 0, 100, None),
        (7, minutes(70), 21.25, 1, 101, None),
        (9, minutes(5), None, 0, None, {"text": "ä", "n": [1, 2]}),
    ]
    assert await fetch(pool, STATE) == [
        (7, 2, minutes(0), minutes(70), 21.25, 1, None),
        (9, 1, minutes(5), minutes(5), None, 0, {"text": "ä", "n": [1, 2]}),
    ]
    assert await fetch(pool, "SELECT hour, series_ids FROM twin_rollup_mark ORDER BY 1") == [
        (minutes(0), [7, 9]),
        (minutes(60), [7]),
    ]
    assert await fetch(pool, "SELECT series_ids, times, results, flags, vals FROM twin_change") == [
        (
            [7, 7, 9],
            [minutes(0), minutes(70), minutes(5)],
            [20.5, 21.25, None],
            [0, 1, 0],
            [None, None, {"text": "ä", "n": [1, 2]}],
        )
    ]


async def test_record_again_changes_nothing(pool: Pool, recorder: Recorder) -> None:
    await recorder.record([Observation(1, 7, minutes(0), 20.5, 0, 100)])
    await recorder.record([Observation(1, 7, minutes(0), 99.0, 0, 101), Observation(1, 7, minutes(0), 98.0)])
    assert await fetch(pool, OBSERVATIONS) == [(7, minutes(0), 20.5, 0, 100, None)]
    assert await fetch(pool, STATE) == [(7, 1, minutes(0), minutes(0), 20.5, 0, None)]
    assert len(await fetch(pool, "SELECT 1 FROM twin_change")) == 1


async def test_late_observation_counts_but_is_not_the_newest(pool: Pool, recorder: Recorder) -> None:
    await recorder.record([Observation(1, 7, minutes(10), 2.0)])
    await recorder.record([Observation(1, 7, minutes(-10), 1.0)])
    assert await fetch(pool, STATE) == [(7, 2, minutes(-10), minutes(10), 2.0, 0, None)]


async def test_unpublished_history_leaves_no_change(pool: Pool, recorder: Recorder) -> None:
    await recorder.record([Observation(1, 7, minutes(0), 1.0)], publish=False)
    assert await fetch(pool, "SELECT 1 FROM twin_change") == []
    assert len(await fetch(pool, "SELECT 1 FROM twin_rollup_mark")) == 1


async def test_correct_keeps_the_old_value_and_what_people_said(pool: Pool, recorder: Recorder) -> None:
    await recorder.record(
        [
            Observation(1, 7, minutes(0), 1.0, 128, 100),  # dismissed by a steward
            Observation(1, 7, minutes(1), 2.0, 64, 101),  # confirmed, but the value changes below
            Observation(1, 7, minutes(2), 3.0, 0, 102),
        ]
    )
    counts = await recorder.correct(
        [
            Observation(1, 7, minutes(0), 1.0, 4, 100),
            Observation(1, 7, minutes(1), 20.0, 0, 101),
            Observation(1, 7, minutes(2), 3.0, 0, 102),
            Observation(1, 7, minutes(3), 4.0, 0, 103),
        ],
        reason="codec",
    )
    assert counts == Corrected(added=1, corrected=2)
    assert await fetch(pool, OBSERVATIONS) == [
        (7, minutes(0), 1.0, 4 | 128, 100, None),
        (7, minutes(1), 20.0, 0, 101, None),
        (7, minutes(2), 3.0, 0, 102, None),
        (7, minutes(3), 4.0, 0, 103, None),
    ]
    assert await fetch(pool, "SELECT time, result, flags, origin, reason FROM twin_revision ORDER BY 1") == [
        (minutes(0), 1.0, 128, 100, "codec"),
        (minutes(1), 2.0, 64, 101, "codec"),
    ]
    assert await fetch(pool, STATE) == [(7, 4, minutes(0), minutes(3), 4.0, 0, None)]


async def test_many_writers_are_committed_together(pool: Pool, recorder: Recorder) -> None:
    async def write(series_id: int) -> None:
        for n in range(20):
            await recorder.record([Observation(1, series_id, minutes(n), float(n))])

    await asyncio.gather(*(write(series_id) for series_id in range(1, 65)))
    assert await fetch(pool, "SELECT count(*), sum(result) FROM twin_observation") == [(1280, 64 * 190.0)]
    assert await fetch(pool, "SELECT sum(n), count(*) FROM twin_state") == [(1280, 64)]
    (changes,) = (await fetch(pool, "SELECT count(*) FROM twin_change"))[0]
    assert changes < 200, "writers that wait at the same time share a commit"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Observation(1, 7, NOON, float("nan")), "series 7: result nan is not a finite number"),
        (Observation(1, 7, NOON, float("inf")), "series 7: result inf is not a finite number"),
        (Observation(1, 7, NOON, -1e101), "series 7: result -1e+101 is too large"),
        (Observation(1, 7, NOON, None), "series 7: no result"),
        (
            Observation(1, 7, NOON.replace(tzinfo=None), 1.0),
            "series 7: time 2026-07-01 12:00:00 has no time zone",
        ),
        (
            Observation(1, 7, NOON.replace(year=1800), 1.0),
            "series 7: time 1800-07-01T12:00:00+00:00 is out of range",
        ),
    ],
)
async def test_bad_row_is_refused_and_named(
    pool: Pool, recorder: Recorder, row: Observation, message: str
) -> None:
    with pytest.raises(RecordError) as caught:
        await recorder.record([Observation(1, 8, NOON, 1.0), row])
    assert str(caught.value) == message
    assert await fetch(pool, OBSERVATIONS) == []


async def test_number_whose_square_is_no_number_does_not_stop_the_roll_ups(
    pool: Pool, recorder: Recorder
) -> None:
    """PostgreSQL fails where a product underflows; a wrong codec makes such numbers out of any bytes."""
    await recorder.record(
        [Observation(1, 7, minutes(n), result) for n, result in enumerate((1e-200, -5e-324, 1e-99, 1e100))]
    )
    assert await fetch(pool, "SELECT result FROM twin_observation ORDER BY time") == [
        (0.0,),
        (0.0,),
        (1e-99,),
        (1e100,),
    ]
    async with pool.connection() as connection:
        await rollups.refresh(connection)
    assert await fetch(pool, "SELECT n, min, max, sum_of_squares FROM twin_rollup_1h") == [
        (4, 0.0, 1e100, pytest.approx(1e200))
    ]


async def test_bad_caller_does_not_hurt_its_neighbours(pool: Pool, recorder: Recorder) -> None:
    """A number that does not fit its column passes our checks and fails in the store, in a shared commit."""
    bad = Observation(1, 7, NOON, None, 0, None, {"x": "\u0000"})  # jsonb holds no NUL
    results = await asyncio.gather(
        recorder.record([Observation(1, 1, NOON, 1.0)]),
        recorder.record([bad]),
        recorder.record([Observation(1, 2, NOON, 2.0)]),
        return_exceptions=True,
    )
    assert [type(r).__name__ for r in results] == ["bool", "RecordError", "bool"]
    assert [row[0] for row in await fetch(pool, OBSERVATIONS)] == [1, 2]


async def test_lost_connections_are_waited_out(pool: Pool, recorder: Recorder, store: str) -> None:
    """Every connection of the pool is cut while writers wait; nothing acknowledged is lost or doubled."""

    async def cut() -> None:
        for _ in range(5):
            await asyncio.sleep(0.05)
            async with await psycopg.AsyncConnection.connect(store, autocommit=True) as other:
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'quartier' AND pid <> pg_backend_pid()"
                )

    async def write(series_id: int) -> None:
        for n in range(60):
            await recorder.record([Observation(1, series_id, minutes(n), float(n))])

    await asyncio.gather(cut(), *(write(series_id) for series_id in range(1, 9)))
    assert await fetch(pool, "SELECT count(*) FROM twin_observation") == [(480,)]
    assert await fetch(pool, "SELECT DISTINCT n FROM twin_state") == [(60,)]


async def test_history_finds_or_makes_its_partitions(pool: Pool, recorder: Recorder) -> None:
    times = [datetime(2019, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)]
    await recorder.record([Observation(1, 7, time, 1.0) for time in times])
    names = await fetch(
        pool,
        "SELECT tableoid::regclass::text, time FROM twin_observation ORDER BY time",
    )
    assert names == [("twin_observation_2019_12", times[0]), ("twin_observation_2020_01", times[1])]
    assert (await fetch(pool, "SELECT time, n FROM twin_state")) == [(times[1], 2)]


async def test_whoever_records_is_told_whether_all_was_new(recorder: Recorder) -> None:
    row = Observation(1, 1, NOON, 1.0)
    assert await recorder.record([row]) is True
    assert await recorder.record([row, Observation(1, 2, NOON, 1.0)]) is False


async def test_correction_in_a_transaction_that_is_given_up(pool: Pool, recorder: Recorder) -> None:
    old = Observation(1, 1, NOON, 1.0)
    await recorder.record([old])
    rows = [old._replace(result=2.0), Observation(1, 1, NOON.replace(year=1999), 3.0)]
    async with pool.connection() as connection, connection.transaction() as transaction:
        assert await recorder.correct_within(connection, rows, reason="test") == (1, 1)
        raise psycopg.Rollback(transaction)
    assert [row[0] for row in await fetch(pool, "SELECT result FROM twin_observation")] == [1.0]
    async with pool.connection() as connection, connection.transaction():
        await recorder.correct_within(connection, rows, reason="test")
    assert [r[0] for r in await fetch(pool, "SELECT result FROM twin_observation ORDER BY time")] == [
        3.0,
        2.0,
    ]
    assert [row[0] for row in await fetch(pool, "SELECT result FROM twin_revision")] == [1.0]


def _content(pool: Pool, municipality: int) -> Any:
    tables = (
        "SELECT series_id, time, result, flags, origin, value, details FROM twin_observation WHERE municipality_id = {}"
        " ORDER BY 1, 2",
        "SELECT series_id, n, first_time, time, result, flags, value FROM twin_state WHERE municipality_id = {}"
        " ORDER BY 1",
        "SELECT DISTINCT hour, s FROM twin_rollup_mark, unnest(series_ids) AS s WHERE municipality_id = {}"
        " ORDER BY 1, 2",
    )
    return asyncio.gather(*(fetch(pool, table.format(municipality)) for table in tables))


CHANGES = "SELECT series_ids, times, results, flags, vals FROM twin_change ORDER BY xid, position"


async def test_rows_that_are_new_or_not_are_written_alike_by_both_statements(
    pool: Pool, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the quick statement does for new rows is what the careful one does."""
    chance = random.Random(7)  # noqa: S311
    batches = [
        [
            (
                chance.randrange(1, 6),
                minutes(chance.randrange(0, 40 * (n + 1))),
                *(
                    (None, {"n": chance.random()})
                    if chance.random() < 0.1
                    else (float(chance.randrange(9)), None)
                ),
                chance.choice((None, None, {"parameters": {"n": 1}}, {})),
            )
            for _ in range(chance.choice((1, 2, 30)))
        ]
        for n in range(60)
    ]

    async def write(writer: Recorder, municipality: int) -> tuple[list[Any], list[Any]]:
        known = [
            await writer.record(
                [
                    Observation(municipality, series, time, result, 0, n, value, details)
                    for series, time, result, value, details in batch
                ]
            )
            for n, batch in enumerate(batches)
        ]
        return known, await _content(pool, municipality)

    quick = await write(recorder, 1)
    changes = await fetch(pool, CHANGES)
    monkeypatch.setattr(record._Optimism, "try_it", lambda _: False)
    assert await write(recorder, 2) == quick
    assert (await fetch(pool, CHANGES))[len(changes) :] == changes
    assert set(quick[0]) == {True, False}


async def test_the_quick_statement_is_left_alone_for_ever_longer_where_rows_are_known() -> None:
    optimism = record._Optimism()
    tried = []
    for _ in range(200):
        if optimism.try_it():
            tried.append(True)
            optimism.note(failed=True)
        else:
            tried.append(False)
    assert [n for n, one in enumerate(tried) if one] == [0, 33, 98]
    while not optimism.try_it():
        pass
    optimism.note(failed=False)
    assert optimism.try_it()
