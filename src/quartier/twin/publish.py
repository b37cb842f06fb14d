"""What was committed is published, once and in order, from the table ``twin_change``.

Order is that of (transaction id, position), and only transactions older than the oldest running one are read, so a
batch that commits late is never passed over. The place where publishing stopped is read from the stream itself: its
last message says which change it came from. So a crash at any moment neither loses nor repeats a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats.errors
import orjson
import psycopg
import structlog
from nats.js.api import PubAck
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.engines.bus import OBSERVED, Bus, connect
from quartier.twin.alone import alone
from quartier.twin.metrics import PUBLISHED

log = structlog.get_logger(__name__)

_LOCK = 0x5175_0004
_METADATA_AGE_S = 60
_CONFIRM_S = 30
# Both keep a message far below the bus's limit of 1 MiB.
_READINGS_PER_MESSAGE = 500
_VALUES_PER_MESSAGE_BYTES = 256 * 1024
_NO_TOKEN = re.compile(r"[^A-Za-z0-9_-]+")
_Place = tuple[int, int, int]  # transaction, position, number of the message within the change
_NOTHING: _Place = (0, 0, 0)
_LAST_NUMBER = 1 << 31


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What a follower needs to know of a series without asking the store."""

    municipality: str
    kind: str
    thing: str
    name: str
    public: bool
    observed_property: str
    channel: str
    unit: str
    result_type: str


async def series_facts(connection: AsyncConnection[TupleRow], ids: Iterable[int]) -> dict[int, SeriesFacts]:
    """The facts of some series."""
    cursor = await connection.execute(
        "SELECT s.id, m.slug, t.kind, t.key, t.name, t.public, p.slug, s.channel, s.unit, s.result_type"
        " FROM twin_series s JOIN twin_thing t ON t.id = s.thing_id"
        " JOIN cities_municipality m ON m.id = s.municipality_id"
        " JOIN twin_observedproperty p ON p.id = s.observed_property_id WHERE s.id = ANY(%s)",
        [list(ids)],
    )
    return {row[0]: SeriesFacts(*row[1:]) for row in await cursor.fetchall()}


