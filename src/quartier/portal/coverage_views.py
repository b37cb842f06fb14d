"""The public page of the radio networks: where devices are heard, by which gateways, and how to join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from shapely import STRtree, points
from shapely.geometry import shape

from quartier.cities.models import District
from quartier.lorawan import coverage
from quartier.lorawan.coverage import Cell
from quartier.lorawan.models import Gateway
from quartier.portal.context import cities
from quartier.portal.numbers import number

# From (dBm), class of the map's colours, words. Below the last one devices are heard, but with luck.
_CLASSES: Final = (
    (-95.0, 3, gettext_lazy("sehr gut: auch im Keller")),
    (-108.0, 2, gettext_lazy("gut: auch in Häusern")),
    (-118.0, 4, gettext_lazy("mäßig: im Freien")),
    (-999.0, 5, gettext_lazy("schwach: am Rand")),
)
_ONLINE_S: Final = 120
MOST_CELLS_IN_TABLE: Final = 400


@dataclass(frozen=True, slots=True)
class Row:
    """A square in words."""

    district: str
    cell: Cell
    quality: str
    level: int
    strength: str
    heard_by: str


def level_of(cell: Cell) -> tuple[int, str]:
    """Class of colour and words of how well a square is heard."""
    for least, level, words in _CLASSES:
        if cell.rssi_dbm >= least:
            return level, str(words)
    return 0, ""


def _heard_by(cell: Cell) -> str:
    # More than three is told no further: it would say too much about where gateways stand.
    if cell.gateways >= 3:
        return _("drei oder mehr Gateways")
    return ngettext("%(n)d Gateway", "%(n)d Gateways", cell.gateways) % {"n": cell.gateways}


def _rows(cells: list[Cell]) -> list[Row]:
    districts = list(District.objects.select_related("municipality"))
    tree = STRtree([shape(one.polygon) for one in districts])
    where: dict[int, str] = {}
    if cells and districts:
        centres = points([one.centre for one in cells])
        for cell, district in zip(*tree.query(centres, predicate="within"), strict=True):
            found = districts[district]
            where.setdefault(int(cell), f"{found.name} ({found.municipality.name})")
    rows = []
    for index, cell in enumerate(cells):
        level, words = level_of(cell)
        rows.append(
            Row(
                where.get(index, _("außerhalb der Städte")),
                cell,
                words,
                level,
                f"{number(5 * round(cell.rssi_dbm / 5))}\u00a0dBm",
                _heard_by(cell),
            )
        )
    return sorted(rows, key=lambda one: (one.district, one.cell.y, one.cell.x))


def _public_gateways() -> QuerySet[Gateway]:
    return Gateway.objects.filter(private=False, disabled=False).select_related("municipality")


def _is_online(gateway: Gateway) -> bool:
    seen = gateway.last_seen_at
    return seen is not None and (timezone.now() - seen).total_seconds() < _ONLINE_S


@require_safe
def radio_coverage(request: HttpRequest) -> HttpResponse:
    """Map, table and gateways."""
    rows = _rows(coverage.cells([city.id for city in cities()]))
    context: dict[str, Any] = {
        "rows": rows[:MOST_CELLS_IN_TABLE],
        "n_cells": len(rows),
        "double": sum(row.cell.gateways >= 2 for row in rows),
        "gateways": [(one, _is_online(one)) for one in _public_gateways()],
        "n_private": Gateway.objects.filter(private=True, disabled=False).count(),
        "least_frames": coverage.LEAST_FRAMES,
        "days": coverage.DAYS,
    }
    return render(request, "portal/pages/coverage.html", context)


@require_safe
@cache_control(public=True, max_age=300)
def coverage_geojson(_request: HttpRequest) -> HttpResponse:
    """Squares and public gateways as GeoJSON, coordinates in degrees (WGS 84)."""
    features: list[dict[str, Any]] = []
    for row in _rows(coverage.cells([city.id for city in cities()])):
        features.append(
            {
                "type": "Feature",
                "id": f"{row.cell.x}/{row.cell.y}",
                "properties": {
                    "key": f"{row.cell.x}/{row.cell.y}",
                    "name": row.district,
                    "class": row.level,
                    "text": f"{row.quality} ({row.strength})",
                    "kind_text": row.heard_by,
                    "rssi_dbm": 5 * round(row.cell.rssi_dbm / 5),
                    "gateways": min(row.cell.gateways, 3),
                },
                "geometry": {"type": "Polygon", "coordinates": [row.cell.ring]},
            }
        )
    # Without their EUIs: who knows one can speak in the name of a gateway that proves nothing.
    for gateway in _public_gateways().filter(lon__isnull=False):
        online = _is_online(gateway)
        features.append(
            {
                "type": "Feature",
                "id": f"gateway/{gateway.pk}",
                "properties": {
                    "key": f"gateway/{gateway.pk}",
                    "name": gateway.name,
                    "class": 1,
                    "asleep": not online,
                    "kind_text": _("Gateway"),
                    "age_text": _("verbunden") if online else _("nicht verbunden"),
                },
                "geometry": {
                    "type": "Point",
                    "coordinates": [round(gateway.lon or 0, 4), round(gateway.lat or 0, 4)],
                },
            }
        )
    legend = [{"class": level, "label": str(words)} for _least, level, words in _CLASSES]
    legend.append({"class": 1, "label": _("Gateway")})
    body = {"type": "FeatureCollection", "features": features, "legend": legend}
    return HttpResponse(orjson.dumps(body), content_type="application/geo+json")
