"""Monthly partitions of the observations: made ahead, made on demand for imports, dropped by retention."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from psycopg import AsyncConnection

from quartier.engines.partitions import Partitions, Period

Month = Period
OBSERVATIONS = Partitions("twin_observation", by="month")
following, name, start = OBSERVATIONS.following, OBSERVATIONS.name, OBSERVATIONS.start
existing, create, create_ahead = OBSERVATIONS.existing, OBSERVATIONS.create, OBSERVATIONS.create_ahead


async def drop_before(connection: AsyncConnection[object], oldest: datetime) -> list[Month]:
    """Drop the months that end before ``oldest`` (retention); returns them. Roll-ups stay.

    A month with roll-ups that are still to be computed is kept until they are. Raises psycopg.errors.LockNotAvailable
    where somebody reads for a long time.
    """
    return await OBSERVATIONS.drop_before(connection, oldest, needed=partial(_has_marks, connection))


async def _has_marks(connection: AsyncConnection[object], since: datetime, until: datetime) -> bool:
    cursor = await connection.execute(
        "SELECT 1 FROM twin_rollup_mark WHERE hour >= %s AND hour < %s LIMIT 1", [since, until]
    )
    return await cursor.fetchone() is not None
