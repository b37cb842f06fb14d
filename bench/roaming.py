"""Downlinks for RX1 across a border: are they with the gateway in time?

Two complete networks in one process, each with a database of its own, speak Backend Interfaces over loopback HTTP with
20 ms added to every message. 300 uplinks a second want an acknowledgement in RX1, 1 s later; half of them are heard by
the neighbour's gateway only. In time is what the gateway has 100 ms before its window.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from bench.installation import Installation, installation, percentile

DEVICES: Final = 600
UPLINKS_PER_S: Final = 300
SECONDS: Final = 15
DELAY_S: Final = 0.02
RX1_S: Final = 1.0
LEAD_S: Final = 0.1
_OURS: Final = bytes.fromhex("b827ebfffe00aa01")
_THEIRS: Final = bytes.fromhex("b827ebfffe00bb01")
_FIRST: Final = 0x00E2_0000
_PEER: Final = """
    INSERT INTO lorawan_lorapeer (id, key, name, protocol, net_ids, nsid, join_euis, url, asynchronous, role_suffix,
        timeout_s, fingerprints, subject, authority, bearer_digest, sealed, kek_label, gateway, enabled, contact,
        created_at, updated_at)
    VALUES (1, 'peer', 'Peer', 'ts002-1.0', '[]', '', '[]', '', false, false, 5, '[]', '', '', '', '', '', '{}', true,
            '', now(), now())
"""


def run() -> dict[str, float]:
    """Share of downlinks in time, and how long they took, through our own gateways and through the neighbour's."""
    with installation(streams=True) as made:
        keys = _register()
        return asyncio.run(_measure(made, _second(made.postgres_url), keys))


def _register() -> list[bytes]:
    from quartier.cities.models import Municipality
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import DeviceSettings, register_device, save_profile

    city = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    profile = save_profile(SYSTEM, "bench", name="Bench", adr=False, status_interval_s=0)
    keys = [hashlib.sha256(number.to_bytes(4)).digest() for number in range(DEVICES)]
    for number, key in enumerate(keys):
        settings = DeviceSettings(
            dev_eui=f"{0x70B3_D57E_D000_0000 + number:016x}",
            name=f"Gerät {number}",
            profile=profile,
            activation="abp",
            keys={
                "dev_addr": f"{_FIRST + number:08x}",
                "nwk_s_key": key[:16].hex(),
                "app_s_key": key[16:].hex(),
            },
        )
        register_device(SYSTEM, city, settings, log=False)
    return keys


@dataclass(slots=True)
class _Sky:
    """Gateways that note how long after the frame they got its answer."""

    took_s: list[float] = field(default_factory=list)

    async def transmit(self, transmission: Any) -> Any:
        from quartier.lorawan.types import TransmitResult

        self.took_s.append(time.monotonic() - transmission.context["at"])
        return TransmitResult(
            id=transmission.id, ok=True, window=0, gateway=transmission.gateway, at=datetime.now(UTC)
        )


async def _measure(made: Installation, second: str, keys: list[bytes]) -> dict[str, float]:
    from quartier.engines import bus as engine
    from quartier.engines.pools import async_pool
    from quartier.lorawan.roaming.peers import Credentials, Devices, Direction, Peer, ranges

    async with AsyncExitStack() as stack:
        bus = await engine.connect(made.nats_url, name="bench")
        stack.push_async_callback(bus.close)
        cities = []
        for url in (made.postgres_url, second):
            pool = await stack.enter_async_context(async_pool(url))
            async with pool.connection() as connection_:
                await connection_.execute(_PEER)
            cities.append(await stack.enter_async_context(_city(pool, bus)))
        home, neighbour = cities
        for city, other, direction in (
            (home, neighbour, Direction.CARRIED),
            (neighbour, home, Direction.CARRY),
        ):
            secret = f"Bearer {direction}"
            await city.roaming.use(
                [
                    Peer(
                        id=1,
                        key="peer",
                        name="Peer",
                        net_ids=("000000",),
                        url=f"http://127.0.0.1:{other.roaming.port}",
                        authorization=secret,
                        credentials=Credentials(
                            bearer_digest=hashlib.sha256(
                                f"Bearer {'carry' if direction == 'carried' else 'carried'}".encode()
                            ).hexdigest()
                        ),
                        agreements=(_agreement(direction, Devices(dev_addrs=ranges(["00e20000/16"], 32))),),
                    )
                ]
            )
            _slow(city.roaming)
        await _send(home, neighbour, keys)
        return _figures(home.sky, neighbour.sky)


