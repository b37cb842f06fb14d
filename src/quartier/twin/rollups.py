"""Roll-ups: quarter hours, hours and civil days of every series, kept right when data arrive late.

Whoever writes observations leaves marks: the series written into, by hour. Here marks are taken away and their hours
computed anew from the observations, in one statement and so from one snapshot: whatever put a mark there is seen.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.twin.flags import BAD, Flag
from quartier.twin.metrics import ROLLUP_DAYS

log = structlog.get_logger(__name__)

# Two workers that roll up hours of one day at a time would each miss the hour of the other.
_LOCK = 0x5175_0003
_LONGEST_PAUSE_S = 10.0
_LONGEST_PAUSE_BEHIND_S = 3.0
# Hours of series in one turn; rows of marks, and series in these, that are looked through for them.
_AT_ONCE = 20_000
_MOST_MARKS = 20_000
_MOST_MARKED = 1_000_000
# Flagged values stay out of the statistics unless a steward dismissed the flag.
_OK = f"((o.flags & {int(BAD)}) = 0 OR (o.flags & {int(Flag.DISMISSED)}) <> 0)"
MARK: Final = (
    "INSERT INTO twin_rollup_mark (municipality_id, hour, series_ids)"
    " SELECT municipality_id, hour, array_agg(series_id)"
    " FROM (SELECT DISTINCT municipality_id, series_id, date_trunc('hour', time, 'UTC') AS hour FROM {rows}) AS touched"
    " GROUP BY municipality_id, hour"
)
"""Part of every statement that changes ``rows`` of the observations."""
_COLUMNS = "municipality_id, series_id, bucket, n, n_flagged, sum, sum_of_squares, min, max, first, last"
_UPSERT = """
    INSERT INTO {table} ({columns}) SELECT {columns} FROM {rows} ORDER BY municipality_id, series_id, bucket
    ON CONFLICT (municipality_id, series_id, bucket) DO UPDATE SET
        n = excluded.n, n_flagged = excluded.n_flagged, sum = excluded.sum, sum_of_squares = excluded.sum_of_squares,
        min = excluded.min, max = excluded.max, first = excluded.first, last = excluded.last
"""
_MERGED = """
    SELECT r.municipality_id, r.series_id, {bucket} AS bucket, sum(r.n)::integer AS n,
           sum(r.n_flagged)::integer AS n_flagged, sum(r.sum) AS sum, sum(r.sum_of_squares) AS sum_of_squares,
           min(r.min) AS min, max(r.max) AS max,
           (array_agg(r.first ORDER BY r.bucket) FILTER (WHERE r.n > 0))[1] AS first,
           (array_agg(r.last ORDER BY r.bucket DESC) FILTER (WHERE r.n > 0))[1] AS last
