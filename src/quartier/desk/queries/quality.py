"""Quality: findings to decide, and the stations that are silent, drifting or implausible.

Drift cannot be seen in one reading. A station is compared with the median of its neighbours hour by hour over seven
days: weather moves all of them, a sensor that ages moves alone. The hourly roll-ups hold what is needed, so the cost
does not depend on how often a station reports.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection
from django.db.models import Count, QuerySet

from quartier.cities.rules import Actor
from quartier.desk.access import within
from quartier.desk.queries.devices import place_of, state_of, with_place, with_state
from quartier.intake.models import QualityFinding
from quartier.twin.models import Device, Series, Thing, ThingKind

PERIOD: Final = timedelta(days=7)
# The ends of the period that are compared to see whether a deviation grows; whole days, so that day and night cancel.
END: Final = timedelta(days=2)
NEIGHBOURS_AT_MOST: Final = 8
NEIGHBOURS_AT_LEAST: Final = 3
RADIUS_KM: Final = 8.0
HOURS_AT_LEAST: Final = 24
IMPLAUSIBLE_SHARE: Final = 0.05
PAGE_SIZE: Final = 25
_KM_PER_DEGREE: Final = 111.2


@dataclass(frozen=True, slots=True)
class DriftLimit:
    """From which deviation on a station is worth a look, in the unit of the property."""

    mean: float
    change: float


DRIFT_LIMITS: Final[dict[str, DriftLimit]] = {
    "air_temperature": DriftLimit(2.0, 1.5),
    "relative_humidity": DriftLimit(12.0, 8.0),
}


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a series was from its neighbours' median over the period, and how that changed from start to end."""

    series: Series
    mean: float
    change: float | None
    hours: int
    neighbours: int
    notable: bool


@dataclass(frozen=True, slots=True)
class Implausible:
    """A series with many flagged readings in the period."""

    series: Series
    n: int
    n_flagged: int

    @property
    def n_all(self) -> int:
        """Flagged readings and those that count."""
        return self.n + self.n_flagged

    @property
    def share(self) -> float:
        """Flagged readings among all, 0 to 1."""
        return self.n_flagged / self.n_all


@dataclass(frozen=True, slots=True)
class SilentThing:
    """A thing none of whose devices has been heard for too long."""

    thing: Thing
    last_seen_at: datetime | None
    devices: list[Device]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFilter:
    """What the list of findings is narrowed to; empty values do not narrow."""

    municipality: str = ""
    check: str = ""
    property: str = ""
    state: str = QualityFinding.State.OPEN


def findings(actor: Actor, wanted: FindingFilter) -> QuerySet[QualityFinding]:
    """The findings that ``wanted`` describes, newest first, with what a line shows."""
    rows = QualityFinding.objects.filter(within(actor)).select_related(
        "municipality", "series__thing__municipality", "series__observed_property", "decided_by"
    )
    if wanted.municipality:
        rows = rows.filter(municipality__slug=wanted.municipality)
    if wanted.check:
        rows = rows.filter(check_name=wanted.check)
    if wanted.property:
        rows = rows.filter(series__observed_property__slug=wanted.property)
    if wanted.state:
        rows = rows.filter(state=wanted.state)
    return rows.order_by("-last_time", "-id")


def check_counts(actor: Actor) -> dict[str, int]:
    """Open findings per check."""
    return dict(
        QualityFinding.objects.filter(within(actor), state=QualityFinding.State.OPEN)
        .order_by()
        .values_list("check_name")
        .annotate(n=Count("pk"))
        .order_by("check_name")
    )


def around(
    rows: Iterable[QualityFinding], *, margin: timedelta = timedelta(hours=6), limit: int = 400
) -> dict[int, list[tuple[datetime, float | None, int]]]:
    """(time, result, flags) around each finding, oldest first, in one query for all of them."""
    wanted = list(rows)
    found: dict[int, list[tuple[datetime, float | None, int]]] = {row.pk: [] for row in wanted}
    if not wanted:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT w.id, o.time, o.result, o.flags"
            " FROM unnest(%s::bigint[], %s::smallint[], %s::integer[], %s::timestamptz[], %s::timestamptz[])"
            " AS w(id, municipality_id, series_id, since, until)"
            " CROSS JOIN LATERAL (SELECT time, result, flags FROM twin_observation"
            " WHERE municipality_id = w.municipality_id AND series_id = w.series_id"
            " AND time >= w.since AND time <= w.until ORDER BY time DESC LIMIT %s) o ORDER BY w.id, o.time",
            [
                [row.pk for row in wanted],
                [row.municipality_id for row in wanted],
                [row.series_id for row in wanted],
                [row.first_time - margin for row in wanted],
                [row.last_time + margin for row in wanted],
                limit,
            ],
        )
        for finding_id, time, result, flags in cursor.fetchall():
            found[finding_id].append((time, result, flags))
    return found


