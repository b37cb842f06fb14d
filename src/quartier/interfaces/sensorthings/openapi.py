"""An OpenAPI 3.1 description of the interface, made from the facts about the entity types.

For programs that generate clients, and for the tests, which ask what it describes and check every answer against it.
"""

from __future__ import annotations

from typing import Any, Final

from quartier.interfaces.sensorthings import openapi_writing
from quartier.interfaces.sensorthings.facts import Entity, Kind, Property
from quartier.interfaces.sensorthings.model import ENTITIES, target

type Json = dict[str, Any]

_JSON: Final = "application/json"
_ANY: Final[Json] = {}
_TEXT: Final[Json] = {"type": "string"}
_LINK: Final[Json] = {"type": "string", "format": "uri"}
_OF_KIND: Final[dict[Kind, Json]] = {
    "text": _TEXT,
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "instant": {"type": "string", "format": "date-time"},
    "period": {
        "type": "string",
        "description": "A time or start/end (ISO 8601).",
        "examples": ["2026-07-01T12:00:00Z", "2026-07-01T12:00:00Z/2026-07-01T13:00:00Z"],
    },
    "json": _ANY,
    "geometry": {"type": "object", "description": "GeoJSON (RFC 7946)."},
    "result": {"description": "A number, true or false, a text, or any other JSON."},
}
_OPTIONS: Final[dict[str, tuple[Json, str]]] = {
    "filter": ({"type": "string", "examples": ["result gt 20"]}, "A condition, as in OData."),
    "orderby": ({"type": "string", "examples": ["id desc"]}, "What to order by, with asc or desc."),
    "top": ({"type": "integer", "minimum": 0, "maximum": 10_000_000}, "How many at most; 100 if not given."),
    "skip": ({"type": "integer", "minimum": 0, "maximum": 1_000_000}, "How many to pass over."),
    "count": ({"type": "boolean"}, "Whether to say how many there are in all."),
    "select": ({"type": "string", "examples": ["id"]}, "Which properties; distinct: in front for distinct values."),
    "expand": ({"type": "string"}, "Which links to follow, each with options of its own in parentheses."),
    "resultFormat": ({"enum": ["json", "dataArray", "CSV", "GeoJSON"]}, "How to write the answer."),
    "resultMetadata": ({"enum": ["full", "minimal", "none"]}, "How much to say besides the data."),
    "apply": (
        {"type": "string", "examples": ["groupby((Datastream/id),aggregate($count as n))"]},
        "What to group by and to compute, as in the OData Extension for Data Aggregation.",
    ),
}  # fmt: skip
_OF_ENTITY: Final = ("select", "expand", "resultFormat", "resultMetadata")
_OF_SET: Final = ("filter", "orderby", "top", "skip", "count", *_OF_ENTITY)
_REFUSALS: Final = {
    "400": "The query cannot be understood or asks for too much; the message says what and where.",
    "401": "The token is not known.",
    "404": "There is nothing of that name, or nothing that the caller may see.",
    "429": "Too many requests; Retry-After says when to ask again.",
    "503": "Not possible at the moment; Retry-After says when to ask again.",
}


