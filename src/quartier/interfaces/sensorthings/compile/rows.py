"""One entity as a JSON object, written by PostgreSQL: its properties, links, and whatever is expanded within it.

Text is put together by ``||`` and ``string_agg``, which takes half the time of PostgreSQL's own JSON builders. A whole
answer with all that is expanded is one statement; the newest observation of a datastream is found by its state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from quartier.interfaces.sensorthings.compile import paging, series
from quartier.interfaces.sensorthings.compile.context import Context, Scope, select
from quartier.interfaces.sensorthings.compile.expressions import condition, conditions
from quartier.interfaces.sensorthings.compile.paths import json_at, unknown
from quartier.interfaces.sensorthings.facts import Link, Property
from quartier.interfaces.sensorthings.model import OBSERVATION, asked_link, target
from quartier.interfaces.sensorthings.query.ast import Expand, Options, Path, ResultMetadata
from quartier.interfaces.sensorthings.query.format import format_options

DEFAULT_TOP: Final = 100
LARGEST_TOP: Final = 10_000
# How many entities one answer may hold at most, if every expanded list were full.
MOST_ENTITIES: Final = 3_000_000


def quoted(text: str) -> str:
    """A constant of our own as SQL."""
    return "'" + text.replace("'", "''") + "'"


class _Object:
    """Puts a JSON object together from members that are always there and members that may be missing."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, bool]] = []

    def add(self, name: str, value: str, *, quote: bool = False) -> None:
        """A member; ``value`` is SQL for its JSON text, or with ``quote`` for a text without anything to escape."""
        head, tail = (f',"{name}":"', "\"'") if quote else (f',"{name}":', "")
        self._parts.append((f"{quoted(head)} || {value}" + (f" || '{tail}" if tail else ""), True))

    def add_if_there(self, name: str, value: str) -> None:
        """A member that is left out where ``value`` is NULL."""
        head = quoted(f',"{name}":')
        self._parts.append((f"coalesce({head} || {value}, '')", False))

    def add_some_if_there(self, when: str, members: list[tuple[str, str]]) -> None:
        """Members that are left out where their values are NULL, and all of them unless ``when`` holds."""
        texts = " || ".join(f"coalesce({quoted(f',"{name}":')} || {value}, '')" for name, value in members)
        self._parts.append((f"CASE WHEN {when} THEN {texts} ELSE '' END", False))

    def add_text(self, sql: str) -> None:
        """Ready members: SQL for a text that begins with a comma, or is empty."""
        self._parts.append((sql, False))

    @property
    def sql(self) -> str:
        """SQL for the object as JSON text."""
        if not self._parts:
            return "'{}'"
        first, always = self._parts[0]
        rest = [sql for sql, _ in self._parts[1:]]
        if always:
            # Its comma becomes the brace.
            return " || ".join(["'{" + first[2:], *rest]) + " || '}'"
        return f"'{{' || substr({' || '.join([first, *rest])}, 2) || '}}'"


def self_link(context: Context, scope: Scope) -> str:
    """SQL for the address of a row's entity."""
    entity, id_ = scope.entity, scope.sql(scope.entity.id.sql)
    before, after = ("('", "')") if entity.id_is_text else ("(", ")")
    return f"{context.base} || {quoted(f'/{entity.set}{before}')} || {id_} || {quoted(after)}"


def object_sql(
    context: Context,
    scope: Scope,
    options: Options,
    metadata: ResultMetadata,
    *,
    alone: bool = False,
    rows: int = 1,
) -> str:
    """SQL for the JSON object of a row of ``scope``; ``rows`` is how many there may be (for the limit of cost)."""
    made = _Object()
    entity = scope.entity
    wanted = _wanted(context, scope, options)
    if metadata == "full" and wanted is None:
        made.add("@iot.selfLink", self_link(context, scope), quote=True)
    for found in entity.properties:
        name = "@iot.id" if found.name == "id" else found.name
        if wanted is None and found.when:
            alike = [one for one in entity.properties if one.when == found.when]
            if found is alike[0]:
                members = [(one.name, scope.sql(one.json_sql)) for one in alike]
                made.add_some_if_there(scope.sql(found.when), members)
        elif wanted is None:
            if not (found.name == "id" and metadata == "none"):
                _add(made, name, scope.sql(found.json_sql), found, outer=False)
        elif found.name in wanted:
            parts = wanted[found.name]
            value = scope.sql(found.json_sql) if parts is None else _parts(context, scope, found, parts)
            _add(made, name, value, found, outer=parts is not None)
    expanded = {link.name for one in options.expand if (link := asked_link(entity, one.name)) is not None}
    for link in entity.links:
        shown = (
            metadata == "full" and not (link.rare and not alone) if wanted is None else link.name in wanted
        )
        if shown and link.name not in expanded:
            _add_link(made, context, scope, link)
    for one in options.expand:
        context.option = "$expand"
        made_of = asked_link(entity, one.name)
        if made_of is None:
            links = ", ".join(known.name for known in entity.links)
            raise context.error(f"{entity.name} has no link {one.name!r}; it has {links}", one.at)
        made.add_text(_expanded(context, scope, made_of, one, metadata=metadata, rows=rows))
    return made.sql


