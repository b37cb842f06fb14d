"""The description says what the interface does: every answer fits it."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quartier.interfaces.sensorthings.model import ENTITIES
from quartier.interfaces.sensorthings.openapi import document
from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db
BASE = "http://test/sensorthings/v1.1"
DOCUMENT = document(BASE)
_READ: list[Any] = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
_ALL = [found.ok() for found in _READ]
OPERATIONS = [operation for operation in _ALL if operation.method == "get"]


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.Draft202012Validator(schema | {"components": DOCUMENT["components"]})


def test_every_operation_can_be_read() -> None:
    assert len(OPERATIONS) == 1 + sum(6 + len(entity.links) for entity in ENTITIES)
    names = [
        operation["operationId"]
        for operations in DOCUMENT["paths"].values()
        for method, operation in operations.items()
        if method != "parameters"
    ]
    assert len(_ALL) == len(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)
async def test_lists_and_entities_fit_their_schemas(client: Client, city: City, entity: Any) -> None:
    content = DOCUMENT["paths"][f"/{entity.set}"]["get"]["responses"]["200"]["content"]
    expand = ",".join(link.name for link in entity.links)
    found = await client.json(f"{entity.set}?$count=true&$top=3&$expand={expand}")
    validator(content["application/json"]["schema"]).validate(found)
    features = await client.json(f"{entity.set}?$resultFormat=GeoJSON")
    validator(content["application/geo+json"]["schema"]).validate(features)
    known = DOCUMENT["components"]["schemas"][entity.name]["properties"]
    for one in (await client.json(f"{entity.set}?$top=3"))["value"]:
        assert set(one) <= set(known)
        key = f"'{one['@iot.id']}'" if entity.id_is_text else one["@iot.id"]
        alone = await client.json(f"{entity.set}({key})")
        assert set(alone) <= set(known)
        for name in alone:
            if not name.startswith("@iot") and "@iot" not in name:
                answer = await client.get(f"{entity.set}({key})/{name}")
                assert answer.json() == {name: alone[name]}


CHECKED_NOT = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)


@settings(max_examples=100, deadline=None, suppress_health_check=CHECKED_NOT)
@given(st.data())
async def test_whatever_is_asked_gets_an_answer_as_described(client: Client, city: City, data: Any) -> None:
    await _is_answered_as_described(client, data)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=CHECKED_NOT)
@given(st.data())
async def test_very_much_that_is_asked_gets_an_answer(client: Client, city: City, data: Any) -> None:
    await _is_answered_as_described(client, data)


async def _is_answered_as_described(client: Client, data: Any) -> None:
    operation = data.draw(st.sampled_from(OPERATIONS), label="operation")
    case = data.draw(operation.as_strategy(), label="case")
    path = case.formatted_path.lstrip("/")
    if case.path_parameters.get("id") is not None:
        path = path.replace("%27", "'")
    answer = await client.get(path, params=case.query)
    described = operation.definition.raw["responses"]
    assert str(answer.status_code) in described, answer.text
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.status_code == 200:
        content = described["200"]["content"]
        if kind in content and kind.endswith("json"):
            validator(content[kind]["schema"]).validate(answer.json())
    elif answer.status_code != 204:
        validator({"$ref": "#/components/schemas/Refusal"}).validate(answer.json())
