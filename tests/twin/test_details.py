"""What a sender says besides time and result is kept with the observation, and with what a correction replaced."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.engines.pools import Pool
from quartier.twin import correct
from quartier.twin.record import Corrected, Observation, Recorder, RecordError

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
NOW, REVISED = ("SELECT result, details FROM twin_observation", "SELECT result, details FROM twin_revision")


async def _fetch(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query + " ORDER BY result")).fetchall()


async def test_details_are_kept_corrected_and_revised(pool: Pool) -> None:
    def row(result: float, details: Any) -> Observation:
        return Observation(1, 7, NOON, result, details=details)

    recorder = Recorder(pool)
    await recorder.start()
    await recorder.record([row(1.0, {"resultTime": "x"}), Observation(1, 8, NOON, 9.0)])
    assert await _fetch(pool, NOW) == [(1.0, {"resultTime": "x"}), (9.0, None)]
    # A correction that says nothing of them leaves them.
    assert await recorder.correct([row(2.0, None)], reason="r") == Corrected(0, 1)
    assert await _fetch(pool, NOW) == [(2.0, {"resultTime": "x"}), (9.0, None)]
    # The same result with other details is a correction, too, and an empty object takes them away.
    assert await recorder.correct([row(2.0, {"resultTime": "y"})], reason="r") == Corrected(0, 1)
    assert await recorder.correct([row(2.0, {"resultTime": "y"})], reason="r") == Corrected(0, 0)
    assert await recorder.correct([row(2.0, {})], reason="r") == Corrected(0, 1)
    assert await _fetch(pool, NOW) == [(2.0, None), (9.0, None)]
    revised = await _fetch(pool, REVISED)
    assert sorted((result, details["resultTime"]) for result, details in revised) == [
        (1.0, "x"),
        (2.0, "x"),
        (2.0, "y"),
    ]
    await recorder.record([Observation(1, 10, NOON, 5.0, details={"parameters": {"a": 1}})])
    async with pool.connection() as connection:
        await correct.remove(connection, [(1, 10, NOON)], reason="r")
    assert (await _fetch(pool, REVISED))[-1] == (5.0, {"parameters": {"a": 1}})
    await recorder.close()


@pytest.mark.parametrize(
    ("details", "message"),
    [({"a": float("nan")}, "the details is no JSON"), ({"a": "x" * 70_000}, "the details has 70009 bytes")],
)
async def test_details_that_cannot_be_kept(pool: Pool, details: Any, message: str) -> None:
    recorder = Recorder(pool)
    await recorder.start()
    with pytest.raises(RecordError, match=f"series 7: {message}"):
        await recorder.record([Observation(1, 7, NOON, 1.0, details=details)])
    await recorder.close()
