"""A whole request into a plan: one statement, what its parameters are, and how its answer is counted and continued."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from quartier.interfaces.sensorthings.compile import paging, rows, series
from quartier.interfaces.sensorthings.compile.context import Context, Eyes, NotFound, Region, Scope, select
from quartier.interfaces.sensorthings.compile.expressions import conditions, observation_key
from quartier.interfaces.sensorthings.compile.paths import json_at
from quartier.interfaces.sensorthings.facts import Entity, Property
from quartier.interfaces.sensorthings.model import BY_SET, DATASTREAM, OBSERVATION, target
from quartier.interfaces.sensorthings.query.ast import Options, Request, ResultMetadata, Segment
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import OPTION_NAMES

Kind = Literal["collection", "entity", "property", "value", "count", "apply"]

# An answer of more rows is streamed, row by row, and never held as a whole.
LARGEST_PAGE: Final = 10_000
LARGEST_STREAM: Final = 10_000_000
LARGEST_SKIP: Final = 1_000_000
# Up to here rows are counted, beyond it they are estimated.
COUNTED: Final = 50_000

# Observations by their counters: one row per series, of which ``n`` is the sum.
_COUNTERS: Final = replace(
    OBSERVATION,
    source="twin_series {a}_s JOIN twin_state {a}"
    " ON {a}.municipality_id = {a}_s.municipality_id AND {a}.series_id = {a}_s.id",
)


@dataclass(frozen=True, slots=True)
class Window:
    """A bound of time, in a parameter, on observations that come in the order of time; wide open if it is not set."""

    index: int
    descending: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL in PostgreSQL's own form (``$1``) with its parameters.

    ``keys`` says which parameters are keys of the path, ``places`` which are values of the token, ``base`` which is the
    address of the service, and ``regions`` which are found by asking for geometries first.
    """

    sql: bytes
    parameters: tuple[str | None, ...]
    keys: tuple[tuple[int, int, int], ...]
    places: tuple[tuple[int, int], ...]
    base: int | None
    regions: tuple[Region, ...]
    window: Window | None = None

    def filled(
        self, base: str, segments: tuple[Segment, ...], token: paging.Token | None = None
    ) -> list[str | None]:
        """The parameters for a request of the same form."""
        values = list(self.parameters)
        if self.base is not None:
            values[self.base] = base
        for index, number, part in self.keys:
            values[index] = key_of(segments[number])[part]
        if token is not None:
            for index, number in self.places:
                values[index] = token.items[number]
        return values


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request is answered.

    ``main`` gives for a collection one row ``(rows, joined JSON, token of the last row)``, or, where ``stream``, a row
    ``(JSON, token)`` per entity; for an entity ``(JSON,)``; for a property and a value ``(JSON,)``. ``parent`` gives a
    row if what the path leads through is there. ``count`` gives the number, or where ``counted`` at most
    ``COUNTED + 1``; ``matching`` is what it counts, for an estimate. ``mark`` is that of the order.
    """

    kind: Kind
    main: Statement
    entity: Entity
    top: int = 0
    stream: bool = False
    parent: Statement | None = None
    count: Statement | None = None
    counted: bool = False
    matching: Statement | None = None
    mark: int = 0
    property: Property | None = None
    steps: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)


def key_of(segment: Segment) -> tuple[str, ...]:
    """The parameters that a segment's key becomes. Raises NotFound for what can be no key."""
    key = segment.key
    entity = BY_SET.get(segment.name)
    if entity is None or not entity.id_is_text:
        if isinstance(key, str) and key.isascii() and key.isdecimal():
            key = int(key)
        if not isinstance(key, int) or not 0 <= key < 1 << 63:
            raise NotFound(f"there is no {segment.name}({key!r})")
        return (str(key),)
    found = observation_key(str(key))
    if found is None:
        raise NotFound(f"there is no {segment.name}({key!r})")
    return found


@dataclass(slots=True)
class _Way:
    """What a path leads to: the scopes it passes (the last one first), the conditions, and a property at its end."""

    scopes: list[Scope]
    where: list[str]
    single: bool
    end: Property | None = None
    steps: tuple[str, ...] = ()

    @property
    def scope(self) -> Scope:
        return self.scopes[0]


