"""What was carried for each other: one row per frame and direction, under a key that both sides compute alike.

An uplink is known by its bytes and the carrier's RecvTime, which both sides have read in the same message; a downlink
by its bytes and the TransactionID. So a message that is repeated makes no second row, and two ledgers can be compared.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec
import structlog
from psycopg import Error as DatabaseError
from psycopg_pool import PoolTimeout

from quartier.engines.pools import Pool
from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.policy import day_of

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 50_000
MAX_GROUP: Final = 2000
FLUSH_S: Final = 0.25
MIC_BYTES: Final = 4


class State(StrEnum):
    """How far a row is. Only confirmed ones count."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    FAILED = "failed"


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One frame that one network carried for the other. ``we_carry``: by our gateways."""

    peer: int
    we_carry: bool
    direction: Literal["up", "down"]
    key: bytes
    at: datetime
    kind: str
    size: int
    data_rate: int
    airtime_us: int
    state: State
    agreement: int | None = None
    dev_addr: int | None = None
    dev_eui: str = ""
    port: int | None = None
    gateways: int = 1
    classes: str = ""
    marked: bool = False
    result: str = ""

    @property
    def day(self) -> int:
        """The day it is counted in: the carrier's."""
        return day_of(self.at)


def uplink_key(phy: bytes, received_at: datetime) -> bytes:
    """``received_at`` as RecvTime carries it: whole milliseconds."""
    milliseconds = (received_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return _digest(b"up", phy, milliseconds.to_bytes(8))


def downlink_key(phy: bytes, transaction: int) -> bytes:
    """Of an XmitDataReq, or of the PRStartAns that brings a join-accept."""
    return _digest(b"down", phy, transaction.to_bytes(4))


def _digest(direction: bytes, phy: bytes, number: bytes) -> bytes:
    return hashlib.sha256(direction + b"\0" + number + phy[:-MIC_BYTES]).digest()[:16]


_COLUMNS: Final = (
    "peer_id, agreement_id, we_carry, direction, key, at, day, kind, dev_addr, dev_eui, port, size, data_rate, "
    "airtime_us, gateways, classes, marked, state, result"
)
# A peer or agreement may have been deleted while its last frames were on their way.
_NOTE: Final = f"""
    INSERT INTO lorawan_roamingframe ({_COLUMNS})
    SELECT peer, (SELECT a.id FROM lorawan_roamingagreement a WHERE a.id = agreement), we_carry, direction, key, at,
           day, n.kind, dev_addr, dev_eui, port, size, data_rate, airtime_us, gateways, classes, marked, state, result
      FROM unnest(%s::bigint[], %s::bigint[], %s::bool[], %s::text[], %s::bytea[], %s::timestamptz[], %s::int[],
                  %s::text[], %s::bigint[], %s::text[], %s::smallint[], %s::smallint[], %s::smallint[], %s::int[],
                  %s::smallint[], %s::text[], %s::bool[], %s::text[], %s::text[])
           AS n(peer, agreement, we_carry, direction, key, at, day, kind, dev_addr, dev_eui, port, size, data_rate,
                airtime_us, gateways, classes, marked, state, result)
     WHERE EXISTS (SELECT FROM lorawan_lorapeer p WHERE p.id = n.peer)
    ON CONFLICT (peer_id, we_carry, key) DO UPDATE
       SET state = EXCLUDED.state, result = EXCLUDED.result, data_rate = EXCLUDED.data_rate,
           airtime_us = EXCLUDED.airtime_us,
           dev_eui = CASE WHEN EXCLUDED.dev_eui = '' THEN lorawan_roamingframe.dev_eui ELSE EXCLUDED.dev_eui END
     WHERE lorawan_roamingframe.state = 'open'
"""  # noqa: S608 (constants of this module)
_OF_DAY: Final = f"""
    SELECT {_COLUMNS} FROM lorawan_roamingframe
     WHERE peer_id = %s AND day = %s AND we_carry = %s AND key > %s AND state = ANY(%s)
     ORDER BY key LIMIT %s
"""  # noqa: S608
_OF_KEYS: Final = f"""
    SELECT {_COLUMNS} FROM lorawan_roamingframe WHERE peer_id = %s AND we_carry = %s AND key = ANY(%s)
"""  # noqa: S608
_SUMS: Final = """
    INSERT INTO lorawan_roamingday (peer_id, day, we_carry, uplinks, uplink_airtime_us, downlinks, downlink_airtime_us,
                                    reconciled_at, differences)
    SELECT %(peer)s, DATE '1970-01-01' + %(day)s, %(we_carry)s,
           count(*) FILTER (WHERE direction = 'up'), coalesce(sum(airtime_us) FILTER (WHERE direction = 'up'), 0),
           count(*) FILTER (WHERE direction = 'down'), coalesce(sum(airtime_us) FILTER (WHERE direction = 'down'), 0),
           %(reconciled_at)s, %(differences)s
      FROM lorawan_roamingframe
     WHERE peer_id = %(peer)s AND day = %(day)s AND we_carry = %(we_carry)s AND state = 'confirmed'
    ON CONFLICT (peer_id, day, we_carry) DO UPDATE
       SET uplinks = EXCLUDED.uplinks, uplink_airtime_us = EXCLUDED.uplink_airtime_us,
           downlinks = EXCLUDED.downlinks, downlink_airtime_us = EXCLUDED.downlink_airtime_us,
           reconciled_at = coalesce(EXCLUDED.reconciled_at, lorawan_roamingday.reconciled_at),
           differences = CASE WHEN EXCLUDED.reconciled_at IS NULL THEN lorawan_roamingday.differences
                              ELSE EXCLUDED.differences END
    RETURNING uplinks, uplink_airtime_us, downlinks, downlink_airtime_us
"""


class Sums(msgspec.Struct, frozen=True, gc=False):
    """What counts of one day: frames and airtime in microseconds."""

    uplinks: int = 0
    uplink_airtime_us: int = 0
    downlinks: int = 0
    downlink_airtime_us: int = 0


class Ledger:
    """Writes entries in groups, and reads them back. What cannot be written is kept until it can, up to a bound."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: list[Entry] = []
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    def note(self, entry: Entry) -> None:
        """Remember an entry; a later one with the same key settles what was open."""
        if len(self._waiting) >= MAX_WAITING:
            metrics.LEDGER_LOST.inc()
            return
        self._waiting.append(entry)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Write what is waiting until ``stop``, and once more then."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                waking = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait((waking, stopping), return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                # Together with what comes in the next moment: one commit for many frames.
                await asyncio.wait((stopping,), timeout=FLUSH_S)
                if not await self.flush():
                    await asyncio.wait((stopping,), timeout=2)
        finally:
            stopping.cancel()
        await self.flush()

    async def flush(self) -> bool:
        """Write everything now; False where the database could not take it, then it stays.

        One batch after the other: an entry must not overtake the one it settles, and whoever flushes before he reads
        wants what another one is writing, too.
        """
        async with self._writing:
            return await self._write()

    async def _write(self) -> bool:
        self._wake.clear()
        batch, self._waiting = self._waiting, []
        if not batch:
            return True
        try:
            # One statement cannot touch a row twice, so entries with one key go one after the other.
            for group in _distinct(batch):
                for start in range(0, len(group), MAX_GROUP):
                    async with self._pool.connection() as connection:
                        await connection.execute(_NOTE, _arrays(group[start : start + MAX_GROUP]))
        except (DatabaseError, PoolTimeout) as error:
            log.warning("ledger cannot be written", waiting=len(batch), error=str(error))
            self._waiting = [*batch, *self._waiting][:MAX_WAITING]
            self._wake.set()
            return False
        return True

    async def of_day(
        self,
        peer: int,
        day: int,
        *,
        we_carry: bool,
        after: bytes = b"",
        limit: int = 5000,
        states: Iterable[State] = tuple(State),
    ) -> list[Entry]:
        """A page of a day's entries, by key."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                _OF_DAY, (peer, day, we_carry, after, [str(s) for s in states], limit)
            )
            return [_entry(row) for row in await cursor.fetchall()]

    async def of_keys(self, peer: int, keys: Sequence[bytes], *, we_carry: bool) -> list[Entry]:
        """Entries by key, of whatever day."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_OF_KEYS, (peer, we_carry, list(keys)))
            return [_entry(row) for row in await cursor.fetchall()]

    async def settle(
        self,
        peer: int,
        *,
        we_carry: bool,
        states: Mapping[bytes, State],
        times: Mapping[bytes, datetime],
        airtimes_us: Mapping[bytes, int],
    ) -> None:
        """Set what a comparison has shown, by key."""
        if not (states or times or airtimes_us):
            return
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "UPDATE lorawan_roamingframe f SET state = n.state FROM unnest(%s::bytea[], %s::text[]) n(key, state)"
                " WHERE f.peer_id = %s AND f.we_carry = %s AND f.key = n.key",
                (list(states), [str(s) for s in states.values()], peer, we_carry),
            )
            await connection.execute(
                "UPDATE lorawan_roamingframe f SET at = n.at, day = n.day"
                " FROM unnest(%s::bytea[], %s::timestamptz[], %s::int[]) n(key, at, day)"
                " WHERE f.peer_id = %s AND f.we_carry = %s AND f.key = n.key",
                (list(times), list(times.values()), [day_of(t) for t in times.values()], peer, we_carry),
            )
            await connection.execute(
                "UPDATE lorawan_roamingframe f SET airtime_us = n.us FROM unnest(%s::bytea[], %s::int[]) n(key, us)"
                " WHERE f.peer_id = %s AND f.we_carry = %s AND f.key = n.key",
                (list(airtimes_us), list(airtimes_us.values()), peer, we_carry),
            )

    async def sum_up(
        self,
        peer: int,
        day: int,
        *,
        we_carry: bool,
        reconciled_at: datetime | None = None,
        differences: int = 0,
    ) -> Sums:
        """Compute and keep a day's sums."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                _SUMS,
                {
                    "peer": peer,
                    "day": day,
                    "we_carry": we_carry,
                    "reconciled_at": reconciled_at,
                    "differences": differences,
                },
            )
            row = await cursor.fetchone()
        return Sums(*row) if row else Sums()

    async def used(self, day: int) -> list[tuple[int, float, float, int]]:
        """Of each agreement under which we carry: uplink airtime, downlink airtime (s), downlinks on ``day``."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT agreement_id, coalesce(sum(airtime_us) FILTER (WHERE direction = 'up'), 0) / 1e6,"
                " coalesce(sum(airtime_us) FILTER (WHERE direction = 'down' AND state <> 'failed'), 0) / 1e6,"
                " count(*) FILTER (WHERE direction = 'down' AND state <> 'failed')"
                " FROM lorawan_roamingframe WHERE day = %s AND we_carry AND agreement_id IS NOT NULL GROUP BY 1",
                (day,),
            )
            return [(a, float(u), float(d), n) for a, u, d, n in await cursor.fetchall()]

    async def forget(self) -> int:
        """Delete rows that are older than their agreement allows, after their days were summed up. How many."""
        async with self._pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT DISTINCT f.peer_id, f.day, f.we_carry FROM lorawan_roamingframe f"
                " LEFT JOIN lorawan_roamingagreement a ON a.id = f.agreement_id"
                " WHERE f.at < now() - make_interval(days => coalesce(a.retention_days, 30))"
            )
            for peer, day, we_carry in await cursor.fetchall():
                kept = await connection.execute(
                    "SELECT 1 FROM lorawan_roamingday WHERE peer_id = %s AND we_carry = %s"
                    " AND day = DATE '1970-01-01' + %s",
                    (peer, we_carry, day),
                )
                if await kept.fetchone() is None:
                    await connection.execute(
                        _SUMS,
                        {
                            "peer": peer,
                            "day": day,
                            "we_carry": we_carry,
                            "reconciled_at": None,
                            "differences": 0,
                        },
                    )
            deleted = await connection.execute(
                "DELETE FROM lorawan_roamingframe f USING lorawan_roamingframe g"
                " LEFT JOIN lorawan_roamingagreement a ON a.id = g.agreement_id"
                " WHERE f.id = g.id AND g.at < now() - make_interval(days => coalesce(a.retention_days, 30))"
            )
            return deleted.rowcount


def _distinct(batch: Sequence[Entry]) -> list[list[Entry]]:
    """In order, in groups in which no key is there twice."""
    seen: Counter[tuple[int, bool, bytes]] = Counter()
    groups: list[list[Entry]] = []
    for entry in batch:
        identity = (entry.peer, entry.we_carry, entry.key)
        if seen[identity] == len(groups):
            groups.append([])
        groups[seen[identity]].append(entry)
        seen[identity] += 1
    return groups


def _arrays(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    rows = [
        (
            e.peer, e.agreement, e.we_carry, e.direction, e.key, e.at, e.day, e.kind, e.dev_addr, e.dev_eui, e.port,
            e.size, e.data_rate, e.airtime_us, e.gateways, e.classes, e.marked, str(e.state), e.result[:60],
        )
        for e in entries
    ]  # fmt: skip
    return tuple(list(column) for column in zip(*rows, strict=True))


def _entry(row: Any) -> Entry:
    (
        peer, agreement, we_carry, direction, key, at, _day, kind, dev_addr, dev_eui, port, size, data_rate,
        airtime_us, gateways, classes, marked, state, result,
    ) = row  # fmt: skip
    return Entry(
        peer=peer,
        agreement=agreement,
        we_carry=we_carry,
        direction=direction,
        key=bytes(key),
        at=at,
        kind=kind,
        dev_addr=dev_addr,
        dev_eui=dev_eui,
        port=port,
        size=size,
        data_rate=data_rate,
        airtime_us=airtime_us,
        gateways=gateways,
        classes=classes,
        marked=marked,
        state=State(state),
        result=result,
    )
