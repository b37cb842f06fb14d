"""dataArray (18-088 clause 12), CSV and GeoJSON (FROST's documentation of its result formats)."""

from __future__ import annotations

import csv
import io
from typing import Any
from urllib.parse import unquote

import pytest

from quartier.interfaces.sensorthings import formats
from quartier.interfaces.sensorthings.formats import feature
from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db
BASE = "http://test/sensorthings/v1.1"


async def table(client: Client, path: str) -> list[list[str]]:
    """The rows of a CSV answer, its head first."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.text.endswith("\r\n")
    return list(csv.reader(io.StringIO(answer.text, newline="")))


async def test_csv_of_one_set(client: Client, city: City) -> None:
    found = await table(client, "Datastreams?$select=id,name,unitOfMeasurement&$orderby=id&$resultFormat=CSV")
    units = await client.values("Datastreams?$orderby=id")
    assert found == [
        ["id", "name", *(f"unitOfMeasurement/{part}" for part in ("name", "symbol", "definition"))],
        *(
            [
                str(one["@iot.id"]),
                one["name"],
                *(one["unitOfMeasurement"][p] for p in ("name", "symbol", "definition")),
            ]
            for one in units
        ),
    ]
    assert len(found) == 4  # the hidden one is none of them


async def test_csv_follows_links_to_one(client: Client, city: City) -> None:
    found = await table(
        client,
        f"Datastreams({city.temperature.pk})/Observations?$select=phenomenonTime,result&$top=2&$resultFormat=csv"
        "&$expand=Datastream($select=name;$expand=Thing($select=name,properties/owner,properties/tags[1])),"
        "FeatureOfInterest($select=id;$expand=Observations($top=1;$select=result))",
    )
    assert found[0] == [
        "phenomenonTime", "result", "Datastream/name", "Datastream/Thing/name", "Datastream/Thing/properties/owner",
        "Datastream/Thing/properties/tags/1", "FeatureOfInterest/id", "FeatureOfInterest/Observations/result",
    ]  # fmt: skip
    assert [row[:2] for row in found[1:]] == [
        ["2026-03-01T12:00:00Z", "10"],
        ["2026-03-01T12:01:00Z", "10.5"],
    ]
    assert found[1][3:5] == ["Markt", '{"name":"Stadt","since":1990}']


async def test_csv_has_all_columns_without_any_row(client: Client, city: City) -> None:
    found = await table(client, "Observations?$filter=result gt 1000&$resultFormat=CSV")
    assert found == [
        ["id", "phenomenonTime", "result", "resultTime", "resultQuality", "validTime", "parameters"]
    ]
    one = await table(client, f"Things({city.market.pk})?$resultFormat=CSV&$select=name")
    assert one == [["name"], ["Markt"]]


def test_csv_holds_no_formula() -> None:
    written = b"".join(formats.table([("a",), ("b", "@iot.id")], [("=1+1", -5), ("@x", None), ("-", True)]))
    assert written == b"a,b/id\r\n'=1+1,-5\r\n'@x,\r\n'-,true\r\n"


async def test_csv_of_sums(client: Client, city: City) -> None:
    found = await table(
        client,
        "Observations?$apply=groupby((Datastream/id),aggregate($count as n,result with max as high))"
        "&$orderby=Datastream/id&$resultFormat=CSV",
    )
    assert found == [
        ["Datastream/id", "n", "high"],
        [str(city.temperature.pk), "30", "24.5"],
        [str(city.other.pk), "1", "21.5"],
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Things?$expand=Datastreams&$resultFormat=CSV", "$expand, character 1: CSV has one row per entity"),
        ("Things?$resultFormat=dataArray", "$resultFormat: dataArray is for sets of Observations"),
        ("Observations?$expand=Datastream&$resultFormat=dataArray", "$expand, character 1: nothing can be expanded"),
        ("Things/$ref?$resultFormat=CSV", "$resultFormat: is for entities"),
        ("Things/$count?$resultFormat=CSV", "$resultFormat: is for entities"),
        (
            "Observations?$apply=aggregate($count as n)&$resultFormat=GeoJSON",
            "$resultFormat: with $apply, only json and CSV are possible",
        ),
    ],
)  # fmt: skip
async def test_refusals(client: Client, city: City, path: str, message: str) -> None:
    assert (await client.refused(path)).startswith(message)


async def test_geojson(client: Client, city: City) -> None:
    path = "Things?$select=id,name,properties&$expand=Locations($select=id,location)&$orderby=id&$top=1&$count=true"
    answer = await client.get(f"{path}&$resultFormat=GeoJSON")
    assert answer.headers["content-type"] == "application/geo+json"
    found = answer.json()
    properties = found["features"][0]["properties"]
    location = properties.pop("Locations/0/id")
    assert isinstance(location, int)
    assert (
        properties.items()
        >= {
            "id": city.market.pk,
            "name": "Markt",
            "properties/owner/name": "Stadt",
            "properties/tags/1": "b",
        }.items()
    )
    assert found["features"][0]["geometry"]["coordinates"][:2] == [7.5, 51.5]
    assert found["@iot.count"] == 2
    following = await client.http.get(found["@iot.nextLink"])
    assert [one["properties"]["name"] for one in following.json()["features"]] == ["Parkhaus 'Süd'"]
    assert (await client.json("Things?$filter=name eq 'x'&$resultFormat=GeoJSON")) == {
        "type": "FeatureCollection",
        "features": [],
    }


def test_the_first_geometry_is_the_features() -> None:
    point = {"type": "Point", "coordinates": [7, 51]}
    row = {
        "@iot.id": 1,
        "@iot.selfLink": "x",
        "Things@iot.navigationLink": "y",
        "a": {"b": [1, {"type": "Point"}]},
        "location": {"type": "Feature", "geometry": point, "properties": {"z": 1}},
        "Things": [{"@iot.id": 2, "feature": {"type": "Point", "coordinates": [0, 0]}}],
    }
    assert feature(row) == {
        "type": "Feature",
        "geometry": point,
        "properties": {"id": 1, "a/b/0": 1, "a/b/1/type": "Point", "Things/0/id": 2},
    }
    assert feature({"name": None}) == {"type": "Feature", "geometry": None, "properties": {"name": None}}


async def test_data_array_of_one_datastream(client: Client, city: City) -> None:
    found = await client.json(
        f"Datastreams({city.temperature.pk})/Observations?$resultFormat=dataArray&$top=2&$count=true"
        "&$select=id,result&$orderby=phenomenonTime desc"
    )
    link = unquote(found.pop("@iot.nextLink"))
    assert found == {
        "value": [
            {
                "Datastream@iot.navigationLink": f"{BASE}/Datastreams({city.temperature.pk})",
                "components": ["id", "result"],
                "dataArray@iot.count": 2,
                "dataArray": [
                    [f"{city.temperature.pk}.1772368140000000", 24.5],
                    [f"{city.temperature.pk}.1772368080000000", 24],
                ],
            }
        ],
        "@iot.count": 30,
    }
    assert "$resultFormat=dataArray" in link
    assert "$expand" not in link


async def test_data_array_of_all(client: Client, city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    async def arrays() -> list[Any]:
        return await client.values(
            "Observations?$resultFormat=dataArray&$select=result&$orderby=result&$top=100"
        )

    found = await arrays()
    assert {one["Datastream@iot.navigationLink"]: one["dataArray@iot.count"] for one in found} == {
        f"{BASE}/Datastreams({series.pk})": n
        for series, n in ((city.temperature, 30), (city.humidity, 1), (city.other, 1))
    }
    monkeypatch.setattr(formats, "_HELD_ROWS", 10)
    pieces = await arrays()
    assert sum(one["dataArray@iot.count"] for one in pieces) == 32
    assert sorted(row for one in pieces for row in one["dataArray"]) == sorted(
        row for one in found for row in one["dataArray"]
    )
    assert len(pieces) > len(found)
    assert await client.values("Observations?$resultFormat=dataArray&$filter=result gt 1000") == []