def iso(time: datetime) -> str:
    """ISO 8601 in UTC with Z, as all machine interfaces write it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Publisher:
    """Publishes changes; one process at a time does (an advisory lock decides which)."""

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[TupleRow]],
        open_bus: Callable[[], Awaitable[Bus]] = lambda: connect(name="publisher", reconnect=False),
    ) -> None:
        """``open_bus`` opens a connection that does not reconnect: one that does sends again by itself."""
        self._pool = pool
        self._open_bus = open_bus
        self._bus: Bus
        self._facts: dict[int, SeriesFacts] = {}
        self._facts_since = 0.0
        self._store = ""
        # Up to this message the stream is known to hold every change in order, and up to this place of the table.
        self._safe_seq: int | None = None
        self._safe_place: _Place = _NOTHING

    async def run(self, stop: asyncio.Event, *, poll_s: float = 0.1) -> None:
        """Publish until ``stop``; survives restarts of PostgreSQL and NATS."""
        while not stop.is_set():
            try:
                async with alone(self._pool, _LOCK) as connection:
                    if connection is not None:
                        await self._lead(connection, stop, poll_s)
            except (
                psycopg.OperationalError,
                psycopg.InterfaceError,
                nats.errors.Error,
                JetStreamError,
                OSError,
            ) as error:
                log.warning("publish.retry", error=str(error).strip() or type(error).__name__)
            await _pause(stop, 1)

    async def _lead(self, connection: AsyncConnection[TupleRow], stop: asyncio.Event, poll_s: float) -> None:
        cursor = await connection.execute("SELECT system_identifier::text FROM pg_control_system()")
        row = await cursor.fetchone()
        store = row[0] if row else ""
        if store != self._store:
            self._store, self._safe_seq = store, None
        # Changes that a backup brought here carry the transaction ids of another server, which may be far ahead.
        await connection.execute(
            "UPDATE twin_change SET xid = pg_current_xact_id() WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())"
        )
        self._bus = await self._open_bus()
        try:
            upto, beyond = await self._published()
            while not stop.is_set():
                if not await self._publish_some(connection, upto, beyond):
                    await _pause(stop, poll_s)
                beyond = frozenset()
        finally:
            # Closed and not flushed: what was not confirmed is looked up in the stream and sent again from the table.
            await self._bus.nc.close()

    async def _published(self) -> tuple[_Place, frozenset[_Place]]:
        """The place up to which all is published, and single places after it.

        When a process dies, what it sent ends somewhere: everything before the stream's last message is there. When
        only the connection broke, messages in the middle may be missing; then what lies behind the last confirmed batch
        is looked at one by one.
        """
        try:
            last = await self._bus.js.get_last_msg(OBSERVED, f"{OBSERVED}.>")
        except NotFoundError:
            return _NOTHING, frozenset()
        if last.seq is None:
            return _NOTHING, frozenset()
        if self._safe_seq is None or self._safe_seq > last.seq:
            self._safe_seq, self._safe_place = last.seq, self._place(last.data) or _NOTHING
            return self._safe_place, frozenset()
        places = set()
        for seq in range(self._safe_seq + 1, last.seq + 1):
            with contextlib.suppress(NotFoundError):
                place = self._place((await self._bus.js.get_msg(OBSERVED, seq)).data)
                if place is not None:
                    places.add(place)
        return self._safe_place, frozenset(places)

    def _place(self, body: bytes | None) -> _Place | None:
        source = orjson.loads(body or b"{}").get("change")
        if not source or source[0] != self._store:
            return None
        return (source[1], source[2], source[3])

    async def _publish_some(
        self, connection: AsyncConnection[TupleRow], upto: _Place, beyond: frozenset[_Place]
    ) -> int:
        cursor = await connection.execute(
            "SELECT xid::text::bigint, position, series_ids, times, results, flags, vals FROM twin_change"
            " WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, position LIMIT 40"
        )
        changes = await cursor.fetchall()
        if not changes:
            return 0
        await self._learn(connection, {series_id for change in changes for series_id in change[2]})
        waiting: list[asyncio.Future[PubAck]] = []
        for xid, position, series_ids, times, results, flags, values in changes:
            for number, (subject, body) in enumerate(
                self._messages(series_ids, times, results, flags, values)
            ):
                place = (xid, position, number)
                if place <= upto or place in beyond:
                    continue
                body["change"] = [self._store, *place]
                waiting.append(await self._bus.js.publish_async(subject, _encoded(body), wait_stall=10))
        acks = await asyncio.wait_for(asyncio.gather(*waiting), _CONFIRM_S)
        await connection.execute(
            "DELETE FROM twin_change c USING unnest(%s::bigint[], %s::bigint[]) AS d(xid, position)"
            " WHERE c.xid = d.xid::text::xid8 AND c.position = d.position",
            [[c[0] for c in changes], [c[1] for c in changes]],
        )
        if acks:
            # Not before the table is rid of them: what still stands there is looked for behind this place.
            self._safe_seq = max(ack.seq for ack in acks)
            self._safe_place = (changes[-1][0], changes[-1][1], _LAST_NUMBER)
        PUBLISHED.inc(sum(len(change[2]) for change in changes))
        return len(changes)

    async def _learn(self, connection: AsyncConnection[TupleRow], ids: set[int]) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._facts_since > _METADATA_AGE_S:
            self._facts, self._facts_since = {}, now
        unknown = ids - self._facts.keys()
        if unknown:
            self._facts |= await series_facts(connection, unknown)

    def _messages(
        self,
        series_ids: list[int],
        times: list[datetime],
        results: list[float | None],
        flags: list[int],
        values: list[Any] | None,
    ) -> Iterable[tuple[str, dict[str, Any]]]:
        """One message per thing: followers filter by thing, and a device's readings stay together."""
        by_thing: dict[tuple[str, str, str], dict[str, Any]] = {}
        moment, written = None, ""
        for n, series_id in enumerate(series_ids):
            if times[n] != moment:  # the readings of a message share one time, and writing it is dear
                moment, written = times[n], iso(times[n])
            facts = self._facts.get(series_id)
            if facts is None:
                continue  # the series was deleted between commit and now
            key = (facts.municipality, facts.kind, facts.thing)
            body = by_thing.get(key)
            if body is None:
                body = by_thing[key] = {
                    "municipality": facts.municipality,
                    "kind": facts.kind,
                    "thing": facts.thing,
                    "name": facts.name,
                    "public": facts.public,
                    "readings": [],
                }
            result: Any = results[n]
            if values is not None and values[n] is not None:
                result = values[n]
            elif facts.result_type == "bool" and result is not None:
                result = bool(result)
            body["readings"].append(
                {
                    "series": series_id,
                    "property": facts.observed_property,
                    "channel": facts.channel,
                    "unit": facts.unit,
                    "time": written,
                    "result": result,
                    "flags": flags[n],
                }
            )
        for (municipality, kind, thing), body in by_thing.items():
            subject = ".".join(
                (OBSERVED, *(_NO_TOKEN.sub("-", token) or "-" for token in (municipality, kind, thing)))
            )
            for part in _parts(body["readings"]):
                yield subject, body | {"readings": part}


def _parts(readings: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    size = 0
    for reading in readings:
        result = reading["result"]
        length = 0 if isinstance(result, float | bool | None) else len(_encoded(result))
        if part and (len(part) == _READINGS_PER_MESSAGE or size + length > _VALUES_PER_MESSAGE_BYTES):
            yield part
            part, size = [], 0
        part.append(reading)
        size += length
    if part:
        yield part


def _encoded(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # a whole number beyond 64 bits, which JSON and the store may hold
        return json.dumps(body).encode()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
