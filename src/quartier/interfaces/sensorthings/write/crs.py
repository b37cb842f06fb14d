"""Geometries in other reference systems and encodings, brought to what is kept: GeoJSON in WGS 84, longitude first.

STAplus (22-022r1, "Feature and Location Geometry Encoding"): Well-Known Text with ``crs`` or ``srid`` beside it, and
Features of JSON-FG (OGC 21-045). Everything else of this interface, filters, maps and pages, then knows one form only.

Reference systems are those of German surveying offices and of the web. ETRS89 counts as WGS 84: they differ by less
than a metre here, which is less than sensors' places are known by.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping

from quartier.interfaces.sensorthings.write.problems import BadField, below

WKT: Final = "wkt"
JSON_FG: Final = "application/vnd.ogc.fg+json"

type Coordinates = NDArray[np.float64]

CRS84: Final = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
_EPSG: Final = "http://www.opengis.net/def/crs/EPSG/0/"
_LONGEST_WKT: Final = 4 * 1024 * 1024

# WGS 84 (and GRS 80, whose flattening differs in the ninth digit).
_RADIUS_M: Final = 6_378_137.0
_FLATTENING: Final = 1 / 298.257223563


def from_utm(coordinates: Coordinates, zone: int) -> Coordinates:
    """Easting and northing of a northern UTM zone to longitude and latitude.

    The series of Krüger in the third flattening, to its fourth power: exact to less than a millimetre within a zone.
    """
    n = _FLATTENING / (2 - _FLATTENING)
    meridian_m = _RADIUS_M / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    beta = (
        n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96 - n**4 / 360,
        n**2 / 48 + n**3 / 15 - 437 * n**4 / 1440,
        17 * n**3 / 480 - 37 * n**4 / 840,
        4397 * n**4 / 161280,
    )
    delta = (
        2 * n - 2 * n**2 / 3 - 2 * n**3 + 116 * n**4 / 45,
        7 * n**2 / 3 - 8 * n**3 / 5 - 227 * n**4 / 45,
        56 * n**3 / 15 - 136 * n**4 / 35,
        4279 * n**4 / 630,
    )
    xi = coordinates[:, 1] / (0.9996 * meridian_m)
    eta = (coordinates[:, 0] - 500_000) / (0.9996 * meridian_m)
    xi_0, eta_0 = xi.copy(), eta.copy()
    for j, one in enumerate(beta, 1):
        xi_0 -= one * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
        eta_0 -= one * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
    conformal = np.arcsin(np.sin(xi_0) / np.cosh(eta_0))
    latitude = conformal.copy()
    for j, one in enumerate(delta, 1):
        latitude += one * np.sin(2 * j * conformal)
    longitude = np.arctan2(np.sinh(eta_0), np.cos(xi_0))
    return np.column_stack([np.degrees(longitude) + zone * 6 - 183, np.degrees(latitude)])


def from_mercator(coordinates: Coordinates) -> Coordinates:
    """Web Mercator (EPSG:3857) to longitude and latitude."""
    longitude = np.degrees(coordinates[:, 0] / _RADIUS_M)
    latitude = np.degrees(2 * np.arctan(np.exp(coordinates[:, 1] / _RADIUS_M)) - math.pi / 2)
    return np.column_stack([longitude, latitude])


def _swapped(coordinates: Coordinates) -> Coordinates:
    return coordinates[:, ::-1]


@dataclass(frozen=True, slots=True)
class System:
    """A reference system. ``to_wgs84`` takes pairs; None where nothing is to be done.

    ``latitude_first``: its definition names latitude before longitude. JSON-FG follows the definition; Well-Known Text
    is x before y, as every database writes it (ISO 19125-1).
    """

    uri: str
    to_wgs84: Callable[[Coordinates], Coordinates] | None = None
    latitude_first: bool = False


def _zone(zone: int) -> Callable[[Coordinates], Coordinates]:
    return lambda coordinates: from_utm(coordinates, zone)


_BY_CODE: Final[dict[int, System]] = {
    4326: System(f"{_EPSG}4326", latitude_first=True),
    4258: System(f"{_EPSG}4258", latitude_first=True),
    3857: System(f"{_EPSG}3857", from_mercator),
    **{
        first + zone: System(f"{_EPSG}{first + zone}", _zone(zone))
        for first in (25_800, 32_600)
        for zone in (31, 32, 33)
    },
}
_OWN: Final = System(CRS84)
SUPPORTED: Final = (CRS84, *(one.uri for one in _BY_CODE.values()))

_CODE: Final = re.compile(r"(?:.*\bEPSG(?:/[\d.]+/|:[\d.]*:|:))?(\d{4,6})\]?", re.IGNORECASE)
_CRS84: Final = re.compile(r".*\bCRS:?84h?\]?", re.IGNORECASE)


def system(value: Any, at: str) -> System:
    """The reference system of an address, a URN, ``EPSG:25832`` or a number. Raises BadField."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if len(text) <= 200:
        if _CRS84.fullmatch(text):
            return _OWN
        if (found := _CODE.fullmatch(text)) and int(found[1]) in _BY_CODE:
            return _BY_CODE[int(found[1])]
    known = ", ".join(["CRS84", *(f"EPSG:{code}" for code in _BY_CODE)])
    raise BadField(at, f"{str(value)[:60]!r} is no reference system that can be converted; there are {known}")


