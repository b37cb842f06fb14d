"""Reading (18-088 clauses 9.2 and 9.3): addresses, properties, links."""

from __future__ import annotations

import pytest

from quartier.interfaces.sensorthings.model import ENTITIES
from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db
BASE = "http://test/sensorthings/v1.1"


async def test_a_thing_is_complete(client: Client, city: City) -> None:
    number = city.market.pk
    link = f"{BASE}/Things({number})"
    assert await client.json(f"Things({number})") == {
        "@iot.selfLink": link,
        "@iot.id": number,
        "name": "Markt",
        "description": "",
        "properties": {
            "owner": {"name": "Stadt", "since": 1990},
            "tags": ["a", "b"],
            "municipality": "musterstadt",
            "kind": "station",
            "key": "markt",
            "address": "Markt 1",
            "simulated": False,
        },
        "Locations@iot.navigationLink": f"{link}/Locations",
        "HistoricalLocations@iot.navigationLink": f"{link}/HistoricalLocations",
        "Datastreams@iot.navigationLink": f"{link}/Datastreams",
        "MultiDatastreams@iot.navigationLink": f"{link}/MultiDatastreams",
        "TaskingCapabilities@iot.navigationLink": f"{link}/TaskingCapabilities",
    }


async def test_an_observation_is_complete(client: Client, city: City) -> None:
    number = f"{city.other.pk}.1772366400000000"
    link = f"{BASE}/Observations('{number}')"
    assert await client.json(f"Observations('{number}')") == {
        "@iot.selfLink": link,
        "@iot.id": number,
        "phenomenonTime": "2026-03-01T12:00:00Z/2026-03-01T13:00:00Z",
        "result": 21.5,
        "resultTime": "2026-03-01T12:00:05Z",
        "validTime": "2026-03-01T12:00:00Z/2026-03-02T12:00:00Z",
        "parameters": {"cloud": 3},
        "Datastream@iot.navigationLink": f"{link}/Datastream",
        "FeatureOfInterest@iot.navigationLink": f"{link}/FeatureOfInterest",
        "ObservationGroups@iot.navigationLink": f"{link}/ObservationGroups",
        "Objects@iot.navigationLink": f"{link}/Objects",
        "Subjects@iot.navigationLink": f"{link}/Subjects",
    }


async def test_a_datastream_is_complete(client: Client, city: City) -> None:
    number = city.temperature.pk
    link = f"{BASE}/Datastreams({number})"
    found = await client.json(f"Datastreams({number})")
    assert found == {
        "@iot.selfLink": link,
        "@iot.id": number,
        "name": "Markt: Lufttemperatur",
        "description": "Lufttemperatur",
        "observationType": "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement",
        "unitOfMeasurement": {
            "name": "Cel",
            "symbol": "°C",
            "definition": "http://www.opengis.net/def/uom/UCUM/0/Cel",
        },
        "observedArea": {"type": "Point", "coordinates": [7.5, 51.5, 90]},
        "phenomenonTime": "2026-03-01T12:00:00Z/2026-03-01T12:29:00Z",
        "resultTime": "2026-03-01T12:00:00Z/2026-03-01T12:29:00Z",
        "Thing@iot.navigationLink": f"{link}/Thing",
        "Sensor@iot.navigationLink": f"{link}/Sensor",
        "ObservedProperty@iot.navigationLink": f"{link}/ObservedProperty",
        "Observations@iot.navigationLink": f"{link}/Observations",
        "Campaigns@iot.navigationLink": f"{link}/Campaigns",
    }


@pytest.mark.parametrize("name", [one.set for one in ENTITIES])
async def test_every_set_can_be_read_and_counted(client: Client, name: str) -> None:
    body = await client.json(f"{name}?$count=true&$top=1000")
    assert body["@iot.count"] == len(body["value"])
    assert (await client.get(f"{name}/$count")).text == str(len(body["value"]))
    for one in body["value"][:3]:
        link = one["@iot.selfLink"].removeprefix(BASE + "/")
        alone = await client.json(link)
        assert {key: alone[key] for key in one} == one
        for key, address in alone.items():
            if key.endswith("@iot.navigationLink"):
                answer = await client.get(address.removeprefix(BASE + "/"))
                assert answer.status_code == 200, answer.text
