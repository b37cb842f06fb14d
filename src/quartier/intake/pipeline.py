"""The inbox is worked off: interpreted, recorded, acknowledged.

Messages are taken in batches. A batch is acknowledged when its readings are committed and its refusals are listed; if
the process dies before, the stream delivers the batch again, and what was recorded is found there and changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import nats.errors
import psycopg
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from quartier.engines.bus import INBOX, Bus
from quartier.intake import bookkeeping, findings, metrics
from quartier.intake.inbox import decode
from quartier.intake.interpreter import Arrived, Interpreter, Outcome, Pool, Refusal
from quartier.intake.parsers import MessageError
from quartier.twin import correct
from quartier.twin.flags import Flag
from quartier.twin.record import Recorder

log = structlog.get_logger(__name__)

CONSUMER = "intake"
_BATCHES_AT_ONCE = 3
# What was on its way to us when a process or a connection died is delivered again after this time.
_ACK_WAIT_S = 20.0
_HOLD_S = 5.0
_STORE_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)


class Pipeline:
    """Runs the interpreter over the inbox."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        recorder: Recorder,
        interpreter: Interpreter,
        *,
        batch_messages: int = 500,
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._recorder = recorder
        self._interpreter = interpreter
        self._batch_messages = batch_messages
        # While the store commits one batch, the next is interpreted; the checks see messages in order all the same.
        self._slots = asyncio.Semaphore(_BATCHES_AT_ONCE)
        self._interpreting = asyncio.Lock()
        self._noting = asyncio.Lock()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``. Outages of PostgreSQL and NATS are waited out."""
        while not stop.is_set():
            try:
                subscription = await self._subscribe()
                async with asyncio.TaskGroup() as batches:
                    while not stop.is_set():
                        await self._slots.acquire()
                        try:
                            messages = await subscription.fetch(self._batch_messages, timeout=1)
                        except (TimeoutError, nats.errors.TimeoutError):
                            self._slots.release()
                            continue
                        except BaseException:
                            self._slots.release()
                            raise
                        if messages:
                            batches.create_task(self._handle(messages, stop))
                        else:
                            self._slots.release()
            except* nats.errors.Error as group:
                log.warning(
                    "intake.retry", error=str(group.exceptions[0]) or type(group.exceptions[0]).__name__
                )
                await asyncio.sleep(1)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        # Made or brought up to date: an older version waited longer.
        await self._bus.js.add_consumer(
            INBOX,
            ConsumerConfig(
                durable_name=CONSUMER,
                ack_policy=AckPolicy.EXPLICIT,
                deliver_policy=DeliverPolicy.ALL,
                filter_subject=f"{INBOX}.>",
                ack_wait=_ACK_WAIT_S,
                max_ack_pending=20_000,
            ),
        )
        return await self._bus.js.pull_subscribe_bind(
            CONSUMER,
            stream=INBOX,
            pending_msgs_limit=200_000,
            pending_bytes_limit=256 * 1024 * 1024,
        )

    async def _handle(self, messages: list[Msg], stop: asyncio.Event) -> None:
        holding = asyncio.create_task(_hold(messages))
        try:
            await self._work_off(messages, stop, holding)
        finally:
            holding.cancel()
            self._slots.release()

    async def _work_off(
        self, messages: Sequence[Msg], stop: asyncio.Event, holding: asyncio.Task[None]
    ) -> None:
        batch: list[Arrived] = []
        for message in messages:
            try:
                batch.append(Arrived(decode(message.data), message.metadata.sequence.stream))
            except msgspec.DecodeError:
                # Only we write envelopes; one that cannot be opened was not written by this version of us.
                log.error("intake.bad_envelope", position=message.metadata.sequence.stream)
                metrics.MESSAGES.labels("bad_envelope").inc()
        try:
            if await self.process_persistently(batch, stop):
                holding.cancel()
                for message in messages:
                    await message.ack()
        except nats.errors.Error as error:
            # Not acknowledged, so delivered again: what was recorded is found there.
            log.warning("intake.not_acknowledged", error=str(error) or type(error).__name__)

    async def process_persistently(self, batch: list[Arrived], stop: asyncio.Event) -> bool:
        """Process a batch, waiting while the store is away; False if ``stop`` came first."""
        outcome: Outcome | None = None
        began = time.monotonic()
        while True:
            try:
                if outcome is None:
                    outcome = await self._record(batch)
                # Once recorded, a batch is not interpreted again: the checks would take its values for late ones.
                await self._note(outcome)
            except _STORE_AWAY as error:
                log.warning("intake.store_away", error=str(error).strip() or type(error).__name__)
                if stop.is_set():
                    return False
                await asyncio.sleep(1)
            except Exception as error:
                if len(batch) > 1:
                    # Something in this batch breaks us: find it by taking the messages one by one.
                    for one in batch:
                        if not await self.process_persistently([one], stop):
                            return False
                    return True
                log.exception("intake.message_failed", position=batch[0].position if batch else None)
                return not batch or await self._refuse(batch[0], error, stop)
            else:
                _count(batch, outcome, time.monotonic() - began)
                return True

    async def _refuse(self, arrived: Arrived, error: Exception, stop: asyncio.Event) -> bool:
        """List a message that breaks us; False if ``stop`` came before the store was back."""
        refusal = Refusal(arrived, "", MessageError("internal_error", repr(error)[:300]))
        while True:
            try:
                async with self._pool.connection() as connection:
                    await bookkeeping.list_refusals(connection, [refusal])
            except _STORE_AWAY as away:
                log.warning("intake.store_away", error=str(away).strip() or type(away).__name__)
                if stop.is_set():
                    return False
                await asyncio.sleep(1)
                continue
            except Exception:
                # It stays in the inbox, and is in the log. Not to go on would cost all messages behind it.
                log.exception("intake.message_not_listed", position=arrived.position)
            metrics.REFUSED.labels("internal_error").inc()
            return True

    async def process(self, batch: list[Arrived]) -> Outcome:
        """Interpret and record one batch."""
        began = time.monotonic()
        outcome = await self._record(batch)
        await self._note(outcome)
        _count(batch, outcome, time.monotonic() - began)
        return outcome

    async def _record(self, batch: list[Arrived]) -> Outcome:
        async with self._interpreting:
            outcome = await self._interpreter.interpret(batch)
        await self._recorder.record(outcome.observations)
        return outcome

    async def _note(self, outcome: Outcome) -> None:
        """What follows from recorded readings; batch after batch, because a later one may acquit an earlier one."""
        async with self._noting, self._pool.connection() as connection, connection.transaction():
            await bookkeeping.list_refusals(connection, outcome.refusals)
            await bookkeeping.note_frames(connection, outcome.work)
            await bookkeeping.note_devices(connection, outcome.work)
            await findings.note(connection, outcome.observations)
            # A jump that the next value confirmed was the weather, not the sensor.
            await correct.flag(connection, outcome.acquitted, clear=int(Flag.SPIKE))
            await findings.withdraw(connection, outcome.acquitted, Flag.SPIKE)


async def _hold(messages: Sequence[Msg]) -> None:
    """Say of messages that they are being worked off, for as long as that takes: the store may be away for hours."""
    while True:
        await asyncio.sleep(_HOLD_S)
        try:
            for message in messages:
                await message.in_progress()
        except nats.errors.Error as error:
            # Delivered twice, then: what was recorded is found there.
            log.debug("intake.not_held", error=str(error) or type(error).__name__)


def _count(batch: Sequence[Arrived], outcome: Outcome, seconds: float) -> None:
    metrics.MESSAGES.labels("recorded").inc(len(outcome.work))
    metrics.MESSAGES.labels("duplicate").inc(outcome.duplicates)
    for refusal in outcome.refusals:
        metrics.REFUSED.labels(refusal.error.reason).inc()
    for observation in outcome.observations:
        if observation.flags:
            for flag, name in findings.CHECK_NAMES.items():
                if observation.flags & flag:
                    metrics.FLAGGED.labels(name).inc()
    metrics.BATCH_SECONDS.observe(seconds)
    if batch:
        metrics.DELAY_SECONDS.set((datetime.now(UTC) - batch[-1].raw.received_at).total_seconds())
