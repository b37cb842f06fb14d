"""From decoded fields to readings: which field is which property, in which unit, at which time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import jsonpath

from quartier.intake.parsers import MessageError
from quartier.twin.flags import Flag
from quartier.twin.record import LARGEST_RESULT
from quartier.twin.units import UnitError, converter

# How far a stated time may lie from the time of reception and still be believed.
OLDEST_AGE = timedelta(days=366)
FASTEST_CLOCK = timedelta(minutes=10)
# Texts are results too (a status word), but no place for documents.
LONGEST_TEXT = 2_000
# PostgreSQL's text and JSON hold neither NUL nor half a surrogate pair.
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
# What a field with a role of its own is kept in.
_UNIT_OF_ROLE = {"battery_v": "V", "battery_percent": "%"}


class PropertyFacts(NamedTuple):
    """What mapping needs to know of an observed property."""

    id: int
    slug: str
    unit: str
    result_type: str


class Field(NamedTuple):
    """A mapped value: number (booleans as 0 and 1) in ``result``, or text/JSON in ``value``."""

    observed_property: PropertyFacts
    channel: str
    result: float | None
    value: Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled field mapping. ``role`` is observation, time, battery_v, battery_percent or ignore."""

    path: str
    role: str
    observed_property: PropertyFacts | None
    channel: str
    factor: float
    offset: float
    pick: Callable[[Mapping[str, Any]], Any]


_MISSING = object()


def _picker(path: str) -> Callable[[Mapping[str, Any]], Any]:
    if not path.startswith("$"):
        return lambda fields: fields.get(path, _MISSING)
    compiled = jsonpath.compile(path)

    def pick(fields: Mapping[str, Any]) -> Any:
        found = compiled.match(fields)
        return _MISSING if found is None else found.obj

    return pick


def compile_rule(
    path: str, role: str, observed_property: PropertyFacts | None, unit: str, channel: str
) -> Rule:
    """Check and compile a mapping.

    Raises UnitError where ``unit`` does not convert to the property's, ValueError where the path is no JSONPath.
    """
    factor, offset = 1.0, 0.0
    if unit and role in _UNIT_OF_ROLE:
        factor, offset = converter(unit, _UNIT_OF_ROLE[role])
    elif observed_property is not None and unit and observed_property.result_type == "number":
        factor, offset = converter(unit, observed_property.unit)
    try:
        pick = _picker(path)
    except jsonpath.JSONPathError as error:
        raise ValueError(f"{path}: {error}") from None
    return Rule(path, role, observed_property, channel, factor, offset, pick)


def number(value: Any, field: str) -> float:
    """A finite number from a JSON value; numbers in strings are taken, as many senders write them.

    Raises MessageError naming the field.
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            value = float(value.strip())
        except ValueError:
            raise MessageError("bad_value", f"field {field}: {value[:40]!r} is not a number") from None
    if not isinstance(value, int | float):
        raise MessageError("bad_value", f"field {field}: a number was expected, not {type(value).__name__}")
    try:
        result = float(value)
    except OverflowError:
        raise MessageError("bad_value", f"field {field}: the number is too large") from None
    if not math.isfinite(result):
        raise MessageError("bad_value", f"field {field}: {result} is not a finite number")
    return result


def _converted(value: float, factor: float, offset: float, field: str) -> float:
    result = value * factor + offset
    if abs(result) > LARGEST_RESULT:
        raise MessageError("bad_value", f"field {field}: {result:g} is too large")
    return result


def _text(value: Any, field: str) -> str:
    """A text; numbers and booleans as JSON writes them. Raises MessageError naming the field."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        number(value, field)  # refuses what is not finite or has thousands of digits
        value = str(value)
    if not isinstance(value, str):
        raise MessageError("bad_value", f"field {field}: a text was expected, not {type(value).__name__}")
    if len(value) > LONGEST_TEXT:
        raise MessageError("bad_value", f"field {field}: text longer than {LONGEST_TEXT} characters")
    if _UNSTORABLE.search(value):
        raise MessageError("bad_value", f"field {field}: the text has characters that cannot be stored")
    return value


def _boolean(value: Any, field: str) -> float:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "1", "on", "yes"):
            return 1.0
        if word in ("false", "0", "off", "no"):
            return 0.0
        raise MessageError("bad_value", f"field {field}: {value[:40]!r} is neither true nor false")
    result = number(value, field)
    if result not in (0.0, 1.0):
        raise MessageError("bad_value", f"field {field}: {result:g} is neither true nor false")
    return result


