"""What an ``$apply`` asks of observations: which series, which time, what else, grouped and summed up how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

from quartier.interfaces.sensorthings.query.ast import (
    Aggregate,
    And,
    Apply,
    Arithmetic,
    Bucket,
    Call,
    Compare,
    Duration,
    Expression,
    In,
    Literal,
    Negate,
    Not,
    Or,
    Order,
    Path,
    Quantified,
    operands,
)
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.values import moved

SERIES = "Datastream"
TIME = "phenomenonTime"
RESULT = "result"
_TICK = timedelta(microseconds=1)  # the resolution of time in the store
_MIRRORED = {"ge": "le", "gt": "lt", "le": "ge", "lt": "gt", "eq": "eq"}
_OF_TIME = {"min", "max", "first", "last", "countdistinct"}


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Group by something of the Datastream; ``path`` as seen from there, ``steps`` as it was written."""

    path: Path
    steps: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ResultKey:
    """Group by the result itself: how often was it what?"""


Key = SeriesKey | Bucket | ResultKey


@dataclass(frozen=True, slots=True)
class Plan:
    """``since <= start of phenomenonTime < until`` in UTC; ``None``: unlimited.

    ``of_series`` is a condition as seen from the Datastream, ``of_observations`` what neither time nor Datastream can
    answer. ``order`` are places in ``keys`` and, behind them, in ``aggregates``, each with whether it descends.
    """

    since: datetime | None
    until: datetime | None
    of_series: Expression | None
    of_observations: Expression | None
    keys: tuple[Key, ...]
    aggregates: tuple[Aggregate, ...]
    order: tuple[tuple[int, bool], ...]

    @property
    def bucket(self) -> Bucket | None:
        """The key that cuts time into pieces."""
        return next((key for key in self.keys if isinstance(key, Bucket)), None)

    @property
    def series_keys(self) -> tuple[SeriesKey, ...]:
        """What has to be known of every Datastream."""
        return tuple(key for key in self.keys if isinstance(key, SeriesKey))


def make_plan(apply: Apply, orderby: Sequence[Order] = (), *, now: datetime | None = None) -> Plan:
    """The plan for ``$apply`` on a set of Observations.

    Raises QueryError for what cannot be aggregated or grouped by.
    """
    since: datetime | None = None
    until: datetime | None = None
    of_series: list[Expression] = []
    of_observations: list[Expression] = []
    for condition in _conjuncts(apply.filter):
        limits = _time_limits(condition, now or datetime.now(UTC))
        if limits is not None:
            since = max((one for one in (since, limits[0]) if one), default=None)
            until = min((one for one in (until, limits[1]) if one), default=None)
        elif _is_of_series(condition, frozenset()):
            of_series.append(seen_from_series(condition))
        else:
            of_observations.append(condition)
    keys = tuple(map(_key, apply.keys))
    if sum(isinstance(key, Bucket) for key in keys) > 1:
        _refuse("only one key can be a bucket", apply.at)
    if not apply.aggregates:
        _refuse("say what to compute: groupby((…),aggregate(…))", apply.at)
    for one in apply.aggregates:
        _check_aggregate(one)
    _check_names(apply)
    return Plan(
        since,
        until,
        _all_of(of_series),
        _all_of(of_observations),
        keys,
        apply.aggregates,
        tuple(_place(order, apply) for order in orderby),
    )


def _refuse(reason: str, at: int, option: str = "$apply") -> NoReturn:
    raise QueryError(reason, option=option, at=at)


def _conjuncts(condition: Expression | None) -> Iterable[Expression]:
    if condition is None:
        return ()
    return condition.operands if isinstance(condition, And) else (condition,)


def _all_of(conditions: list[Expression]) -> Expression | None:
    if len(conditions) > 1:
        return And(tuple(conditions), conditions[0].at)
    return conditions[0] if conditions else None


def _time_limits(node: Expression, now: datetime) -> tuple[datetime | None, datetime | None] | None:
    """Start and end, if a condition is about nothing but the time of the observation."""
    if not isinstance(node, Compare) or node.operator == "ne":
        return None
    operator: str = node.operator
    if _is_time(node.left):
        moment = _moment(node.right, now)
    elif _is_time(node.right):
        moment, operator = _moment(node.left, now), _MIRRORED[operator]
    else:
        return None
    if moment is None:
        return None
    try:
        moment = moment.astimezone(UTC)
        following = moment + _TICK
    except (OverflowError, ValueError):
        _refuse("the time is out of range", node.at)
    match operator:
        case "ge":
            return moment, None
        case "gt":
            return following, None
        case "le":
            return None, following
        case "lt":
            return None, moment
        case _:
            return moment, following


