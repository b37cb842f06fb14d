"""PATCH, PUT, JSON Patch and links."""

from __future__ import annotations

from typing import Any

import pytest

from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.write.conftest import (
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
JSON_PATCH = {"content-type": "application/json-patch+json"}


async def test_patch_changes_what_it_names(sta: Writing, pool: Pool) -> None:
    path = await sta.post("Things", thing())
    before = await sta.json(path)
    await sta.change("PATCH", path, {"name": "Neu"})
    assert await sta.json(path) == before | {"name": "Neu"}
    # What was read can be sent back as it is.
    await sta.change("PATCH", path, await sta.json(path))
    await sta.change("PUT", path, await sta.json(path))
    assert await sta.json(path) == before | {"name": "Neu"}
    await sta.change("PATCH", path, {"properties": {"floor": 2, "kind": "tree"}})
    assert (await sta.json(path))["properties"] == {
        "floor": 2, "kind": "tree", "municipality": "musterstadt", "key": "messstelle-sued", "simulated": False,
    }  # fmt: skip
    assert await sta.no("PATCH", path, {"properties": {"municipality": "nebenstadt"}}) == (
        "properties.municipality: cannot be changed; it is 'musterstadt'"
    )
    assert await sta.no("PATCH", path, {"name": None}) == "name: cannot be null"
    assert (await sta.no("PATCH", path, {"Datastreams": [datastream()]})).startswith(
        "Datastreams[0]: link to a"
    )
    actions = await rows(
        pool, "SELECT action, target, detail->'changed' FROM cities_auditentry ORDER BY id LIMIT 2"
    )
    assert actions == [("sensorthings.create", path, None), ("sensorthings.change", path, ["name"])]


async def test_put_replaces(sta: Writing) -> None:
    path = await sta.post("Things", thing())
    assert await sta.no("PUT", path, {"name": "x"}) == "description: is missing; every Thing has it"
    await sta.change("PUT", path, {"name": "x", "description": "y"})
    found = await sta.json(f"{path}?$expand=Datastreams,Locations")
    assert (found["name"], found["description"], "owner" in found["properties"]) == ("x", "y", False)
    assert (len(found["Datastreams"]), len(found["Locations"])) == (1, 1)
    stream = f"Datastreams({found['Datastreams'][0]['@iot.id']})"
    body = {
        "name": "D",
        "description": "d",
        "observationType": f"{OM}OM_CountObservation",
        "unitOfMeasurement": CELSIUS,
    }
    await sta.change("PUT", stream, body)
    kept = await sta.json(stream)
    assert {name: kept[name] for name in body} == body
    assert await sta.no("POST", f"{stream}/Observations", {"result": 1.5}) == (
        "result: expected a whole number, as the observationType says, found 1.5"
    )


async def test_datastream_of_a_device_gets_words_of_its_own(sta: Writing, town: Town, pool: Pool) -> None:
    from quartier.twin.models import Series

    series = await Series.objects.acreate(
        municipality=town.world.municipality,
        thing=town.world.thing,
        observed_property=town.world.properties["air_temperature"],
        unit="Cel",
    )
    path = f"Datastreams({series.pk})"
    assert (await sta.json(path))["name"] == "Markt: Lufttemperatur"
    await sta.change("PATCH", path, {"name": "Am Markt", "properties": {"a": 1}})
    found = await sta.json(path)
    assert (found["name"], found["properties"], found["unitOfMeasurement"]["symbol"]) == (
        "Am Markt",
        {"a": 1},
        "°C",
    )
    made = await sta.post("Sensors", sensor())
    await sta.change("PATCH", path, {"Sensor": {"@iot.id": int(made[8:-1])}})
    assert (await sta.json(f"{path}/Sensor"))["name"] == "SHT35"


async def test_links_to_other_entities(sta: Writing, town: Town) -> None:
    path = await sta.post("Things", thing())
    other = await sta.post("Things", thing(name="Andere", Datastreams=[]))
    [stream] = await sta.values(f"{path}/Datastreams")
    await sta.change("PATCH", f"Datastreams({stream['@iot.id']})", {"Thing": {"@iot.id": int(other[7:-1])}})
    assert await sta.json(f"{path}/Datastreams/$count") == 0
    assert await sta.json(f"{other}/Datastreams/$count") == 1
    await sta.change("PATCH", path, {"Datastreams": [{"@iot.id": stream["@iot.id"]}]})
    assert await sta.json(f"{path}/Datastreams/$count") == 1
    assert (
        await sta.no("PATCH", path, {"Datastreams": [{"@iot.id": 99}]})
        == "Datastreams[0]: there is no Datastreams(99)"
    )
    made = await sta.post("Locations", location(7.5, 51.5, "Verlinkt"))
    answer = await sta.send("POST", f"{path}/Locations/$ref", {"@iot.id": int(made[10:-1])})
    assert answer.status_code == 204
    assert [one["name"] for one in await sta.values(f"{path}/Locations")] == ["Verlinkt"]


async def test_changed_place_moves_the_thing(sta: Writing, pool: Pool) -> None:
    path = await sta.post("Things", thing(Datastreams=[]))
    [place] = await sta.values(f"{path}/Locations")
    await sta.change("PATCH", f"Locations({place['@iot.id']})", {"location": point(7.55, 51.55)})
    assert await rows(pool, "SELECT lon, lat FROM twin_thing WHERE id = %s", int(path[7:-1])) == [
        (7.55, 51.55)
    ]
    assert [one["location"] for one in await sta.values(f"{path}/Locations")] == [point(7.55, 51.55)]


async def test_observation_is_corrected_and_not_moved(sta: Writing, town: Town, pool: Pool) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    made = await sta.post(
        f"{path}/Observations",
        {
            "phenomenonTime": "2026-07-01T12:00:00Z",
            "result": 20.0,
            "validTime": "2026-07-01T12:00:00Z/2026-07-02T12:00:00Z",
        },
    )
    await sta.change("PATCH", made, {"result": 21.0})
    await sta.change("PATCH", made, {"parameters": {"note": "geeicht"}})
    found = await sta.json(made)
    assert (found["result"], found["parameters"]) == (21, {"note": "geeicht"})
    assert found["validTime"] == "2026-07-01T12:00:00Z/2026-07-02T12:00:00Z"
    assert await rows(pool, "SELECT result FROM twin_revision ORDER BY revised_at") == [(20.0,), (21.0,)]
    await sta.change("PUT", made, {"phenomenonTime": "2026-07-01T12:00:00Z", "result": 22.0})
    found = await sta.json(made)
    assert (found["result"], found.get("validTime"), found.get("parameters")) == (22, None, None)
    assert (await sta.no("PATCH", made, {"phenomenonTime": "2026-07-01T13:00:00Z"})).startswith(
        "phenomenonTime: cannot be moved"
    )
    assert (await sta.no("PATCH", made, {"result": "x"})).startswith("result: expected a number")


async def test_json_patch(sta: Writing) -> None:
    path = await sta.post("Things", thing(properties={"list": [1, 2], "a": {"b": 1}}))
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/properties/a/b", "value": 1},
        {"op": "add", "path": "/properties/list/-", "value": 3},
        {"op": "move", "from": "/properties/a", "path": "/properties/c"},
        {"op": "replace", "path": "/name", "value": "Geflickt"},
    ]
    await sta.change("PATCH", path, operations, headers=JSON_PATCH)
    found = await sta.json(path)
    assert (found["name"], found["properties"]["list"], found["properties"]["c"]) == (
        "Geflickt",
        [1, 2, 3],
        {"b": 1},
    )
    copies = [{"op": "copy", "from": "/properties", "path": f"/properties/p{n}"} for n in range(60)]
    refused: list[tuple[Any, str]] = [
        ([{"op": "test", "path": "/name", "value": "x"}], "[0]: test failed: /name has another value"),
        ([{"op": "remove", "path": "/nichts"}], "[0]: cannot be carried out"),
        ([{"op": "fliegen", "path": "/name"}], "[0]: cannot be carried out"),
        ([{"op": "remove", "path": "/name"}], "name: cannot be null"),
        ({"name": "x"}, "expected a list of JSON Patch operations, found an object"),
        # Each copy doubles what is there.
        (copies, "[11]: makes the entity larger"),
        ([{"op": "test", "path": "/name", "value": 1}] * 300, "at most 200 operations at once"),
    ]  # fmt: skip
    for body, message in refused:
        assert (await sta.no("PATCH", path, body, headers=JSON_PATCH)).startswith(message)


