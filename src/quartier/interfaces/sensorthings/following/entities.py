"""Entities other than observations that are followed: sets, single ones, and their properties, at any path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.interfaces.sensorthings.compile import geometry
from quartier.interfaces.sensorthings.compile.among import Among, entities_among
from quartier.interfaces.sensorthings.compile.context import Eyes
from quartier.interfaces.sensorthings.query.ast import Options, Request, Resource, Segment
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import OPTION_NAMES
from quartier.interfaces.sensorthings.read import Reader

_REFUSED: Final = ("orderby", "top", "skip", "count", "result_format", "skiptoken", "apply")


@dataclass(frozen=True, slots=True)
class Change:
    """An entity that was made (``columns`` None) or changed."""

    entity: str
    id: int
    columns: frozenset[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class EntityQuery:
    """Entities that somebody follows."""

    segments: tuple[Segment, ...]
    eyes: Eyes
    base: str
    among: Among

    def concerned(self, change: Change) -> bool:
        """Whether a change may be one of what is followed."""
        if change.entity != self.among.entity.name:
            return False
        found = self.among.property
        # Properties without a column of their own may change with any column.
        return found is None or not found.column or change.columns is None or found.column in change.columns


def understand(resource: Resource, options: Options, eyes: Eyes, base: str) -> EntityQuery | None:
    """What is followed; None if observations are. Raises QueryError and NotFound."""
    if not resource.segments:
        raise QueryError("name an entity set", option="path")
    among = entities_among(Request(resource, options), eyes)
    if among is None:
        return None
    for name in _REFUSED:
        if getattr(options, name) not in (None, (), False):
            raise QueryError("cannot be asked of what is still to come", option=OPTION_NAMES[name])
    if resource.suffix is not None:
        raise QueryError(f"{resource.suffix} cannot be followed", option="path")
    return EntityQuery(resource.segments, eyes, base, among)


async def bodies(reader: Reader, query: EntityQuery, ids: list[int]) -> list[bytes]:
    """The JSON of those of some entities that a query means, in the order of their ids."""
    statement = query.among.statement

    async def work(connection: AsyncConnection[TupleRow]) -> list[bytes]:
        parameters = statement.filled(query.base, query.segments)
        for region in statement.regions:
            parameters[region.index] = await geometry.answer(connection, region)
        parameters[0] = "{" + ",".join(map(str, sorted(set(ids)))) + "}"
        cursor = await connection.execute(statement.sql, parameters)
        rows = sorted(await cursor.fetchall(), key=lambda row: row[0])
        return [row[1] or b"null" for row in rows]

    found = await reader.once_more(work)
    if (of := query.among.property) is None:
        return found
    name = orjson.dumps("@iot.id" if of.name == "id" else query.segments[-1].name)
    return [b"{" + name + b":" + value + b"}" for value in found]
