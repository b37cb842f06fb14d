"""From the inbox to the store: parse, decode, map, check, record.

Messages are taken in batches. A batch is acknowledged when its readings are committed and its refusals are listed; if
the process dies before, the stream delivers the batch again, and what was recorded is found there and changes nothing.
One bad message never costs another: every step gives a result or a refusal per message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import nats.errors
import psycopg
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from quartier.engines.bus import INBOX, Bus
from quartier.intake import findings, mapping, metrics, parsers, quality
from quartier.intake.catalogue import Catalogue, DeviceFacts, SeriesKey
from quartier.intake.codecs import Call, CodecError, CodecPool, Decoded
from quartier.intake.inbox import RawMessage, decode
from quartier.intake.parsers import MessageError, Uplink
from quartier.twin.record import Observation, Recorder

log = structlog.get_logger(__name__)

CONSUMER = "intake"
_DUPLICATE_WINDOW = timedelta(minutes=10)
_STORED_BODY_BYTES = 65_536
_STATE_READINGS = 12

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]


class Arrived(NamedTuple):
    """A raw message with its position in the inbox (None for a second try of a refused one)."""

    raw: RawMessage
    position: int | None


@dataclass(slots=True)
class _Work:
    """One uplink on its way."""

    arrived: Arrived
    uplink: Uplink
    device: DeviceFacts | None = None
    time: datetime = datetime.min.replace(tzinfo=UTC)
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
    duplicates: int = 0
    work: list[_Work] = field(default_factory=list)


class Interpreter:
    """Turns raw messages into observations and refusals. Used by the pipeline and by replays."""

    def __init__(self, pool: Pool, codecs: CodecPool, catalogue: Catalogue) -> None:
        self._pool = pool
        self._codecs = codecs
        self._catalogue = catalogue
        self._states: dict[int, quality.SeriesState] = {}

    async def interpret(self, batch: Sequence[Arrived], *, detect_duplicates: bool = True) -> Outcome:
        """Everything up to (and without) recording. Raises psycopg errors if the store cannot be reached."""
        outcome = Outcome()
        async with self._pool.connection() as connection:
            await self._catalogue.refresh(connection)
            work = self._parse(batch, outcome)
            await self._catalogue.learn_devices(
                connection, ((w.arrived.raw.municipality, w.arrived.raw.source, w.uplink.external_id) for w in work)
            )
            work = self._identify(work, outcome)
            if detect_duplicates:
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
        return outcome

    def _parse(self, batch: Sequence[Arrived], outcome: Outcome) -> list[_Work]:
        work: list[_Work] = []
        for arrived in batch:
            source = self._catalogue.sources.get(arrived.raw.source)
            try:
                uplinks = parsers.parse(arrived.raw, source.settings if source else {})
            except MessageError as error:
                outcome.refusals.append(Refusal(arrived, error.external_id, error))
            except Exception as error:  # noqa: BLE001 (a parser's own mistake is listed, not fatal)
                log.exception("intake.parser_failed", kind=arrived.raw.kind)
                outcome.refusals.append(Refusal(arrived, "", MessageError("internal_error", repr(error)[:300])))
            else:
                work.extend(_Work(arrived, uplink) for uplink in uplinks)
        return work

    def _identify(self, work: list[_Work], outcome: Outcome) -> list[_Work]:
        known: list[_Work] = []
        for one in work:
            raw, uplink = one.arrived.raw, one.uplink
            device = self._catalogue.devices.get((raw.municipality, raw.source, uplink.external_id))
            error: MessageError | None = None
            if device is None:
                error = MessageError(
                    "unknown_device", f"no device {uplink.external_id!r} is registered at source {raw.source!r}"
                )
            elif not device.active:
                error = MessageError("device_off", "the device is switched off on the desk")
            else:
                one.device = device
                one.time, one.flags = mapping.choose_time(uplink.observed_at, uplink.received_at, raw.received_at)
                known.append(one)
            if error is not None:
                outcome.refusals.append(Refusal(one.arrived, uplink.external_id, error))
        return known

    async def _drop_duplicates(
        self, connection: AsyncConnection[TupleRow], work: list[_Work], outcome: Outcome
    ) -> list[_Work]:
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
        seen: dict[tuple[int, int], list[datetime]] = {}
        for device_id, counter, moment, _ in await cursor.fetchall():
            seen.setdefault((device_id, counter), []).append(moment)
        kept: list[_Work] = []
        for one in work:
            counter = one.uplink.frame_counter
            if counter is None or one.device is None:
                kept.append(one)
                continue
            times = seen.setdefault((one.device.id, counter), [])
            # The very same time is no copy but this message again (delivered twice by the inbox, or retried): it goes
            # on, and finds its readings recorded or records them.
            if any(t != one.time and abs(t - one.time) < _DUPLICATE_WINDOW for t in times):
                outcome.duplicates += 1
                continue
            times.append(one.time)
            kept.append(one)
        return kept

    async def _decode(self, work: list[_Work]) -> None:
        by_script: dict[str, list[_Work]] = {}
        for one in work:
            if one.uplink.fields is not None:
                one.fields = dict(one.uplink.fields)
                continue
            if one.uplink.payload is None:
                one.refused = MessageError("no_payload", "the message carries neither payload nor decoded fields")
                continue
            device_type = one.device.device_type if one.device else None
            if device_type is None or not device_type.script:
                one.refused = MessageError("no_codec", "the device has no device type with a codec")
                continue
            by_script.setdefault(device_type.script, []).append(one)
        await asyncio.gather(*(self._decode_with(script, group) for script, group in by_script.items()))

    async def _decode_with(self, script: str, group: list[_Work]) -> None:
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
                one.refused = MessageError("undecodable", f"{result.reason}: {result.detail}")

    def _map(self, one: _Work, wanted: dict[SeriesKey, tuple[int, int]]) -> None:
        if one.refused is not None or one.fields is None or one.device is None:
            return
        device_type = one.device.device_type
        if device_type is not None and device_type.problem:
            one.refused = MessageError("bad_mapping", device_type.problem)
            return
        rules = device_type.rules if device_type is not None and device_type.rules else self._catalogue.plain_rules
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
            one.refused = MessageError("not_deployed", f"at {one.time.isoformat()} the device stood at no place")
            return
        one.thing_id = thing_id
        for found in one.mapped.fields:
            wanted[(thing_id, found.observed_property.id, found.channel)] = (one.device.municipality_id, one.device.id)

    async def _check(self, connection: AsyncConnection[TupleRow], outcome: Outcome) -> None:
        series = self._catalogue.series
        await self._load_states(
            connection,
            [
                (one.device.municipality_id, series[(one.thing_id, f.observed_property.id, f.channel)])
                for one in outcome.work
                if one.device and one.mapped
                for f in one.mapped.fields
            ],
        )
        states, limits = self._states, self._catalogue.limits
        add = outcome.observations.append
        for one in outcome.work:
            if one.device is None or one.mapped is None:
                continue
            municipality_id, moment, position = one.device.municipality_id, one.time, one.arrived.position
            for found in one.mapped.fields:
                facts = found.observed_property
                series_id = series[(one.thing_id, facts.id, found.channel)]
                flags = one.flags
                if found.result is not None and facts.result_type == "number":
                    flags |= int(quality.check(states[series_id], moment, found.result, limits[facts.id]))
                add(Observation(municipality_id, series_id, moment, found.result, flags, position, found.value))

    async def _load_states(self, connection: AsyncConnection[TupleRow], keys: list[tuple[int, int]]) -> None:
        """Rebuild what the checks remember of a series from its newest readings."""
        missing = {key for key in keys if key[1] not in self._states}
        if not missing:
            return
        cursor = await connection.execute(
            "SELECT k.series, o.time, o.result, o.flags FROM unnest(%s::smallint[], %s::integer[])"
            " AS k(municipality, series) CROSS JOIN LATERAL (SELECT time, result, flags FROM twin_observation x"
            " WHERE x.municipality_id = k.municipality AND x.series_id = k.series AND x.result IS NOT NULL"
            " AND x.time > now() - interval '7 days' ORDER BY time DESC LIMIT %s) o ORDER BY k.series, o.time",
            [[m for m, _ in missing], [s for _, s in missing], _STATE_READINGS],
        )
        history: dict[int, list[tuple[datetime, float, int]]] = {}
        for series_id, moment, result, flags in await cursor.fetchall():
            history.setdefault(series_id, []).append((moment, result, flags))
        if len(self._states) > 500_000:
            self._states.clear()
        for _, series_id in missing:
            self._states[series_id] = quality.SeriesState.rebuild(history.get(series_id, []))


class Pipeline:
    """Runs the interpreter over the inbox."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        recorder: Recorder,
        interpreter: Interpreter,
        *,
        batch_messages: int = 400,
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._recorder = recorder
        self._interpreter = interpreter
        self._batch_messages = batch_messages

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``. Outages of PostgreSQL and NATS are waited out."""
        while not stop.is_set():
            try:
                subscription = await self._bus.js.pull_subscribe(
                    f"{INBOX}.>",
                    durable=CONSUMER,
                    stream=INBOX,
                    config=ConsumerConfig(
                        durable_name=CONSUMER,
                        ack_policy=AckPolicy.EXPLICIT,
                        deliver_policy=DeliverPolicy.ALL,
                        ack_wait=60,
                        max_ack_pending=20_000,
                    ),
                    pending_msgs_limit=200_000,
                    pending_bytes_limit=256 * 1024 * 1024,
                )
                while not stop.is_set():
                    try:
                        messages = await subscription.fetch(self._batch_messages, timeout=1)
                    except (TimeoutError, nats.errors.TimeoutError):
                        continue
                    await self._handle(messages, stop)
            except nats.errors.Error as error:
                log.warning("intake.retry", error=str(error) or type(error).__name__)
                await asyncio.sleep(1)

    async def _handle(self, messages: list[Msg], stop: asyncio.Event) -> None:
        batch: list[Arrived] = []
        for message in messages:
            try:
                batch.append(Arrived(decode(message.data), message.metadata.sequence.stream))
            except msgspec.DecodeError:
                # Only we write envelopes; one that cannot be opened was not written by this version of us.
                log.error("intake.bad_envelope", position=message.metadata.sequence.stream)
                metrics.MESSAGES.labels("bad_envelope").inc()
        if await self.process_persistently(batch, stop, messages):
            for message in messages:
                await message.ack()

    async def process_persistently(
        self, batch: list[Arrived], stop: asyncio.Event, messages: Sequence[Msg] = ()
    ) -> bool:
        """Process a batch, waiting while the store is away; False if ``stop`` came first."""
        while True:
            try:
                await self.process(batch)
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                log.warning("intake.store_away", error=str(error).strip() or type(error).__name__)
                if stop.is_set():
                    return False
                for message in messages:
                    await message.in_progress()
                await asyncio.sleep(1)
            except Exception as error:
                if len(batch) > 1:
                    # Something in this batch breaks us: find it by taking the messages one by one.
                    for one in batch:
                        if not await self.process_persistently([one], stop):
                            return False
                    return True
                log.exception("intake.message_failed", position=batch[0].position)
                refusal = Refusal(batch[0], "", MessageError("internal_error", repr(error)[:300]))
                async with self._pool.connection() as connection:
                    await _list_refusals(connection, [refusal])
                return True
            else:
                return True

    async def process(self, batch: list[Arrived]) -> Outcome:
        """Interpret and record one batch."""
        began = time.monotonic()
        outcome = await self._interpreter.interpret(batch)
        await self._recorder.record(outcome.observations)
        async with self._pool.connection() as connection:
            await _list_refusals(connection, outcome.refusals)
            await _note_frames(connection, outcome.work)
            await _note_devices(connection, outcome.work)
            await findings.note(
                connection,
                (
                    findings.Flagged(o.municipality_id, o.series_id, o.time, o.result, o.flags)
                    for o in outcome.observations
                    if o.flags
                ),
            )
        metrics.MESSAGES.labels("recorded").inc(len(outcome.work))
        metrics.MESSAGES.labels("duplicate").inc(outcome.duplicates)
        for refusal in outcome.refusals:
            metrics.REFUSED.labels(refusal.error.reason).inc()
        for observation in outcome.observations:
            if observation.flags:
                for flag, name in findings.CHECK_NAMES.items():
                    if observation.flags & flag:
                        metrics.FLAGGED.labels(name).inc()
        metrics.BATCH_SECONDS.observe(time.monotonic() - began)
        if batch:
            metrics.DELAY_SECONDS.set((datetime.now(UTC) - batch[-1].raw.received_at).total_seconds())
        return outcome


async def _list_refusals(connection: AsyncConnection[TupleRow], refusals: Sequence[Refusal]) -> None:
    if not refusals:
        return
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO intake_refusedmessage (at, municipality_id, source_key, external_id, inbox_position, reason,"
            " detail, topic, body, headers)"
            " SELECT %s, (SELECT id FROM cities_municipality WHERE slug = %s), %s, %s, %s, %s, %s, %s, %s, %s"
            # A batch that is delivered again refuses the same messages again: they are listed once.
            " WHERE NOT EXISTS (SELECT 1 FROM intake_refusedmessage r WHERE r.inbox_position = %s AND r.reason = %s"
            " AND r.external_id = %s AND r.detail = %s)",
            [_refusal_row(refusal) for refusal in refusals],
        )


def _refusal_row(refusal: Refusal) -> tuple[Any, ...]:
    raw, position = refusal.arrived
    external_id = _storable(refusal.external_id)[:120]
    reason, detail = refusal.error.reason[:40], _storable(refusal.error.detail)[:2000]
    return (
        raw.received_at,
        raw.municipality,
        raw.source[:60],
        external_id,
        position,
        reason,
        detail,
        _storable(raw.topic)[:300],
        raw.body[:_STORED_BODY_BYTES],
        Jsonb({"kind": raw.kind, **{_storable(k): _storable(v) for k, v in raw.headers.items()}}),
        position,
        reason,
        external_id,
        detail,
    )


def _storable(text: str) -> str:
    """PostgreSQL's text holds neither NUL nor lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


