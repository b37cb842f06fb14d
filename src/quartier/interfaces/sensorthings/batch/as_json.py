"""A batch as JSON (OData 4.01, FROST)."""

from __future__ import annotations

import re
from typing import Any

import orjson

from quartier.interfaces.sensorthings.answers import Refusal
from quartier.interfaces.sensorthings.batch.items import METHODS, MOST_REQUESTS, Done, Item
from quartier.interfaces.sensorthings.write import values
from quartier.interfaces.sensorthings.write.problems import BadField, below
from quartier.interfaces.sensorthings.write.service import Answer


def read(posted: Any) -> list[Item]:
    """The requests of a JSON batch. Raises BadField."""
    if not isinstance(posted, dict) or not isinstance(posted.get("requests"), list):
        raise BadField("requests", 'is missing: expected {"requests": […]}')
    requests = posted["requests"]
    if len(requests) > MOST_REQUESTS:
        raise Refusal(
            413, f"at most {MOST_REQUESTS} requests in a batch, found {len(requests)}; use CreateObservations"
        )
    items: list[Item] = []
    seen: set[str] = set()
    groups: list[str] = []
    for n, one in enumerate(requests):
        item = _item(one, below("requests", n))
        if item.id in seen:
            raise BadField(below(item.at, "id"), f"{item.id!r} is given twice")
        if item.group:
            if item.group in groups and groups[-1] != item.group:
                raise BadField(
                    below(item.at, "atomicityGroup"),
                    f"the requests of {item.group!r} do not follow each other",
                )
            if item.group not in groups:
                groups.append(item.group)
        elif groups and groups[-1]:
            groups.append("")
        for other in item.depends_on:
            if other not in seen and other not in groups:
                raise BadField(below(item.at, "dependsOn"), f"{other[:60]!r} is no earlier request")
        seen.add(item.id)
        items.append(item)
    return items


def _item(one: Any, at: str) -> Item:
    if not isinstance(one, dict):
        raise BadField(at, f"expected an object, found {values.kind_of(one)}")
    id_ = one.get("id")
    if isinstance(id_, int) and not isinstance(id_, bool):
        id_ = str(id_)
    if not isinstance(id_, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", id_):
        raise BadField(below(at, "id"), "expected 1 to 100 letters, digits, '.', '-' or '_'")
    method = one.get("method")
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise BadField(below(at, "method"), f"expected one of {', '.join(METHODS)}")
    url = one.get("url")
    if not isinstance(url, str) or not url or len(url) > 8000:
        raise BadField(below(at, "url"), "expected an address")
    group = one.get("atomicityGroup") or ""
    depends = one.get("dependsOn") or []
    if not isinstance(group, str) or len(group) > 100:
        raise BadField(below(at, "atomicityGroup"), "expected a name")
    if (
        not isinstance(depends, list)
        or not all(isinstance(other, str) for other in depends)
        or len(depends) > 1000
    ):
        raise BadField(below(at, "dependsOn"), "expected a list of ids of requests")
    headers = one.get("headers") or {}
    if not isinstance(headers, dict):
        raise BadField(below(at, "headers"), f"expected an object, found {values.kind_of(headers)}")
    named = {str(name).lower(): str(value)[:1000] for name, value in headers.items()}
    return Item(id_, method.upper(), url, named, one.get("body"), group, tuple(depends), at)


def write(done: list[Done]) -> Answer:
    """The answer of a JSON batch."""
    responses = []
    for one in done:
        found: dict[str, Any] = {"id": one.item.id, "status": one.answer.status}
        if one.item.group:
            found["atomicityGroup"] = one.item.group
        if one.answer.headers:
            found["headers"] = one.answer.headers
        if (location := one.answer.headers.get("location")) is not None:
            found["location"] = location
        if one.answer.body:
            kind = one.answer.headers.get("content-type", "application/json")
            found["body"] = orjson.Fragment(one.answer.body) if "json" in kind else one.answer.body.decode()
        responses.append(found)
    return Answer(200, {"content-type": "application/json"}, orjson.dumps({"responses": responses}))
