"""Parameters of tasks, described as a DataRecord of SWE Common (08-094r1; in JSON as 17-079r1 uses it)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from quartier.interfaces.sensorthings.write.problems import BadField, below

_KINDS: Final = ("Boolean", "Count", "Quantity", "Text", "Category", "Time")
MOST_FIELDS: Final = 100
LONGEST_TEXT: Final = 2000


def check_description(description: Any, at: str) -> None:
    """Refuse a capability whose ``taskingParameters`` describe nothing that a task could be checked against.

    Raises BadField.
    """
    if not isinstance(description, dict) or description.get("type") != "DataRecord":
        raise BadField(at, 'expected {"type": "DataRecord", "field": […]} (17-079r1, SWE Common)')
    fields = description.get("field")
    at = below(at, "field")
    if not isinstance(fields, list) or len(fields) > MOST_FIELDS:
        raise BadField(at, f"expected a list of at most {MOST_FIELDS} fields")
    names = set()
    for n, one in enumerate(fields):
        place = below(at, n)
        if not isinstance(one, dict):
            raise BadField(place, "expected an object")
        name = one.get("name")
        if not isinstance(name, str) or not name or len(name) > 100:
            raise BadField(below(place, "name"), "expected a text of 1 to 100 characters")
        if name in names:
            raise BadField(below(place, "name"), f"{name!r} is there twice")
        names.add(name)
        if one.get("type") not in _KINDS:
            raise BadField(below(place, "type"), f"expected one of {', '.join(_KINDS)}")
        _check_constraint(one, below(place, "constraint"))


def _check_constraint(one: Mapping[str, Any], at: str) -> None:
    constraint = one.get("constraint")
    if constraint is None:
        return
    if not isinstance(constraint, dict):
        raise BadField(at, "expected an object")
    numbers = one["type"] in ("Count", "Quantity")
    values = constraint.get("value", [])
    if not isinstance(values, list) or len(values) > 1000 or not all(_fits(one, value) for value in values):
        raise BadField(below(at, "value"), "expected a list of values of the field's type")
    intervals = constraint.get("interval", [])
    if not isinstance(intervals, list) or (intervals and not numbers):
        raise BadField(below(at, "interval"), "expected a list of pairs of numbers, for a Count or Quantity")
    for pair in intervals:
        if not (isinstance(pair, list) and len(pair) == 2 and all(_is_number(end) for end in pair)):
            raise BadField(below(at, "interval"), "expected pairs of numbers, such as [[0, 100]]")


def check(description: Mapping[str, Any], given: Mapping[str, Any], at: str) -> None:
    """Refuse parameters of a task that its capability does not take. Raises BadField."""
    fields = {one["name"]: one for one in description.get("field", ())}
    for name in given:
        if name not in fields:
            raise BadField(below(at, name), f"there is no such parameter; there are {', '.join(fields)}")
    for name, one in fields.items():
        place = below(at, name)
        if name not in given:
            if not one.get("optional", False):
                raise BadField(place, "is missing; the capability asks for it")
            continue
        value = given[name]
        if not _fits(one, value):
            raise BadField(place, f"expected a {one['type']}")
        _check_allowed(one, value, place)


def _check_allowed(one: Mapping[str, Any], value: Any, at: str) -> None:
    constraint = one.get("constraint") or {}
    values, intervals = constraint.get("value", []), constraint.get("interval", [])
    if not values and not intervals:
        return
    if value in values or any(low <= value <= high for low, high in intervals):
        return
    allowed = [str(each) for each in values] + [f"{low} to {high}" for low, high in intervals]
    raise BadField(at, f"{str(value)[:40]} is not allowed; {', '.join(allowed)[:200]} is")


def _fits(one: Mapping[str, Any], value: Any) -> bool:
    match one["type"]:
        case "Boolean":
            return isinstance(value, bool)
        case "Count":
            return isinstance(value, int) and not isinstance(value, bool)
        case "Quantity":
            return _is_number(value)
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
