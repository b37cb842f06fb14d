"""Requests that write, answered: alone, each in a transaction of its own, or together in one of a batch.

A single observation takes a short way (:meth:`Writer.quick`): nothing is asked of the store but to record it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from psycopg import AsyncRawCursor

from quartier.cities.rules import NOBODY
from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.answers import Refusal
from quartier.interfaces.sensorthings.compile.context import NotFound
from quartier.interfaces.sensorthings.compile.statement import key_of
from quartier.interfaces.sensorthings.facts import Entity, Link
from quartier.interfaces.sensorthings.model import BY_NAME, BY_SET, target
from quartier.interfaces.sensorthings.query.ast import Resource, Segment
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.format import format_resource
from quartier.interfaces.sensorthings.query.parse import parse_resource
from quartier.interfaces.sensorthings.read import Asked, Reader
from quartier.interfaces.sensorthings.write import (
    arrays,
    body,
    change,
    create,
    delete,
    links,
    observe,
    values,
)
from quartier.interfaces.sensorthings.write.body import Draft, Key, Ref
from quartier.interfaces.sensorthings.write.observe import Intake
from quartier.interfaces.sensorthings.write.problems import BadField
from quartier.interfaces.sensorthings.write.streams import Streams, visible
from quartier.interfaces.sensorthings.write.work import Who, Work, address, transaction

LARGEST_BODY: Final = 6 * 1024 * 1024
JSON_PATCH: Final = "application/json-patch+json"
QUICK: Final = re.compile(r"/?(?:(Multi)?Datastreams\(([0-9]{1,18})\)/)?Observations/?")


@dataclass(slots=True)
class Asking:
    """A request that writes: its path behind the version (decoded), its query, headers (lower case) and body."""

    method: str
    path: str
    query: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def wants_representation(self) -> bool:
        """``Prefer: return=representation`` (RFC 7240)."""
        return "return=representation" in self.headers.get("prefer", "").replace(" ", "")


@dataclass(slots=True)
class Answer:
    """An answer; ``made`` is the path of what was made, for others of the same batch."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    made: str = ""


def json_of(text: bytes) -> Any:
    """The JSON of a body. Raises Refusal."""
    if len(text) > LARGEST_BODY:
        raise Refusal(413, f"at most {LARGEST_BODY} bytes are taken in one request")
    if not text.strip():
        raise Refusal(400, "the body is empty; JSON is expected")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is no JSON: {str(error)[:150]}") from None