def plan(request: Request, eyes: Eyes, token: paging.Token | None = None, *, stream: bool = False) -> Plan:
    """How ``request`` is answered for ``eyes``, behind ``token``; row by row where ``stream``.

    Raises QueryError and NotFound.
    """
    options = request.options
    context = Context(eyes)
    way = way_of(context, request.resource.segments)
    suffix = request.resource.suffix
    if way.end is not None:
        return _property(context, way, suffix, options)
    if suffix == "$value":
        raise QueryError("$value follows a property", option="path")
    if suffix == "$count":
        if way.single:
            raise QueryError("$count follows an entity set", option="path")
        statement, matching = _count(request, eyes)
        return Plan(
            "count",
            statement,
            way.scope.entity,
            count=statement,
            parent=_statement_of_parents(request, eyes) if len(request.resource.segments) > 1 else None,
            counted=matching is not None,
            matching=matching,
            options=options,
        )
    if way.single:
        return _entity(context, way, suffix, options)
    if options.apply is not None:  # carried out by :mod:`..aggregate`
        return Plan("apply", finished(context, ""), way.scope.entity, options=options)
    return _collection(context, way, request, eyes, token, stream=stream)


_PARAMETER: Final = re.compile(r"\$([0-9]+)")


def finished(context: Context, sql: str) -> Statement:
    """The finished statement, without parameters that were bound on a way which led nowhere."""
    used = sorted({int(number) for number in _PARAMETER.findall(sql)})
    place = {old - 1: new for new, old in enumerate(used)}
    if len(used) < len(context.parameters):
        sql = _PARAMETER.sub(lambda found: f"${place[int(found[1]) - 1] + 1}", sql)
    base = context.base_index
    return Statement(
        sql.encode(),
        tuple(context.parameters[old] for old in place),
        tuple((place[index], number, part) for index, number, part in context.keys if index in place),
        tuple((place[index], number) for index, number in context.places if index in place),
        place.get(base) if base is not None else None,
        tuple(replace(one, index=place[one.index]) for one in context.regions if one.index in place),
        Window(place[context.window], context.down) if context.window in place else None,
    )


# -- the path


def way_of(context: Context, segments: tuple[Segment, ...], observations: Entity = OBSERVATION) -> _Way:
    """Follow a path. Raises QueryError and NotFound."""
    first = segments[0]
    entity = BY_SET.get(first.name)
    if entity is None:
        raise NotFound(f"there is no entity set {first.name[:60]!r}; there are {', '.join(BY_SET)}")
    scope = context.scope(observations if entity is OBSERVATION else entity)
    way = _Way([scope], scope.conditions(), False)
    for number, segment in enumerate(segments):
        if number and not _step(context, way, segments, number, observations):
            return way
        if segment.indices:
            raise NotFound(f"{segment.name} is no list in JSON")
        if segment.key is not None:
            if way.single:
                raise NotFound(f"{segment.name} is a single entity and takes no id")
            way.where += _has_key(context, way.scope, segment, number)
            way.single = True
    return way


def _step(
    context: Context, way: _Way, segments: tuple[Segment, ...], number: int, observations: Entity
) -> bool:
    """Follow one more segment; False if it was a property, which takes the rest of the path."""
    segment, before = segments[number], way.scope
    if not way.single:
        raise NotFound(
            f"{segments[number - 1].name} is a set; write an id behind it: {segments[number - 1].name}(1)"
        )
    link = before.entity.find_link(segment.name)
    if link is None:
        found = before.entity.find_property(segment.name)
        if found is None:
            names = ", ".join([*before.entity.by_name, *before.entity.link_by_name])
            raise NotFound(f"{before.entity.name} has no {segment.name[:60]!r}; it has {names}")
        way.end = found
        way.steps = tuple(_steps(segments[number:]))
        return False
    to = target(link)
    scope = context.scope(observations if to is OBSERVATION else to)
    scope.one_series = before.entity.name == "Datastream" and link.name == "Observations"
    if scope.one_series and number == 1:
        # The datastream is the series of its observations: asked for by its own key, and seen as they are.
        key = key_of(segments[0])[0]
        way.scopes, way.single = [scope], False
        way.where = [
            f"{scope.alias}_s.id = {context.bind_key(key, 'integer', 0)}",
            *(one for one in scope.conditions() if one != scope.sql(OBSERVATION.condition)),
            before.sql(DATASTREAM.condition).replace(f"{before.alias}.", f"{scope.alias}_s."),
        ]
        return True
    way.scopes.insert(0, scope)
    way.where += [scope.follow(link, before), *scope.conditions(link)]
    # ``Observations('1.2')/Datastream`` is one entity, as is anything with an id behind it.
    way.single = not link.many
    return True


