"""``$filter`` and ``$orderby`` into SQL (18-088 section 9.3.3.5).

A condition on targets of a link to many holds if it holds for any of them. Comparing with nothing is as OData says:
``ne`` is true, everything else false.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

from quartier.interfaces.sensorthings.compile import geometry, values
from quartier.interfaces.sensorthings.compile.context import Context, Scope, select
from quartier.interfaces.sensorthings.compile.functions import call
from quartier.interfaces.sensorthings.compile.paths import ToMany, Variables, array_text, resolve
from quartier.interfaces.sensorthings.compile.values import Type, Value
from quartier.interfaces.sensorthings.model import target
from quartier.interfaces.sensorthings.query.ast import (
    And,
    Arithmetic,
    Call,
    Comparator,
    Compare,
    Expression,
    In,
    Literal,
    Negate,
    Not,
    Or,
    Path,
    Quantified,
)

_SQL: Final[dict[Comparator, str]] = {
    "eq": "=",
    "ne": "IS DISTINCT FROM",
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
}
_MIRRORED: Final[dict[Comparator, Comparator]] = {
    "eq": "eq",
    "ne": "ne",
    "gt": "lt",
    "ge": "le",
    "lt": "gt",
    "le": "ge",
}
_ARITHMETIC: Final = {"add": "+", "sub": "-", "mul": "*"}
_TIMES: Final[frozenset[Type]] = frozenset({"instant", "period"})


def conditions(context: Context, scope: Scope, node: Expression) -> list[str]:
    """SQL for a condition, in parts that all have to hold."""
    parts = node.operands if isinstance(node, And) else (node,)
    return [condition(context, scope, one) for one in parts]


def condition(context: Context, scope: Scope, node: Expression, variables: Variables | None = None) -> str:
    """SQL for a condition on the rows of ``scope``."""
    variables = variables or {}
    match node:
        case And() | Or():
            word = " AND " if isinstance(node, And) else " OR "
            return f"({word.join(condition(context, scope, one, variables) for one in node.operands)})"
        case Not():
            return f"({condition(context, scope, node.operand, variables)} IS NOT TRUE)"
        case Quantified():
            return _quantified(context, scope, node, variables)
        case _:
            try:
                return values.boolean(context, evaluate(context, scope, node, variables))
            except ToMany as link:
                return _any(context, scope, node, variables, link)


def _any(context: Context, scope: Scope, node: Expression, variables: Variables, link: ToMany) -> str:
    """Of the condition ``node``, one path crosses a link to many: is there a target for which it holds?"""
    found = link.scope.entity.link_by_name[link.name]
    inner = context.scope(target(found))
    link.scope.within[link.name] = inner
    try:
        test = condition(context, scope, node, variables)
    finally:
        del link.scope.within[link.name]
    where = [inner.follow(found, link.scope), *inner.conditions(), test]
    return f"EXISTS ({select([inner], ['1'], where)})"


def _quantified(context: Context, scope: Scope, node: Quantified, variables: Variables) -> str:
    steps = list(node.path.steps)
    at = node.path.at
    if (named := variables.get(str(steps[0]))) is not None:
        scope = named
        steps.pop(0)
    for name in steps[:-1]:
        link = scope.entity.find_link(name)
        if link is None or link.many:
            raise context.error(f"{scope.entity.name} has no single link {str(name)[:60]!r}", at)
        scope = scope.join(link)
    link = scope.entity.find_link(steps[-1]) if steps else None
    if link is None or not link.many:
        name = str(steps[-1])[:60] if steps else ""
        raise context.error(
            f"{node.quantifier} needs a link to many; {name!r} of {scope.entity.name} is none", at
        )
    inner = context.scope(target(link))
    where = [inner.follow(link, scope), *inner.conditions()]
    if node.condition is not None:
        known = variables | ({node.variable: inner} if node.variable else {})
        test = condition(context, inner, node.condition, known)
        where.append(f"{test} IS NOT TRUE" if node.quantifier == "all" else test)
    return f"{'NOT ' if node.quantifier == 'all' else ''}EXISTS ({select([inner], ['1'], where)})"


def evaluate(context: Context, scope: Scope, node: Expression, variables: Variables) -> Value:
    """The value of an expression. Raises QueryError or ToMany."""
    match node:
        case Literal():
            return values.of_literal(context, node)
        case Path():
            return resolve(context, scope, node, variables)
        case Compare() if (nearby := _nearby(context, scope, node, variables)) is not None:
            return Value("boolean", nearby, at=node.at)
        case Compare():
            left = evaluate(context, scope, node.left, variables)
            right = evaluate(context, scope, node.right, variables)
            return Value("boolean", compare(context, node.operator, left, right, node.at), at=node.at)
        case In():
            return Value("boolean", _in(context, scope, node, variables), at=node.at)
        case Arithmetic():
            left = evaluate(context, scope, node.left, variables)
            right = evaluate(context, scope, node.right, variables)
            return _arithmetic(context, node, left, right)
        case Negate():
            inner = evaluate(context, scope, node.operand, variables)
            if inner.type == "duration":
                return Value("duration", f"(-{inner.sql})", at=node.at)
            return Value("number", f"(-({values.number(context, inner)}))", at=node.at)
        case Call():
            arguments = [evaluate(context, scope, one, variables) for one in node.arguments]
            return call(context, node, arguments)
        case And() | Or() | Not() | Quantified():
            return Value("boolean", condition(context, scope, node, variables), at=node.at)
        case _:
            assert_never(node)


def _nearby(context: Context, scope: Scope, node: Compare, variables: Variables) -> str | None:
    """``geo.distance(location, geography'POINT(…)') lt 0.1``, which has an exact answer for all shapes."""
    operator, distance, far = node.operator, node.left, node.right
    if isinstance(distance, Literal):
        operator, distance, far = _MIRRORED[operator], far, distance
    if not (isinstance(distance, Call) and distance.name == "geo.distance" and isinstance(far, Literal)):
        return None
    if far.kind not in ("integer", "decimal") or operator in ("eq", "ne"):
        return None
    arguments = [evaluate(context, scope, one, variables) for one in distance.arguments]
    limit = min(max(float(str(far.value)), -1.0), 1e6)
    closer = geometry.near(context, distance, arguments, limit, closer=operator in ("le", "gt"))
    return closer if operator in ("lt", "le") else f"(NOT {closer})"


def _in(context: Context, scope: Scope, node: In, variables: Variables) -> str:
    operand = evaluate(context, scope, node.operand, variables)
    kinds = {literal.kind for literal in node.values}
    # One array instead of many comparisons, where they are all alike.
    if kinds == {"text"} and operand.type in ("text", "json"):
        items = context.bind(array_text([str(one.value) for one in node.values]), "text[]")
        return f"({values.text(context, operand)} = ANY({items}))"
    whole = kinds == {"integer"} and all(abs(int(str(one.value))) < 1 << 62 for one in node.values)
    if whole and (operand.type == "number" or _is_plain_id(operand)):
        items = context.bind("{" + ",".join(str(one.value) for one in node.values) + "}", "bigint[]")
        return f"({operand.sql} = ANY({items}))"
    tests = [compare(context, "eq", operand, values.of_literal(context, one), one.at) for one in node.values]
    return f"({' OR '.join(tests)})"


def _is_plain_id(value: Value) -> bool:
    return value.type == "id" and value.scope is not None and not value.scope.entity.id_is_text


def compare(context: Context, operator: Comparator, left: Value, right: Value, at: int) -> str:
    """SQL for a comparison of any two values."""
    if left.type == "null" and right.type != "null":
        left, right, operator = right, left, _MIRRORED[operator]
    if right.type == "null":
        return _with_null(operator, left)
    types = {left.type, right.type}
    if "id" in types and not types <= {"id", "number"}:
        if left.type != "id":
            left, right, operator = right, left, _MIRRORED[operator]
        return _id(context, operator, left, right)
    if _TIMES & types:
        return _times(context, operator, left, right)
    if "geometry" in types:
        raise context.error("geometries are compared with functions, such as st_equals", at)
    sql = _SQL[operator]
    for type_, read in (
        ("number", values.number),
        ("text", values.text),
        ("boolean", values.boolean),
    ):
        if type_ in types:
            first, second = read(context, left), read(context, right)
            if operator == "ne" and not (left.nullable or right.nullable):
                sql = "<>"
            return f"({first} {sql} {second})"
    if types == {"result"}:
        return f"({left.sql} {sql} {right.sql})"
    if types == {"id"}:
        return f"({left.sql} {sql} {right.sql})"
    if types <= {"json", "result"}:
        first, second = (
            one.sql if one.type == "json" else f"coalesce(to_jsonb({one.sql}), {one.end})"
            for one in (left, right)
        )
        return f"({first} {sql} {second})"
    if types in ({"date"}, {"time"}, {"duration"}):
        return f"({left.sql} {sql} {right.sql})"
    raise context.error(f"{values.WORDS[left.type]} cannot be compared with {values.WORDS[right.type]}", at)


def _with_null(operator: Comparator, value: Value) -> str:
    if operator not in ("eq", "ne"):
        return "FALSE"
    if value.type == "null":
        return "TRUE" if operator == "eq" else "FALSE"
    missing = f"{value.sql} IS NULL"
    if value.type == "json":
        missing = f"(jsonb_typeof({value.sql}) = 'null') IS NOT FALSE"
    elif value.type == "result":
        missing = f"({value.sql} IS NULL AND {value.end} IS NULL)"
    elif value.type == "geometry" and value.literal is not None:
        missing = "FALSE"
    return f"({missing})" if operator == "eq" else f"(NOT ({missing}))"


def _id(context: Context, operator: Comparator, left: Value, right: Value) -> str:
    """An id compared with a text: that of an observation is its key, of anything else a number."""
    sql = _SQL[operator]
    constant = right.literal
    if constant is None or right.type != "text" or left.scope is None:
        return f"({values.text(context, left)} {sql} {values.text(context, right)})"
    if not left.scope.entity.id_is_text:
        plain = str(constant.value)
        if not plain.isdecimal() or len(plain) > 18:
            return "FALSE" if operator != "ne" else "TRUE"
        return f"({left.sql} {sql} {context.bind(plain, 'bigint')})"
    key = observation_key(str(constant.value))
    if operator in ("eq", "ne"):
        if key is None:
            return "FALSE" if operator == "eq" else "TRUE"
        same = left.scope.sql(
            f"({{a}}_s.id = {context.bind(key[0], 'integer')} AND {{a}}.time = {context.bind(key[1], 'timestamptz')})"
        )
        return same if operator == "eq" else f"(NOT {same})"
    if key is None:
        raise context.error("this is no id of an observation", right.at)
    row = f"({context.bind(key[0], 'integer')}, {context.bind(key[1], 'timestamptz')})"
    return left.scope.sql(f"(({{a}}.series_id, {{a}}.time) {sql} {row})")


def observation_key(text: str) -> tuple[str, str] | None:
    """Series and time (as PostgreSQL reads it) of an observation's id; None if it is none."""
    series, dot, moment = text.partition(".")
    digits = moment.removeprefix("-")
    if not (dot and series.isascii() and series.isdecimal() and digits.isascii() and digits.isdecimal()):
        return None
    if len(series) > 9 or len(digits) > 16:
        return None
    seconds, micros = divmod(int(moment), 1_000_000)
    try:
        exact = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=micros)
    except OverflowError:
        return None
    return series, exact.isoformat()


