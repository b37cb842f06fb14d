"""One process at a time: who holds the lock works, and the next takes over."""

from __future__ import annotations

import psycopg
import pytest

from quartier.engines.pools import Pool
from quartier.twin.alone import alone

LOCK = 4711


async def test_lock_is_held_by_one_and_freed_at_the_end(pool: Pool) -> None:
    async with alone(pool, LOCK) as first:
        assert first is not None
        async with alone(pool, LOCK) as second, alone(pool, LOCK + 1) as other:
            assert second is None
            assert other is not None, "another work"
    async with alone(pool, LOCK) as third:
        assert third is not None


async def test_lock_is_freed_when_the_work_fails(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError):
        async with alone(pool, LOCK):
            raise ZeroDivisionError
    async with alone(pool, LOCK) as connection:
        assert connection is not None


async def test_who_loses_his_connection_loses_the_lock_and_hears_of_it(pool: Pool) -> None:
    async def lose() -> None:
        async with alone(pool, LOCK) as first:
            assert first is not None
            async with pool.connection() as other:
                # With a time to wait: the lock is free when the backend is gone, not when it is told to go.
                await other.execute("SELECT pg_terminate_backend(%s, 10000)", [first.info.backend_pid])
            async with alone(pool, LOCK) as second:
                assert second is not None
                await first.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        await lose()
    async with alone(pool, LOCK) as third:
        assert third is not None