def _steps(segments: tuple[Segment, ...]) -> list[str]:
    steps: list[str] = []
    for number, segment in enumerate(segments):
        if segment.key is not None:
            raise NotFound(f"{segment.name} is a property and takes no id")
        if number:
            steps.append(segment.name)
        steps += map(str, segment.indices)
    return steps


def _has_key(context: Context, scope: Scope, segment: Segment, number: int) -> list[str]:
    values = key_of(Segment(scope.entity.set, segment.key))
    if scope.entity.id_is_text:
        series = context.bind_key(values[0], "integer", number)
        time = context.bind_key(values[1], "timestamptz", number, 1)
        return [scope.sql(f"{{a}}_s.id = {series}"), scope.sql(f"{{a}}.time = {time}")]
    return [f"{scope.sql(scope.entity.id.sql)} = {context.bind_key(values[0], 'bigint', number)}"]


# -- what is at its end


def metadata_of(options: Options) -> ResultMetadata:
    """How much metadata is written."""
    return options.result_metadata or "full"


def _entity(context: Context, way: _Way, suffix: str | None, options: Options) -> Plan:
    # Masterportal asks every address for ``$count``; of one entity there is nothing to say.
    refuse(options, "one entity", ("filter", "orderby", "top", "skip", "skiptoken", "apply"))
    if suffix == "$ref":
        made = _reference(context, way.scope)
    else:
        made = rows.object_sql(context, way.scope, options, metadata_of(options), alone=True)
    sql = select(way.scopes, [made], way.where, limit=" LIMIT 1")
    return Plan("entity", finished(context, sql), way.scope.entity, options=options)


def _property(context: Context, way: _Way, suffix: str | None, options: Options) -> Plan:
    refuse(options, "a property", tuple(name for name in Options.__slots__ if name != "result_metadata"))
    if suffix in ("$ref", "$count"):
        raise QueryError(f"{suffix} follows an entity set", option="path")
    found, scope = way.end, way.scope
    assert found is not None  # noqa: S101
    value = value_sql(context, way, found)
    sql = select(way.scopes, [value], way.where, limit=" LIMIT 1")
    kind: Kind = "value" if suffix == "$value" else "property"
    statement = finished(context, sql)
    return Plan(kind, statement, scope.entity, property=found, steps=way.steps, options=options)


def value_sql(context: Context, way: _Way, found: Property) -> str:
    """SQL for the JSON text of the property (or a part of it) at the end of a path."""
    if not way.steps:
        return way.scope.sql(found.json_sql)
    if found.kind not in ("json", "geometry", "result"):
        raise NotFound(f"{found.name} has no parts")
    of = way.scope.sql(found.other if found.kind == "result" else found.sql)
    return f"{json_at(context, of, way.steps)}::text"


def refuse(options: Options, what: str, names: tuple[str, ...]) -> None:
    """Refuse options that say nothing of ``what``."""
    for name in names:
        if getattr(options, name) not in (None, (), False):
            raise QueryError(f"cannot be asked of {what}", option=OPTION_NAMES[name])


def _reference(context: Context, scope: Scope) -> str:
    return f"'{{\"@iot.selfLink\":\"' || {rows.self_link(context, scope)} || '\"}}'"


def _collection(
    context: Context,
    way: _Way,
    request: Request,
    eyes: Eyes,
    token: paging.Token | None,
    *,
    stream: bool,
) -> Plan:
    options, suffix = request.options, request.resource.suffix
    # A larger $top counts for nothing (18-088, request-data/top): who wants all writes the largest number he knows.
    top = rows.DEFAULT_TOP if options.top is None else min(options.top, LARGEST_STREAM)
    if (options.skip or 0) > LARGEST_SKIP:
        raise QueryError(
            f"at most {LARGEST_SKIP} entities can be skipped; follow @iot.nextLink instead", option="$skip"
        )
    where = list(way.where)
    parent = _statement_of_parents(request, eyes) if len(request.resource.segments) > 1 else None
    if options.filter is not None:
        context.option = "$filter"
        where += conditions(context, way.scope, options.filter)
    if _is_distinct(options):
        made, found = _distinct(context, way, options)
    else:
        found = paging.keys(context, way.scope, options.orderby)
        if suffix == "$ref":
            made = _reference(context, way.scope)
        else:
            made = rows.object_sql(context, way.scope, options, metadata_of(options), rows=max(top, 1))
    sign = paging.mark(way.scope, options.orderby, options.select if _is_distinct(options) else None)
    if token is not None:
        where += paging.after(context, found, token, sign)
    stream = stream or top > LARGEST_PAGE
    if way.scope.entity is OBSERVATION and not _is_distinct(options):
        where = _by_series(context, way.scope, found, where, (options.skip or 0) + top + 1)
        made = series.said_once(way.scope, made)
    statement = finished(
        context, _list(way, made, found, where, options=options, top=top, sign=sign, stream=stream)
    )
    count, matching = _count(request, eyes) if options.count else (None, None)
    return Plan(
        "collection",
        statement,
        way.scope.entity,
        top=top,
        stream=stream,
        parent=parent,
        count=count,
        counted=matching is not None,
        matching=matching,
        mark=sign,
        options=options,
    )