def _times(context: Context, operator: Comparator, left: Value, right: Value) -> str:
    """Times and periods: before means that the first ends when or before the second begins.

    Of two moments this is the plain comparison. Constants are moments or periods as they are written; a property that
    may be a period is asked for its end as well.
    """
    (start, end), (other_start, other_end) = values.period(context, left), values.period(context, right)
    if start == end and other_start == other_end:
        return f"({start} {_SQL[operator]} {other_start})"
    moment = other_start == other_end
    match operator:
        case "eq":
            return f"({start} = {other_start} AND {end} = {other_end})"
        case "ne":
            return f"(({start}, {end}) IS DISTINCT FROM ({other_start}, {other_end}))"
        case "lt" if start == end:
            return f"({start} < {other_start})"
        case "lt":
            return f"({start} < {other_start} AND {end} <= {other_start})"
        case "gt" if moment:
            return f"({start} > {other_start})"
        case "gt":
            return f"({start} >= {other_end} AND {end} > {other_start})"
        case "le":
            return f"({start} <= {other_start} AND {end} <= {other_end})"
        case "ge":
            return f"({start} >= {other_start} AND {end} >= {other_end})"


def _arithmetic(context: Context, node: Arithmetic, left: Value, right: Value) -> Value:
    types = (left.type, right.type)
    if "duration" in types or (_TIMES & set(types)):
        return _time_arithmetic(context, node, left, right)
    first, second = values.number(context, left), values.number(context, right)
    match node.operator:
        case "div":
            # Nothing divided by zero is anything; whole numbers stay whole (OData 4.01 part 2, 5.1.1.2.4).
            return Value("number", f"({first} / nullif({second}, 0))", at=node.at)
        case "mod":
            return Value("number", f"mod(({first})::numeric, nullif(({second})::numeric, 0))", at=node.at)
        case _:
            return Value("number", f"({first} {_ARITHMETIC[node.operator]} {second})", at=node.at)


