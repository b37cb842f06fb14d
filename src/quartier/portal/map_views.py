"""What the plain base map is drawn from: no other server is asked."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.resources import files

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import etag, require_safe

from quartier.cities.models import District

_DECIMALS = 5  # about a metre


@lru_cache(maxsize=1)
def _base_map() -> tuple[bytes, str]:
    content = files("quartier.cities").joinpath("data/basemap.json").read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:16]


def _answer(content: bytes) -> HttpResponse:
    return HttpResponse(content, content_type="application/geo+json")


@require_safe
@cache_control(public=True, max_age=24 * 3600)
@etag(lambda _request: f'"{_base_map()[1]}"')
def base_map(_request: HttpRequest) -> HttpResponse:
    """Rivers, roads, railways, greens and names of both cities, drawn by hand (``cities/data/basemap.json``)."""
    return _answer(_base_map()[0])


def _rounded(coordinates: object) -> object:
    if isinstance(coordinates, list):
        return [_rounded(entry) for entry in coordinates]
    return round(coordinates, _DECIMALS) if isinstance(coordinates, float) else coordinates


def _districts() -> bytes:
    features = [
        {
            "type": "Feature",
            "properties": {"name": district.name, "municipality": district.municipality.slug},
            "geometry": {
                "type": district.polygon.get("type"),
                "coordinates": _rounded(district.polygon.get("coordinates")),
            },
        }
        for district in District.objects.select_related("municipality")
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":")).encode()


@require_safe
@cache_control(public=True, max_age=3600)
def districts(_request: HttpRequest) -> HttpResponse:
    """The districts' outlines as GeoJSON."""
    return _answer(_districts())