class Writer:
    """Writes for one process: with its recorder, and what it remembers."""

    def __init__(self, pool: Pool, reader: Reader) -> None:
        self.pool = pool
        self.reader = reader
        self.intake = Intake(pool)
        self.streams = Streams()

    async def close(self) -> None:
        """Record what waits."""
        await self.intake.close()

    async def answer(self, asking: Asking, who: Who) -> Answer:
        """Carry a request out. Raises Refusal, QueryError, NotFound and NotAllowed."""
        if who.actor is NOBODY:
            raise Refusal(401, "writing needs a token: send it as Authorization: Bearer qt_…")
        if asking.method == "POST":
            if (quick := await self.quick(asking, who)) is not None:
                return quick
            if _is_arrays(asking):
                found = await arrays.Import(self.pool, who, self.streams, self.intake).create(asking.body)
                return Answer(201, {}, orjson.dumps(found))
        async with transaction(self.pool, who, self.intake, self.streams) as work:
            given = await self.within(work, asking)
        if asking.wants_representation and given.made:
            given.body = await self._represented(who, given.made)
        return given

    # -- one observation

    async def quick(self, asking: Asking, who: Who) -> Answer | None:
        """Record a plain observation; None for a request that is anything more."""
        found = QUICK.fullmatch(asking.path)
        posted = asking.body
        if found is None or not isinstance(posted, dict):
            return None
        at = _stream_named(found, posted)
        if at is None:
            return None
        multi, key = at
        checked = await self._plain(who, posted)
        if checked is None:
            return None
        stream = await arrays.find(self.pool, who, self.streams, multi=multi, key=key)
        if stream is None:
            message = f"there is no {'Multi' if multi else ''}Datastreams({key})"
            raise NotFound(message) if found[2] else BadField("Datastream", message)
        rows = observe.rows_of(stream, checked, "")
        if "featureOfInterest" in checked:
            await self.intake.know_features({(checked["featureOfInterest"], rows[0].series_id)})
        parts = stream.parts
        checks = (
            parts
            if len(parts) == len(rows)
            else [one for one in parts if one.id in {r.series_id for r in rows}]
        )
        await self.intake.take(rows, checks)
        made = f"Observations('{observe.id_of(rows[0].series_id, rows[0].time)}')"
        given = Answer(201, {"location": f"{who.base}/{made}"}, made=made)
        if asking.wants_representation:
            given.body = await self._represented(who, made)
        return given

    async def _plain(self, who: Who, posted: dict[str, Any]) -> dict[str, Any] | None:
        """The checked values of a body that holds nothing but an observation; None if there is more in it."""
        checked: dict[str, Any] = {}
        for name, value in posted.items():
            if name == "result":
                checked[name] = value
            elif name == "phenomenonTime":
                if value is not None:
                    checked[name] = values.period(value, name)
            elif name == "resultTime":
                checked[name] = None if value is None else values.instant(value, name)
            elif name == "FeatureOfInterest":
                if not isinstance(value, dict) or not {"@iot.id", "id"} & value.keys():
                    return None
                key = body.key(BY_NAME[name], value.get("@iot.id", value.get("id")), name)
                assert isinstance(key, int)  # noqa: S101
                async with self.pool.connection() as connection:
                    if not await visible(connection, who.eyes, BY_NAME[name], key):
                        raise BadField(name, f"there is no FeaturesOfInterest({key})")
                checked["featureOfInterest"] = key
            elif name not in ("Datastream", "MultiDatastream"):
                return None
        if checked.get("result") is None:
            return None
        if "phenomenonTime" not in checked:
            checked["phenomenonTime"] = (datetime.now(UTC), None)
        return checked

    # -- everything else

    async def within(self, work: Work, asking: Asking) -> Answer:
        """Carry a request out in a transaction. Raises Refusal, QueryError, NotFound and NotAllowed."""
        resource = parse_resource(asking.path)
        if not resource.segments:
            raise Refusal(405, "nothing can be written here; post to an entity set", {"allow": "GET"})
        if resource.suffix not in (None, "$ref"):
            raise Refusal(405, f"{resource.suffix} cannot be written", {"allow": "GET"})
        if asking.query and asking.method != "DELETE":
            raise QueryError("takes no query options", option=asking.method)
        match asking.method:
            case "POST":
                return await self._post(work, resource, asking)
            case "PATCH" | "PUT":
                return await self._change(work, resource, asking)
            case _:
                return await self._delete(work, resource, asking)

    async def _post(self, work: Work, resource: Resource, asking: Asking) -> Answer:
        last = resource.segments[-1]
        if last.key is not None or last.indices:
            raise Refusal(
                405, "POST to the set, without an id; PATCH changes an entity", {"allow": "GET, PATCH, PUT"}
            )
        if len(resource.segments) == 1:
            entity = BY_SET.get(last.name)
            if entity is None:
                raise NotFound(f"there is no entity set {last.name[:60]!r}; there are {', '.join(BY_SET)}")
            key = await create.create(work, body.read(entity, asking.body))
        else:
            parent, parent_key = await self._find(work, resource.segments[:-1])
            link = _link(parent, last)
            if resource.suffix == "$ref":
                return await self._refer(work, (parent, parent_key), link, asking.body)
            if not link.many:
                raise Refusal(
                    405, f"{link.name} is one entity; PATCH changes it", {"allow": "GET, PATCH, PUT"}
                )
            entity = target(link)
            key = await self._add(work, (parent, parent_key), link, asking.body)
        made = address(entity, key)
        if entity.name != "Observation":
            await work.audit(
                "sensorthings.create", made, await work.municipality_of(entity, key), entities=len(work.made)
            )
        return Answer(201, {"location": f"{work.who.base}/{made}"}, made=made)

    async def _add(self, work: Work, owner: tuple[Entity, Key], link: Link, posted: Any) -> Key:
        """A new entity through a link: it belongs to what the link leads away from."""
        parent, parent_key = owner
        entity = target(link)
        back = links.back_of(parent, link)
        if back is not None and not back.many:
            draft = body.read(entity, posted, given=frozenset({back.name}))
            return await create.create(work, draft, {back.name: parent_key})
        draft = body.read(entity, posted)
        key = await create.create(work, draft, None, await work.municipality_of(parent, parent_key))
        await links.connect(work, parent, parent_key, link, Ref(entity, key, ""))
        return key

    async def _refer(self, work: Work, owner: tuple[Entity, Key], link: Link, posted: Any) -> Answer:
        if not isinstance(posted, dict) or "@iot.id" not in posted:
            raise BadField("@iot.id", "is missing: give the id of what to link to")
        ref = Ref(target(link), body.key(target(link), posted["@iot.id"], "@iot.id"), "@iot.id")
        await work.see(ref)
        if link.many:
            await links.connect(work, *owner, link, ref)
        else:
            await links.set_single(work, *owner, link, ref)
        await work.audit(
            "sensorthings.change", address(*owner), await work.municipality_of(*owner), changed=[link.name]
        )
        return Answer(204)

    async def _change(self, work: Work, resource: Resource, asking: Asking) -> Answer:
        entity, key = await self._find(work, resource.segments)
        posted = asking.body
        if (
            asking.method == "PATCH"
            and asking.headers.get("content-type", "").partition(";")[0].strip() == JSON_PATCH
        ):
            path = f"{address(entity, key)}"
            current = await self._row(work, path, b"$resultMetadata=none")
            posted = change.patched(orjson.loads(current), posted)
            posted = {name: value for name, value in posted.items() if name not in _computed(entity)}
        if await self._says_what_is(work, entity, key, asking.method, posted):
            return Answer(200, {}, made=address(entity, key))
        draft: Draft = body.read(entity, posted, "merge" if asking.method == "PATCH" else "replace")
        await change.change(work, entity, key, draft, "merge" if asking.method == "PATCH" else "replace")
        return Answer(200, {}, made=address(entity, key))

    async def _says_what_is(self, work: Work, entity: Entity, key: Key, method: str, posted: Any) -> bool:
        """Whether a PATCH of an ObservedProperty changes nothing.

        They are shared, and programs that keep two services alike PATCH each that they find by its name. That they may
        not change it would stop them where nothing is to be changed.
        """
        if method != "PATCH" or entity.name != "ObservedProperty" or not isinstance(posted, dict):
            return False
        current = orjson.loads(await self._row(work, address(entity, key), b"$resultMetadata=none"))
        return all(name in current and current[name] == value for name, value in posted.items())

    async def _delete(self, work: Work, resource: Resource, asking: Asking) -> Answer:
        last = resource.segments[-1]
        single = last.key is not None or (
            len(resource.segments) > 1 and not (await self._last_link(work, resource)).many
        )
        if single:
            if asking.query:
                raise QueryError("takes no query options for one entity", option="DELETE")
            entity, key = await self._find(work, resource.segments)
            await delete.delete(work, entity, [key])
            return Answer(200)
        if len(resource.segments) == 1 and b"filter=" not in asking.query:
            raise QueryError("deleting from a whole set needs a $filter", option="$filter")
        entity, keys = await self._matching(work, resource, asking.query)
        await delete.delete(work, entity, keys)
        return Answer(200, {}, orjson.dumps({"deleted": len(keys)}))

    async def _last_link(self, work: Work, resource: Resource) -> Link:
        parent, _ = await self._find(work, resource.segments[:-1])
        return _link(parent, resource.segments[-1])

    async def _matching(self, work: Work, resource: Resource, query: bytes) -> tuple[Entity, list[Key]]:
        """The keys of what a filtered DELETE means."""
        for part in query.split(b"&"):
            if part and part.partition(b"=")[0].lower() not in (b"$filter", b"%24filter"):
                raise QueryError("only $filter says what to delete", option="DELETE")
        most = delete.MOST_AT_ONCE
        asked = self._asked(
            work, format_resource(resource), query + b"&$select=id&$resultMetadata=none&$top=%d" % (most + 1)
        )
        found: list[Key] = []
        async with AsyncRawCursor(work.connection) as cursor:
            statement = asked.plan.main
            if statement.regions:
                raise QueryError(
                    "cannot ask for geometries when deleting; ask for the ids first", option="$filter"
                )
            await cursor.execute(statement.sql, asked.parameters(statement))
            async for row in cursor:
                found.append(body.key(asked.plan.entity, orjson.loads(row[0])["@iot.id"], ""))
        if len(found) > most:
            raise Refusal(400, f"more than {most} entities match; narrow the $filter and delete in pieces")
        return asked.plan.entity, found

    # -- finding

    async def _find(self, work: Work, segments: tuple[Segment, ...]) -> tuple[Entity, Key]:
        """The entity that a path leads to. Raises NotFound."""
        if len(segments) == 1:
            entity = BY_SET.get(segments[0].name)
            if entity is None:
                raise NotFound(
                    f"there is no entity set {segments[0].name[:60]!r}; there are {', '.join(BY_SET)}"
                )
            if segments[0].key is None:
                raise Refusal(405, f"write an id behind it: {entity.set}(1)", {"allow": "GET, POST"})
            parts = key_of(segments[0])
            key: Key = int(parts[0])
            if entity.id_is_text:
                key = (int(parts[0]), datetime.fromisoformat(parts[1]))
            if (entity.name, key) in work.made or await visible(work.connection, work.who.eyes, entity, key):
                return entity, key
            raise NotFound(f"there is no {address(entity, key)}")
        path = format_resource(Resource(segments))
        asked = self._asked(work, path, b"")
        if asked.plan.kind == "property":
            message = f"{segments[-1].name} is changed by PATCH of its {asked.plan.entity.name}"
            raise Refusal(405, message, {"allow": "GET"})
        if asked.plan.kind != "entity":
            raise Refusal(405, f"{path} is a set; write an id behind it", {"allow": "GET, POST"})
        found = orjson.loads(await self._row(work, path, b"$select=id&$resultMetadata=none"))
        return asked.plan.entity, body.key(asked.plan.entity, found["@iot.id"], "")

    def _asked(self, work: Work, path: str, query: bytes) -> Asked:
        asked = self.reader.understand(path, query, work.who.eyes, work.who.base, stream=True)
        return asked

    async def _row(self, work: Work, path: str, query: bytes) -> Any:
        """The JSON of one entity, as it is within the transaction."""
        asked = self._asked(work, path, query)
        async with AsyncRawCursor(work.connection) as cursor:
            await cursor.execute(asked.plan.main.sql, asked.parameters(asked.plan.main))
            row = await cursor.fetchone()
        if row is None:
            raise NotFound(f"there is no {path}")
        return row[0]

    async def _represented(self, who: Who, path: str) -> bytes:
        return await self.reader.entity(self.reader.understand(path, b"", who.eyes, who.base))