"""

# NOT IN, because the planner believes that the queries before it give a handful of rows, and would run an anti join as
# a loop within a loop: half a minute for ten thousand series. A subplan of NOT IN is hashed whatever it believes.
_HOURS = f"""
WITH taken AS (
    DELETE FROM twin_rollup_mark WHERE ctid = ANY(%(marks)s::tid[]) RETURNING municipality_id, hour, series_ids
), touched AS MATERIALIZED (
    SELECT *, row_number() OVER () AS number
    FROM (SELECT DISTINCT municipality_id, series_id, hour FROM taken, unnest(series_ids) AS series_id) AS t
), hours AS MATERIALIZED (
    SELECT municipality_id, series_id, hour FROM touched WHERE number <= %(most)s
), left_over AS (
    INSERT INTO twin_rollup_mark (municipality_id, hour, series_ids)
    SELECT municipality_id, hour, array_agg(series_id) FROM touched WHERE number > %(most)s GROUP BY 1, 2
), quarters AS MATERIALIZED (
    SELECT h.municipality_id, h.series_id, date_bin('15 minutes', o.time, 'epoch') AS bucket,
           (count(*) FILTER (WHERE {_OK}))::integer AS n,
           (count(*) FILTER (WHERE NOT ({_OK})))::integer AS n_flagged,
           sum(o.result) FILTER (WHERE {_OK}) AS sum,
           sum(o.result * o.result) FILTER (WHERE {_OK}) AS sum_of_squares,
           min(o.result) FILTER (WHERE {_OK}) AS min,
           max(o.result) FILTER (WHERE {_OK}) AS max,
           (array_agg(o.result ORDER BY o.time) FILTER (WHERE {_OK}))[1] AS first,
           (array_agg(o.result ORDER BY o.time DESC) FILTER (WHERE {_OK}))[1] AS last
    FROM hours h CROSS JOIN LATERAL (
        SELECT * FROM twin_observation x WHERE x.municipality_id = h.municipality_id AND x.series_id = h.series_id
        AND x.time >= h.hour AND x.time < h.hour + interval '1 hour' AND x.result IS NOT NULL
    ) o
    GROUP BY 1, 2, 3
), merged AS MATERIALIZED (
    {_MERGED.format(bucket="date_trunc('hour', r.bucket, 'UTC')")} FROM quarters r GROUP BY 1, 2, 3
), emptied_quarters AS (
    DELETE FROM twin_rollup_15min r USING hours h
    WHERE r.municipality_id = h.municipality_id AND r.series_id = h.series_id
      AND r.bucket >= h.hour AND r.bucket < h.hour + interval '1 hour'
      AND (r.municipality_id, r.series_id, r.bucket) NOT IN (SELECT municipality_id, series_id, bucket FROM quarters)
), emptied_hours AS (
    DELETE FROM twin_rollup_1h r USING hours h
    WHERE (r.municipality_id, r.series_id, r.bucket) = (h.municipality_id, h.series_id, h.hour)
      AND (r.municipality_id, r.series_id, r.bucket) NOT IN (SELECT municipality_id, series_id, bucket FROM merged)
), upserted_quarters AS ({_UPSERT.format(table="twin_rollup_15min", columns=_COLUMNS, rows="quarters")}
), upserted_hours AS ({_UPSERT.format(table="twin_rollup_1h", columns=_COLUMNS, rows="merged")}
)
SELECT h.municipality_id, h.series_id, date_trunc('day', h.hour, m.time_zone) AS day, count(*)
FROM hours h JOIN cities_municipality m ON m.id = h.municipality_id GROUP BY 1, 2, 3
"""

# The end of a civil day is the next local midnight: 23, 24 or 25 hours later.
_DAYS = f"""
WITH days AS MATERIALIZED (
    SELECT d.municipality_id, d.series_id, d.day,
           ((d.day AT TIME ZONE m.time_zone) + interval '1 day') AT TIME ZONE m.time_zone AS next_day
    FROM unnest(%(municipality)s::smallint[], %(series)s::integer[], %(day)s::timestamptz[])
        AS d(municipality_id, series_id, day)
    JOIN cities_municipality m ON m.id = d.municipality_id
), merged AS MATERIALIZED (
    {_MERGED.format(bucket="d.day")}
    FROM days d JOIN twin_rollup_1h r ON r.municipality_id = d.municipality_id AND r.series_id = d.series_id
         AND r.bucket >= d.day AND r.bucket < d.next_day
    GROUP BY 1, 2, 3
), emptied AS (
    DELETE FROM twin_rollup_1d r USING days d
    WHERE (r.municipality_id, r.series_id, r.bucket) = (d.municipality_id, d.series_id, d.day)
      AND (r.municipality_id, r.series_id, r.bucket) NOT IN (SELECT municipality_id, series_id, bucket FROM merged)
)
{_UPSERT.format(table="twin_rollup_1d", columns=_COLUMNS, rows="merged")}
"""


async def refresh(connection: AsyncConnection[TupleRow], *, most: int = _AT_ONCE) -> int:
    """Bring up to ``most`` hours of series up to date, in one transaction; returns how many.

    While another process does so this does nothing.
    """
    async with connection.transaction():
        cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return 0
        marks = await _some_marks(connection)
        if not marks:
            return 0
        cursor = await connection.execute(_HOURS, {"marks": marks, "most": most})
        days = await cursor.fetchall()
        if days:
            await connection.execute(
                _DAYS,
                {
                    "municipality": [row[0] for row in days],
                    "series": [row[1] for row in days],
                    "day": [row[2] for row in days],
                },
            )
    ROLLUP_DAYS.inc(len(days))
    return sum(row[3] for row in days)


async def _some_marks(connection: AsyncConnection[TupleRow]) -> list[str]:
    """Where marks lie, as many as one statement can take."""
    cursor = await connection.execute(
        "SELECT ctid::text, cardinality(series_ids) FROM twin_rollup_mark LIMIT %s", [_MOST_MARKS]
    )
    places, size = [], 0
    for place, n in await cursor.fetchall():
        if size and size + n > _MOST_MARKED:
            break
        places.append(place)
        size += n
    return places


async def run(pool: AsyncConnectionPool[AsyncConnection[TupleRow]], stop: asyncio.Event) -> None:
    """Keep roll-ups up to date until ``stop``.

    A fraction of the time is spent on it: under a flood of readings roll-ups lag by some seconds, and recording does
    not. What one turn did not take, as of an import, is not kept waiting as long.
    """
    while not stop.is_set():
        pause_s = 1.0
        try:
            began = time.monotonic()
            async with pool.connection() as connection:
                touched = await refresh(connection)
            if touched:
                longest_s = _LONGEST_PAUSE_BEHIND_S if touched >= _AT_ONCE // 2 else _LONGEST_PAUSE_S
                pause_s = min(max(0.5, 9 * (time.monotonic() - began)), longest_s)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("rollups.retry", error=str(error).strip())
            pause_s = 2.0
        try:
            await asyncio.wait_for(stop.wait(), pause_s)
        except TimeoutError:
            continue
