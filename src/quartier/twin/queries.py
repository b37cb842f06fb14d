"""Reading the store of observations, for pages and downloads (synchronous, on Django's connection).

Every query is bounded by a key: its cost depends on what it returns and not on how much history there is. Paging is by
keyset. Long periods come from the roll-ups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db import connection, transaction
from django.db.models import QuerySet

from quartier.twin.flags import is_bad
from quartier.twin.models import Series, Thing

Resolution = Literal["raw", "15min", "1h", "1d"]
_BUCKET_WIDTH: dict[Resolution, timedelta] = {
    "15min": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}


_TICK = timedelta(microseconds=1)  # the resolution of time in the store


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest observation of a series, with its counters."""

    series_id: int
    time: datetime
    result: float | None
    value: Any
    flags: int
    n: int
    first_time: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """One observation. ``result`` holds numbers and booleans (0, 1), ``value`` any other result."""

    time: datetime
    result: float | None
    value: Any
    flags: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a period of a series is summed up by. Flagged values are counted in ``n_flagged`` only."""

    start: datetime
    n: int
    n_flagged: int
    mean: float | None
    sum: float | None
    min: float | None
    max: float | None
    first: float | None
    last: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A period of a series in at most about as many points as were asked for."""

    resolution: Resolution
    buckets: list[Bucket]


@dataclass(frozen=True, slots=True)
class ThingRow:
    """A thing with the newest observation of each property (first channel)."""

    thing: Thing
    latest: dict[str, tuple[Series, Latest | None]]


def latest(series_ids: Iterable[int]) -> dict[int, Latest]:
    """The newest observation of each series that has one."""
    ids = list(series_ids)
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT st.series_id, st.time, st.result, st.value, st.flags, st.n, st.first_time, st.recorded_at"
            " FROM twin_series s JOIN twin_state st ON st.municipality_id = s.municipality_id AND st.series_id = s.id"
            " WHERE s.id = ANY(%s)",
            [ids],
        )
        return {row[0]: Latest(*row) for row in cursor.fetchall()}


def newest(series: Series, *, limit: int = 100, before: datetime | None = None) -> list[Reading]:
    """A page of observations, newest first; ``before`` is the time of the last one of the page before.

    Only the months in which the page is expected are looked at, for planning a query over ten years of monthly
    partitions takes longer than reading a page of one.
    """
    state = latest([series.pk]).get(series.pk)
    if state is None:
        return []
    spacing = (state.time - state.first_time) / max(state.n - 1, 1)
    window = max(spacing * limit * 3, timedelta(hours=1))
    upper = state.time + _TICK if before is None else min(before, state.time + _TICK)
    found: list[Reading] = []
    with connection.cursor() as cursor:
        while len(found) < limit and upper > state.first_time:
            lower = max(upper - window, state.first_time)
            cursor.execute(
                "SELECT time, result, value, flags FROM twin_observation"
                " WHERE municipality_id = %s AND series_id = %s AND time >= %s AND time < %s"
                " ORDER BY time DESC LIMIT %s",
                [series.municipality_id, series.pk, lower, upper, limit - len(found)],
            )
            found += [Reading(*row) for row in cursor.fetchall()]
            upper, window = lower, window * 10
    return found


def readings(
    series: Series, since: datetime, until: datetime, *, limit: int = 10_000, after: datetime | None = None
) -> list[Reading]:
    """Observations with ``since <= time < until``, oldest first; ``after`` is the time of the last one seen."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT time, result, value, flags FROM twin_observation"
            " WHERE municipality_id = %s AND series_id = %s AND time >= %s AND time < %s AND time > %s"
            " ORDER BY time LIMIT %s",
            [series.municipality_id, series.pk, since, until, after or "-infinity", limit],
        )
        return [Reading(*row) for row in cursor.fetchall()]


def stream(series_ids: Sequence[int], since: datetime, until: datetime) -> Iterator[tuple[int, Reading]]:
    """All observations of some series in a period, series by series, in constant memory.

    Rows come through a server-side cursor, inside one transaction: a download shows one state of the store.
    """
    if not series_ids:
        return
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(
            "SELECT o.series_id, o.time, o.result, o.value, o.flags"
            " FROM twin_series s JOIN twin_observation o"
            " ON o.municipality_id = s.municipality_id AND o.series_id = s.id"
            " WHERE s.id = ANY(%s) AND o.time >= %s AND o.time < %s ORDER BY o.series_id, o.time",
            [list(series_ids), since, until],
        )
        while rows := cursor.fetchmany(5000):
            for series_id, time, result, value, flags in rows:
                yield series_id, Reading(time, result, value, flags)


def count(series: Series) -> int:
    """How many observations a series has, from its counter."""
    found = latest([series.pk]).get(series.pk)
    return found.n if found else 0


def chart(series: Series, since: datetime, until: datetime, *, max_points: int = 600) -> Chart:
    """A period of a series: single readings where they are few, else the finest roll-up that fits."""
    span = until - since
    if span <= timedelta(days=2):
        rows = readings(series, since, until, limit=max_points + 1)
        if len(rows) <= max_points:
            return Chart("raw", [_single(row) for row in rows])
    resolution: Resolution = "1d"
    for candidate, width in _BUCKET_WIDTH.items():
        if span / width <= max_points:
            resolution = candidate
            break
    with connection.cursor() as cursor:
        # The table's name comes from the fixed list above.
        cursor.execute(
            f"SELECT bucket, n, n_flagged, CASE WHEN n > 0 THEN sum / n END, sum, min, max, first, last"
            f" FROM twin_rollup_{resolution}"
            " WHERE municipality_id = %s AND series_id = %s AND bucket >= %s AND bucket < %s ORDER BY bucket",
            [series.municipality_id, series.pk, since, until],
        )
        return Chart(resolution, [Bucket(*row) for row in cursor.fetchall()])


def _single(reading: Reading) -> Bucket:
    x = reading.result
    if x is None or is_bad(reading.flags):
        return Bucket(reading.time, 0, 0 if x is None else 1, None, None, None, None, None, None)
    return Bucket(reading.time, 1, 0, x, x, x, x, x, x)


def things_with_latest(things: QuerySet[Thing], properties: Sequence[str] | None = None) -> list[ThingRow]:
    """Things with the newest observation per property, in three queries whatever their number."""
    rows = [ThingRow(thing, {}) for thing in things.select_related("municipality", "district")]
    by_thing = {row.thing.pk: row for row in rows}
    series = (
        Series.objects.filter(thing_id__in=by_thing)
        .select_related("observed_property")
        .order_by("channel", "id")
    )
    if properties is not None:
        series = series.filter(observed_property__slug__in=properties)
    found = list(series)
    newest_of = latest(s.pk for s in found)
    for one in found:
        by_thing[one.thing_id].latest.setdefault(one.observed_property.slug, (one, newest_of.get(one.pk)))
    return rows
