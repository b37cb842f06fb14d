"""Constants in a query: text into values and back (ISO 8601, OData 4.01 ABNF primitive literals, well-known text)."""

from __future__ import annotations

import calendar
import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import shapely
from shapely.errors import ShapelyError

from quartier.interfaces.sensorthings.query.ast import Duration, Geometry, Interval, Literal
from quartier.interfaces.sensorthings.query.errors import QueryError

_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d(?::?\d\d)?)?", re.IGNORECASE | re.ASCII
)
_DURATION = re.compile(
    r"([+-]?)P(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?",
    re.IGNORECASE | re.ASCII,
)
_LONGEST_YEARS = 10_000


def integer(text: str) -> int:
    """A whole number of at most 38 digits."""
    if len(text) > 39:
        raise QueryError(f"the number {text[:20]}… is too long")
    return int(text)


def decimal(text: str) -> Decimal:
    """A number that a double precision float can hold."""
    try:
        value = Decimal(text)
        if len(text) <= 400 and math.isfinite(float(value)):
            return value
    except (InvalidOperation, OverflowError):  # pragma: no cover - the grammar only lets numbers through
        pass
    raise QueryError(f"the number {text[:20]} is too large")


def instant(text: str) -> datetime:
    """``2026-07-01T12:00:00.5+02:00``; a time without an offset has no place on the time line and is refused."""
    parts = _INSTANT.fullmatch(text)
    if parts is None:
        raise QueryError(f"{text} is no instant; write it as 2026-07-01T12:00:00Z")
    day, minutes, seconds, fraction, offset = parts.groups()
    if offset is None:
        raise QueryError(f"{text} has no time zone; append Z or an offset such as +02:00")
    micro = f".{fraction[:6]}" if fraction else ""
    try:
        return datetime.fromisoformat(f"{day}T{minutes}:{seconds or '00'}{micro}{offset.upper()}")
    except ValueError:
        raise QueryError(f"{text} does not exist in the calendar") from None


def day(text: str) -> date:
    """``2026-07-01``"""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise QueryError(f"{text} does not exist in the calendar") from None


def clock(text: str) -> time:
    """``12:00``, ``12:00:00`` or ``12:00:00.5``, without an offset."""
    whole, _, fraction = text.partition(".")
    try:
        return time.fromisoformat(f"{whole}.{fraction[:6]}" if fraction else whole)
    except ValueError:
        raise QueryError(f"{text} is no time of the day") from None


def duration(text: str) -> Duration:
    """``P1Y2M3DT4H5M6.7S`` or ``-P1W``."""
    parts = _DURATION.fullmatch(text)
    if parts is None:
        raise QueryError(f"{text} is no duration; write it as P1D or PT15M")
    sign, *numbers = parts.groups()
    if any(number and len(number) > 16 for number in numbers):
        raise QueryError(f"the duration {text[:20]}… is too long")
    years, months, weeks, days, hours, minutes = (int(number or 0) for number in numbers[:6])
    whole, _, fraction = (numbers[6] or "0").partition(".")
    factor = -1 if sign == "-" else 1
    try:
        rest = timedelta(
            weeks=weeks,
            days=days,
            hours=hours,
            minutes=minutes,
            seconds=int(whole),
            microseconds=int(fraction[:6].ljust(6, "0")),
        )
    except OverflowError:
        rest = timedelta.max
    if years * 12 + months > _LONGEST_YEARS * 12 or rest > timedelta(days=366 * _LONGEST_YEARS):
        raise QueryError(f"the duration {text} is too long")
    return Duration(factor * (years * 12 + months), factor * rest)


def interval(text: str) -> Interval:
    """``start/end``, ``start/duration`` or ``duration/end``."""
    first, _, second = text.partition("/")
    try:
        if first[0] in "Pp":
            if second[0] in "Pp":
                raise QueryError(f"{text} has neither a start nor an end")
            end = instant(second)
            start = moved(end, duration(first), -1)
        else:
            start = instant(first)
            end = moved(start, duration(second), 1) if second[0] in "Pp" else instant(second)
    except (OverflowError, ValueError) as error:
        if isinstance(error, QueryError):
            raise
        raise QueryError(f"{text} leaves the calendar") from None
    if start > end:
        raise QueryError(f"{text} ends before it starts")
    return Interval(start, end)


def moved(moment: datetime, by: Duration, direction: int) -> datetime:
    """``moment`` and a duration of the calendar; the 31st becomes the last day of a shorter month."""
    months = moment.year * 12 + moment.month - 1 + direction * by.months
    year, month = divmod(months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last)) + direction * by.rest


def geometry(text: str) -> Geometry:
    """Well-known text, optionally with ``SRID=4326;``; other reference systems are refused."""
    srid, _, rest = text.rpartition(";")
    if srid.strip().upper() not in {"", "SRID=4326"}:
        raise QueryError(f"only WGS 84 (SRID=4326) is understood, not {srid.strip()[:20]}")
    try:
        shape: Any = shapely.from_wkt(rest)
    except ShapelyError as error:
        raise QueryError(f"this is no well-known text: {' '.join(str(error).split())[:120]}") from None
    if shape.is_empty:
        raise QueryError("the geometry is empty")
    if not all(math.isfinite(edge) for edge in shape.bounds):
        raise QueryError("the geometry has coordinates that are no numbers")
    return Geometry(" ".join(rest.split()))


def unquoted(text: str) -> str:
    """The text between quotes, where two stand for one."""
    return text[1:-1].replace("''", "'")


def quoted(text: str) -> str:
    """The opposite of ``unquoted``."""
    return "'" + text.replace("'", "''") + "'"


def written(literal: Literal) -> str:
    """A constant as the grammar reads it."""
    value: Any = literal.value
    match literal.kind:
        case "null":
            return "null"
        case "boolean":
            return "true" if value else "false"
        case "integer":
            return str(value)
        case "decimal":
            text = str(value)
            return text if "." in text or "E" in text else f"{text}.0"
        case "text":
            return quoted(value)
        case "instant":
            return _moment(value)
        case "date" | "time":
            return str(value.isoformat())
        case "duration":
            return f"duration'{written_duration(value)}'"
        case "interval":
            return f"{_moment(value.start)}/{_moment(value.end)}"
        case "geometry":
            return f"geography'{value.wkt}'"


def _moment(value: datetime) -> str:
    text = value.isoformat()
    return text[:-6] + "Z" if value.utcoffset() == timedelta(0) and value.tzinfo is UTC else text


def written_duration(value: Duration) -> str:
    """``P1M``, ``PT15M`` …; nothing at all is ``PT0S``."""
    rest = abs(value.rest)
    years, months = divmod(abs(value.months), 12)
    hours, seconds = divmod(rest.seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{rest.microseconds:06}".rstrip("0") if rest.microseconds else ""
    date_part = "".join(f"{n}{unit}" for n, unit in ((years, "Y"), (months, "M"), (rest.days, "D")) if n)
    time_part = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M")) if n)
    if seconds or fraction:
        time_part += f"{seconds}{fraction}S"
    sign = "-" if value.months < 0 or value.rest < timedelta(0) else ""
    if not date_part and not time_part:
        return "PT0S"
    return f"{sign}P{date_part}{'T' if time_part else ''}{time_part}"
