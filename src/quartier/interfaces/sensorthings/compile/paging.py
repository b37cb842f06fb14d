"""The order of an answer, and where its next page begins: keyset paging for every ordering.

The place where a page ends is the values of its last row's order keys, made unique by the entity's own key. It travels
in ``$skiptoken`` as base64url of a JSON array. A token needs no signature: its values are bound as parameters of their
types, and whatever stands there, a caller sees only what he may see anyway.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, replace
from typing import Final

import orjson

from quartier.interfaces.sensorthings.compile import values
from quartier.interfaces.sensorthings.compile.context import Context, Scope, select
from quartier.interfaces.sensorthings.compile.expressions import evaluate
from quartier.interfaces.sensorthings.compile.paths import ToMany
from quartier.interfaces.sensorthings.model import target
from quartier.interfaces.sensorthings.query.ast import Options, Order, Select
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.format import format_options

_LONGEST_TOKEN: Final = 16_384
# What comes behind every other value of a type in descending order.
_LOWEST: Final = {
    "timestamptz": "'-infinity'",
    "date": "'-infinity'",
    "double precision": "'-Infinity'",
    "bigint": "'-9223372036854775808'",
    "text": "''",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One SQL expression that rows are ordered by."""

    sql: str
    type: str
    descending: bool = False
    nullable: bool = False

    @property
    def order(self) -> str:
        """As it stands in ORDER BY."""
        return f"{self.sql} DESC" if self.descending else self.sql


def keys(context: Context, scope: Scope, orders: tuple[Order, ...]) -> list[Key]:
    """The complete order of the rows of ``scope``. Raises QueryError."""
    found: list[Key] = []
    context.option = "$orderby"
    for order in orders:
        found += _keys_for(context, scope, order)
    descending = found[-1].descending if found else False
    own = [Key(scope.sql(sql), type_, descending) for sql, type_ in scope.entity.key]
    if scope.one_series:
        own = own[-1:]
    known: list[Key] = []
    for key in found + own:
        if all(key.sql != other.sql for other in known):
            known.append(key)
        # What comes behind a unique key orders nothing.
        if len(own) == 1 and key.sql == own[0].sql:
            break
    return known


def _keys_for(context: Context, scope: Scope, order: Order) -> list[Key]:
    try:
        return _keys_of(context, scope, evaluate(context, scope, order.expression, {}), order)
    except ToMany as link:
        return [_outermost(context, scope, order, link)]


def _outermost(context: Context, scope: Scope, order: Order, link: ToMany) -> Key:
    """Of the targets of a link to many, the one counts that comes first in the order: the last time, if it descends."""
    found = link.scope.entity.link_by_name[link.name]
    inner = context.scope(target(found))
    link.scope.within[link.name] = inner
    try:
        made = _keys_for(context, scope, order)
    finally:
        del link.scope.within[link.name]
    key, *further = (replace(one, nullable=True) for one in made)
    # Behind the number of a result stands what it is otherwise, of which nothing is the first.
    if key.type in ("boolean", "jsonb") or any(one.type != "jsonb" for one in further):
        raise context.error(
            f"{link.name} has many targets; one number, text or time has to say which of them is the first",
            order.at,
        )
    aggregate = f"{'max' if key.descending else 'min'}({key.sql})"
    where = [inner.follow(found, link.scope), *inner.conditions(found)]
    sql = f"({select([inner], [aggregate], where)})"
    lowest = _LOWEST.get(key.type)
    if key.descending and lowest is not None:
        # Who asks for the last first wants none without any; PostgreSQL takes nothing to be larger than everything.
        return replace(key, sql=f"coalesce({sql}, {lowest})", nullable=False)
    return replace(key, sql=sql)


def _keys_of(context: Context, scope: Scope, value: values.Value, order: Order) -> list[Key]:
    down, nullable = order.descending, value.nullable
    match value.type:
        case "id" if value.scope is not None and value.scope.entity.id_is_text:
            return [
                Key(value.scope.sql(sql), type_, down, value.scope is not scope)
                for sql, type_ in value.scope.entity.key
            ]
        case "id":
            return [Key(value.sql, "bigint", down, nullable)]
        case "number":
            return [Key(f"({value.sql})::double precision", "double precision", down, nullable)]
        case "result":
            return [Key(value.sql, "double precision", down, True), Key(value.end, "jsonb", down, True)]
        case "json":
            return [Key(value.sql, "jsonb", down, True)]
        case "period" | "instant":
            return [Key(value.sql, "timestamptz", down, nullable)]
        case "boolean":
            # PostgreSQL takes no bare constant for an order.
            return [Key(f"({value.sql})::boolean", "boolean", down, nullable)]
        case "text" | "date" | "time":
            return [Key(value.sql, value.type, down, nullable)]
        case "duration":
            return [Key(value.sql, "interval", down, nullable)]
    raise context.error(f"nothing can be ordered by {values.WORDS[value.type]}", order.at)