async def test_what_cannot_be_written(sta: Writing, town: Town) -> None:
    refused: list[tuple[str, str, Any, int, str]] = [
        ("POST", "Things(1)", {}, 405, "POST to the set, without an id"),
        ("PATCH", "Things", {}, 405, "write an id behind it: Things(1)"),
        ("PATCH", "Things(999)", {}, 404, "there is no Things(999)"),
        ("PUT", f"Things({town.world.thing.pk})/name", {}, 405, "name is changed by PATCH"),
        ("POST", "Dinge", {}, 404, "there is no entity set 'Dinge'"),
        ("POST", f"Things({town.world.thing.pk})/Dinge", {}, 404, "Thing has no 'Dinge'"),
        ("POST", "", {}, 405, "nothing can be written here"),
        ("PATCH", f"Things({town.world.thing.pk})?$select=name", {}, 400, "PATCH: takes no query options"),
        ("DELETE", "Things", None, 400, "$filter: deleting from a whole set needs a $filter"),
    ]  # fmt: skip
    for method, path, body, status, message in refused:
        assert (await sta.no(method, path, body, status)).startswith(message), path
    answer = await sta.send("POST", "Things", content=b"{")
    assert (answer.status_code, answer.json()["message"][:23]) == (400, "the body is no JSON: un")
    answer = await sta.send("POST", "Things", content=b"")
    assert answer.json()["message"] == "the body is empty; JSON is expected"
    answer = await sta.send("POST", "Things", content=b"[" * 200_000)
    assert answer.status_code == 400
    answer = await sta.send("POST", "Things", content=b" " * (6 * 1024 * 1024 + 1))
    assert answer.status_code == 413
