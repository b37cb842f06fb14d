"""From raw messages to observations and refusals: parse, identify, decode, map, check.

One bad message never costs another: every step gives a result or a refusal per message. Nothing is stored here, so the
same code serves the live pipeline, replays and second tries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.intake import mapping, parsers, quality
from quartier.intake.catalogue import Catalogue, DeviceFacts, SeriesKey
from quartier.intake.codecs.calls import Call, CodecError, Decoded
from quartier.intake.codecs.sandbox import CodecPool
from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.twin import correct
from quartier.twin.record import Observation

log = structlog.get_logger(__name__)

# Networks deliver copies within seconds. A device that joins anew counts from zero again, and sends every few minutes:
# the same counter after that is another frame.
_DUPLICATE_WINDOW = timedelta(minutes=2)
_STATE_READINGS = 12
_STATES = 500_000  # series whose check state is kept, about 200 bytes each
_NO_TIME = datetime.min.replace(tzinfo=UTC)

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]
FrameKey = tuple[int, int]  # device id, frame counter


class Arrived(NamedTuple):
    """A raw message with its position in the inbox (None for a second try of a refused one)."""

    raw: RawMessage
    position: int | None


@dataclass(slots=True)
class Work:
    """One uplink on its way."""

    arrived: Arrived
    uplink: Uplink
    device: DeviceFacts | None = None
    time: datetime = _NO_TIME
    frame_time: datetime = _NO_TIME  # before the device's own clock was read; tells copies of a frame apart
    flags: int = 0
    fields: dict[str, Any] | None = None
    mapped: mapping.Mapped | None = None
    thing_id: int = 0
    refused: MessageError | None = None


class Refusal(NamedTuple):
    """Why a message (or a part of it) was not recorded."""

    arrived: Arrived
    external_id: str
    error: MessageError


@dataclass(slots=True)
class Outcome:
    """What became of a batch."""

    observations: list[Observation] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    acquitted: list[correct.Key] = field(default_factory=list)
    duplicates: int = 0
    work: list[Work] = field(default_factory=list)
    # Devices by message of which something was not asked for, refused, or a copy.
    left_out: dict[int | None, set[str]] = field(default_factory=dict)


class Interpreter:
    """Turns raw messages into observations and refusals. Used by the pipeline and by replays."""

    def __init__(self, pool: Pool, codecs: CodecPool, catalogue: Catalogue, *, live: bool = True) -> None:
        """``live=False`` is for replays: the checks begin with nothing remembered, as they did then."""
        self._pool = pool
        self._codecs = codecs
        self._catalogue = catalogue
        self._live = live
        self._states: dict[int, quality.SeriesState | None] = {}
        # Frames of the last batches, which the store may not know yet (a replay never tells it).
        self._recent: deque[dict[FrameKey, list[datetime]]] = deque(maxlen=4 if live else 64)

    async def interpret(self, batch: Sequence[Arrived], *, only: Collection[str] | None = None) -> Outcome:
        """Everything up to (and without) recording; ``only`` limits it to some devices' external ids.

        Raises psycopg errors if the store cannot be reached.
        """
        outcome = Outcome()
        async with self._pool.connection() as connection:
            await self._catalogue.refresh(connection)
            parsed = self._parse(batch, outcome)
            work = parsed if only is None else [one for one in parsed if one.uplink.external_id in only]
            await self._catalogue.learn_devices(
                connection,
                ((w.arrived.raw.municipality, w.arrived.raw.source, w.uplink.external_id) for w in work),
            )
            work = self._identify(work, outcome)
            work = await self._drop_duplicates(connection, work, outcome)
        await self._decode(work)
        wanted: dict[SeriesKey, tuple[int, int]] = {}
        for one in work:
            self._map(one, wanted)
            if one.refused is not None:
                outcome.refusals.append(Refusal(one.arrived, one.uplink.external_id, one.refused))
            elif one.mapped is not None:
                outcome.work.append(one)
                for problem in one.mapped.problems:
                    outcome.refusals.append(Refusal(one.arrived, one.uplink.external_id, problem))
        async with self._pool.connection() as connection:
            await self._catalogue.learn_series(connection, wanted)
            await self._check(connection, outcome)
        taken = {id(one) for one in outcome.work}
        for one in parsed:
            if id(one) not in taken:
                outcome.left_out.setdefault(one.arrived.position, set()).add(one.uplink.external_id)
        frames: dict[FrameKey, list[datetime]] = {}
        for one in outcome.work:
            if one.device is not None and one.uplink.frame_counter is not None:
                frames.setdefault((one.device.id, one.uplink.frame_counter), []).append(one.frame_time)
        self._recent.append(frames)
        return outcome

    def _parse(self, batch: Sequence[Arrived], outcome: Outcome) -> list[Work]:
        work: list[Work] = []
        for arrived in batch:
            source = self._catalogue.sources.get(arrived.raw.source)
            try:
                uplinks = parsers.parse(arrived.raw, source.settings if source else {})
            except MessageError as error:
                outcome.refusals.append(Refusal(arrived, error.external_id, error))
            except Exception as error:
                log.exception("intake.parser_failed", kind=arrived.raw.kind)
                outcome.refusals.append(
                    Refusal(arrived, "", MessageError("internal_error", repr(error)[:300]))
                )
            else:
                work.extend(Work(arrived, uplink) for uplink in uplinks)
        return work

    def _identify(self, work: list[Work], outcome: Outcome) -> list[Work]:
        known: list[Work] = []
        for one in work:
            raw, uplink = one.arrived.raw, one.uplink
            device = self._catalogue.devices.get((raw.municipality, raw.source, uplink.external_id))
            error: MessageError | None = None
            if device is None:
                error = MessageError(
                    "unknown_device",
                    f"no device {uplink.external_id!r} is registered at source {raw.source!r}",
                )
            elif not device.active:
                error = MessageError("device_off", "the device is switched off on the desk")
            else:
                one.device = device
                one.time, one.flags = mapping.choose_time(
                    uplink.observed_at, uplink.received_at, raw.received_at
                )
                one.frame_time = one.time
                known.append(one)
            if error is not None:
                outcome.refusals.append(Refusal(one.arrived, uplink.external_id, error))
        return known

    async def _drop_duplicates(
        self, connection: AsyncConnection[TupleRow], work: list[Work], outcome: Outcome
    ) -> list[Work]:
        """Frames with a counter that was seen a moment ago are copies: networks deliver some of them twice."""
        counted = [w for w in work if w.uplink.frame_counter is not None]
        if not counted:
            return work
        cursor = await connection.execute(
            "SELECT f.device_id, f.counter, f.time, f.id FROM intake_frame f"
            " JOIN unnest(%s::bigint[], %s::bigint[]) AS k(device, counter)"
            " ON f.device_id = k.device AND f.counter = k.counter",
            [[w.device.id for w in counted if w.device], [w.uplink.frame_counter for w in counted]],
        )
        seen: dict[FrameKey, list[datetime]] = {}
        for frames in self._recent:
            for key, moments in frames.items():
                seen.setdefault(key, []).extend(moments)
        for device_id, counter, moment, _ in await cursor.fetchall():
            seen.setdefault((device_id, counter), []).append(moment)
        kept: list[Work] = []
        for one in work:
            counter = one.uplink.frame_counter
            if counter is None or one.device is None:
                kept.append(one)
                continue
            times = seen.setdefault((one.device.id, counter), [])
            # The very same time is no copy but this message again (delivered twice by the inbox, or retried): it goes
            # on, and finds its readings recorded or records them.
            if any(
                t != one.frame_time and abs(t - one.frame_time) < _DUPLICATE_WINDOW for t in times
            ) and not any(t == one.frame_time for t in times):
                outcome.duplicates += 1
                continue
            times.append(one.frame_time)
            kept.append(one)
        return kept

    async def _decode(self, work: list[Work]) -> None:
        by_script: dict[str, list[Work]] = {}
        for one in work:
            if one.uplink.fields is not None:
                one.fields = dict(one.uplink.fields)
                continue
            if one.uplink.payload is None:
                one.refused = MessageError(
                    "no_payload", "the message carries neither payload nor decoded fields"
                )
                continue
            device_type = one.device.device_type if one.device else None
            if device_type is None or not device_type.script:
                one.refused = MessageError("no_codec", "the device has no device type with a codec")
                continue
            by_script.setdefault(device_type.script, []).append(one)
        await asyncio.gather(*(self._decode_with(script, group) for script, group in by_script.items()))

    async def _decode_with(self, script: str, group: list[Work]) -> None:
        calls = [
            Call(
                payload=one.uplink.payload or b"",
                port=one.uplink.port,
                received_at=one.uplink.received_at,
                variables=one.uplink.variables,
            )
            for one in group
        ]
        for one, result in zip(group, await self._codecs.decode(script, calls), strict=True):
            if isinstance(result, Decoded):
                one.fields = result.data
            elif isinstance(result, CodecError):
                # What says nothing about the message has a reason of its own: a second try will succeed.
                reason = result.reason if result.transient else "undecodable"
                one.refused = MessageError(reason, f"{result.reason}: {result.detail}")

    def _map(self, one: Work, wanted: dict[SeriesKey, tuple[int, int]]) -> None:
        if one.refused is not None or one.fields is None or one.device is None:
            return
        device_type = one.device.device_type
        if device_type is not None and device_type.problem:
            one.refused = MessageError("bad_mapping", device_type.problem)
            return
        rules = (
            device_type.rules
            if device_type is not None and device_type.rules
            else self._catalogue.plain_rules
        )
        try:
            one.mapped = mapping.apply(rules, one.fields)
        except MessageError as error:
            one.refused = error
            return
        if one.mapped.observed_at is not None:
            one.time, one.flags = mapping.choose_time(
                one.mapped.observed_at, one.uplink.received_at, one.arrived.raw.received_at
            )
        thing_id = one.device.thing_at(one.time)
        if thing_id is None:
            one.refused = MessageError(
                "not_deployed", f"at {one.time.isoformat()} the device stood at no place"
            )
            return
        one.thing_id = thing_id
        for found in one.mapped.fields:
            wanted[(thing_id, found.observed_property.id, found.channel)] = (
                one.device.municipality_id,
                one.device.id,
            )

    async def _check(self, connection: AsyncConnection[TupleRow], outcome: Outcome) -> None:
        series = self._catalogue.series
        await self._load_states(
            connection,
            {
                series[(one.thing_id, f.observed_property.id, f.channel)]: (one.device.municipality_id, f)
                for one in outcome.work
                if one.device and one.mapped
                for f in one.mapped.fields
            },
        )
        states, limits = self._states, self._catalogue.limits
        check = quality.check
        add = outcome.observations.append
        for one in outcome.work:
            if one.device is None or one.mapped is None:
                continue
            municipality_id, moment, position = one.device.municipality_id, one.time, one.arrived.position
            moment_s = moment.timestamp()
            for found in one.mapped.fields:
                facts = found.observed_property
                series_id = series[(one.thing_id, facts.id, found.channel)]
                flags = one.flags
                if found.result is not None and facts.result_type == "number":
                    found_flags, state = check(states[series_id], moment_s, found.result, limits[facts.id])
                    states[series_id] = state
                    flags |= found_flags
                    if state is not None and state.acquitted_s is not None:
                        acquitted = datetime.fromtimestamp(state.acquitted_s, UTC)
                        outcome.acquitted.append((municipality_id, series_id, acquitted))
                add(
                    Observation(
                        municipality_id, series_id, moment, found.result, flags, position, found.value
                    )
                )

    async def _load_states(
        self, connection: AsyncConnection[TupleRow], wanted: dict[int, tuple[int, mapping.Field]]
    ) -> None:
        """Rebuild what the checks remember of a series from its newest readings."""
        missing = wanted.keys() - self._states.keys()
        if not missing:
            return
        if len(self._states) > _STATES:
            self._states.clear()
            missing = set(wanted)
        history: dict[int, list[tuple[float, float]]] = {}
        if self._live:
            ids = sorted(missing)
            cursor = await connection.execute(
                "SELECT k.series, o.time, o.result FROM unnest(%s::smallint[], %s::integer[])"
                " AS k(municipality, series) CROSS JOIN LATERAL (SELECT time, result FROM twin_observation x"
                " WHERE x.municipality_id = k.municipality AND x.series_id = k.series AND x.result IS NOT NULL"
                " AND x.time > now() - interval '7 days' ORDER BY time DESC LIMIT %s) o ORDER BY k.series, o.time",
                [[wanted[series_id][0] for series_id in ids], ids, _STATE_READINGS],
            )
            for series_id, moment, result in await cursor.fetchall():
                history.setdefault(series_id, []).append((moment.timestamp(), result))
        for series_id in missing:
            limits = self._catalogue.limits[wanted[series_id][1].observed_property.id]
            self._states[series_id] = quality.rebuild(history.get(series_id, ()), limits)
