"""The newest observation of a topic that asks for retained messages: what a newcomer is shown at once."""

from __future__ import annotations

from dataclasses import replace

import orjson

from quartier.interfaces.sensorthings.compile.statement import plan
from quartier.interfaces.sensorthings.following.query import Query
from quartier.interfaces.sensorthings.mqtt.topics import Topic
from quartier.interfaces.sensorthings.query.ast import Order, Path, Request
from quartier.interfaces.sensorthings.read import Asked, Reader


async def newest(reader: Reader, topic: Topic, query: Query) -> bytes | None:
    """The newest matching observation as JSON; None where there is none, or where the topic names a single one."""
    resource, options = topic.parsed()
    if query.moment is not None:
        return None
    latest = replace(options, top=1, orderby=(Order(Path(("phenomenonTime",)), descending=True),))
    asked = Asked(resource, latest, None, query.eyes, topic.base, plan(Request(resource, latest), query.eyes))
    answer = await reader.collection(asked)
    found = orjson.loads(answer)["value"]
    return orjson.dumps(found[0]) if found else None