def _is_time(node: Expression) -> bool:
    return isinstance(node, Path) and node.steps == (TIME,)


def _moment(node: Expression, now: datetime) -> datetime | None:
    """The value of a constant time, such as ``now() sub duration'P7D'``."""
    match node:
        case Literal("instant", datetime() as value):
            return value
        case Literal("date", date() as value):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        case Call("now"):
            return now
        case Arithmetic("add" | "sub", left, Literal("duration", Duration() as by)):
            start = _moment(left, now)
            if start is None:
                return None
            try:
                return moved(start, by, 1 if node.operator == "add" else -1)
            except (OverflowError, ValueError):
                _refuse("the time is out of range", node.at)
    return None


def _is_of_series(node: Expression, variables: frozenset[str | int]) -> bool:
    """Whether the value follows from the Datastream alone."""
    if isinstance(node, Path):
        return node.steps[0] in variables or (node.steps[0] == SERIES and len(node.steps) > 1)
    if isinstance(node, Quantified) and node.variable is not None:
        variables = variables | {node.variable}
    return all(_is_of_series(below, variables) for below in operands(node))


def seen_from_series(node: Expression) -> Expression:
    """The same condition for somebody who stands at the Datastream."""
    match node:
        case Path():
            return replace(node, steps=node.steps[1:]) if node.steps[0] == SERIES else node
        case Or() | And():
            return replace(node, operands=tuple(map(seen_from_series, node.operands)))
        case Compare() | Arithmetic():
            return replace(node, left=seen_from_series(node.left), right=seen_from_series(node.right))
        case Not() | Negate() | In():
            return replace(node, operand=seen_from_series(node.operand))
        case Call():
            return replace(node, arguments=tuple(map(seen_from_series, node.arguments)))
        case Quantified():
            condition = None if node.condition is None else seen_from_series(node.condition)
            path: Any = seen_from_series(node.path)
            return replace(node, path=path, condition=condition)
        case Literal():
            return node


def _key(key: Path | Bucket) -> Key:
    if isinstance(key, Bucket):
        if key.path.steps != (TIME,):
            _refuse(f"only {TIME} can be cut into buckets", key.path.at)
        return key
    if key.steps == (RESULT,):
        return ResultKey()
    if key.steps[0] == SERIES and len(key.steps) > 1:
        return SeriesKey(replace(key, steps=key.steps[1:]), key.steps)
    if key.steps == (TIME,):
        _refuse(f"group by bucket({TIME},PT1H,'Europe/Berlin') instead of every single time", key.at)
    _refuse("keys are properties of the Datastream (Datastream/…), result, and bucket(…)", key.at)


def _check_aggregate(one: Aggregate) -> None:
    if one.path is None or one.path.steps == (RESULT,):
        return
    if one.path.steps != (TIME,):
        _refuse(f"only {RESULT} and {TIME} can be aggregated", one.path.at)
    if one.method not in _OF_TIME:
        _refuse(f"a time has no {one.method}", one.at)


def _check_names(apply: Apply) -> None:
    """Answers nest the parts of paths, and no other result may have the name of the outermost part."""
    outer = {key.steps[0] for key in apply.keys if isinstance(key, Path)}
    named: list[Bucket | Aggregate] = [key for key in apply.keys if isinstance(key, Bucket)]
    for one in (*named, *apply.aggregates):
        if one.alias in outer:
            _refuse(f"two results are called {one.alias}; name one by as", one.at)


def _place(order: Order, apply: Apply) -> tuple[int, bool]:
    wanted = order.expression
    for place, item in enumerate((*apply.keys, *apply.aggregates)):
        steps = item.steps if isinstance(item, Path) else (item.alias,)
        if isinstance(wanted, Path) and wanted.steps == steps:
            return place, order.descending
    _refuse("with $apply, only what it computes and groups by can be ordered by", order.at, "$orderby")
