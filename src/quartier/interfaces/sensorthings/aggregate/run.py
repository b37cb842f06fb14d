"""Carrying out an ``$apply``: which series, which way is cheapest, one snapshot, rows as JSON objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import orjson
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from quartier.interfaces.sensorthings.aggregate import buckets, sql
from quartier.interfaces.sensorthings.aggregate.plan import Plan, ResultKey, SeriesKey
from quartier.interfaces.sensorthings.aggregate.sql import Member, Pieces, Stretch
from quartier.interfaces.sensorthings.query.ast import Bucket
from quartier.interfaces.sensorthings.query.errors import QueryError

MAX_SERIES = 10_000
MAX_ROWS = 100_000
_MAX_STALE = 2_000
_TICK = timedelta(microseconds=1)

# Compiles a condition on observations ``o``: takes a connection and the statement's parameters, and appends its own;
# gives what stands in FROM (``o`` and whatever is joined to it) and SQL that is true or not.
Narrow = Callable[[AsyncConnection[TupleRow], list[str | None]], Awaitable[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Groups in order. ``count`` is how many there are in all, if that was asked for; ``columns`` are paths of names.

    ``rolled_up`` says from which roll-ups it comes; None is: from the observations.
    """

    columns: list[tuple[str, ...]]
    rows: list[tuple[Any, ...]]
    count: int | None
    rolled_up: buckets.Granule | None

    def entities(self) -> Iterator[dict[str, Any]]:
        """One object per group; the parts of a path are nested."""
        for row in self.rows:
            found: dict[str, Any] = {}
            for path, value in zip(self.columns, row, strict=True):
                below = found
                for name in path[:-1]:
                    below = below.setdefault(name, {})
                below[path[-1]] = value
            yield found

    def json(self) -> Iterator[bytes]:
        """The answer in pieces."""
        head = b"{" if self.count is None else b'{"@iot.count":%d,' % self.count
        yield head + b'"value":['
        piece: list[bytes] = []
        for number, entity in enumerate(self.entities()):
            piece.append((b"," if number else b"") + orjson.dumps(entity, default=_plain))
            if len(piece) == 500:
                yield b"".join(piece)
                piece.clear()
        yield b"".join(piece) + b"]}"


@dataclass(frozen=True, slots=True)
class _Series:
    id: int
    municipality_id: int
    kind: sql.Kind
    circular: bool
    time_zone: str
    n: int
    first: datetime
    last: datetime


_SERIES = """
    SELECT s.id, s.municipality_id,
           CASE WHEN s.result_type = 'number' THEN 'n' WHEN s.result_type IN ('bool', 'boolean') THEN 'b' ELSE 'o' END,
           p.circular, m.time_zone, st.n, st.first_time, st.time
    FROM twin_series s JOIN twin_observedproperty p ON p.id = s.observed_property_id
    JOIN cities_municipality m ON m.id = s.municipality_id
    JOIN twin_state st ON st.municipality_id = s.municipality_id AND st.series_id = s.id
    WHERE s.id = ANY($1::integer[])
"""
_MARKS = """
    SELECT DISTINCT s, hour FROM twin_rollup_mark, unnest(series_ids) AS s
    WHERE s = ANY($1::integer[]) AND hour >= $2::timestamptz AND hour < $3::timestamptz LIMIT $4::integer
"""


