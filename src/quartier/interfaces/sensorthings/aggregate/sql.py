"""The statement of an ``$apply``: over observations, or over roll-ups with observations where those do not reach.

Text is made of constants of this module; what a caller wrote is a bound parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from quartier.interfaces.sensorthings.aggregate import buckets
from quartier.interfaces.sensorthings.aggregate.plan import TIME, Key, Plan, ResultKey, SeriesKey
from quartier.interfaces.sensorthings.query.ast import Aggregate, Bucket
from quartier.twin.flags import BAD, Flag

# Flagged values stay out of the statistics unless a steward dismissed the flag, as in the roll-ups.
_OK = f"((o.flags & {int(BAD)}) = 0 OR (o.flags & {int(Flag.DISMISSED)}) <> 0)"
# Roll-ups know of numbers only; other results count where the series has nothing else.
_COUNTS = "(o.result IS NOT NULL OR s.kind = 'o')"
_RESULT = "CASE s.kind WHEN 'b' THEN to_jsonb(o.result <> 0) ELSE coalesce(to_jsonb(o.result), o.value) END"
# The mean of directions is the direction of their mean: 350° and 10° make 0°.
_CIRCULAR_MEAN = (
    "CASE WHEN bool_or(s.circular) THEN mod((degrees(atan2(avg(sind(o.result)), avg(cosd(o.result)))) + 360)::numeric,"
    " 360)::double precision ELSE avg(o.result) END"
)

# Of a series: n a number, b true or false, o anything else.
Kind = Literal["n", "b", "o"]
Bind = Callable[[str | None, str], str]


@dataclass(frozen=True, slots=True)
class Member:
    """A series that takes part; ``group`` is the number of the combination of keys that it belongs to, from 0."""

    municipality_id: int
    series_id: int
    group: int
    kind: Kind
    circular: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """What is asked of which series, between ``since`` and ``until``."""

    plan: Plan
    members: Sequence[Member]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a series whose roll-up is out of date."""

    member: Member
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Pieces:
    """Which roll-ups to use: those from ``since`` to ``until`` except what is ``stale``."""

    granule: buckets.Granule
    since: datetime
    until: datetime
    stale: Sequence[Stretch] = ()


def from_rollups(aggregates: Sequence[Aggregate], members: Sequence[Member]) -> bool:
    """Whether sums, extremes, first and last of roll-ups give exactly what is asked for.

    ``first`` and ``last`` of several series in one group need the very times, deviations more digits than sums of
    squares keep, and directions their sines.
    """
    kinds = {member.kind for member in members}
    if "o" in kinds or any(one.path is not None and one.path.steps == (TIME,) for one in aggregates):
        return False
    methods = {one.method for one in aggregates}
    if methods & {"countdistinct", "stddev"}:
        return False
    if "average" in methods and any(member.circular for member in members):
        return False
    single = len({member.group for member in members}) == len(members)
    return not methods & {"first", "last"} or (single and kinds == {"n"})


def over_observations(
    frame: Frame, bind: Bind, observations: str = "twin_observation o", condition: str = ""
) -> str:
    """Every observation is looked at; ``observations`` may join more to ``o`` for a further ``condition``."""
    columns = [_key_sql(key, "o.time", bind) for key in frame.plan.keys if not isinstance(key, SeriesKey)]
    columns += [_of_observations(one, frame.members) for one in frame.plan.aggregates]
    if " JOIN " in observations:
        observations = f"({observations})"
    source = (
        f"{_members(frame.members, bind)} JOIN {observations} ON o.municipality_id = s.m AND o.series_id = s.s"
        f" AND o.time >= {_time(frame.since, bind)} AND o.time < {_time(frame.until, bind)} AND {_OK} AND {_COUNTS}"
    )
    return _grouped(frame.plan, "s.g", columns, source + (f" AND ({condition})" if condition else ""))


def over_rollups(frame: Frame, pieces: Pieces, bind: Bind) -> str:
    """Roll-ups within, observations at both ends and where a roll-up is out of date."""
    observed = (
        "SELECT s.g, o.time, 1 AS n, o.result AS sum, o.result AS min, o.result AS max, o.result AS first,"
        " o.result AS last FROM {source} JOIN twin_observation o ON o.municipality_id = s.m AND o.series_id = s.s"
        f" AND {_OK} AND {_COUNTS} AND {{limits}}"
    )
    everyone = _members(frame.members, bind)
    start, end = _time(pieces.since, bind), _time(pieces.until, bind)
    before = f"WITH stale AS MATERIALIZED ({_stretches(pieces.stale, bind)}) " if pieces.stale else ""
    but = " AND (r.municipality_id, r.series_id, r.bucket) NOT IN (SELECT m, s, since FROM stale)"
    arms = [
        "SELECT s.g, r.bucket AS time, r.n, r.sum, r.min, r.max, r.first, r.last"
        f" FROM {everyone} JOIN twin_rollup_{pieces.granule} r ON r.municipality_id = s.m AND r.series_id = s.s"
        f" AND r.bucket >= {start} AND r.bucket < {end} AND r.n > 0{but if pieces.stale else ''}"
    ]
    for first, last in ((frame.since, pieces.since), (pieces.until, frame.until)):
        if first < last:
            limits = f"o.time >= {_time(first, bind)} AND o.time < {_time(last, bind)}"
            arms.append(observed.format(source=everyone, limits=limits))
    if pieces.stale:
        # The outermost limits let the planner pass over most partitions.
        first, last = min(one.since for one in pieces.stale), max(one.until for one in pieces.stale)
        limits = (
            "o.time >= s.since AND o.time < s.until"
            f" AND o.time >= {_time(first, bind)} AND o.time < {_time(last, bind)}"
        )
        arms.append(observed.format(source="stale s", limits=limits))
    columns = [_key_sql(key, "p.time", bind) for key in frame.plan.keys if isinstance(key, Bucket)]
    columns += map(_of_rollups, frame.plan.aggregates)
    return before + _grouped(frame.plan, "p.g", columns, f"({' UNION ALL '.join(arms)}) AS p")


