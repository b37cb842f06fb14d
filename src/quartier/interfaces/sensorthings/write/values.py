"""Values of bodies, checked: times, texts, JSON, geometries, units.

Everything is bounded before it is looked at closely, and every error names the place.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import explain_validity

from quartier.interfaces.sensorthings.write.problems import BadField, below
from quartier.twin import units

GEOJSON: Final = frozenset({"application/geo+json", "application/vnd.geo+json"})
LONGEST_TEXT: Final = 20_000
LONGEST_JSON: Final = 65_536
MOST_POSITIONS: Final = 50_000
_DEEPEST: Final = 40
EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2106, 1, 1, tzinfo=UTC)  # as quartier.twin.record takes them
# What fromisoformat takes beyond this (weeks, dates without a time) is no time of an observation.
_INSTANT: Final = re.compile(
    r"\d{4}-?\d\d-?\d\d[Tt ]\d\d:?\d\d(?::?\d\d(?:[.,]\d{1,12})?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


def instant(value: Any, at: str) -> datetime:
    """A time with its time zone, in UTC."""
    if not isinstance(value, str):
        raise BadField(at, f"expected a time such as 2026-07-01T12:00:00Z, found {kind_of(value)}")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise _no_time(value, at) from None
    if found.tzinfo is not UTC:
        if found.tzinfo is None:
            if not _INSTANT.fullmatch(value):
                raise _no_time(value, at)
            raise BadField(at, f"{value[:40]} has no time zone; append Z or an offset such as +02:00")
        try:
            found = found.astimezone(UTC)
        except OverflowError:
            raise _no_time(value, at) from None
    if not EARLIEST <= found < LATEST:
        raise BadField(at, f"{value[:40]} is out of range: times from 1900 to 2105 can be kept")
    return found


def _no_time(value: str, at: str) -> BadField:
    if "/" in value:
        return BadField(at, f"expected one time, found the interval {value[:60]!r}")
    return BadField(at, f"{value[:40]!r} is no time; write it as 2026-07-01T12:00:00Z")


def period(value: Any, at: str) -> tuple[datetime, datetime | None]:
    """A time, or ``start/end``."""
    if isinstance(value, str) and "/" in value:
        start, _, end = value.partition("/")
        first, last = instant(start, at), instant(end, at)
        if last < first:
            raise BadField(at, f"the interval {value[:60]} ends before it begins")
        return first, last
    return instant(value, at), None


def interval(value: Any, at: str) -> tuple[datetime, datetime]:
    """``start/end``."""
    first, last = period(value, at)
    if last is None:
        raise BadField(at, "expected an interval such as 2026-07-01T12:00:00Z/2026-07-01T13:00:00Z")
    return first, last


def iso(moment: datetime) -> str:
    """A time in UTC as the answers write it."""
    return moment.isoformat().replace("+00:00", "Z")


def kind_of(value: Any) -> str:
    """What a JSON value is, for people."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"


def text(value: Any, at: str, *, longest: int = LONGEST_TEXT, empty: bool = True) -> str:
    """A text that PostgreSQL can keep."""
    if not isinstance(value, str):
        raise BadField(at, f"expected a text, found {kind_of(value)}")
    if len(value) > longest:
        raise BadField(at, f"the text has {len(value)} characters, at most {longest}")
    if "\0" in value:
        raise BadField(at, "the text contains a zero character")
    if not empty and not value.strip():
        raise BadField(at, "must not be empty")
    return value


def json(value: Any, at: str, *, longest: int = LONGEST_JSON) -> Any:
    """Any JSON of bounded size and depth."""
    _check_depth(value, at)
    try:
        written = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadField(at, f"cannot be kept: {error}") from None
    if len(written) > longest:
        raise BadField(at, f"has {len(written)} bytes, at most {longest}")
    if b"\\u0000" in written:
        raise BadField(at, "contains a zero character")
    return value


def _check_depth(value: Any, at: str) -> None:
    level, layer = 0, [value]
    while layer:
        level += 1
        if level > _DEEPEST:
            raise BadField(at, f"is nested deeper than {_DEEPEST} levels")
        following: list[Any] = []
        for one in layer:
            if isinstance(one, dict):
                following += one.values()
            elif isinstance(one, list):
                following += one
        layer = [one for one in following if isinstance(one, dict | list)]