async def aggregate(
    pool: AsyncConnectionPool[AsyncConnection[TupleRow]],
    plan: Plan,
    series: Mapping[int, Sequence[Any]],
    *,
    top: int | None = None,
    skip: int | None = None,
    count: bool = False,
    narrow: Narrow | None = None,
) -> Answer:
    """The answer to ``plan`` over ``series``: ids of those that the caller may see, with the values of the plan's
    ``series_keys``.

    ``narrow`` says what ``plan.of_observations`` is in SQL. Raises QueryError if the answer would become too large.
    """
    if len(series) > MAX_SERIES:
        raise QueryError(
            f"more than {MAX_SERIES} Datastreams take part; keep fewer by filter(…)", option="$apply"
        )
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        known = await _read_series(connection, series, plan)
        groups, ranks = _groups(plan, series, known)
        if not known:
            return _empty(plan, count)
        since = max(min(one.first for one in known), plan.since or _EARLIEST)
        until = min(max(one.last for one in known) + _TICK, plan.until or _LATEST)
        _check_size(plan, len(ranks[0]) if ranks else 1, until - since, top)
        members = [
            Member(one.municipality_id, one.id, groups[one.id], one.kind, one.circular) for one in known
        ]
        frame = sql.Frame(plan, members, since, until)
        pieces = None
        if since < until and narrow is None and _rollups_suffice(frame):
            pieces = await _pieces(connection, frame, known)
        parameters: list[str | None] = []

        def bind(value: str | None, type_: str) -> str:
            parameters.append(value)
            return f"${len(parameters)}::{type_}"

        if pieces is not None:
            statement = sql.over_rollups(frame, pieces, bind)
        elif narrow is not None:
            observations, condition = await narrow(connection, parameters)
            statement = sql.over_observations(frame, bind, observations, condition)
        else:
            statement = sql.over_observations(frame, bind)
        total = None
        if count:
            total = await _count(connection, statement, parameters)
        limit = MAX_ROWS + 1 if top is None else min(top, MAX_ROWS + 1)
        tail = f" LIMIT {bind(str(limit), 'bigint')} OFFSET {bind(str(skip or 0), 'bigint')}"
        statement = sql.ordered(statement, plan, ranks, tail, bind)
        rows = await _fetch(connection, statement, parameters)
    if len(rows) > MAX_ROWS:
        raise _too_large(MAX_ROWS + 1)
    by_group = _values_by_group(series, groups)
    granule = pieces.granule if pieces else None
    return Answer(_columns(plan), [_shown(plan, row, by_group) for row in rows], total, granule)


_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


async def _read_series(
    connection: AsyncConnection[TupleRow], series: Mapping[int, Sequence[Any]], plan: Plan
) -> list[_Series]:
    """What has to be known of the series that have observations in the period."""
    rows = await _fetch(connection, _SERIES, [_ids(series)])
    found = [_Series(*row) for row in rows]
    since, until = plan.since or _EARLIEST, plan.until or _LATEST
    return [one for one in found if one.last >= since and one.first < until]


def _groups(
    plan: Plan, series: Mapping[int, Sequence[Any]], known: Iterable[_Series]
) -> tuple[dict[int, int], list[list[int]]]:
    """The number of each series' group, and per key the rank of each group's value."""
    texts = {one.id: tuple(map(_sortable, series[one.id])) for one in known}
    combinations = sorted(set(texts.values()))
    numbers = {combination: number for number, combination in enumerate(combinations)}
    ranks = []
    for place in range(len(plan.series_keys)):
        values = {value: rank for rank, value in enumerate(sorted({one[place] for one in combinations}))}
        ranks.append([values[one[place]] for one in combinations])
    return {id_: numbers[text] for id_, text in texts.items()}, ranks


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers by size, texts by letters, anything else by how it is written."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0, value) if isinstance(value, str) else (2, 0, orjson.dumps(value, default=_plain).decode())


def _values_by_group(
    series: Mapping[int, Sequence[Any]], groups: Mapping[int, int]
) -> dict[int, Sequence[Any]]:
    return {number: series[id_] for id_, number in groups.items()}


def _check_size(plan: Plan, groups: int, span: timedelta, top: int | None) -> None:
    """Refuse before anything is computed what nobody can want to read."""
    expected = groups * (buckets.estimate(plan.bucket, span) if plan.bucket else 1)
    if min(expected, MAX_ROWS + 1 if top is None else top) > MAX_ROWS:
        raise _too_large(expected)


def _too_large(rows: int) -> QueryError:
    return QueryError(
        f"the answer would have up to {rows} rows, and {MAX_ROWS} are possible; take wider buckets,"
        " a shorter time or $top",
        option="$apply",
    )


def _rollups_suffice(frame: sql.Frame) -> bool:
    by_result = any(isinstance(key, ResultKey) for key in frame.plan.keys)
    return not by_result and sql.from_rollups(frame.plan.aggregates, frame.members)


