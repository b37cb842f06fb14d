"""Live values for pages as server-sent events at ``/live/events``.

All visitors of a process share one consumer of the stream ``observed``; it exists only while somebody
watches. A message goes out as it stands in the stream, so nothing is parsed or serialised for it, and
only to those who asked for its thing. What is not public is dropped before that. A visitor who reads too
slowly loses the oldest events and is told so; a visitor who comes back continues where the connection
broke.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import nats.errors
import structlog
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from prometheus_client import Counter, Gauge
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quartier.cities.rules import NOBODY
from quartier.engines.bus import OBSERVED, Bus
from quartier.engines.sse import EventStream
from quartier.usage.rules import visible_things

log = structlog.get_logger(__name__)

Place = tuple[str, str]  # municipality, key of the thing
Catalogue = Callable[[], Awaitable[frozenset[Place]]]

MAXIMUM_CLIENTS = 1000
MAXIMUM_THINGS = 200
MAXIMUM_RESUMED = 1000
QUEUE_LENGTH = 200
HEARTBEAT_S = 15.0
RETRY_MS = 3000
# A thing that is taken from the public disappears from open pages after this time.
CATALOGUE_AGE_S = 15.0
# How long the consumer stays after the last visitor has gone.
IDLE_S = 10.0

CLIENTS = Gauge("quartier_live_clients", "Pages that follow live values", multiprocess_mode="livesum")
DROPPED = Counter("quartier_live_dropped_total", "Events that were too much for a slow page")


@sync_to_async(thread_sensitive=False)
def public_things() -> frozenset[Place]:
    """Everything that everybody may see."""
    try:
        return frozenset(visible_things(NOBODY).order_by().values_list("municipality__slug", "key"))
    finally:
        # This thread belongs to nobody who would give the connection back.
        connection.close()


def frame(position: int, data: bytes) -> bytes:
    """A message of the stream as an event; line ends, should it hold any, cannot break out of it."""
    lines = b"\ndata: ".join(data.splitlines()) if b"\n" in data or b"\r" in data else data
    return b"id: %d\nevent: readings\ndata: %b\n\n" % (position, lines)


def gap(lost: int) -> bytes:
    """Tells a page that events are missing, so that it can load itself again."""
    return b'event: gap\ndata: {"lost":%d}\n\n' % lost


@dataclass(eq=False, slots=True)
class Client:
    """A page that watches ``things``, or all things of ``municipality``, or (both empty) everything."""

    things: frozenset[Place] = frozenset()
    municipality: str = ""
    queue: deque[tuple[int, bytes]] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    lost: int = 0
    closed: bool = False

    def push(self, position: int, event: bytes) -> None:
        """Queue an event; the oldest makes room."""
        if len(self.queue) >= QUEUE_LENGTH:
            self.queue.popleft()
            self.lost += 1
            DROPPED.inc()
        self.queue.append((position, event))
        self.ready.set()

    def take(self, after: int) -> bytes:
        """Everything that waits and is newer than position ``after``."""
        self.ready.clear()
        parts = [gap(self.lost)] if self.lost else []
        self.lost = 0
        parts.extend(event for position, event in self.queue if position > after)
        self.queue.clear()
        return b"".join(parts)

    def subjects(self) -> list[str]:
        """The subjects of the stream that hold what this page watches."""
        if self.things:
            return [f"{OBSERVED}.{municipality}.*.{key}" for municipality, key in sorted(self.things)]
        return [f"{OBSERVED}.{self.municipality}.>"] if self.municipality else [f"{OBSERVED}.>"]


class TooManyError(Exception):
    """No room for a further page."""


class Hub:
    """Hands what is observed to the pages that watch it."""

    def __init__(self, bus: Bus, *, catalogue: Catalogue = public_things) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self.public: frozenset[Place] = frozenset()
        self._by_thing: dict[Place, set[Client]] = {}
        self._by_municipality: dict[str, set[Client]] = {}
        self._clients: set[Client] = set()
        self._wanted = asyncio.Event()
        self._broken = asyncio.Event()
        self.following = asyncio.Event()
        self._position = 0
        self._expected = 1
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow (as soon as somebody watches)."""
        self._tasks = [asyncio.create_task(self._keep_catalogue()), asyncio.create_task(self._run())]

    async def close(self) -> None:
        """Send everybody home; pages come back by themselves."""
        for client in self._clients:
            client.closed = True
            client.ready.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> None:
        """Make sure that it is known what is public."""
        if not self.public:
            self.public = await self._catalogue()

    def join(self, client: Client) -> None:
        """A page begins to watch. Raises TooManyError."""
        if len(self._clients) >= MAXIMUM_CLIENTS:
            raise TooManyError
        self._clients.add(client)
        for place in client.things:
            self._by_thing.setdefault(place, set()).add(client)
        if not client.things:
            self._by_municipality.setdefault(client.municipality, set()).add(client)
        self._wanted.set()
        CLIENTS.set(len(self._clients))

    def leave(self, client: Client) -> None:
        """A page is gone."""
        self._clients.discard(client)
        for place in client.things:
            watchers = self._by_thing.get(place, set())
            watchers.discard(client)
            if not watchers:
                self._by_thing.pop(place, None)
        self._by_municipality.get(client.municipality, set()).discard(client)
        CLIENTS.set(len(self._clients))

    def place_of(self, subject: str) -> Place | None:
        """The thing of a subject, if everybody may see it."""
        tokens = subject.split(".")
        place = (tokens[1], tokens[3]) if len(tokens) == 4 else None
        return place if place in self.public else None

    def dispatch(self, subject: str, position: int, data: bytes) -> None:
        """Give a message to all who watch its thing."""
        place = self.place_of(subject)
        if place is None:
            return
        groups = (
            self._by_thing.get(place),
            self._by_municipality.get(place[0]),
            self._by_municipality.get(""),
        )
        event = b""
        for watchers in groups:
            for client in watchers or ():
                event = event or frame(position, data)
                client.push(position, event)

    async def missed(self, client: Client, after: int) -> list[tuple[int, bytes]] | int:
        """What a page missed since position ``after``, or how much, where that is too much to send."""
        state = (await self._bus.js.stream_info(OBSERVED)).state
        if after >= state.last_seq:
            # Nothing new; or the stream began anew and the page's position means nothing any more.
            return [] if after == state.last_seq else 1
        if after + 1 < state.first_seq:
            return state.first_seq - after - 1
        subjects = client.subjects()
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=AckPolicy.NONE,
            filter_subjects=subjects,
            mem_storage=True,
            inactive_threshold=5,
        )
        subscription = await self._bus.js.pull_subscribe("", stream=OBSERVED, config=config)
        try:
            count = (await subscription.consumer_info()).num_pending or 0
            if count > MAXIMUM_RESUMED:
                return count
            found: list[tuple[int, bytes]] = []
            while len(found) < count:
                for message in await subscription.fetch(count - len(found), timeout=2):
                    position = message.metadata.sequence.stream
                    public = self.place_of(message.subject) is not None
                    found.append((position, frame(position, message.data) if public else b""))
            return [(position, event) for position, event in found if event]
        finally:
            with contextlib.suppress(nats.errors.Error, JetStreamError, TimeoutError):
                consumer = (await subscription.consumer_info()).name
                await subscription.unsubscribe()
                await self._bus.js.delete_consumer(OBSERVED, consumer)

    async def _keep_catalogue(self) -> None:
        while True:
            if self._clients or not self.public:
                try:
                    self.public = await self._catalogue()
                except DatabaseError as error:
                    # What was public a moment ago stays; nothing new is shown meanwhile.
                    log.warning("live_catalogue_unavailable", error=str(error))
            await asyncio.sleep(CATALOGUE_AGE_S)

    async def _run(self) -> None:
        delay_s = 0.2
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
                delay_s = 0.2
            except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
                log.warning("live_stream_unavailable", error=repr(error), retry_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)

    async def _follow(self) -> None:
        """Follow the stream until nobody watches, or until the consumer turns out to be broken."""
        nc, js = self._bus.nc, self._bus.js
        state = (await js.stream_info(OBSERVED)).state
        # A stream that was emptied or restored begins anew; then our position means nothing.
        resume = 0 < self._position <= state.last_seq
        self._expected = 1
        self._broken.clear()
        inbox = nc.new_inbox()
        config = ConsumerConfig(
            name=f"live-{secrets.token_hex(8)}",
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if resume else DeliverPolicy.NEW,
            opt_start_seq=self._position + 1 if resume else None,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=30,
        )
        subscription = await nc.subscribe(inbox, cb=self._arrived)
        try:
            consumer = await js.add_consumer(OBSERVED, config)
            self.following.set()
            idle_s = 0.0
            while idle_s < IDLE_S and not self._broken.is_set():
                idle_s = 0.0 if self._clients else idle_s + 2.0
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._broken.wait(), 2.0)
                # Consumers in memory die with the server; asking is how one notices.
                await js.consumer_info(OBSERVED, consumer.name)
            if not self._clients:
                self._wanted.clear()
                self._position = 0
        finally:
            self.following.clear()
            with contextlib.suppress(nats.errors.Error, JetStreamError, TimeoutError):
                await subscription.unsubscribe()
                await js.delete_consumer(OBSERVED, config.name or "")

    async def _arrived(self, message: Msg) -> None:
        sequence = message.metadata.sequence
        if sequence.consumer != self._expected:
            # Something was lost between the server and us: read it again from the last position.
            self._broken.set()
            return
        self._expected += 1
        self._position = sequence.stream
        self.dispatch(message.subject, sequence.stream, message.data)