def _link(parent: Entity, segment: Segment) -> Link:
    link = parent.find_link(segment.name)
    if link is None:
        if parent.find_property(segment.name) is not None:
            raise Refusal(405, f"{segment.name} is changed by PATCH of its {parent.name}", {"allow": "GET"})
        raise NotFound(f"{parent.name} has no {segment.name[:60]!r}; it has {', '.join(parent.link_by_name)}")
    return link


def _computed(entity: Entity) -> set[str]:
    return {one.name for one in entity.properties if not one.writable} | {"@iot.id"}


def _is_arrays(asking: Asking) -> bool:
    path = asking.path.strip("/")
    if path == "CreateObservations":
        return True
    return path == "Observations" and isinstance(asking.body, list)


def _stream_named(found: re.Match[str], posted: dict[str, Any]) -> tuple[bool, int] | None:
    """Which stream an observation is for: by the path, or by a plain link in the body."""
    if found[2]:
        return (
            (bool(found[1]), int(found[2])) if not {"Datastream", "MultiDatastream"} & posted.keys() else None
        )
    named = [name for name in ("Datastream", "MultiDatastream") if name in posted]
    if len(named) != 1:
        return None
    link = posted[named[0]]
    if not isinstance(link, dict):
        return None
    key = link.get("@iot.id", link.get("id"))
    if type(key) is not int or not 0 <= key < 1 << 63:
        return None
    return named[0] == "MultiDatastream", key
