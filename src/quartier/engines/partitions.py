"""Tables that are divided by time: partitions made ahead, made on demand, dropped whole when their time is over.

A month or a day of a table is a partition of its own, in UTC. Dropping one costs nothing and leaves no dead rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composed, Identifier
from psycopg.sql import Literal as Value

Period = tuple[int, ...]
"""A month (2026, 7) or a day (2026, 7, 31)."""
# One lock for all who make or drop partitions, so that two processes do not trip over each other.
_LOCK: Final = 0x5175_0001
# Dropping needs the whole table for a moment. Whoever reads or writes queues behind a drop that waits for a long
# download, so it gives up early and is tried again with the next housekeeping.
_DROP_WAITS: Final = "2s"


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of ``table``, by month or by day."""

    table: str
    by: Literal["month", "day"]

    def of(self, moment: datetime) -> Period:
        """The period in which a moment lies."""
        at = moment.astimezone(UTC)
        return (at.year, at.month) if self.by == "month" else (at.year, at.month, at.day)

    def following(self, period: Period) -> Period:
        """The one after."""
        if self.by == "month":
            year, month = period
            return (year + 1, 1) if month == 12 else (year, month + 1)
        after = date(*period) + timedelta(days=1)
        return (after.year, after.month, after.day)

    def preceding(self, period: Period) -> Period:
        """The one before."""
        return self.of(self.start(period) - timedelta(microseconds=1))

    def name(self, period: Period) -> str:
        """Name of a partition, such as ``twin_observation_2026_07``."""
        return "_".join((self.table, f"{period[0]:04d}", *(f"{part:02d}" for part in period[1:])))

    def start(self, period: Period) -> datetime:
        """The first moment of a period."""
        return datetime(period[0], period[1], period[2] if self.by == "day" else 1, tzinfo=UTC)

    def end(self, period: Period) -> datetime:
        """The first moment after it."""
        return self.start(self.following(period))

    def statements(self, period: Period) -> list[Composed]:
        """What makes one.

        It is made apart and then attached, which, unlike CREATE TABLE … PARTITION OF, does not wait for running
        downloads (and make everybody else wait for it).
        """
        names = {"table": Identifier(self.table), "part": Identifier(self.name(period))}
        return [
            SQL("CREATE TABLE {part} (LIKE {table} INCLUDING DEFAULTS INCLUDING INDEXES)").format(**names),
            SQL("ALTER TABLE {table} ATTACH PARTITION {part} FOR VALUES FROM ({low}) TO ({high})").format(
                low=Value(self.start(period)), high=Value(self.end(period)), **names
            ),
        ]

    async def existing(self, connection: AsyncConnection[object]) -> set[Period]:
        """The periods that have a partition."""
        cursor = await connection.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass",
            [self.table],
        )
        names = [str(row[0]) for row in await cursor.fetchall()]  # type: ignore[index]
        return {tuple(int(part) for part in name[len(self.table) + 1 :].split("_")) for name in names}

    async def create(self, connection: AsyncConnection[object], periods: Iterable[Period]) -> None:
        """Make those of ``periods`` that are missing. ``connection`` must be in autocommit mode."""
        wanted = sorted(set(periods))
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            have = await self.existing(connection)
            for period in wanted:
                if period not in have:
                    for statement in self.statements(period):
                        await connection.execute(statement)

    async def create_ahead(
        self, connection: AsyncConnection[object], *, now: datetime, ahead: int = 3
    ) -> None:
        """Make the partitions of the last period, this one and the next few."""
        wanted = [self.preceding(self.of(now))]
        for _ in range(ahead + 1):
            wanted.append(self.following(wanted[-1]))
        await self.create(connection, wanted)

    async def drop_before(
        self,
        connection: AsyncConnection[object],
        oldest: datetime,
        *,
        needed: Callable[[datetime, datetime], Awaitable[bool]] | None = None,
    ) -> list[Period]:
        """Drop the partitions that end before ``oldest`` (retention); returns their periods.

        What is ``needed`` between two moments is kept. Raises psycopg.errors.LockNotAvailable where somebody reads for
        a long time.
        """
        dropped: list[Period] = []
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            await connection.execute(SQL("SET LOCAL lock_timeout = {}").format(Value(_DROP_WAITS)))
            for period in sorted(await self.existing(connection)):
                start, end = self.start(period), self.end(period)
                if end <= oldest and not (needed is not None and await needed(start, end)):
                    await connection.execute(SQL("DROP TABLE {}").format(Identifier(self.name(period))))
                    dropped.append(period)
        return dropped
