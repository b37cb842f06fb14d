"""``$apply`` as asked for in a request: on all Observations, or on those of one Datastream.

The Datastreams that take part, with what is grouped by, are an ordinary request to them; so whoever may not see one
does not find it in any sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.interfaces.sensorthings.aggregate.plan import Plan, SeriesKey, make_plan
from quartier.interfaces.sensorthings.aggregate.run import MAX_SERIES, Answer, Narrow, aggregate
from quartier.interfaces.sensorthings.compile import geometry, statement
from quartier.interfaces.sensorthings.compile.context import Context, Eyes, Scope
from quartier.interfaces.sensorthings.compile.expressions import condition
from quartier.interfaces.sensorthings.facts import Entity
from quartier.interfaces.sensorthings.model import target
from quartier.interfaces.sensorthings.model.datastreams import DATASTREAM
from quartier.interfaces.sensorthings.model.observations import OBSERVATION
from quartier.interfaces.sensorthings.query.ast import (
    And,
    Compare,
    Expand,
    Expression,
    Literal,
    Options,
    Path,
    Request,
    Resource,
    Segment,
    Select,
)
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.read import Asked, Reader

_ID = Path(("id",))


async def answer(reader: Reader, asked: Asked) -> Answer:
    """The groups that a request with ``$apply`` asks for. Raises QueryError and NotFound."""
    options, eyes, base = asked.options, asked.eyes, asked.base
    if options.apply is None or asked.token is not None:
        raise QueryError("has no further pages", option="$skiptoken")
    datastreams = _datastreams(asked.resource)
    plan = make_plan(options.apply, options.orderby)
    series = await _series(reader, datastreams, plan, eyes, base)
    return await aggregate(
        reader.pool,
        plan,
        series,
        top=options.top,
        skip=options.skip,
        count=bool(options.count),
        narrow=_narrow(plan.of_observations, eyes) if plan.of_observations is not None else None,
    )


def _datastreams(resource: Resource) -> Resource:
    """The way to the Datastreams of the Observations that a way leads to."""
    *before, last = resource.segments
    if last.name != "Observations" or last.key is not None or resource.suffix is not None:
        raise QueryError("works on Observations, such as Datastreams(1)/Observations", option="$apply")
    if not before:
        return Resource((Segment("Datastreams"),))
    if before[-1].name not in {"Datastreams", "Datastream"}:
        raise QueryError(
            f"works on all Observations and on those of a Datastream, not of {before[-1].name}",
            option="$apply",
        )
    return Resource(tuple(before))


async def _series(
    reader: Reader, datastreams: Resource, plan: Plan, eyes: Eyes, base: str
) -> dict[int, tuple[Any, ...]]:
    """Ids of the Datastreams, each with the values of the plan's keys."""
    wanted = _wanted(DATASTREAM, [_ID, *(key.path for key in plan.series_keys)])
    options = replace(wanted, result_metadata="none")
    of_series = plan.of_series
    last = datastreams.segments[-1]
    if last.key is not None or last.name == "Datastream":
        found = await _read(reader, Request(datastreams, options), eyes, base)
        if of_series is None:
            return _with_values(found, plan)
        # A single entity cannot be filtered; it can be one of all.
        datastreams = Resource((Segment("Datastreams"),))
        itself = Compare("eq", _ID, Literal("integer", found[0]["@iot.id"]))
        of_series = And((itself, *(of_series.operands if isinstance(of_series, And) else (of_series,))))
    many = replace(options, filter=of_series, top=MAX_SERIES)
    return _with_values(await _read(reader, Request(datastreams, many), eyes, base), plan)


def _with_values(found: Iterable[dict[str, Any]], plan: Plan) -> dict[int, tuple[Any, ...]]:
    return {one["@iot.id"]: tuple(_value(one, key) for key in plan.series_keys) for one in found}


async def _read(reader: Reader, request: Request, eyes: Eyes, base: str) -> list[dict[str, Any]]:
    try:
        plan = statement.plan(request, eyes)
        asked = Asked(request.resource, request.options, None, eyes, base, plan)
        if plan.kind == "entity":
            return [orjson.loads(await reader.entity(asked))]
        found = orjson.loads(await reader.collection(asked))
    except QueryError as error:
        raise error.within("$apply") from None
    if "@iot.nextLink" in found:
        raise QueryError(
            f"more than {MAX_SERIES} Datastreams take part; keep fewer by filter(…)", option="$apply"
        )
    values: list[dict[str, Any]] = found["value"]
    return values


def _wanted(entity: Entity, paths: Iterable[Path]) -> Options:
    """What to select and to expand so that the answer contains all ``paths``."""
    selected: list[Path] = []
    below: dict[str, list[Path]] = {}
    for path in paths:
        link = entity.find_link(path.steps[0])
        if link is None:
            selected.append(path)
            continue
        if link.many:
            raise QueryError(
                f"a group needs one value of each Datastream, and {link.name} are many",
                option="$apply",
                at=path.at,
            )
        rest = replace(path, steps=path.steps[1:]) if len(path.steps) > 1 else _ID
        below.setdefault(link.name, []).append(rest)
    expand = tuple(
        Expand(name, _wanted(target(entity.link_by_name[name]), inner)) for name, inner in below.items()
    )
    return Options(select=Select(tuple(dict.fromkeys(selected or [_ID]))), expand=expand)


def _value(entity: Any, key: SeriesKey) -> Any:
    steps: Sequence[str | int] = key.path.steps
    for step in steps:
        name = "@iot.id" if step == "id" else step
        if isinstance(entity, dict):
            entity = entity.get(str(name))
        elif isinstance(entity, list) and str(name).isdecimal() and int(name) < len(entity):
            entity = entity[int(name)]
        else:
            return None
    return entity


def _narrow(node: Expression, eyes: Eyes) -> Narrow:
    async def narrow(connection: AsyncConnection[TupleRow], parameters: list[str | None]) -> tuple[str, str]:
        context = Context(eyes, parameters=parameters, option="$apply")
        scope = Scope(context, OBSERVATION, "o")
        test = condition(context, scope, node)
        for region in context.regions:
            parameters[region.index] = await geometry.answer(connection, region)
        return scope.source(test), test

    return narrow
