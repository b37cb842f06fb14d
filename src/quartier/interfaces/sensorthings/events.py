"""New observations as server-sent events: a GET of Observations with ``Accept: text/event-stream``.

Everything that a query may say of a single observation may be said (``$filter``, ``$select``, ``$expand``). All streams
of a process share one consumer of the stream ``observed``, which exists while somebody listens. The id of an event is a
position there; whoever comes back with ``Last-Event-ID`` gets what he missed, for as long as the bus keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import nats.errors
import psycopg
import structlog
from django.db import DatabaseError
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from prometheus_client import Gauge
from psycopg_pool import PoolTimeout
from starlette.requests import Request

from quartier.engines.bus import OBSERVED, Bus
from quartier.engines.sse import EventStream
from quartier.interfaces.sensorthings.answers import OPEN, Refusal
from quartier.interfaces.sensorthings.compile.context import Eyes, NotFound
from quartier.interfaces.sensorthings.following.matcher import Matcher, Reading, readings
from quartier.interfaces.sensorthings.following.query import Query, understand
from quartier.interfaces.sensorthings.query.parse import parse_options, parse_resource
from quartier.interfaces.sensorthings.read import Reader

log = structlog.get_logger(__name__)

# What the caller may see now. Raises Refusal and NotFound.
type LooksAgain = Callable[[], Awaitable[Eyes]]

MEDIA_TYPE: Final = "text/event-stream"
MOST_STREAMS: Final = 500
MOST_WAITING: Final = 2_000
HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 3000
LOOK_AGAIN_S: Final = 30.0
_IDLE_S: Final = 10.0
_BATCH: Final = 500
_MISSED_AT_ONCE: Final = 500
_UNAVAILABLE: Final = (
    nats.errors.Error,
    JetStreamError,
    OSError,
    TimeoutError,
    psycopg.Error,
    PoolTimeout,
)

STREAMS: Final = Gauge(
    "quartier_sensorthings_streams",
    "SensorThings queries followed by server-sent events",
    multiprocess_mode="livesum",
)


@dataclass(eq=False, slots=True)
class Listener:
    """Somebody who follows a query."""

    query: Query
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def push(self, position: int, events: bytes) -> None:
        """Queue the events of a message; who does not read comes back later and continues where he stopped."""
        if len(self.waiting) >= MOST_WAITING:
            self.close()
            return
        self.waiting.append((position, events))
        self.ready.set()

    def close(self) -> None:
        """End the stream."""
        self.closed = True
        self.ready.set()

    def take(self, after: int) -> bytes:
        """What waits and is newer than position ``after``."""
        self.ready.clear()
        found = b"".join(events for position, events in self.waiting if position > after)
        self.waiting.clear()
        return found


def framed(bodies: list[bytes], position: int) -> bytes:
    """The events of one message. Only the last one says the position: what was sent by halves is sent again."""
    lines = [b"data: " + body + b"\n\n" for body in bodies]
    lines[-1] = b"id: %d\n" % position + lines[-1]
    return b"".join(lines)


class Hub:
    """Hands new observations to those who follow them; one per process."""

    def __init__(self, bus: Bus, reader: Reader) -> None:
        self._bus = bus
        self._matcher = Matcher(reader)
        self._listeners: dict[Query, Listener] = {}
        self._wanted = asyncio.Event()
        self.following = asyncio.Event()
        self._position = 0
        self._arrived: list[Msg] = []
        self._some = asyncio.Event()
        self._expected = 1
        self._broken = False
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Send everybody home; they come back by themselves."""
        for one in self._listeners.values():
            one.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def join(self, query: Query) -> Listener:
        """Follow a query from now on. Raises Refusal."""
        if len(self._listeners) >= MOST_STREAMS:
            raise Refusal(503, f"{MOST_STREAMS} queries are followed already", {"retry-after": "30"})
        listener = Listener(query)
        self._listeners[query] = listener
        self._matcher.add(query)
        self._wanted.set()
        STREAMS.set(len(self._listeners))
        return listener

    def leave(self, listener: Listener) -> None:
        """Follow it no longer."""
        if self._listeners.pop(listener.query, None) is not None:
            self._matcher.remove(listener.query)
        STREAMS.set(len(self._listeners))

    async def missed(self, query: Query, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """The events behind position ``after``, up to now, with their positions."""
        state = (await self._bus.js.stream_info(OBSERVED)).state
        # A stream that was emptied or restored begins anew; then a position means nothing.
        if not 0 < after < state.last_seq:
            return
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=30,
        )
        subscription = await self._bus.js.pull_subscribe("", stream=OBSERVED, config=config)
        name = (await subscription.consumer_info()).name
        try:
            position = after
            while position < state.last_seq:
                try:
                    messages = await subscription.fetch(_MISSED_AT_ONCE, timeout=2)
                except nats.errors.TimeoutError:
                    return
                for at, events in (await self._events(messages, query)).get(query, ()):
                    yield at, events
                position = messages[-1].metadata.sequence.stream
        finally:
            with contextlib.suppress(nats.errors.Error, JetStreamError, TimeoutError):
                await subscription.unsubscribe()
                await self._bus.js.delete_consumer(OBSERVED, name)

    async def _events(
        self, messages: list[Msg], only: Query | None = None
    ) -> dict[Query, list[tuple[int, bytes]]]:
        """What some messages mean to the queries, per message."""
        batch: list[Reading] = []
        position: dict[tuple[int, object], int] = {}
        for message in messages:
            at = message.metadata.sequence.stream
            for one in readings(message.data):
                batch.append(one)
                position[one.series, one.time] = at
        found, failed = await self._matcher.matches(batch, None if only is None else [only])
        for query, reason in failed:
            log.warning("sensorthings.events_failed", reason=reason)
            if (listener := self._listeners.get(query)) is not None:
                listener.close()
        bodies: dict[Query, dict[int, list[bytes]]] = {}
        for match in found:
            at = position[match.reading.series, match.reading.time]
            bodies.setdefault(match.query, {}).setdefault(at, []).append(match.body)
        return {
            query: [(at, framed(some, at)) for at, some in sorted(by_position.items())]
            for query, by_position in bodies.items()
        }

    async def _run(self) -> None:
        delay_s = 0.2
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
                delay_s = 0.2
            except _UNAVAILABLE as error:
                log.warning("sensorthings.events_retry", error=repr(error), retry_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)

    async def _follow(self) -> None:
        """Follow the stream until nobody listens any more, or the consumer turns out to be broken."""
        nc, js = self._bus.nc, self._bus.js
        state = (await js.stream_info(OBSERVED)).state
        resume = 0 < self._position <= state.last_seq
        self._expected, self._broken = 1, False
        self._arrived.clear()
        config = ConsumerConfig(
            name=f"sensorthings-{secrets.token_hex(8)}",
            deliver_subject=nc.new_inbox(),
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if resume else DeliverPolicy.NEW,
            opt_start_seq=self._position + 1 if resume else None,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=30,
        )
        subscription = await nc.subscribe(config.deliver_subject or "", cb=self._take)
        try:
            await js.add_consumer(OBSERVED, config)
            self._position = self._position if resume else state.last_seq
            self.following.set()
            idle_since_s = time.monotonic()
            while not self._broken:
                if self._listeners:
                    idle_since_s = time.monotonic()
                elif time.monotonic() - idle_since_s > _IDLE_S:
                    self._wanted.clear()
                    self._position = 0
                    return
                try:
                    await asyncio.wait_for(self._some.wait(), 2)
                except TimeoutError:
                    # Consumers in memory die with the server; asking is how one notices.
                    await js.consumer_info(OBSERVED, config.name or "")
                    continue
                self._some.clear()
                while self._arrived:
                    await self._hand_out(self._arrived[:_BATCH])
        finally:
            self.following.clear()
            with contextlib.suppress(nats.errors.Error, JetStreamError, TimeoutError):
                await subscription.unsubscribe()
                await js.delete_consumer(OBSERVED, config.name or "")

    async def _hand_out(self, messages: list[Msg]) -> None:
        for query, events in (await self._events(messages)).items():
            if (listener := self._listeners.get(query)) is not None:
                for position, text in events:
                    listener.push(position, text)
        del self._arrived[: len(messages)]
        self._position = messages[-1].metadata.sequence.stream

    async def _take(self, message: Msg) -> None:
        if message.metadata.sequence.consumer != self._expected:
            # Something was lost between the server and us: read it again from the last position.
            self._broken = True
            self._some.set()
            return
        self._expected += 1
        self._arrived.append(message)
        self._some.set()


