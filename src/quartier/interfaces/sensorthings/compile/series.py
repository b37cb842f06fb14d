"""Reading observations series by series: each contributes no more rows than the answer can hold.

The key of the store begins with municipality and series, so that the next rows of one series are found at once, however
many there are, while a join of all series with all observations would have to sort them all. Where what is asked for
can be said of each series on its own, the rows therefore come from a LATERAL subquery per series with a limit.

Over many series in the order of time even that would be too many rows; then a window of time (one parameter, see
``Reader``) keeps those away that the page will not reach.
"""

from __future__ import annotations

import re
from typing import Final

from quartier.interfaces.sensorthings.compile.context import Scope
from quartier.interfaces.sensorthings.compile.paging import Key
from quartier.interfaces.sensorthings.model.observations import START_BARE

_ALIAS: Final = re.compile(r"\b(a[0-9]+)((?:_[a-z_]+)?)\b")


def by_series(scope: Scope, keys: list[Key], where: list[str], most: int) -> list[str] | None:
    """Let ``scope`` read its rows series by series, at most ``most`` of each; the conditions that are left outside.

    None, and nothing is changed, where a condition or a key says something of a row and of something else at once.
    """
    inside, outside = [], []
    for condition in where:
        if not _of_row(scope, condition):
            outside.append(condition)
        elif _alone(scope, condition):
            inside.append(condition)
        else:
            return None
    order = []
    for key in keys:
        if not _alone(scope, key.sql):
            return None
        if _of_row(scope, key.sql):
            order.append(key.order)
    a = scope.alias
    # Of what is asked of the series itself, this part is asked here, so that PostgreSQL asks it before it reads rows
    # and not of each of them: which things are seen, and which components stand for rows.
    if own := [one for one in outside if one == scope.sql(scope.entity.condition)]:
        outside.remove(own[0])
        inside.append(f"coalesce({a}_d.position, 0) = 0")
    if any(f"{a}_t" in condition for condition in outside):
        inside.append(f"{a}_t.id IS NOT NULL")
    inside = [f"{a}.municipality_id = {a}_s.municipality_id", f"{a}.series_id = {a}_s.id", *inside]
    scope.rows = (
        f"SELECT {a}.*, {scope.sql(scope.entity.id.sql)} AS number, {scope.sql(START_BARE)} AS moment"
        f" FROM twin_observation {a}"
        f" WHERE {' AND '.join(inside)}"
        + (f" ORDER BY {', '.join(order)}" if order else "")
        + f" LIMIT {most}"
    )
    return outside


def said_once(scope: Scope, made: str) -> str:
    """SQL of a row, which takes an observation's number and time as texts from where they were made, once for a row."""
    if not scope.rows:
        return made
    made = made.replace(scope.sql(scope.entity.id.sql), f"{scope.alias}.number")
    return made.replace(scope.sql(START_BARE), f"{scope.alias}.moment")


def in_order_of_time(scope: Scope, keys: list[Key]) -> bool:
    """Whether rows of many series come in the order of time."""
    return keys[0].sql == f"{scope.alias}.time" and not scope.one_series


def _of_row(scope: Scope, sql: str) -> bool:
    return any(name == scope.alias and not suffix for name, suffix in _ALIAS.findall(sql))


def _alone(scope: Scope, sql: str) -> bool:
    return all(name == scope.alias and suffix in ("", "_s") for name, suffix in _ALIAS.findall(sql))
