"""Reading: pages, charts and lists, against the observations that were written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync

from quartier.engines.pools import async_pool
from quartier.twin import queries, rollups
from quartier.twin.models import Thing
from quartier.twin.record import Observation, Recorder
from tests.world import World

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def write(store: str, rows: list[Observation]) -> None:
    """Record and roll up."""

    async def work() -> None:
        async with async_pool(store) as pool:
            recorder = Recorder(pool)
            await recorder.start()
            await recorder.record(rows)
            async with pool.connection() as connection:
                await rollups.refresh(connection)
            await recorder.close()

    async_to_sync(work)()


def test_pages_by_keyset_cover_everything_once(world: World, store: str) -> None:
    series = world.series("air_temperature")
    write(
        store,
        [
            Observation(world.municipality.pk, series.pk, NOON + timedelta(minutes=n), float(n))
            for n in range(25)
        ],
    )
    pages: list[list[float | None]] = []
    before = None
    while page := queries.newest(series, limit=10, before=before):
        pages.append([reading.result for reading in page])
        before = page[-1].time
    assert pages == [
        [float(n) for n in range(24, 14, -1)],
        [float(n) for n in range(14, 4, -1)],
        [float(n) for n in range(4, -1, -1)],
    ]
    first = queries.readings(series, NOON, NOON + timedelta(minutes=4))
    assert [reading.result for reading in first] == [0, 1, 2, 3]
    rest = queries.readings(series, NOON, NOON + timedelta(minutes=9), after=first[-1].time)
    assert [reading.result for reading in rest] == [4, 5, 6, 7, 8]
    assert queries.count(series) == 25


def test_page_reaches_over_long_gaps(world: World, store: str) -> None:
    series = world.series("air_temperature")
    times = [NOON - timedelta(days=n) for n in (2000, 1999, 900, 30, 1, 0)]
    write(store, [Observation(world.municipality.pk, series.pk, t, float(n)) for n, t in enumerate(times)])
    assert [r.result for r in queries.newest(series, limit=10)] == [5, 4, 3, 2, 1, 0]
    assert [r.result for r in queries.newest(series, limit=2)] == [5, 4]
    assert [r.result for r in queries.newest(series, limit=2, before=times[3])] == [2, 1]
    assert queries.newest(series, before=times[0]) == []
    assert [r.result for r in queries.newest(series, limit=1, before=NOON + timedelta(days=400))] == [5]


@pytest.mark.parametrize(
    ("days", "resolution", "points"), [(1, "raw", 24), (5, "15min", 120), (20, "1h", 480), (100, "1d", 101)]
)
def test_chart_uses_the_finest_resolution_that_fits(
    world: World, store: str, days: int, resolution: str, points: int
) -> None:
    series = world.series("air_temperature")
    hours = days * 24
    write(
        store,
        [
            Observation(world.municipality.pk, series.pk, NOON + timedelta(hours=n), float(n))
            for n in range(hours)
        ],
    )
    chart = queries.chart(
        series, NOON - timedelta(days=1), NOON - timedelta(days=1) + timedelta(days=days + 1)
    )
    assert (chart.resolution, len(chart.buckets)) == (resolution, points)
    assert sum(bucket.n for bucket in chart.buckets) == hours
    assert sum(bucket.sum or 0 for bucket in chart.buckets) == hours * (hours - 1) / 2
    assert (chart.buckets[0].first, chart.buckets[-1].last) == (0, hours - 1)


def test_flagged_reading_is_a_gap_in_the_chart(world: World, store: str) -> None:
    series = world.series("air_temperature")
    city = world.municipality.pk
    write(
        store,
        [
            Observation(city, series.pk, NOON, 20.0),
            Observation(city, series.pk, NOON + timedelta(minutes=5), 90.0, 1),
            Observation(city, series.pk, NOON + timedelta(minutes=10), 61.0, 1 | 128),
        ],
    )
    chart = queries.chart(series, NOON, NOON + timedelta(hours=1))
    assert [(b.n, b.n_flagged, b.mean) for b in chart.buckets] == [(1, 0, 20.0), (0, 1, None), (1, 0, 61.0)]


@pytest.mark.parametrize("things", [1, 4])
def test_list_of_things_costs_three_queries(
    world: World, store: str, things: int, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    rows = []
    for n in range(things):
        thing = Thing.objects.create(
            municipality=world.municipality, key=f"t{n}", name=f"T {n}", kind="station"
        )
        for slug in ("air_temperature", "relative_humidity"):
            series = world.series(slug, thing=thing)
            rows.append(Observation(world.municipality.pk, series.pk, NOON, 10.0 + n))
    write(store, rows)
    with django_assert_num_queries(3):  # type: ignore[operator]
        found = queries.things_with_latest(Thing.objects.filter(key__startswith="t"), ["air_temperature"])
    assert [
        (row.thing.key, {slug: latest.result if latest else None for slug, (_, latest) in row.latest.items()})
        for row in found
    ] == [(f"t{n}", {"air_temperature": 10.0 + n}) for n in range(things)]


def test_stream_gives_series_after_series_in_order_of_time(world: World, store: str) -> None:
    one, two = world.series("air_temperature"), world.series("wind_speed")
    city = world.municipality.pk
    write(
        store,
        [
            Observation(city, s.pk, NOON + timedelta(hours=n), float(n))
            for s in (two, one)
            for n in range(-1, 5)
        ],
    )
    rows = list(queries.stream([one.pk, two.pk], NOON, NOON + timedelta(hours=3)))
    assert [(series_id, reading.result) for series_id, reading in rows] == [
        (s.pk, float(n)) for s in (one, two) for n in range(3)
    ]


def test_no_series_no_query(world: World) -> None:
    assert queries.latest([]) == {}
    assert list(queries.stream([], NOON, NOON)) == []
