"""Monthly partitions of the observations: made ahead, made on demand for imports, dropped by retention."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier, Literal

Month = tuple[int, int]
# One lock for all who make or drop partitions, so that two processes do not trip over each other.
_LOCK = 0x5175_0001
# Dropping needs the whole table for a moment. Whoever reads or writes queues behind a drop that waits for a long
# download, so it gives up early and is tried again with the next housekeeping.
_DROP_WAITS = "2s"


def following(month: Month) -> Month:
    """The month after."""
    year, number = month
    return (year + 1, 1) if number == 12 else (year, number + 1)


def name(month: Month) -> str:
    """Name of a month's partition."""
    return f"twin_observation_{month[0]:04d}_{month[1]:02d}"


def start(month: Month) -> datetime:
    """The first moment of a month (UTC)."""
    return datetime(month[0], month[1], 1, tzinfo=UTC)


async def existing(connection: AsyncConnection[object]) -> set[Month]:
    """The months that have a partition."""
    cursor = await connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'twin_observation'::regclass"
    )
    names = [str(row[0]) for row in await cursor.fetchall()]  # type: ignore[index]
    return {(int(n[-7:-3]), int(n[-2:])) for n in names}


async def create(connection: AsyncConnection[object], months: Iterable[Month]) -> None:
    """Make the partitions of ``months`` that are missing. ``connection`` must be in autocommit mode.

    A partition is made apart and then attached, which, unlike CREATE TABLE … PARTITION OF, does not wait for running
    downloads (and make everybody else wait for it).
    """
    wanted = sorted(set(months))
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        have = await existing(connection)
        for month in wanted:
            if month in have:
                continue
            table, low, high = (
                Identifier(name(month)),
                Literal(start(month)),
                Literal(start(following(month))),
            )
            await connection.execute(
                SQL("CREATE TABLE {} (LIKE twin_observation INCLUDING DEFAULTS INCLUDING INDEXES)").format(
                    table
                )
            )
            await connection.execute(
                SQL("ALTER TABLE twin_observation ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    table, low, high
                )
            )


async def create_ahead(connection: AsyncConnection[object], *, now: datetime, months_ahead: int = 3) -> None:
    """Make the partitions of last month, this one and the next few."""
    month = (now.year - 1, 12) if now.month == 1 else (now.year, now.month - 1)
    wanted = [month]
    for _ in range(months_ahead + 1):
        wanted.append(following(wanted[-1]))
    await create(connection, wanted)


async def drop_before(connection: AsyncConnection[object], oldest: datetime) -> list[Month]:
    """Drop the partitions that end before ``oldest`` (retention); returns their months. Roll-ups stay.

    A month with roll-ups that are still to be computed is kept until they are. Raises psycopg.errors.LockNotAvailable
    where somebody reads for a long time.
    """
    dropped: list[Month] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        await connection.execute(SQL("SET LOCAL lock_timeout = {}").format(_DROP_WAITS))
        for month in sorted(await existing(connection)):
            if start(following(month)) <= oldest and not await _has_marks(connection, month):
                await connection.execute(SQL("DROP TABLE {}").format(Identifier(name(month))))
                dropped.append(month)
    return dropped


async def _has_marks(connection: AsyncConnection[object], month: Month) -> bool:
    cursor = await connection.execute(
        "SELECT 1 FROM twin_rollup_mark WHERE hour >= %s AND hour < %s LIMIT 1",
        [start(month), start(following(month))],
    )
    return await cursor.fetchone() is not None