async def _pieces(
    connection: AsyncConnection[TupleRow], frame: sql.Frame, known: Sequence[_Series]
) -> Pieces | None:
    """The roll-ups that make the answer cheapest; None if the observations do."""
    since, until = frame.since, frame.until
    zones = frozenset(one.time_zone for one in known)
    zone = min(zones)
    # Observations per second of all series, about.
    density = sum(one.n / ((one.last - one.first).total_seconds() + 1) for one in known)
    best, cheapest = None, density * (until - since).total_seconds()
    for granule in buckets.granules(frame.plan.bucket, zones):
        inner = buckets.inner(granule, zone, since, until)
        if inner is None:
            continue
        ends = (inner[0] - since + until - inner[1]).total_seconds()
        rolled_up = len(known) * ((inner[1] - inner[0]) / buckets.width(granule))
        cost = rolled_up + density * ends
        if cost < cheapest:
            best, cheapest = Pieces(granule, *inner), cost
    if best is None:
        return None
    marks = await _fetch(
        connection,
        _MARKS,
        [
            _ids(one.id for one in known),
            (best.since - timedelta(hours=1)).isoformat(),
            best.until.isoformat(),
            str(_MAX_STALE + 1),
        ],
    )
    if len(marks) > _MAX_STALE:
        return None
    by_id = {member.series_id: member for member in frame.members}
    starts = {
        (id_, buckets.containing(best.granule, zone, start))
        for id_, hour in marks
        for start in _parts(best.granule, hour)
    }
    stale = [
        Stretch(by_id[id_], start, buckets.after(best.granule, zone, start))
        for id_, start in sorted(starts)
        if best.since <= start < best.until
    ]
    return Pieces(best.granule, best.since, best.until, stale)


def _parts(granule: buckets.Granule, hour: datetime) -> list[datetime]:
    """Times in the roll-ups that a marked hour has made out of date."""
    return (
        [hour + timedelta(minutes=minutes) for minutes in (0, 15, 30, 45)] if granule == "15min" else [hour]
    )


async def _count(
    connection: AsyncConnection[TupleRow], statement: str, parameters: Sequence[str | None]
) -> int:
    rows = await _fetch(connection, f"SELECT count(*) FROM ({statement}) AS t", parameters)
    return cast(int, rows[0][0])


async def _fetch(
    connection: AsyncConnection[TupleRow], statement: str, parameters: Sequence[str | None]
) -> list[tuple[Any, ...]]:
    async with AsyncRawCursor(connection) as cursor:
        cursor.adapters.register_loader("text", TextLoader)
        cursor.adapters.register_loader("varchar", TextLoader)
        # Not prepared: with the limits of time at hand the planner passes over all other months.
        await cursor.execute(statement.encode(), parameters, prepare=False)
        return await cursor.fetchall()


def _ids(ids: Iterable[int]) -> str:
    return "{" + ",".join(map(str, ids)) + "}"


def _columns(plan: Plan) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []
    for key in plan.keys:
        match key:
            case SeriesKey():
                names = ["@iot.id" if name == "id" else str(name) for name in key.steps]
                keys.append(tuple(names))
            case Bucket():
                keys.append((key.alias,))
            case ResultKey():
                keys.append(("result",))
    return keys + [(one.alias,) for one in plan.aggregates]


def _shown(plan: Plan, row: tuple[Any, ...], by_group: Mapping[int, Sequence[Any]]) -> tuple[Any, ...]:
    of_series = iter(by_group.get(row[0], ()))
    rest = iter(row[1:])
    found: list[Any] = []
    for key in plan.keys:
        if isinstance(key, SeriesKey):
            found.append(next(of_series))
        elif isinstance(key, Bucket):
            found.append(buckets.written(key, next(rest)))
        else:
            found.append(next(rest))
    found += (_time_text(value) if isinstance(value, datetime) else value for value in rest)
    return tuple(found)


def _time_text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()[:-6] + "Z"


def _empty(plan: Plan, count: bool) -> Answer:
    rows: list[tuple[Any, ...]] = []
    if not plan.keys:
        zero = {"count", "countdistinct"}
        rows.append(tuple(0 if one.method in zero else None for one in plan.aggregates))
    return Answer(_columns(plan), rows, len(rows) if count else None, None)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(type(value).__name__)
