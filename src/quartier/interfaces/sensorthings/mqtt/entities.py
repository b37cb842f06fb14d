"""Changes of entities to the topics that somebody wants: read from the table in which each change was written.

As with observations (``twin.publish``), only changes of transactions older than the oldest running one are read, so
that one that commits late is not passed over; a change is deleted when the broker has its messages.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import psycopg
import structlog

from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.following.entities import Change, EntityQuery, bodies
from quartier.interfaces.sensorthings.mqtt.outlet import Message, Outlet
from quartier.interfaces.sensorthings.mqtt.topics import Topic
from quartier.interfaces.sensorthings.read import Reader

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 1000
_KEPT_IN_MIND_S: Final = 20.0
_SETTLED: Final = "xid < pg_snapshot_xmin(pg_current_snapshot())"


class Entities:
    """The topics of entities, and the changes that belong to them."""

    def __init__(self, pool: Pool, reader: Reader) -> None:
        self._pool = pool
        self._reader = reader
        self._topics: dict[EntityQuery, Topic] = {}
        # What was read a moment ago, with the time of reading.
        self._mind: deque[tuple[float, list[Change]]] = deque()

    def add(self, query: EntityQuery, topic: Topic) -> None:
        """Follow a topic from now on."""
        self._topics[query] = topic

    def remove(self, query: EntityQuery) -> None:
        """Follow it no longer."""
        self._topics.pop(query, None)

    async def some(self) -> tuple[list[int], list[Change]]:
        """The oldest changes that nobody published, with their positions; at most some."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT position, entity, id, columns FROM sensorthings_change"  # noqa: S608
                f" WHERE {_SETTLED} ORDER BY xid, position LIMIT %s",
                [_AT_ONCE if self._topics else 10 * _AT_ONCE],
            )
            rows = await cursor.fetchall()
        changes = [
            Change(entity, id_, None if columns is None else frozenset(columns))
            for _, entity, id_, columns in rows
        ]
        now_s = time.monotonic()
        self._mind.append((now_s, changes))
        while now_s - self._mind[0][0] > _KEPT_IN_MIND_S:
            self._mind.popleft()
        return [row[0] for row in rows], changes

    async def catch_up(self, outlet: Outlet, queries: Sequence[EntityQuery], since_s: float) -> None:
        """Publish to new topics what was read after ``since_s``, before they were known."""
        missed = [one for at_s, changes in self._mind if at_s >= since_s for one in changes]
        await self.publish(outlet, missed, queries)

    async def publish(
        self, outlet: Outlet, changes: Sequence[Change], only: Sequence[EntityQuery] | None = None
    ) -> None:
        """Publish what some changes mean to all topics, or to ``only`` some."""
        for query in list(self._topics) if only is None else only:
            topic = self._topics[query]
            ids = [one.id for one in changes if query.concerned(one)]
            if not ids:
                continue
            try:
                found = await bodies(self._reader, query, ids)
            except (psycopg.errors.QueryCanceled, psycopg.DataError, psycopg.ProgrammingError) as error:
                log.warning("sensorthings.mqtt_entities", topic=topic.text[:200], error=str(error)[:200])
                continue
            await outlet.send([Message(topic.text, body, topic.retain) for body in found])
            await asyncio.sleep(0)

    async def done(self, positions: list[int]) -> None:
        """Forget changes that were published."""
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM sensorthings_change WHERE position = ANY(%s)", [positions])
