"""What the data pages read: many places at once, in a fixed number of queries whatever their number.

Lists, maps and the home page need little of each of a thousand places, so rows are read as plain tuples
and not as model objects. What somebody may see was decided before, by ``usage.rules.visible_things``:
every function here takes things or series that passed it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from quartier.twin.flags import BAD, Flag, is_bad
from quartier.twin.models import Series, Thing
from quartier.twin.queries import Reading

# A thing is awake if one of its series said something in this time (or in three times its expected interval).
AWAKE_FOR: Final = timedelta(hours=2)
_EARTH_RADIUS_M = 6_371_000


@dataclass(frozen=True, slots=True)
class Place:
    """A thing as lists and maps show it."""

    id: int
    municipality: str
    city: str
    key: str
    name: str
    kind: str
    lon: float | None
    lat: float | None
    district: str
    street: str
    house_number: str
    postcode: str

    @property
    def url(self) -> str:
        """Address of its page."""
        return f"/orte/{self.municipality}/{self.key}/"

    @property
    def slug(self) -> str:
        """How live values and downloads call it."""
        return f"{self.municipality}/{self.key}"

    @property
    def address(self) -> str:
        """Street, house number and district, as far as they are known."""
        street = f"{self.street} {self.house_number}".strip()
        return ", ".join(part for part in (street, self.district) if part)


@dataclass(frozen=True, slots=True)
class Value:
    """The newest observation of one property of a place."""

    series_id: int
    thing_id: int
    property_slug: str
    channel: str
    unit: str
    time: datetime
    result: float | None
    value: Any
    flags: int
    awake: bool

    @property
    def bad(self) -> bool:
        """Whether quality control doubts it."""
        return is_bad(self.flags)

    @property
    def good(self) -> float | None:
        """The number, if it is fresh and not doubted."""
        return self.result if self.awake and not self.bad else None


_PLACE = (
    "pk", "municipality__slug", "municipality__name", "key", "name", "kind", "lon", "lat", "district__name", "street",
    "house_number", "postcode",
)  # fmt: skip


def places(things: QuerySet[Thing]) -> list[Place]:
    """The things as light rows, in the order of the query set."""
    return [
        # A thing may lie outside every district.
        Place(*row[:8], row[8] or "", *row[9:])  # type: ignore[call-arg]  # the columns of _PLACE, in their order
        for row in things.values_list(*_PLACE)
    ]


_AWAKE = "st.time > %(now)s - make_interval(secs => greatest(%(awake_s)s, 3 * d.expected_interval_s))"
_STATE = (
    " FROM twin_series s"
    " JOIN twin_state st ON st.municipality_id = s.municipality_id AND st.series_id = s.id"
    " LEFT JOIN twin_device d ON d.id = s.device_id"
)


def activity(thing_ids: Sequence[int]) -> dict[int, tuple[datetime, bool]]:
    """Per thing that ever said something: when it did last, and whether it is awake."""
    if not thing_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT s.thing_id, max(st.time), bool_or({_AWAKE}){_STATE}"
            " WHERE s.thing_id = ANY(%(things)s) GROUP BY s.thing_id",
            {"things": list(thing_ids), "now": timezone.now(), "awake_s": AWAKE_FOR.total_seconds()},
        )
        return {thing: (time, awake) for thing, time, awake in cursor.fetchall()}


def values(thing_ids: Sequence[int], properties: Sequence[str] | None = None) -> dict[int, dict[str, Value]]:
    """Per thing and property the newest observation (of the first channel), for all or some properties."""
    if not thing_ids:
        return {}
    some = "" if properties is None else " AND p.slug = ANY(%(properties)s)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT s.id, s.thing_id, p.slug, s.channel, s.unit, st.time, st.result, st.value, st.flags, {_AWAKE}"
            f"{_STATE} JOIN twin_observedproperty p ON p.id = s.observed_property_id"
            f" WHERE s.thing_id = ANY(%(things)s){some} ORDER BY s.channel, s.id",
            {
                "things": list(thing_ids),
                "properties": list(properties or ()),
                "now": timezone.now(),
                "awake_s": AWAKE_FOR.total_seconds(),
            },
        )
        found: dict[int, dict[str, Value]] = {}
        for row in cursor.fetchall():
            value = Value(*row)
            found.setdefault(value.thing_id, {}).setdefault(value.property_slug, value)
        return found


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of one series, or of several taken together."""

    start: datetime
    mean: float | None
    sum: float | None


