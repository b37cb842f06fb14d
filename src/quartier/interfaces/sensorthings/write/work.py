"""One transaction of writing: its connection, on whose behalf, what it made, and what follows when it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import psycopg
from django.apps import apps
from django.db import models
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from quartier.cities.rules import Actor, NotAllowed
from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.answers import Refusal
from quartier.interfaces.sensorthings.compile.context import Eyes
from quartier.interfaces.sensorthings.facts import Entity
from quartier.interfaces.sensorthings.write import rights, streams
from quartier.interfaces.sensorthings.write.body import Key, Ref
from quartier.interfaces.sensorthings.write.observe import Intake, id_of
from quartier.interfaces.sensorthings.write.problems import BadField, Conflict
from quartier.interfaces.sensorthings.write.streams import Series, Stream, Streams
from quartier.twin.record import Observation

_NAMES_LOCK: Final = 0x5175_0040
# Who posts a Datastream says himself what measures it, so that the trigger of imported series need not.
_POSTED: Final = "SELECT set_config('quartier.series_posted', 'yes', true)"


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks, what he sees, and at which endpoint (``city_id`` None: the joint one)."""

    actor: Actor
    eyes: Eyes
    city_id: int | None
    base: str


@dataclass(slots=True)
class Work:
    """What one transaction does."""

    connection: AsyncConnection[TupleRow]
    who: Who
    intake: Intake
    streams: Streams
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    rows: list[Observation] = field(default_factory=list)
    checks: list[Series] = field(default_factory=list)
    features: set[tuple[int, int]] = field(default_factory=set)
    made: set[tuple[str, Key]] = field(default_factory=set)
    # Something was deleted or changed that is remembered elsewhere.
    stale: bool = False

    # -- SQL

    async def run(self, sql: str, parameters: Any = ()) -> int:
        """Execute; returns how many rows were touched."""
        cursor = await self.connection.execute(sql, parameters)
        return cursor.rowcount

    async def row(self, sql: str, parameters: Any = ()) -> TupleRow | None:
        """The first row."""
        return await (await self.connection.execute(sql, parameters)).fetchone()

    async def all(self, sql: str, parameters: Any = ()) -> list[TupleRow]:
        """All rows."""
        return await (await self.connection.execute(sql, parameters)).fetchall()

    async def insert(self, table: str, columns: Mapping[str, Any]) -> int:
        """A new row of a model's table; columns that are not given get the model's defaults. Returns its key."""
        filled = filled_in(table, columns, self.now)
        names = ", ".join(filled)
        marks = ", ".join(["%s"] * len(filled))
        key = model_of(table)._meta.pk.column
        row = await self.row(
            f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING {key}",  # noqa: S608 (names of the model)
            list(filled.values()),
        )
        assert row is not None  # noqa: S101 (RETURNING)
        return int(row[0])

    async def alone_with_names(self) -> None:
        """Until the commit nobody else looks for a free key: two would find the same one."""
        await self.run("SELECT pg_advisory_xact_lock(%s)", [_NAMES_LOCK])

    async def update(self, table: str, key: int, columns: Mapping[str, Any]) -> None:
        """Change columns of a row."""
        if not columns:
            return
        adapted = adapted_to(table, columns)
        sets = ", ".join(f"{name} = %s" for name in adapted)
        where = model_of(table)._meta.pk.column
        await self.run(f"UPDATE {table} SET {sets} WHERE {where} = %s", [*adapted.values(), key])  # noqa: S608

    # -- rights

    async def see(self, ref: Ref) -> None:
        """Refuse a link to what is not there for the caller."""
        if (ref.entity.name, ref.key) not in self.made and not await streams.visible(
            self.connection, self.who.eyes, ref.entity, ref.key
        ):
            raise BadField(ref.at, f"there is no {address(ref.entity, ref.key)}")

    async def require_change(self, entity: Entity, key: Key) -> int | None:
        """Refuse unless the caller may change an entity (that he sees); returns its municipality."""
        if entity.id_is_text:
            assert isinstance(key, tuple)  # noqa: S101
            row = await self.row(
                rights.OWNERS["Datastream"], {"id": key[0], "person": self.who.actor.person_id}
            )
            if row is not None and (entity.name, key) not in self.made:
                owner = self.who.actor.person_id if row[1] else None
                if not rights.may_observe(self.who.actor, row[0], owner):
                    raise NotAllowed(rights.OBSERVE)
            return row[0] if row else None
        found = await self.all(rights.OWNERS[entity.name], {"id": key, "person": self.who.actor.person_id})
        if (entity.name, key) not in self.made:
            for municipality_id, own in found or [(None, False)]:
                if not rights.may_change(self.who.actor, municipality_id, own=bool(own)):
                    raise NotAllowed(rights.WRITE)
        return found[0][0] if found else None

    async def municipality_of(self, entity: Entity, key: Key) -> int | None:
        """Where an entity is."""
        id_ = key[0] if isinstance(key, tuple) else key
        row = await self.row(
            rights.OWNERS["Datastream" if entity.id_is_text else entity.name],
            {"id": id_, "person": self.who.actor.person_id},
        )
        return row[0] if row else None

    async def audit(self, action: str, target: str, municipality_id: int | None, **detail: Any) -> None:
        """One entry of what people did, in the same transaction."""
        actor = self.who.actor
        await self.run(
            "INSERT INTO cities_auditentry (at, actor, person_id, municipality_id, action, target, detail)"
            " VALUES (now(), %s, %s, %s, %s, %s, %s)",
            [actor.name[:200], actor.person_id, municipality_id, action, target[:200], Jsonb(detail)],
        )

    # -- observations

    async def stream(self, entity: Entity, key: int, at: str) -> Stream:
        """The stream that observations go to. Refuses what the caller does not see or may not write to."""
        eyes = self.who.eyes
        new = (entity.name, key) in self.made
        found = await streams.load(self.connection, Eyes() if new else eyes, entity, key)
        if found is None:
            raise BadField(at, f"there is no {address(entity, key)}")
        if not rights.may_observe(self.who.actor, found.municipality_id, found.owner_person_id):
            raise NotAllowed(rights.OBSERVE)
        return found

    async def finish(self) -> None:
        """The last thing in the transaction: record observations, with the locks that this needs."""
        if self.features:
            await self.intake.name_features(self.connection, self.features)
        if self.rows:
            await self.intake.take_within(self.connection, self.rows, self.checks)


