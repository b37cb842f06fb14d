"""Any well-formed query over what there is: an answer or a reason, and never a statement that PostgreSQL refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quartier.interfaces.sensorthings.facts import Entity, Kind
from quartier.interfaces.sensorthings.model import ENTITIES, target
from quartier.interfaces.sensorthings.query.ast import (
    Call,
    Comparator,
    Compare,
    Expand,
    Expression,
    Literal,
    LiteralKind,
    Options,
    Order,
    Path,
    Select,
)
from quartier.interfaces.sensorthings.query.format import format_options
from tests.interfaces.sensorthings.conftest import City, Client
from tests.interfaces.sensorthings.query.strategies import combined, literals

pytestmark = pytest.mark.django_db


@st.composite
def paths(draw: st.DrawFn, entity: Entity) -> Path:
    """A property, perhaps behind some links, perhaps with something within."""
    steps: list[str | int] = []
    while entity.links and draw(st.integers(0, 3)) == 0:
        link = draw(st.sampled_from(entity.links))
        steps.append(link.name)
        entity = target(link)
    steps.append(draw(st.sampled_from([one.name for one in entity.properties])))
    steps += draw(st.lists(st.sampled_from(["name", "owner", "tags", 0, "type", "ü'"]), max_size=2))
    return Path(tuple(steps))


COMPARATORS: st.SearchStrategy[Comparator] = st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"])
# A constant that a property can be compared with, by the kind of the property.
FITTING: dict[Kind, list[LiteralKind]] = {
    "id": ["integer"],
    "text": ["text"],
    "number": ["integer", "decimal"],
    "boolean": ["boolean"],
    "instant": ["instant", "date"],
    "period": ["instant", "interval", "date"],
    "json": ["text", "integer", "boolean", "null"],
    "result": ["integer", "decimal", "text", "boolean", "null"],
    "geometry": ["geometry"],
}


def of_kind(kind: LiteralKind) -> st.SearchStrategy[Literal]:
    """Constants of one kind."""
    return literals.filter(lambda one: one.kind == kind)


CONSTANTS = {kind: of_kind(kind) for kind in {kind for kinds in FITTING.values() for kind in kinds}}


@st.composite
def simple(draw: st.DrawFn, entity: Entity) -> Expression:
    """A comparison of a property, mostly with something of its kind."""
    path = draw(paths(entity))
    found = entity
    for step in path.steps:
        link = found.find_link(step)
        if link is None:
            break
        found = target(link)
    kind = next(one.kind for one in found.properties if one.name in path.steps)
    constant = draw(CONSTANTS[draw(st.sampled_from(FITTING[kind]))])
    if kind == "geometry":
        name = draw(st.sampled_from(["st_within", "st_intersects", "geo.intersects", "st_disjoint"]))
        return Call(name, (path, constant))
    if kind == "text" and draw(st.booleans()):
        name = draw(st.sampled_from(["startswith", "endswith"]))
        return Call(name, (path, constant))
    return Compare(draw(COMPARATORS), path, constant)


def _conditions(entity: Entity) -> st.SearchStrategy[Expression]:
    links = [link.name for link in entity.links if link.many]
    anything = combined(literals | paths(entity), links, most=4)
    return combined(simple(entity), [], most=3) | simple(entity) | anything


CONDITIONS = {entity.name: _conditions(entity) for entity in ENTITIES}


@st.composite
def options(draw: st.DrawFn, entity: Entity, depth: int = 0) -> Options:
    """Options for a set of ``entity``."""
    chosen = draw(st.lists(st.sampled_from(entity.links), max_size=2, unique=True)) if depth < 2 else []
    selected = draw(st.lists(paths(entity), max_size=2, unique=True))
    orders = st.builds(Order, paths(entity) | CONDITIONS[entity.name], st.booleans())
    own = tuple(path for path in selected if entity.find_property(path.steps[0]))
    return Options(
        filter=draw(st.none() | CONDITIONS[entity.name]),
        orderby=tuple(draw(st.lists(orders, max_size=2))),
        top=draw(st.integers(0, 5)),
        count=draw(st.none() | st.booleans()),
        select=Select(own) if own else None,
        expand=tuple(Expand(link.name, draw(options(target(link), depth + 1))) for link in chosen),
    )


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
@given(st.data())
async def test_every_query_is_answered_or_refused(client: Client, city: City, data: Any) -> None:
    entity = data.draw(st.sampled_from(ENTITIES), label="entity")
    query = format_options(data.draw(options(entity), label="options"))
    answer = await client.get(f"{entity.set}?{query}")
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        # This is what is said where PostgreSQL calls a statement wrong.
        assert "cannot be answered" not in answer.json()["message"], (answer.text, query)
