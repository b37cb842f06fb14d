"""What was recorded is published to the topics that somebody wants. One process does it at a time.

It follows the stream ``observed`` with a durable position, which moves on only when the broker has every message of a
batch: a crash repeats messages and loses none. A topic is noticed a moment after somebody subscribed; what was read
from the stream in that moment is kept in mind and looked through again for it, so that nothing between is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import nats.errors
import orjson
import psycopg
import structlog
from django.db import DatabaseError
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from psycopg_pool import PoolTimeout

from quartier.cities.rules import NOBODY
from quartier.cities.tokens import TokenError
from quartier.engines.bus import OBSERVED, Bus, unconfirmed
from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.compile.context import Eyes, NotFound
from quartier.interfaces.sensorthings.following import entities
from quartier.interfaces.sensorthings.following.entities import EntityQuery
from quartier.interfaces.sensorthings.following.matcher import Match, Matcher, readings
from quartier.interfaces.sensorthings.following.query import Query, understand
from quartier.interfaces.sensorthings.mqtt import metrics, rights, topics
from quartier.interfaces.sensorthings.mqtt.entities import Entities
from quartier.interfaces.sensorthings.mqtt.newest import newest
from quartier.interfaces.sensorthings.mqtt.outlet import Message, Outlet
from quartier.interfaces.sensorthings.mqtt.topics import Topic
from quartier.interfaces.sensorthings.mqtt.wanted import Wanted
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.read import Reader
from quartier.interfaces.sensorthings.visibility import Observers
from quartier.sources.connect.mqtt import OwnBroker, own_broker
from quartier.sources.threads import in_thread
from quartier.twin.alone import alone

log = structlog.get_logger(__name__)

LOCK: Final = 0x5175_0009
CONSUMER: Final = "sensorthings-mqtt"
MOST_TOPICS: Final = 50_000
_BATCH: Final = 500
_UNCONFIRMED: Final = 10_000
_ACK_WAIT_S: Final = 30
_ASK_EVERY_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.25
_KEPT_IN_MIND_S: Final = 20.0
_KEPT_IN_MIND_BYTES: Final = 16 * 2**20
_RIGHTS_AGAIN_S: Final = 15.0


@dataclass(slots=True)
class _Followed:
    topic: Topic
    query: Query | EntityQuery


class _Arrived(NamedTuple):
    position: int
    data: bytes
    message: Msg | None
    """None for what was looked up in the stream; the next one that was pushed confirms it."""


class Leader:
    """Publishes observations and changes of other entities by MQTT."""

    def __init__(self, pool: Pool, reader: Reader, bus: Bus, *, broker: OwnBroker | None = None) -> None:
        self._pool = pool
        self._reader = reader
        self._bus = bus
        self._broker = broker
        self._observers = Observers()
        self._matcher = Matcher(reader)
        self._entities = Entities(pool, reader)
        self._followed: dict[str, _Followed] = {}
        self._topic_of: dict[Query, Topic] = {}
        self._refused: set[str] = set()
        self._rights_at_s = 0.0
        self._eyes: dict[tuple[int | None, str], Eyes] = {}
        # What came from the stream and is not published yet. After a broken connection we go on with it, for the stream
        # would send it again only after a while.
        self._arrived: list[_Arrived] = []
        # What was read from the stream as it came, with the time of reading: objects would take ten times the room.
        self._mind: deque[tuple[float, list[bytes]]] = deque()
        self._in_mind_bytes = 0
        # Matching a batch and taking in new topics exclude each other: a reading is in the batch or in mind.
        self._turn = asyncio.Lock()
        self.following = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop``; survives restarts of PostgreSQL and NATS."""
        while not stop.is_set():
            try:
                async with alone(self._pool, LOCK) as connection:
                    if connection is not None:
                        await self._lead(stop)
                    else:
                        self._arrived.clear()
            except (
                psycopg.Error,
                PoolTimeout,
                DatabaseError,
                nats.errors.Error,
                JetStreamError,
                OSError,
            ) as error:
                log.warning("sensorthings.mqtt_retry", error=str(error).strip() or type(error).__name__)
            finally:
                self.following.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)

    async def _lead(self, stop: asyncio.Event) -> None:
        broker = self._broker or own_broker()
        async with Outlet(broker) as outlet, Wanted(self._bus).watching() as wanted:
            # Before the first message is read: whoever waited through a restart misses nothing.
            await self._look(outlet, await wanted.now(), time.monotonic())
            looking = asyncio.create_task(self._keep_looking(outlet, wanted))
            changing = asyncio.create_task(self._publish_changes(outlet))
            publishing = asyncio.create_task(self._publish(outlet, stop))
            tasks = (looking, changing, publishing)
            self.following.set()
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            for one in ended:
                if isinstance(one, Exception):
                    raise one

    # -- what is wanted

    async def _keep_looking(self, outlet: Outlet, wanted: Wanted) -> None:
        since_s = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            began_s = time.monotonic()
            await self._look(outlet, await wanted.now(), since_s)
            since_s = began_s

    async def _look(self, outlet: Outlet, found: set[str], since_s: float) -> None:
        """Take in what is wanted now; topics that are new may have missed what was read after ``since_s``."""
        async with self._turn:
            if time.monotonic() - self._rights_at_s > _RIGHTS_AGAIN_S:
                await self._look_at_rights_again()
            for text in self._followed.keys() - found:
                await self._leave(outlet, text)
            self._refused &= found
            new: list[Query | EntityQuery] = []
            for text in found - self._followed.keys() - self._refused:
                if len(self._followed) >= MOST_TOPICS:
                    log.warning("sensorthings.mqtt_too_many", topics=len(found))
                    break
                if (query := await self._take_in(outlet, text)) is not None:
                    new.append(query)
            metrics.WANTED.set(len(self._followed))
            if new:
                since_s -= 2 * _LOOK_EVERY_S
                missed = [body for at_s, batch in self._mind if at_s >= since_s for body in batch]
                await self._send(outlet, missed, [one for one in new if isinstance(one, Query)])
                others = [one for one in new if isinstance(one, EntityQuery)]
                await self._entities.catch_up(outlet, others, since_s)

    async def _take_in(self, outlet: Outlet, text: str) -> Query | EntityQuery | None:
        """Begin to follow a topic; say to whoever wants it what is wrong with it."""
        topic = topics.parse(text)
        assert topic is not None  # noqa: S101 (others were not taken for ours)
        try:
            query = await self._understood(topic)
        except (QueryError, NotFound, TokenError) as error:
            await self._refuse(outlet, topic, 404 if isinstance(error, NotFound) else 400, str(error))
            return None
        self._follow(topic, query)
        if (
            topic.retain
            and isinstance(query, Query)
            and (body := await newest(self._reader, topic, query)) is not None
        ):
            await outlet.send([Message(text, body, retain=True)])
        return query

    def _follow(self, topic: Topic, query: Query | EntityQuery) -> None:
        self._followed[topic.text] = _Followed(topic, query)
        if isinstance(query, EntityQuery):
            self._entities.add(query, topic)
        else:
            self._topic_of[query] = topic
            self._matcher.add(query)

    def _unfollow(self, text: str) -> _Followed:
        one = self._followed.pop(text)
        if isinstance(one.query, EntityQuery):
            self._entities.remove(one.query)
        else:
            del self._topic_of[one.query]
            self._matcher.remove(one.query)
        return one

    async def _understood(self, topic: Topic) -> Query | EntityQuery:
        resource, options = topic.parsed()
        eyes = await self._eyes_of(topic)
        found = entities.understand(resource, options, eyes, topic.base)
        return found or understand(resource, options, eyes, topic.base)

    async def _eyes_of(self, topic: Topic) -> Eyes:
        key = (topic.token_id, topic.city)
        if key not in self._eyes:
            actor = await in_thread(rights.reader_of, topic) if topic.token_id is not None else NOBODY
            self._eyes[key] = await self._observers.eyes(actor, topic.city)
        return self._eyes[key]

    async def _refuse(self, outlet: Outlet, topic: Topic, code: int, reason: str) -> None:
        self._refused.add(topic.text)
        metrics.REFUSED_TOPICS.inc()
        log.info("sensorthings.mqtt_topic_refused", topic=topic.text[:200], reason=reason[:200])
        if "#" in topic.text or "+" in topic.text.split("/"):
            return  # nobody can publish to a pattern
        body = orjson.dumps({"code": code, "type": "error", "message": reason})
        await outlet.send([Message(topic.text, body)])

    async def _leave(self, outlet: Outlet, text: str) -> None:
        one = self._unfollow(text)
        if one.topic.retain:
            # Nobody keeps it up to date any more.
            await outlet.send([Message(text, b"", retain=True)])

    async def _look_at_rights_again(self) -> None:
        """What somebody may see changes; a token is revoked."""
        self._rights_at_s = time.monotonic()
        self._eyes.clear()
        for text, one in list(self._followed.items()):
            try:
                if await self._eyes_of(one.topic) == one.query.eyes:
                    continue
                query = await self._understood(one.topic)
            except (QueryError, NotFound, TokenError):
                self._unfollow(text)
                self._refused.add(text)
            else:
                self._unfollow(text)
                self._follow(one.topic, query)

    # -- what is published

    async def _publish_changes(self, outlet: Outlet) -> None:
        while True:
            async with self._turn:
                positions, changes = await self._entities.some()
                if changes:
                    await self._entities.publish(outlet, changes)
                    await self._entities.done(positions)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _publish(self, outlet: Outlet, stop: asyncio.Event) -> None:
        arrived = self._arrived
        some, lost = asyncio.Event(), asyncio.Event()
        found = await unconfirmed(self._bus, OBSERVED, CONSUMER, known={one.position for one in arrived})
        arrived.extend(_Arrived(position, data, None) for position, data in found.messages)
        arrived.sort(key=lambda one: one.position)
        if arrived:
            some.set()
        expected = found.next_delivery

        async def take(message: Msg) -> None:
            nonlocal expected
            sequence = message.metadata.sequence
            if sequence.consumer != expected:
                lost.set()
            expected = sequence.consumer + 1
            arrived.append(_Arrived(sequence.stream, message.data, message))
            some.set()

        # Pushed, for asking for messages one by one costs more than everything else; the limit of unconfirmed ones is
        # what bounds the list.
        subscription = await self._bus.js.subscribe(
            f"{OBSERVED}.>",
            durable=CONSUMER,
            stream=OBSERVED,
            cb=take,
            manual_ack=True,
            config=ConsumerConfig(
                durable_name=CONSUMER,
                ack_policy=AckPolicy.ALL,
                deliver_policy=DeliverPolicy.NEW,
                ack_wait=_ACK_WAIT_S,
                max_ack_pending=_UNCONFIRMED,
            ),
        )
        try:
            while not stop.is_set():
                try:
                    await asyncio.wait_for(some.wait(), _ASK_EVERY_S)
                except TimeoutError:
                    # A consumer that is gone says nothing; asking is how one notices.
                    await self._bus.js.consumer_info(OBSERVED, CONSUMER)
                    continue
                if lost.is_set():
                    raise OSError("messages of the observed stream did not arrive")
                messages = arrived[:_BATCH]
                async with self._turn:
                    batch = [message.data for message in messages]
                    self._bear_in_mind(batch)
                    await self._send(outlet, batch, None)
                pushed = next((one.message for one in reversed(messages) if one.message is not None), None)
                if pushed is not None:
                    await pushed.ack()
                del arrived[: len(messages)]
                if not arrived:
                    some.clear()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def _bear_in_mind(self, batch: list[bytes]) -> None:
        now_s = time.monotonic()
        self._mind.append((now_s, batch))
        self._in_mind_bytes += sum(map(len, batch))
        while self._mind and (
            now_s - self._mind[0][0] > _KEPT_IN_MIND_S
            or (self._in_mind_bytes > _KEPT_IN_MIND_BYTES and len(self._mind) > 1)
        ):
            self._in_mind_bytes -= sum(map(len, self._mind.popleft()[1]))

    async def _send(self, outlet: Outlet, bodies: list[bytes], only: Sequence[Query] | None) -> None:
        if not bodies or not self._topic_of or (only is not None and not only):
            return
        batch = [one for body in bodies for one in readings(body)]
        found, failed = await self._matcher.matches(batch, only)
        await outlet.send([self._message(match) for match in found])
        for query, reason in failed:
            if (topic := self._topic_of.get(query)) is not None and topic.text not in self._refused:
                await self._refuse(outlet, topic, 400, f"this cannot be answered: {reason}")

    def _message(self, match: Match) -> Message:
        topic = self._topic_of[match.query]
        return Message(topic.text, match.body, topic.retain)
