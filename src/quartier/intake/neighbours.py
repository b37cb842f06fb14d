"""The periodic check of the newest readings against the stations around them, over all municipalities together."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb

from quartier.intake import findings, metrics
from quartier.intake.interpreter import Pool
from quartier.intake.spatial import SPATIAL_LIMITS, SpatialResult, spatial_check
from quartier.twin import correct
from quartier.twin.flags import Flag
from quartier.twin.record import Observation

# Readings this close together are of one moment; stations report every five to fifteen minutes.
_MOMENT = timedelta(minutes=20)
# A value that another check has already found bad would only spoil its neighbours.
_OTHER_CHECKS: Final = int(Flag.RANGE | Flag.PERSISTENCE | Flag.SPIKE | Flag.CONFIRMED)

_NEWEST = """
    SELECT s.municipality_id, s.id, st.time, st.result, st.flags, t.lat, t.lon, t.altitude_m
    FROM twin_series s
    JOIN twin_observedproperty p ON p.id = s.observed_property_id
    JOIN twin_thing t ON t.id = s.thing_id
    JOIN twin_state st ON st.municipality_id = s.municipality_id AND st.series_id = s.id
    WHERE p.slug = %s AND t.kind = 'station' AND t.lat IS NOT NULL AND t.lon IS NOT NULL
      AND st.result IS NOT NULL AND (st.flags & %s) = 0 AND st.time > now() - %s
    ORDER BY s.id
"""


async def check_neighbours(pool: Pool) -> int:
    """Check the newest reading of every station; returns how many were flagged now."""
    flagged = 0
    for slug in SPATIAL_LIMITS:
        async with pool.connection() as connection:
            rows = await (await connection.execute(_NEWEST, [slug, _OTHER_CHECKS, _MOMENT])).fetchall()
        if not rows:
            continue
        results = await asyncio.to_thread(
            spatial_check,
            slug,
            [row[5] for row in rows],
            [row[6] for row in rows],
            [math.nan if row[7] is None else row[7] for row in rows],
            [row[3] for row in rows],
        )
        flagged += await _apply(pool, rows, results)
    return flagged


async def _apply(pool: Pool, rows: list[tuple[Any, ...]], results: list[SpatialResult]) -> int:
    bad = [
        (row, result)
        for row, result in zip(rows, results, strict=True)
        if result.flagged and not row[4] & int(Flag.SPATIAL)
    ]
    good_again = [
        (row[0], row[1], row[2])
        for row, result in zip(rows, results, strict=True)
        if result.checked and not result.flagged and row[4] & int(Flag.SPATIAL)
    ]
    async with pool.connection() as connection, connection.transaction():
        await correct.flag(connection, good_again, clear=int(Flag.SPATIAL))
        await correct.flag(connection, [(row[0], row[1], row[2]) for row, _ in bad], set_=int(Flag.SPATIAL))
        await findings.note(
            connection,
            [Observation(row[0], row[1], row[2], row[3], int(Flag.SPATIAL)) for row, _ in bad],
        )
        for row, result in bad:
            # What the neighbours measured is the reason, and stands with the finding.
            await connection.execute(
                "UPDATE intake_qualityfinding SET detail = %s WHERE series_id = %s AND check_name = 'spatial'"
                " AND state = 'open' AND %s BETWEEN first_time AND last_time",
                [Jsonb({"expected": result.expected, "neighbours": result.neighbours}), row[1], row[2]],
            )
    metrics.FLAGGED.labels("spatial").inc(len(bad))
    return len(bad)
