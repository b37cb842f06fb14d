"""What has to be known of a Datastream or MultiDatastream to take its observations; remembered for some seconds."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import TupleRow

from quartier.interfaces.sensorthings.compile.context import Context, Eyes, select
from quartier.interfaces.sensorthings.facts import Entity
from quartier.interfaces.sensorthings.model import BY_NAME
from quartier.interfaces.sensorthings.model.datastreams import OM
from quartier.twin.properties import Limits, LimitsError

_REMEMBERED_S: Final = 15.0
_AT_MOST: Final = 50_000
DATASTREAM: Final = BY_NAME["Datastream"]
MULTI_DATASTREAM: Final = BY_NAME["MultiDatastream"]

# How results of an observation type (18-088 table 12) are kept: the twin's type of a series.
RESULT_TYPES: Final = {
    f"{OM}OM_Measurement": "number",
    f"{OM}OM_CountObservation": "count",
    f"{OM}OM_TruthObservation": "bool",
    f"{OM}OM_CategoryObservation": "text",
}


def result_type(observation_type: str) -> str:
    """What the twin calls the results of an observation type; ``json`` is anything."""
    found = RESULT_TYPES.get(observation_type, "json")
    return "number" if found == "count" else found


@dataclass(frozen=True, slots=True)
class Series:
    """One series. ``wants`` is what its results must be; ``limits`` are None where nothing is checked."""

    id: int
    wants: str
    limits: Limits | None


@dataclass(frozen=True, slots=True)
class Stream:
    """A Datastream with its one series, or a MultiDatastream with its components in order."""

    id: int
    multi: bool
    municipality_id: int
    thing_id: int
    owner_person_id: int | None
    parts: tuple[Series, ...]


_PARTS: Final = (
    "SELECT s.id, s.municipality_id, s.thing_id, t.owner_person_id, s.result_type, coalesce(d.observation_type, ''),"
    " s.unit, p.unit, p.result_type, p.limits, p.circular, s.derivation, coalesce(d.position, 0),"
    " m.observation_types FROM twin_series s JOIN twin_thing t ON t.id = s.thing_id"
    " JOIN twin_observedproperty p ON p.id = s.observed_property_id"
    " LEFT JOIN sensorthings_datastream d ON d.series_id = s.id"
    " LEFT JOIN sensorthings_multidatastream m ON m.id = d.multi_id WHERE {} = %s ORDER BY d.position"
)
_PARTS_OF_ONE: Final = _PARTS.format("s.id")
_PARTS_OF_MULTI: Final = _PARTS.format("d.multi_id")


async def visible(connection: AsyncConnection[TupleRow], eyes: Eyes, entity: Entity, key: Any) -> bool:
    """Whether there is such an entity for these eyes."""
    context = Context(eyes)
    scope = context.scope(entity)
    where = scope.conditions()
    if entity.id_is_text:
        where.append(scope.sql(f"{{a}}_s.id = {context.bind(str(key[0]), 'integer')}"))
        where.append(scope.sql(f"{{a}}.time = {context.bind(key[1].isoformat(), 'timestamptz')}"))
    else:
        where.append(f"{scope.sql(entity.id.sql)} = {context.bind(str(key), 'bigint')}")
    statement = select([scope], ["1"], where, limit=" LIMIT 1")
    async with AsyncRawCursor(connection) as cursor:
        await cursor.execute(statement.encode(), context.parameters)
        return await cursor.fetchone() is not None


async def load(connection: AsyncConnection[TupleRow], eyes: Eyes, entity: Entity, id_: int) -> Stream | None:
    """A stream as these eyes see it; None where there is none for them."""
    if id_ >= 1 << 31 and entity is DATASTREAM:
        return None
    if not await visible(connection, eyes, entity, id_):
        return None
    multi = entity is MULTI_DATASTREAM
    cursor = await connection.execute(_PARTS_OF_MULTI if multi else _PARTS_OF_ONE, [id_])
    rows = await cursor.fetchall()
    if not rows:
        return None
    return Stream(id_, multi, rows[0][1], rows[0][2], rows[0][3], tuple(_series(row) for row in rows))


def _series(row: TupleRow) -> Series:
    id_, _, _, _, kept, posted, unit, canonical, checked, limits, circular, derivation, position, types = row
    if types is not None:
        posted = types[position]
    wants = RESULT_TYPES.get(posted, "") if posted else kept
    if posted and not wants:
        wants = "json"
    if derivation:
        wants = "derived"
    elif wants not in ("number", "count", "bool", "text"):
        wants = "json"
    found = None
    # Limits are in the unit of the property; a series posted in another one is not checked.
    if wants in ("number", "count") and checked == "number" and unit == canonical and limits:
        try:
            found = Limits.from_json(limits, unit=canonical, circular=circular)
        except LimitsError:
            found = None
    return Series(id_, wants, found)


class Streams:
    """Remembers streams by the eyes that saw them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Eyes, bool, int], tuple[float, Stream]] = OrderedDict()

    def known(self, eyes: Eyes, multi: bool, id_: int) -> Stream | None:
        """A stream that was looked up a moment ago."""
        found = self._known.get((eyes, multi, id_))
        return found[1] if found is not None and time.monotonic() < found[0] else None

    def remember(self, eyes: Eyes, stream: Stream) -> None:
        """Keep a stream; not all for equally long, or those that were looked up together would be so again."""
        until = time.monotonic() + _REMEMBERED_S * random.uniform(0.6, 1)  # noqa: S311 (no secret)
        self._known[(eyes, stream.multi, stream.id)] = (until, stream)
        while len(self._known) > _AT_MOST:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """Forget all: something that they depend on was changed."""
        self._known.clear()
