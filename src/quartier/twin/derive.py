"""Derived series: functions of other series of the same thing, computed when their inputs are recorded.

The observed stream says what was recorded, so late and corrected inputs lead to new results in the same way as live
ones, and a derived series can be the input of another. Inputs come from different devices at different times: the
anchor input gives the times of the result, and each other input gives its nearest value within its tolerance.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import nats.errors
import numpy as np
import orjson
import psycopg
import structlog
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from numpy.typing import NDArray
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.engines.bus import OBSERVED, Bus, unconfirmed
from quartier.twin import arrays, correct
from quartier.twin.alone import alone
from quartier.twin.flags import BAD, Flag
from quartier.twin.record import Observation, Recorder

log = structlog.get_logger(__name__)

CONSUMER = "derive"
_LOCK = 0x5175_0005
_PLAN_AGE_S = 60.0
_ROUNDING = 9  # significant digits kept: results that differ by less are the same
# Results that are computed and written at a time: a flood of late readings neither holds up the other work of the
# process nor becomes one endless statement.
_PIECE = 2_000
_MESSAGES_AT_ONCE = 1_000
_LONGEST_PAUSE_S = 2.0
# Windows of inputs that lie closer together than this are read as one.
_GAP = timedelta(hours=3)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a function may know besides its inputs, one element per row."""

    altitude_m: Floats
    height_m: Mapping[str, Floats]  # height above ground of the device of each input, NaN where unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """How a property follows from others. ``anchor`` is one of ``inputs``; tolerances in seconds.

    ``function`` takes an array per input and gives an array of the same length, NaN where there is no result.
    """

    slug: str
    output: str
    inputs: tuple[str, ...]
    anchor: str
    tolerance_s: Mapping[str, float]
    function: Callable[[Mapping[str, Floats], Surroundings], Floats]

    def tolerance(self, observed_property: str) -> timedelta:
        """How far a value of an input may lie from the anchor's time."""
        return timedelta(seconds=self.tolerance_s.get(observed_property, 600))


@dataclass(slots=True)
class _Plan:
    """A thing's series and what can be derived from them."""

    thing_id: int
    municipality_id: int
    altitude_m: float
    series: dict[str, int]
    height_m: dict[str, float]
    outputs: dict[str, int] = field(default_factory=dict)  # derivation slug to series


@dataclass(frozen=True, slots=True)
class _Job:
    plan: _Plan
    derivation: Derivation
    times: tuple[datetime, ...]