def _add(made: _Object, name: str, value: str, found: Property, *, outer: bool) -> None:
    if not found.nullable and not outer:
        made.add(name, value)
    elif found.shown_when_null:
        made.add(name, f"coalesce({value}, 'null')")
    else:
        made.add_if_there(name, value)


def _add_link(made: _Object, context: Context, scope: Scope, link: Link) -> None:
    name = f"{link.name}@iot.navigationLink"
    address = f"{self_link(context, scope)} || {quoted(f'/{link.name}')}"
    if not link.shown:
        made.add(name, address, quote=True)
        return
    head = quoted(f',"{name}":"')
    shown = link.shown.replace("{p}", scope.alias)
    made.add_text(f"CASE WHEN {shown} THEN {head} || {address} || '\"' ELSE '' END")


# -- $select

type Parts = dict[str, Parts | None]


def _wanted(context: Context, scope: Scope, options: Options) -> dict[str, Parts | None] | None:
    """Names that were selected, with the parts of JSON that were; None where everything is."""
    if options.select is None:
        return None
    context.option = "$select"
    found: dict[str, Parts | None] = {}
    for path in options.select.paths:
        name = check_name(context, scope, path)
        rest = [str(step) for step in path.steps[1:]]
        if (
            rest
            and (known := scope.entity.find_property(name))
            and known.kind not in ("json", "geometry", "result")
        ):
            raise context.error(f"{name} has no parts", path.at)
        if rest and scope.entity.find_link(name):
            raise context.error(f"what is behind the link {name} is chosen within $expand", path.at)
        _merge(found, [name, *rest])
    return found


def _merge(tree: Parts, steps: list[str]) -> None:
    for step in steps[:-1]:
        inner = tree.setdefault(step, {})
        if inner is None:  # the whole of it was selected, too
            return
        tree = inner
    tree[steps[-1]] = None


def check_name(context: Context, scope: Scope, path: Path) -> str:
    """The name of the property or link that a path begins with. Raises QueryError."""
    name = path.steps[0]
    if (known := scope.entity.find_property(name)) is not None:
        return known.name
    if scope.entity.find_link(name) is None:
        raise unknown(context, scope.entity, name, path.at)
    return str(name)


def _parts(context: Context, scope: Scope, found: Property, parts: Parts) -> str:
    sql = scope.sql(found.other if found.kind == "result" else found.sql)
    return _tree(context, sql, parts, ())


def _tree(context: Context, sql: str, parts: Parts, steps: tuple[str, ...]) -> str:
    members = []
    for name, inner in parts.items():
        # A key that a caller wrote is a parameter, as everything that callers write.
        key = context.bind(orjson.dumps(name).decode(), "text")
        if inner is None:
            value = f"({json_at(context, sql, (*steps, name))})::text"
        else:
            value = _tree(context, sql, inner, (*steps, name))
        members.append(f"coalesce(',' || {key} || ':' || {value}, '')")
    return f"('{{' || substr({' || '.join(members)}, 2) || '}}')"


# -- $expand


def _expanded(
    context: Context, parent: Scope, link: Link, expand: Expand, *, metadata: ResultMetadata, rows: int
) -> str:
    """SQL for the members that an expanded link adds; begins with a comma."""
    scope = context.scope(target(link))
    where = [scope.follow(link, parent), *scope.conditions(link)]
    if link.many:
        return _expanded_many(
            context, parent, scope, link, expand=expand, where=where, metadata=metadata, rows=rows
        )
    if expand.options.filter is not None:
        context.option = "$expand"
        where.append(condition(context, scope, expand.options.filter))
    made = object_sql(context, scope, expand.options, metadata, rows=rows)
    inner = f"({select([scope], [made], where, limit=' LIMIT 1')})"
    member = f"{quoted(f',"{link.name}":')} || coalesce({inner}, 'null')"
    if not link.shown:
        return f"({member})"
    return f"CASE WHEN {link.shown.replace('{p}', parent.alias)} THEN {member} ELSE '' END"


