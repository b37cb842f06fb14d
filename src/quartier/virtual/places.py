"""The neighbourhoods of both cities in which virtual things stand.

A small hand-made gazetteer: name, district, position, height, how densely built, and a few street names. Positions
are approximate; house numbers and the things themselves are invented.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

# Everything is measured in kilometres from a point between both cities; good to 0.1 % over 30 km.
ORIGIN_LON = 7.50
ORIGIN_LAT = 51.50
KM_PER_DEGREE_LAT = 111.2
KM_PER_DEGREE_LON = KM_PER_DEGREE_LAT * math.cos(math.radians(ORIGIN_LAT))


@dataclass(frozen=True, slots=True)
class Place:
    """A neighbourhood; ``density`` says how densely built it is, from 0 (open country) to 1 (centre)."""

    municipality: str
    district: str
    name: str
    lon: float
    lat: float
    postcode: str
    altitude_m: float
    density: float
    streets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Municipality:
    """A municipality as the seed data describe it; ``raw`` is the whole document with its polygons."""

    slug: str
    name: str
    ags: str
    centre: tuple[float, float]
    bbox: tuple[float, float, float, float]
    time_zone: str
    population: int
    raw: dict[str, Any]


def offset(lon: float, lat: float, east_km: float, north_km: float) -> tuple[float, float]:
    """The position (lon, lat) so many kilometres east and north of another one, six decimals."""
    return round(lon + east_km / KM_PER_DEGREE_LON, 6), round(lat + north_km / KM_PER_DEGREE_LAT, 6)


def east_north_km(lon: float, lat: float) -> tuple[float, float]:
    """Kilometres east and north of the common origin."""
    return (lon - ORIGIN_LON) * KM_PER_DEGREE_LON, (lat - ORIGIN_LAT) * KM_PER_DEGREE_LAT


@cache
def places() -> dict[str, tuple[Place, ...]]:
    """The neighbourhoods of each municipality, by its slug."""
    document = json.loads(resources.files("quartier.virtual").joinpath("data/places.json").read_text())
    return {
        slug: tuple(
            Place(municipality=slug, **(entry | {"streets": tuple(entry["streets"])})) for entry in entries
        )
        for slug, entries in document.items()
    }


@cache
def municipalities() -> tuple[Municipality, ...]:
    """Dortmund and Schwerte as the seed data of the cities describe them."""
    found = []
    for slug in ("dortmund", "schwerte"):
        document = json.loads(resources.files("quartier.cities").joinpath(f"data/{slug}.json").read_text())
        found.append(
            Municipality(
                slug=slug,
                name=document["name"],
                ags=document["ags"],
                centre=(document["centre"][0], document["centre"][1]),
                bbox=(document["bbox"][0], document["bbox"][1], document["bbox"][2], document["bbox"][3]),
                time_zone=document["time_zone"],
                population=document["population"],
                raw=document,
            )
        )
    return tuple(found)
