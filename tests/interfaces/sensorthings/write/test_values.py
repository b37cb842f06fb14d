"""What may be posted: values and bodies on their own, without a store, with whatever a stranger sends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.interfaces.sensorthings.model import BY_NAME, ENTITIES
from quartier.interfaces.sensorthings.write import body, values
from quartier.interfaces.sensorthings.write.change import patched
from quartier.interfaces.sensorthings.write.problems import BadField

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = sorted(
    {name for one in ENTITIES for name in [*one.by_name, *one.link_by_name]} | {"@iot.id", "authId", "x"}
)
BODIES = st.recursive(
    JSON,
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner | st.lists(inner, max_size=3), max_size=8),
    max_leaves=20,
)

# Source: RFC 3339 section 5.8 and ISO 8601 as 18-088 uses it.
INSTANTS = {
    "1985-04-12T23:20:50.52Z": datetime(1985, 4, 12, 23, 20, 50, 520_000, tzinfo=UTC),
    "1996-12-19T16:39:57-08:00": datetime(1996, 12, 20, 0, 39, 57, tzinfo=UTC),
    "1937-01-01T12:00:27.87+00:20": datetime(1937, 1, 1, 11, 40, 27, 870_000, tzinfo=UTC),
    "2010-12-23T10:20:00-0700": datetime(2010, 12, 23, 17, 20, tzinfo=UTC),
    "20101223T102000Z": datetime(2010, 12, 23, 10, 20, tzinfo=UTC),
}


@pytest.mark.parametrize("text", INSTANTS)
def test_instants(text: str) -> None:
    assert values.instant(text, "") == INSTANTS[text]
    assert values.instant(values.iso(INSTANTS[text]), "") == INSTANTS[text]


# Source: UCUM, and what SensorThings services in Germany send.
UNITS = [
    ({"name": "°C", "symbol": "°C", "definition": "http://www.qudt.org/qudt/owl/1.0.0/unit/#DegreeCelsius"}, "Cel"),
    ({"name": "x", "symbol": "", "definition": "ucum:Cel"}, "Cel"),
    ({"name": "x", "symbol": "ug", "definition": "http://www.opengis.net/def/uom/UCUM/0/ug/m3"}, "ug/m3"),
    ({"name": "Prozent", "symbol": "%", "definition": None}, "%"),
    ({"name": None, "symbol": None, "definition": None}, "1"),
    ({"name": "Fahrräder", "symbol": "Räder", "definition": "urn:x"}, "Räder"),
    (None, "1"),
]  # fmt: skip


@pytest.mark.parametrize(("posted", "ucum"), UNITS)
def test_units(posted: dict[str, Any] | None, ucum: str) -> None:
    assert values.ucum(posted) == ucum


def test_points_for_the_map() -> None:
    square = {"type": "Polygon", "coordinates": [[[7, 51], [8, 51], [8, 52], [7, 52], [7, 51]]]}
    assert values.point_of(square, "application/geo+json") == (7.5, 51.5, None)
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7, 51, 90]}, "properties": {}}
    assert values.point_of(feature, "application/vnd.geo+json") == (7, 51, 90)
    assert values.point_of("irgendwo", "text/plain") is None


def test_depth_and_size_are_bounded() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(BadField, match="nested deeper than 40 levels"):
        values.json(deep, "properties")
    with pytest.raises(BadField, match="at most 65536"):
        values.json("x" * 70_000, "properties")
    ring = [[n / 1000, n % 2] for n in range(60_000)]
    with pytest.raises(BadField, match="more than 50000 positions"):
        values.shaped({"type": "MultiPoint", "coordinates": ring}, "location")
    many = {"name": "a", "description": "", "Datastreams": [{"@iot.id": 1}] * 5000}
    with pytest.raises(BadField, match="at most 2000"):
        body.read(BY_NAME["Thing"], many)


def test_entities_may_be_nested_so_deep() -> None:
    """Cycles end before the limit of the depth does: every level is of another type."""
    relation: dict[str, Any] = {"role": "r", "Subject": {"result": 1, "Datastream": {"name": "x"}}}
    group = {"name": "g", "description": "", "Relations": [relation]}
    with pytest.raises(BadField) as caught:
        body.read(BY_NAME["ObservationGroup"], group)
    assert caught.value.at == "Relations[0].Subject.Datastream.description"


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(ENTITIES), BODIES, st.sampled_from(["create", "merge", "replace"]))
def test_any_body_is_read_or_refused(entity: Any, posted: Any, purpose: Any) -> None:
    try:
        draft = body.read(entity, posted, purpose)
    except BadField:
        return
    assert draft.entity is entity
    assert set(draft.values) <= {one.name for one in entity.properties if one.writable}


@settings(max_examples=300, deadline=None)
@given(
    JSON
    | st.text(max_size=40)
    | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?", fullmatch=True)
)
def test_any_time_is_read_or_refused(value: Any) -> None:
    try:
        start, end = values.period(value, "t")
    except BadField:
        return
    assert start.tzinfo is UTC
    assert end is None or start <= end


OPERATION = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"])},
    optional={
        "path": st.sampled_from(["", "/", "/name", "/properties/a", "/properties/a/-", "/properties/a/9", "/~"]) | JSON,
        "from": st.sampled_from(["", "/properties", "/name", "/properties/a"]) | JSON,
        "value": JSON,
    },
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(OPERATION, max_size=6) | JSON)
def test_any_patch_is_applied_or_refused(operations: Any) -> None:
    current = {"name": "a", "properties": {"a": [1, 2]}}
    try:
        changed = patched(current, operations)
    except BadField:
        return
    assert isinstance(changed, dict)
    assert current == {"name": "a", "properties": {"a": [1, 2]}}
