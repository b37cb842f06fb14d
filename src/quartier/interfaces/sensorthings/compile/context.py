"""What is shared while one statement is put together: its parameters, aliases, and whose eyes it is read with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.query.errors import QueryError

# How many tables and subqueries one statement may name: planning takes time, too.
_MOST_SCOPES = 120


class NotFound(Exception):
    """There is no such resource (or the caller may not see it); the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Eyes:
    """What a caller may see.

    ``things`` is a condition on a row of ``twin_thing`` as SQL, with ``{t}`` for its alias and ``{0}``, ``{1}`` … for
    ``parameters`` (texts with their SQL types); empty where everything is seen. ``municipality_id`` limits an endpoint
    to one city. Two callers with equal eyes share compiled statements.
    """

    things: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    municipality_id: int | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A question about geometries that is answered before the statement: which rows of ``entity`` are meant.

    ``index`` is the parameter that takes their ids; ``relation`` and what follows is for :mod:`.geometry`.
    """

    index: int
    entity: Entity
    property: Property
    relation: str
    wkt: str
    pattern: str = ""
    distance: float = 0.0
    swapped: bool = False


@dataclass(slots=True)
class Context:
    """One statement in the making. Parameters are texts and are cast in the statement, so that its types are fixed."""

    eyes: Eyes
    parameters: list[str | None] = field(default_factory=list)
    # Which parameter is which value of the path (number of the segment, part of its key): compiled once, used for all.
    keys: list[tuple[int, int, int]] = field(default_factory=list)
    # Which parameter is which value of the token.
    places: list[tuple[int, int]] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    # Which parameter is a bound on the time of observations, and whether they come newest first.
    window: int = -1
    down: bool = False
    scopes: int = 0
    option: str = ""
    _base: int = 0
    _eyes: list[str] = field(default_factory=list)
    _city: str = ""

    def bind(self, value: str | None, type_: str) -> str:
        """SQL for a parameter."""
        self.parameters.append(value)
        return f"${len(self.parameters)}::{type_}"

    def bind_key(self, value: str, type_: str, segment: int, part: int = 0) -> str:
        """SQL for a parameter that is (a part of) the key of a segment of the path."""
        sql = self.bind(value, type_)
        self.keys.append((len(self.parameters) - 1, segment, part))
        return sql

    @property
    def base(self) -> str:
        """SQL for the address of the service, such as ``https://example.org/sensorthings/v1.1``."""
        if not self._base:
            self.parameters.append(None)
            self._base = len(self.parameters)
        return f"${self._base}::text"

    @property
    def base_index(self) -> int | None:
        """Which parameter takes the address of the service."""
        return self._base - 1 if self._base else None

    def sees(self, alias: str) -> str:
        """The condition that the caller may see the thing ``alias``; empty if he sees all."""
        if not self.eyes.things:
            return ""
        if not self._eyes:
            self._eyes = [self.bind(text, type_) for text, type_ in self.eyes.parameters] or [""]
        sql = self.eyes.things.replace("{t}", alias)
        for number, parameter in enumerate(self._eyes):
            sql = sql.replace(f"{{{number}}}", parameter)
        return f"({sql})"

    def city(self) -> str:
        """The municipality of the endpoint, as a parameter; empty for the joint one."""
        if self.eyes.municipality_id is None:
            return ""
        self._city = self._city or self.bind(str(self.eyes.municipality_id), "smallint")
        return self._city

    def scope(self, entity: Entity) -> Scope:
        """A new table (group) of the statement."""
        self.scopes += 1
        if self.scopes > _MOST_SCOPES:
            raise self.error(f"more than {_MOST_SCOPES} entity sets are touched at once")
        return Scope(self, entity, f"a{self.scopes}")

    def error(self, reason: str, at: int | None = None) -> QueryError:
        """What is wrong in the option that is being compiled."""
        return QueryError(reason, option=self.option, at=at)


@dataclass(slots=True)
class Scope:
    """One entity set in a statement, under an alias, with the targets of single links that are joined to it."""

    context: Context
    entity: Entity
    alias: str
    linked: dict[str, Scope] = field(default_factory=dict)
    # Links to many whose current target stands in a surrounding EXISTS.
    within: dict[str, Scope] = field(default_factory=dict)
    # Set where the scope is that of one known datastream: its observations are told apart by time alone.
    one_series: bool = False
    # Observations: the rows of each series as a subquery (see ``series``).
    rows: str = ""
    # Joined from outside: there may be no row.
    outer: bool = False

    def sql(self, template: str) -> str:
        """A template of the facts for this alias."""
        return template.replace("{a}", self.alias)

    def follow(self, link: Link, parent: Scope) -> str:
        """The condition that this scope's row is a target of ``parent``'s row."""
        return link.condition.replace("{p}", parent.alias).replace("{c}", self.alias)

    def conditions(self, link: Link | None = None) -> list[str]:
        """What makes rows of the source entities that the caller may see; ``link`` is how they were reached."""
        found = [self.sql(self.entity.condition)] if self.entity.condition else []
        if link is not None and link.same_thing:
            return found
        if visible := self.entity.visible(self.alias, self.context.sees):
            found.append(visible)
        if self.entity.municipality and (city := self.context.city()):
            found.append(f"{self.sql(self.entity.municipality)} = {city}")
        return found

    def join(self, link: Link) -> Scope:
        """The target of a single link, joined once."""
        from quartier.interfaces.sensorthings.model import target  # noqa: PLC0415

        if link.name not in self.linked:
            self.linked[link.name] = self.context.scope(target(link))
            self.linked[link.name].outer = True
        return self.linked[link.name]

    def source(self, *parts: str) -> str:
        """FROM item with all joins that ``parts`` and the conditions need."""
        conditions: dict[str, str] = {}
        text = " ".join(parts)
        # Inner first: what a linked scope needs of this one stands in its ON condition.
        nested = []
        for name, scope in self.linked.items():
            link = self.entity.link_by_name[name]
            on = " AND ".join([scope.follow(link, self), *scope.conditions()])
            conditions[name] = on
            nested.append((scope, on))
        text += " ".join(on for _, on in nested)
        own = self._joined(text)
        for scope, on in nested:
            inner = scope.source(*parts, on)
            own += f" LEFT JOIN ({inner}) ON {on}" if " JOIN " in inner else f" LEFT JOIN {inner} ON {on}"
        return own

    def _joined(self, text: str) -> str:
        used = set(re.findall(rf"\b{self.alias}_([a-z]+)", text + self.rows))
        joins = "".join(f" {self.sql(join)}" for suffix, join in self.entity.joins if suffix in used)
        if self.rows:
            return f"twin_series {self.alias}_s{joins} CROSS JOIN LATERAL ({self.rows}) {self.alias}"
        return self.sql(self.entity.source) + joins


def select(
    scopes: Sequence[Scope],
    columns: Sequence[str],
    where: Sequence[str],
    *,
    order: str = "",
    limit: str = "",
    distinct: bool = False,
    extra: Sequence[str] = (),
) -> str:
    """A SELECT over some scopes, with the joins that its parts need."""
    tail = (f" WHERE {' AND '.join(where)}" if where else "") + (f" ORDER BY {order}" if order else "")
    parts = [*columns, tail]
    sources = ", ".join([*extra, *(scope.source(*parts) for scope in scopes)])
    head = "SELECT DISTINCT " if distinct else "SELECT "
    return f"{head}{', '.join(columns)} FROM {sources}{tail}{limit}"