def _time_arithmetic(context: Context, node: Arithmetic, left: Value, right: Value) -> Value:
    sign = _ARITHMETIC.get(node.operator, "")
    if left.type in _TIMES | {"date"} and right.type == "duration" and sign in ("+", "-"):
        start, end = values.period(context, left)
        start, end = f"({start} {sign} {right.sql})", f"({end} {sign} {right.sql})"
        return Value("period" if left.type == "period" else "instant", start, end, node.at)
    if left.type == "duration" and right.type in _TIMES and sign == "+":
        return _time_arithmetic(context, node, right, left)
    if left.type in _TIMES and right.type in _TIMES and sign == "-":
        return Value(
            "duration", f"({values.instant(context, left)} - {values.instant(context, right)})", at=node.at
        )
    if left.type == right.type == "duration" and sign in ("+", "-"):
        return Value("duration", f"({left.sql} {sign} {right.sql})", at=node.at)
    if left.type == "duration" and right.type == "number" and node.operator in ("mul", "div"):
        divisor = f"nullif({right.sql}::double precision, 0)"
        sql = f"({left.sql} * {right.sql}::double precision)" if sign else f"({left.sql} / {divisor})"
        return Value("duration", sql, at=node.at)
    words = f"{values.WORDS[left.type]} and {values.WORDS[right.type]}"
    raise context.error(f"{node.operator} cannot join {words}", node.at)