def order_sql(found: list[Key]) -> str:
    """ORDER BY."""
    return ", ".join(key.order for key in found)


def token_sql(sign: int, columns: list[str]) -> str:
    """SQL for the token of a row, of which ``columns`` are the keys and ``sign`` the mark of the order."""
    items = ", ".join([str(sign), *(f"{column}::text" for column in columns)])
    array = f"json_build_array({items})::text"
    return f"translate(encode(convert_to({array}, 'UTF8'), 'base64'), E'+/=\\n', '-_')"


def mark(scope: Scope, orders: tuple[Order, ...], select: Select | None = None) -> int:
    """Tells a token of another list or order from one of this; the same within an expanded list and on its own."""
    text = format_options(Options(orderby=orders, select=select))
    return zlib.crc32(f"{scope.entity.name} {scope.one_series} {text}".encode())


def after(context: Context, found: list[Key], token: Token, sign: int) -> list[str]:
    """The conditions that a row comes behind the one of ``token``. Raises QueryError."""
    items = token.items
    if len(items) != len(found) or token.mark != sign:
        raise wrong_place()
    bound: list[str | None] = []
    for number, (key, item) in enumerate(zip(found, items, strict=True)):
        if item is None and not key.nullable:
            raise wrong_place()
        bound.append(None if item is None else context.bind(item, key.type))
        if item is not None:
            context.places.append((len(context.parameters) - 1, number))
    plain = all(not key.nullable for key in found) and all(item is not None for item in bound)
    directions = {key.descending for key in found}
    if plain and len(directions) == 1:
        than = "<" if directions.pop() else ">"
        left = ", ".join(key.sql for key in found)
        right = ", ".join(str(item) for item in bound)
        if len(found) == 1:
            return [f"{left} {than} {right}"]
        # The first key alone narrows what is read, wherever the whole cannot be used for that.
        return [f"{found[0].sql} {than}= {bound[0]}", f"({left}) {than} ({right})"]
    ways: list[str] = []
    same: list[str] = []
    for key, item in zip(found, bound, strict=True):
        if (further := _further(key, item)) is not None:
            ways.append(" AND ".join([*same, further]))
        same.append(f"{key.sql} IS NULL" if item is None else f"{key.sql} = {item}")
    return ["(" + (" OR ".join(f"({way})" for way in ways) or "FALSE") + ")"]


def _further(key: Key, item: str | None) -> str | None:
    """Behind ``item`` in one key. Nothing is larger than everything else, as PostgreSQL sorts it."""
    if item is None:
        return f"{key.sql} IS NOT NULL" if key.descending else None
    if key.descending:
        return f"{key.sql} < {item}"
    return f"({key.sql} > {item} OR {key.sql} IS NULL)" if key.nullable else f"{key.sql} > {item}"


@dataclass(frozen=True, slots=True)
class Token:
    """Where a page ended: the mark of the order, and the values of the keys as texts."""

    mark: int
    items: tuple[str | None, ...]

    @property
    def form(self) -> tuple[bool, ...]:
        """What of it a statement depends on: which values are missing."""
        return tuple(item is None for item in self.items)


def wrong_place() -> QueryError:
    """A token that belongs to another list, or to none."""
    return QueryError("this is no place of this list; begin with its first page", option="$skiptoken")


def read(token: str) -> Token:
    """What a token says. Raises QueryError."""
    if len(token) > _LONGEST_TOKEN or not token.isascii():
        raise wrong_place()
    try:
        items = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        raise wrong_place() from None
    if not isinstance(items, list) or not items or not isinstance(items[0], int):
        raise wrong_place()
    if not all(isinstance(item, str | None) and "\0" not in (item or "") for item in items[1:]):
        raise wrong_place()
    return Token(items[0], tuple(items[1:]))
