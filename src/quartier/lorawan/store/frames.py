"""The frame log: every frame that was heard or sent, and what became of it; and per gateway and hour how many.

Lines wait in memory and are copied in batches, apart from the counters: a log that is slow must not delay a device. In
a flood, or while PostgreSQL is away, the oldest lines are dropped and counted. Each day is a partition of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.engines.partitions import Partitions, Period
from quartier.engines.pools import Pool

log = structlog.get_logger(__name__)

SUBJECT: Final = "lorawan.frames"
"""NATS subject, with the municipality behind it: new lines of the frame log, as a JSON array."""
DAYS: Final = Partitions("lorawan_frame", by="day")
_KEPT_LINES: Final = 20_000
_COPY: Final = (
    "COPY lorawan_frame (at, municipality_id, device_id, dev_eui, dev_addr, direction, kind, outcome, counter, port,"
    " size, data_rate, frequency_hz, gateways, detail) FROM STDIN"
)
_HOURS: Final = """
INSERT INTO lorawan_gatewayhour AS h
    (gateway_id, hour, received, accepted, "foreign", sent, failed, airtime_s, rssi_sum_dbm, snr_sum_db)
SELECT * FROM unnest(%(gateway)s::bigint[], %(hour)s::timestamptz[], %(received)s::int[], %(accepted)s::int[],
    %(foreign)s::int[], %(sent)s::int[], %(failed)s::int[], %(airtime_s)s::float[], %(rssi)s::float[], %(snr)s::float[])
ON CONFLICT (gateway_id, hour) DO UPDATE SET received = h.received + excluded.received,
    accepted = h.accepted + excluded.accepted, "foreign" = h."foreign" + excluded."foreign",
    sent = h.sent + excluded.sent, failed = h.failed + excluded.failed, airtime_s = h.airtime_s + excluded.airtime_s,
    rssi_sum_dbm = h.rssi_sum_dbm + excluded.rssi_sum_dbm, snr_sum_db = h.snr_sum_db + excluded.snr_sum_db
"""
_encoder = msgspec.json.Encoder()


class Heard(msgspec.Struct, gc=False, omit_defaults=True):
    """A gateway in a line."""

    eui: str
    rssi_dbm: float | None = None
    snr_db: float | None = None
    peer: str = ""


class Line(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """One line. ``municipality`` is the device's, or that of the first gateway that heard a stranger."""

    at: datetime
    municipality: str
    direction: str
    kind: str
    outcome: str
    size: int
    data_rate: int
    frequency_hz: int
    gateways: list[Heard]
    device_id: int | None = None
    dev_eui: str = ""
    dev_addr: str = ""
    counter: int | None = None
    port: int | None = None
    detail: dict[str, Any] = {}


class Hour(msgspec.Struct):
    """Sums of one gateway and hour."""

    received: int = 0
    accepted: int = 0
    foreign: int = 0
    sent: int = 0
    failed: int = 0
    airtime_s: float = 0
    rssi_sum_dbm: float = 0
    snr_sum_db: float = 0