@dataclass(frozen=True, slots=True)
class Nearby:
    """What a neighbour measured at the same time."""

    series: Series
    distance_km: float
    mean: float | None


def _distance_km(a: Thing, b: Thing) -> float | None:
    if a.lon is None or a.lat is None or b.lon is None or b.lat is None:
        return None
    dx = (a.lon - b.lon) * _KM_PER_DEGREE * float(np.cos(np.radians(a.lat)))
    return float(np.hypot(dx, (a.lat - b.lat) * _KM_PER_DEGREE))


def nearby(finding: QualityFinding, *, limit: int = 5) -> list[Nearby]:
    """The nearest public places that measure the same, with their mean over the finding's hours."""
    own = finding.series
    others = Series.objects.filter(
        observed_property_id=own.observed_property_id,
        thing__kind=own.thing.kind,
        thing__public=True,
        derivation="",
    ).exclude(thing_id=own.thing_id)
    ranked: list[tuple[float, Series]] = []
    for other in others.select_related("thing__municipality", "observed_property"):
        distance = _distance_km(own.thing, other.thing)
        if distance is not None:
            ranked.append((distance, other))
    ranked.sort(key=lambda pair: (pair[0], pair[1].pk))
    chosen = ranked[:limit]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.id, sum(r.sum) / sum(r.n) FROM twin_series s JOIN twin_rollup_1h r"
            " ON r.municipality_id = s.municipality_id AND r.series_id = s.id"
            " WHERE s.id = ANY(%s) AND r.bucket >= date_trunc('hour', %s::timestamptz) AND r.bucket <= %s AND r.n > 0"
            " GROUP BY s.id",
            [[series.pk for _, series in chosen], finding.first_time, finding.last_time],
        )
        means: dict[int, float] = dict(cursor.fetchall())
    return [Nearby(series, distance, means.get(series.pk)) for distance, series in chosen]


def _hourly(series_ids: list[int], since: datetime, hours: int) -> npt.NDArray[np.float64]:
    """Hourly means, hours × series, NaN where there is none."""
    matrix = np.full((hours, len(series_ids)), np.nan)
    column = {series_id: i for i, series_id in enumerate(series_ids)}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.series_id, floor(extract(epoch FROM r.bucket - %s) / 3600)::int, r.sum / r.n"
            " FROM twin_series s JOIN twin_rollup_1h r ON r.municipality_id = s.municipality_id AND r.series_id = s.id"
            " WHERE s.id = ANY(%s) AND r.bucket >= %s AND r.bucket < %s AND r.n > 0",
            [since, series_ids, since, since + timedelta(hours=hours)],
        )
        for series_id, hour, mean in cursor.fetchall():
            matrix[hour, column[series_id]] = mean
    return matrix


def deviations(values: npt.NDArray[np.float64], neighbours: list[list[int]]) -> npt.NDArray[np.float64]:
    """Per hour and column: value minus median of the column's neighbours (NaN where fewer than three report)."""
    result = np.full_like(values, np.nan)
    for i, columns in enumerate(neighbours):
        if len(columns) < NEIGHBOURS_AT_LEAST:
            continue
        around_it = values[:, columns]
        enough = np.count_nonzero(~np.isnan(around_it), axis=1) >= NEIGHBOURS_AT_LEAST
        if enough.any():
            result[enough, i] = values[enough, i] - np.nanmedian(around_it[enough], axis=1)
    return result


