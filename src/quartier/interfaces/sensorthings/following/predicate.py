"""Simple filters answered from a reading alone, without asking the store: comparisons of the result with numbers.

Whatever else a filter may say is left to the store, so that there is one meaning of every filter.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from quartier.interfaces.sensorthings.query.ast import And, Compare, Expression, In, Literal, Not, Or, Path

# Takes the result of a reading.
type Predicate = Callable[[Any], bool]

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_TURNED: Final = {"eq": "eq", "ne": "ne", "gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}


class Undecided(Exception):
    """The result is no number: the store has to be asked."""


def predicate(filter_: Expression | None) -> Predicate | None:
    """A filter as a function of the result, which may raise Undecided; None where the store has to answer it."""
    if filter_ is None:
        return lambda _: True
    match filter_:
        case And():
            return _joined(filter_.operands, all)
        case Or():
            return _joined(filter_.operands, any)
        case Not():
            inner = predicate(filter_.operand)
            return None if inner is None else lambda result: not inner(result)
        case Compare(operator=name, left=Path(steps=("result",)), right=Literal() as literal):
            return _compared(_OPERATORS[name], literal)
        case Compare(operator=name, left=Literal() as literal, right=Path(steps=("result",))):
            return _compared(_OPERATORS[_TURNED[name]], literal)
        case In(operand=Path(steps=("result",))):
            numbers = [_number(one) for one in filter_.values]
            if None in numbers:
                return None
            return lambda result: _checked(result) in numbers
    return None


def _joined(operands: tuple[Expression, ...], how: Callable[[Any], bool]) -> Predicate | None:
    parts = [predicate(one) for one in operands]
    known = [one for one in parts if one is not None]
    if len(known) < len(parts):
        return None
    return lambda result: how(part(result) for part in known)


def _number(literal: Literal) -> float | None:
    if literal.kind in ("integer", "decimal") and isinstance(literal.value, int | Decimal):
        return float(literal.value)
    return None


def _compared(function: Callable[[Any, Any], bool], literal: Literal) -> Predicate | None:
    number = _number(literal)
    return None if number is None else lambda result: function(_checked(result), number)


def _checked(result: Any) -> float:
    if isinstance(result, bool) or not isinstance(result, int | float):
        raise Undecided
    return float(result)
