"""From decoded fields to readings: any JSON is either taken or refused by name, and times are believed or replaced."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quartier.intake.mapping import (
    LONGEST_TEXT,
    PropertyFacts,
    Rule,
    apply,
    choose_time,
    compile_rule,
    number,
)
from quartier.intake.parsers import MessageError
from quartier.twin.flags import Flag
from quartier.twin.record import LARGEST_RESULT
from quartier.twin.units import UnitError

TEMPERATURE = PropertyFacts(1, "air_temperature", "Cel", "number")
OCCUPIED = PropertyFacts(2, "occupied", "1", "bool")
STATUS = PropertyFacts(3, "status", "1", "text")
VOLTAGE = PropertyFacts(4, "battery_voltage", "V", "number")
LEVEL = PropertyFacts(5, "battery_level", "%", "number")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def rule(path: str, facts: PropertyFacts | None = TEMPERATURE, unit: str = "", channel: str = "") -> Rule:
    return compile_rule(path, "observation", facts, unit, channel)


def role(name: str, unit: str = "") -> Rule:
    return compile_rule("x", name, None, unit, "")


def value_of(facts: PropertyFacts, raw: Any, unit: str = "") -> Any:
    """What a single field comes to: its result or text, or the message that refuses it."""
    mapped = apply([rule("x", facts, unit)], {"x": raw})
    if mapped.problems:
        assert len(mapped.problems) == 1
        assert mapped.fields == ()
        return str(mapped.problems[0])
    (field,) = mapped.fields
    return field.value if field.result is None else field.result


RULES = [
    *(
        rule("x", facts, unit)
        for facts in (TEMPERATURE, OCCUPIED, STATUS, VOLTAGE)
        for unit in ("", facts.unit)
    ),
    rule("x", TEMPERATURE, "[degF]"),
    rule("x", VOLTAGE, "mV"),
    *(role(name) for name in ("time", "battery_v", "battery_percent", "ignore")),
    role("battery_v", "mV"),
    rule("$.x"),
    rule("$.x.value"),
    rule("$.x[0]"),
    rule("$.x[?@.a > 1].b"),
    rule("$.x[?length(@) > 2]"),
    rule("$..b", STATUS),
    rule("$.x[-1:]", STATUS),
]

_any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([400, 5000]).map(lambda digits: 10**digits)
    | st.sampled_from([2**63, 1_700_000_000, 1_700_000_000_000])
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(
        ["1e400", "nan", "-inf", "12.5", " 7 ", "2026-07-01T12:00:00+23:59", "0001-01-01", "\x00"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b", "value", "unit"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(raw=_any_json)
@example(raw=10**5000)
@example(raw={"value": 1, "unit": 10**5000})
@example(raw={"value": 1, "unit": ["Cel"]})
@example(raw={"value": 1e308, "unit": "[degF]"})
@example(raw=[{"a": 2, "b": "\ud800"}])
@settings(max_examples=150)
def test_any_json_is_taken_or_refused_by_every_rule(raw: Any) -> None:
    """Nothing but MessageError comes out, and what is taken can be stored."""
    reasons = set()
    for one in RULES:
        try:
            mapped = apply([one], {"x": raw})
        except MessageError as error:
            reasons.add(error.reason)
            continue
        for field in mapped.fields:
            if field.result is not None:
                assert -LARGEST_RESULT <= field.result <= LARGEST_RESULT
                assert field.value is None
            else:
                assert len(field.value) <= LONGEST_TEXT
                assert "\x00" not in field.value
                json.dumps(field.value).encode()
                field.value.encode()
        for battery in (mapped.battery_v, mapped.battery_percent):
            assert battery is None or math.isfinite(battery)
        if mapped.observed_at is not None:
            chosen, flags = choose_time(mapped.observed_at, NOW, NOW)
            assert chosen.utcoffset() == timedelta(0)
            assert flags == 0 or chosen == NOW
        for problem in mapped.problems:
            assert problem.reason in ("bad_value", "bad_unit", "bad_time")
            assert problem.detail.startswith(f"field {one.path}: ")
    assert reasons <= {"no_known_field"}


@given(st.dictionaries(st.text(max_size=5), _any_json, max_size=5))
@settings(max_examples=30)
def test_all_rules_at_once_find_what_each_finds(fields: dict[str, Any]) -> None:
    """One bad field costs no other."""
    fields = {**fields, "x": 7}
    mapped = apply(RULES[:8], fields)
    assert [field.result if field.value is None else field.value for field in mapped.fields] == [
        7.0,
        7.0,
        "7",
        "7",
        7.0,
        7.0,
    ]
    assert [problem.detail for problem in mapped.problems] == ["field x: 7 is neither true nor false"] * 2


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (20, 20.0),
        (20.5, 20.5),
        (-0.0, 0.0),
        ("20.5", 20.5),
        (" 20.5 ", 20.5),
        ("-3e1", -30.0),
        (True, 1.0),
        (False, 0.0),
        ({"value": 68, "unit": "[degF]"}, 20.0),
        ({"value": "293.15", "unit": "K"}, 20.0),
        ({"value": 20}, 20.0),
        ({"value": 20, "unit": None}, 20.0),
        ("warm", "bad_value: field x: 'warm' is not a number"),
        ("20,5", "bad_value: field x: '20,5' is not a number"),
        ("", "bad_value: field x: '' is not a number"),
        ("x" * 100, f"bad_value: field x: {'x' * 40!r} is not a number"),
        ("nan", "bad_value: field x: nan is not a finite number"),
        (math.nan, "bad_value: field x: nan is not a finite number"),
        (-math.inf, "bad_value: field x: -inf is not a finite number"),
        ("1e999", "bad_value: field x: inf is not a finite number"),
        (10**400, "bad_value: field x: the number is too large"),
        (1e101, "bad_value: field x: 1e+101 is too large"),
        ([20], "bad_value: field x: a number was expected, not list"),
        ({"wert": 20}, "bad_value: field x: a number was expected, not dict"),
        ({"value": {"value": 20}}, "bad_value: field x: a number was expected, not dict"),
        ({"value": 20, "unit": "kg"}, "bad_unit: field x: 'kg' cannot be converted to 'Cel'"),
        ({"value": 20, "unit": "°C"}, "bad_unit: field x: '°C' is not a unit of UCUM; UCUM writes 'Cel'"),
        ({"value": 20, "unit": 7}, "bad_unit: field x: a unit is a text, not int"),
    ],
)
def test_number(raw: Any, result: Any) -> None:
    found = value_of(TEMPERATURE, raw)
    assert found == (pytest.approx(result) if isinstance(result, float) else result)


@pytest.mark.parametrize("raw", [1e308, 1e300])
def test_number_that_conversion_makes_too_large(raw: float) -> None:
    assert value_of(VOLTAGE, raw, "kV").startswith("bad_value: field x: ")
    assert value_of(VOLTAGE, raw, "kV").endswith(" is too large")


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (True, 1.0),
        (False, 0.0),
        (1, 1.0),
        (0.0, 0.0),
        ("true", 1.0),
        ("On", 1.0),
        (" yes ", 1.0),
        ("1", 1.0),
        ("FALSE", 0.0),
        ("off", 0.0),
        ("no", 0.0),
        ("0", 0.0),
        ({"value": True}, 1.0),
        (2, "bad_value: field x: 2 is neither true nor false"),
        (-1, "bad_value: field x: -1 is neither true nor false"),
        (0.5, "bad_value: field x: 0.5 is neither true nor false"),
        ("occupied", "bad_value: field x: 'occupied' is neither true nor false"),
        ("", "bad_value: field x: '' is neither true nor false"),
        ([], "bad_value: field x: a number was expected, not list"),
    ],
)
def test_boolean(raw: Any, result: Any) -> None:
    assert value_of(OCCUPIED, raw) == result


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        ("frei", "frei"),
        ("", ""),
        ("ä\n😀", "ä\n😀"),
        (5, "5"),
        (0.1, "0.1"),
        (True, "true"),
        ({"value": "frei"}, "frei"),
        ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
        ("x" * (LONGEST_TEXT + 1), "bad_value: field x: text longer than 2000 characters"),
        ("a\x00b", "bad_value: field x: the text has characters that cannot be stored"),
        ("\udc80", "bad_value: field x: the text has characters that cannot be stored"),
        (["frei"], "bad_value: field x: a text was expected, not list"),
        ({"a": 1}, "bad_value: field x: a text was expected, not dict"),
        (math.nan, "bad_value: field x: nan is not a finite number"),
        pytest.param(10**5000, "bad_value: field x: the number is too large", id="huge"),
    ],
)
def test_text(raw: Any, result: str) -> None:
    assert value_of(STATUS, raw) == result


def test_null_is_a_field_that_is_not_there() -> None:
    with pytest.raises(MessageError) as caught:
        apply([rule("x")], {"x": None, "y": 1})
    assert (caught.value.reason, caught.value.detail) == (
        "no_known_field",
        "none of the mapped fields is there; fields in the message: x, y",
    )
    with pytest.raises(MessageError, match=r"fields in the message: none$"):
        apply([rule("x")], {})


def test_mapped_field_in_the_fields_unit() -> None:
    assert value_of(TEMPERATURE, 68, "[degF]") == pytest.approx(20)
    assert value_of(VOLTAGE, 3096, "mV") == pytest.approx(3.096)
    assert value_of(TEMPERATURE, {"value": 20, "unit": "Cel"}, "[degF]") == 20, "the message knows better"


def test_unit_of_a_truth_or_a_text_is_not_looked_at() -> None:
    assert value_of(OCCUPIED, {"value": 1, "unit": "parsec"}, "bogus") == 1.0
    assert value_of(STATUS, {"value": "frei", "unit": "parsec"}, "bogus") == "frei"


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("kg", "'kg' cannot be converted to 'Cel'"),
        ("bogus", "'bogus' is not a unit of UCUM"),
        ("dB", "'dB' cannot be converted to 'Cel'"),
    ],
)
def test_rule_with_a_wrong_unit_is_not_compiled(unit: str, message: str) -> None:
    with pytest.raises(UnitError) as caught:
        rule("x", TEMPERATURE, unit)
    assert str(caught.value) == message


def test_hostile_unit_in_a_message_costs_no_time() -> None:
    """10*99999999 is a number of a hundred million digits to whoever computes it."""
    began = time.monotonic()
    for unit in ("10*99999999", "m" + "9" * 70, "(" * 80, "{" * 80, "x" * 100_000):
        assert value_of(TEMPERATURE, {"value": 1, "unit": unit}).startswith("bad_unit: field x: ")
    assert time.monotonic() - began < 10, "the library of units is loaded once"


@pytest.mark.parametrize("path", ["$[", "$.", "$[?", "$.x[?@.a >", "$['x", "$" + "[" * 500])
def test_rule_with_a_wrong_path_is_not_compiled(path: str) -> None:
    with pytest.raises(ValueError, match=r"^\$"):
        rule(path)


@given(st.text(max_size=12).map(lambda tail: "$" + tail))
def test_any_path_compiles_or_is_refused(path: str) -> None:
    try:
        compiled = rule(path)
    except ValueError:
        return
    for fields in ({}, {"x": 1, "a": [1, {"b": 2}]}):
        with contextlib.suppress(MessageError):
            apply([compiled], fields)


@pytest.mark.parametrize(
    ("path", "fields", "result"),
    [
        ("temp", {"temp": 1}, 1.0),
        ("temp.a", {"temp.a": 1, "temp": {"a": 2}}, 1.0),
        ("$.temp.a", {"temp.a": 1, "temp": {"a": 2}}, 2.0),
        ("$['temp.a']", {"temp.a": 1}, 1.0),
        ("$.list[1].v", {"list": [{"v": 1}, {"v": 2}]}, 2.0),
        ("$.list[-1].v", {"list": [{"v": 1}, {"v": 2}]}, 2.0),
        ("$.list[?@.id == 'T'].v", {"list": [{"id": "H", "v": 1}, {"id": "T", "v": 2}]}, 2.0),
        ("$.list[*].v", {"list": [{"v": 1}, {"v": 2}]}, 1.0),
        ("$..v", {"deep": {"er": {"v": 3}}}, 3.0),
        ("$.zero", {"zero": 0}, 0.0),
    ],
)
def test_path(path: str, fields: Mapping[str, Any], result: float) -> None:
    assert [field.result for field in apply([rule(path)], fields).fields] == [result]


def test_each_field_has_its_channel() -> None:
    mapped = apply([rule("a", channel="oben"), rule("b", channel="unten")], {"a": 1, "b": 2})
    assert [(f.observed_property.slug, f.channel, f.result) for f in mapped.fields] == [
        ("air_temperature", "oben", 1.0),
        ("air_temperature", "unten", 2.0),
    ]


def test_battery_is_told_by_its_role_or_its_property() -> None:
    by_role = apply([role("battery_v", "mV")], {"x": 3096})
    assert (by_role.fields, by_role.battery_percent) == ((), None)
    assert by_role.battery_v == pytest.approx(3.096)
    assert apply([role("battery_v")], {"x": "3.1"}).battery_v == 3.1
    assert apply([role("battery_percent", "1")], {"x": 0.5}).battery_percent == 50
    by_property = apply([rule("u", VOLTAGE, "mV"), rule("p", LEVEL)], {"u": 3000, "p": 80})
    assert (len(by_property.fields), by_property.battery_v, by_property.battery_percent) == (2, 3.0, 80.0)
    with pytest.raises(UnitError):
        role("battery_v", "Cel")
    refused = apply([role("battery_v")], {"x": "leer"})
    assert (refused.battery_v, [p.reason for p in refused.problems]) == (None, ["bad_value"])


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        ("2026-07-01T12:00:00Z", NOW),
        ("2026-07-01T14:00:00+02:00", NOW),
        ("2026-07-01 12:00", NOW),
        (" 2026-07-01T12:00:00.25Z ", NOW + timedelta(milliseconds=250)),
        (1782907200, NOW),
        (1782907200.5, NOW + timedelta(milliseconds=500)),
        (1782907200000, NOW),
        ("1782907200", NOW),
        ("1782907200.5", NOW + timedelta(milliseconds=500)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_time_of_a_device(raw: Any, at: datetime) -> None:
    found = apply([role("time")], {"x": raw}).observed_at
    assert found == at
    assert found is not None
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("gestern", "bad_time: field x: 'gestern' is not a time"),
        ("2026-13-01", "bad_time: field x: '2026-13-01' is not a time"),
        ("-5", "bad_time: field x: '-5' is not a time"),
        ("0001-01-01T00:00:00+23:59", "bad_time: field x: '0001-01-01T00:00:00+23:59' is not a time"),
        (-(10**14), "bad_time: field x: '-100000000000000' is not a time"),
        (10**20, "bad_time: field x: '100000000000000000000' is not a time"),
        ("²", "bad_value: field x: '²' is not a number"),
        (math.nan, "bad_value: field x: nan is not a finite number"),
        ([1], "bad_value: field x: a number was expected, not list"),
    ],
)
def test_what_is_no_time_is_refused_and_costs_no_reading(raw: Any, message: str) -> None:
    mapped = apply([role("time"), rule("t")], {"x": raw, "t": 20})
    assert ([str(p) for p in mapped.problems], mapped.observed_at, mapped.fields[0].result) == (
        [message],
        None,
        20.0,
    )


REPLACED = int(Flag.TIME_REPLACED)
_day, _minute = timedelta(days=1), timedelta(minutes=1)
# Stated by the message, received by the network, arrived here: the time that counts, and its flag.
TIMES: list[tuple[str, datetime | None, datetime, datetime, int]] = [
    ("nothing stated", None, NOW - _minute, NOW - _minute, 0),
    ("stated", NOW - 5 * _minute, NOW - _minute, NOW - 5 * _minute, 0),
    ("buffered for a year", NOW - 366 * _day, NOW, NOW - 366 * _day, 0),
    ("older than that", NOW - 366 * _day - _minute, NOW, NOW, REPLACED),
    ("clock a little fast", NOW + 10 * _minute, NOW, NOW + 10 * _minute, 0),
    ("clock too fast", NOW + 11 * _minute, NOW, NOW, REPLACED),
    ("1970", datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC), NOW, NOW, REPLACED),
    ("next year", NOW + 365 * _day, NOW, NOW, REPLACED),
    ("year 1", datetime.min.replace(tzinfo=UTC), NOW, NOW, REPLACED),
    ("year 9999", datetime.max.replace(tzinfo=UTC), NOW, NOW, REPLACED),
    ("network's clock wrong", None, datetime(1970, 1, 1, tzinfo=UTC), NOW, REPLACED),
    ("network's clock fast", None, NOW + 365 * _day, NOW, REPLACED),
    ("both wrong", NOW + 365 * _day, NOW + 365 * _day, NOW, REPLACED),
]


@pytest.mark.parametrize(
    ("stated", "received", "wanted", "flags"), [t[1:] for t in TIMES], ids=[t[0] for t in TIMES]
)
def test_time_that_counts(stated: datetime | None, received: datetime, wanted: datetime, flags: int) -> None:
    assert choose_time(stated, received, NOW) == (wanted, flags)


def test_right_clock_of_the_device_stands_although_the_networks_is_wrong() -> None:
    """The flag says that the time of reception stands, so it must not stand where the device's own time does."""
    found, flags = choose_time(NOW - _minute, datetime(1970, 1, 1, tzinfo=UTC), NOW)
    assert (found, flags) == (NOW - _minute, 0)


def test_number_names_its_field() -> None:
    assert number("5", "a.b") == 5.0
    with pytest.raises(MessageError) as caught:
        number(None, "a.b")
    assert (caught.value.reason, caught.value.detail) == (
        "bad_value",
        "field a.b: a number was expected, not NoneType",
    )