class FrameLog:
    """Collects lines and sums until they are written."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lines: deque[Line] = deque(maxlen=_KEPT_LINES)
        self._live: deque[Line] = deque(maxlen=2000)
        self._hours: dict[tuple[bytes, datetime], Hour] = {}
        self._hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._days: set[Period] = set()
        self.dropped = 0

    def add(self, line: Line) -> None:
        """One line."""
        if len(self._lines) == _KEPT_LINES:
            self.dropped += 1
        self._lines.append(line)
        self._live.append(line)

    @property
    def waiting(self) -> Sequence[Line]:
        """Lines that are not written yet."""
        return self._lines

    def hour(self, gateway: bytes) -> Hour:
        """The sums of a gateway for the running hour."""
        key = (gateway, self._hour)
        found = self._hours.get(key)
        if found is None:
            found = self._hours[key] = Hour()
        return found

    def take_live(self) -> dict[str, bytes]:
        """New lines by municipality, each a JSON array, for those who watch."""
        if not self._live:
            return {}
        lines: dict[str, list[Line]] = {}
        while self._live:
            line = self._live.popleft()
            lines.setdefault(line.municipality, []).append(line)
        return {municipality: _encoder.encode(some) for municipality, some in lines.items()}

    async def write(self, municipalities: Mapping[str, int]) -> int:
        """Write the lines that wait; returns how many. Raises psycopg errors; then they are written next time."""
        if not self._lines:
            return 0
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        days = {DAYS.of(line.at) for line in batch}
        try:
            async with self._pool.connection() as connection:
                await self._make(connection, days)
                try:
                    await _copy(connection, batch, municipalities)
                except psycopg.errors.CheckViolation:
                    # Retention dropped a day since we made it.
                    self._days.clear()
                    await self._make(connection, days)
                    await _copy(connection, batch, municipalities)
        except BaseException:
            room = _KEPT_LINES - len(self._lines)
            self.dropped += max(0, len(batch) - room)
            self._lines.extendleft(reversed(batch[-room:] if room else []))
            raise
        return len(batch)

    async def write_hours(self, id_of: Callable[[bytes], int | None]) -> None:
        """Add the sums to what the database has. Raises psycopg errors; then they are added next time."""
        hours, self._hours = self._hours, {}
        self._hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        known = [(number, at, one) for (eui, at), one in hours.items() if (number := id_of(eui)) is not None]
        if not known:
            return
        try:
            async with self._pool.connection() as connection:
                await connection.execute(_HOURS, _columns(known))
        except BaseException:
            for key, one in hours.items():
                later = self._hours.get(key)
                if later is not None:
                    for name in one.__struct_fields__:
                        setattr(one, name, getattr(one, name) + getattr(later, name))
                self._hours[key] = one
            raise

    async def _make(self, connection: AsyncConnection[TupleRow], days: set[Period]) -> None:
        if missing := days - self._days:
            await DAYS.create(connection, missing)
            self._days |= missing

    async def keep(self, days: int) -> None:
        """Make the next days, and drop those that are over since so many days. Raises psycopg errors."""
        now = datetime.now(UTC)
        async with self._pool.connection() as connection:
            await DAYS.create_ahead(connection, now=now)
            for day in await DAYS.drop_before(connection, now - timedelta(days=days)):
                self._days.discard(day)
                log.info("radio.frames_dropped", day="-".join(f"{part:02d}" for part in day))


async def _copy(
    connection: AsyncConnection[TupleRow], batch: Sequence[Line], municipalities: Mapping[str, int]
) -> None:
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for line in batch:
            await copy.write_row(
                (
                    line.at,
                    municipalities.get(line.municipality),
                    line.device_id,
                    line.dev_eui,
                    int(line.dev_addr, 16) if line.dev_addr else None,
                    line.direction,
                    line.kind,
                    line.outcome,
                    line.counter,
                    line.port,
                    line.size,
                    line.data_rate,
                    line.frequency_hz,
                    _encoder.encode(line.gateways).decode(),
                    _encoder.encode(line.detail).decode(),
                )
            )


def _columns(known: Sequence[tuple[int, datetime, Hour]]) -> dict[str, list[Any]]:
    return {
        "gateway": [number for number, _, _ in known],
        "hour": [at for _, at, _ in known],
        "received": [one.received for _, _, one in known],
        "accepted": [one.accepted for _, _, one in known],
        "foreign": [one.foreign for _, _, one in known],
        "sent": [one.sent for _, _, one in known],
        "failed": [one.failed for _, _, one in known],
        # psycopg wants lists of one type, and a sum of nothing is whole.
        "airtime_s": [float(one.airtime_s) for _, _, one in known],
        "rssi": [float(one.rssi_sum_dbm) for _, _, one in known],
        "snr": [float(one.snr_sum_db) for _, _, one in known],
    }