def _converted(geometry: shapely.Geometry, found: System, at: str, *, as_defined: bool) -> shapely.Geometry:
    convert = found.to_wgs84
    if convert is None and found.latitude_first and as_defined:
        convert = _swapped
    if convert is None:
        return geometry
    height = shapely.has_z(geometry)
    with np.errstate(all="ignore"):
        made = shapely.transform(
            geometry,
            lambda all_: np.column_stack([convert(all_[:, :2]), all_[:, 2:]]),
            include_z=bool(height),
        )
    coordinates = shapely.get_coordinates(made)
    if not np.isfinite(coordinates).all() or np.abs(coordinates).max(initial=0) > 180:
        raise BadField(at, f"lies outside of what {found.uri.rpartition('/')[2]} can say")
    # What is left after the seventh digit is a centimetre, and noise of the conversion.
    return shapely.transform(made, lambda all_: np.round(all_, 7), include_z=bool(height))


def from_wkt(value: Any, at: str, named: Any, named_at: str) -> dict[str, Any]:
    """Well-Known Text in the system that ``crs`` or ``srid`` name (CRS84 without) as GeoJSON. Raises BadField."""
    found = _OWN if named is None else system(named, named_at)
    if not isinstance(value, str):
        raise BadField(at, "expected Well-Known Text, such as POINT (7.46 51.51)")
    if len(value) > _LONGEST_WKT:
        raise BadField(at, f"at most {_LONGEST_WKT} characters are taken")
    try:
        shape = shapely.from_wkt(value)
    except shapely.errors.GEOSException as error:
        problem = str(error).partition("\n")[0].removeprefix("ParseException: ")[:100]
        raise BadField(at, f"is no Well-Known Text: {problem}") from None
    if shape.is_empty:
        raise BadField(at, "the geometry is empty")
    made: dict[str, Any] = _listed(mapping(_converted(shape, found, at, as_defined=False)))
    return made


def from_json_fg(value: Any, at: str) -> dict[str, Any]:
    """A Feature of JSON-FG as one of GeoJSON: its ``place`` in WGS 84, or its ``geometry`` if it has no place.

    Raises BadField.
    """
    if not isinstance(value, dict) or value.get("type") != "Feature":
        raise BadField(at, "expected a Feature of JSON-FG")
    made = {name: one for name, one in value.items() if name not in ("place", "coordRefSys", "conformsTo")}
    named, place = value.get("coordRefSys"), value.get("place")
    place_at = below(at, "coordRefSys")
    if isinstance(named, dict):
        named, place_at = named.get("href"), below(place_at, "href")
    found = _OWN if named is None else system(named, place_at)
    if place is None:
        return made
    at = below(at, "place")
    if not isinstance(place, dict) or not isinstance(place.get("type"), str):
        raise BadField(at, "expected a geometry")
    if "coordRefSys" in place:
        found = system(place["coordRefSys"], below(at, "coordRefSys"))
    try:
        shape = shapely.geometry.shape({name: one for name, one in place.items() if name != "coordRefSys"})
    except Exception as error:
        raise BadField(at, f"cannot be kept as GeoJSON: {str(error)[:100]}") from None
    if shape.is_empty:
        raise BadField(at, "the geometry is empty")
    return made | {"geometry": _listed(mapping(_converted(shape, found, at, as_defined=True)))}


def _listed(value: Any) -> Any:
    """Tuples, as Shapely gives them, as the lists of JSON."""
    if isinstance(value, dict):
        return {name: _listed(one) for name, one in value.items()}
    return [_listed(one) for one in value] if isinstance(value, list | tuple) else value