def json_object(value: Any, at: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise BadField(at, f"expected an object, found {kind_of(value)}")
    found: dict[str, Any] = json(value, at)
    return found


def number(value: Any, at: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadField(at, f"expected a number, found {kind_of(value)}")
    if not math.isfinite(value):
        raise BadField(at, "is not finite")
    return float(value)


# -- geometries


def geometry(value: Any, at: str, encoding: str) -> Any:
    """A place in the encoding that the body names: GeoJSON is checked, anything else is kept as it is."""
    if encoding not in GEOJSON:
        return json(value, at)
    shaped(value, at)
    return value


def shaped(value: Any, at: str) -> BaseGeometry:
    """GeoJSON (geometry or Feature) as a valid shape in WGS 84, longitude first (RFC 7946)."""
    if not isinstance(value, dict):
        raise BadField(at, f"expected GeoJSON, found {kind_of(value)}")
    json(value, at, longest=4 * 1024 * 1024)
    if value.get("type") == "Feature":
        at, value = below(at, "geometry"), value.get("geometry")
        if not isinstance(value, dict):
            raise BadField(at, f"expected a geometry, found {kind_of(value)}")
    if "crs" in value and "CRS84" not in str(value["crs"]) and "4326" not in str(value["crs"]):
        raise BadField(below(at, "crs"), "only WGS 84 (longitude, latitude) can be kept; RFC 7946 has no crs")
    _check_parts(value, at)
    try:
        found = shape(value)
    except Exception as error:
        raise BadField(at, f"is no GeoJSON geometry: {str(error)[:100]}") from None
    if found.is_empty:
        raise BadField(at, "the geometry is empty")
    if not found.is_valid:
        raise BadField(at, f"the geometry is not valid: {explain_validity(found)}")
    return found


_SHAPES: Final = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}


def _check_parts(value: dict[str, Any], at: str) -> None:
    name = value.get("type")
    if name == "GeometryCollection":
        parts = value.get("geometries")
        if not isinstance(parts, list) or not 1 <= len(parts) <= 1000:
            raise BadField(below(at, "geometries"), "expected a list of 1 to 1000 geometries")
        for number_, part in enumerate(parts):
            place = below(below(at, "geometries"), number_)
            if not isinstance(part, dict) or part.get("type") == "GeometryCollection":
                raise BadField(place, "expected a simple geometry")
            _check_parts(part, place)
        return
    if not isinstance(name, str) or name not in _SHAPES:
        known = ", ".join([*_SHAPES, "GeometryCollection", "Feature"])
        raise BadField(below(at, "type"), f"expected one of {known}, found {str(name)[:40]!r}")
    place = below(at, "coordinates")
    if "coordinates" not in value:
        raise BadField(place, "is missing")
    _check_positions(value["coordinates"], place, _SHAPES[name], [0])


def _check_positions(value: Any, at: str, depth: int, seen: list[int]) -> None:
    if not isinstance(value, list):
        raise BadField(at, f"expected a list, found {kind_of(value)}")
    if depth:
        for number_, one in enumerate(value):
            _check_positions(one, below(at, number_), depth - 1, seen)
        return
    seen[0] += 1
    if seen[0] > MOST_POSITIONS:
        raise BadField(at, f"the geometry has more than {MOST_POSITIONS} positions")
    if not 2 <= len(value) <= 3:
        raise BadField(at, "expected [longitude, latitude] or [longitude, latitude, altitude]")
    for number_, one in enumerate(value):
        if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
            raise BadField(below(at, number_), f"expected a number, found {kind_of(one)}")
    if not -180 <= value[0] <= 180:
        raise BadField(below(at, 0), f"the longitude {value[0]:g} lies outside of -180 to 180")
    if not -90 <= value[1] <= 90:
        raise BadField(
            below(at, 1), f"the latitude {value[1]:g} lies outside of -90 to 90 (longitude comes first)"
        )


def point_of(value: Any, encoding: str) -> tuple[float, float, float | None] | None:
    """Longitude, latitude and altitude that stand for a place; None for what is no GeoJSON. ``value`` was checked."""
    if encoding not in GEOJSON:
        return None
    inner = value["geometry"] if value.get("type") == "Feature" else value
    found = shape(inner)
    if found.geom_type == "Point":
        return found.x, found.y, found.z if found.has_z else None
    middle = shapely.point_on_surface(found)
    return middle.x, middle.y, None


# -- units

_UCUM: Final = re.compile(r"ucum(?:/0/|[:#/])(\S+)\Z", re.IGNORECASE)


def unit(value: Any, at: str) -> dict[str, Any]:
    """A unit of measurement: ``name``, ``symbol`` and ``definition``, each a text or null (18-088 section 8.2.4)."""
    found = json_object(value, at)
    if unknown := [name for name in found if name not in ("name", "symbol", "definition")]:
        raise BadField(below(at, unknown[0]), "a unit has name, symbol and definition")
    for name in ("name", "symbol", "definition"):
        if name not in found:
            raise BadField(below(at, name), "is missing (null where there is none)")
        if found[name] is not None:
            text(found[name], below(at, name), longest=1000)
    return found


def ucum(posted: dict[str, Any] | None) -> str:
    """The UCUM unit behind a posted one; its symbol where none can be found; ``1`` without any."""
    if not posted:
        return "1"
    symbol = (posted.get("symbol") or "").strip()
    definition = (posted.get("definition") or "").strip()
    candidates = []
    if (found := _UCUM.search(definition)) is not None:
        candidates.append(found[1])
    candidates += [units.from_label(symbol), symbol]
    for one in candidates:
        if one and len(one) <= 40 and units.is_valid(one):
            return one
    return symbol[:40] or "1"