def _field(rule: Rule, facts: PropertyFacts, raw: Any) -> Field:
    factor, offset = rule.factor, rule.offset
    if isinstance(raw, Mapping) and "value" in raw:
        # A sender may state the unit with the value: {"value": 70, "unit": "[degF]"}.
        stated = raw.get("unit")
        raw = raw["value"]
        if stated is not None and facts.result_type == "number":
            if not isinstance(stated, str):
                raise MessageError(
                    "bad_unit", f"field {rule.path}: a unit is a text, not {type(stated).__name__}"
                )
            try:
                factor, offset = converter(stated, facts.unit)
            except UnitError as error:
                raise MessageError("bad_unit", f"field {rule.path}: {error}") from None
    match facts.result_type:
        case "number":
            value = _converted(number(raw, rule.path), factor, offset, rule.path)
            return Field(facts, rule.channel, value, None)
        case "bool":
            return Field(facts, rule.channel, _boolean(raw, rule.path), None)
        case _:
            return Field(facts, rule.channel, None, _text(raw, rule.path))


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a message's fields came to. ``problems`` are fields that were refused while others were taken."""

    fields: tuple[Field, ...]
    problems: tuple[MessageError, ...]
    observed_at: datetime | None = None
    battery_v: float | None = None
    battery_percent: float | None = None


def apply(rules: Sequence[Rule], fields: Mapping[str, Any]) -> Mapped:
    """Apply a device type's rules to decoded fields.

    Raises MessageError ``no_known_field`` where no rule finds its field.
    """
    taken: list[Field] = []
    problems: list[MessageError] = []
    observed_at: datetime | None = None
    battery_v = battery_percent = None
    hits = 0
    for rule in rules:
        try:
            raw = rule.pick(fields)
        except (jsonpath.JSONPathError, RecursionError) as problem:
            hits += 1
            problems.append(MessageError("bad_value", f"field {rule.path}: {problem}"))
            continue
        if raw is _MISSING or raw is None:
            continue
        hits += 1
        try:
            if rule.role == "time":
                observed_at = _time(raw, rule.path)
            elif rule.role == "battery_v":
                battery_v = _converted(number(raw, rule.path), rule.factor, rule.offset, rule.path)
            elif rule.role == "battery_percent":
                battery_percent = _converted(number(raw, rule.path), rule.factor, rule.offset, rule.path)
            elif rule.observed_property is not None and rule.role == "observation":
                field = _field(rule, rule.observed_property, raw)
                taken.append(field)
                if field.observed_property.slug == "battery_voltage":
                    battery_v = field.result
                elif field.observed_property.slug == "battery_level":
                    battery_percent = field.result
        except MessageError as problem:
            problems.append(problem)
    if not hits:
        seen = ", ".join(sorted(str(k)[:40] for k in list(fields)[:12])) or "none"
        raise MessageError(
            "no_known_field", f"none of the mapped fields is there; fields in the message: {seen}"
        )
    return Mapped(tuple(taken), tuple(problems), observed_at, battery_v, battery_percent)


def _time(raw: Any, field: str) -> datetime:
    """A device's time: ISO 8601, or seconds or milliseconds since 1970."""
    try:
        if isinstance(raw, str) and not raw.strip().replace(".", "", 1).isdigit():
            time = datetime.fromisoformat(raw.strip())
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        seconds = number(raw, field)
        if seconds > 1e11:
            seconds /= 1000
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise MessageError("bad_time", f"field {field}: {str(raw)[:40]!r} is not a time") from None


def choose_time(
    observed_at: datetime | None, received_at: datetime, arrived_at: datetime
) -> tuple[datetime, int]:
    """The time of an observation, and a flag where what was stated could not be believed.

    ``received_at`` is what the network says, ``arrived_at`` our own clock when the message entered the inbox.
    """
    if not _plausible(received_at, arrived_at):
        if observed_at is not None and _plausible(observed_at, arrived_at):
            return observed_at, 0
        return arrived_at, int(Flag.TIME_REPLACED)
    if observed_at is None:
        return received_at, 0
    if _plausible(observed_at, received_at):
        return observed_at, 0
    return received_at, int(Flag.TIME_REPLACED)


def _plausible(time: datetime, reference: datetime) -> bool:
    return reference - OLDEST_AGE <= time <= reference + FASTEST_CLOCK
