"""Counters made durable, many sessions per commit.

A frame moves its session's counters in memory and then waits here. One writer takes every session that waits, writes
what its counters are at that moment by compare-and-set, and lets the waiting frames go on after the commit. So no
counter is used, acknowledged or passed on before PostgreSQL has it, and a second process on the same devices loses
against the first instead of counting beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.engines.pools import Pool
from quartier.lorawan import metrics
from quartier.lorawan.sessions import Session

log = structlog.get_logger(__name__)

_BATCH = 500

# Own values count as the old ones, too: a commit whose answer was lost is repeated and finds itself.
_SAVE = """
UPDATE lorawan_session s SET
    uplink_counter = v.up, network_downlink_counter = v.nd, application_downlink_counter = v.ad,
    delivered_counter = v.delivered, writer = %(me)s,
    gateway = v.gateway, peer = v.peer, last_uplink_at = v.seen, mac = coalesce(v.mac::jsonb, s.mac)
FROM unnest(%(id)s::bigint[], %(up)s::bigint[], %(nd)s::bigint[], %(ad)s::bigint[], %(old_up)s::bigint[],
            %(old_nd)s::bigint[], %(old_ad)s::bigint[], %(delivered)s::bigint[], %(gateway)s::bytea[],
            %(peer)s::text[], %(seen)s::timestamptz[], %(mac)s::text[])
     AS v(id, up, nd, ad, old_up, old_nd, old_ad, delivered, gateway, peer, seen, mac)
WHERE s.id = v.id
  AND ((s.uplink_counter, s.network_downlink_counter, s.application_downlink_counter) = (v.old_up, v.old_nd, v.old_ad)
       OR s.writer = %(me)s AND (s.uplink_counter, s.network_downlink_counter, s.application_downlink_counter)
                                = (v.up, v.nd, v.ad))
RETURNING s.id
"""

# The first uplink of a new session ends the one before.
_END_OLD = """
DELETE FROM lorawan_session old USING lorawan_session new
WHERE new.id = ANY(%(id)s) AND new.pending AND old.device_id = new.device_id AND NOT old.pending
"""
_ACTIVATE = """
WITH begun AS (UPDATE lorawan_session SET pending = false WHERE id = ANY(%(id)s) AND pending RETURNING device_id)
UPDATE lorawan_joinstate SET rejoin_counter_0 = -1 WHERE device_id IN (SELECT device_id FROM begun)
"""

_SENDING = """
UPDATE lorawan_downlink d SET state = 'sending', attempts = d.attempts + 1, downlink_counter = v.counter
FROM unnest(%(id)s::bigint[], %(counter)s::bigint[]) AS v(id, counter)
WHERE d.id = v.id AND d.state IN ('queued', 'sending', 'sent')
RETURNING d.id
"""


class Lost(Exception):
    """Another process has counted this session on, or ended it: the frame is not ours."""


@dataclass(slots=True)
class _Save:
    session: Session
    done: asyncio.Future[None]
    activate: bool = False
    # Downlink queue items that go out with a counter of this commit.
    items: list[tuple[int, int]] = field(default_factory=list)


class Counters:
    """The writer of one process."""

    def __init__(self, pool: Pool, *, me: int, retry_s: float = 0.3) -> None:
        self._pool = pool
        self._me = me
        self._retry_s = retry_s
        self._waiting: dict[int, _Save] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.refused_items: set[int] = set()

    async def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write(), name="lorawan counters")

    async def close(self) -> None:
        """Write what waits, then stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def waiting(self) -> int:
        """Sessions whose counters are not durable yet."""
        return len(self._waiting)

    async def save(
        self, session: Session, *, activate: bool = False, item: tuple[int, int] | None = None
    ) -> None:
        """Return when the counters of ``session``, as they are now, are durable.

        ``item`` is a downlink (id, counter) that uses one of them. Waits while PostgreSQL is away. Raises Lost.
        """
        waiting = self._waiting.get(session.id)
        if waiting is None:
            waiting = _Save(session, asyncio.get_running_loop().create_future())
            self._waiting[session.id] = waiting
            self._wake.set()
        waiting.activate = waiting.activate or activate
        if item is not None:
            waiting.items.append(item)
        # Several frames may wait for one commit, and each may be given up without the others.
        await asyncio.shield(waiting.done)

    async def _write(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            keys = list(self._waiting)[:_BATCH]
            batch = [self._waiting.pop(key) for key in keys]
            await self._commit(batch)

    async def _commit(self, batch: Sequence[_Save]) -> None:
        written = [(save.session.counters, save.session.delivered) for save in batch]
        parameters = self._parameters(batch)
        while True:
            try:
                with metrics.COMMIT_SECONDS.time():
                    async with self._pool.connection() as connection:
                        saved = await self._execute(connection, batch, parameters)
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                log.warning("lorawan.counters_retry", error=str(error).strip(), sessions=len(batch))
                if self._closing:
                    for save in batch:
                        save.done.cancel()
                    return
                await asyncio.sleep(self._retry_s)
            except Exception as error:
                log.exception("lorawan.counters_failed")
                for save in batch:
                    save.done.set_exception(error)
                    save.done.exception()  # whoever gave up waiting is not a fault
                return
            else:
                break
        for save, (counters, _) in zip(batch, written, strict=True):
            if save.session.id in saved:
                save.session.saved = counters
                save.done.set_result(None)
            else:
                metrics.LOST.inc()
                save.done.set_exception(Lost(f"session {save.session.id}"))
                save.done.exception()

    def _parameters(self, batch: Sequence[_Save]) -> dict[str, Any]:
        sessions = [save.session for save in batch]
        macs = [session.mac_json() if session.mac_changed else None for session in sessions]
        for session in sessions:
            session.mac_changed = False
        return {
            "me": self._me,
            "id": [s.id for s in sessions],
            "up": [s.up for s in sessions],
            "nd": [s.network_down for s in sessions],
            "ad": [s.application_down for s in sessions],
            "old_up": [s.saved[0] for s in sessions],
            "old_nd": [s.saved[1] for s in sessions],
            "old_ad": [s.saved[2] for s in sessions],
            "delivered": [s.delivered for s in sessions],
            "gateway": [s.gateway for s in sessions],
            "peer": [s.peer for s in sessions],
            "seen": [s.seen_at for s in sessions],
            "mac": macs,
        }

    async def _execute(
        self, connection: AsyncConnection[TupleRow], batch: Sequence[_Save], parameters: dict[str, Any]
    ) -> set[int]:
        activated = [save.session.id for save in batch if save.activate]
        items = [item for save in batch for item in save.items]
        if not activated and not items:
            cursor = await connection.execute(_SAVE, parameters, prepare=True)
            return {row[0] for row in await cursor.fetchall()}
        async with connection.transaction():
            if activated:
                await connection.execute(_END_OLD, {"id": activated})
                await connection.execute(_ACTIVATE, {"id": activated})
            cursor = await connection.execute(_SAVE, parameters, prepare=True)
            saved = {row[0] for row in await cursor.fetchall()}
            if items:
                cursor = await connection.execute(
                    _SENDING, {"id": [i for i, _ in items], "counter": [c for _, c in items]}
                )
                # Withdrawn a moment ago: the counter is used up, but nothing is sent with it.
                self.refused_items |= {i for i, _ in items} - {row[0] for row in await cursor.fetchall()}
        return saved
