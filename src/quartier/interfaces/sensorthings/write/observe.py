"""Observations on their way into the twin: checked against their Datastream, through quality control, recorded.

The store's key is series and time. What is posted again with the same result is acknowledged as it is; with another
result it is a correction, and the older one stays in the revisions. A row may carry ``details`` (see
:class:`quartier.twin.record.Observation`) for what the standard knows and the twin does not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.engines.pools import Pool
from quartier.intake import findings, quality
from quartier.interfaces.sensorthings.answers import Refusal
from quartier.interfaces.sensorthings.write import values
from quartier.interfaces.sensorthings.write.problems import BadField, below
from quartier.interfaces.sensorthings.write.streams import Series, Stream
from quartier.twin import correct
from quartier.twin.flags import Flag
from quartier.twin.record import LARGEST_RESULT, Observation, Recorder, RecordError

log = structlog.get_logger(__name__)

REASON: Final = "SensorThings: another result for the same time"
# A recorder waits for a store that is away; a client is not kept waiting that long, and may send again.
WAIT_S: Final = 20.0
# Transactions at once; the others of the pool's connections stay with the recorder and short questions.
_TRANSACTIONS: Final = 4
_STATES: Final = 100_000
_STATE_READINGS: Final = 12
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def id_of(series_id: int, moment: datetime) -> str:
    """The id of an observation."""
    past = moment - _EPOCH
    return f"{series_id}.{(past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds}"


def kept(series: Series, value: Any, at: str) -> tuple[float | None, Any]:
    """A result as the twin keeps it: a number, or any other value. Raises BadField."""
    wants = series.wants
    if wants in ("number", "count"):
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            # Home Assistant knows every state as a text.
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, float | int):
            raise BadField(
                at, f"expected a number, as the observationType says, found {values.kind_of(value)}"
            )
        if not -LARGEST_RESULT <= value <= LARGEST_RESULT:
            raise BadField(
                at, f"{value:g} cannot be kept" if abs(value) < 1e308 else "the number is too large"
            )
        if wants == "count" and value != int(value):
            raise BadField(at, f"expected a whole number, as the observationType says, found {value:g}")
        return float(value), None
    if wants == "bool":
        if not isinstance(value, bool):
            raise BadField(
                at, f"expected true or false, as the observationType says, found {values.kind_of(value)}"
            )
        return float(value), None
    if wants == "text":
        if not isinstance(value, str):
            raise BadField(at, f"expected a text, as the observationType says, found {values.kind_of(value)}")
        return None, values.text(value, at)
    if wants == "derived":
        raise Refusal(403, "this Datastream is computed from others and takes no observations")
    if value is None:
        raise BadField(at, "cannot be null")
    if isinstance(value, float | int) and not isinstance(value, bool):
        if not -LARGEST_RESULT <= value <= LARGEST_RESULT:
            raise BadField(at, "the number is too large")
        if isinstance(value, float) or abs(value) < 1 << 53:
            return float(value), None
    return None, values.json(value, at, longest=60_000)


def details_of(posted: Mapping[str, Any], start: datetime, end: datetime | None) -> dict[str, Any] | None:
    """What the standard knows besides time and result; None where there is nothing. ``posted`` was checked."""
    found: dict[str, Any] = {}
    if end is not None and end != start:
        found["phenomenonTimeEnd"] = values.iso(end)
    if "resultTime" in posted:
        result_time = posted["resultTime"]
        if result_time != start:
            found["resultTime"] = None if result_time is None else values.iso(result_time)
    if posted.get("validTime"):
        found["validTime"] = "/".join(values.iso(one) for one in posted["validTime"])
    for name in ("resultQuality", "parameters", "featureOfInterest"):
        if posted.get(name) is not None:
            found[name] = posted[name]
    return found or None


def rows_of(stream: Stream, posted: Mapping[str, Any], at: str) -> list[Observation]:
    """The rows of one observation. ``posted`` has checked values by the names of the model. Raises BadField."""
    start, end = posted.get("phenomenonTime") or (datetime.now(UTC), None)
    details = details_of(posted, start, end)
    place = stream.municipality_id
    result = posted["result"]
    if not stream.multi:
        number, value = kept(stream.parts[0], result, below(at, "result"))
        return [Observation(place, stream.parts[0].id, start, number, 0, None, value, details)]
    return several(stream, result, start, details, below(at, "result"))


def several(
    stream: Stream, result: Any, start: datetime, details: dict[str, Any] | None, at: str
) -> list[Observation]:
    """The rows of an observation of a MultiDatastream (18-088 clause 11: as many results as components)."""
    if not isinstance(result, list) or len(result) != len(stream.parts):
        raise BadField(at, f"expected a list of {len(stream.parts)} results, one for each ObservedProperty")
    rows = []
    for n, (series, value) in enumerate(zip(stream.parts, result, strict=True)):
        # What one component could not measure is left out; the first one stands for the row.
        if value is None and n:
            continue
        number, other = kept(series, value, below(at, n))
        rows.append(
            Observation(
                stream.municipality_id, series.id, start, number, 0, None, other, None if n else details
            )
        )
    return rows


class Intake:
    """Checks and records observations of one process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._recorder: Recorder | None = None
        self._starting = asyncio.Lock()
        self.transactions = asyncio.Semaphore(_TRANSACTIONS)
        self._states: dict[int, quality.SeriesState | None] = {}
        self._features: set[tuple[int, int]] = set()
        # Rows of which somebody wants to know how they are kept.
        self._known_again: list[tuple[list[Observation], asyncio.Future[_Kept]]] = []
        self._looking: asyncio.Task[None] | None = None

    async def recorder(self) -> Recorder:
        """The recorder of the process, started when it is first needed."""
        if self._recorder is None:
            async with self._starting:
                if self._recorder is None:
                    made = Recorder(self._pool)
                    await made.start()
                    self._recorder = made
        return self._recorder

    async def close(self) -> None:
        """Record what waits."""
        if self._recorder is not None:
            await self._recorder.close()

    async def take(self, rows: list[Observation], checks: Sequence[Series]) -> None:
        """Record rows; returns when they are durable. ``checks[n]`` is the series of ``rows[n]``.

        Raises Refusal if they cannot be recorded.
        """
        rows, acquitted = await self._flagged(None, rows, checks)
        recorder = self._recorder or await self.recorder()
        try:
            async with asyncio.timeout(WAIT_S):
                if not await recorder.record(rows):
                    await self._correct(recorder, rows)
        except TimeoutError:
            raise Refusal(503, "not stored yet; send it again", {"retry-after": "5"}) from None
        except RecordError as error:
            raise Refusal(400, str(error)) from None
        if acquitted or any(row.flags for row in rows):
            await self._note(rows, acquitted)

    async def take_within(
        self, connection: AsyncConnection[TupleRow], rows: list[Observation], checks: Sequence[Series]
    ) -> None:
        """Record rows inside of a transaction: with what else it does, or not at all."""
        rows, acquitted = await self._flagged(connection, rows, checks)
        recorder = await self.recorder()
        fresh = await _different(connection, rows)
        try:
            await recorder.correct_within(connection, fresh, reason=REASON)
        except RecordError as error:
            raise Refusal(400, str(error)) from None
        finally:
            # Whether the transaction commits is not known here: the checks look again.
            for one in checks:
                self._states.pop(one.id, None)
        await _note_in(connection, rows, acquitted)

    async def _correct(self, recorder: Recorder, rows: list[Observation]) -> None:
        """Some rows of the commit were there already: those with another result are corrections.

        One row that somebody sends again brings all callers of its commit here, so they look together.
        """
        asked: asyncio.Future[_Kept] = asyncio.get_running_loop().create_future()
        self._known_again.append((rows, asked))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        if changed := _different_from(await asked, rows):
            await recorder.correct(changed, reason=REASON)

    async def _look(self) -> None:
        while self._known_again:
            taken, self._known_again = self._known_again, []
            try:
                async with self._pool.connection() as connection:
                    kept = await _kept(connection, [row for rows, _ in taken for row in rows])
            except Exception as error:
                for _, asked in taken:
                    if not asked.done():
                        asked.set_exception(error)
                continue
            for _, asked in taken:
                if not asked.done():
                    asked.set_result(kept)

    # -- quality control

    async def _flagged(
        self, connection: AsyncConnection[TupleRow] | None, rows: list[Observation], checks: Sequence[Series]
    ) -> tuple[list[Observation], list[correct.Key]]:
        """The rows with the flags that the checks find, and readings that these acquit."""
        states = self._states
        if missing := {
            row.series_id: (row.municipality_id, one)
            for row, one in zip(rows, checks, strict=True)
            if one.limits is not None and row.series_id not in states
        }:
            await self._load(connection, missing)
        acquitted: list[correct.Key] = []
        flagged: list[Observation] = []
        for row, one in zip(rows, checks, strict=True):
            if one.limits is not None and row.result is not None:
                flags, state = quality.check(
                    states.get(row.series_id), row.time.timestamp(), row.result, one.limits
                )
                states[row.series_id] = state
                if flags:
                    flagged.append(row._replace(flags=flags))
                    continue
                if state is not None and state.acquitted_s is not None:
                    moment = datetime.fromtimestamp(state.acquitted_s, UTC)
                    acquitted.append((row.municipality_id, row.series_id, moment))
            flagged.append(row)
        return flagged, acquitted

    async def _load(
        self, connection: AsyncConnection[TupleRow] | None, missing: dict[int, tuple[int, Series]]
    ) -> None:
        """Rebuild what the checks remember of series from their newest readings."""
        if connection is None:
            async with self._pool.connection() as own:
                return await self._load(own, missing)
        if len(self._states) > _STATES:
            self._states.clear()
        ids = sorted(missing)
        cursor = await connection.execute(
            "SELECT k.series, o.time, o.result FROM unnest(%s::smallint[], %s::integer[]) AS k(municipality, series)"
            " CROSS JOIN LATERAL (SELECT time, result FROM twin_observation x WHERE x.municipality_id = k.municipality"
            " AND x.series_id = k.series AND x.result IS NOT NULL AND x.time > now() - interval '7 days'"
            " ORDER BY time DESC LIMIT %s) o ORDER BY k.series, o.time",
            [[missing[id_][0] for id_ in ids], ids, _STATE_READINGS],
        )
        history: dict[int, list[tuple[float, float]]] = {}
        for series_id, moment, result in await cursor.fetchall():
            history.setdefault(series_id, []).append((moment.timestamp(), result))
        for series_id, (_, one) in missing.items():
            assert one.limits is not None  # noqa: S101
            self._states[series_id] = quality.rebuild(history.get(series_id, ()), one.limits)
        return None

    async def _note(self, rows: Sequence[Observation], acquitted: list[correct.Key]) -> None:
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await _note_in(connection, rows, acquitted)
        except Exception as error:
            log.warning("sensorthings.findings", error=str(error).strip()[:200])

    # -- features

    async def name_features(self, connection: AsyncConnection[TupleRow], pairs: set[tuple[int, int]]) -> None:
        """Note which features are named by observations of which series."""
        if pairs := pairs - self._features:
            await connection.execute(
                "INSERT INTO sensorthings_featureseries (feature_id, series_id)"
                " SELECT * FROM unnest(%s::bigint[], %s::integer[]) ON CONFLICT DO NOTHING",
                [[feature for feature, _ in pairs], [series for _, series in pairs]],
            )

    async def know_features(self, pairs: set[tuple[int, int]]) -> None:
        """The same on a connection of its own, remembered."""
        if pairs - self._features:
            async with self._pool.connection() as connection:
                await self.name_features(connection, pairs)
            if len(self._features) > _STATES:
                self._features.clear()
            self._features |= pairs

    def forget(self) -> None:
        """Something was deleted."""
        self._features.clear()
        self._states.clear()


