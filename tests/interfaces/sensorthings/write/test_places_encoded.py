"""Places as Well-Known Text and JSON-FG (22-022r1, "Feature and Location Geometry Encoding"), in several systems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quartier.interfaces.sensorthings import service
from quartier.interfaces.sensorthings.model import ENTITIES
from quartier.interfaces.sensorthings.write import crs
from tests.interfaces.sensorthings.write.conftest import Writing

EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
# A place in Dortmund as surveying offices write it (ETRS89 / UTM zone 32N), and as Snyder's formulas convert it (Map
# Projections, USGS Professional Paper 1395, 8-12 and 8-17 to 8-25), which are other ones than ours.
EAST, NORTH = 393_519.0, 5_707_758.0
WGS84 = [7.4655659, 51.5109041]


def place(encoding: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"name": "Platz", "description": "", "encodingType": encoding, "location": value} | more


@pytest.mark.parametrize(
    ("metres", "zone", "degrees", "digits"),
    [
        # The meridian of a zone: distances from the equator along it are in every geodetic table (WGS 84).
        ([500_000.0, 4_984_944.378 * 0.9996], 32, [9.0, 45.0], 8),
        ([500_000.0, 10_001_965.729 * 0.9996], 32, [9.0, 90.0], 8),
        # CN Tower, in whole metres and hundredths of a second (Wikipedia, "Universal Transverse Mercator").
        ([630_084.0, 4_833_438.0], 17, [-(79 + 23 / 60 + 13.7 / 3600), 43 + 38 / 60 + 33.24 / 3600], 5),
    ],
)
def test_utm(metres: list[float], zone: int, degrees: list[float], digits: int) -> None:
    found = crs.from_utm(np.array([metres]), zone)[0]
    assert found == pytest.approx(degrees, abs=0.5 * 10**-digits)


def test_mercator() -> None:
    """The corner of the square world (EPSG:3857)."""
    found = crs.from_mercator(np.array([[20_037_508.342789, 20_037_508.342789]]))[0]
    assert found == pytest.approx([180.0, 85.0511287798], abs=1e-9)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (place("wkt", "POINT (7.46 51.51)"), {"type": "Point", "coordinates": [7.46, 51.51]}),
        (
            place("wkt", f"POINT ({EAST} {NORTH})", srid=25832),
            {"type": "Point", "coordinates": WGS84},
        ),
        (
            place("wkt", f"POINT Z ({EAST} {NORTH} 86.5)", crs="urn:ogc:def:crs:EPSG::25832"),
            {"type": "Point", "coordinates": [*WGS84, 86.5]},
        ),
        (place("wkt", "POINT (7.46 51.51)", srid=4326), {"type": "Point", "coordinates": [7.46, 51.51]}),
        (
            place(crs.JSON_FG, {
                "type": "Feature",
                "conformsTo": ["http://www.opengis.net/spec/json-fg-1/0.3/conf/core"],
                "featureType": "platz",
                "time": None,
                "coordRefSys": f"{EPSG}25832",
                "place": {"type": "Point", "coordinates": [EAST, NORTH]},
                "geometry": None,
                "properties": {"belag": "Pflaster"},
            }),
            {
                "type": "Feature",
                "featureType": "platz",
                "time": None,
                "geometry": {"type": "Point", "coordinates": WGS84},
                "properties": {"belag": "Pflaster"},
            },
        ),
        (
            # A system's own order of axes: latitude comes first.
            place(crs.JSON_FG, {
                "type": "Feature",
                "coordRefSys": {"type": "Reference", "href": f"{EPSG}4326"},
                "place": {"type": "Point", "coordinates": [51.51, 7.46]},
                "geometry": None,
                "properties": None,
            }),
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.46, 51.51]}, "properties": None},
        ),
        (
            place(crs.JSON_FG, {
                "type": "Feature",
                "place": None,
                "geometry": {"type": "Point", "coordinates": [7.46, 51.51]},
                "properties": {},
            }),
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.46, 51.51]}, "properties": {}},
        ),
    ],
)  # fmt: skip
async def test_a_thing_stands_where_its_location_says(
    sta: Writing, body: dict[str, Any], kept: dict[str, Any]
) -> None:
    thing = await sta.post("Things", {"name": "Messstelle", "description": "", "Locations": [body]})
    found = (await sta.values(f"{thing}/Locations"))[0]
    assert (found["encodingType"], found["location"]) == ("application/geo+json", kept)
    # Filters know it by now.
    near = "geo.distance(Locations/location,geography'POINT(7.463 51.5105)') lt 0.01"
    named = await sta.values("Things", params={"$filter": near, "$select": "name"})
    assert named == [{"name": "Messstelle"}]


async def test_a_feature_is_taken_and_changed(sta: Writing) -> None:
    made = await sta.post("FeaturesOfInterest", {
        "name": "See", "description": "", "encodingType": "wkt", "srid": 25832,
        "feature": "POLYGON ((393000 5707000, 394000 5707000, 394000 5708000, 393000 5707000))",
    })  # fmt: skip
    feature = (await sta.json(made))["feature"]
    assert feature["type"] == "Polygon"
    assert feature["coordinates"][0][0] == pytest.approx([7.458333, 51.503993], abs=1e-4)
    await sta.change("PATCH", made, {"encodingType": "wkt", "feature": "POINT (7.5 51.5)"})
    assert (await sta.json(made))["feature"] == {"type": "Point", "coordinates": [7.5, 51.5]}
    problem = await sta.no("PATCH", made, {"encodingType": "wkt"})
    assert problem == "feature: is missing: with another encodingType it is another text"


FEATURE = {"type": "Feature", "geometry": None, "properties": None}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (place("wkt", "POINT (7.46)"), "location: is no Well-Known Text"),
        (place("wkt", {"type": "Point"}), "location: expected Well-Known Text"),
        (place("wkt", "POINT EMPTY"), "location: the geometry is empty"),
        (place("wkt", "POINT (7 51)", srid=31467), "srid: '31467' is no reference system that can be converted"),
        (place("wkt", "POINT (7 51)", crs="EPSG:25832", srid=25832), "srid: give either crs or srid"),
        (place("wkt", "POINT (9e9 5e9)", srid=25832), "location: lies outside of what 25832 can say"),
        (place("wkt", "POINT (200 51)"), "location.coordinates[0]: the longitude 200 lies outside"),
        (place("wkt", "POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))"), "location: the geometry is not valid"),
        (place(crs.JSON_FG, {"type": "Point", "coordinates": [7, 51]}), "location: expected a Feature of JSON-FG"),
        (place(crs.JSON_FG, FEATURE), "location.geometry: expected a geometry"),
        (
            place(crs.JSON_FG, FEATURE | {"coordRefSys": f"{EPSG}31467", "place": {"type": "Point"}}),
            "location.coordRefSys: 'http://www.opengis.net/def/crs/EPSG/0/31467' is no reference system",
        ),
        (
            place(crs.JSON_FG, FEATURE | {"place": {"type": "Prism", "base": {}, "upper": 3}}),
            "location.place: cannot be kept as GeoJSON",
        ),
        (place("application/geo+json", {"type": "Point", "coordinates": [7, 51]}, srid=4326), "no such property"),
    ],
)  # fmt: skip
async def test_refusals_name_the_place(sta: Writing, body: dict[str, Any], problem: str) -> None:
    assert problem in await sta.no("POST", "Locations", body)


async def test_the_logic_is_described_in_english(sta: Writing) -> None:
    """22-022r1: the business logic is described in English text; the service document says where."""
    settings = (await sta.json(""))["serverSettings"]
    begin = "http://www.opengis.net/spec/sensorthings-staplus/1.0/conf/"
    address = settings[f"{begin}business-logic"]["description"]
    assert address == "http://test/sensorthings/v1.1/business-logic"
    answer = await sta.get("business-logic")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/markdown; charset=utf-8")
    assert answer.content == service.business_logic()
    # Every entity type that can be written is spoken of.
    assert [one.name for one in ENTITIES if one.name not in answer.text] == []


async def test_the_service_says_which_systems_it_knows(sta: Writing) -> None:
    """22-022r1, geometry-fg and geometry-wkt: default and supported reference systems are advertised."""
    settings = (await sta.json(""))["serverSettings"]
    for one in ("geometry-fg", "geometry-wkt"):
        assert settings[f"http://www.opengis.net/spec/sensorthings-staplus/1.0/conf/{one}"] == {
            "defaultCrs": "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
            "supportedCrs": ["http://www.opengis.net/def/crs/OGC/1.3/CRS84", *(
                f"{EPSG}{code}"
                for code in (4326, 4258, 3857, 25831, 25832, 25833, 32631, 32632, 32633)
            )],
        }  # fmt: skip
