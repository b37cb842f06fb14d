"""The right to be the radio of a municipality: who gets it beside whom, and what becomes of it with its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from quartier.engines.pools import Pool, async_pool
from quartier.lorawan.alone import Alone, TakenOver
from tests.lorawan.network.scene import until
from tests.patience import patient

_END = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"


@pytest.fixture
async def pool(store: str) -> AsyncIterator[Pool]:
    async with async_pool(store, name="alone", min_size=0) as made:
        yield made


async def _gets(one: Alone) -> bool:
    """Whether the right is free, asked once."""
    with capture_logs() as logs:
        stop = asyncio.Event()
        waiting = asyncio.create_task(one.wait(stop))
        await until(lambda: waiting.done() or logs)
        stop.set()
        return await waiting


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ([], [], False),
        ([], ["dortmund"], False),
        (["dortmund"], [], False),
        (["dortmund"], ["dortmund"], False),
        (["dortmund"], ["schwerte"], True),
        (["dortmund", "hagen"], ["schwerte", "dortmund"], False),
        (["dortmund", "hagen"], ["schwerte", "unna"], True),
    ],
)
async def test_who_may_work_beside_whom(
    pool: Pool, first: list[str], second: list[str], *, both: bool
) -> None:
    one, other = Alone(pool, first), Alone(pool, second)
    assert await _gets(one)
    assert await _gets(other) is both
    await other.release()
    await one.release()
    # Nothing is left behind, not even of the attempt that failed.
    assert await _gets(other)
    await other.release()


async def test_the_next_takes_over_when_the_first_is_gone(pool: Pool) -> None:
    one, other = Alone(pool, ["dortmund"]), Alone(pool, ["dortmund"])
    assert await one.wait(asyncio.Event())
    with capture_logs() as logs:
        waiting = asyncio.create_task(other.wait(asyncio.Event()))
        await until(lambda: logs)
        await one.release()
        async with asyncio.timeout(patient(10)):
            assert await waiting
    assert [(line["event"], line["municipalities"]) for line in logs] == [
        ("radio.waits_for_another_process", ["dortmund"])
    ]
    await other.release()


async def test_the_right_is_taken_again_after_the_database_was_away(pool: Pool) -> None:
    stop = asyncio.Event()
    one = Alone(pool, check_s=0.05)
    assert await one.wait(stop)
    keeping = asyncio.create_task(one.keep(stop))
    with capture_logs() as logs:
        await _end(pool)
        await until(lambda: logs)
    await until(lambda: one.held)
    assert not await _gets(Alone(pool))
    stop.set()
    await keeping
    await one.release()


async def test_it_ends_where_another_went_on_meanwhile(pool: Pool) -> None:
    one, other = Alone(pool, ["dortmund"], check_s=0.2), Alone(pool, ["dortmund"])
    assert await one.wait(asyncio.Event())
    keeping = asyncio.create_task(one.keep(asyncio.Event()))
    await _end(pool)
    assert await other.wait(asyncio.Event())
    with pytest.raises(TakenOver, match="another process is the radio of dortmund now"):
        async with asyncio.timeout(patient(10)):
            await keeping
    await one.release()
    await other.release()


async def _end(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute(_END)