def ordered(statement: str, plan: Plan, ranks: Sequence[Sequence[int]], tail: str, bind: Bind) -> str:
    """The statement's rows in the order of the plan, and of its keys where that says nothing.

    ``ranks`` are, for each key of the Datastream, the places of the groups' values.
    """
    columns: list[str] = []
    own = ranked = 0
    for key in plan.keys:
        if isinstance(key, SeriesKey):
            columns.append(f"({bind(_array(ranks[ranked]), 'integer[]')})[t.g + 1]")
            ranked += 1
        else:
            columns.append(f"t.c{own}")
            own += 1
    keys = len(columns)
    columns += [f"t.c{own + number}" for number in range(len(plan.aggregates))]
    by = [columns[place] + (" DESC" if descending else "") for place, descending in plan.order]
    by += columns[:keys]
    names = ", ".join(["g", *(f"c{number}" for number in range(own + len(plan.aggregates)))])
    order = f" ORDER BY {', '.join(by)}" if by else ""
    return f"SELECT t.* FROM ({statement}) AS t({names}){order}{tail}"


def _grouped(plan: Plan, group: str, columns: Sequence[str], source: str) -> str:
    if not plan.keys:  # one row, also of nothing
        return f"SELECT {', '.join(['0', *columns])} FROM {source}"
    keys = 1 + sum(not isinstance(key, SeriesKey) for key in plan.keys)
    numbers = ", ".join(str(number + 1) for number in range(keys))
    return f"SELECT {', '.join([group, *columns])} FROM {source} GROUP BY {numbers}"


def _key_sql(key: Key, time_sql: str, bind: Bind) -> str:
    if isinstance(key, Bucket):
        return buckets.start_sql(key, time_sql, bind(key.time_zone, "text"))
    return _RESULT if isinstance(key, ResultKey) else ""


def _of_observations(one: Aggregate, members: Sequence[Member]) -> str:
    numbers = all(member.kind == "n" for member in members)
    value = "o.result" if numbers else _RESULT
    if one.path is not None and one.path.steps == (TIME,):
        value = "o.time"
    match one.method:
        case "count":
            return "count(*)"
        case "average":
            return _CIRCULAR_MEAN if any(member.circular for member in members) else "avg(o.result)"
        case "sum":
            return "sum(o.result)"
        case "min" | "max":
            return f"{one.method}({value if value == 'o.time' else 'o.result'})"
        case "countdistinct":
            return f"count(DISTINCT {value})"
        case "first":
            return f"(array_agg({value} ORDER BY o.time, s.s))[1]"
        case "last":
            return f"(array_agg({value} ORDER BY o.time DESC, s.s DESC))[1]"
        case "stddev":
            return "stddev_samp(o.result)"


def _of_rollups(one: Aggregate) -> str:
    match one.method:
        case "count":
            return "coalesce(sum(p.n), 0)::bigint"
        case "average":
            return "sum(p.sum) / sum(p.n)"
        case "first":
            return "(array_agg(p.first ORDER BY p.time))[1]"
        case "last":
            return "(array_agg(p.last ORDER BY p.time DESC))[1]"
        case method:
            return f"{method}(p.{method})"


def _members(members: Sequence[Member], bind: Bind) -> str:
    arrays = (
        bind(_array(member.municipality_id for member in members), "smallint[]"),
        bind(_array(member.series_id for member in members), "integer[]"),
        bind(_array(member.group for member in members), "integer[]"),
        bind(_array(member.kind for member in members), "text[]"),
        bind(_array(str(member.circular).lower() for member in members), "boolean[]"),
    )
    return f"unnest({', '.join(arrays)}) AS s(m, s, g, kind, circular)"


def _stretches(stale: Sequence[Stretch], bind: Bind) -> str:
    arrays = (
        bind(_array(one.member.municipality_id for one in stale), "smallint[]"),
        bind(_array(one.member.series_id for one in stale), "integer[]"),
        bind(_array(one.member.group for one in stale), "integer[]"),
        bind(_array(one.member.kind for one in stale), "text[]"),
        bind(_array(f'"{one.since.isoformat()}"' for one in stale), "timestamptz[]"),
        bind(_array(f'"{one.until.isoformat()}"' for one in stale), "timestamptz[]"),
    )
    return f"SELECT * FROM unnest({', '.join(arrays)}) AS x(m, s, g, kind, since, until)"


def _array(items: Iterable[object]) -> str:
    return "{" + ",".join(map(str, items)) + "}"


def _time(moment: datetime, bind: Bind) -> str:
    return bind(moment.isoformat(), "timestamptz")
