"""The part of the OpenAPI description that is about creating, changing and deleting."""

from __future__ import annotations

from typing import Any, Final

from quartier.interfaces.sensorthings.facts import Entity, Kind, Link, Property
from quartier.interfaces.sensorthings.model import ENTITIES, target

type Json = dict[str, Any]

_JSON: Final = "application/json"
_PERIOD: Final = r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z$"
_OF_KIND: Final[dict[Kind, Json]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "instant": {"type": "string", "format": "date-time"},
    "period": {"type": "string", "pattern": _PERIOD},
    "json": {},
    "geometry": {
        "type": "object",
        "description": "GeoJSON (RFC 7946) in WGS 84.",
        "properties": {
            "type": {"const": "Point"},
            "coordinates": {
                "type": "array",
                "prefixItems": [
                    {"type": "number", "minimum": -180, "maximum": 180},
                    {"type": "number", "minimum": -90, "maximum": 90},
                ],
                "items": False,
                "minItems": 2,
            },
        },
        "required": ["type", "coordinates"],
    },
    "result": {"description": "A number, true or false, a text, or any other JSON."},
}
_REFUSALS: Final = ("400", "401", "403", "404", "405", "409", "413", "429", "503")
_FURTHER: Final = {
    "403": "The token may not do that.",
    "405": "That cannot be done with this address.",
    "409": "Something else is there already, or in between.",
    "413": "The body is too large.",
}


def responses() -> dict[str, str]:
    """Refusals that reading does not know, with their words."""
    return _FURTHER


def schemas() -> dict[str, Json]:
    """What may be sent for each entity type."""
    return {f"{entity.name}ToWrite": _body(entity) for entity in ENTITIES}


def paths(entity: Entity, id_: list[Json], filter_: Json) -> dict[str, Json]:
    """The operations by their addresses, to be joined with those that read."""
    one = f"/{entity.set}({{id}})"
    whole = {_JSON: {"schema": _ref(entity)}}
    patch = whole | {
        "application/json-patch+json": {
            "schema": {"type": "array", "items": {"type": "object"}, "maxItems": 100}
        }
    }
    found: dict[str, Json] = {
        f"/{entity.set}": {
            "post": _operation(f"{entity.name}.create", f"Create a {entity.name}.", whole, "201"),
            "delete": _operation(f"{entity.set}.delete", "Delete what the filter finds.", None, "200")
            | {"parameters": [filter_ | {"required": True}]},
        },
        one: {
            "patch": _operation(f"{entity.name}.change", "Change what the body names.", patch, "200"),
            "put": _operation(f"{entity.name}.replace", "Replace all properties.", whole, "200"),
            "delete": _operation(f"{entity.name}.delete", "Delete it, with what belongs to it.", None, "200"),
        },
    }
    for link in entity.links:
        if link.many and link.writable:
            to = target(link)
            found[f"{one}/{link.name}"] = {
                "parameters": id_,
                "post": _operation(
                    f"{entity.name}.{link.name}.create",
                    f"Create a {to.name} that belongs here.",
                    {_JSON: {"schema": _ref(to)}},
                    "201",
                ),
            }
    return found


def further_paths() -> dict[str, Json]:
    """Many things in one request."""
    arrays = {
        "type": "array",
        "maxItems": 1000,
        "items": {
            "type": "object",
            "properties": {
                "Datastream": _reference(False),
                "components": {"type": "array", "items": {"type": "string"}},
                "dataArray": {"type": "array", "items": {"type": "array"}},
            },
            "required": ["Datastream", "components", "dataArray"],
        },
    }
    requests = {
        "type": "object",
        "properties": {
            "requests": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "method": {"enum": ["get", "post", "patch", "put", "delete"]},
                        "url": {"type": "string"},
                        "body": {"type": "object"},
                        "atomicityGroup": {"type": "string"},
                    },
                    "required": ["id", "method", "url"],
                },
            }
        },
        "required": ["requests"],
    }
    return {
        "/CreateObservations": {
            "post": _operation(
                "CreateObservations",
                "Many observations; each is answered.",
                {_JSON: {"schema": arrays}},
                "201",
            )
        },
        "/$batch": {
            "post": _operation("batch", "Several requests in one.", {_JSON: {"schema": requests}}, "200")
        },
    }


def _operation(name: str, words: str, content: Json | None, good: str) -> Json:
    found: Json = {
        "operationId": name,
        "summary": words,
        "security": [{"token": []}],
        "responses": {
            good: {"description": words},
            "204": {"description": "Done; Prefer: return=minimal was asked for."},
            **{code: {"$ref": f"#/components/responses/{code}"} for code in _REFUSALS},
        },
    }
    if content:
        found["requestBody"] = {"required": True, "content": content}
    return found


def _ref(entity: Entity) -> Json:
    return {"$ref": f"#/components/schemas/{entity.name}ToWrite"}


def _body(entity: Entity) -> Json:
    properties: Json = {}
    required = []
    for one in entity.properties:
        if one.writable and one.kind != "id":
            properties[one.name] = _property(one)
            if one.mandatory:
                required.append(one.name)
    for link in entity.links:
        if link.writable:
            properties[link.name] = _link(link)
            if link.mandatory:
                required.append(link.name)
    return {
        "type": "object",
        "description": f"A {entity.name} as it is sent; posted below what it belongs to, it needs no link to that.",
        "properties": properties,
        "required": required,
    }


def _property(one: Property) -> Json:
    schema = dict(_OF_KIND[one.kind])
    if one.words:
        schema["description"] = one.words
    return schema


def _link(link: Link) -> Json:
    other = _reference(target(link).id_is_text)
    either = {"anyOf": [other, {"type": "object", "description": f"A new {target(link).name}."}]}
    return {"type": "array", "items": either, "maxItems": 20} if link.many else either


def _reference(text: bool) -> Json:
    """What is there already."""
    return {
        "type": "object",
        "properties": {"@iot.id": {"type": "string"} if text else {"type": "integer", "minimum": 1}},
        "required": ["@iot.id"],
    }
