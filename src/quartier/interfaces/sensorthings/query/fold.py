"""From what the grammar found to the nodes of ``ast``: order of precedence, and what a grammar cannot say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, cast

from lark import Token, Transformer

from quartier.interfaces.sensorthings.query import values
from quartier.interfaces.sensorthings.query.ast import (
    FUNCTIONS,
    And,
    Arithmetic,
    Call,
    Compare,
    Expand,
    Expression,
    In,
    Literal,
    LiteralKind,
    Negate,
    Not,
    Options,
    Or,
    Order,
    Path,
    Quantified,
    Select,
    operands,
)
from quartier.interfaces.sensorthings.query.errors import QueryError

MAX_LIST = 1000
MAX_DEPTH = 40
MAX_LINKS = 40
MAX_LINK_DEPTH = 10
MAX_ORDER = 10
MAX_COUNT = 2**31 - 1

# How tightly operators bind (OData 4.01 part 2, 5.1.1.16). ``not`` stands between comparisons and ``and``, as in FROST:
# ``not a eq b`` is ``not (a eq b)``, which for a boolean ``a`` is what OData's order says too.
PRECEDENCE = {
    "or": 1,
    "and": 2,
    "not": 3,
    **dict.fromkeys(("eq", "ne"), 4),
    **dict.fromkeys(("gt", "ge", "lt", "le", "in"), 5),
    **dict.fromkeys(("add", "sub"), 6),
    **dict.fromkeys(("mul", "div", "mod"), 7),
    "-": 8,
}
_ARITHMETIC = {"add", "sub", "mul", "div", "mod"}
_STEP = re.compile(r"'((?:[^']|'')*)'|\[([0-9]+)\]|([^/'\[\]]+)")
_RELATE = re.compile(r"[TF012*]{9}", re.IGNORECASE)


class _Row:
    """Operands and operators as they are written, read from left to right."""

    __slots__ = ("at", "items")

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.at = 0

    def expression(self, least: int) -> Expression:
        """The longest expression from here whose operators bind at least as tightly as ``least``."""
        left = self._operand()
        items = self.items
        while self.at < len(items):
            token = items[self.at]
            operator = token.lower()
            binds = PRECEDENCE[operator]
            if binds < least:
                break
            self.at += 1
            if operator == "in":
                left = In(left, items[self.at], token.start_pos)
                self.at += 1
            else:
                left = _joined(operator, left, self.expression(binds + 1), token.start_pos)
        return left

    def _operand(self) -> Expression:
        item = self.items[self.at]
        self.at += 1
        if not isinstance(item, Token):
            return cast(Expression, item)
        operator = item.lower()
        operand = self.expression(PRECEDENCE[operator])
        at = cast(int, item.start_pos)
        return negated(operand, at) if operator == "-" else Not(operand, at)


def _joined(operator: str, left: Expression, right: Expression, at: int) -> Expression:
    if operator in {"and", "or"}:
        kind = And if operator == "and" else Or
        first = left.operands if isinstance(left, kind) else (left,)
        second = right.operands if isinstance(right, kind) else (right,)
        return kind((*first, *second), at)
    if operator in _ARITHMETIC:
        return Arithmetic(cast(Any, operator), left, right, at)
    return Compare(cast(Any, operator), left, right, at)


def negated(operand: Expression, at: int = 0) -> Expression:
    """Unary minus; a number becomes its opposite."""
    if isinstance(operand, Literal) and operand.kind in {"integer", "decimal"}:
        return Literal(operand.kind, -cast(Any, operand.value), at)
    return Negate(operand, at)


def path(token: str, at: int) -> Path:
    """``a/b[0]/'c d'`` cut into its steps."""
    if "[" not in token and "'" not in token:
        return Path(tuple(token.split("/")), at)
    steps: list[str | int] = []
    for found in _STEP.finditer(token):
        text, index, name = found.groups()
        steps.append(int(index) if index else name or text.replace("''", "'"))
    return Path(tuple(steps), at)


def bounded(expression: Expression) -> Expression:
    """The same expression, if whoever walks through it may use recursion."""
    level: Iterable[Expression] = (expression,)
    for _ in range(MAX_DEPTH):
        level = [below for node in level for below in operands(node)]
        if not level:
            return expression
    raise QueryError(f"the expression is nested more than {MAX_DEPTH} levels deep", at=expression.at)


def merged(links: Iterable[Expand]) -> tuple[Expand, ...]:
    """Links of one level, each name once: ``A/B,A/C`` asks for A with B and C."""
    found: dict[str, Expand] = {}
    for link in links:
        before = found.get(link.name)
        if before is None:
            found[link.name] = link
            continue
        bare = Options(expand=())
        first, second = replace(before.options, expand=()), replace(link.options, expand=())
        if bare not in (first, second) and first != second:
            raise QueryError(f"{link.name} is expanded twice with different options", at=link.at)
        options = first if second == bare else second
        below = merged((*before.options.expand, *link.options.expand))
        found[link.name] = replace(before, options=replace(options, expand=below))
    return tuple(found.values())


def _check_links(links: tuple[Expand, ...]) -> None:
    level, count = links, 0
    for _ in range(MAX_LINK_DEPTH):
        count += len(level)
        level = tuple(below for link in level for below in link.options.expand)
    if level:
        raise QueryError(f"$expand is nested more than {MAX_LINK_DEPTH} levels deep", at=level[0].at)
    if count > MAX_LINKS:
        raise QueryError(f"more than {MAX_LINKS} links are expanded", at=links[-1].at)


def _constant(kind: LiteralKind, read: Callable[[str], Any]) -> Callable[[Any, Token], Literal]:
    def callback(_: Any, token: Token) -> Literal:
        at = cast(int, token.start_pos)
        try:
            return Literal(kind, read(token), at)
        except QueryError as error:
            raise QueryError(error.reason, at=at) from None

    return callback


def _inside(text: str) -> str:
    return text[text.index("'") + 1 : -1]


class Fold(Transformer[Token, Any]):
    """Called by the parser for each rule and each token that it has read; keeps nothing."""

    # The names of rules and tokens are the grammar's.
    NULL = _constant("null", lambda _: None)
    BOOLEAN = _constant("boolean", lambda text: text.lower() == "true")
    INTEGER = _constant("integer", values.integer)
    DECIMAL = _constant("decimal", values.decimal)
    TEXT = _constant("text", values.unquoted)
    INSTANT = _constant("instant", lambda text: values.instant(text.upper()))
    DATE = _constant("date", values.day)
    TIME = _constant("time", values.clock)
    DURATION = _constant("duration", lambda text: values.duration(_inside(text)))
    INTERVAL = _constant("interval", lambda text: values.interval(text.upper()))
    GEOMETRY = _constant("geometry", lambda text: values.geometry(_inside(text)))

    def PATH(self, token: Token) -> Path:  # noqa: N802
        return path(token, cast(int, token.start_pos))

    # -- expressions

    def expression(self, found: list[list[Any]]) -> Expression:
        row = found[0]
        if len(row) == 1:
            return cast(Expression, row[0])
        return _Row(row).expression(0)

    def row(self, found: list[Any]) -> list[Any]:
        # Operands and operators of one level, in the order in which they are written.
        first = found[0]
        row = first if isinstance(first, list) else [first]
        if len(found) == 3:
            row.append(found[1])
            row += found[2] if isinstance(found[2], list) else (found[2],)
        return row

    def prefixed(self, found: list[Any]) -> list[Any]:
        sign, operand = found
        if not isinstance(operand, list):
            return [sign, operand]
        if len(operand) > MAX_DEPTH:
            raise QueryError(f"more than {MAX_DEPTH} times not or minus", at=sign.start_pos)
        return [sign, *operand]

    def values(self, literals: list[Literal]) -> tuple[Literal, ...]:
        if len(literals) > MAX_LIST:
            raise QueryError(f"a list may have {MAX_LIST} values", at=literals[MAX_LIST].at)
        return tuple(literals)

    def call(self, row: list[Any]) -> Call:
        token, *arguments = row
        at = token.start_pos
        name = token[:-1].strip().lower()
        if name == "contains":  # OData's younger spelling, with its arguments the other way round
            name, arguments = "substringof", arguments[::-1]
        allowed = FUNCTIONS.get(name)
        if allowed is None:
            close = get_close_matches(name, FUNCTIONS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise QueryError(f"there is no function {name[:40]}{hint}", at=at)
        fewest, most = allowed
        if not fewest <= len(arguments) <= most:
            wanted = str(most) if fewest == most else f"{fewest} or {most}"
            plural = "" if most == 1 else "s"
            raise QueryError(f"{name} takes {wanted} argument{plural}, not {len(arguments)}", at=at)
        if name == "st_relate":
            pattern = arguments[2]
            if not isinstance(pattern, Literal) or not _RELATE.fullmatch(str(pattern.value)):
                raise QueryError("st_relate takes a pattern of nine signs of TF012*", at=pattern.at)
        return Call(name, tuple(arguments), at)

    def quantified(self, row: list[Any]) -> Quantified:
        token = row[0]
        at = token.start_pos
        way, _, quantifier = token[:-1].rstrip().rpartition("/")
        name: Any = quantifier.lower()
        if len(row) == 1:
            if name == "all":
                raise QueryError("all needs a condition, such as all(d: d/name eq 'x')", at=at)
            return Quantified(name, path(way, at), at=at)
        return Quantified(name, path(way, at), row[1][:-1].rstrip(), row[2], at)

    # -- options

    def filter(self, row: list[Any]) -> Expression:
        return bounded(row[0])

    def order(self, row: list[Any]) -> Order:
        descending = len(row) > 1 and row[1].lower() == "desc"
        return Order(bounded(row[0]), descending, row[0].at)

    def orderby(self, orders: list[Order]) -> tuple[Order, ...]:
        if len(orders) > MAX_ORDER:
            raise QueryError(f"at most {MAX_ORDER} orders are possible", at=orders[MAX_ORDER].at)
        return tuple(orders)

    def select(self, row: list[Any]) -> Select:
        distinct = isinstance(row[0], Token)
        paths = tuple(dict.fromkeys(row[1:] if distinct else row))
        return Select(paths, distinct)

    def option(self, row: list[Any]) -> tuple[str, Any, int]:
        token, value = row
        name = token[1:-1].strip().lower()
        at = token.start_pos
        if name in {"top", "skip"}:
            value = count(value, at)
        elif name == "count":
            value = value.value
        return name, value, at

    def step(self, row: list[Any]) -> Expand:
        token, *given = row
        found: dict[str, Any] = {}
        for name, value, at in given:
            if name in found:
                raise QueryError(f"${name} is given twice", at=at)
            found[name] = value
        return Expand(str(token), Options(**found), token.start_pos)

    def link(self, steps: list[Expand]) -> Expand:
        inner = steps[-1]
        for outer in reversed(steps[:-1]):
            below = merged((*outer.options.expand, inner))
            inner = replace(outer, options=replace(outer.options, expand=below))
        return inner

    def expand(self, links: list[Expand]) -> tuple[Expand, ...]:
        found = merged(links)
        _check_links(found)
        return found


def count(literal: Literal, at: int) -> int:
    """The value of ``$top`` or ``$skip``."""
    value = cast(int, literal.value)
    if not 0 <= value <= MAX_COUNT:
        raise QueryError(f"{value} is not between 0 and {MAX_COUNT}", at=at)
    return value
