"""``POST /CreateObservations`` (18-088 clause 12.2): many observations as rows of columns.

Every row is answered by the link of its observation or by "error", whatever becomes of the others. Rows are recorded in
pieces while the next ones are read, so that hundreds of thousands neither wait for each other nor hold up the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from quartier.cities.rules import NotAllowed
from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.answers import Refusal
from quartier.interfaces.sensorthings.model import BY_NAME
from quartier.interfaces.sensorthings.write import body, observe, rights, streams, values
from quartier.interfaces.sensorthings.write.observe import Intake
from quartier.interfaces.sensorthings.write.problems import BadField, below
from quartier.interfaces.sensorthings.write.streams import Series, Stream, Streams
from quartier.interfaces.sensorthings.write.work import Who
from quartier.twin.record import Observation

MOST_ROWS: Final = 500_000
_PIECE: Final = 4_000
ERROR: Final = "error"
_PROPERTIES: Final = ("phenomenonTime", "result", "resultTime", "resultQuality", "validTime", "parameters")
_FEATURE: Final = frozenset({"FeatureOfInterest/id", "FeatureOfInterest/@iot.id", "FeatureOfInterest"})


type RowReader = Callable[[Any, str], list[Observation]]


@dataclass(slots=True)
class Block:
    """One Datastream's rows of a request."""

    stream: Stream | None
    components: list[str]
    rows: list[Any]
    at: str


@dataclass(slots=True)
class Piece:
    """Rows that are recorded together. ``numbers``: place of an answer, and of its first row."""

    rows: list[Observation]
    checks: Sequence[Series]
    numbers: list[tuple[int, int]]
    named: set[tuple[int, int]]


async def blocks(pool: Pool, who: Who, known: Streams, posted: Any) -> list[Block]:
    """The blocks of a body; a stream is None where the caller may not write to it. Raises BadField."""
    if isinstance(posted, dict):
        posted = [posted]
    if not isinstance(posted, list):
        raise BadField("", f"expected a list of data arrays, found {values.kind_of(posted)}")
    if len(posted) > 10_000:
        raise BadField("", "at most 10000 data arrays at once")
    found = [_block(one, below("", n)) for n, one in enumerate(posted)]
    if (n := sum(len(block.rows) for block, _, _ in found)) > MOST_ROWS:
        raise BadField("", f"at most {MOST_ROWS} observations at once, found {n}")
    for block, multi, key in found:
        block.stream = await find(pool, who, known, multi=multi, key=key)
    return [block for block, _, _ in found]


def _block(one: Any, at: str) -> tuple[Block, bool, int]:
    if not isinstance(one, dict):
        raise BadField(
            at, f"expected an object with Datastream, components and dataArray, found {values.kind_of(one)}"
        )
    names = [name for name in ("Datastream", "MultiDatastream") if name in one]
    if len(names) != 1:
        raise BadField(
            below(at, "Datastream"), "is missing: give the Datastream (or MultiDatastream) of the rows"
        )
    link = one[names[0]]
    if not isinstance(link, dict) or not {"@iot.id", "id"} & link.keys():
        raise BadField(below(at, names[0]), 'expected {"@iot.id": …}')
    key = body.key(BY_NAME[names[0]], link.get("@iot.id", link.get("id")), below(at, names[0]))
    assert isinstance(key, int)  # noqa: S101
    components, rows = one.get("components"), one.get("dataArray")
    if not isinstance(components, list) or not 1 <= len(components) <= 20:
        raise BadField(below(at, "components"), "expected a list of names of properties")
    for n, name in enumerate(components):
        if name not in _PROPERTIES and name not in _FEATURE:
            known = ", ".join([*_PROPERTIES, "FeatureOfInterest/id"])
            raise BadField(
                below(below(at, "components"), n), f"expected one of {known}, found {str(name)[:40]!r}"
            )
    if len(set(components)) != len(components):
        raise BadField(below(at, "components"), "names something twice")
    if "result" not in components:
        raise BadField(below(at, "components"), "lacks result")
    if not isinstance(rows, list):
        raise BadField(below(at, "dataArray"), f"expected a list, found {values.kind_of(rows)}")
    return Block(None, components, rows, at), names[0] == "MultiDatastream", key


async def find(pool: Pool, who: Who, known: Streams, *, multi: bool, key: int) -> Stream | None:
    """A stream that the caller may write to. None if there is none for him; raises NotAllowed if he only sees it."""
    stream = known.known(who.eyes, multi, key)
    if stream is None:
        async with pool.connection() as connection:
            entity = streams.MULTI_DATASTREAM if multi else streams.DATASTREAM
            stream = await streams.load(connection, who.eyes, entity, key)
        if stream is None:
            return None
        known.remember(who.eyes, stream)
    if not rights.may_observe(who.actor, stream.municipality_id, stream.owner_person_id):
        raise NotAllowed(rights.OBSERVE)
    return stream


