"""Who may write what: without a token, as operator, steward, maker and staff, in the own city and in the other."""

from __future__ import annotations

from typing import Any

import pytest

from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.write.conftest import Town, Writing, datastream, location, rows, thing

pytestmark = pytest.mark.django_db(transaction=True)


async def status(sta: Writing, method: str, path: str, body: Any = None) -> int:
    return (await sta.send(method, path, body)).status_code


async def test_table_of_rights(sta: Writing, town: Town) -> None:
    """Role × what is written → answer."""
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    key = {"@iot.id": town.world.thing.pk}
    reading = {"phenomenonTime": "2026-07-01T12:00:00Z", "result": 1.0}
    new_property = {"name": "P", "definition": "https://example.org/p", "description": ""}
    expected: dict[str, tuple[str, str, Any, tuple[int, int, int, int, int]]] = {
        #                                                            nobody operator steward maker staff
        "thing": ("POST", "Things", {"name": "n", "description": ""}, (401, 201, 201, 201, 403)),
        "foreign datastream": ("POST", "Datastreams", datastream(Thing=key), (401, 201, 201, 403, 403)),
        "foreign observation": ("POST", f"{path}/Observations", reading, (401, 201, 403, 403, 403)),
        "foreign correction": ("PATCH", f"Observations('{path[12:-1]}.1782907200000000')", {"result": 2.0},
                               (401, 200, 403, 403, 403)),
        "foreign thing": ("PATCH", f"Things({town.world.thing.pk})", {"description": "x"}, (401, 200, 200, 403, 403)),
        "foreign place": ("POST", f"Things({town.world.thing.pk})/Locations", location(), (401, 201, 201, 403, 403)),
        "property": ("POST", "ObservedProperties", new_property, (401, 201, 201, 403, 403)),
        "licence": ("POST", "Licenses", {"name": "L", "definition": "https://x.example"}, (401, 201, 201, 403, 403)),
        "array": ("POST", "CreateObservations",
                  [{"Datastream": {"@iot.id": int(path[12:-1])}, "components": ["result"], "dataArray": [[1]]}],
                  (401, 201, 403, 403, 403)),
    }  # fmt: skip
    callers = ("", town.operator_token, town.steward_token, town.maker_token, town.reader_token)
    for name, (method, to, body, answers) in expected.items():
        found = [await status(sta.by(token), method, to, body) for token in callers]
        assert found == list(answers), name
    for token, answer in zip(callers[2:], (403, 403, 403), strict=True):
        # The other city's endpoint is not theirs.
        other = sta.by(token, "/sensorthings/nebenstadt/v1.1")
        assert await status(other, "POST", "Things", {"name": "n", "description": ""}) == answer
    assert await status(sta.by("qt_0000000000_" + "x" * 43), "POST", "Things", {}) == 401


async def test_what_is_shared_is_found_and_left_as_it_is(sta: Writing, town: Town) -> None:
    """A program that keeps two services alike PATCHes each ObservedProperty that it finds."""
    steward = sta.by(town.steward_token)
    known = town.world.properties["air_temperature"]
    path = f"ObservedProperties({known.pk})"
    same = {name: value for name, value in (await steward.json(path)).items() if not name.startswith("@")}
    posted = {name: same[name] for name in ("name", "definition", "description")}
    assert await status(steward, "PATCH", path, posted) == 200
    assert await status(steward, "PATCH", path, posted | {"name": "Anders"}) == 403
    assert await status(steward, "PUT", path, posted) == 403
    assert await status(sta.by(""), "PATCH", path, posted) == 401


