"""The shape of the facts in :mod:`.model`: entity types, their properties and links, with the SQL that reads them.

SQL is a template: ``{a}`` is the alias of the entity's first table and, followed by an underscore and a suffix, that of
a table which the entity joins only where some expression names it. Links say what makes ``{c}`` a target of ``{p}``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["id", "text", "number", "boolean", "instant", "period", "json", "geometry", "result"]

# Says of the alias of a twin_thing whether the caller may see it: an SQL condition, or "" where he sees all.
SeesThing = Callable[[str], str]
Visible = Callable[[str, SeesThing], str]


def instant_json(sql: str) -> str:
    """SQL for a JSON text of a time, as short as it can be written; faster than ``to_char``."""
    return f"left(to_json(({sql}) AT TIME ZONE 'UTC')::text, -1) || 'Z\"'"


def text_json(sql: str) -> str:
    """SQL for a JSON text of a text."""
    return f"to_json({sql})::text"


def _plain_json(sql: str) -> str:
    return f"({sql})::text"


_JSON_OF: dict[Kind, Callable[[str], str]] = {
    "id": _plain_json,
    "text": text_json,
    "number": _plain_json,
    "boolean": _plain_json,
    "instant": instant_json,
    "json": _plain_json,
    "geometry": _plain_json,
}


@dataclass(frozen=True, slots=True)
class Property:
    """One property of an entity type.

    ``sql`` is its typed value (``period``: the start, ``end`` the end; ``geometry``: GeoJSON, ``box`` its box;
    ``result``: the number, ``other`` the JSON). ``column`` is where a posted value goes, if it has a column of its own
    kind in the entity's table.
    """

    name: str
    kind: Kind
    sql: str
    json: str = ""
    end: str = ""
    box: str = ""
    other: str = ""
    column: str = ""
    mandatory: bool = False
    writable: bool = True
    nullable: bool = True
    # A property without a value is left out of the answer, or is null there.
    shown_when_null: bool = False
    # SQL that is false where there is surely no value; asked once for several properties in a row.
    when: str = ""
    words: str = ""

    @property
    def json_sql(self) -> str:
        """SQL for the value as JSON text; NULL where there is none."""
        if self.json:
            return self.json
        if self.kind == "period":
            return f"'\"' || {_bare(self.sql)} || '/' || {_bare(self.end)} || '\"'"
        return _JSON_OF[self.kind](self.sql)


def _bare(sql: str) -> str:
    """A time without quotes."""
    return f"trim('\"' FROM to_json(({sql}) AT TIME ZONE 'UTC')::text) || 'Z'"


@dataclass(frozen=True, slots=True)
class Link:
    """A navigation property.

    ``condition`` names ``{p}``, the entity that has the link, and ``{c}``, the target. ``column`` is the foreign key of
    a single target in the entity's own table, ``table`` a table of pairs ``(table, own column, target's column)``.
    """

    name: str
    target: str
    many: bool
    condition: str
    column: str = ""
    table: tuple[str, str, str] | None = None
    mandatory: bool = False
    writable: bool = True
    # Too many bytes on every row of a list: named where one entity is read, and always expandable.
    rare: bool = False
    # SQL that says whether {p} has this single link at all; empty: always.
    shown: str = ""
    # Both ends belong to one thing: who sees the one sees the other.
    same_thing: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity type. ``key`` are the SQL expressions (with their types) that order it completely."""

    name: str
    set: str
    table: str
    source: str
    properties: tuple[Property, ...]
    links: tuple[Link, ...]
    visible: Visible
    joins: tuple[tuple[str, str], ...] = ()
    condition: str = ""
    municipality: str = "{a}.municipality_id"
    key: tuple[tuple[str, str], ...] = (("{a}.id", "bigint"),)
    id_is_text: bool = False
    requirement: str = ""
    words: str = ""
    by_name: dict[str, Property] = field(init=False, repr=False, compare=False)
    link_by_name: dict[str, Link] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {one.name: one for one in self.properties})
        object.__setattr__(self, "link_by_name", {one.name: one for one in self.links})

    def find_property(self, name: str | int) -> Property | None:
        """The property called ``name``; ``@iot.id`` and ``id`` are one."""
        return self.by_name.get("id" if name in ("@iot.id", "id") else str(name))

    def find_link(self, name: str | int) -> Link | None:
        """The link called ``name``."""
        return self.link_by_name.get(str(name))

    @property
    def id(self) -> Property:
        """The identifier."""
        return self.by_name["id"]