class Import:
    """One request being recorded: its answers so far, and the pieces that are on their way."""

    def __init__(self, pool: Pool, who: Who, known: Streams, intake: Intake) -> None:
        self._pool = pool
        self._who = who
        self._known = known
        self._intake = intake
        self._answers: list[str] = []
        self._running: set[asyncio.Task[None]] = set()
        self._head = f"{who.base}/Observations('"

    async def create(self, posted: Any) -> list[str]:
        """Record what a body holds; one answer per row: a link, or "error". Raises BadField and NotAllowed."""
        found = await blocks(self._pool, self._who, self._known, posted)
        try:
            for block in found:
                await self._record(block)
            await self._wait(0)
        finally:
            for task in self._running:
                task.cancel()
        return self._answers

    async def _record(self, block: Block) -> None:
        stream = block.stream
        if stream is None:
            self._answers += [ERROR] * len(block.rows)
            return
        reader = reader_of(stream, block.components)
        features = await _features(self._pool, self._who, block)
        for start in range(0, len(block.rows), _PIECE):
            piece = self._read(reader, block, block.rows[start : start + _PIECE], features)
            if piece.named:
                await self._intake.know_features(piece.named)
            await self._wait(1)
            if piece.rows:
                self._running.add(asyncio.create_task(self._take(piece)))
            await asyncio.sleep(0)

    def _read(self, reader: RowReader, block: Block, rows: list[Any], features: set[int]) -> Piece:
        assert block.stream is not None  # noqa: S101
        piece, answers, head = Piece([], [], [], set()), self._answers, self._head
        parts = {one.id: one for one in block.stream.parts}
        first_part = block.stream.parts[0]
        for row in rows:
            try:
                made = reader(row, block.at)
                first = made[0]
                if (
                    first.details is not None
                    and (feature := first.details.get("featureOfInterest")) is not None
                ):
                    if feature not in features:
                        raise BadField(block.at, "there is no such FeatureOfInterest")
                    piece.named.add((feature, first.series_id))
            except BadField:
                answers.append(ERROR)
                continue
            piece.numbers.append((len(answers), len(piece.rows)))
            answers.append(f"{head}{observe.id_of(first.series_id, first.time)}')")
            piece.rows += made
        if block.stream.multi:
            piece.checks = [parts[row.series_id] for row in piece.rows]
        else:
            piece.checks = [first_part] * len(piece.rows)
        return piece

    async def _wait(self, most: int) -> None:
        """Until at most so many pieces are on their way."""
        while len(self._running) > most:
            done, self._running = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _take(self, piece: Piece) -> None:
        """Record a piece; where it cannot be recorded as a whole, row by row."""
        try:
            await self._intake.take(piece.rows, piece.checks)
        except Refusal as refused:
            if refused.status != 400:
                raise
            ends = [start for _, start in piece.numbers[1:]] + [len(piece.rows)]
            for (place, start), end in zip(piece.numbers, ends, strict=True):
                try:
                    await self._intake.take(piece.rows[start:end], piece.checks[start:end])
                except Refusal as one:
                    if one.status != 400:
                        raise
                    self._answers[place] = ERROR


async def _features(pool: Pool, who: Who, block: Block) -> set[int]:
    """Which of the features that rows name are there for the caller."""
    column = next((n for n, name in enumerate(block.components) if name in _FEATURE), None)
    if column is None:
        return set()
    wanted = set()
    for row in block.rows:
        if isinstance(row, list) and len(row) > column and row[column] is not None:
            try:
                wanted.add(_feature_key(row[column], ""))
            except BadField:
                continue
    if len(wanted) > 10_000:
        raise BadField(below(block.at, "dataArray"), "names more than 10000 FeaturesOfInterest")
    found = set()
    async with pool.connection() as connection:
        for key in wanted:
            if await streams.visible(connection, who.eyes, BY_NAME["FeatureOfInterest"], key):
                found.add(key)
    return found


def _feature_key(value: Any, at: str) -> int:
    if isinstance(value, dict):
        value = value.get("@iot.id", value.get("id"))
    found = body.key(BY_NAME["FeatureOfInterest"], value, at)
    assert isinstance(found, int)  # noqa: S101
    return found


def reader_of(stream: Stream, components: list[str]) -> RowReader:
    """What reads the rows of a block. Times and numbers alone are the common case, and have a reader of their own."""
    width = len(components)
    if (
        not stream.multi
        and set(components) == {"phenomenonTime", "result"}
        and stream.parts[0].wants == "number"
    ):
        return _numbers(stream, components.index("phenomenonTime"), components.index("result"))

    def read(row: Any, at: str) -> list[Observation]:
        if not isinstance(row, list) or len(row) != width:
            raise BadField(at, f"expected a list of {width} values")
        posted: dict[str, Any] = {}
        for name, value in zip(components, row, strict=True):
            place = below(at, name)
            match name:
                case "phenomenonTime":
                    if value is not None:
                        posted[name] = values.period(value, place)
                case "resultTime":
                    posted[name] = None if value is None else values.instant(value, place)
                case "validTime":
                    posted[name] = None if value is None else values.interval(value, place)
                case "result":
                    posted[name] = value
                case "parameters" | "resultQuality":
                    posted[name] = values.json(value, place)
                case _:
                    if value is not None:
                        posted["featureOfInterest"] = _feature_key(value, place)
        return observe.rows_of(stream, posted, at)

    return read


def _numbers(stream: Stream, time_at: int, result_at: int) -> RowReader:
    place, series = stream.municipality_id, stream.parts[0]
    series_id = series.id
    parse = datetime.fromisoformat

    def read(row: Any, at: str) -> list[Observation]:
        try:
            text, result = row
            if time_at:
                text, result = result, text
            moment = parse(text)
        except (TypeError, ValueError):
            return slow(row, at)
        if moment.tzinfo is not UTC or type(result) is not float or not -1e100 <= result <= 1e100:
            return slow(row, at)
        if not values.EARLIEST <= moment < values.LATEST:
            return slow(row, at)
        return [Observation(place, series_id, moment, result)]

    def slow(row: Any, at: str) -> list[Observation]:
        if not isinstance(row, list) or len(row) != 2:
            raise BadField(at, "expected a list of 2 values")
        when = row[time_at]
        posted: dict[str, Any] = {"result": row[result_at]}
        if when is not None:
            posted["phenomenonTime"] = values.period(when, below(at, "phenomenonTime"))
        return observe.rows_of(stream, posted, at)

    return read
