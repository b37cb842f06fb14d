"""The asynchronous pool: what its connections are set to, and that a restart of PostgreSQL is survived."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from quartier.engines import postgres
from quartier.engines.pools import async_pool
from tests.patience import patient


async def test_connections_are_set_up() -> None:
    async with async_pool(name="test", statement_timeout_ms=200) as pool, pool.connection() as connection:
        row = await (
            await connection.execute(
                "SELECT current_setting('timezone'), current_setting('statement_timeout'),"
                " current_setting('application_name')"
            )
        ).fetchone()
        assert row == ("UTC", "200ms", "test")
        assert connection.autocommit
        with pytest.raises(psycopg.errors.QueryCanceled):
            await connection.execute("SELECT pg_sleep(5)")


async def test_exhausted_pool_says_so() -> None:
    async with async_pool(max_size=1, acquire_timeout_s=0.2) as pool, pool.connection():
        with pytest.raises(PoolTimeout):
            async with pool.connection():
                pass


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="quartier-pools-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def test_killed_server_that_comes_back(folder: Path) -> None:
    server = postgres.start(folder, durable=False)
    try:
        async with async_pool(server.url(), min_size=2) as pool:

            async def ask() -> object:
                async with pool.connection() as connection:
                    return await (await connection.execute("SELECT 1")).fetchone()

            assert await ask() == (1,)
            assert server.process is not None
            server.process.kill()
            server.process.wait()
            # Backends live for a moment longer than their postmaster; a statement may still begin and break off.
            await asyncio.to_thread(postgres._wait_for_end, postgres._children(server.cluster), 5)
            waiting = [asyncio.create_task(ask()) for _ in range(5)]
            await asyncio.sleep(1)
            server = await asyncio.to_thread(postgres.start, folder, durable=False)
            begin = time.monotonic()
            assert await asyncio.gather(*waiting) == [(1,)] * 5
            assert time.monotonic() - begin < patient(6)
    finally:
        server.stop()
        shutil.rmtree(server.sockets, ignore_errors=True)
