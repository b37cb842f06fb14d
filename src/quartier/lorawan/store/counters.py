"""Counters made durable, many sessions per commit.

A frame moves its session's counters in memory and then waits here. One writer takes every session that waits, writes
what its counters are at that moment by compare-and-set, and lets the waiting frames go on after the commit. So no
counter is used, acknowledged or passed on before PostgreSQL has it, and a second process on the same devices loses
against the first instead of counting beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.engines.pools import Pool
from quartier.lorawan import metrics
from quartier.lorawan.sessions import Session

log = structlog.get_logger(__name__)

_BATCH = 500
# Frames whose windows close at almost the same time share a commit; a device waits a second for its answer.
_GATHER_S = 0.005
_IDLE_S = 60.0

# Own values count as the old ones, too: a commit whose answer was lost is repeated and finds itself.
_SAVE = """
UPDATE lorawan_session s SET
    uplink_counter = v.up, network_downlink_counter = v.nd, application_downlink_counter = v.ad,
    delivered_counter = v.delivered, writer = %(me)s,
    gateway = decode(v.gateway, 'hex'), peer = v.peer, last_uplink_at = v.seen, mac = coalesce(v.mac, s.mac),
    others = coalesce(v.others, s.others)
FROM json_to_recordset(%(rows)s::text::json)
     AS v(id bigint, up bigint, nd bigint, ad bigint, old_up bigint, old_nd bigint, old_ad bigint, delivered bigint,
          gateway text, peer text, seen timestamptz, mac jsonb, others jsonb)
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


class _Row(msgspec.Struct, gc=False):
    """A session as it goes to PostgreSQL; as JSON, which costs a fraction of a dozen arrays."""

    id: int
    up: int
    nd: int
    ad: int
    old_up: int
    old_nd: int
    old_ad: int
    delivered: int
    gateway: str | None
    peer: str
    seen: datetime | None
    mac: msgspec.Raw | None
    others: list[tuple[str, str]] | None


_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class _Save:
    session: Session
    # Each frame that waits has its own: it may be given up without the others.
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    activate: bool = False
    # Downlink queue items that go out with a counter of this commit.
    items: list[tuple[int, int]] = field(default_factory=list)

    def saved(self) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(None)

    def failed(self, error: BaseException) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)

    def given_up(self) -> None:
        for future in self.waiting:
            future.cancel()


class Counters:
    """The writer of one process. It keeps its connection while there is something to write."""

    def __init__(self, pool: Pool, *, me: int, retry_s: float = 0.3) -> None:
        self._pool = pool
        self._me = me
        self._retry_s = retry_s
        self._waiting: dict[int, _Save] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._held = contextlib.AsyncExitStack()
        self._connection: AsyncConnection[TupleRow] | None = None
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
            waiting = self._waiting[session.id] = _Save(session)
            self._wake.set()
        waiting.activate = waiting.activate or activate
        if item is not None:
            waiting.items.append(item)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.waiting.append(future)
        await future

    async def _write(self) -> None:
        try:
            while True:
                if not self._waiting:
                    if self._closing:
                        return
                    self._wake.clear()
                    await self._idle()
                    continue
                if not self._closing:
                    await asyncio.sleep(_GATHER_S)
                keys = list(itertools.islice(self._waiting, _BATCH))
                await self._commit([self._waiting.pop(key) for key in keys])
        finally:
            await self._disconnect()

    async def _idle(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), _IDLE_S)
        except TimeoutError:
            await self._disconnect()
            await self._wake.wait()

    async def _connected(self) -> AsyncConnection[TupleRow]:
        if self._connection is None:
            self._connection = await self._held.enter_async_context(self._pool.connection())
        return self._connection

    async def _disconnect(self) -> None:
        self._connection = None
        with contextlib.suppress(psycopg.Error):
            await self._held.aclose()

    async def _commit(self, batch: Sequence[_Save]) -> None:
        written = [(save.session.counters, save.session.delivered) for save in batch]
        rows = self._rows(batch)
        while True:
            try:
                with metrics.COMMIT_SECONDS.time():
                    saved = await self._execute(await self._connected(), batch, rows)
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                log.warning("lorawan.counters_retry", error=str(error).strip(), sessions=len(batch))
                await self._disconnect()
                if self._closing:
                    for save in batch:
                        save.given_up()
                    return
                await asyncio.sleep(self._retry_s)
            except Exception as error:
                log.exception("lorawan.counters_failed")
                await self._disconnect()
                for save in batch:
                    save.failed(error)
                return
            else:
                break
        for save, (counters, _) in zip(batch, written, strict=True):
            if save.session.id in saved:
                save.session.saved = counters
                save.saved()
            else:
                metrics.LOST.inc()
                save.failed(Lost(f"session {save.session.id}"))

    @staticmethod
    def _rows(batch: Sequence[_Save]) -> str:
        rows: list[_Row] = []
        for save in batch:
            s = save.session
            mac = msgspec.Raw(s.mac_json().encode()) if s.mac_changed else None
            others = [(eui.hex(), peer) for eui, peer in s.others] if s.others_changed else None
            s.mac_changed = s.others_changed = False
            gateway = s.gateway.hex() if s.gateway is not None else None
            rows.append(
                _Row(s.id, *s.counters, *s.saved, s.delivered, gateway, s.peer, s.seen_at, mac, others)
            )
        return _encoder.encode(rows).decode()

    async def _execute(
        self, connection: AsyncConnection[TupleRow], batch: Sequence[_Save], rows: str
    ) -> set[int]:
        parameters = {"me": self._me, "rows": rows}
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
