"""Bodies of requests, read against the facts of the model into drafts: checked values, and links to follow.

Nothing here asks the store. A draft nested in another one leads away from it: an inline entity of a type that is being
made above it already is a cycle, and refused, as is anything deeper or larger than the limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal

from django.apps import apps

from quartier.interfaces.sensorthings.compile.expressions import observation_key
from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.model import target
from quartier.interfaces.sensorthings.write import crs, values
from quartier.interfaces.sensorthings.write.problems import BadField, below

DEEPEST: Final = 8
MOST_ENTITIES: Final = 2_000

# What a body is for: to make an entity, to change some of its properties (PATCH), or to replace them all (PUT).
Purpose = Literal["create", "merge", "replace"]
# The number of an entity, or of an observation: its series and time.
type Key = int | tuple[int, datetime]


@dataclass(frozen=True, slots=True)
class Ref:
    """A link to what is there already."""

    entity: Entity
    key: Key
    at: str


@dataclass(slots=True)
class Draft:
    """An entity to be made or changed. ``values`` are checked; None is an explicit null."""

    entity: Entity
    at: str
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, list[Draft | Ref]] = field(default_factory=dict)
    # What only writing knows, such as a Party's authId.
    extra: dict[str, Any] = field(default_factory=dict)

    def one(self, name: str) -> Draft | Ref | None:
        """The target of a single link."""
        found = self.links.get(name)
        return found[0] if found else None

    def place(self, name: str) -> str:
        """The JSON path of a member."""
        return below(self.at, name)


@dataclass(slots=True)
class _Reading:
    purpose: Purpose
    n: int = 0
    above: list[str] = field(default_factory=list)


def read(
    entity: Entity, body: Any, purpose: Purpose = "create", given: frozenset[str] = frozenset()
) -> Draft:
    """A body as a draft. ``given`` are links that the path says already. Raises BadField."""
    return _draft(_Reading(purpose), entity, body, "", given)


def _draft(reading: _Reading, entity: Entity, body: Any, at: str, given: frozenset[str]) -> Draft:
    if not isinstance(body, dict):
        raise BadField(at, f"expected a {entity.name} as a JSON object, found {values.kind_of(body)}")
    reading.n += 1
    if reading.n > MOST_ENTITIES:
        raise BadField(
            at, f"at most {MOST_ENTITIES} entities can be made at once; use $batch or CreateObservations"
        )
    if len(reading.above) >= DEEPEST:
        raise BadField(at, f"entities may be nested {DEEPEST} deep")
    draft = Draft(entity, at)
    body = _in_geojson(entity, body, at)
    # The encoding decides how a place is read.
    encoding = body.get("encodingType")
    for name, value in body.items():
        if name in ("@iot.id", "id", "@iot.selfLink") or "@iot." in name:
            continue  # what answers carry, sent back
        place = below(at, name)
        if (link := entity.find_link(name)) is not None:
            if value is None:
                if link.mandatory or link.many or reading.purpose == "create":
                    if reading.purpose != "create" or link.mandatory:
                        raise BadField(place, "cannot be null")
                    continue
                draft.links[name] = []
                continue
            draft.links[name] = _links(reading, entity, link, value, place)
        elif (found := entity.find_property(name)) is not None:
            if found.writable:
                draft.values[name] = _value(entity, found, value, place, encoding)
        elif (entity.name, name) in _EXTRA:
            draft.extra[name] = _EXTRA[entity.name, name](value, place)
        else:
            known = ", ".join(
                [*(one.name for one in entity.properties if one.writable), *entity.link_by_name]
            )
            raise BadField(place, f"a {entity.name} has no such property; it has {known}")
    if reading.purpose != "merge":
        _check_complete(draft, given, reading.purpose)
    if reading.purpose == "merge" and "encodingType" in body:
        _check_place_again(draft)
    return draft


def _in_geojson(entity: Entity, body: dict[str, Any], at: str) -> dict[str, Any]:
    """A body whose place is Well-Known Text or JSON-FG, with that place as it is kept (22-022r1)."""
    encoding = body.get("encodingType")
    if encoding not in (crs.WKT, crs.JSON_FG):
        return body
    name = next((one.name for one in entity.properties if one.kind == "geometry" and one.writable), None)
    if name is None:
        return body
    changed = body | {"encodingType": "application/geo+json"}
    if encoding == crs.WKT:
        # "The CRS definition shall be put into a property crs or the identifier into the srid" of the entity.
        named = [one for one in ("crs", "srid") if changed.pop(one, None) is not None]
        if len(named) > 1:
            raise BadField(below(at, named[1]), "give either crs or srid")
        system = body[named[0]] if named else None
        if name in body:
            changed[name] = crs.from_wkt(
                body[name], below(at, name), system, below(at, named[0] if named else "crs")
            )
    elif name in body:
        changed[name] = crs.from_json_fg(body[name], below(at, name))
    return changed


_EXTRA: Final[dict[tuple[str, str], Callable[[Any, str], Any]]] = {
    ("Party", "authId"): lambda value, at: values.text(value, at, longest=200),
}


def _links(reading: _Reading, entity: Entity, link: Link, value: Any, at: str) -> list[Draft | Ref]:
    if not link.many:
        return [_link(reading, entity, link, value, at)]
    if not isinstance(value, list):
        raise BadField(at, f"expected a list, found {values.kind_of(value)}")
    if len(value) > MOST_ENTITIES:
        raise BadField(at, f"at most {MOST_ENTITIES} entities can be made at once")
    return [_link(reading, entity, link, one, below(at, n)) for n, one in enumerate(value)]


def _link(reading: _Reading, entity: Entity, link: Link, value: Any, at: str) -> Draft | Ref:
    to = target(link)
    if not isinstance(value, dict):
        raise BadField(at, f'expected an object such as {{"@iot.id": 1}}, found {values.kind_of(value)}')
    for name in ("@iot.id", "id"):
        if name in value:
            return Ref(to, key(to, value[name], below(at, name)), at)
    if reading.purpose != "create":
        raise BadField(at, f"link to a {to.name} by its @iot.id here; a new one is made by POST")
    reading.above.append(entity.name)
    try:
        if to.name in reading.above:
            raise BadField(at, f"is cyclic: a {to.name} is being made above it already; give its @iot.id")
        back = frozenset(one.name for one in to.links if one.target == entity.name)
        return _draft(reading, to, value, at, back)
    finally:
        reading.above.pop()


def key(entity: Entity, value: Any, at: str) -> Key:
    """An id as bodies give it. Raises BadField."""
    if entity.id_is_text:
        found = observation_key(value) if isinstance(value, str) else None
        if found is None:
            raise BadField(at, f"{str(value)[:40]!r} is no id of an {entity.name}")
        return int(found[0]), datetime.fromisoformat(found[1])
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise BadField(at, f"{str(value)[:40]!r} is no id of a {entity.name}")
    return value


def _check_complete(draft: Draft, given: frozenset[str], purpose: Purpose) -> None:
    """Refuse a draft that lacks what every entity of its type has."""
    for one in draft.entity.properties:
        needed = one.mandatory and one.writable and (draft.entity.name, one.name) not in _FILLED
        if needed and one.name not in draft.values:
            raise BadField(draft.place(one.name), f"is missing; every {draft.entity.name} has it")
    if purpose == "replace":
        return
    for link in draft.entity.links:
        if link.mandatory and link.name not in given and not draft.links.get(link.name):
            raise BadField(draft.place(link.name), f"is missing; every {draft.entity.name} has it")
    if draft.entity.name == "Observation" and not given & {"Datastream", "MultiDatastream"}:
        named = [name for name in ("Datastream", "MultiDatastream") if draft.links.get(name)]
        if len(named) != 1:
            raise BadField(
                draft.place("Datastream"), "an Observation belongs to a Datastream or a MultiDatastream"
            )


# Mandatory in the standard, and filled in where they are absent (18-088 sections 8.2.8 and 8.2.3; STAplus dates).
_FILLED: Final = {
    ("Observation", "phenomenonTime"),
    ("Observation", "resultTime"),
    ("HistoricalLocation", "time"),
}


def _value(entity: Entity, found: Property, value: Any, at: str, encoding: Any) -> Any:
    if (special := _SPECIAL.get((entity.name, found.name))) is not None:
        return special(value, at)
    if value is None:
        if found.mandatory or (not found.nullable and found.kind != "json"):
            raise BadField(at, "cannot be null")
        return None
    match found.kind:
        case "text":
            may_be_empty = not found.mandatory or found.name == "description"
            return values.text(value, at, longest=width(entity, found), empty=may_be_empty)
        case "instant":
            return values.instant(value, at)
        case "period":
            return values.period(value, at)
        case "number":
            return values.number(value, at)
        case "boolean":
            if not isinstance(value, bool):
                raise BadField(at, f"expected true or false, found {values.kind_of(value)}")
            return value
        case "geometry":
            return values.geometry(
                value, at, encoding if isinstance(encoding, str) else "application/geo+json"
            )
        case "json":
            if found.name in ("properties", "taskingParameters"):
                return values.json_object(value, at)
            return values.json(value, at)
    return value


def _check_place_again(draft: Draft) -> None:
    name = next(
        (one.name for one in draft.entity.properties if one.kind == "geometry" and one.writable), None
    )
    # Well-Known Text and JSON-FG are GeoJSON by now.
    if name is not None and name not in draft.values and draft.values.get("encodingType") in values.GEOJSON:
        raise BadField(draft.place(name), "is missing: with another encodingType it is another text")


def _units(value: Any, at: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 1 <= len(value) <= 100:
        raise BadField(at, "expected a list of 1 to 100 units")
    return [values.unit(one, below(at, n)) for n, one in enumerate(value)]


def _types(value: Any, at: str) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= 100:
        raise BadField(at, "expected a list of 1 to 100 observation types")
    return [values.text(one, below(at, n), longest=300, empty=False) for n, one in enumerate(value)]


def _role(value: Any, at: str) -> str:
    if value not in ("individual", "institutional"):
        raise BadField(at, "expected individual or institutional (22-022r1)")
    return str(value)


def _valid_time(value: Any, at: str) -> tuple[datetime, datetime] | None:
    return None if value is None else values.interval(value, at)


def _parameters(value: Any, at: str) -> Any:
    # Version 1.0 has a list of name and value, version 1.1 an object.
    if value is not None and not isinstance(value, dict | list):
        raise BadField(at, f"expected an object, found {values.kind_of(value)}")
    return values.json(value, at)


def _result(value: Any, at: str) -> Any:
    if value is None:
        raise BadField(at, "cannot be null")
    return value if isinstance(value, float | int | bool) else values.json(value, at, longest=60_000)


_SPECIAL: Final[dict[tuple[str, str], Callable[[Any, str], Any]]] = {
    ("Datastream", "unitOfMeasurement"): values.unit,
    ("MultiDatastream", "unitOfMeasurements"): _units,
    ("MultiDatastream", "multiObservationDataTypes"): _types,
    ("Observation", "validTime"): _valid_time,
    ("Observation", "parameters"): _parameters,
    ("Observation", "result"): _result,
    ("Party", "role"): _role,
}


@cache
def width(entity: Entity, found: Property) -> int:
    """The longest text that the column of a property takes."""
    for model in apps.get_models():
        if model._meta.db_table == entity.table:
            for one in model._meta.concrete_fields:
                if one.column == found.column:
                    return int(getattr(one, "max_length", None) or values.LONGEST_TEXT)
    return values.LONGEST_TEXT