def _second(first: str) -> str:
    """URL of a second database with the same tables."""
    from django.core.management import call_command
    from django.db import connections

    with psycopg.connect(first, autocommit=True) as connection:
        connection.execute("CREATE DATABASE neighbour")
    connections.databases["neighbour"] = dict(connections["default"].settings_dict) | {"NAME": "neighbour"}
    call_command("migrate", database="neighbour", verbosity=0)
    connections["neighbour"].close()
    return psycopg.conninfo.make_conninfo(first, dbname="neighbour")


def _agreement(direction: Any, devices: Any) -> Any:
    from quartier.lorawan.roaming.peers import Agreement

    past = datetime.now(UTC) - timedelta(days=1)
    return Agreement(
        id=1, direction=direction, devices=devices, valid_from=past, signed_here_at=past, signed_there_at=past
    )


def _slow(roaming: Any) -> None:
    """20 ms more for every message, as between two cities."""
    (client,) = roaming._clients.values()
    plain = client._post

    async def post(*args: Any, **how: Any) -> bytes:
        await asyncio.sleep(DELAY_S / 2)
        content: bytes = await plain(*args, **how)
        await asyncio.sleep(DELAY_S / 2)
        return content

    client._post = post


@dataclass(slots=True)
class _City:
    network: Any
    roaming: Any
    sky: _Sky


@asynccontextmanager
async def _city(pool: Any, bus: Any) -> AsyncIterator[_City]:
    from quartier.intake.conveyor import Conveyor
    from quartier.lorawan.network import Network
    from quartier.lorawan.roaming.client import Ourselves
    from quartier.lorawan.roaming.service import Listening, Roaming
    from quartier.lorawan.store import Store

    store = Store(pool)
    await store.start()
    sky = _Sky()
    transmitters: dict[str, Any] = {"": sky}
    roaming = Roaming(
        pool=pool,
        store=store,
        transmitters=transmitters,
        ourselves=Ourselves(net_id="000000"),
        secret="bench",  # noqa: S106
        listening=Listening(),
    )
    stop = asyncio.Event()
    async with Conveyor(bus) as conveyor:
        network = Network(store, transmitters, roaming, conveyor, window_of=roaming.window_of)
        roaming.serve(network)
        await roaming.start()
        tasks = [asyncio.create_task(network.run(stop)), asyncio.create_task(roaming.run(stop))]
        try:
            yield _City(network, roaming, sky)
        finally:
            stop.set()
            network.wake()
            await asyncio.gather(*tasks)
            await store.close()


async def _send(home: _City, neighbour: _City, keys: list[bytes]) -> None:
    from quartier.lorawan.frames.crypto import seal_data, session_1_0
    from quartier.lorawan.frames.phy import Data, FrameType
    from quartier.lorawan.types import Reception

    sessions = [session_1_0(key[:16], key[16:]) for key in keys]
    counters = [itertools.count() for _ in keys]
    began = time.monotonic()
    for number in range(UPLINKS_PER_S * SECONDS):
        due = began + number / UPLINKS_PER_S
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        device = number % DEVICES
        roams = device % 2
        frame = Data(FrameType.CONFIRMED_UP, _FIRST + device, 0, port=5, payload=b"0123456789")
        phy = seal_data(sessions[device], frame, next(counters[device]))
        at = time.monotonic()
        (neighbour if roams else home).network.receive(
            Reception(
                gateway=_THEIRS if roams else _OURS,
                phy=phy,
                frequency_hz=868_100_000,
                data_rate=5,
                received_at=datetime.now(UTC),
                received_monotonic=at,
                rssi_dbm=-100,
                snr_db=5,
                context={"at": at},
            )
        )
    await asyncio.sleep(3)


def _figures(home: _Sky, neighbour: _Sky) -> dict[str, float]:
    sent = UPLINKS_PER_S * SECONDS
    both = home.took_s + neighbour.took_s
    in_time = sum(took <= RX1_S - LEAD_S for took in both)
    return {
        "uplinks_per_s": UPLINKS_PER_S,
        "answered_percent": 100 * len(both) / sent,
        "in_time_for_rx1_percent": 100 * in_time / sent,
        "own_gateway_p50_ms": 1000 * percentile(home.took_s, 50),
        "own_gateway_p99_ms": 1000 * percentile(home.took_s, 99),
        "neighbour_s_gateway_p50_ms": 1000 * percentile(neighbour.took_s, 50),
        "neighbour_s_gateway_p99_ms": 1000 * percentile(neighbour.took_s, 99),
        "neighbour_s_gateway_p999_ms": 1000 * percentile(neighbour.took_s, 99.9),
    }
