"""Pools of PostgreSQL connections for the asynchronous side (machine interfaces, intake, worker).

Django keeps its own pool for the pages. Every connection says who it is (``application_name``), speaks UTC,
and gives up a statement that runs too long, so that one bad query cannot hold a connection for ever.
"""

from __future__ import annotations

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.config import config

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]


def async_pool(
    url: str | None = None,
    *,
    min_size: int = 1,
    max_size: int = 8,
    name: str = "quartier",
    statement_timeout_ms: int = 30_000,
    acquire_timeout_s: float = 10,
) -> Pool:
    """A pool that is not open yet: ``async with async_pool() as pool:`` opens and closes it.

    ``url`` defaults to the installation's database. A connection is checked before it is handed out, so that
    a restart of PostgreSQL costs its users nothing but time. Getting one raises psycopg_pool.PoolTimeout
    after ``acquire_timeout_s``.
    """
    return AsyncConnectionPool(
        url or config().postgres_url,
        connection_class=AsyncConnection[TupleRow],
        kwargs={
            "autocommit": True,
            "application_name": name,
            "connect_timeout": 5,
            "options": f"-c timezone=UTC -c statement_timeout={statement_timeout_ms}",
        },
        min_size=min_size,
        max_size=max_size,
        timeout=acquire_timeout_s,
        # Attempts follow each other ever more slowly until this time is over, then the next caller begins
        # anew. A short time therefore means that a server which comes back after an hour is noticed within
        # seconds, too.
        reconnect_timeout=8,
        # A connection keeps plans and catalogues, some ten megabytes. Of those that a rush opened, one is closed each
        # time this is over.
        max_idle=20,
        check=AsyncConnectionPool.check_connection,
        open=False,
        name=name,
    )
