"""Entities posted by MQTT (18-088 clause 14.1) on their way into the twin.

The broker keeps what was published in the persistent session of this inlet, and forgets it only when it is recorded, or
is listed among the refused messages with the reason. While the store is away, messages wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import Final

import psycopg
import structlog
from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from quartier.cities.rules import NotAllowed
from quartier.cities.tokens import TokenError
from quartier.engines.nats import INCOMING, PROBE
from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.answers import Refusal, refusal_of
from quartier.interfaces.sensorthings.mqtt import metrics, rights, topics
from quartier.interfaces.sensorthings.mqtt.topics import Topic
from quartier.interfaces.sensorthings.read import Reader
from quartier.interfaces.sensorthings.visibility import Observers
from quartier.interfaces.sensorthings.write.service import Asking, Writer, json_of
from quartier.interfaces.sensorthings.write.work import Who
from quartier.sources.connect.mqtt import OwnBroker, client_id, own_broker
from quartier.sources.connect.mqtt_session import Broker, Delivery, MqttError, MqttSession
from quartier.sources.threads import in_thread

log = structlog.get_logger(__name__)

SOURCE_KEY: Final = "sensorthings"
_PREFIX: Final = INCOMING.replace(".", "/") + "/"
_AT_ONCE: Final = 64
_REMEMBERED_S: Final = 15.0
_STORED_BYTES: Final = 64 * 1024
_ENOUGH_S: Final = 30.0


class Inlet:
    """Takes what clients publish."""

    def __init__(self, pool: Pool, reader: Reader, *, broker: OwnBroker | None = None) -> None:
        self._pool = pool
        self._broker = broker
        self._writer = Writer(pool, reader)
        self._observers = Observers()
        self._who: dict[tuple[int | None, str, str], tuple[float, Who]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._open: set[asyncio.Task[None]] = set()
        # Set once the session exists: from then on the broker keeps what comes while we are away.
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""
        delay_s = 0.5
        try:
            while not stop.is_set():
                began_s = time.monotonic()
                try:
                    await self._connect(stop)
                except MqttError as error:
                    delay_s = 0.5 if time.monotonic() - began_s > _ENOUGH_S else min(delay_s * 2, 5.0)
                    log.warning("sensorthings.mqtt_inlet_retry", error=str(error))
                    await _pause(stop, delay_s)
        finally:
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            await self._writer.close()

    async def _connect(self, stop: asyncio.Event) -> None:
        own = self._broker if self._broker is not None else await asyncio.to_thread(own_broker)

        async def deliver(delivery: Delivery) -> None:
            await self._room.acquire()
            task = asyncio.create_task(self._take(delivery, stop))
            self._open.add(task)
            task.add_done_callback(self._done)

        session = MqttSession(
            Broker(
                host=own.host,
                port=own.port,
                client_id=client_id(SOURCE_KEY),
                username=own.username,
                password=own.password,
            ),
            [f"{_PREFIX}#"],
            deliver,
        )

        async def note() -> None:
            await session.connected.wait()
            self.ready.set()

        noting = asyncio.create_task(note())
        try:
            await session.run(stop)
        finally:
            noting.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sensorthings.mqtt_inlet", error=repr(error))

    async def _take(self, delivery: Delivery, stop: asyncio.Event) -> None:
        """Record one message; say to the broker that it is safe only when it is, or when it is listed as refused."""
        if delivery.topic.endswith(f"/{PROBE}"):
            # The doctor looks whether the broker leads messages here.
            delivery.done()
            return
        if delivery.retained:
            # A copy of something old that the broker keeps for newcomers.
            metrics.TAKEN.labels("retained").inc()
            delivery.done()
            return
        topic = topics.parse(delivery.topic.removeprefix(_PREFIX))
        while not stop.is_set():
            refusal = await self._tried(topic, delivery)
            try:
                if refusal is None:
                    metrics.TAKEN.labels("recorded").inc()
                elif refusal.status == 503:
                    await _pause(stop, 1)
                    continue
                else:
                    await self._list(topic, delivery, refusal)
                    metrics.TAKEN.labels("refused").inc()
            except (psycopg.Error, PoolTimeout, OSError):
                await _pause(stop, 1)
                continue
            delivery.done()
            return

    async def _tried(self, topic: Topic | None, delivery: Delivery) -> Refusal | None:
        try:
            if topic is None or topic.query:
                return Refusal(400, "the topic is no address of an entity set")
            who = await self._who_posts(topic)
            posted = json_of(delivery.payload)
            await self._writer.answer(Asking("POST", topic.path, body=posted), who)
        except TokenError as error:
            return Refusal(401, str(error))
        except NotAllowed as error:  # a PermissionError, and so an OSError, too
            return Refusal(403, str(error))
        except (DatabaseError, PoolTimeout, TimeoutError, OSError):
            return Refusal(503, "the store is away")
        except Exception as error:
            # Whatever HTTP would have answered; what it could not name is no reason to try for ever either.
            with contextlib.suppress(Exception):
                return refusal_of(error)
            log.error("sensorthings.mqtt_inlet", error=repr(error))
            return Refusal(400, "it cannot be recorded")
        return None

    async def _who_posts(self, topic: Topic) -> Who:
        key = (topic.token_id, topic.city, topic.version)
        found = self._who.get(key)
        if found is not None and time.monotonic() - found[0] < _REMEMBERED_S:
            return found[1]
        actor = await in_thread(rights.writer_of, topic)
        eyes = await self._observers.eyes(actor, topic.city)
        who = Who(actor, eyes, eyes.municipality_id, topic.base)
        if len(self._who) > 10_000:
            self._who.clear()
        self._who[key] = (time.monotonic(), who)
        return who

    async def _list(self, topic: Topic | None, delivery: Delivery, refusal: Refusal) -> None:
        """Note a refused message where the desk shows it."""
        city = topic.city if topic is not None else ""
        async with self._pool.connection() as connection:
            await connection.execute(
                "INSERT INTO intake_refusedmessage"
                " (at, municipality_id, source_key, external_id, reason, detail, topic, body, headers)"
                " VALUES (%s, (SELECT id FROM cities_municipality WHERE slug = %s), %s, '', %s, %s, %s, %s, '{}')",
                [
                    datetime.now(UTC),
                    city,
                    SOURCE_KEY,
                    "sensorthings_rights" if refusal.status in (401, 403) else "sensorthings_invalid",
                    refusal.message.replace("\0", "")[:2000],
                    delivery.topic.removeprefix(_PREFIX).replace("\0", "")[:300],
                    delivery.payload[:_STORED_BYTES],
                ],
            )


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