async def _note_frames(connection: AsyncConnection[TupleRow], work: Sequence[_Work]) -> None:
    rows = sorted(
        {
            (one.device.municipality_id, one.device.id, one.uplink.frame_counter, one.time)
            for one in work
            if one.device and one.uplink.frame_counter is not None
        }
    )
    if rows:
        await connection.execute(
            "INSERT INTO intake_frame (municipality_id, device_id, counter, time)"
            " SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::bigint[], %s::timestamptz[])"
            " ON CONFLICT DO NOTHING",
            [list(column) for column in zip(*rows, strict=True)],
        )


async def _note_devices(connection: AsyncConnection[TupleRow], work: Sequence[_Work]) -> None:
    newest: dict[int, _Work] = {}
    for one in work:
        if one.device and (one.device.id not in newest or newest[one.device.id].time <= one.time):
            newest[one.device.id] = one
    if not newest:
        return
    rows = sorted(
        (
            id_,
            one.time,
            one.uplink.frame_counter,
            one.mapped.battery_v if one.mapped else None,
            one.uplink.battery_percent
            if one.mapped is None or one.mapped.battery_percent is None
            else one.mapped.battery_percent,
            one.uplink.rssi_dbm,
            one.uplink.snr_db,
        )
        for id_, one in newest.items()
    )
    await connection.execute(
        "UPDATE twin_device d SET last_seen_at = k.time, last_frame_counter = coalesce(k.counter, d.last_frame_counter),"
        " battery_v = coalesce(k.battery_v, d.battery_v), battery_percent = coalesce(k.battery, d.battery_percent),"
        " rssi_dbm = coalesce(k.rssi, d.rssi_dbm), snr_db = coalesce(k.snr, d.snr_db)"
        " FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[], %s::float8[], %s::float8[], %s::float8[],"
        " %s::float8[]) AS k(id, time, counter, battery_v, battery, rssi, snr)"
        " WHERE d.id = k.id AND (d.last_seen_at IS NULL OR d.last_seen_at <= k.time)",
        [list(column) for column in zip(*rows, strict=True)],
    )
