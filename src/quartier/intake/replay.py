"""Raw messages through today's codecs and mappings: history is repaired from what was really received.

Values that differ are corrected (the old ones stay in the revisions), new ones are added, and readings that a message
no longer gives are taken away. Progress is written to the replay's row, so that a page or a command can show it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import nats.errors
import psycopg
import structlog
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError, ServiceUnavailableError

from quartier.engines.bus import INBOX, Bus
from quartier.intake import bookkeeping, findings
from quartier.intake.catalogue import Catalogue
from quartier.intake.codecs.sandbox import CodecPool
from quartier.intake.inbox import RawMessage, decode
from quartier.intake.interpreter import Arrived, Interpreter, Outcome, Pool
from quartier.twin import correct
from quartier.twin.alone import alone
from quartier.twin.flags import Flag
from quartier.twin.record import Recorder

log = structlog.get_logger(__name__)

_BATCH = 300
_PROGRESS_S = 0.5
_LOCK = 0x5175_0006
# What passes when a server is back.
_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    nats.errors.TimeoutError,
    nats.errors.ConnectionClosedError,
    nats.errors.NoRespondersError,
    ServiceUnavailableError,
)


@dataclass(slots=True)
class Progress:
    """Counts of a running replay."""

    total: int = 0
    done: int = 0
    added: int = 0
    corrected: int = 0
    removed: int = 0
    refused: int = 0


class _Refused(NamedTuple):
    """A row of the list of refused messages."""

    id: int
    municipality: str
    source: str
    external_id: str
    headers: dict[str, str]
    topic: str
    at: datetime
    body: bytes
    position: int | None


class Replayer:
    """Carries out the replays that were asked for, one after the other."""

    def __init__(
        self, pool: Pool, bus: Bus, recorder: Recorder, codecs: CodecPool, *, codecs_started: bool = False
    ) -> None:
        """``codecs`` are started with the first replay (most processes never see one), unless they run already."""
        self._pool = pool
        self._bus = bus
        self._recorder = recorder
        self._codecs = codecs
        self._codecs_started = codecs_started

    async def run(self, stop: asyncio.Event) -> None:
        """Take waiting replays until ``stop``. One that a dead process left unfinished is begun again."""
        while not stop.is_set():
            try:
                async with alone(self._pool, _LOCK) as connection:
                    taken = await self._take() if connection is not None else None
                    if taken is not None:
                        await self.carry_out(*taken)
                        continue
            except Exception as error:
                log.warning("replay.retry", error=str(error).strip() or type(error).__name__)
            try:
                await asyncio.wait_for(stop.wait(), 1)
            except TimeoutError:
                continue

    async def _take(self) -> tuple[int, dict[str, Any]] | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT id, selection FROM intake_replay WHERE finished_at IS NULL ORDER BY id LIMIT 1"
            )
            row = await cursor.fetchone()
            if row is None:
                return None
            await connection.execute(
                "UPDATE intake_replay SET started_at = now(), done = 0, added = 0, corrected = 0, removed = 0,"
                " refused = 0, error = '' WHERE id = %s",
                [row[0]],
            )
        return row[0], row[1]

    async def carry_out(self, replay_id: int, selection: dict[str, Any]) -> Progress:
        """Run one replay to its end and write how it went to its row.

        Raises what says that the store or the bus is away; then the replay is not over, and is begun again.
        """
        if not self._codecs_started:
            await self._codecs.start()
            self._codecs_started = True
        interpreter = Interpreter(self._pool, self._codecs, Catalogue(), live=False)
        progress = Progress()
        error = ""
        try:
            if "refused" in selection:
                await self._retry_refused(replay_id, selection, interpreter, progress)
            else:
                await self._replay_inbox(replay_id, selection, interpreter, progress)
        except psycopg.errors.QueryCanceled as problem:
            error = f"{type(problem).__name__}: {problem}"[:2000]  # took too long, and would again
        except _AWAY:
            raise
        except Exception as problem:
            log.exception("replay.failed", replay=replay_id)
            error = f"{type(problem).__name__}: {problem}"[:2000]
        await self._write_progress(replay_id, progress, finished=True, error=error)
        return progress

    async def _replay_inbox(
        self, replay_id: int, selection: dict[str, Any], interpreter: Interpreter, progress: Progress
    ) -> None:
        subject = f"{INBOX}.{selection.get('municipality', '*')}.{selection.get('source_key', '*')}"
        since = datetime.fromisoformat(selection["since"]) if selection.get("since") else None
        until = datetime.fromisoformat(selection["until"]) if selection.get("until") else datetime.now(UTC)
        wanted = set(selection.get("external_ids") or [])
        subscription = await self._bus.js.subscribe(
            subject,
            stream=INBOX,
            ordered_consumer=True,
            config=ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_TIME if since else DeliverPolicy.ALL,
                opt_start_time=since.astimezone(UTC).isoformat().replace("+00:00", "Z") if since else None,  # type: ignore[arg-type]
            ),
            pending_msgs_limit=100_000,
            pending_bytes_limit=256 * 1024 * 1024,
        )
        try:
            info = await subscription.consumer_info()
            delivered = info.delivered.consumer_seq if info.delivered else 0
            progress.total = delivered + (info.num_pending or 0)
            batch: list[Arrived] = []
            written = time.monotonic()
            while progress.done < progress.total:
                try:
                    message = await subscription.next_msg(timeout=5)
                except (TimeoutError, nats.errors.TimeoutError):
                    if (await subscription.consumer_info()).num_pending:
                        raise
                    break  # what was counted at the beginning has expired in the meantime
                progress.done += 1
                if message.metadata.timestamp > until:
                    break
                try:
                    raw = decode(message.data)
                except msgspec.DecodeError:
                    progress.refused += 1
                    continue
                batch.append(Arrived(raw, message.metadata.sequence.stream))
                if len(batch) >= _BATCH:
                    await self._apply(batch, wanted, interpreter, progress)
                    batch = []
                if time.monotonic() - written > _PROGRESS_S:
                    await self._write_progress(replay_id, progress)
                    written = time.monotonic()
            await self._apply(batch, wanted, interpreter, progress)
            progress.done = progress.total
        finally:
            await subscription.unsubscribe()

    async def _apply(
        self, batch: Sequence[Arrived], wanted: set[str], interpreter: Interpreter, progress: Progress
    ) -> None:
        if not batch:
            return
        outcome = await interpreter.interpret(batch, only=wanted or None)
        counts = await self._recorder.correct(outcome.observations, reason="replay")
        async with self._pool.connection() as connection:
            await correct.flag(connection, outcome.acquitted, clear=int(Flag.SPIKE))
        progress.added += counts.added
        progress.corrected += counts.corrected
        progress.refused += len(outcome.refusals)
        progress.removed += await self._remove_stale(outcome)

    async def _remove_stale(self, outcome: Outcome) -> int:
        """Readings that an earlier pass took from these messages and this one did not.

        Of a message with several devices, what belongs to those that were not asked for or were refused now stays.
        """
        whole: set[int] = set()
        parts: set[tuple[int, int]] = set()
        for one in outcome.work:
            position, device = one.arrived.position, one.device
            left_out = outcome.left_out.get(position, set())
            if position is None or device is None:
                continue
            if not left_out:
                whole.add(position)
            elif one.uplink.external_id not in left_out:
                parts.add((position, device.id))
        if not whole and not parts:
            return 0
        current = {(o.municipality_id, o.series_id, o.time) for o in outcome.observations}
        times = [one.time for one in outcome.work] + [one.arrived.raw.received_at for one in outcome.work]
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT o.municipality_id, o.series_id, o.time FROM twin_series s JOIN twin_observation o"
                " ON o.municipality_id = s.municipality_id AND o.series_id = s.id"
                # Where the devices were thought to stand before, the series still name them.
                " WHERE (s.thing_id = ANY(%(things)s) OR s.device_id = ANY(%(devices)s)) AND s.derivation = ''"
                " AND o.time >= %(low)s AND o.time <= %(high)s AND (o.origin = ANY(%(whole)s)"
                " OR (o.origin, s.device_id) IN (SELECT * FROM unnest(%(part)s::bigint[], %(part_device)s::bigint[])))",
                {
                    "things": sorted({one.thing_id for one in outcome.work}),
                    "devices": sorted({one.device.id for one in outcome.work if one.device}),
                    "low": min(times) - timedelta(days=1),
                    "high": max(times) + timedelta(days=1),
                    "whole": sorted(whole),
                    "part": [position for position, _ in sorted(parts)],
                    "part_device": [device_id for _, device_id in sorted(parts)],
                },
            )
            stale = [(row[0], row[1], row[2]) for row in await cursor.fetchall()]
            return await correct.remove(
                connection,
                [key for key in stale if key not in current],
                reason="replay: no longer in the message",
            )

    async def _retry_refused(
        self, replay_id: int, selection: dict[str, Any], interpreter: Interpreter, progress: Progress
    ) -> None:
        ids: list[int] = list(selection["refused"])
        progress.total = len(ids)
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "SELECT r.id, coalesce(m.slug, ''), r.source_key, r.external_id, r.headers, r.topic, r.at,"
                    " r.body, r.inbox_position"
                    " FROM intake_refusedmessage r LEFT JOIN cities_municipality m ON m.id = r.municipality_id"
                    " WHERE r.id = ANY(%s) AND r.resolved_at IS NULL ORDER BY r.at, r.id",
                    [part],
                )
                rows = await cursor.fetchall()
            for row in rows:
                await self._retry_one(_Refused(*row), interpreter, progress)
            progress.done += len(part)
            await self._write_progress(replay_id, progress)

    async def _retry_one(self, refused: _Refused, interpreter: Interpreter, progress: Progress) -> None:
        """One by one, because each refusal belongs to its own row of the list."""
        outcome = await interpreter.interpret([Arrived(await self._raw(refused), refused.position)])
        counts = await self._recorder.correct(outcome.observations, reason="second try")
        progress.added += counts.added
        progress.corrected += counts.corrected
        async with self._pool.connection() as connection, connection.transaction():
            if counts.added:
                await findings.note(connection, outcome.observations)
            cursor = await connection.execute(
                "SELECT external_id, reason, detail FROM intake_refusedmessage WHERE inbox_position = %s"
                " AND id <> %s AND resolved_at IS NULL",
                [refused.position, refused.id],
            )
            # A message may carry several devices, and a device several fields: others have rows of their own.
            listed = set(await cursor.fetchall())
            problem = next(
                (
                    key
                    for key in map(bookkeeping.refusal_key, outcome.refusals)
                    if refused.external_id in ("", key[0]) and key not in listed
                ),
                None,
            )
            if problem is not None:
                progress.refused += 1
                await connection.execute(
                    "UPDATE intake_refusedmessage SET external_id = %s, reason = %s, detail = %s WHERE id = %s",
                    [*problem, refused.id],
                )
            else:
                await connection.execute(
                    "UPDATE intake_refusedmessage SET resolved_at = now() WHERE id = %s", [refused.id]
                )

    async def _raw(self, refused: _Refused) -> RawMessage:
        if len(refused.body) >= bookkeeping.STORED_BODY_BYTES and refused.position is not None:
            # The list holds the beginning of a long message; the inbox holds all of it, as long as it keeps messages.
            with contextlib.suppress(NotFoundError, msgspec.DecodeError):
                message = await self._bus.js.get_msg(INBOX, refused.position)
                return decode(message.data or b"")
        headers = dict(refused.headers)
        return RawMessage(
            municipality=refused.municipality,
            source=refused.source,
            kind=headers.pop("kind", ""),
            received_at=refused.at,
            body=bytes(refused.body),
            topic=refused.topic,
            headers=headers,
        )

    async def _write_progress(
        self, replay_id: int, progress: Progress, *, finished: bool = False, error: str = ""
    ) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE intake_replay SET total = %s, done = %s, added = %s, corrected = %s, removed = %s,"
                " refused = %s, error = %s, finished_at = CASE WHEN %s THEN now() END WHERE id = %s",
                [
                    progress.total,
                    progress.done,
                    progress.added,
                    progress.corrected,
                    progress.removed,
                    progress.refused,
                    error,
                    finished,
                    replay_id,
                ],
            )