class Deriver:
    """Follows the observed stream and keeps derived series up to date."""

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[TupleRow]],
        bus: Bus,
        recorder: Recorder,
        derivations: Sequence[Derivation],
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._recorder = recorder
        self._derivations = derivations
        self._inputs = {name for derivation in derivations for name in derivation.inputs}
        self._plans: dict[int, _Plan] = {}  # by series id of an input
        self._plans_since = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; a batch is acknowledged when its results are committed.

        One process at a time does: two that compute the same result from the store before and after a change would
        write it in any order.
        """
        while not stop.is_set():
            try:
                async with alone(self._pool, _LOCK) as connection:
                    if connection is not None:
                        await self._follow(connection, stop)
            except (psycopg.OperationalError, psycopg.InterfaceError, nats.errors.Error) as error:
                log.warning("derive.retry", error=str(error).strip() or type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)

    async def _follow(self, lead: AsyncConnection[TupleRow], stop: asyncio.Event) -> None:
        subscription = await self._bus.js.pull_subscribe(
            f"{OBSERVED}.>",
            durable=CONSUMER,
            stream=OBSERVED,
            config=ConsumerConfig(
                durable_name=CONSUMER,
                ack_policy=AckPolicy.ALL,
                deliver_policy=DeliverPolicy.ALL,
                ack_wait=60,
                max_ack_pending=20_000,
            ),
        )
        expected = 0
        try:
            while not stop.is_set():
                await lead.execute("SELECT 1")
                try:
                    messages = await subscription.fetch(_MESSAGES_AT_ONCE, timeout=1)
                except (TimeoutError, nats.errors.TimeoutError):
                    continue
                if not messages:
                    continue
                began = time.monotonic()
                bodies = [message.data for message in messages]
                deliveries = [message.metadata.sequence.consumer for message in messages]
                if deliveries != list(range(expected, expected + len(messages))):
                    # At the start, or after a connection broke: what was on its way belongs to this batch.
                    known = {message.metadata.sequence.stream for message in messages}
                    lost = await unconfirmed(self._bus, OBSERVED, CONSUMER, known=known)
                    bodies += [body for _, body in lost.messages]
                expected = deliveries[-1] + 1
                await self.derive(self._touched(bodies))
                await messages[-1].ack()
                if len(messages) == _MESSAGES_AT_ONCE:
                    # Behind: recording needs the processors more, and larger batches are cheaper per reading.
                    await asyncio.sleep(min(_LONGEST_PAUSE_S, time.monotonic() - began))
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def _touched(self, bodies: Iterable[bytes]) -> dict[int, set[datetime]]:
        touched: dict[int, set[datetime]] = {}
        for body in bodies:
            for reading in orjson.loads(body)["readings"]:
                if reading["property"] in self._inputs:
                    touched.setdefault(reading["series"], set()).add(datetime.fromisoformat(reading["time"]))
        return touched

    async def derive(self, touched: Mapping[int, set[datetime]]) -> int:
        """Compute what follows from readings of some series at some times; returns how many results changed."""
        if not touched:
            return 0
        async with self._pool.connection() as connection:
            await self._learn(connection, touched)
            jobs = await self._jobs(connection, touched)
            if not jobs:
                return 0
            values = await _load(connection, jobs)
        by_derivation: dict[str, list[_Job]] = {}
        for job in jobs:
            by_derivation.setdefault(job.derivation.slug, []).append(job)
        changed = 0
        rows: list[Observation] = []
        gone: list[correct.Key] = []
        for group in by_derivation.values():
            for piece in _pieces(group):
                for key, result in _compute(piece, values):
                    if np.isfinite(result):
                        rows.append(Observation(*key, float(f"{result:.{_ROUNDING}g}")))
                    else:
                        gone.append(key)
                if len(rows) + len(gone) >= _PIECE:
                    changed += await self._write(rows, gone)
                    rows, gone = [], []
        return changed + await self._write(rows, gone)

    async def _write(self, rows: list[Observation], gone: list[correct.Key]) -> int:
        if not rows and not gone:
            return 0
        counts = await self._recorder.correct(rows, reason="derived anew")
        async with self._pool.connection() as connection:
            removed = await correct.remove(connection, gone, reason="an input is missing or flagged")
        return counts.added + counts.corrected + removed

    async def _learn(self, connection: AsyncConnection[TupleRow], touched: Iterable[int]) -> None:
        """Make the plans of the things behind some series."""
        now = asyncio.get_running_loop().time()
        if now - self._plans_since > _PLAN_AGE_S:
            self._plans, self._plans_since = {}, now
        missing = [series_id for series_id in touched if series_id not in self._plans]
        if not missing:
            return
        cursor = await connection.execute(
            "SELECT s.thing_id, s.municipality_id, t.altitude_m, s.id, p.slug, s.derivation, (SELECT"
            " d.height_above_ground_m FROM twin_deployment d"
            " WHERE d.device_id = s.device_id AND d.thing_id = s.thing_id"
            " ORDER BY d.since DESC LIMIT 1) FROM twin_series s JOIN twin_thing t ON t.id = s.thing_id"
            " JOIN twin_observedproperty p ON p.id = s.observed_property_id"
            " WHERE s.thing_id IN (SELECT thing_id FROM twin_series WHERE id = ANY(%s))"
            " ORDER BY s.thing_id, s.channel DESC, s.id",
            [missing],
        )
        nan = float("nan")
        plans: dict[int, _Plan] = {}
        for (
            thing_id,
            municipality_id,
            altitude_m,
            series_id,
            slug,
            derivation,
            height_m,
        ) in await cursor.fetchall():
            plan = plans.setdefault(
                thing_id, _Plan(thing_id, municipality_id, nan if altitude_m is None else altitude_m, {}, {})
            )
            plan.series[slug] = series_id
            plan.height_m[slug] = nan if height_m is None else height_m
            if derivation:
                plan.outputs[derivation] = series_id
            self._plans[series_id] = plan
        await self._make_outputs(connection, plans.values())

    async def _make_outputs(self, connection: AsyncConnection[TupleRow], plans: Collection[_Plan]) -> None:
        for derivation in self._derivations:  # one after the other: a result may be the input of the next
            wanted = {
                plan.thing_id: plan
                for plan in plans
                if derivation.slug not in plan.outputs
                and set(derivation.inputs) <= plan.series.keys()
                and derivation.output not in plan.series  # else the thing measures it
            }
            if not wanted:
                continue
            cursor = await connection.execute(
                "INSERT INTO twin_series (municipality_id, thing_id, observed_property_id, channel, unit,"
                " result_type, derivation, created_at)"
                " SELECT k.municipality, k.thing, p.id, '', p.unit, p.result_type, %(slug)s, now()"
                " FROM unnest(%(municipalities)s::smallint[], %(things)s::bigint[]) AS k(municipality, thing)"
                " JOIN twin_observedproperty p ON p.slug = %(output)s ORDER BY k.thing"
                " ON CONFLICT (thing_id, observed_property_id, channel) DO UPDATE SET unit = excluded.unit"
                " RETURNING thing_id, id",
                {
                    "municipalities": [plan.municipality_id for plan in wanted.values()],
                    "things": list(wanted),
                    "slug": derivation.slug,
                    "output": derivation.output,
                },
            )
            for thing_id, series_id in await cursor.fetchall():
                plan = wanted[thing_id]
                plan.outputs[derivation.slug] = plan.series[derivation.output] = series_id
                self._plans[series_id] = plan

    async def _jobs(
        self, connection: AsyncConnection[TupleRow], touched: Mapping[int, set[datetime]]
    ) -> list[_Job]:
        """Which derivations have to be computed at which times."""
        times: dict[tuple[int, str], set[datetime]] = {}
        around: list[tuple[int, str]] = []
        windows: list[_Window] = []
        plans: dict[int, _Plan] = {}
        known = {derivation.slug: derivation for derivation in self._derivations}
        for series_id, moments in touched.items():
            plan = self._plans.get(series_id)
            if plan is None:
                continue
            plans[plan.thing_id] = plan
            for slug in plan.outputs:
                derivation = known.get(slug)
                if derivation is None:
                    continue
                for name in derivation.inputs:
                    if plan.series.get(name) != series_id:
                        continue
                    key = (plan.thing_id, slug)
                    if name == derivation.anchor:
                        times.setdefault(key, set()).update(moments)
                    else:
                        tolerance = derivation.tolerance(name)
                        anchor = plan.series[derivation.anchor]
                        around.extend([key] * len(moments))
                        windows.extend(
                            (anchor, plan.municipality_id, t - tolerance, t + tolerance) for t in moments
                        )
        if around:
            cursor = await connection.execute(
                "SELECT k.number, o.time FROM unnest(%s, %s, %s, %s, %s)"
                " AS k(number, series, municipality, low, high) CROSS JOIN LATERAL"
                " (SELECT time FROM twin_observation x WHERE x.municipality_id = k.municipality"
                " AND x.series_id = k.series AND x.time >= k.low AND x.time <= k.high) o",
                [arrays.pack(arrays.IntegerArray, np.arange(len(around))), *_columns(windows)],
                binary=True,
            )
            for number, moment in await cursor.fetchall():
                times.setdefault(around[number], set()).add(moment)
        return [
            _Job(plans[thing_id], known[slug], tuple(sorted(moments)))
            for (thing_id, slug), moments in times.items()
        ]


_Window = tuple[int, int, datetime, datetime]  # series, municipality, and the times from and to which is read


def _columns(windows: Sequence[_Window]) -> list[arrays.PackedArray]:
    """Windows as parameters of a statement."""
    series, municipality, low, high = zip(*windows, strict=True)
    return [
        arrays.pack(arrays.IntegerArray, np.array(series)),
        arrays.pack(arrays.SmallintArray, np.array(municipality)),
        arrays.pack(arrays.TimestampArray, arrays.microseconds(low)),
        arrays.pack(arrays.TimestampArray, arrays.microseconds(high)),
    ]


_Values = dict[int, tuple[Floats, Floats]]  # series to (seconds since 1970, results), ascending


async def _load(connection: AsyncConnection[TupleRow], jobs: Sequence[_Job]) -> _Values:
    """The good readings of all inputs around the times of the jobs."""
    wanted: dict[tuple[int, int], list[tuple[datetime, datetime]]] = {}
    for job in jobs:
        for name in job.derivation.inputs:
            tolerance = job.derivation.tolerance(name)
            wanted.setdefault((job.plan.series[name], job.plan.municipality_id), []).extend(
                (moment - tolerance, moment + tolerance) for moment in job.times
            )
    # A device that empties its memory, or whose clock was wrong, sends old readings among today's: what lies between
    # them is not read.
    windows = [(*key, low, high) for key, spans in wanted.items() for low, high in _joined(spans)]
    cursor = await connection.execute(
        "SELECT k.series, extract(epoch FROM o.time)::float8, o.result FROM unnest(%s, %s, %s, %s)"
        " AS k(series, municipality, low, high) CROSS JOIN LATERAL"
        " (SELECT time, result FROM twin_observation x WHERE x.municipality_id = k.municipality"
        " AND x.series_id = k.series AND x.time >= k.low AND x.time <= k.high AND x.result IS NOT NULL"
        " AND ((x.flags & %s) = 0 OR (x.flags & %s) <> 0)) o ORDER BY 1, 2",
        [*_columns(windows), int(BAD), int(Flag.DISMISSED)],
        binary=True,
    )
    found: dict[int, list[tuple[float, float]]] = {}
    for series_id, seconds, result in await cursor.fetchall():
        found.setdefault(series_id, []).append((seconds, result))
    return {
        series_id: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
        for series_id, pairs in found.items()
    }


def _joined(spans: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Spans of time in order, those close together as one."""
    joined: list[tuple[datetime, datetime]] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1] + _GAP:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def _pieces(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    """Jobs of one derivation in pieces of at most ``_PIECE`` rows."""
    piece: list[_Job] = []
    size = 0
    for job in jobs:
        for start in range(0, len(job.times), _PIECE):
            times = job.times[start : start + _PIECE]
            if piece and size + len(times) > _PIECE:
                yield piece
                piece, size = [], 0
            piece.append(_Job(job.plan, job.derivation, times))
            size += len(times)
    if piece:
        yield piece


def _nearest(values: tuple[Floats, Floats] | None, at_s: Floats, tolerance_s: float) -> Floats:
    """For each time the nearest value within the tolerance, else NaN."""
    result = np.full(len(at_s), np.nan)
    if values is None:
        return result
    times, numbers = values
    right = np.searchsorted(times, at_s)
    left = np.clip(right - 1, 0, len(times) - 1)
    right = np.clip(right, 0, len(times) - 1)
    nearest = np.where(np.abs(times[left] - at_s) <= np.abs(times[right] - at_s), left, right)
    # Seconds since 1970 as floating point are exact to a quarter of a microsecond only.
    close = np.abs(times[nearest] - at_s) <= tolerance_s + 1e-6
    result[close] = numbers[nearest[close]]
    return result


def _compute(jobs: Sequence[_Job], values: _Values) -> Iterable[tuple[correct.Key, float]]:
    """Results of jobs of one derivation, computed in one call of its function."""
    derivation = jobs[0].derivation
    columns: dict[str, list[Floats]] = {name: [] for name in derivation.inputs}
    heights: dict[str, list[Floats]] = {name: [] for name in derivation.inputs}
    altitudes: list[Floats] = []
    keys: list[correct.Key] = []
    for job in jobs:
        at_s = np.array([t.timestamp() for t in job.times])
        for name in derivation.inputs:
            tolerance_s = 0.0 if name == derivation.anchor else derivation.tolerance(name).total_seconds()
            columns[name].append(_nearest(values.get(job.plan.series[name]), at_s, tolerance_s))
            heights[name].append(np.full(len(at_s), job.plan.height_m.get(name, np.nan)))
        altitudes.append(np.full(len(at_s), job.plan.altitude_m))
        output = job.plan.outputs[derivation.slug]
        keys.extend((job.plan.municipality_id, output, t.astimezone(UTC)) for t in job.times)
    inputs = {name: np.concatenate(parts) for name, parts in columns.items()}
    complete = np.all([np.isfinite(column) for column in inputs.values()], axis=0)
    results: NDArray[Any] = np.full(len(keys), np.nan)
    if complete.any():
        surroundings = Surroundings(
            np.concatenate(altitudes)[complete],
            {n: np.concatenate(parts)[complete] for n, parts in heights.items()},
        )
        results[complete] = derivation.function({n: a[complete] for n, a in inputs.items()}, surroundings)
    return zip(keys, results.tolist(), strict=True)
