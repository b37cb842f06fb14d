"""The functions of ``$filter`` and ``$orderby`` (18-088 table 23; the temporal relations are FROST's)."""

from __future__ import annotations

from quartier.interfaces.sensorthings.compile import geometry, values
from quartier.interfaces.sensorthings.compile.context import Context
from quartier.interfaces.sensorthings.compile.values import Value
from quartier.interfaces.sensorthings.query.ast import Call

_FIELDS = {"year", "month", "day", "hour", "minute", "second"}


def call(context: Context, node: Call, arguments: list[Value]) -> Value:
    """The value of a function."""
    name, at = node.name, node.at
    if name.startswith(("geo.", "st_")):
        return geometry.call(context, node, arguments)
    if name in _FIELDS:
        return Value("number", f"extract({name} FROM {_clock(context, arguments[0], name)})::integer", at=at)
    match name:
        case "now":
            return Value("instant", "now()", at=at, nullable=False)
        case "mindatetime":
            return Value("instant", "'0001-01-01T00:00:00Z'::timestamptz", at=at, nullable=False)
        case "maxdatetime":
            return Value("instant", "'9999-12-31T23:59:59.999999Z'::timestamptz", at=at, nullable=False)
        case "fractionalseconds":
            clock = _clock(context, arguments[0], name)
            return Value(
                "number", f"(extract(second FROM {clock}) - floor(extract(second FROM {clock})))", at=at
            )
        case "date":
            return Value("date", f"({values.instant(context, arguments[0])} AT TIME ZONE 'UTC')::date", at=at)
        case "time":
            return Value("time", f"({values.instant(context, arguments[0])} AT TIME ZONE 'UTC')::time", at=at)
        case "totaloffsetminutes":
            # Times are kept in UTC; a constant's own offset was used up when it was read.
            moment = values.instant(context, arguments[0])
            return Value("number", f"(CASE WHEN {moment} IS NOT NULL THEN 0 END)", at=at)
        case "round" | "floor" | "ceiling":
            return Value("number", _rounded(name, values.number(context, arguments[0])), at=at)
        case "before" | "after" | "meets" | "during" | "overlaps" | "starts" | "finishes":
            return Value("boolean", _relation(context, name, *arguments), at=at)
        case _:
            return _of_texts(context, name, arguments, at)


def _clock(context: Context, value: Value, name: str) -> str:
    if value.type == "time" and name in ("hour", "minute", "second", "fractionalseconds"):
        return value.sql
    return f"({values.instant(context, value)} AT TIME ZONE 'UTC')"


def _rounded(name: str, sql: str) -> str:
    if name == "round":
        # Half goes away from zero, which only numeric does.
        return f"round(({sql})::numeric)"
    return f"{'floor' if name == 'floor' else 'ceil'}({sql})"


def _of_texts(context: Context, name: str, arguments: list[Value], at: int) -> Value:
    first = values.text(context, arguments[0])
    second = values.text(context, arguments[1]) if len(arguments) > 1 and name != "substring" else ""
    match name:
        case "substringof":
            # The first argument is what is looked for, as in OData 2.
            return Value("boolean", f"(strpos({second}, {first}) > 0)", at=at)
        case "endswith":
            return Value("boolean", f"(right({first}, length({second})) = {second})", at=at)
        case "startswith":
            return Value("boolean", f"starts_with({first}, {second})", at=at)
        case "length":
            return Value("number", f"length({first})", at=at)
        case "indexof":
            return Value("number", f"(strpos({first}, {second}) - 1)", at=at)
        case "tolower":
            return Value("text", f"lower({first})", at=at)
        case "toupper":
            return Value("text", f"upper({first})", at=at)
        case "trim":
            return Value("text", f"btrim({first})", at=at)
        case "concat":
            return Value("text", f"({first} || {second})", at=at)
        case "substring":
            start = f"least(greatest(({values.number(context, arguments[1])})::bigint, 0), 1000000)::integer"
            if len(arguments) == 2:
                return Value("text", f"substr({first}, {start} + 1)", at=at)
            length = f"least(greatest(({values.number(context, arguments[2])})::bigint, 0), 1000000)::integer"
            return Value("text", f"substr({first}, {start} + 1, {length})", at=at)
    raise context.error(f"there is no function {name}", at)


def _relation(context: Context, name: str, left: Value, right: Value) -> str:
    (start, end), (other_start, other_end) = values.period(context, left), values.period(context, right)
    match name:
        case "before":
            return f"({end} < {other_start})"
        case "after":
            return f"({start} > {other_end})"
        case "meets":
            return f"({end} = {other_start} OR {start} = {other_end})"
        case "during":
            return f"({start} >= {other_start} AND {end} <= {other_end})"
        case "overlaps":
            return f"({start} <= {other_end} AND {end} >= {other_start})"
        case "starts":
            return f"({start} = {other_start})"
        case _:
            return f"({end} = {other_end})"
