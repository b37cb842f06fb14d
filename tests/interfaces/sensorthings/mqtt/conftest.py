"""Quartier's broker with its door, a leader that publishes, and clients of the kind that users have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiomqtt
import orjson
import pytest
from asgiref.sync import sync_to_async

from quartier.engines.bus import Bus
from quartier.engines.nats import Server
from quartier.engines.nkeys import Issuer
from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.conftest import City, make_city
from tests.patience import patient

if TYPE_CHECKING:
    from quartier.interfaces.sensorthings.mqtt.leader import Leader
    from quartier.sources.connect.mqtt import OwnBroker
    from quartier.twin.publish import Publisher
    from quartier.twin.record import Recorder


async def until(condition: Callable[[], object], limit_s: float = 15) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(patient(limit_s)):
        while not condition():  # noqa: ASYNC110 (conditions about what others do)
            await asyncio.sleep(0.02)


def broker_of(server: Server) -> OwnBroker:
    """The broker as the platform itself reaches it."""
    from quartier.sources.connect.mqtt import OwnBroker

    parts = urlsplit(server.url)
    return OwnBroker(
        "127.0.0.1", server.mqtt_port, unquote(parts.username or ""), unquote(parts.password or "")
    )


@dataclass(eq=False)
class Listener:
    """A subscriber and what it got."""

    client: aiomqtt.Client
    codes: list[int] = field(default_factory=list)
    got: list[tuple[str, Any]] = field(default_factory=list)
    retained: list[bool] = field(default_factory=list)

    @property
    def bodies(self) -> list[Any]:
        return [body for _, body in self.got]

    def results(self) -> list[Any]:
        return [body["result"] for body in self.bodies]


@dataclass
class Installation:
    """The engines and the rooms around them."""

    city: City
    pool: Pool
    bus: Bus
    server: Server
    recorder: Recorder
    new_leader: Callable[[], Leader]
    leader: Any = None
    leading: asyncio.Task[None] | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def start_leader(self) -> None:
        """A leader that follows."""
        self._stop.clear()
        self.leader = self.new_leader()
        self.leading = asyncio.create_task(self.leader.run(self._stop))
        await until(self.leader.following.is_set)

    async def stop_leader(self) -> None:
        """No leader any more."""
        self._stop.set()
        if self.leading is not None:
            await asyncio.wait_for(self.leading, patient(15))

    @asynccontextmanager
    async def listener(
        self,
        *topics: str,
        qos: int = 1,
        token: str | None = None,
        identifier: str | None = None,
        clean: bool = True,
        websocket: bool = False,
    ) -> AsyncIterator[Listener]:
        """Somebody who subscribes."""
        async with aiomqtt.Client(
            "127.0.0.1",
            self.server.websocket_port if websocket else self.server.mqtt_port,
            transport="websockets" if websocket else "tcp",
            websocket_path="/mqtt" if websocket else None,
            username="x" if token else None,
            password=token,
            identifier=identifier,
            clean_session=clean,
            timeout=patient(15),
        ) as client:
            made = Listener(client)

            async def listen() -> None:
                async for message in client.messages:
                    made.got.append((str(message.topic), orjson.loads(message.payload or b"null")))
                    made.retained.append(bool(message.retain))

            task = asyncio.create_task(listen())
            try:
                for topic in topics:
                    granted: Any = await client.subscribe(topic, qos=qos)
                    made.codes += [one.value for one in granted]
                yield made
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def record(self, series: Any, *results: float, start: datetime | None = None) -> None:
        """Readings, a second apart."""
        from datetime import timedelta

        from quartier.twin.record import Observation

        start = start or datetime(2026, 5, 1, 10, 0, tzinfo=UTC)
        await self.recorder.record(
            [
                Observation(series.municipality_id, series.pk, start + timedelta(seconds=n), result)
                for n, result in enumerate(results)
            ]
        )


@pytest.fixture
async def installation(
    store: str, pool: Pool, bus: Bus, nats_server: Server, publisher: Callable[[], Publisher]
) -> AsyncIterator[Installation]:
    """Everything that takes part in publishing, without observations yet."""
    from nats.js.errors import NotFoundError

    from quartier.interfaces.sensorthings.mqtt.leader import CONSUMER, Leader
    from quartier.interfaces.sensorthings.mqtt.rights import topics_of
    from quartier.interfaces.sensorthings.read import Reader, read_pool
    from quartier.sources.mqtt_door import Door
    from quartier.twin.record import Recorder
    from tests.world import make_world

    city = await sync_to_async(lambda: make_city(make_world()))()
    with suppress(NotFoundError):
        await bus.js.delete_consumer("observed", CONSUMER)
    stop = asyncio.Event()
    recorder = Recorder(pool)
    await recorder.start()
    async with read_pool(store, max_size=3) as reading:
        tasks: list[Awaitable[Any]] = [
            asyncio.create_task(publisher().run(stop, poll_s=0.02)),
            asyncio.create_task(Door(bus, Issuer.of(nats_server.folder), topics_of).run(stop)),
        ]
        made = Installation(
            city,
            pool,
            bus,
            nats_server,
            recorder,
            lambda: Leader(pool, Reader(reading), bus, broker=broker_of(nats_server)),
        )
        await made.start_leader()
        try:
            yield made
        finally:
            await made.stop_leader()
            stop.set()
            await recorder.close()
            await asyncio.wait_for(asyncio.gather(*tasks), patient(15))
