"""What reading costs with one year (2 million observations) and with ten: cost must not grow with history."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.installation import installation, percentile

SERIES = 1000
END = datetime(2026, 11, 1, tzinfo=UTC)
SIZES = (2_000_000, 20_000_000)
STEP = timedelta(hours=4.38)  # 2 million observations of 1,000 series are then a year, 20 million ten years
REPEATS = 40
DEEP = 1_500


def run() -> dict[str, float]:
    """Medians in milliseconds at both sizes, and their ratios; warm cache."""
    figures: dict[str, float] = {}
    with installation():
        series = _make_series()
        done = 0
        for size in SIZES:
            fill(done // SERIES, size // SERIES)
            done = size
            for name, value in _measure(series).items():
                figures[f"{name}_at_{size // 1_000_000}M_ms"] = value
    for name in ("latest_1000_series", "newest_100", "deep_page", "year_chart"):
        small, large = (figures[f"{name}_at_{size // 1_000_000}M_ms"] for size in SIZES)
        figures[f"{name}_ratio"] = large / small
    return figures


def _make_series() -> list[int]:
    from quartier.cities.models import Municipality
    from quartier.twin.models import ObservedProperty, Series, Thing

    city = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    found = ObservedProperty.objects.create(
        slug="air_temperature",
        iri="https://example.org/t",
        name_de="T",
        name_en="T",
        unit="Cel",
        category="weather",
    )
    things = Thing.objects.bulk_create(
        Thing(municipality=city, key=f"t{n}", name=f"T {n}", kind="station") for n in range(SERIES)
    )
    return [
        s.pk
        for s in Series.objects.bulk_create(
            Series(municipality=city, thing=thing, observed_property=found, unit="Cel") for thing in things
        )
    ]


def fill(
    from_step: int, to_step: int, *, end: datetime = END, step: timedelta = STEP, fine: bool = False
) -> None:
    """Observations of all series backwards from ``end``, with what record and the roll-ups would have written beside.

    Written by the store itself, because this measures reading; a month at a time, as they would have come. ``fine``:
    with the roll-ups of quarters and hours as well as those of days.
    """
    from django.db import connection

    from quartier.twin import partitions

    first = end - to_step * step
    months = [(first.year, first.month)]
    while months[-1] != (end.year, end.month):
        months.append(partitions.following(months[-1]))
    with connection.cursor() as cursor:
        for month in months:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {partitions.name(month)} PARTITION OF twin_observation"
                " FOR VALUES FROM (%s) TO (%s)",
                [partitions.start(month), partitions.start(partitions.following(month))],
            )
        for begin in range(from_step, to_step, 1000):
            cursor.execute(
                "INSERT INTO twin_observation (municipality_id, series_id, time, result, origin)"
                " SELECT s.municipality_id, s.id, %s - n * %s::interval, 15 + 10 * sin(n / 30.0), n"
                " FROM generate_series(%s::integer, %s) n CROSS JOIN twin_series s ON CONFLICT DO NOTHING",
                [end, str(step), begin + 1, min(begin + 1000, to_step)],
            )
        cursor.execute("TRUNCATE twin_state, twin_rollup_15min, twin_rollup_1h, twin_rollup_1d")
        cursor.execute(
            "INSERT INTO twin_state SELECT municipality_id, id, %s, %s - %s * %s::interval, %s - %s::interval, 0, 15,"
            " NULL, now() FROM twin_series",
            [to_step, end, to_step, str(step), end, str(step)],
        )
        buckets = {"1d": "date_trunc('day', time, 'Europe/Berlin')"}
        if fine:
            buckets |= {
                "1h": "date_trunc('hour', time, 'UTC')",
                "15min": "date_bin('15 minutes', time, 'epoch')",
            }
        for name, bucket in buckets.items():
            cursor.execute(
                f"INSERT INTO twin_rollup_{name} SELECT municipality_id, series_id, {bucket},"
                " count(*), 0, sum(result), sum(result * result), min(result), max(result), min(result), max(result)"
                " FROM twin_observation GROUP BY 1, 2, 3"
            )
        cursor.execute("VACUUM ANALYZE")


def _measure(series_ids: list[int]) -> dict[str, float]:
    from quartier.twin import queries
    from quartier.twin.models import Series

    chosen = list(Series.objects.filter(pk__in=series_ids[:: len(series_ids) // REPEATS])[:REPEATS])
    year = timedelta(days=365)

    def deep(one: Series) -> None:
        queries.newest(one, limit=100, before=END - DEEP * STEP)

    return {
        "latest_1000_series": _median_ms(lambda _: queries.latest(series_ids), chosen),
        "newest_100": _median_ms(queries.newest, chosen),
        "deep_page": _median_ms(deep, chosen),
        "year_chart": _median_ms(lambda one: queries.chart(one, END - year, END), chosen),
    }


def _median_ms[T](work: Callable[[T], object], items: list[T]) -> float:
    work(items[0])
    times = []
    for item in items:
        began = time.perf_counter()
        work(item)
        times.append(time.perf_counter() - began)
    return percentile(times, 50) * 1000