def _neighbours(series: list[Series]) -> list[list[int]]:
    lon = np.array([one.thing.lon for one in series], dtype=float)
    lat = np.array([one.thing.lat for one in series], dtype=float)
    things = np.array([one.thing_id for one in series])
    result: list[list[int]] = []
    for i in range(len(series)):
        dx = (lon - lon[i]) * _KM_PER_DEGREE * np.cos(np.radians(lat[i]))
        distance = np.hypot(dx, (lat - lat[i]) * _KM_PER_DEGREE)
        distance[things == things[i]] = np.inf
        nearest = np.argsort(distance, kind="stable")[:NEIGHBOURS_AT_MOST]
        result.append([int(j) for j in nearest if distance[j] <= RADIUS_KM])
    return result


def drift(actor: Actor, property_slug: str, now: datetime) -> list[Drift]:
    """Every station of the actor's cities with enough neighbours (of all cities), largest mean first."""
    limit = DRIFT_LIMITS[property_slug]
    series = list(
        Series.objects.filter(
            observed_property__slug=property_slug,
            derivation="",
            thing__kind=ThingKind.STATION,
            thing__lon__isnull=False,
            thing__lat__isnull=False,
        ).select_related("thing__municipality", "observed_property")
    )
    if not series:
        return []
    until = now.replace(minute=0, second=0, microsecond=0)
    since = until - PERIOD
    hours = int(PERIOD / timedelta(hours=1))
    ends = int(END / timedelta(hours=1))
    neighbours = _neighbours(series)
    values = deviations(_hourly([one.pk for one in series], since, hours), neighbours)
    mine = actor.municipalities("desk:enter")
    result: list[Drift] = []
    for i, one in enumerate(series):
        column = values[:, i]
        known = column[~np.isnan(column)]
        if len(known) < HOURS_AT_LEAST or (mine is not None and one.municipality_id not in mine):
            continue
        first, last = column[:ends], column[-ends:]
        first, last = first[~np.isnan(first)], last[~np.isnan(last)]
        change = float(last.mean() - first.mean()) if min(len(first), len(last)) >= HOURS_AT_LEAST else None
        mean = float(known.mean())
        notable = abs(mean) >= limit.mean or (change is not None and abs(change) >= limit.change)
        result.append(Drift(one, mean, change, len(known), len(neighbours[i]), notable))
    return sorted(result, key=lambda row: (not row.notable, -abs(row.mean), row.series.pk))


def implausible(actor: Actor, now: datetime) -> list[Implausible]:
    """Series with at least five flagged readings in a hundred over the last seven days, the worst first."""
    ids = actor.municipalities("desk:enter")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT series_id, sum(n), sum(n_flagged) FROM twin_rollup_1h"
            " WHERE bucket >= %s AND (%s::smallint[] IS NULL OR municipality_id = ANY(%s))"
            " GROUP BY municipality_id, series_id HAVING sum(n_flagged) >= %s * sum(n + n_flagged)"
            " AND sum(n_flagged) > 0",
            [
                now - PERIOD,
                None if ids is None else list(ids),
                None if ids is None else list(ids),
                IMPLAUSIBLE_SHARE,
            ],
        )
        sums = {row[0]: (int(row[1]), int(row[2])) for row in cursor.fetchall()}
    series = Series.objects.filter(pk__in=sums, derivation="").select_related(
        "thing__municipality", "observed_property"
    )
    rows = [Implausible(one, *sums[one.pk]) for one in series]
    return sorted(rows, key=lambda row: (-row.share, row.series.pk))


def silent_things(actor: Actor) -> list[SilentThing]:
    """Places all of whose active devices are silent or were never heard, the longest silence first."""
    devices = with_place(with_state(Device.objects.filter(within(actor), active=True)))
    by_thing: dict[int, list[Device]] = defaultdict(list)
    things: dict[int, Thing] = {}
    for device in devices:
        here = place_of(device)
        if here is not None:
            by_thing[here.thing_id].append(device)
            things[here.thing_id] = here.thing
    rows = [
        SilentThing(
            things[thing_id],
            max((one.last_seen_at for one in found if one.last_seen_at is not None), default=None),
            found,
        )
        for thing_id, found in by_thing.items()
        if all(state_of(one) in {"silent", "never"} for one in found)
    ]
    never = [row for row in rows if row.last_seen_at is None]
    heard = sorted(
        (row for row in rows if row.last_seen_at is not None),
        key=lambda row: (row.last_seen_at, row.thing.pk),
    )
    return heard + sorted(never, key=lambda row: row.thing.name)
