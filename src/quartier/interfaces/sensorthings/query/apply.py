"""``$apply``: the part of the OData Extension for Data Aggregation 4.0 that a time series needs, plus time buckets.

``filter(…)/groupby((keys),aggregate(…))``, where a key may be ``bucket(phenomenonTime,PT1H,'Europe/Berlin')``: people
live in local time, and a day's maximum belongs to a civil day, which UTC or a fixed number of hours cannot say.
"""

from __future__ import annotations

import zoneinfo
from datetime import timedelta
from typing import Any

from lark import Token

from quartier.interfaces.sensorthings.query import values
from quartier.interfaces.sensorthings.query.ast import (
    Aggregate,
    And,
    Apply,
    Bucket,
    Duration,
    Expression,
    Literal,
    Path,
)
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.fold import Fold, bounded

MAX_KEYS = 5
MAX_AGGREGATES = 20
_METHODS = {
    "average": "average",
    "avg": "average",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "countdistinct": "countdistinct",
    "first": "first",
    "last": "last",
    "stddev": "stddev",
}
_DAY = timedelta(days=1)


class ApplyFold(Fold):
    """The parser's callbacks for ``$apply`` as well."""

    def WIDTH(self, token: Token) -> Duration:  # noqa: N802
        text = token[token.index("'") + 1 : -1] if token.endswith("'") else str(token)
        try:
            return _width(text)
        except QueryError as error:
            raise QueryError(error.reason, at=token.start_pos) from None

    def bucket(self, row: list[Any]) -> Bucket:
        token, path, width, *rest = row
        zone, alias = "UTC", str(path.steps[-1])
        for item in rest:
            if isinstance(item, Literal):
                zone = _zone(item)
            else:
                alias = str(item)
        return Bucket(path, width, zone, alias, token.start_pos)

    def aggregation(self, row: list[Any]) -> Aggregate:
        if len(row) == 2:
            return Aggregate("count", None, str(row[1]), row[0].start_pos)
        path, method, alias = row
        known: Any = _METHODS.get(method.lower())
        if known is None:
            names = ", ".join(dict.fromkeys(_METHODS.values()))
            raise QueryError(f"there is no method {method[:40]}; there are {names}", at=method.start_pos)
        return Aggregate(known, path, str(alias), path.at)

    def aggregate(self, row: list[Any]) -> Apply:
        if len(row) > MAX_AGGREGATES:
            raise QueryError(f"at most {MAX_AGGREGATES} aggregates are possible", at=row[MAX_AGGREGATES].at)
        return Apply(None, (), tuple(row), row[0].at)

    def groupby(self, row: list[Any]) -> Apply:
        keys = tuple(item for item in row if not isinstance(item, Apply))
        if len(keys) > MAX_KEYS:
            raise QueryError(f"at most {MAX_KEYS} keys are possible", at=keys[MAX_KEYS].at)
        return Apply(None, keys, row[-1].aggregates if isinstance(row[-1], Apply) else (), keys[0].at)

    def keep(self, row: list[Any]) -> Expression:
        return bounded(row[0])

    def apply(self, row: list[Any]) -> Apply:
        *before, last = row
        if not isinstance(last, Apply):
            raise QueryError("filter(…) must be followed by / and groupby(…) or aggregate(…)", at=last.at)
        for item in before:
            if isinstance(item, Apply):
                raise QueryError("nothing can follow groupby(…) or aggregate(…)", at=last.at)
        conditions: list[Expression] = []
        for item in before:
            conditions += item.operands if isinstance(item, And) else (item,)
        condition: Expression | None = conditions[0] if conditions else None
        if len(conditions) > 1:
            condition = bounded(And(tuple(conditions), before[0].at))
        _check_names(last)
        return Apply(condition, last.keys, last.aggregates, last.at)


def _width(text: str) -> Duration:
    width = values.duration(text)
    if width.months and width.rest:
        raise QueryError(f"a bucket is whole months or a fixed time, not both as {text}")
    if width.months < 0 or width.rest < timedelta(0) or not (width.months or width.rest):
        raise QueryError(f"a bucket lasts longer than {text}")
    if width.months and 12 % width.months and width.months % 12:
        raise QueryError(f"months must divide a year or be whole years, which {text} does not")
    if not width.months and (width.rest % _DAY if width.rest > _DAY else _DAY % width.rest):
        raise QueryError(f"a bucket must divide a day or be whole days, which {text} does not")
    if width.rest and width.rest < timedelta(seconds=1):
        raise QueryError("a bucket lasts one second at least")
    return width


def _zone(literal: Literal) -> str:
    name = str(literal.value)
    if name in _zones():
        return name
    raise QueryError(f"there is no time zone {name[:40]!r}; an example is 'Europe/Berlin'", at=literal.at)


_known_zones: frozenset[str] = frozenset()


def _zones() -> frozenset[str]:
    global _known_zones  # noqa: PLW0603 - read from disk once, and only if anybody asks
    _known_zones = _known_zones or frozenset(zoneinfo.available_timezones())
    return _known_zones


def _check_names(apply: Apply) -> None:
    taken: dict[str, int] = {}
    for item in (*apply.keys, *apply.aggregates):
        name = "/".join(map(str, item.steps)) if isinstance(item, Path) else item.alias
        if name in taken:
            raise QueryError(f"two results are called {name}; name one by as", at=item.at)
        taken[name] = item.at
