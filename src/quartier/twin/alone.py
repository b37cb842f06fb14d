"""Work that one process of the installation does at a time.

Roles may run any number of times; where two would undo each other's work, an advisory lock of PostgreSQL decides
who works, and the next takes over when the connection of the first is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]


@contextlib.asynccontextmanager
async def alone(pool: Pool, lock: int) -> AsyncIterator[AsyncConnection[TupleRow] | None]:
    """The connection that holds ``lock``, or None where another process has it.

    The lock lasts as long as the connection: long work asks it now and then (``SELECT 1``), and ends if it fails.
    """
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", [lock])
        row = await cursor.fetchone()
        if row is None or not row[0]:
            yield None
            return
        try:
            yield connection
        finally:
            with contextlib.suppress(psycopg.Error):
                await connection.execute("SELECT pg_advisory_unlock(%s)", [lock])