def _expanded_many(
    context: Context,
    parent: Scope,
    scope: Scope,
    link: Link,
    *,
    expand: Expand,
    where: list[str],
    metadata: ResultMetadata,
    rows: int,
) -> str:
    options = expand.options
    top = min(options.top if options.top is not None else DEFAULT_TOP, LARGEST_TOP)
    entities = rows * max(top, 1)
    if entities > MOST_ENTITIES:
        raise context.error(
            f"this may be {entities:,} entities in one answer, at most {MOST_ENTITIES:,}; lower $top",
            expand.at,
        )
    scope.one_series = parent.entity.name == "Datastream" and link.name == "Observations"
    if options.filter is not None:
        context.option = "$expand"
        where = [*where, *conditions(context, scope, options.filter)]
    found = paging.keys(context, scope, options.orderby)
    made = object_sql(context, scope, options, metadata, rows=entities)
    newest = (
        scope.one_series
        and top == 1
        and not options.skip
        and options.filter is None
        and _is_newest(scope, found)
    )
    extra = []
    if newest:
        state = f"{scope.alias}_newest"
        extra.append(f"twin_state {state}")
        where = [
            f"{state}.municipality_id = {parent.alias}.municipality_id AND {state}.series_id = {parent.alias}.id"
            f" AND {scope.alias}.time = {state}.time",
            *where,
        ]
    elif scope.entity is OBSERVATION:
        most = top + 1 + (options.skip or 0)
        where = series.by_series(scope, found, where, most) or where
    made = series.said_once(scope, made)
    columns = [f"{made} AS j", *(f"{key.sql} AS k{n}" for n, key in enumerate(found))]
    if newest:
        columns.append(f"{scope.alias}_newest.n AS m")
    limit = f" LIMIT {top + 1}" + (f" OFFSET {options.skip}" if options.skip else "")
    inner = select([scope], columns, where, order=paging.order_sql(found), limit=limit, extra=extra)
    token = paging.token_sql(paging.mark(scope, options.orderby), [f"k{n}" for n in range(len(found))])
    head = quoted(f',"{link.name}":[')
    more = "max(m) > 1" if newest else f"count(*) > {top}"
    text = f"{head} || coalesce(string_agg(j, ',') FILTER (WHERE n <= {top}), '') || ']'"
    if top:
        following = replace(options, skip=None, count=None, skiptoken=None)
        options_text = format_options(following)
        query = f"$skip={top + (options.skip or 0)}&" + (f"{options_text}&" if options_text else "")
        address = (
            f"{quoted(f',"{link.name}@iot.nextLink":"')} || {self_link(context, parent)}"
            f" || '/' || {quoted(link.name)} || '?' || {context.bind(query, 'text')}"
            f" || '$skiptoken=' || max(CASE WHEN n = {top} THEN {token} END) || '\"'"
        )
        text += f" || CASE WHEN {more} THEN {address} ELSE '' END"
    numbered = f"(SELECT *, row_number() OVER () AS n FROM ({inner}) q) r"
    sql = f"(SELECT {text} FROM {numbered})"
    if options.count:
        sql += f" || {_count(context, parent, link, options)}"
    return f"({sql})"


def _is_newest(scope: Scope, found: list[paging.Key]) -> bool:
    return len(found) == 1 and found[0].descending and found[0].sql == f"{scope.alias}.time"


def _count(context: Context, parent: Scope, link: Link, options: Options) -> str:
    head = quoted(f',"{link.name}@iot.count":')
    if parent.entity.name == "Datastream" and link.name == "Observations" and options.filter is None:
        state = (
            f"SELECT n FROM twin_state x WHERE x.municipality_id = {parent.alias}.municipality_id"
            f" AND x.series_id = {parent.alias}.id"
        )
        return f"{head} || coalesce(({state}), 0)"
    scope = context.scope(target(link))
    where = [scope.follow(link, parent), *scope.conditions(link)]
    if options.filter is not None:
        where.append(condition(context, scope, options.filter))
    return f"{head} || ({select([scope], ['count(*)'], where)})"
