"""Whatever the description allows to be sent is answered as it says, and never by an error of the server."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quartier.interfaces.sensorthings.openapi import document
from tests.interfaces.sensorthings.write.conftest import BASE, Town, Writing, datastream

pytestmark = pytest.mark.django_db(transaction=True)
DOCUMENT = document(BASE)
_FOUND: list[Any] = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
OPERATIONS = [one.ok() for one in _FOUND if one.ok().method != "get"]
REFUSAL = jsonschema_rs.Draft202012Validator(
    {"$ref": "#/components/schemas/Refusal", "components": DOCUMENT["components"]}
)
CHECKED_NOT = (
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
)


@settings(max_examples=100, deadline=None, suppress_health_check=CHECKED_NOT)
@given(st.data())
async def test_whatever_is_sent_is_answered_as_described(sta: Writing, town: Town, data: Any) -> None:
    await _is_answered_as_described(sta, town, data)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=CHECKED_NOT)
@given(st.data())
async def test_very_much_that_is_sent_is_answered(sta: Writing, town: Town, data: Any) -> None:
    await _is_answered_as_described(sta, town, data)


async def _is_answered_as_described(sta: Writing, town: Town, data: Any) -> None:
    operation = data.draw(st.sampled_from(OPERATIONS), label="operation")
    case = data.draw(operation.as_strategy(), label="case")
    path = case.formatted_path.lstrip("/").replace("%27", "'")
    entities = path.partition("(")[0]
    if (
        "(" in path
        and data.draw(st.booleans(), label="there")
        and (ids := await sta.ids(f"{entities}?$top=1"))
    ):
        key = f"'{ids[0]}'" if isinstance(ids[0], str) else ids[0]
        path = f"{entities}({key}){path.partition(')')[2]}"
    body = case.body if isinstance(case.body, dict | list) else None
    kind = case.media_type or "application/json"
    # Some of what is linked to should be there.
    text = json.dumps(body).replace('"@iot.id": 1}', f'"@iot.id": {town.world.thing.pk}}}')
    named: dict[str, Any] = {} if body is None else {"content": text.encode("utf-8", "surrogatepass")}
    answer = await sta.send(
        operation.method.upper(), path, params=case.query, headers={"content-type": kind}, **named
    )
    assert str(answer.status_code) in operation.definition.raw["responses"], answer.text
    if answer.status_code >= 400:
        REFUSAL.validate(answer.json())


async def test_an_example_of_the_description_is_taken(sta: Writing, town: Town) -> None:
    """What the tests of creating send fits the description."""
    schema = {"$ref": "#/components/schemas/DatastreamToWrite", "components": DOCUMENT["components"]}
    body = datastream(Thing={"@iot.id": town.world.thing.pk})
    jsonschema_rs.Draft202012Validator(schema).validate(body)
    await sta.post("Datastreams", body)
