"""One radio process per municipality, decided by PostgreSQL.

A second one on the same devices would lose most of its counters against the first, and would take downlinks that the
first is sending for those of a process that died. So whoever comes later waits, and takes over when the connection of
the first is gone. A process without a list of municipalities serves all, beside which there is room for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final
from zlib import crc32

import psycopg
import structlog

from quartier.engines.pools import Pool

log = structlog.get_logger(__name__)

_LOCK: Final = 0x5175_0007
_ALL: Final = 0
_LOOK_S: Final = 1.0
_AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)


class TakenOver(RuntimeError):
    """The database was away, and another process has our municipalities since."""


class Alone:
    """The right to be the radio of ``municipalities`` (of all, if empty), as long as one connection lasts."""

    def __init__(self, pool: Pool, municipalities: Collection[str] = (), *, check_s: float = 5.0) -> None:
        self._pool = pool
        self._check_s = check_s
        self._whose = sorted(municipalities)
        self._held = contextlib.AsyncExitStack()
        self._connection: psycopg.AsyncConnection[psycopg.rows.TupleRow] | None = None

    @property
    def held(self) -> bool:
        """Whether the right is ours, as far as we know."""
        return self._connection is not None

    async def wait(self, stop: asyncio.Event) -> bool:
        """Return when the right is ours; False if ``stop`` came first."""
        told = False
        while not stop.is_set():
            try:
                if await self._take():
                    return True
            except _AWAY as error:
                log.warning("radio.store_away", error=str(error).strip() or type(error).__name__)
            else:
                if not told:
                    log.warning("radio.waits_for_another_process", municipalities=self._whose or "all")
                    told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_S)
        return False

    async def keep(self, stop: asyncio.Event) -> None:
        """Watch over the right until ``stop``, and take it again after the database was away. Raises TakenOver."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._check_s)
                return
            try:
                if self._connection is not None:
                    await self._connection.execute("SELECT 1")
                elif not await self._take():
                    raise TakenOver(f"another process is the radio of {', '.join(self._whose) or 'all'} now")
            except _AWAY as error:
                log.warning("radio.store_away", error=str(error).strip() or type(error).__name__)
                await self.release()

    async def release(self) -> None:
        """Give the right back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*_AWAY):
                await connection.execute("SELECT pg_advisory_unlock_all()")
        with contextlib.suppress(*_AWAY):
            await self._held.aclose()

    async def _take(self) -> bool:
        connection = await self._held.enter_async_context(self._pool.connection())
        try:
            taken = await self._try(connection)
        except BaseException:
            await self._held.aclose()
            raise
        self._connection = connection
        if not taken:
            await self.release()
        return taken

    async def _try(self, connection: psycopg.AsyncConnection[psycopg.rows.TupleRow]) -> bool:
        # Who serves some shares the lock of all, so that they exclude only who serves all, and each other by name.
        shared = "_shared" if self._whose else ""
        steps = [(f"SELECT pg_try_advisory_lock{shared}(%s::int, %s::int)", _ALL)]
        steps += [("SELECT pg_try_advisory_lock(%s::int, %s::int)", _number(slug)) for slug in self._whose]
        for statement, number in steps:
            row = await (await connection.execute(statement, [_LOCK, number])).fetchone()
            if row is None or not row[0]:
                return False
        return True


def _number(slug: str) -> int:
    """A municipality as the second half of a lock; by name, because it may be registered later."""
    return crc32(slug.encode()) >> 1 or 1