@asynccontextmanager
async def transaction(pool: Pool, who: Who, intake: Intake, known: Streams) -> AsyncIterator[Work]:
    """Everything in it happens, or nothing. Raises Refusal for what the store refuses."""
    try:
        async with intake.transactions, pool.connection() as connection, connection.transaction():
            await connection.execute(_POSTED)
            work = Work(connection, who, intake, known)
            yield work
            await work.finish()
    except psycopg.errors.UniqueViolation as error:
        raise Conflict(f"there is such a one already: {_detail(error)}") from None
    except psycopg.errors.ForeignKeyViolation as error:
        raise Conflict(f"something that this refers to has just been deleted: {_detail(error)}") from None
    except psycopg.errors.DeadlockDetected:
        raise Refusal(
            503, "somebody else changed the same at the same time; send it again", {"retry-after": "1"}
        ) from None
    if work.stale:
        known.forget()
        intake.forget()


def _detail(error: psycopg.Error) -> str:
    return (error.diag.message_detail or "").strip()[:200]


def address(entity: Entity, key: Key) -> str:
    """The path of an entity behind the version."""
    if isinstance(key, tuple):
        return f"{entity.set}('{id_of(*key)}')"
    return f"{entity.set}({key})"


# -- what models say of their tables


@cache
def model_of(table: str) -> Any:
    """The model of a table."""
    for model in apps.get_models(include_auto_created=True):
        if model._meta.db_table == table:
            return model
    raise LookupError(table)


@cache
def _fields(table: str) -> dict[str, models.Field[Any, Any]]:
    return {one.column: one for one in model_of(table)._meta.concrete_fields}


def filled_in(table: str, columns: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Columns of a new row, with the defaults of the model, which the table itself does not know."""
    found = adapted_to(table, columns)
    for column, one in _fields(table).items():
        if column in found:
            continue
        if getattr(one, "auto_now", False) or getattr(one, "auto_now_add", False):
            found[column] = now
        elif one.has_default():
            found |= adapted_to(table, {column: one.get_default()})
        elif not one.null and not one.primary_key:
            found[column] = ""
    return found


def adapted_to(table: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Values as PostgreSQL takes them; null where a text column takes none becomes empty."""
    fields = _fields(table)
    found: dict[str, Any] = {}
    for column, value in columns.items():
        one = fields[column]
        if value is not None and isinstance(one, models.JSONField):
            found[column] = Jsonb(value)
        elif value is None and not one.null:
            found[column] = Jsonb(one.get_default()) if isinstance(one, models.JSONField) else ""
        else:
            found[column] = value
    return found


def columns_of(entity: Entity, values: Mapping[str, Any], names: Sequence[str] = ()) -> dict[str, Any]:
    """The columns of an entity's own table for checked values."""
    return {
        one.column: values[one.name]
        for one in entity.properties
        if one.column and one.name in values and one.name not in names
    }