class ObservationStream(EventStream):
    """Observations that a query asks for; ``eyes`` says now and then what the caller may see now."""

    def __init__(self, hub: Hub, listener: Listener, after: int | None, eyes: LooksAgain) -> None:
        super().__init__(OPEN)
        self._hub, self._listener, self._after, self._eyes = hub, listener, after, eyes

    def left(self) -> None:
        """Leave the hub."""
        self._hub.leave(self._listener)

    async def chunks(self) -> AsyncIterator[bytes]:
        """What was missed, and observations as they come."""
        # What comes from now on has to be in the queue before the past is read.
        await self._hub.following.wait()
        yield b"retry: %d\n\n" % RETRY_MS
        newest = 0
        if self._after is not None:
            try:
                async for position, events in self._hub.missed(self._listener.query, self._after):
                    newest = position
                    yield events
            except _UNAVAILABLE as error:
                log.warning("sensorthings.events_missed", error=repr(error))
                return  # he comes back with the same position
        looked_s = time.monotonic()
        while not self._listener.closed:
            if time.monotonic() - looked_s > LOOK_AGAIN_S:
                looked_s = time.monotonic()
                if not await self._sees_the_same():
                    return  # he comes back, and gets what he may see then
            try:
                await asyncio.wait_for(self._listener.ready.wait(), HEARTBEAT_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if waiting := self._listener.take(newest):
                yield waiting

    async def _sees_the_same(self) -> bool:
        try:
            return await self._eyes() == self._listener.query.eyes
        except (Refusal, NotFound):
            return False
        except (DatabaseError, TimeoutError):
            return True  # nothing can be said at the moment


async def opened(request: Request, eyes: LooksAgain, base: str) -> ObservationStream:
    """The stream that a GET asks for. Raises Refusal, QueryError and NotFound."""
    state = request.app.state
    if getattr(state, "bus", None) is None:
        raise Refusal(503, "no live values at the moment, try again", {"retry-after": "5"})
    query = understand(
        parse_resource(request.path_params.get("path", "")),
        parse_options(request.scope["query_string"]),
        await eyes(),
        base,
    )
    if getattr(state, "sensorthings_events", None) is None:
        state.sensorthings_events = Hub(state.bus, state.sensorthings)
    hub: Hub = state.sensorthings_events
    last = request.headers.get("last-event-id", "")
    after = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else None
    return ObservationStream(hub, hub.join(query), after, eyes)


async def closed(state: Any) -> None:
    """End all streams of an application."""
    if (hub := getattr(state, "sensorthings_events", None)) is not None:
        await hub.close()


def asked_for(accept: Iterable[str]) -> bool:
    """Whether Accept headers ask for events."""
    return any(part.partition(";")[0].strip() == MEDIA_TYPE for one in accept for part in one.split(","))
