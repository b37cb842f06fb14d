"""Roll-ups: quarter hours, hours and civil days of every series, kept right when data arrive late.

``record`` leaves a mark for every hour that it wrote into. Here marks are taken away and their hours computed anew from
the observations, in one statement and so from one snapshot: whatever put a mark there is seen.
"""

from __future__ import annotations

import asyncio
import time

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
_LONGEST_PAUSE_S = 3.0
# Flagged values stay out of the statistics unless a steward dismissed the flag.
_OK = f"((o.flags & {int(BAD)}) = 0 OR (o.flags & {int(Flag.DISMISSED)}) <> 0)"
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
    DELETE FROM twin_rollup_mark
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM twin_rollup_mark LIMIT %(marks)s FOR UPDATE SKIP LOCKED))
    RETURNING municipality_id, series_id, hour
), hours AS MATERIALIZED (
    SELECT DISTINCT municipality_id, series_id, hour FROM taken
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
SELECT DISTINCT h.municipality_id, h.series_id, date_trunc('day', h.hour, m.time_zone) AS day
FROM hours h JOIN cities_municipality m ON m.id = h.municipality_id
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


async def refresh(connection: AsyncConnection[TupleRow], *, marks: int = 20_000) -> int:
    """Bring the roll-ups of up to ``marks`` marks up to date, in one transaction; returns how many days it touched.

    While another process does so this does nothing.
    """
    async with connection.transaction():
        cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return 0
        cursor = await connection.execute(_HOURS, {"marks": marks})
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
    return len(days)


async def run(pool: AsyncConnectionPool[AsyncConnection[TupleRow]], stop: asyncio.Event) -> None:
    """Keep roll-ups up to date until ``stop``.

    A fraction of the time is spent on it: under a flood of readings roll-ups lag by some seconds, and recording does
    not.
    """
    while not stop.is_set():
        pause_s = 1.0
        try:
            began = time.monotonic()
            async with pool.connection() as connection:
                touched = await refresh(connection)
            if touched:
                pause_s = min(max(0.5, 9 * (time.monotonic() - began)), _LONGEST_PAUSE_S)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("rollups.retry", error=str(error).strip())
            pause_s = 2.0
        try:
            await asyncio.wait_for(stop.wait(), pause_s)
        except TimeoutError:
            continue
