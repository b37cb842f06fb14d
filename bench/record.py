"""How fast observations are committed: in bulk, and by many writers who each wait for their commit."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from bench.installation import installation, percentile

SERIES = 1000
BULK_CALLS, ROWS_PER_CALL = 120, 5000
WRITERS, CALLS_PER_WRITER = 256, 200


def run() -> dict[str, float]:
    """Figures; fsync on, one process, a month of 1,000 series."""
    with installation() as place:
        return asyncio.run(_measure(place.postgres_url))


async def _measure(url: str) -> dict[str, float]:
    from quartier.engines.pools import async_pool
    from quartier.twin.record import Observation, Recorder

    start = datetime(2026, 3, 1, tzinfo=UTC)
    async with async_pool(url) as pool:
        recorder = Recorder(pool)
        await recorder.start()

        async def bulk(caller: int) -> None:
            per_series = ROWS_PER_CALL // SERIES
            for call in range(BULK_CALLS // 4):
                first = start + timedelta(minutes=(caller * BULK_CALLS // 4 + call) * per_series)
                await recorder.record(
                    [
                        Observation(1, series + 1, first + timedelta(minutes=n), 20.0 + n, 0, call)
                        for n in range(per_series)
                        for series in range(SERIES)
                    ]
                )

        began = time.perf_counter()
        await asyncio.gather(*(bulk(caller) for caller in range(4)))
        bulk_s = time.perf_counter() - began

        waits: list[float] = []

        async def single(series: int) -> None:
            for n in range(CALLS_PER_WRITER):
                asked = time.perf_counter()
                await recorder.record(
                    [Observation(1, series + 1, start - timedelta(seconds=n + 1), 1.0, 0, n)]
                )
                waits.append(time.perf_counter() - asked)

        began = time.perf_counter()
        await asyncio.gather(*(single(series) for series in range(WRITERS)))
        single_s = time.perf_counter() - began
        await recorder.close()
    return {
        "record_bulk_observations_per_s": BULK_CALLS * ROWS_PER_CALL / bulk_s,
        "record_single_observations_per_s": WRITERS * CALLS_PER_WRITER / single_s,
        "record_single_wait_p50_ms": percentile(waits, 50) * 1000,
        "record_single_wait_p99_ms": percentile(waits, 99) * 1000,
    }
