"""``$expand``, ``$select``, ``$orderby``, ``$top``, ``$skip``, ``$count`` and pages (18-088 clause 9.3.3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db
BASE = "http://test/sensorthings/v1.1"


async def test_expand_with_every_nested_option(client: Client, city: City) -> None:
    inner = "$filter=result gt 12;$orderby=result desc;$top=2;$count=true;$select=result"
    query = f"$select=name&$expand=Datastreams($select=name;$orderby=name;$expand=Observations({inner});$count=true)"
    values = await client.values(f"Things?{quote(query, safe='$=&')}")
    link = f"{BASE}/Datastreams({city.temperature.pk})/Observations"
    following = values[0]["Datastreams"][0].pop("Observations@iot.nextLink")
    assert following.startswith(
        f"{link}?$skip=2&$filter=result%20gt%2012&$orderby=result%20desc&$top=2&$select=result&$skiptoken="
    )
    assert values == [
        {
            "name": "Markt",
            "Datastreams": [
                {
                    "name": "Markt: Lufttemperatur",
                    "Observations": [{"result": 24.5}, {"result": 24}],
                    "Observations@iot.count": 25,
                },
                {
                    "name": "Markt: Relative Luftfeuchte",
                    "Observations": [{"result": 55}],
                    "Observations@iot.count": 1,
                },
            ],
            "Datastreams@iot.count": 2,
        },
        {
            "name": "Parkhaus 'Süd'",
            "Datastreams": [
                {
                    "name": "Parkhaus 'Süd': Lufttemperatur",
                    "Observations": [{"result": 21.5}],
                    "Observations@iot.count": 1,
                }
            ],
            "Datastreams@iot.count": 1,
        },
    ]
    assert await client.values(following.removeprefix(BASE + "/")) == [{"result": 23.5}, {"result": 23}]


async def test_newest_observation_of_each_datastream(client: Client, city: City) -> None:
    query = (
        "$select=id&$expand=Observations($top=1;$orderby=phenomenonTime desc;$select=result,phenomenonTime)"
    )
    values = await client.values(f"Datastreams?{quote(query, safe='$=&')}")
    following = values[0].pop("Observations@iot.nextLink")
    assert values == [
        {
            "@iot.id": city.temperature.pk,
            "Observations": [{"phenomenonTime": "2026-03-01T12:29:00Z", "result": 24.5}],
        },
        {
            "@iot.id": city.humidity.pk,
            "Observations": [{"phenomenonTime": "2026-03-01T12:00:00Z", "result": 55}],
        },
        {
            "@iot.id": city.other.pk,
            "Observations": [{"phenomenonTime": "2026-03-01T12:00:00Z/2026-03-01T13:00:00Z", "result": 21.5}],
        },
    ]
    assert (await client.values(following.removeprefix(BASE + "/")))[0]["result"] == 24


async def test_expand_single_links_from_an_observation(client: Client, city: City) -> None:
    query = "$top=1&$select=result&$expand=Datastream($select=id;$expand=Thing($select=name),"
    query += "Sensor($select=name,metadata)),FeatureOfInterest($select=name,feature),MultiDatastream"
    assert await client.values(f"Datastreams({city.temperature.pk})/Observations?{query}") == [
        {
            "result": 10,
            "Datastream": {
                "@iot.id": city.temperature.pk,
                "Thing": {"name": "Markt"},
                "Sensor": {"name": "Fühler 1", "metadata": "https://example.org/t1000"},
            },
            "FeatureOfInterest": {
                "name": "Markt",
                "feature": {"type": "Point", "coordinates": [7.5, 51.5, 90]},
            },
        }
    ]


async def test_select_parts_and_distinct_values(client: Client, city: City) -> None:
    assert await client.values("Things?$select=id,properties/owner/name,properties/tags,Datastreams") == [
        {
            "@iot.id": city.market.pk,
            "properties": {"owner": {"name": "Stadt"}, "tags": ["a", "b"]},
            "Datastreams@iot.navigationLink": f"{BASE}/Things({city.market.pk})/Datastreams",
        },
        {
            "@iot.id": city.park.pk,
            "properties": {"owner": {}},
            "Datastreams@iot.navigationLink": f"{BASE}/Things({city.park.pk})/Datastreams",
        },
    ]
    body = await client.json("Datastreams?$select=distinct:unitOfMeasurement/symbol&$count=true")
    assert body == {
        "@iot.count": 2,
        "value": [{"unitOfMeasurement": {"symbol": "%"}}, {"unitOfMeasurement": {"symbol": "°C"}}],
    }
    pages = await client.pages("Datastreams?$select=distinct:unitOfMeasurement/symbol&$top=1")
    assert [one["unitOfMeasurement"]["symbol"] for page in pages for one in page] == ["%", "°C"]


@pytest.mark.parametrize(
    "order",
    [
        "",
        "id desc",
        "result",
        "result desc",
        "phenomenonTime",
        "phenomenonTime desc",
        "resultTime desc",
        "Datastream/name desc,result",
        "Datastream/Thing/name,phenomenonTime desc,id",
        "parameters/cloud",
        "parameters/cloud desc,result desc",
        "validTime,result",
        "result mod 3 desc",
        "minute(phenomenonTime),result",
        "length(Datastream/name) desc",
        "result gt 15",
        "Datastream/Thing/properties/owner/since desc,phenomenonTime",
        "date(phenomenonTime) desc,time(phenomenonTime)",
    ],
)
async def test_pages_of_every_ordering_are_the_whole(client: Client, order: str) -> None:
    ordered = f"&$orderby={quote(order)}" if order else ""
    whole = await client.ids(f"Observations?$top=100{ordered}")
    assert len(whole) == 32
    pages = await client.pages(f"Observations?$top=7&$select=id{ordered}")
    assert [len(page) for page in pages] == [7, 7, 7, 7, 4]
    assert [one["@iot.id"] for page in pages for one in page] == whole
    skipped = await client.ids(f"Observations?$top=7&$skip=20{ordered}")
    assert skipped == whole[20:27]


async def test_orders_are_as_asked(client: Client, city: City) -> None:
    def results(values: list[Any]) -> list[Any]:
        return [one["result"] for one in values]

    path = f"Datastreams({city.temperature.pk})/Observations"
    assert results(await client.values(f"{path}?$top=3")) == [10, 10.5, 11]
    assert results(await client.values(f"{path}?$top=3&$orderby=phenomenonTime%20desc")) == [24.5, 24, 23.5]
    assert results(await client.values(f"{path}?$top=3&$orderby=result%20mod%205,result%20desc")) == [
        20,
        15,
        10,
    ]
    names = [one["name"] for one in await client.values("Things?$orderby=properties/owner/since%20desc,name")]
    assert names == ["Parkhaus 'Süd'", "Markt"]
    near = quote("geo.distance(location,geography'POINT(7.6 51.6)')")
    assert [one["name"] for one in await client.values(f"Locations?$orderby={near}")] == [
        "Parkhaus 'Süd'",
        "Markt",
    ]


async def test_a_token_fits_its_list_only(client: Client) -> None:
    body = await client.json("Observations?$top=1&$orderby=result")
    token = body["@iot.nextLink"].partition("$skiptoken=")[2]
    message = await client.refused(f"Observations?$top=1&$orderby=result%20desc&$skiptoken={token}")
    assert message == "$skiptoken: this is no place of this list; begin with its first page"


async def test_nothing_and_everything(client: Client, city: City) -> None:
    assert await client.json("Things?$top=0&$count=true") == {"@iot.count": 2, "value": []}
    assert await client.json("Things?$skip=5") == {"value": []}
    assert len(await client.values("Observations?$top=20000")) == 32
    assert (await client.get("Observations/$count")).text == "32"
    assert (await client.get("Observations/$count?$filter=result%20gt%2020")).text == "11"


async def test_metadata_as_asked(client: Client, city: City) -> None:
    path = f"HistoricalLocations?$filter=Thing/id%20eq%20{city.market.pk}"
    full = (await client.values(path))[0]
    assert {key for key in full if "@" in key} == {
        "@iot.selfLink",
        "@iot.id",
        "Thing@iot.navigationLink",
        "Locations@iot.navigationLink",
    }
    assert (await client.values(f"{path}&$resultMetadata=minimal"))[0].keys() == {"@iot.id", "time"}
    assert (await client.values(f"{path}&$resultMetadata=none"))[0].keys() == {"time"}
    for headers in ({"prefer": "metadata=none"}, {"accept": "application/json;odata.metadata=none"}):
        assert (await client.values(path, headers=headers))[0].keys() == {"time"}
