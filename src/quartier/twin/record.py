"""The only way an observation reaches the store.

Group commit: whoever records hands over rows and waits; one writer takes everything that waits and commits it with one
statement, which also keeps the state per series, the counters, the roll-up marks and the change that will be published.
There are no triggers, and nothing is acknowledged before it is durable.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
import psycopg
import structlog
from numpy.typing import NDArray
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.twin import arrays, partitions
from quartier.twin.flags import Flag
from quartier.twin.metrics import RECORD_SECONDS, RECORDED
from quartier.twin.statements import CORRECT, FRESH, KEEP

log = structlog.get_logger(__name__)
arrays.register(psycopg.adapters)

Mode = Literal["keep", "correct"]
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2106, 1, 1, tzinfo=UTC)  # seconds as floating point tell microseconds until February 2106
# Roll-ups keep sums of squares, and PostgreSQL fails where a product overflows or underflows. No sensor measures
# such numbers, but a wrong codec produces them.
LARGEST_RESULT = 1e100
_SMALLEST_RESULT = 1e-100
# A result that is no number is a word or a small object; it must fit into a message to those who follow.
_LONGEST_VALUE = 64 * 1024


# What stewards and neighbours said of a value.
_STICKY = int(Flag.SPATIAL | Flag.CONFIRMED | Flag.DISMISSED)
# Batches after which the statement for new rows is tried again where it failed.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 16, 4096


class Observation(NamedTuple):
    """One result of one series: ``result`` for numbers and booleans (0, 1), ``value`` for anything else.

    ``details`` is what the sender said besides: a JSON object with any of ``phenomenonTimeEnd``, ``resultTime``,
    ``validTime``, ``resultQuality``, ``parameters`` and ``featureOfInterest``. A correction without it (None) leaves
    what is there; an empty object takes it away.
    """

    municipality_id: int
    series_id: int
    time: datetime
    result: float | None
    flags: int = 0
    origin: int | None = None
    value: Any = None
    details: Any = None


class Corrected(NamedTuple):
    """What a correction did: rows that were new, and rows whose older value went to the revisions."""

    added: int
    corrected: int


class RecordError(ValueError):
    """A row that cannot be stored; the message says which and why. Nothing of the call was stored."""


class _Optimism:
    """Whether to try the statement for new rows first: not for a while after it failed, and ever longer."""

    def __init__(self) -> None:
        self._pause = _SHORTEST_PAUSE
        self._left = 0

    def try_it(self) -> bool:
        self._left -= 1
        return self._left < 0

    def note(self, *, failed: bool) -> None:
        if failed:
            self._pause = self._left = min(2 * self._pause, _LONGEST_PAUSE)
        else:
            self._pause = max(_SHORTEST_PAUSE, self._pause // 2)


@dataclass(slots=True)
class _Call:
    rows: Sequence[Observation]
    done: asyncio.Future[bool]
    publish: bool


@dataclass(slots=True)
class _Months:
    """Months that have a partition, with their bounds, so that a batch is checked by two comparisons."""

    known: set[partitions.Month] = field(default_factory=set)

    def missing(self, times: np.ndarray[Any, np.dtype[np.int64]]) -> set[partitions.Month]:
        """The months of ``times`` (microseconds since 2000) without a known partition."""
        months = np.unique(
            (times + _EPOCH_OFFSET_US).astype("datetime64[us]").astype("datetime64[M]").astype(int)
        )
        found: set[partitions.Month] = {(1970 + int(m) // 12, int(m) % 12 + 1) for m in months}
        return found - self.known


_EPOCH_OFFSET_US = 946_684_800_000_000


class Recorder:
    """Writes observations of one process. Use one instance per process, and share it."""

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[TupleRow]],
        *,
        batch_rows: int = 8000,
        retry_s: float = 0.5,
    ) -> None:
        self._pool = pool
        self._batch_rows = batch_rows
        self._retry_s = retry_s
        self._waiting: list[_Call] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._months = _Months()
        self._optimism = {KEEP: _Optimism(), CORRECT: _Optimism()}
        self._closing = False

    async def start(self) -> None:
        """Begin to write what is handed over."""
        self._writer = asyncio.create_task(self._write(), name="recorder")

    async def close(self) -> None:
        """Write what waits, then stop. Rows handed over later are refused."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
            self._writer = None

    async def record(self, rows: Sequence[Observation], *, publish: bool = True) -> bool:
        """Store ``rows``; returns when they are durable. A row whose series and time are taken changes nothing.

        True means that every row was new; False that in the batch they were committed with, some row was not.
        While PostgreSQL cannot be reached this waits. ``publish=False`` is for history that nobody follows live.
        Raises RecordError if a row cannot be stored; then none of ``rows`` was.
        """
        if not rows:
            return True
        if self._closing or self._writer is None:
            raise RecordError("the recorder is closed")
        _check(rows)
        call = _Call(rows, asyncio.get_running_loop().create_future(), publish)
        self._waiting.append(call)
        self._wake.set()
        return await call.done

    async def correct(self, rows: Sequence[Observation], *, reason: str) -> Corrected:
        """Store ``rows``; where a series has another value at that time, the old one goes to the revisions.

        One transaction of its own. Raises RecordError, or psycopg.OperationalError if PostgreSQL cannot be reached.
        """
        unique = {(row.municipality_id, row.series_id, row.time): row for row in rows}
        if not unique:
            return Corrected(0, 0)
        _check(list(unique.values()))
        return await self._execute(CORRECT, list(unique.values()), publish=True, reason=reason)

    async def correct_within(
        self, connection: AsyncConnection[TupleRow], rows: Sequence[Observation], *, reason: str
    ) -> Corrected:
        """The same inside of a transaction of the caller's, for what has to be stored with the rows or not at all."""
        unique = {(row.municipality_id, row.series_id, row.time): row for row in rows}
        if not unique:
            return Corrected(0, 0)
        found = list(unique.values())
        _check(found)
        # Partitions are made on a connection of their own, outside of the transaction.
        if missing := self._months.missing(arrays.microseconds([row.time for row in found])):
            async with self._pool.connection() as other:
                await self._make_partitions(other, missing)
        parameters, _ = _parameters(found, publish=True, reason=reason)
        try:
            return await _executed(connection, CORRECT, parameters, len(found))
        except psycopg.errors.CheckViolation:
            # Retention dropped a month since we made it, and the transaction is lost; a second try makes it again.
            self._months.known.clear()
            raise psycopg.OperationalError("a month of observations has just been dropped") from None

    async def _write(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            calls = self._take()
            await self._commit(calls)

    def _take(self) -> list[_Call]:
        size = 0
        publish = self._waiting[0].publish
        for n, call in enumerate(self._waiting):
            if n and (size + len(call.rows) > self._batch_rows or call.publish is not publish):
                taken, self._waiting = self._waiting[:n], self._waiting[n:]
                return taken
            size += len(call.rows)
        taken, self._waiting = self._waiting, []
        return taken

    async def _commit(self, calls: list[_Call]) -> None:
        rows = [row for call in calls for row in call.rows] if len(calls) > 1 else calls[0].rows
        while True:
            try:
                written = await self._execute(KEEP, rows, publish=calls[0].publish)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                # Deadlock, lost connection, server restarting: the statement did nothing, or did all of it, and then
                # finds its rows there. Waiting callers keep waiting: nothing was acknowledged yet.
                log.warning("record.retry", error=str(error).strip(), rows=len(rows))
                await asyncio.sleep(self._retry_s)
                continue
            except Exception as error:
                if len(calls) > 1:
                    # One caller's rows are bad; the others' must not suffer.
                    for call in calls:
                        await self._commit([call])
                elif not calls[0].done.done():
                    calls[0].done.set_exception(RecordError(str(error).strip()))
                return
            for call in calls:
                if not call.done.done():
                    call.done.set_result(written.added == len(rows))
            return

    async def _execute(
        self, statement: str, rows: Sequence[Observation], *, publish: bool, reason: str = ""
    ) -> Corrected:
        parameters, time_us = _parameters(rows, publish=publish, reason=reason)
        missing = self._months.missing(time_us)
        optimism = self._optimism[statement]
        async with self._pool.connection() as connection:
            if missing:
                await self._make_partitions(connection, missing)
            try:
                if optimism.try_it():
                    try:
                        written = await _executed(connection, FRESH, parameters, len(rows))
                    except psycopg.errors.UniqueViolation:
                        optimism.note(failed=True)
                    else:
                        optimism.note(failed=False)
                        return written
                return await _executed(connection, statement, parameters, len(rows))
            except psycopg.errors.CheckViolation:
                # Retention dropped a month since we made it, and late observations need it again.
                self._months.known.clear()
                await self._make_partitions(connection, self._months.missing(time_us))
                return await _executed(connection, statement, parameters, len(rows))

    async def _make_partitions(
        self, connection: AsyncConnection[TupleRow], months: set[partitions.Month]
    ) -> None:
        await partitions.create(connection, months)
        self._months.known |= months


def _parameters(
    rows: Sequence[Observation], *, publish: bool, reason: str
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """The parameters of a statement for rows, and their times in microseconds since 2000.

    In the order in which the statement wants them: PostgreSQL finds sorted rows sorted sooner than it sorts them.
    """
    municipality, series, times, results, flags, origins, values, details = zip(*rows, strict=True)
    time_us = arrays.microseconds(times)
    municipality_ids, series_ids = np.array(municipality), np.array(series)
    order = np.lexsort((time_us, series_ids, municipality_ids))
    no_result = np.array([x is None for x in results])
    no_origin = np.array([x is None for x in origins])
    origin = np.array([x or 0 for x in origins], dtype=np.int64)
    parameters: dict[str, Any] = {
        "municipality": arrays.pack(arrays.SmallintArray, municipality_ids[order]),
        "series": arrays.pack(arrays.IntegerArray, series_ids[order]),
        "time": arrays.pack(arrays.TimestampArray, time_us[order]),
        "result": arrays.pack(arrays.DoubleArray, _numbers(results)[order], no_result[order]),
        "flags": arrays.pack(arrays.IntegerArray, np.array(flags)[order]),
        "origin": arrays.pack(arrays.BigintArray, origin[order], no_origin[order]),
        "value": _texts(values, order),
        "details": _texts(details, order),
        "publish": publish,
    }
    if reason:
        parameters |= {"reason": reason, "sticky": _STICKY}
    return parameters, time_us


async def _executed(
    connection: AsyncConnection[TupleRow], statement: str, parameters: dict[str, Any], n: int
) -> Corrected:
    with RECORD_SECONDS.time():
        cursor = await connection.execute(statement, parameters, prepare=True)
        row = await cursor.fetchone()
    assert row is not None  # noqa: S101 (an aggregate without GROUP BY has one row)
    RECORDED.labels("added").inc(row[0])
    RECORDED.labels("corrected").inc(row[1])
    RECORDED.labels("known").inc(n - row[0] - row[1])
    return Corrected(row[0], row[1])


def _texts(values: Sequence[Any], order: NDArray[np.intp]) -> list[str | None] | None:
    """JSON texts in this order; None, which the statement takes for any number of NULLs, where there is none at all."""
    if values.count(None) == len(values):
        return None
    return [None if (value := values[i]) is None else json.dumps(value) for i in order]


def _numbers(results: Sequence[float | None]) -> NDArray[np.float64]:
    numbers = np.array([0.0 if x is None else x for x in results], dtype=np.float64)
    numbers[np.abs(numbers) < _SMALLEST_RESULT] = 0.0
    return numbers


def _check(rows: Sequence[Observation]) -> None:
    for row in rows:
        if row.time.tzinfo is None:
            raise RecordError(f"series {row.series_id}: time {row.time} has no time zone")
        if not _EARLIEST <= row.time < _LATEST:
            raise RecordError(f"series {row.series_id}: time {row.time.isoformat()} is out of range")
        if row.result is not None and not -LARGEST_RESULT <= row.result <= LARGEST_RESULT:
            problem = "too large" if math.isfinite(row.result) else "not a finite number"
            raise RecordError(f"series {row.series_id}: result {row.result} is {problem}")
        if row.details is not None:
            _check_json(row, "details", row.details)
        if row.value is not None:
            _check_json(row, "value", row.value)
        elif row.result is None:
            raise RecordError(f"series {row.series_id}: no result")


def _check_json(row: Observation, name: str, value: Any) -> None:
    try:
        length = len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"series {row.series_id}: the {name} is no JSON: {error}") from None
    if length > _LONGEST_VALUE:
        raise RecordError(f"series {row.series_id}: the {name} has {length} bytes, at most {_LONGEST_VALUE}")
