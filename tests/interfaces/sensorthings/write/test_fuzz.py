"""Whatever is sent is refused with a reason or carried out, never answered by a server error."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quartier.interfaces.sensorthings.model import ENTITIES
from tests.interfaces.sensorthings.write.conftest import (
    CELSIUS,
    OM,
    Town,
    Writing,
    datastream,
    location,
    sensor,
    thing,
)
from tests.interfaces.sensorthings.write.test_values import BODIES, JSON

pytestmark = pytest.mark.django_db(transaction=True)

# Bodies that are nearly right find more than bodies that are wrong at first sight.
GOOD: list[Any] = [
    thing(),
    location(),
    sensor(),
    datastream(Thing={"@iot.id": 1}),
    {"result": 1.5, "phenomenonTime": "2026-07-01T12:00:00Z", "Datastream": {"@iot.id": 1}},
    {"time": "2026-07-01T12:00:00Z", "Thing": {"@iot.id": 1}, "Locations": [location()]},
    [{"Datastream": {"@iot.id": 1}, "components": ["phenomenonTime", "result"],
      "dataArray": [["2026-07-01T12:00:00Z", 1]]}],
    {"requests": [{"id": "1", "atomicityGroup": "a", "method": "post", "url": "Things", "body": thing()}]},
    {"name": "M", "description": "", "multiObservationDataTypes": [f"{OM}OM_Measurement"],
     "unitOfMeasurements": [CELSIUS], "ObservedProperties": [{"@iot.id": 1}], "Sensor": sensor(),
     "Thing": {"@iot.id": 1}},
    [{"op": "replace", "path": "/name", "value": "x"}],
]  # fmt: skip
FILTERS = ["result gt 3", "name eq 'x'", "id eq 7", "1 eq", "foo('"]
SETS = [one.set for one in ENTITIES]
LINKS = sorted({link.name for one in ENTITIES for link in one.links})


def real(value: Any, ids: dict[str, int]) -> Any:
    """A body whose links with the id 1 lead to what is there."""
    if isinstance(value, dict):
        return {
            name: {"@iot.id": ids[name]} if one == {"@iot.id": 1} and name in ids else real(one, ids)
            for name, one in value.items()
        }
    return [real(one, ids) for one in value] if isinstance(value, list) else value


@st.composite
def spoiled(draw: Any) -> Any:
    """A good body with one member somewhere replaced by anything."""
    value = draw(st.sampled_from(GOOD))
    return _spoil(draw, value)


def _spoil(draw: Any, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        name = draw(st.sampled_from(sorted(value)))
        changed = dict(value)
        if draw(st.booleans()) and not isinstance(value[name], dict | list):
            changed[name] = draw(JSON)
        else:
            changed[name] = _spoil(draw, value[name])
        return changed
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        n = draw(st.integers(0, len(value) - 1))
        return [*value[:n], _spoil(draw, value[n]), *value[n + 1 :]]
    return draw(JSON) if draw(st.booleans()) else value


@st.composite
def paths(draw: Any) -> str:
    path = draw(st.sampled_from(SETS))
    if draw(st.booleans()):
        keys = ["(1)", "(999)", "('1.1782907200000000')", "(-1)", "(99999999999999)", "('x')"]
        # What is there, for those that it fits.
        path += draw(st.sampled_from(["(@)", "(@)", "(@)", *keys]))
        if draw(st.booleans()):
            path += "/" + draw(st.sampled_from(LINKS))
    return str(path)


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(data=st.data())
async def test_whatever_is_sent_gets_an_answer(sta: Writing, town: Town, data: Any) -> None:
    ids = await _there(sta, town)
    method = data.draw(st.sampled_from(["POST", "POST", "POST", "PATCH", "PUT", "DELETE"]), label="method")
    path = data.draw(st.sampled_from(["CreateObservations", "$batch"]) | paths(), label="path")
    body = data.draw(st.sampled_from(GOOD) | spoiled() | BODIES, label="body")
    body, path = real(body, ids), path.replace("@", str(ids.get(path.partition("(")[0], 1)))
    headers = {}
    if method == "PATCH" and data.draw(st.booleans()):
        headers["content-type"] = "application/json-patch+json"
    if method == "DELETE":
        text = data.draw(st.sampled_from(FILTERS) | st.text(max_size=20))
        answer = await sta.send(method, f"{path}?$filter={quote(text)}")
    else:
        answer = await sta.send(method, path, body, headers=headers)
    if answer.status_code >= 400:
        found = answer.json()
        assert found["code"] == answer.status_code
        assert found["message"]


async def _there(sta: Writing, town: Town) -> dict[str, int]:
    """Numbers of entities by their sets and links; made anew if an example deleted them."""
    thing_id = town.world.thing.pk
    if (await sta.get(f"Things({thing_id})")).status_code == 404:
        thing_id = int((await sta.post("Things", thing()))[7:-1])
    found = await sta.values(f"Datastreams?$filter=Thing/id eq {thing_id}&$expand=Sensor&$top=1")
    if not found:
        await sta.post("Datastreams", datastream(Thing={"@iot.id": thing_id}))
        found = await sta.values(f"Datastreams?$filter=Thing/id eq {thing_id}&$expand=Sensor&$top=1")
    stream, sensor_id = found[0]["@iot.id"], found[0]["Sensor"]["@iot.id"]
    property_id = town.world.properties["air_temperature"].pk
    return {"Thing": thing_id, "Things": thing_id, "Datastream": stream, "Datastreams": stream, "Sensor": sensor_id,
            "Sensors": sensor_id, "ObservedProperty": property_id, "ObservedProperties": property_id}  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: b"--b\r\n" + text.encode("utf-8", "replace") + b"\r\n--b--")
)
async def test_any_bytes_are_answered(sta: Writing, content: bytes) -> None:
    for path, kind in (
        ("$batch", "multipart/mixed; boundary=b"),
        ("$batch", "application/json"),
        ("Things", "application/json"),
    ):
        answer = await sta.send("POST", path, content=content, headers={"content-type": kind})
        assert answer.status_code in (200, 201, 400, 413)
