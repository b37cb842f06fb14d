"""Flags become findings: runs of flagged readings that a data steward can confirm or dismiss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.twin.correct import Key
from quartier.twin.flags import Flag

CHECK_NAMES: dict[Flag, str] = {
    Flag.RANGE: "range",
    Flag.PERSISTENCE: "persistence",
    Flag.SPIKE: "spike",
    Flag.SPATIAL: "spatial",
}


class Flagged(Protocol):
    """A reading with its flags, such as an observation."""

    @property
    def municipality_id(self) -> int: ...
    @property
    def series_id(self) -> int: ...
    @property
    def time(self) -> datetime: ...
    @property
    def result(self) -> float | None: ...
    @property
    def flags(self) -> int: ...


# A run ends where nothing was flagged for a day, or where a steward decided.
_EXTEND = """
WITH flagged AS (
    SELECT municipality_id, series_id, check_name, min(time) AS first_time, max(time) AS last_time, count(*) AS n,
           (array_agg(result ORDER BY time DESC))[1] AS example
    FROM unnest(%s::smallint[], %s::integer[], %s::text[], %s::timestamptz[], %s::double precision[])
        AS f(municipality_id, series_id, check_name, time, result)
    GROUP BY 1, 2, 3
), extended AS (
    UPDATE intake_qualityfinding q
    SET first_time = least(q.first_time, f.first_time), last_time = greatest(q.last_time, f.last_time),
        n = q.n + f.n, example = f.example
    FROM flagged f
    WHERE q.series_id = f.series_id AND q.check_name = f.check_name AND q.state = 'open'
      AND f.first_time <= q.last_time + interval '1 day' AND f.last_time >= q.first_time - interval '1 day'
    RETURNING q.series_id, q.check_name
)
INSERT INTO intake_qualityfinding
    (municipality_id, series_id, check_name, first_time, last_time, n, example, detail, state)
SELECT municipality_id, series_id, check_name, first_time, last_time, n, example, '{}', 'open' FROM flagged f
WHERE NOT EXISTS (SELECT 1 FROM extended e WHERE e.series_id = f.series_id AND e.check_name = f.check_name)
"""


async def note(connection: AsyncConnection[TupleRow], flagged: Iterable[Flagged]) -> None:
    """Add flagged readings to the open findings of their series, or open new ones."""
    rows = [
        (one.municipality_id, one.series_id, name, one.time, one.result)
        for one in flagged
        if one.flags
        for flag, name in CHECK_NAMES.items()
        if one.flags & flag
    ]
    if rows:
        await connection.execute(_EXTEND, [list(column) for column in zip(*rows, strict=True)])


# What nobody has decided yet and nothing flagged is left of is no finding.
_WITHDRAW = """
WITH acquitted AS (
    SELECT q.id, count(*) AS n
    FROM unnest(%s::integer[], %s::timestamptz[]) AS a(series_id, time)
    JOIN intake_qualityfinding q ON q.series_id = a.series_id AND q.check_name = %s AND q.state = 'open'
         AND a.time BETWEEN q.first_time AND q.last_time
    GROUP BY q.id
), emptied AS (
    DELETE FROM intake_qualityfinding q USING acquitted a WHERE q.id = a.id AND q.n <= a.n
)
UPDATE intake_qualityfinding q SET n = q.n - a.n FROM acquitted a WHERE q.id = a.id AND q.n > a.n
"""


async def withdraw(connection: AsyncConnection[TupleRow], acquitted: Sequence[Key], flag: Flag) -> None:
    """Take readings whose flag was lifted out of the open findings of their series."""
    if acquitted:
        await connection.execute(
            _WITHDRAW, [[key[1] for key in acquitted], [key[2] for key in acquitted], CHECK_NAMES[flag]]
        )