def document(base: str) -> Json:
    """The description of the service at ``base``."""
    paths: Json = {"/": {"get": _operation("service", "What there is, and which requirements are met.", {
        "type": "object",
        "properties": {"value": {"type": "array"}, "serverSettings": {"type": "object"}},
        "required": ["value", "serverSettings"],
    })}}  # fmt: skip
    for entity in ENTITIES:
        paths |= _paths(entity)
    for entity in ENTITIES:
        for address, operations in openapi_writing.paths(
            entity, [_id_parameter(entity)], _parameter("filter")
        ).items():
            paths[address] = paths.get(address, {}) | operations
    paths |= openapi_writing.further_paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SensorThings",
            "version": base.rstrip("/").rpartition("/v")[2],
            "description": "OGC SensorThings API 1.1 (18-088) with STAplus 1.0 (22-022r1) and Tasking (17-079r1).",
        },
        "servers": [{"url": base}],
        "paths": paths,
        "components": {
            "schemas": _schemas() | openapi_writing.schemas(),
            "parameters": {name: _parameter(name) for name in _OPTIONS},
            "responses": {
                code: _refusal(text) for code, text in (_REFUSALS | openapi_writing.responses()).items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _paths(entity: Entity) -> Json:
    one = f"/{entity.set}({{id}})"
    id_ = {"parameters": [_id_parameter(entity)]}
    of_set = (*_OF_SET, "apply") if entity.name == "Observation" else _OF_SET
    found: Json = {
        f"/{entity.set}": {"get": _list_operation(entity, entity.set, of_set)},
        f"/{entity.set}/$ref": {
            "get": _operation(f"{entity.set}.ref", "Links to the entities.", _list_of(_schema_of("Reference")),
                              options=("filter", "orderby", "top", "skip", "count"))
        },
        f"/{entity.set}/$count": {
            "get": _operation(f"{entity.set}.count", "How many there are.", {"type": "integer"}, "text/plain",
                              options=("filter",))
        },
        one: id_ | {
            "get": _operation(entity.name, f"One {entity.name}.", _schema_of(entity.name), options=_OF_ENTITY)
        },
        f"{one}/{{property}}": {
            "parameters": [_id_parameter(entity), _property_parameter(entity)],
            "get": _value_operation(f"{entity.name}.property", {"type": "object", "maxProperties": 1}, _JSON),
        },
        f"{one}/{{property}}/$value": {
            "parameters": [_id_parameter(entity), _property_parameter(entity)],
            "get": _value_operation(f"{entity.name}.value", _ANY, "text/plain"),
        },
    }  # fmt: skip
    for link in entity.links:
        to = target(link)
        name = f"{entity.name}.{link.name}"
        if link.many:
            options = (*_OF_SET, "apply") if name == "Datastream.Observations" else _OF_SET
            operation = _list_operation(to, name, options)
        else:
            operation = _operation(
                name, link.words or f"Its {link.name}.", _schema_of(to.name), options=_OF_ENTITY
            )
        found[f"{one}/{link.name}"] = id_ | {"get": operation}
    return found


def _operation(
    name: str, words: str, schema: Json, media_type: str = _JSON, *, options: tuple[str, ...] = ()
) -> Json:
    return {
        "operationId": name,
        "summary": words,
        "parameters": [{"$ref": f"#/components/parameters/{option}"} for option in options],
        "responses": {
            "200": {
                "description": words,
                "headers": {"ETag": {"schema": _TEXT}},
                "content": {media_type: {"schema": schema}} | _other_formats(options),
            },
            "304": {"description": "Nothing has changed since the ETag in If-None-Match."},
            **{code: {"$ref": f"#/components/responses/{code}"} for code in _REFUSALS},
        },
    }


def _other_formats(options: tuple[str, ...]) -> Json:
    if "resultFormat" not in options:
        return {}
    return {
        "text/csv": {"schema": _TEXT},
        "application/geo+json": {"schema": _schema_of("FeatureCollection")},
    }


def _list_operation(entity: Entity, name: str, options: tuple[str, ...]) -> Json:
    items = [_schema_of(entity.name)]
    if entity.name == "Observation":
        items += [_schema_of("DataArray"), {"type": "object", "description": "A group, with $apply."}]
    return _operation(
        name,
        f"{entity.set}, a page at a time.",
        _list_of(items[0] if len(items) == 1 else {"anyOf": items}),
        options=options,
    )


def _value_operation(name: str, schema: Json, media_type: str) -> Json:
    found = _operation(name, "One property.", schema, media_type, options=())
    if media_type != _JSON:
        found["responses"]["200"]["content"][_JSON] = {"schema": schema}
    found["responses"]["204"] = {"description": "The property has no value."}
    return found


def _list_of(items: Json) -> Json:
    return {
        "type": "object",
        "properties": {
            "@iot.count": {"type": "integer", "minimum": 0},
            "@iot.countIsEstimate": {"const": True, "description": "The count is about right."},
            "@iot.nextLink": _LINK,
            "value": {"type": "array", "items": items},
        },
        "required": ["value"],
        "additionalProperties": False,
    }


def _schema_of(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Json:
    point = {"type": ["object", "null"]}
    return {entity.name: _schema(entity) for entity in ENTITIES} | {
        "Reference": {
            "type": "object",
            "properties": {"@iot.selfLink": _LINK},
            "required": ["@iot.selfLink"],
        },
        "DataArray": {
            "type": "object",
            "properties": {
                "Datastream@iot.navigationLink": _LINK,
                "MultiDatastream@iot.navigationLink": _LINK,
                "components": {"type": "array", "items": _TEXT},
                "dataArray@iot.count": {"type": "integer"},
                "dataArray": {"type": "array", "items": {"type": "array"}},
            },
            "required": ["components", "dataArray"],
        },
        "FeatureCollection": {
            "type": "object",
            "properties": {
                "type": {"const": "FeatureCollection"},
                "features": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "type": {"const": "Feature"},
                            "geometry": point,
                            "properties": {"type": "object"},
                        },
                        "required": ["type", "geometry", "properties"],
                    },
                },
            },
            "required": ["type", "features"],
        },
        "Refusal": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "type": {"const": "error"},
                "message": _TEXT,
                "option": {"type": "string", "description": "What is to blame: an option, or path."},
                "character": {"type": "integer", "minimum": 1, "description": "Where in its decoded text."},
            },
            "required": ["code", "type", "message"],
        },
    }


def _schema(entity: Entity) -> Json:
    properties: Json = {"@iot.selfLink": _LINK}
    for one in entity.properties:
        properties["@iot.id" if one.name == "id" else one.name] = _property(entity, one)
    for link in entity.links:
        to = _schema_of(target(link).name)
        properties[f"{link.name}@iot.navigationLink"] = _LINK
        properties[link.name] = (
            {"type": "array", "items": to} if link.many else {"anyOf": [to, {"type": "null"}]}
        )
        if link.many:
            properties[f"{link.name}@iot.count"] = {"type": "integer"}
            properties[f"{link.name}@iot.nextLink"] = _LINK
    # Nothing is required: $select decides what there is.
    return {"type": "object", "description": entity.words or entity.requirement, "properties": properties}


def _property(entity: Entity, one: Property) -> Json:
    if one.kind == "id":
        return {"type": "string" if entity.id_is_text else "integer"}
    found = dict(_OF_KIND[one.kind])
    if one.nullable and "type" in found:
        found["type"] = [found["type"], "null"]
    if one.words:
        found["description"] = one.words
    if not one.writable:
        found["readOnly"] = True
    return found


def _parameter(name: str) -> Json:
    schema, words = _OPTIONS[name]
    return {"name": f"${name}", "in": "query", "description": words, "schema": schema}


def _id_parameter(entity: Entity) -> Json:
    schema: Json = {"type": "integer", "minimum": 1}
    if entity.id_is_text:
        schema = {"type": "string", "pattern": "^'[0-9]{1,9}\\.-?[0-9]{1,16}'$"}
    return {"name": "id", "in": "path", "required": True, "schema": schema}


def _property_parameter(entity: Entity) -> Json:
    names = [one.name for one in entity.properties]
    return {"name": "property", "in": "path", "required": True, "schema": {"enum": names}}


def _refusal(words: str) -> Json:
    return {"description": words, "content": {_JSON: {"schema": _schema_of("Refusal")}}}
