"""Changing what is in the store: taking observations away and setting flags. What was there goes to the revisions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.twin.rollups import MARK

# Who records holds these rows until his commit. Once they are ours, the statement after this one sees all that was
# recorded, and nothing is recorded until we are done.
_LOCK_STATE: Final = """
    SELECT 1 FROM twin_state s JOIN unnest(%s::smallint[], %s::integer[]) AS k(municipality_id, series_id)
        ON s.municipality_id = k.municipality_id AND s.series_id = k.series_id
    ORDER BY s.municipality_id, s.series_id FOR UPDATE OF s
"""

# A state row is computed anew where a removal touched the newest observation or the counters.
_REFRESH_STATE: Final = """
    INSERT INTO twin_state (municipality_id, series_id, n, first_time, time, flags, result, value, recorded_at)
    SELECT s.municipality_id, s.series_id, greatest(s.n - k.removed, 0), coalesce(f.time, s.first_time),
           o.time, o.flags, o.result, o.value, now()
    FROM unnest(%s::smallint[], %s::integer[], %s::bigint[]) AS k(municipality_id, series_id, removed)
    JOIN twin_state s ON s.municipality_id = k.municipality_id AND s.series_id = k.series_id
    CROSS JOIN LATERAL (SELECT * FROM twin_observation x WHERE x.municipality_id = s.municipality_id
        AND x.series_id = s.series_id ORDER BY time DESC LIMIT 1) o
    CROSS JOIN LATERAL (SELECT time FROM twin_observation x WHERE x.municipality_id = s.municipality_id
        AND x.series_id = s.series_id ORDER BY time LIMIT 1) f
    ORDER BY s.municipality_id, s.series_id
    ON CONFLICT (municipality_id, series_id) DO UPDATE SET n = excluded.n, first_time = excluded.first_time,
        time = excluded.time, flags = excluded.flags, result = excluded.result, value = excluded.value
"""

_REMOVE = f"""
    WITH removed AS (
        DELETE FROM twin_observation o
        USING unnest(%(municipality)s::smallint[], %(series)s::integer[], %(time)s::timestamptz[])
            AS k(municipality_id, series_id, time)
        WHERE (o.municipality_id, o.series_id, o.time) = (k.municipality_id, k.series_id, k.time)
        RETURNING o.*
    ), revised AS (
        INSERT INTO twin_revision (municipality_id, series_id, time, flags, result, origin, value, details, reason)
        SELECT municipality_id, series_id, time, flags, result, origin, value, details, %(reason)s FROM removed
    ), marked AS (
        {MARK.format(rows="removed")}
    ), published AS (
        -- Without a result: what follows from these observations has to go as well.
        INSERT INTO twin_change (series_ids, times, results, flags)
        SELECT array_agg(series_id), array_agg(time), array_agg(NULL::double precision), array_agg(flags)
        FROM (SELECT * FROM removed ORDER BY series_id, time) AS ordered HAVING count(*) > 0
    )
    SELECT municipality_id, series_id, count(*) FROM removed GROUP BY 1, 2
"""

FLAG: Final = f"""
    WITH changed AS (
        UPDATE twin_observation o SET flags = (o.flags | %(set)s) & ~%(clear)s
        FROM unnest(%(municipality)s::smallint[], %(series)s::integer[], %(time)s::timestamptz[])
            AS k(municipality_id, series_id, time)
        WHERE (o.municipality_id, o.series_id, o.time) = (k.municipality_id, k.series_id, k.time)
          AND o.flags <> ((o.flags | %(set)s) & ~%(clear)s)
        RETURNING o.municipality_id, o.series_id, o.time, o.flags, o.result, o.value
    ), state AS (
        UPDATE twin_state s SET flags = c.flags FROM changed c
        WHERE (s.municipality_id, s.series_id, s.time) = (c.municipality_id, c.series_id, c.time)
    ), marked AS (
        {MARK.format(rows="changed")}
    ), published AS (
        INSERT INTO twin_change (series_ids, times, results, flags, vals)
        SELECT array_agg(series_id), array_agg(time), array_agg(result), array_agg(flags),
               CASE WHEN bool_or(value IS NOT NULL) THEN jsonb_agg(value) END
        FROM (SELECT * FROM changed ORDER BY series_id, time) AS ordered HAVING count(*) > 0
    )
    SELECT count(*) FROM changed
"""

Key = tuple[int, int, datetime]  # municipality id, series id, time


def _columns(keys: Sequence[Key]) -> dict[str, Any]:
    return {
        "municipality": [key[0] for key in keys],
        "series": [key[1] for key in keys],
        "time": [key[2] for key in keys],
    }


async def remove(connection: AsyncConnection[TupleRow], keys: Sequence[Key], *, reason: str) -> int:
    """Take observations away (they stay in the revisions); returns how many there were. One transaction.

    Followers are told by a reading without a result.
    """
    if not keys:
        return 0
    async with connection.transaction():
        cursor = await connection.execute(_REMOVE, _columns(keys) | {"reason": reason})
        touched = await cursor.fetchall()
        if touched:
            municipalities, series, counts = (list(column) for column in zip(*touched, strict=True))
            await connection.execute(_LOCK_STATE, [municipalities, series])
            await connection.execute(_REFRESH_STATE, [municipalities, series, counts])
            await connection.execute(
                "DELETE FROM twin_state s USING unnest(%s::smallint[], %s::integer[]) AS k(municipality_id, series_id)"
                " WHERE (s.municipality_id, s.series_id) = (k.municipality_id, k.series_id) AND NOT EXISTS"
                " (SELECT 1 FROM twin_observation o WHERE (o.municipality_id, o.series_id)"
                " = (s.municipality_id, s.series_id))",
                [municipalities, series],
            )
    return sum(row[2] for row in touched)


def flag_parameters(keys: Sequence[Key], *, set_: int = 0, clear: int = 0) -> dict[str, Any]:
    """Parameters of the statement ``FLAG``."""
    return _columns(keys) | {"set": set_, "clear": clear}


async def flag(
    connection: AsyncConnection[TupleRow], keys: Sequence[Key], *, set_: int = 0, clear: int = 0
) -> int:
    """Set and clear flag bits of observations; returns how many changed. The change is published."""
    if not keys:
        return 0
    async with connection.transaction():
        cursor = await connection.execute(FLAG, flag_parameters(keys, set_=set_, clear=clear))
        row = await cursor.fetchone()
    return row[0] if row else 0


FLAG_RANGE: Final = """
    SELECT municipality_id, series_id, time FROM twin_observation
    WHERE municipality_id = %s AND series_id = %s AND time >= %s AND time <= %s AND (flags & %s) <> 0
"""
