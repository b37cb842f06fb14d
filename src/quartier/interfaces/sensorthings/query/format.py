"""Values of ``ast`` into the text of a request: for links to the next page, and for showing what was understood.

What is written here is read as the same values by ``parse``.
"""

from __future__ import annotations

import re
from typing import assert_never
from urllib.parse import quote

from quartier.interfaces.sensorthings.query.ast import (
    Aggregate,
    And,
    Apply,
    Arithmetic,
    Bucket,
    Call,
    Compare,
    Expand,
    Expression,
    In,
    Literal,
    Negate,
    Not,
    Options,
    Or,
    Order,
    Path,
    Quantified,
    Resource,
    Select,
)
from quartier.interfaces.sensorthings.query.fold import PRECEDENCE
from quartier.interfaces.sensorthings.query.parse import OPTION_NAMES
from quartier.interfaces.sensorthings.query.values import quoted, written, written_duration

_PLAIN_STEP = re.compile(r"[\w@:.$-]+")
# No "=", so that what looks for ``$top=`` in an address finds the list's own, not that of a nested $expand.
_SAFE = "$(),;/:'@!*-._~"
_TIGHTEST = 9


def format_options(options: Options) -> str:
    """The query string, percent-encoded; empty if no option is given."""
    # Names are plain, values are not.
    return "&".join(f"{name}={escaped(value)}" for name, value in _given(options))


def escaped(value: str) -> str:
    """The value of an option, percent-encoded."""
    return quote(value, safe=_SAFE)


def format_resource(resource: Resource) -> str:
    """``Things(1)/Datastreams``, percent-encoded, without a slash in front."""
    parts = []
    for segment in resource.segments:
        key = quoted(segment.key) if isinstance(segment.key, str) else segment.key
        places = "".join(f"[{place}]" for place in segment.indices)
        parts.append(segment.name + ("" if key is None else f"({key})") + places)
    if resource.suffix:
        parts.append(resource.suffix)
    return quote("/".join(parts), safe=_SAFE + "[]")


def _given(options: Options) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for field, name in OPTION_NAMES.items():
        value = getattr(options, field)
        if value is None or value == ():
            continue
        match field:
            case "filter":
                text = format_expression(value)
            case "orderby":
                text = ",".join(map(_order, value))
            case "select":
                text = _select(value)
            case "expand":
                text = ",".join(map(_expand, value))
            case "apply":
                text = format_apply(value)
            case "count":
                text = "true" if value else "false"
            case _:
                text = str(value)
        found.append((name, text))
    return found


def _order(order: Order) -> str:
    return format_expression(order.expression) + (" desc" if order.descending else "")


def _select(select: Select) -> str:
    return ("distinct:" if select.distinct else "") + ",".join(map(format_path, select.paths))


def _expand(link: Expand) -> str:
    inner = ";".join(f"{name}={value}" for name, value in _given(link.options))
    return f"{link.name}({inner})" if inner else link.name


def format_path(path: Path) -> str:
    """``properties/list[0]/'a key'``"""
    text = ""
    for step in path.steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("/" if text else "") + (step if _PLAIN_STEP.fullmatch(step) else quoted(step))
    return text


def format_expression(node: Expression, least: int = 0) -> str:
    """An expression, in parentheses if its operators bind less tightly than ``least``."""
    text, binds = _expression(node)
    return f"({text})" if binds < least else text


def _expression(node: Expression) -> tuple[str, int]:
    match node:
        case Literal():
            return written(node), _TIGHTEST
        case Path():
            return format_path(node), _TIGHTEST
        case Or() | And():
            word = "or" if isinstance(node, Or) else "and"
            binds = PRECEDENCE[word]
            return f" {word} ".join(format_expression(one, binds + 1) for one in node.operands), binds
        case Compare() | Arithmetic():
            binds = PRECEDENCE[node.operator]
            left, right = format_expression(node.left, binds), format_expression(node.right, binds + 1)
            return f"{left} {node.operator} {right}", binds
        case Not():
            return f"not {format_expression(node.operand, PRECEDENCE['not'])}", PRECEDENCE["not"]
        case Negate():
            # A digit behind a minus would make another constant.
            least = _TIGHTEST + 1 if isinstance(node.operand, Literal) else PRECEDENCE["-"]
            return f"-{format_expression(node.operand, least)}", PRECEDENCE["-"]
        case In():
            binds = PRECEDENCE["in"]
            values = ",".join(map(written, node.values))
            return f"{format_expression(node.operand, binds)} in ({values})", binds
        case Call():
            return f"{node.name}({','.join(map(format_expression, node.arguments))})", _TIGHTEST
        case Quantified():
            inner = "" if node.condition is None else f"{node.variable}:{format_expression(node.condition)}"
            return f"{format_path(node.path)}/{node.quantifier}({inner})", _TIGHTEST
        case _:
            assert_never(node)


def format_apply(apply: Apply) -> str:
    """``filter(…)/groupby((…),aggregate(…))``"""
    before = "" if apply.filter is None else f"filter({format_expression(apply.filter)})/"
    aggregates = f"aggregate({','.join(map(_aggregate, apply.aggregates))})" if apply.aggregates else ""
    if not apply.keys:
        return before + aggregates
    keys = ",".join(_bucket(key) if isinstance(key, Bucket) else format_path(key) for key in apply.keys)
    return f"{before}groupby(({keys}){',' if aggregates else ''}{aggregates})"


def _bucket(key: Bucket) -> str:
    zone = quoted(key.time_zone)
    return f"bucket({format_path(key.path)},{written_duration(key.width)},{zone}) as {key.alias}"


def _aggregate(one: Aggregate) -> str:
    if one.path is None:
        return f"$count as {one.alias}"
    return f"{format_path(one.path)} with {one.method} as {one.alias}"
