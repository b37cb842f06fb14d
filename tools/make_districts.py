"""Make the simplified outlines and districts of Dortmund and Schwerte in ``src/quartier/cities/data``.

No official polygons may be shipped, so the outlines are drawn here by hand and divided by a Voronoi partition
around the neighbourhoods of the virtual cities, merged per district. An operator replaces the result with the
official polygons of the municipality; the files say so themselves (``"accuracy": "approximate"``).

Run ``python tools/make_districts.py`` after a change of an outline or of a neighbourhood.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import LineString, MultiPoint, Point, Polygon, mapping
from shapely.geometry.base import BaseGeometry

ROOT = Path(__file__).resolve().parent.parent
PLACES = ROOT / "src/quartier/virtual/data/places.json"
TARGET = ROOT / "src/quartier/cities/data"
GRID_DEG = 1e-5

# The common border, from the Ruhr below the Hohensyburg north-eastwards to Lichtendorf. Both outlines use it.
BORDER = [
    (7.5000, 51.4190), (7.5030, 51.4310), (7.5120, 51.4405), (7.5180, 51.4520), (7.5300, 51.4610),
    (7.5450, 51.4650), (7.5560, 51.4640), (7.5750, 51.4685), (7.6000, 51.4682), (7.6120, 51.4780),
]  # fmt: skip

DORTMUND = [
    *BORDER,
    (7.6125, 51.4870), (7.6030, 51.4970), (7.6060, 51.5050), (7.6230, 51.5110), (7.6290, 51.5180),
    (7.6380, 51.5300), (7.6370, 51.5450), (7.6250, 51.5560), (7.6050, 51.5600), (7.6000, 51.5730),
    (7.5840, 51.5895), (7.5550, 51.5880), (7.5300, 51.5835), (7.5050, 51.5850), (7.4750, 51.5880),
    (7.4500, 51.5925), (7.4250, 51.6000), (7.4000, 51.5965), (7.3800, 51.5905), (7.3570, 51.5900),
    (7.3430, 51.5780), (7.3350, 51.5650), (7.3410, 51.5530), (7.3520, 51.5410), (7.3420, 51.5330),
    (7.3250, 51.5310), (7.3100, 51.5280), (7.3020, 51.5170), (7.3030, 51.5050), (7.3120, 51.4970),
    (7.3280, 51.4920), (7.3450, 51.4870), (7.3620, 51.4790), (7.3720, 51.4710), (7.3830, 51.4620),
    (7.3930, 51.4550), (7.4060, 51.4480), (7.4220, 51.4470), (7.4380, 51.4410), (7.4480, 51.4300),
    (7.4560, 51.4210), (7.4660, 51.4165), (7.4860, 51.4160),
]  # fmt: skip

SCHWERTE = [
    *BORDER,
    (7.6320, 51.4745), (7.6500, 51.4680), (7.6600, 51.4580), (7.6490, 51.4470), (7.6330, 51.4410),
    (7.6280, 51.4290), (7.6390, 51.4150), (7.6350, 51.4020), (7.6150, 51.3920), (7.5900, 51.3880),
    (7.5650, 51.3920), (7.5480, 51.4000), (7.5350, 51.4100), (7.5200, 51.4130), (7.5080, 51.4145),
]  # fmt: skip

NOTE = (
    "Vereinfachte, von Hand gezeichnete Umrisse; die Bezirke sind eine Voronoi-Zerlegung. "
    "Für den Betrieb durch die amtlichen Polygone der Kommune ersetzen."
)

MUNICIPALITIES: list[dict[str, Any]] = [
    {
        "slug": "dortmund", "name": "Dortmund", "ags": "05913000", "centre": [7.4653, 51.5139],
        "population": 610000, "outline": DORTMUND,
        "colours": {"primary": "#00508c", "primary_dark": "#003a66", "accent": "#f4b400", "on_primary": "#ffffff"},
        "districts": {
            "innenstadt-west": "Innenstadt-West", "innenstadt-nord": "Innenstadt-Nord",
            "innenstadt-ost": "Innenstadt-Ost", "eving": "Eving", "scharnhorst": "Scharnhorst",
            "brackel": "Brackel", "aplerbeck": "Aplerbeck", "hoerde": "Hörde", "hombruch": "Hombruch",
            "luetgendortmund": "Lütgendortmund", "huckarde": "Huckarde", "mengede": "Mengede",
        },
    },
    {
        "slug": "schwerte", "name": "Schwerte", "ags": "05978028", "centre": [7.5650, 51.4440],
        "population": 50000, "outline": SCHWERTE,
        "colours": {"primary": "#1b6b3a", "primary_dark": "#124a28", "accent": "#d9861a", "on_primary": "#ffffff"},
        "districts": {
            "schwerte-mitte": "Schwerte-Mitte", "schwerterheide": "Schwerterheide", "holzen": "Holzen",
            "wandhofen": "Wandhofen", "westhofen": "Westhofen", "ergste": "Ergste", "villigst": "Villigst",
            "geisecke": "Geisecke",
        },
    },
]  # fmt: skip


def voronoi_lines(outline: Polygon, points: list[Point]) -> BaseGeometry:
    """The borders between the neighbourhoods inside an outline, equal distances meant on the ground."""
    stretch = math.cos(math.radians(outline.centroid.y))
    seen = MultiPoint([(p.x * stretch, p.y) for p in points])
    extent = shapely.transform(outline, lambda c: c * [stretch, 1.0])
    lines = shapely.voronoi_polygons(seen, extend_to=extent, only_edges=True)
    return shapely.intersection(shapely.transform(lines, lambda c: c / [stretch, 1.0]), outline)


def rounded(geometry: BaseGeometry) -> dict[str, Any]:
    """GeoJSON with five decimals, exterior rings counter-clockwise (RFC 7946 §3.1.6)."""

    def plain(value: Any) -> Any:
        return [plain(v) for v in value] if isinstance(value, tuple | list) else round(value, 5)

    shape = mapping(shapely.orient_polygons(geometry, exterior_cw=False))
    return {"type": shape["type"], "coordinates": plain(shape["coordinates"])}


def main() -> None:
    places = json.loads(PLACES.read_text())
    outlines = {m["slug"]: Polygon(m["outline"]) for m in MUNICIPALITIES}
    lines: list[BaseGeometry] = [LineString(o.exterior) for o in outlines.values()]
    for slug, outline in outlines.items():
        lines.append(voronoi_lines(outline, [Point(p["lon"], p["lat"]) for p in places[slug]]))
    # Noding everything at once on one grid gives neighbours identical corners, so nothing overlaps or gapes.
    noded = shapely.unary_union(lines, grid_size=GRID_DEG)
    faces = list(shapely.polygonize([noded]).geoms)
    for municipality in MUNICIPALITIES:
        slug = municipality["slug"]
        cells: dict[str, list[BaseGeometry]] = {d: [] for d in municipality["districts"]}
        stretch = math.cos(math.radians(municipality["centre"][1]))
        for face in faces:
            inside = face.representative_point()
            if not outlines[slug].contains(inside):
                continue
            nearest = min(
                places[slug],
                key=lambda p: math.hypot((p["lon"] - inside.x) * stretch, p["lat"] - inside.y),
            )
            cells[nearest["district"]].append(face)
        districts = {d: shapely.unary_union(parts, grid_size=GRID_DEG) for d, parts in cells.items()}
        whole = shapely.unary_union(list(districts.values()), grid_size=GRID_DEG)
        document = {
            "slug": slug,
            "name": municipality["name"],
            "ags": municipality["ags"],
            "accuracy": "approximate",
            "note": NOTE,
            "centre": municipality["centre"],
            "bbox": [round(v, 5) for v in whole.bounds],
            "time_zone": "Europe/Berlin",
            "population": municipality["population"],
            "colours": municipality["colours"],
            "polygon": rounded(whole),
            "districts": [
                {"slug": d, "name": name, "polygon": rounded(districts[d])}
                for d, name in municipality["districts"].items()
            ],
        }
        path = TARGET / f"{slug}.json"
        path.write_text(
            json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace('{"slug"', '\n{"slug"')
            + "\n"
        )


if __name__ == "__main__":
    main()
