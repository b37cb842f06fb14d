"""Creating entities: alone, nested, through navigation, and everything that goes along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.write.conftest import (
    BASE,
    CELSIUS,
    OM,
    Town,
    Writing,
    datastream,
    location,
    point,
    rows,
    sensor,
    thing,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def test_deep_insert_makes_all_that_the_body_says(sta: Writing, town: Town, pool: Pool) -> None:
    stream = datastream(
        Observations=[
            {"phenomenonTime": "2026-07-01T12:00:00+02:00", "result": 21.5, "parameters": {"cloud": 3}},
            {"phenomenonTime": "2026-07-01T11:00:00Z/2026-07-01T12:00:00Z", "result": 22},
        ],
    )
    path = await sta.post("Things", thing(Datastreams=[stream]))
    found = await sta.json(
        f"{path}?$expand=Locations,HistoricalLocations,Datastreams($expand=Sensor,ObservedProperty,Observations)"
    )
    assert (found["name"], found["description"]) == ("Messstelle Süd", "am Tor")
    assert found["properties"] == {
        "owner": "Stadt",
        "municipality": "musterstadt",
        "kind": "other",
        "key": "messstelle-sued",
        "simulated": False,
    }
    assert [one["location"] for one in found["Locations"]] == [point()]
    assert len(found["HistoricalLocations"]) == 1
    [made] = found["Datastreams"]
    assert (made["name"], made["unitOfMeasurement"]) == ("Lufttemperatur", CELSIUS)
    assert made["observationType"] == f"{OM}OM_Measurement"
    assert made["Sensor"]["metadata"] == "https://example.org/sht35.pdf"
    assert made["ObservedProperty"]["definition"] == "https://example.org/air-temperature"
    assert [
        (one["phenomenonTime"], one["result"], one.get("parameters")) for one in made["Observations"]
    ] == [
        ("2026-07-01T10:00:00Z", 21.5, {"cloud": 3}),
        ("2026-07-01T11:00:00Z/2026-07-01T12:00:00Z", 22, None),
    ]
    # The twin knows the place too, and the series has the unit of UCUM.
    assert await rows(pool, "SELECT lon, lat, district_id FROM twin_thing WHERE name = 'Messstelle Süd'") == [
        (7.46, 51.51, None)
    ]
    assert await rows(pool, "SELECT unit, result_type, channel FROM twin_series") == [("Cel", "number", "")]
    # A posted Datastream brings its Sensor along, and no other one.
    assert await sta.json("Sensors/$count") == 1


async def test_observation_gets_the_feature_of_the_things_place(sta: Writing) -> None:
    path = await sta.post("Things", thing())
    [stream] = (await sta.json(f"{path}/Datastreams"))["value"]
    made = await sta.post(f"Datastreams({stream['@iot.id']})/Observations", {"result": 1.5})
    feature = await sta.json(f"{made}/FeatureOfInterest")
    assert (feature["feature"], feature["encodingType"]) == (point(), "application/geo+json")
    assert (await sta.json(f"{path}/Datastreams?$expand=Observations"))["value"][0]["Observations"][0][
        "result"
    ] == 1.5


async def test_new_place_is_history(sta: Writing) -> None:
    path = await sta.post("Things", thing(Datastreams=[]))
    second = await sta.post(f"{path}/Locations", location(7.5, 51.5, "Neu"))
    assert [one["name"] for one in await sta.values(f"{path}/Locations")] == ["Neu"]
    history = await sta.values(f"{path}/HistoricalLocations?$expand=Locations&$orderby=time")
    assert [[one["name"] for one in entry["Locations"]] for entry in history] == [["Platz"], ["Neu"]]
    third = await sta.post("Locations", location(7.52, 51.52, "Dritter"))
    await sta.change("PATCH", path, {"Locations": [{"@iot.id": int(third[10:-1])}]})
    assert await sta.json(f"{path}/HistoricalLocations/$count") == 3
    # A HistoricalLocation that is not the newest does not move the thing; a newer one does.
    older = {"time": "2020-01-01T00:00:00Z", "Locations": [{"@iot.id": int(second[10:-1])}]}
    await sta.post(f"{path}/HistoricalLocations", older)
    assert [one["name"] for one in await sta.values(f"{path}/Locations")] == ["Dritter"]
    await sta.post(f"{path}/HistoricalLocations", older | {"time": "2099-01-01T00:00:00Z"})
    assert [one["name"] for one in await sta.values(f"{path}/Locations")] == ["Neu"]


async def test_multi_datastream_and_its_rows(sta: Writing, town: Town, pool: Pool) -> None:
    properties = town.world.properties
    body = {
        "name": "Wetter",
        "description": "zwei Werte",
        "multiObservationDataTypes": [f"{OM}OM_Measurement", f"{OM}OM_CategoryObservation"],
        "unitOfMeasurements": [CELSIUS, {"name": None, "symbol": None, "definition": None}],
        "ObservedProperties": [
            {"@iot.id": properties["air_temperature"].pk},
            {"@iot.id": properties["relative_humidity"].pk},
        ],
        "Sensor": sensor(),
    }
    path = await sta.post("Things", thing(Datastreams=[], MultiDatastreams=[body]))
    [multi] = await sta.values(f"{path}/MultiDatastreams")
    assert multi["unitOfMeasurements"] == body["unitOfMeasurements"]
    assert await sta.json(f"{path}/Datastreams/$count") == 0
    to = f"MultiDatastreams({multi['@iot.id']})/Observations"
    made = await sta.post(to, {"phenomenonTime": "2026-07-01T12:00:00Z", "result": [20.5, "trocken"]})
    assert (await sta.json(made))["result"] == [20.5, "trocken"]
    assert await rows(pool, "SELECT channel, unit FROM twin_series ORDER BY channel") == [
        (f"md{multi['@iot.id']}.0", "Cel"),
        (f"md{multi['@iot.id']}.1", "1"),
    ]
    assert "2 results" in await sta.no("POST", to, {"result": [1.0]})
    assert "result[1]: expected a text" in await sta.no("POST", to, {"result": [1.0, 2.0]})
    await sta.change("PATCH", made, {"result": [20.5, "feucht"]})
    assert (await sta.json(made))["result"] == [20.5, "feucht"]
    wrong = body | {"unitOfMeasurements": [CELSIUS], "Thing": {"@iot.id": town.world.thing.pk}}
    assert await sta.no("POST", "MultiDatastreams", wrong) == (
        "unitOfMeasurements: has 1 entries, and there are 2 ObservedProperties"
    )


RESULTS: list[tuple[str, Any, Any]] = [
    ("OM_Measurement", 21.5, None),
    ("OM_Measurement", "unavailable", "result: expected a number, as the observationType says, found a text"),
    ("OM_Measurement", True, "result: expected a number, as the observationType says, found true or false"),
    ("OM_CountObservation", 7, None),
    ("OM_CountObservation", 7.5, "result: expected a whole number, as the observationType says, found 7.5"),
    ("OM_TruthObservation", True, None),
    ("OM_TruthObservation", 1, "result: expected true or false, as the observationType says, found a number"),
    ("OM_CategoryObservation", "rot", None),
    ("OM_CategoryObservation", 4, "result: expected a text, as the observationType says, found a number"),
    ("OM_Observation", {"a": [1, None]}, None),
    ("OM_Observation", [1, 2], None),
    ("OM_Observation", 2.5, None),
    ("OM_Observation", "Text", None),
    ("OM_Observation", False, None),
]


async def test_results_are_what_the_observation_type_says(sta: Writing, town: Town) -> None:
    paths: dict[str, str] = {}
    for kind, result, refused in RESULTS:
        if kind not in paths:
            body = datastream(observationType=OM + kind, Thing={"@iot.id": town.world.thing.pk})
            paths[kind] = await sta.post("Datastreams", body)
        path = paths[kind]
        link = {"Datastream": {"@iot.id": int(path[12:-1])}}
        # The short way, and the long one.
        for to, more in (
            (f"{path}/Observations", {}),
            ("Observations", link),
            ("Observations", link | {"parameters": {}}),
        ):
            if refused:
                assert await sta.no("POST", to, {"result": result} | more) == refused
            else:
                made = await sta.post(to, {"result": result} | more)
                assert (await sta.json(made))["result"] == result


async def test_numbers_may_be_written_as_texts(sta: Writing, town: Town) -> None:
    """Home Assistant knows every state as a text, and its component for SensorThings posts it as such."""
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    link = {"Datastream": {"@iot.id": int(path[12:-1])}}
    for minute, (text, number) in enumerate((("21.5", 21.5), ("-3", -3), ("1e2", 100), ("+0.50", 0.5))):
        body = {"result": text, "phenomenonTime": f"2026-07-01T12:{minute:02}:00.123456+00:00"} | link
        assert (await sta.json(await sta.post("Observations", body)))["result"] == number
    for text in ("", "21,5", "0x10", "nan", "inf", "1_000", "1 ", "٣", "1e400"):
        assert (await sta.no("POST", "Observations", {"result": text} | link)).startswith("result: ")


async def test_same_time_again(sta: Writing, town: Town, pool: Pool) -> None:
    """The same result is the same observation; another one is a correction, and nothing is lost."""
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    body = {"phenomenonTime": "2026-07-01T12:00:00Z", "result": 20.0, "parameters": {"a": 1}}
    first = await sta.post(f"{path}/Observations", body)
    assert await sta.post(f"{path}/Observations", body) == first
    assert await sta.post(f"{path}/Observations", body | {"parameters": {"a": 1}}) == first
    assert await rows(pool, "SELECT count(*) FROM twin_revision") == [(0,)]
    assert (
        await sta.post(
            f"{path}/Observations", {"phenomenonTime": "2026-07-01T14:00:00+02:00", "result": 21.0}
        )
        == first
    )
    assert (await sta.json(first))["result"] == 21
    assert (await sta.json(first))["parameters"] == {"a": 1}
    assert await rows(pool, "SELECT result, reason FROM twin_revision") == [
        (20.0, "SensorThings: another result for the same time")
    ]
    assert await sta.json(f"{path}/Observations/$count") == 1


async def test_quality_flags_appear_as_for_any_other_source(sta: Writing, town: Town, pool: Pool) -> None:
    temperature = {"@iot.id": town.world.properties["air_temperature"].pk}
    body = datastream(ObservedProperty=temperature, Thing={"@iot.id": town.world.thing.pk})
    path = await sta.post("Datastreams", body)
    made = await sta.post(f"{path}/Observations", {"phenomenonTime": "2026-07-01T12:00:00Z", "result": 99.0})
    assert (await sta.json(made))["resultQuality"] == {"flags": ["range"], "plausible": False}
    assert await rows(pool, "SELECT check_name, n, example FROM intake_qualityfinding") == [
        ("range", 1, 99.0)
    ]
    quality = {
        "phenomenonTime": "2026-07-01T12:01:00Z",
        "result": 20.0,
        "resultQuality": {"nameOfMeasure": "ok"},
    }
    made = await sta.post(f"{path}/Observations", quality)
    assert (await sta.json(made))["resultQuality"] == {"nameOfMeasure": "ok"}


async def test_two_datastreams_of_one_property(sta: Writing, town: Town, pool: Pool) -> None:
    body = datastream(
        ObservedProperty={"@iot.id": town.world.properties["air_temperature"].pk},
        Thing={"@iot.id": town.world.thing.pk},
    )
    assert await sta.post("Datastreams", body) != await sta.post("Datastreams", body)
    assert await rows(pool, "SELECT channel FROM twin_series ORDER BY id") == [("",), ("2",)]


async def test_feature_of_interest_inline_and_linked(sta: Writing, town: Town) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    feature = {
        "name": "See",
        "description": "",
        "encodingType": "application/geo+json",
        "feature": point(7.48, 51.49),
    }
    made = await sta.post(f"{path}/Observations", {"result": 1.0, "FeatureOfInterest": feature})
    found = await sta.json(f"{made}/FeatureOfInterest")
    assert (found["name"], found["feature"]) == ("See", point(7.48, 51.49))
    link = {"@iot.id": found["@iot.id"]}
    other = await sta.post(
        f"{path}/Observations",
        {"phenomenonTime": "2026-01-01T00:00:00Z", "result": 2.0, "FeatureOfInterest": link},
    )
    assert (await sta.json(f"{other}/FeatureOfInterest"))["name"] == "See"
    assert await sta.json(f"FeaturesOfInterest({found['@iot.id']})/Observations/$count") == 2
    assert await sta.no(
        "POST", f"{path}/Observations", {"result": 1.0, "FeatureOfInterest": {"@iot.id": 999}}
    ) == ("FeatureOfInterest: there is no FeaturesOfInterest(999)")


async def test_prefer_decides_about_the_body(sta: Writing) -> None:
    answer = await sta.send("POST", "Locations", location())
    assert (answer.status_code, answer.content) == (201, b"")
    answer = await sta.send("POST", "Locations", location(), headers={"prefer": "return=representation"})
    assert answer.status_code == 201
    assert answer.json()["location"] == point()
    assert answer.headers["location"] == answer.json()["@iot.selfLink"]
    assert answer.headers["location"].startswith(f"{BASE}/Locations(")


BOW_TIE = [[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]


def placed(kind: str, coordinates: Any) -> dict[str, Any]:
    return location() | {"location": {"type": kind, "coordinates": coordinates}}


BAD: list[tuple[str, Any, str]] = [
    ("Things", {"description": ""}, "name: is missing; every Thing has it"),
    ("Things", {"name": "a", "description": "", "nane": 1}, "nane: a Thing has no such property"),
    ("Things", {"name": 7, "description": ""}, "name: expected a text, found a number"),
    ("Things", {"name": "a\0b", "description": ""}, "name: the text contains a zero character"),
    ("Things", {"name": "a", "description": "", "properties": []}, "properties: expected an object, found a list"),
    ("Things", [], "expected a Thing as a JSON object, found a list"),
    ("Locations", placed("Point", [200, 5]), "location.coordinates[0]: the longitude 200"),
    ("Locations", placed("Point", [51, 95]), "location.coordinates[1]: the latitude 95"),
    ("Locations", placed("Polygon", [BOW_TIE]), "location: the geometry is not valid: Self-intersection"),
    ("Locations", location() | {"location": {"type": "Circle"}}, "location.type: expected one of Point"),
    ("Locations", location() | {"location": "POINT(1 2)"}, "location: expected GeoJSON, found a text"),
    ("Things", {"name": "a", "description": "", "Locations": [{"name": "x"}]}, "Locations[0].description: is missing"),
    ("Things", thing(Datastreams=[datastream(unitOfMeasurement={"name": "x"})]),
     "Datastreams[0].unitOfMeasurement.symbol: is missing"),
    ("Things", thing(Datastreams=[datastream(Thing=thing())]), "Datastreams[0].Thing: is cyclic"),
    ("Things", thing(Datastreams=[{"@iot.id": "x"}]), "Datastreams[0].@iot.id: 'x' is no id of a Datastream"),
    ("Datastreams", datastream(), "Thing: is missing; every Datastream has it"),
    ("Datastreams", datastream(Thing={"@iot.id": 999}), "Thing: there is no Things(999)"),
    ("Observations", {"result": 1}, "Datastream: an Observation belongs to a Datastream or a MultiDatastream"),
    ("Observations", {"result": 1, "Datastream": {"@iot.id": 99}}, "Datastream: there is no Datastreams(99)"),
    ("Things", {"name": "a", "description": "", "properties": {"municipality": "atlantis"}},
     "properties.municipality: there is no municipality 'atlantis'"),
]  # fmt: skip


async def test_wrong_bodies_are_told_where(sta: Writing, pool: Pool) -> None:
    for path, body, message in BAD:
        assert (await sta.no("POST", path, body)).startswith(message)
    assert await rows(pool, "SELECT count(*) FROM twin_thing") == [(1,)]
    assert await rows(pool, "SELECT count(*) FROM sensorthings_location") == [(1,)]


TIMES: list[tuple[Any, str]] = [
    ("2026-07-01T12:00:00", "phenomenonTime: 2026-07-01T12:00:00 has no time zone; append Z"),
    ("gestern", "phenomenonTime: 'gestern' is no time"),
    ("2026-13-01T00:00:00Z", "phenomenonTime: '2026-13-01T00:00:00Z' is no time"),
    ("1066-10-14T00:00:00Z", "phenomenonTime: 1066-10-14T00:00:00Z is out of range"),
    ("2026-07-01T12:00:00Z/2026-07-01T11:00:00Z", "phenomenonTime: the interval"),
    (12, "phenomenonTime: expected a time such as"),
]


async def test_wrong_times_are_told(sta: Writing, town: Town) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    for text, message in TIMES:
        body = {"phenomenonTime": text, "result": 1}
        assert (await sta.no("POST", f"{path}/Observations", body)).startswith(message)
        assert (await sta.no("POST", f"{path}/Observations", body | {"parameters": {}})).startswith(message)


async def test_nothing_is_left_of_a_deep_insert_that_fails_at_its_end(sta: Writing, pool: Pool) -> None:
    body = thing(Datastreams=[datastream(), datastream(Observations=[{"result": "nein"}])])
    assert await sta.no("POST", "Things", body) == (
        "Datastreams[1].Observations[0].result: expected a number, as the observationType says, found a text"
    )
    for table in ("sensorthings_datastream", "twin_series", "twin_observation", "cities_auditentry"):
        assert await rows(pool, f"SELECT count(*) FROM {table}") == [(0,)]


async def test_staplus_and_tasking_follow_from_the_model(sta: Writing, town: Town) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    party = await sta.post("Parties", {"role": "individual", "displayName": "Kim", "description": ""})
    licence = await sta.post(
        "Licenses", {"name": "CC0", "description": "", "definition": "https://example.org/cc0"}
    )
    links = {"Party": {"@iot.id": int(party[8:-1])}, "License": {"@iot.id": int(licence[9:-1])}}
    await sta.change("PATCH", path, links)
    assert (await sta.json(f"{path}/Party"))["displayName"] == "Kim"
    one = await sta.post(f"{path}/Observations", {"phenomenonTime": "2026-01-01T00:00:00Z", "result": 1.0})
    two = await sta.post(f"{path}/Observations", {"phenomenonTime": "2026-01-02T00:00:00Z", "result": 2.0})
    ids = [{"@iot.id": made.split("'")[1]} for made in (one, two)]
    campaign = {"name": "Sommer", "description": "", "termsOfUse": "frei", "creationTime": "2026-01-01T00:00:00Z",
                "Datastreams": [{"@iot.id": int(path[12:-1])}]}  # fmt: skip
    group = {"name": "Gruppe", "description": "", "creationTime": "2026-01-01T00:00:00Z", "Observations": ids,
             "Campaigns": [campaign]}  # fmt: skip
    made = await sta.post("ObservationGroups", group)
    assert await sta.json(f"{made}/Observations/$count") == 2
    assert [one["name"] for one in await sta.values(f"{made}/Campaigns")] == ["Sommer"]
    relation = await sta.post("Relations", {"role": "isDerivedFrom", "Subject": ids[0], "Object": ids[1]})
    assert (await sta.json(f"{relation}/Object"))["result"] == 2
    capability = {
        "name": "Schalten",
        "description": "",
        "taskingParameters": {"type": "DataRecord", "field": [{"name": "on", "type": "Boolean"}]},
        "Thing": {"@iot.id": town.world.thing.pk},
        "Actuator": {"name": "Relais", "description": "", "encodingType": "application/json", "metadata": {}},
    }
    made = await sta.post("TaskingCapabilities", capability)
    task = await sta.post(f"{made}/Tasks", {"taskingParameters": {"on": True}})
    assert (await sta.json(task))["taskingParameters"] == {"on": True}
    await sta.send("DELETE", made)
    assert (await sta.get(task)).status_code == 404


async def test_many_at_once(sta: Writing, town: Town, pool: Pool) -> None:
    """Transactions leave connections to the recorder, whatever the size of the pool."""
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    minutes = [f"2026-07-01T12:{minute:02}:00Z" for minute in range(40)]
    whole = [{"phenomenonTime": text, "result": 1.0, "parameters": {"a": 1}} for text in minutes]
    short = [{"phenomenonTime": text.replace("T12", "T13"), "result": 1.0} for text in minutes]
    answers = await asyncio.gather(
        *(sta.send("POST", f"{path}/Observations", one) for one in whole + short),
        *(sta.send("POST", "Things", thing(name=f"T {n}")) for n in range(10)),
    )
    assert {one.status_code for one in answers} == {201}
    assert await rows(pool, "SELECT max(n) FROM twin_state") == [(80,)]