async def _note_in(
    connection: AsyncConnection[TupleRow], rows: Sequence[Observation], acquitted: list[correct.Key]
) -> None:
    await findings.note(connection, rows)
    if acquitted:
        await correct.flag(connection, acquitted, clear=int(Flag.SPIKE))
        await findings.withdraw(connection, acquitted, Flag.SPIKE)


# Result, value and details of observations that are kept, by series and time.
type _Kept = dict[tuple[int, datetime], tuple[float | None, bytes, bytes]]


async def _kept(connection: AsyncConnection[TupleRow], rows: Sequence[Observation]) -> _Kept:
    keys = list({(row.municipality_id, row.series_id, row.time) for row in rows})
    if not keys:
        return {}
    cursor = await connection.execute(
        "SELECT o.series_id, o.time, o.result, o.value, o.details"
        " FROM unnest(%s::smallint[], %s::integer[], %s::timestamptz[]) AS k(municipality_id, series_id, time)"
        " JOIN twin_observation o USING (municipality_id, series_id, time)",
        [[key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]],
    )
    return {
        (series_id, moment): (result, _json(value), _json(details))
        for series_id, moment, result, value, details in await cursor.fetchall()
    }


def _different_from(kept: _Kept, rows: Sequence[Observation]) -> list[Observation]:
    """The rows that are not kept as they are: new ones, and ones with another result or other details."""
    last = {(row.series_id, row.time): row for row in rows}
    return [
        row
        for key, row in last.items()
        if (there := kept.get(key)) is None
        or there[0] != row.result
        or there[1] != _json(row.value)
        or (row.details is not None and there[2] != _json(row.details))
    ]


async def _different(connection: AsyncConnection[TupleRow], rows: list[Observation]) -> list[Observation]:
    return _different_from(await _kept(connection, rows), rows)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
