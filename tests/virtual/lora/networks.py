"""Both cities' radio networks at work, as the demo runs them: two network servers, loss between them, everything in the
air. Only that the servers live in the test's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web
from asgiref.sync import sync_to_async

from quartier.config import config
from quartier.engines.bus import INBOX, Bus
from quartier.engines.pools import Pool
from quartier.intake.inbox import decode
from quartier.lorawan.message import Up
from quartier.lorawan.service import Service
from quartier.virtual.lora.network import RadioNetworks
from quartier.virtual.lora.plan import DEV_ADDRS, NET_IDS, RadioPorts
from quartier.virtual.schedule import Clock

CITIES: Final = tuple(NET_IDS)
_PASSED_ON: Final = ("Authorization", "Content-Type")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port nobody listens on."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Road:
    """The way to one city's roaming server, on which a share of requests and of answers gets lost."""

    def __init__(self, loss: float, seed: int) -> None:
        self.loss = loss
        self.counts: Counter[str] = Counter()
        self._chance = random.Random(seed)  # noqa: S311
        self._to = ""
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def open(self, port: int, to: int) -> None:
        """Listen on ``port`` for what goes to the port ``to``."""
        self._to = f"http://127.0.0.1:{to}"
        self._session = aiohttp.ClientSession()
        application = web.Application(client_max_size=1 << 22)
        application.router.add_route("*", "/{path:.*}", self._carry)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def close(self) -> None:
        """End."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _carry(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        body = await request.read()
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        self.counts["requests"] += 1
        if self._chance.random() < self.loss:
            self.counts["requests lost"] += 1
            return self._gone(request)
        try:
            async with self._session.request(
                request.method, self._to + request.path_qs, data=body, headers=headers
            ) as answer:
                content, status = await answer.read(), answer.status
                kind = answer.headers.get("Content-Type", "application/json")
        except aiohttp.ClientError:
            return self._gone(request)  # the server has ended
        if self._chance.random() < self.loss:
            self.counts["answers lost"] += 1
            return self._gone(request)
        return web.Response(body=content, status=status, headers={"Content-Type": kind})

    @staticmethod
    def _gone(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


@dataclass(slots=True)
class Networks:
    """What a test looks at."""

    pool: Pool
    bus: Bus
    services: dict[str, Service]
    roads: dict[str, Road]
    radio: RadioNetworks
    _stop: asyncio.Event
    _air: asyncio.Task[None]
    _up: msgspec.json.Decoder[Up] = field(default_factory=lambda: msgspec.json.Decoder(Up))

    async def silence(self) -> None:
        """End all transmissions, and wait until the servers have worked them off."""
        self._stop.set()
        await self._air
        await asyncio.sleep(3.0)  # what is on its way to a window comes to its end
        await until(
            lambda: not any(one.network and one.network.open_frames for one in self.services.values()),
            seconds=30,
        )

    async def ups(self) -> list[Up]:
        """The uplinks in the inbox."""
        state = (await self.bus.js.stream_info(INBOX)).state
        messages = [
            decode((await self.bus.js.get_msg(INBOX, seq=seq)).data or b"")
            for seq in range(state.first_seq, state.last_seq + 1)
        ]
        return [self._up.decode(one.body) for one in messages if one.kind == "lorawan"]

    async def ledger(self, city: str, *, we_carry: bool) -> list[dict[str, Any]]:
        """A city's ledger with the other one, in one direction."""
        await self.services[city].roaming.ledger.flush()
        return await self.rows(
            "SELECT f.key, f.direction, f.kind, f.state, f.airtime_us, f.dev_eui, f.size, f.result"
            " FROM lorawan_roamingframe f"
            " JOIN lorawan_lorapeer p ON p.id = f.peer_id JOIN cities_municipality m ON m.id = p.municipality_id"
            " WHERE m.slug = %s AND f.we_carry = %s ORDER BY f.key",
            city,
            we_carry,
        )

    async def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Rows of a query by name."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(query, parameters)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


def _seed(ports: dict[str, RadioPorts]) -> None:
    from quartier.cli.seed import seed_properties
    from quartier.cli.seed_demo import seed

    seed_properties()
    seed(
        element_port=free_port(), mqtt_password="door", password="Demo-Passwort-1", history=timedelta(hours=1),
        radio=ports,
    )  # fmt: skip


@asynccontextmanager
async def networks(
    pool: Pool, bus: Bus, *, speed: float, loss: float = 0.0, only: Collection[str] = ()
) -> AsyncIterator[Networks]:
    """Seed the demo's networks and run them; ``only`` some devices of the fleet, by DevEUI."""
    ports = {city: RadioPorts(free_port(socket.SOCK_DGRAM), free_port(), free_port()) for city in CITIES}
    roads = {city: Road(loss, number) for number, city in enumerate(CITIES)}
    public = {city: replace(ports[city], roaming=free_port()) for city in CITIES}
    await sync_to_async(_seed)(public)
    stop, quiet = asyncio.Event(), asyncio.Event()
    services = {
        city: Service(
            pool,
            bus,
            replace(
                config(),
                radio_municipalities=city,
                radio_net_id=NET_IDS[city],
                radio_dev_addrs=DEV_ADDRS[city],
                radio_udp_port=ports[city].udp,
                station_port=ports[city].station,
                roaming_port=ports[city].roaming,
                secret_key="a secret for tests",
            ),
        )
        for city in CITIES
    }
    running = [asyncio.create_task(service.run(stop)) for service in services.values()]
    for city, road in roads.items():
        await road.open(public[city].roaming, ports[city].roaming)
    radio = RadioNetworks(ports, Clock(time.time(), speed), only=only)
    air = asyncio.create_task(radio.run(quiet))
    try:
        yield Networks(pool, bus, services, roads, radio, quiet, air)
    finally:
        quiet.set()
        stop.set()
        results = await asyncio.gather(air, *running, return_exceptions=True)
        for road in roads.values():
            await road.close()
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def until(condition: Any, *, seconds: float) -> None:
    """Wait for something that happens by itself."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.1)
    assert condition(), "it did not happen"