def _by_series(
    context: Context, scope: Scope, found: list[paging.Key], where: list[str], most: int
) -> list[str]:
    """Observations series by series, and where many come in the order of time, through a window."""
    if series.in_order_of_time(scope, found) and most <= LARGEST_PAGE:
        context.down = found[0].descending
        bound = context.bind("-infinity" if context.down else "infinity", "timestamptz")
        context.window = len(context.parameters) - 1
        where = [*where, f"{scope.alias}.time {'>=' if context.down else '<='} {bound}"]
    outside = series.by_series(scope, found, where, most)
    return where if outside is None else outside


def _list(
    way: _Way,
    made: str,
    found: list[paging.Key],
    where: list[str],
    *,
    options: Options,
    top: int,
    sign: int,
    stream: bool,
) -> str:
    distinct = _is_distinct(options)
    columns = [f"{made} AS j"]
    if not distinct:
        columns += [f"{key.sql} AS k{n}" for n, key in enumerate(found)]
    names = ["j"] if distinct else [f"k{n}" for n in range(len(found))]
    limit = f" LIMIT {top + 1}" + (f" OFFSET {options.skip}" if options.skip else "")
    order = "j" if distinct else paging.order_sql(found)
    inner = select(way.scopes, columns, where, order=order, limit=limit, distinct=distinct)
    numbered = f"(SELECT *, row_number() OVER () AS n FROM ({inner}) q) r"
    token = f"CASE WHEN n = {top} THEN {paging.token_sql(sign, names)} END"
    if stream:
        return f"SELECT j, {token} FROM {numbered}"
    return f"SELECT count(*), string_agg(j, ',') FILTER (WHERE n <= {top}), max({token}) FROM {numbered}"


def _is_distinct(options: Options) -> bool:
    return options.select is not None and options.select.distinct


def _distinct(context: Context, way: _Way, options: Options) -> tuple[str, list[paging.Key]]:
    """Distinct combinations of what is selected, in the order of their JSON texts."""
    if options.expand or options.orderby:
        raise QueryError("distinct values cannot be expanded nor ordered", option="$select")
    made = rows.object_sql(context, way.scope, options, "none")
    return made, [paging.Key(f"({made})", "text")]


def _statement_of_parents(request: Request, eyes: Eyes) -> Statement:
    """Is there what the path leads through? Asked only where a list is empty."""
    context = Context(eyes)
    parents = way_of(context, request.resource.segments[:-1])
    sql = select(parents.scopes, ["1"], parents.where, limit=" LIMIT 1")
    return finished(context, sql)


# -- counting


def _count(request: Request, eyes: Eyes) -> tuple[Statement, Statement | None]:
    """A statement for how many there are; if it stops counting at ``COUNTED``, also what it counts."""
    options = request.options
    segments = request.resource.segments
    context = Context(eyes)
    distinct = _is_distinct(options)
    if options.filter is None and not distinct and _by_counters(segments):
        way = way_of(context, segments, _COUNTERS)
        sql = select(way.scopes, [f"coalesce(sum({way.scope.alias}.n), 0)::bigint"], way.where)
        return finished(context, sql), None
    way = way_of(context, segments)
    where = list(way.where)
    if options.filter is not None:
        context.option = "$filter"
        where += conditions(context, way.scope, options.filter)
    column = rows.object_sql(context, way.scope, options, "none") if distinct else "1"
    inner = select(way.scopes, [column], where, distinct=distinct)
    counting = finished(context, f"SELECT count(*) FROM ({inner} LIMIT {COUNTED + 1}) q")
    return counting, finished(context, inner)


def _by_counters(segments: tuple[Segment, ...]) -> bool:
    """All observations, or those of one (multi)datastream: the counters know how many there are."""
    if segments[-1].name != "Observations" or segments[-1].key is not None:
        return False
    if len(segments) == 1:
        return True
    before = segments[-2].name
    return before in ("Datastreams", "MultiDatastreams", "Datastream", "MultiDatastream")
