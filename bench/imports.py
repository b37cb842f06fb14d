"""How fast three years of real car-park readings are imported with quality control, and charted afterwards.

Reads the folder that the variable QUARTIER_BENCH_PARKING names (``garages.csv`` and ``occupancy-2020-2022.csv.gz``, as
the city published them); without it there are no figures.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.installation import installation

FOLDER = Path(os.environ.get("QUARTIER_BENCH_PARKING", "/nowhere"))


def run() -> dict[str, float | str]:
    """Readings per second; the time of a chart over all three years of one car park, in milliseconds."""
    if not FOLDER.is_dir():
        return {"skipped": "the real data are not on this machine"}
    with installation():
        from quartier.cli.importers import parking
        from quartier.cli.recording import Counts, SeriesOf, observations, record, write_things
        from quartier.cli.seed import seed_municipality, seed_properties, shipped_file
        from quartier.engines.pools import async_pool
        from quartier.twin import queries, rollups

        seed_properties()
        city, counts = seed_municipality(shipped_file("dortmund")), Counts()
        things = write_things(city, parking.car_parks(FOLDER / "garages.csv", print), counts, source="bench")
        series_of = SeriesOf(city, things)
        readings = parking.occupancy(FOLDER / "occupancy-2020-2022.csv.gz", things.keys(), print)

        import asyncio

        async def work() -> float:
            await record(observations(readings, series_of, counts), counts, publish=False)
            begin = time.monotonic()
            async with (
                async_pool(name="bench", statement_timeout_ms=600_000) as pool,
                pool.connection() as connection,
            ):
                while await rollups.refresh(connection):
                    pass
            return time.monotonic() - begin

        rollup_s = asyncio.run(work())
        series = series_of.find("kuckelke", "free_spaces")
        assert series is not None
        times = []
        for _ in range(20):
            begin = time.monotonic()
            chart = queries.chart(series, datetime(2020, 3, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC))
            times.append((time.monotonic() - begin) * 1000)
        return {
            "readings": counts.recorded,
            "readings_per_s": counts.rate,
            "rollups_s": rollup_s,
            "chart_of_three_years_ms": sorted(times)[len(times) // 2],
            "chart_points": len(chart.buckets),
        }