def hours(groups: Mapping[str, Iterable[int]], since: datetime) -> dict[str, list[Hour]]:
    """Per group of series its hours since ``since``, oldest first; hours without values are left out."""
    pairs = [(series_id, name) for name, ids in groups.items() for series_id in ids]
    found: dict[str, list[Hour]] = {name: [] for name in groups}
    if not pairs:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT x.name, r.bucket, sum(r.sum) / nullif(sum(r.n), 0), sum(r.sum)"
            " FROM unnest(%s::integer[], %s::text[]) AS x(series_id, name)"
            " JOIN twin_series s ON s.id = x.series_id"
            " JOIN twin_rollup_1h r ON r.municipality_id = s.municipality_id AND r.series_id = s.id"
            " WHERE r.bucket >= %s GROUP BY x.name, r.bucket ORDER BY x.name, r.bucket",
            [[series_id for series_id, _ in pairs], [name for _, name in pairs], since],
        )
        for name, start, mean, total in cursor.fetchall():
            found[name].append(Hour(start, mean, total))
    return found


def evenly(
    rows: Sequence[Hour], since: datetime, until: datetime, *, sums: bool = False
) -> list[float | None]:
    """One value per hour from ``since`` on, None where nothing is known: what a sparkline needs."""
    by_start = {row.start: row.sum if sums else row.mean for row in rows}
    first = since.replace(minute=0, second=0, microsecond=0)
    count = max(0, math.ceil((until - first) / timedelta(hours=1)))
    return [by_start.get(first + i * timedelta(hours=1)) for i in range(count)]


def totals(series_ids: Sequence[int], since: datetime) -> dict[int, float]:
    """Per series the sum of what counts since ``since``, to the quarter of an hour."""
    if not series_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.id, sum(r.sum) FROM twin_series s"
            " JOIN twin_rollup_15min r ON r.municipality_id = s.municipality_id AND r.series_id = s.id"
            " WHERE s.id = ANY(%s) AND r.bucket >= %s GROUP BY s.id HAVING sum(r.n) > 0",
            [list(series_ids), since],
        )
        return dict(cursor.fetchall())


def before(series_ids: Sequence[int], at: datetime) -> dict[int, float]:
    """Per series the mean of the quarter hour that ended last before ``at`` (and at most two hours before)."""
    if not series_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (s.id) s.id, r.sum / r.n FROM twin_series s"
            " JOIN twin_rollup_15min r ON r.municipality_id = s.municipality_id AND r.series_id = s.id"
            " WHERE s.id = ANY(%s) AND r.bucket < %s AND r.bucket >= %s AND r.n > 0"
            " ORDER BY s.id, r.bucket DESC",
            [list(series_ids), at, at - timedelta(hours=2)],
        )
        return dict(cursor.fetchall())


def doubted(series: Series, since: datetime, until: datetime, *, limit: int = 20) -> list[Reading]:
    """Readings that quality control doubts, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT time, result, value, flags FROM twin_observation"
            " WHERE municipality_id = %s AND series_id = %s AND time >= %s AND time < %s"
            " AND (flags & %s) <> 0 AND (flags & %s) = 0 ORDER BY time DESC LIMIT %s",
            [series.municipality_id, series.pk, since, until, int(BAD), int(Flag.DISMISSED), limit],
        )
        return [Reading(*row) for row in cursor.fetchall()]


def distance_m(lon: float, lat: float, place: Place) -> float:
    """How far a place is, in metres; infinitely far where its position is not known."""
    if place.lon is None or place.lat is None:
        return math.inf
    # Within two neighbouring cities the earth is flat: an error below one in a thousand.
    east = math.radians(place.lon - lon) * math.cos(math.radians((lat + place.lat) / 2))
    return _EARTH_RADIUS_M * math.hypot(east, math.radians(place.lat - lat))
