"""Carrying tasks out: accepted ones are handed to the downlinks that reach their device, and what became of it noted.

States are ``accepted``, then ``sent``, or ``failed`` with the reason; each with its time. A device that cannot be
reached now is tried again for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.tasking.downlinks import Later, Order, Undeliverable, Ways
from quartier.twin.publish import iso

log = structlog.get_logger(__name__)

_EVERY_S: Final = 1.0
_SEND_S: Final = 30.0
_TRIED_FOR: Final = timedelta(days=1)
_AT_ONCE: Final = 20
_WAITING: Final = "accepted"

# The device is the Actuator's, or the one whose external id its properties name, in the same municipality.
_NEXT: Final = (
    "SELECT t.id, t.tasking_parameters, t.creation_time, t.states, t.state_detail, m.slug, d.source_key,"
    " d.external_id, a.metadata"
    " FROM sensorthings_task t JOIN sensorthings_taskingcapability c ON c.id = t.capability_id"
    " JOIN sensorthings_actuator a ON a.id = c.actuator_id JOIN cities_municipality m ON m.id = c.municipality_id"
    " LEFT JOIN LATERAL (SELECT x.source_key, x.external_id FROM twin_device x WHERE x.id = a.device_id"
    " OR (a.device_id IS NULL AND x.municipality_id = c.municipality_id AND x.external_id = a.properties->>'device')"
    " ORDER BY x.id LIMIT 1) d ON true"
    " WHERE t.state = %s AND t.id > %s ORDER BY t.id LIMIT %s FOR UPDATE OF t SKIP LOCKED"
)


class _Task(NamedTuple):
    id: int
    parameters: dict[str, Any]
    given_at: datetime
    states: list[dict[str, Any]]
    detail: str
    municipality: str
    source: str | None
    device: str | None
    metadata: Any


class Carrier:
    """Carries tasks out; any number of processes may."""

    def __init__(self, pool: Pool, ways: Ways) -> None:
        self._pool = pool
        self._ways = ways

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""
        while not stop.is_set():
            try:
                await self.turn()
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("tasking.retry", error=str(error).strip() or type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _EVERY_S)

    async def turn(self, *, now: datetime | None = None) -> int:
        """Try every accepted task once; returns how many are not waiting any more."""
        done, after = 0, 0
        while True:
            # A task is locked while it is handed over, so that no other process does the same.
            async with self._pool.connection() as connection, connection.transaction():
                cursor = await connection.execute(_NEXT, [_WAITING, after, _AT_ONCE])
                tasks = [_Task(*row) for row in await cursor.fetchall()]
                if not tasks:
                    return done
                after = tasks[-1].id
                for task in tasks:
                    done += await self._carry(connection, task, now or datetime.now(UTC))

    async def _carry(self, connection: AsyncConnection[TupleRow], task: _Task, now: datetime) -> bool:
        try:
            state, detail = "sent", await self._send(task)
        except Undeliverable as error:
            state, detail = "failed", str(error)
        except (Later, TimeoutError) as error:
            detail = str(error) or "the device cannot be reached at the moment"
            if now - task.given_at < _TRIED_FOR:
                if detail != task.detail:
                    await self._note(connection, task, _WAITING, detail, now)
                return False
            state = "failed"
        await self._note(connection, task, state, detail, now)
        return True

    async def _send(self, task: _Task) -> str:
        if task.source is None or task.device is None:
            raise Undeliverable("the Actuator names no device")
        way = self._ways.to(task.source)
        if way is None:
            raise Undeliverable(f"devices of {task.source} cannot be told anything")
        order = Order(
            task.id,
            task.municipality,
            task.source,
            task.device,
            task.parameters,
            task.metadata,
            task.given_at,
        )
        async with asyncio.timeout(_SEND_S):
            return await way.send(order)

    async def _note(
        self, connection: AsyncConnection[TupleRow], task: _Task, state: str, detail: str, now: datetime
    ) -> None:
        states = [*task.states[-99:], {"state": state, "time": iso(now), "detail": detail[:2000]}]
        await connection.execute(
            "UPDATE sensorthings_task SET state = %s, state_detail = %s, states = %s WHERE id = %s",
            [state, detail[:2000], Jsonb(states), task.id],
        )