class LiveStream(EventStream):
    """New readings for one page."""

    def __init__(self, hub: Hub, client: Client, after: int | None) -> None:
        super().__init__()
        self._hub, self._client, self._after = hub, client, after

    def left(self) -> None:
        """Leave the hub."""
        self._hub.leave(self._client)

    async def chunks(self) -> AsyncIterator[bytes]:
        """What was missed, and readings as they come."""
        yield b"retry: %d\n\n" % RETRY_MS
        client, newest = self._client, 0
        if self._after is not None:
            try:
                missed = await self._hub.missed(client, self._after)
            except (nats.errors.Error, JetStreamError, TimeoutError):
                missed = 1
            if isinstance(missed, int):
                yield gap(missed)
            elif missed:
                newest = missed[-1][0]
                yield b"".join(event for _, event in missed)
        while not client.closed:
            try:
                await asyncio.wait_for(client.ready.wait(), HEARTBEAT_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if waiting := client.take(newest):
                yield waiting


class FilterError(ValueError):
    """A parameter of the address cannot be used; ``field`` names it."""

    def __init__(self, field_: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field_


def client_of(query: Mapping[str, str], public: Iterable[Place]) -> Client:
    """The client that an address describes. Raises FilterError.

    Things that do not exist and things that are not public are passed over alike.
    """
    names = [name for name in query.get("things", "").split(",") if name]
    if len(names) > MAXIMUM_THINGS:
        raise FilterError("things", f"at most {MAXIMUM_THINGS} things can be followed, not {len(names)}")
    if not names:
        return Client(municipality=query.get("municipality", ""))
    for name in names:
        if name.count("/") != 1:
            raise FilterError("things", f"{name[:80]!r} is not <municipality>/<key>")
    known = set(public)
    wanted = ((name.split("/")[0], name.split("/")[1]) for name in names)
    return Client(things=frozenset(place for place in wanted if place in known))


def _error(status: int, field_: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = {
        "error": {400: "invalid", 404: "not_found", 503: "busy"}[status],
        "field": field_,
        "detail": detail,
    }
    return JSONResponse(body, status, headers)


async def events(request: Request) -> Response:
    """``GET /live/events?things=dortmund/do-klima-001,…`` or ``?municipality=dortmund``."""
    hub: Hub = request.app.state.live
    try:
        await hub.ready()
        client = client_of(request.query_params, hub.public)
    except DatabaseError:
        return _error(503, "", "the catalogue of things cannot be read at the moment", {"Retry-After": "5"})
    except FilterError as error:
        return _error(400, error.field, str(error))
    municipalities = {municipality for municipality, _ in hub.public}
    if client.municipality and client.municipality not in municipalities:
        return _error(404, "municipality", "there is no such municipality")
    if request.query_params.get("things") and not client.things:
        return _error(404, "things", "there is no such thing")
    last = request.headers.get("last-event-id", "")
    after = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else None
    try:
        hub.join(client)
    except TooManyError:
        detail = f"{MAXIMUM_CLIENTS} pages are following already"
        return _error(503, "", detail, {"Retry-After": "30"})
    return LiveStream(hub, client, after)


routes = [Route("/events", events, methods=["GET"])]
