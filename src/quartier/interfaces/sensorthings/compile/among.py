"""Known entities through the eyes of a request: which of them it means, and what it shows of them.

For what is followed: a change is known by its keys, and a query says whether it is one of those that it means.
"""

from __future__ import annotations

from dataclasses import dataclass

from quartier.interfaces.sensorthings.compile import rows
from quartier.interfaces.sensorthings.compile.context import Context, Eyes, select
from quartier.interfaces.sensorthings.compile.expressions import conditions
from quartier.interfaces.sensorthings.compile.statement import (
    Statement,
    finished,
    metadata_of,
    refuse,
    value_sql,
    way_of,
)
from quartier.interfaces.sensorthings.facts import Entity, Property
from quartier.interfaces.sensorthings.model import OBSERVATION
from quartier.interfaces.sensorthings.query.ast import Options, Request
from quartier.interfaces.sensorthings.query.errors import QueryError


def observations_among(request: Request, eyes: Eyes) -> Statement:
    """Of some observations those that a request for observations means: ``(series, time, JSON)`` of each.

    Which ones are looked at say the first two parameters: series and times, arrays of equal length. Order, pages and
    counts of the request are passed over. Raises QueryError and NotFound.
    """
    options = request.options
    context = Context(eyes)
    asked = (
        f"unnest({context.bind(None, 'integer[]')}, {context.bind(None, 'timestamptz[]')}) AS k(series, time)"
    )
    way = way_of(context, request.resource.segments)
    if way.end is not None or way.scope.entity is not OBSERVATION:
        raise QueryError("only Observations are meant here", option="path")
    where = list(way.where)
    if options.filter is not None:
        context.option = "$filter"
        where += conditions(context, way.scope, options.filter)
    a = way.scope.alias
    made = rows.object_sql(context, way.scope, options, metadata_of(options), alone=way.single)
    where += [f"{a}_s.id = k.series", f"{a}.time = k.time"]
    columns = [f"{a}.series_id", f"{a}.time", f"{made} AS j"]
    return finished(context, select(way.scopes, columns, where, extra=[asked]))


@dataclass(frozen=True, slots=True)
class Among:
    """Of some entities those that a request means: ``statement`` gives ``(id, JSON)`` of each, for its first parameter,
    an array of ids; of a ``property`` where the path ends with one.
    """

    statement: Statement
    entity: Entity
    property: Property | None


def entities_among(request: Request, eyes: Eyes) -> Among | None:
    """How known entities are looked at through a request; None where it means observations.

    Order, pages and counts of the request are passed over. Raises QueryError and NotFound.
    """
    options = request.options
    context = Context(eyes)
    asked = f"ANY({context.bind(None, 'bigint[]')})"
    way = way_of(context, request.resource.segments)
    scope = way.scope
    if scope.entity is OBSERVATION:
        return None
    where = list(way.where)
    if way.end is not None:
        refuse(options, "a property", tuple(name for name in Options.__slots__ if name != "result_metadata"))
        made = value_sql(context, way, way.end)
    else:
        if options.filter is not None:
            context.option = "$filter"
            where += conditions(context, scope, options.filter)
        made = rows.object_sql(context, scope, options, metadata_of(options), alone=way.single)
    id_ = scope.sql(scope.entity.id.sql)
    sql = select(way.scopes, [f"({id_})::bigint", f"{made} AS j"], [*where, f"{id_} = {asked}"])
    return Among(finished(context, sql), scope.entity, way.end)
