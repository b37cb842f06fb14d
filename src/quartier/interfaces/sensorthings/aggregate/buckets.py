"""Civil time: where buckets begin, as SQL and as text, and which roll-ups they consist of exactly.

Buckets of up to an hour are cut in elapsed time, so that the hour which an autumn night has twice is two buckets.
Longer ones are cut by the clock on the wall: a day has 23, 24 or 25 hours, as its roll-up has.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from quartier.interfaces.sensorthings.query.ast import Bucket

Granule = Literal["15min", "1h", "1d"]
_HOUR = timedelta(hours=1)
_QUARTER = timedelta(minutes=15)
_DAY = timedelta(days=1)
_WIDTH: dict[Granule, timedelta] = {"15min": _QUARTER, "1h": _HOUR, "1d": _DAY}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A Monday, so that weeks begin with one.
_ORIGIN = "'2000-01-03'::timestamp"


def is_elapsed(bucket: Bucket) -> bool:
    """Whether a bucket is a moment on the time line rather than a reading of the clock on the wall."""
    return not bucket.width.months and bucket.width.rest <= _HOUR


def start_sql(bucket: Bucket, time_sql: str, zone_sql: str) -> str:
    """SQL for the start of the bucket that a time lies in: timestamptz if it is elapsed, else a local timestamp."""
    local = f"({time_sql} AT TIME ZONE {zone_sql})"
    months = bucket.width.months
    if months >= 12:
        years = months // 12
        back = f"make_interval(years => mod(extract(year FROM {local})::integer, {years}))"
        return f"(date_trunc('year', {local}) - {back})"
    if months:
        forth = f"make_interval(months => (extract(month FROM {local})::integer - 1) / {months} * {months})"
        return f"(date_trunc('year', {local}) + {forth})"
    rest = bucket.width.rest
    binned = f"date_bin('{rest.days} days {rest.seconds} seconds', {local}, {_ORIGIN})"
    if is_elapsed(bucket):
        return f"({time_sql} - ({local} - {binned}))"
    return binned


def written(bucket: Bucket, start: datetime) -> str:
    """The start of a bucket as people read it: local time with its offset."""
    zone = _zone(bucket.time_zone)
    local = start.astimezone(zone) if start.tzinfo else start.replace(tzinfo=zone)
    text = local.isoformat()
    return text[:-6] + "Z" if bucket.time_zone == "UTC" else text


def granules(bucket: Bucket | None, zones: frozenset[str]) -> list[Granule]:
    """Roll-ups of series in cities of these time zones that the buckets consist of exactly, coarse ones first.

    Roll-ups of quarter hours and hours begin with those of UTC, those of days with the city's midnight.
    """
    if bucket is None:
        return ["1d", "1h", "15min"] if len(zones) == 1 else ["1h", "15min"]
    zone, width = bucket.time_zone, bucket.width.rest
    found: list[Granule] = []
    whole_days = bool(bucket.width.months) or width % _DAY == timedelta(0)
    if whole_days and zones == {zone}:
        found.append("1d")
    for granule in ("1h", "15min"):
        step = _WIDTH[granule]
        if (whole_days or width % step == timedelta(0)) and _offsets_fit(zone, step):
            found.append(granule)
    return found


@lru_cache(maxsize=64)
def _offsets_fit(zone: str, step: timedelta) -> bool:
    """Whether local midnight is always on a multiple of ``step`` in UTC."""
    if zone == "UTC":
        return True
    found = _zone(zone)
    months = (datetime(year, month, 1, tzinfo=UTC) for year in range(1970, 2038) for month in range(1, 13))
    return all((month.astimezone(found).utcoffset() or _HOUR) % step == timedelta(0) for month in months)


def inner(granule: Granule, zone: str, since: datetime, until: datetime) -> tuple[datetime, datetime] | None:
    """The largest part of a period that consists of whole roll-ups."""
    if granule == "1d":
        found = _zone(zone)
        first, last = _midnight(since, found), _midnight(until, found)
        if first < since:
            first = _midnight(since, found, following=1)
    else:
        step = _WIDTH[granule]
        first = since + (_EPOCH - since) % step
        last = until - (until - _EPOCH) % step
    return (first, last) if first < last else None


def after(granule: Granule, zone: str, start: datetime) -> datetime:
    """The end of the roll-up that begins at ``start``."""
    return _midnight(start, _zone(zone), following=1) if granule == "1d" else start + _WIDTH[granule]


def containing(granule: Granule, zone: str, moment: datetime) -> datetime:
    """The start of the roll-up that ``moment`` lies in."""
    if granule == "1d":
        return _midnight(moment, _zone(zone))
    return moment - (moment - _EPOCH) % _WIDTH[granule]


def width(granule: Granule) -> timedelta:
    """How long a roll-up is, more or less."""
    return _WIDTH[granule]


def estimate(bucket: Bucket, span: timedelta) -> int:
    """How many buckets a period may have."""
    months = bucket.width.months
    long = timedelta(days=28) * months if months else bucket.width.rest
    return span // long + 2


def _midnight(moment: datetime, zone: ZoneInfo, following: int = 0) -> datetime:
    day = moment.astimezone(zone).date() + timedelta(days=following)
    return datetime.combine(day, time(), zone).astimezone(UTC)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