async def test_maker_has_his_own_things(sta: Writing, town: Town, pool: Pool) -> None:
    maker = sta.by(town.maker_token)
    known = town.world.properties["air_temperature"]
    stream = datastream(ObservedProperty={"name": "T", "definition": known.iri, "description": ""})
    path = await maker.post("Things", thing(Datastreams=[stream]))
    assert await rows(
        pool, "SELECT kind, owner_person_id, public FROM twin_thing ORDER BY id DESC LIMIT 1"
    ) == [("citizen_sensor", town.maker.pk, True)]
    [made] = await maker.values(f"{path}/Datastreams?$expand=ObservedProperty")
    assert made["ObservedProperty"]["@iot.id"] == known.pk
    to = f"Datastreams({made['@iot.id']})"
    await maker.post(f"{to}/Observations", {"result": 20.5})
    await maker.change("PATCH", path, {"name": "Meins"})
    assert await status(sta.by(town.steward_token), "POST", f"{to}/Observations", {"result": 1.0}) == 403
    unknown = datastream(Thing={"@iot.id": int(path[7:-1])})
    assert (await maker.no("POST", "Datastreams", unknown)).startswith(
        "ObservedProperty.definition: is not known here"
    )
    far = location(13.4, 52.5, "Berlin")
    assert "is not near Musterstadt" in await maker.no("POST", f"{path}/Locations", far)
    assert await status(maker, "DELETE", f"Things({town.world.thing.pk})") == 403
    answer = await maker.send("DELETE", path)
    assert answer.status_code == 200


async def test_what_is_hidden_does_not_exist(sta: Writing, town: Town) -> None:
    from quartier.twin.models import Thing

    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    await Thing.objects.filter(pk=town.world.thing.pk).aupdate(public=False)
    maker = sta.by(town.maker_token)
    assert await maker.no("POST", f"{path}/Observations", {"result": 1.0}, 404) == f"there is no {path}"
    assert await maker.no("PATCH", f"Things({town.world.thing.pk})", {"name": "x"}, 404) == (
        f"there is no Things({town.world.thing.pk})"
    )
    link = {"name": "n", "description": "", "Datastreams": [{"@iot.id": int(path[12:-1])}]}
    assert await maker.no("POST", "Things", link) == f"Datastreams[0]: there is no {path}"
    array = [{"Datastream": {"@iot.id": int(path[12:-1])}, "components": ["result"], "dataArray": [[1]]}]
    assert (await maker.send("POST", "CreateObservations", array)).json() == ["error"]


async def test_municipality_comes_from_somewhere(sta: Writing, town: Town, pool: Pool) -> None:
    from quartier.cities import tokens
    from quartier.cities.models import Person
    from quartier.cities.rules import SCOPES

    root = await Person.objects.acreate(email="root@example.org", is_superuser=True)
    from asgiref.sync import sync_to_async

    text = (await sync_to_async(tokens.make)(root, name="t", scopes=list(SCOPES)))[1]
    everywhere = sta.by(text)
    body = {"name": "Wo", "description": ""}
    assert (await everywhere.no("POST", "Things", body)).startswith(
        "properties.municipality: is missing: say"
    )
    await everywhere.post("Things", body | {"properties": {"municipality": "nebenstadt"}})
    answer = await sta.by(text, "/sensorthings/musterstadt/v1.1").send("POST", "Things", body)
    assert answer.headers["location"].startswith("http://test/sensorthings/musterstadt/v1.1/Things(")
    assert await rows(
        pool,
        "SELECT m.slug FROM twin_thing t JOIN cities_municipality m ON m.id = t.municipality_id WHERE t.name = 'Wo'"
        " ORDER BY t.id",
    ) == [("nebenstadt",), ("musterstadt",)]
    contradiction = body | {"properties": {"municipality": "nebenstadt"}}
    other = sta.by(text, "/sensorthings/musterstadt/v1.1")
    assert (await other.no("POST", "Things", contradiction)).startswith(
        "properties.municipality: is another one"
    )


async def test_too_many_requests_are_told_when_to_come_back(
    sta: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.limits import RateLimit

    monkeypatch.setattr(api, "_limit", RateLimit(3))
    answers = [await sta.send("POST", "Locations", location()) for _ in range(4)]
    assert [one.status_code for one in answers] == [201, 201, 201, 429]
    assert int(answers[3].headers["retry-after"]) > 0
    batch = {"requests": [{"id": str(n), "method": "get", "url": "Things"} for n in range(200)]}
    monkeypatch.setattr(api, "_limit", RateLimit(5))
    assert (await sta.send("POST", "$batch", batch)).status_code == 429
