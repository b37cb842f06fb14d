"""Geospatial functions without PostGIS: boxes in SQL for the first cut, Shapely for the exact answer.

A condition on a geometry becomes a ``Region``: before the statement runs, the rows whose box comes into question are
fetched and tested exactly, and the ids of those that pass are given to the statement. So it may stand anywhere in a
filter. Coordinates are degrees (WGS 84), and so are distances and lengths, as in FROST.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.interfaces.sensorthings.compile import values
from quartier.interfaces.sensorthings.compile.context import Context, Eyes, Region, Scope, select
from quartier.interfaces.sensorthings.compile.values import Value
from quartier.interfaces.sensorthings.query.ast import Call, Geometry
from quartier.interfaces.sensorthings.query.errors import QueryError

MOST_CANDIDATES: Final = 200_000
MOST_POINTS: Final = 20_000

# What a relation says of the boxes: they touch, the first lies in the second, or nothing.
_TOUCHING: Final = {"intersects", "touches", "within", "overlaps", "crosses", "contains", "equals"}
_OPPOSITE: Final = {"within": "contains", "contains": "within"}


def call(context: Context, node: Call, arguments: list[Value]) -> Value:
    """A geospatial function as a typed piece of SQL."""
    name = "geo.intersects" if node.name == "st_intersects" else node.name
    if name == "geo.distance":
        return _distance(context, node, arguments)
    if name == "geo.length":
        return _length(context, node, arguments[0])
    relation = name.partition(".")[2] if "." in name else name.removeprefix("st_")
    pattern = ""
    if relation == "relate":
        literal = arguments[2].literal
        pattern = str(literal.value) if literal is not None else ""
        if literal is None or len(pattern) != 9 or set(pattern) - set("TF*012"):
            raise context.error("the pattern has nine characters of T, F, *, 0, 1 and 2", arguments[2].at)
    column, constant, swapped = _sides(context, node, arguments)
    return _region(context, node, column, constant, relation, pattern=pattern, swapped=swapped)


def _sides(context: Context, node: Call, arguments: list[Value]) -> tuple[Value, str, bool]:
    """The property and the constant of a call."""
    for value in arguments[:2]:
        if value.type != "geometry":
            raise values.wrong(context, value, "a geometry")
    first, second = arguments[:2]
    if first.literal is None and second.literal is not None:
        return first, _wkt(context, second), False
    if second.literal is None and first.literal is not None:
        return second, _wkt(context, first), True
    raise context.error(f"{node.name} needs one property and one constant", node.at)


def _wkt(context: Context, value: Value) -> str:
    assert value.literal is not None  # noqa: S101
    assert isinstance(value.literal.value, Geometry)  # noqa: S101
    wkt = value.literal.value.wkt
    try:
        shape = shapely.from_wkt(wkt)
    except (shapely.errors.ShapelyError, ValueError):
        raise context.error("this geometry cannot be read", value.at) from None
    if shape.is_empty or not all(map(math.isfinite, shape.bounds)):
        raise context.error("this geometry is empty or not finite", value.at)
    if shapely.get_num_coordinates(shape) > MOST_POINTS:
        raise context.error(f"a geometry may have {MOST_POINTS} points", value.at)
    if not shape.is_valid:
        raise context.error(f"this geometry is impossible: {shapely.is_valid_reason(shape)}", value.at)
    return wkt


def _region(
    context: Context,
    node: Call,
    column: Value,
    wkt: str,
    relation: str,
    *,
    pattern: str = "",
    distance: float = 0.0,
    swapped: bool = False,
) -> Value:
    scope, found = column.scope, column.property
    assert scope is not None  # noqa: S101
    assert found is not None  # noqa: S101
    ids = context.bind("{}", "bigint[]")
    index = len(context.parameters) - 1
    context.regions.append(Region(index, scope.entity, found, relation, wkt, pattern, distance, swapped))
    return Value("boolean", f"({scope.sql(scope.entity.id.sql)} = ANY({ids}))", at=node.at)


def _distance(context: Context, node: Call, arguments: list[Value]) -> Value:
    """Degrees from a property to a constant. Exact in comparisons with a number (see ``near``) and for points."""
    column, wkt, _ = _sides(context, node, arguments)
    shape = shapely.from_wkt(wkt)
    scope, found = column.scope, column.property
    assert scope is not None  # noqa: S101
    assert found is not None  # noqa: S101
    west, south, east, north = map(float, shape.bounds)
    box = context.bind(f"({east!r},{north!r}),({west!r},{south!r})", "box")
    place = scope.sql(found.box)

    # Between boxes, which is exact for points; comparisons of other shapes go through ``near``.
    def side(number: int) -> str:
        low, high = f"(({place})[1])[{number}]", f"(({place})[0])[{number}]"
        return f"power(greatest(0, {low} - (({box})[0])[{number}], (({box})[1])[{number}] - {high}), 2)"

    gap = f"sqrt({side(0)} + {side(1)})"
    return Value("number", gap, at=node.at, scope=scope, property=found)


def near(context: Context, node: Call, arguments: list[Value], distance: float, *, closer: bool) -> str:
    """SQL for ``geo.distance(…) lt distance`` (``closer``: or equal), exactly, whatever the shapes are."""
    column, wkt, _ = _sides(context, node, arguments)
    relation = "within distance" if closer else "nearer than"
    return _region(context, node, column, wkt, relation, distance=distance).sql


def _length(context: Context, node: Call, value: Value) -> Value:
    if value.type != "geometry":
        raise values.wrong(context, value, "a geometry")
    if value.literal is not None:
        assert isinstance(value.literal.value, Geometry)  # noqa: S101
        length = float(shapely.from_wkt(value.literal.value.wkt).length)
        return Value("number", context.bind(repr(length), "double precision"), at=node.at, nullable=False)
    # Of anything but a line it is 0.
    line = f"CASE WHEN {value.sql}->>'type' = 'LineString' THEN {value.sql}->'coordinates' ELSE '[]' END"
    sql = (
        "(SELECT coalesce(sum(sqrt(power(x - px, 2) + power(y - py, 2))), 0) FROM"
        " (SELECT x, y, lag(x) OVER w AS px, lag(y) OVER w AS py FROM"
        " (SELECT (p->>0)::double precision AS x, (p->>1)::double precision AS y, n"
        f" FROM jsonb_array_elements({line}) WITH ORDINALITY AS e(p, n)) s WINDOW w AS (ORDER BY n)) d)"
    )
    return Value("number", sql, at=node.at)


# -- answering regions


async def answer(connection: AsyncConnection[TupleRow], region: Region) -> str:
    """The ids (as an array for PostgreSQL) of the rows for which the relation holds. Raises QueryError."""
    shape = shapely.from_wkt(region.wkt)
    scope = Scope(Context(Eyes()), region.entity, "g")
    statement, parameters = _candidates(scope, region, shape)
    cursor = await connection.execute(statement, parameters)
    rows = await cursor.fetchall()
    if len(rows) > MOST_CANDIDATES:
        raise QueryError(
            f"more than {MOST_CANDIDATES} geometries come into question; ask for a smaller area",
            option="$filter",
        )
    if not rows:
        return "{}"
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    shapes, known = _shapes(rows)
    keep = np.zeros(len(rows), dtype=bool)
    keep[known] = _test(region, shapes[known], shape)
    return "{" + ",".join(map(str, ids[keep].tolist())) + "}"


def _candidates(scope: Scope, region: Region, shape: Any) -> tuple[bytes, list[str]]:
    place = scope.sql(region.property.box)
    columns = [
        scope.sql(region.entity.id.sql),
        f"(({place})[0])[0]",
        f"(({place})[0])[1]",
        f"CASE WHEN area({place}) = 0 AND {scope.sql(region.property.sql)}->>'type' = 'Point' THEN NULL"
        f" ELSE ({scope.sql(region.property.sql)})::text END",
    ]
    where = [f"{place} IS NOT NULL"]
    parameters = []
    if region.relation in _TOUCHING or region.distance:
        west, south, east, north = map(float, shape.bounds)
        margin = region.distance * (1 + 1e-9)
        parameters.append(f"({east + margin!r},{north + margin!r}),({west - margin!r},{south - margin!r})")
        where.append(f"{place} && $1::box")
    statement = select([scope], columns, where, limit=f" LIMIT {MOST_CANDIDATES + 1}")
    return statement.encode(), parameters


def _shapes(rows: list[TupleRow]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Geometries, and which of them could be read."""
    shapes = np.empty(len(rows), dtype=object)
    points = np.array([row[3] is None for row in rows])
    if points.any():
        xy = np.array([(row[1], row[2]) for row in rows if row[3] is None], dtype=np.float64)
        shapes[points] = shapely.points(xy)
    for n in np.flatnonzero(~points):
        shapes[n] = _shape(rows[n][3])
    return shapes, np.array([one is not None for one in shapes])


def _shape(text: str) -> Any:
    found = orjson.loads(text)
    if isinstance(found, dict) and found.get("type") == "Feature":
        found = found.get("geometry")
    try:
        return shapely.from_geojson(orjson.dumps(found))
    except (shapely.errors.ShapelyError, ValueError, TypeError):
        return None


def _test(region: Region, shapes: NDArray[Any], shape: Any) -> NDArray[np.bool_]:
    shapely.prepare(shape)
    relation = region.relation
    if relation == "within distance":
        return np.asarray(shapely.distance(shapes, shape) <= region.distance)
    if relation == "nearer than":
        return np.asarray(shapely.distance(shapes, shape) < region.distance)
    if relation == "relate":
        pair = (shape, shapes) if region.swapped else (shapes, shape)
        return np.asarray(shapely.relate_pattern(*pair, region.pattern))
    # Said of the constant first, because only a prepared first geometry makes tests fast.
    if not region.swapped:
        relation = _OPPOSITE.get(relation, relation)
    return np.asarray(getattr(shapely, relation)(shape, shapes))
