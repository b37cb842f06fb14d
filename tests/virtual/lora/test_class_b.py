"""A device of class B and the network server, with everything real between them but the air."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.intake.conveyor import Conveyor
from quartier.lorawan.frames.modulation import DataRate
from quartier.virtual.lora import life as life_module
from quartier.virtual.lora.ether import Ether
from quartier.virtual.lora.fleet import Member, fleet
from quartier.virtual.lora.forwarder import PacketForwarder
from quartier.virtual.lora.gateway import Gps
from quartier.virtual.lora.life import DIM, LAMP_PORT, Life
from quartier.virtual.lora.memory import Memory
from quartier.virtual.lora.radio import Radio
from quartier.virtual.lora.sites import Site, sites
from quartier.virtual.lora.station import Station
from quartier.virtual.schedule import Clock
from tests.patience import patient

if TYPE_CHECKING:
    from quartier.lorawan.models import Downlink
    from quartier.lorawan.network import Network
    from quartier.lorawan.store import Store
    from tests.world import World

TOKEN = "a-station's-token"


@dataclass
class Place:
    """One device with the gateway that hears it; they share no air with the others."""

    site: Site
    member: Member
    ether: Ether
    life: Life
    starts: list[tuple[float, int]]
    """When the gateway began to send, in GPS ms, and how often the device had spoken until then."""


@dataclass
class Watched:
    """The gateway's radio."""

    place: Place
    gps: Gps

    def __call__(
        self, at: float, phy: bytes, frequency_hz: int, data_rate: DataRate, power_dbm: float
    ) -> None:
        self.place.starts.append((self.gps.ms(at), self.place.life.counts["uplinks"]))
        self.place.ether.transmit_of(0)(at, phy, frequency_hz, data_rate, power_dbm)


def place(number: int, site: Site) -> Place:
    """The fleet's lamp of class B near a gateway, with an address of its own."""
    lamp = next(one for one in fleet(1).members if one.device_class == "B")
    member = replace(
        lamp,
        # Once it has said what it has to say, it is silent.
        device=replace(lamp.device, dev_eui=f"025e00fffe02000{number}", expected_interval_s=86_400),
        place=replace(lamp.place, lon=site.place.lon, lat=site.place.lat + 0.002),
        keys={
            "dev_addr": f"00e2000{number}",
            "nwk_s_key": f"{number:032x}",
            "app_s_key": f"{number + 8:032x}",
        },
    )
    ether = Ether(Radio([replace(site.place, number=0)]))
    life = Life(member, fleet(1), ether, Clock(time.time(), 60.0), Memory(), seed=number)
    ether.listeners.append(life)
    return Place(site, member, ether, life, [])


@asynccontextmanager
async def at_work(pool: Pool, bus: Bus, places: dict[str, Place]) -> AsyncIterator[tuple[Store, Network]]:
    """A network server with both protocols, and a gateway by each."""
    from quartier.lorawan.frames.regions import EU868
    from quartier.lorawan.gateways.rates import Rates
    from quartier.lorawan.gateways.registry import Registry
    from quartier.lorawan.gateways.station.server import StationServer
    from quartier.lorawan.gateways.transmit import GatewayTransmitter
    from quartier.lorawan.gateways.udp import UdpServer
    from quartier.lorawan.network import Network
    from quartier.lorawan.network.outcome import Nobody
    from quartier.lorawan.store import Store

    store = Store(pool)
    await store.start()
    registry, rates, stop = Registry(store.gateways), Rates(EU868), asyncio.Event()
    async with Conveyor(bus) as conveyor:
        network = Network(store, {"": GatewayTransmitter(registry, rates)}, Nobody(), conveyor)
        udp, stations = UdpServer(registry, rates, network), StationServer(registry, rates, network)
        port = await udp.start("127.0.0.1", 0)
        application = web.Application()
        application.add_routes(stations.routes())
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        for one in places.values():
            gps = Gps()
            watched = Watched(one, gps)
            if one is places["gwmp"]:
                one.ether.gateways[0] = forwarder = PacketForwarder(one.site.eui, watched, gps=gps)
                await forwarder.start("127.0.0.1", port)
            else:
                station = Station(one.site.eui, watched, token=TOKEN, first_backoff_s=0.1, gps=gps)
                one.ether.gateways[0] = station
                station.start(f"ws://127.0.0.1:{runner.addresses[0][1]}")
                await asyncio.wait_for(station.configured.wait(), patient(10))
        tasks = [asyncio.create_task(network.run(stop))]
        tasks += [asyncio.create_task(one.life.live()) for one in places.values()]
        try:
            yield store, network
        finally:
            stop.set()
            network.wake()
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await forwarder.close()
            await station.close()
            await stations.close()
            await runner.cleanup()
            udp.close()
            await store.close()


def register(world: World, protocol: str, one: Place) -> Any:
    """Gateway and device."""
    from quartier.lorawan import domain

    domain.save_gateway(
        SYSTEM,
        world.municipality,
        one.site.eui.hex(),
        name=one.site.name,
        protocol=protocol,
        credentials=[hashlib.sha256(TOKEN.encode()).hexdigest()],
    )
    profile = domain.save_profile(
        SYSTEM, "lamp-b", device_class="B", mac_version="1.0.4", adr=False, status_interval_s=0
    )
    return domain.register_device(
        SYSTEM,
        world.municipality,
        domain.DeviceSettings(
            dev_eui=one.member.device.dev_eui,
            name=one.site.name,
            profile=profile,
            activation="abp",
            keys=one.member.keys,
        ),
    )


async def dimmed(store: Store, network: Network, one: Place, lora: Any) -> tuple[Downlink, int]:
    """Wait until the device is in class B, dim the lamp; the downlink, and how often the device had spoken before."""
    from quartier.lorawan.domain import enqueue
    from quartier.lorawan.network import mac_layer

    device = store.directory.devices[bytes.fromhex(one.member.device.dev_eui)]
    async with asyncio.timeout(patient(20)):
        while device.session is None or not mac_layer.is_class_b(device.session):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        downlink = await sync_to_async(enqueue)(
            SYSTEM, lora, bytes([DIM, 40]), port=LAMP_PORT, confirmed=True
        )
        uplinks = one.life.counts["uplinks"]
        await store.reload()
        network.wake()
        while downlink.state != "acknowledged":
            await asyncio.sleep(0.05)
            await store.queue.write()
            await downlink.arefresh_from_db()
    return downlink, uplinks


async def test_a_lamp_is_dimmed_in_its_ping_slot_without_having_spoken(
    world: World, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quartier.lorawan.frames import ping_slots
    from quartier.lorawan.models import Downlink
    from quartier.lorawan.network import standing

    monkeypatch.setattr(life_module, "_POWER_UP_S", 0.1)
    # This device hears pings between its windows, too.
    monkeypatch.setattr(standing, "_BUSY_MS", -1500)
    near = [site for site in sites() if site.gps]
    places = {"gwmp": place(1, near[1]), "station": place(2, near[0])}
    rows = [await sync_to_async(register)(world, protocol, one) for protocol, one in places.items()]
    async with at_work(pool, bus, places) as (store, network):
        results = await asyncio.gather(
            *(dimmed(store, network, one, row) for one, row in zip(places.values(), rows, strict=True))
        )
    for one, (downlink, uplinks) in zip(places.values(), results, strict=True):
        assert one.life.received == [(LAMP_PORT, bytes([DIM, 40]))]
        assert one.life.dimming == 40
        assert (downlink.gateway, downlink.attempts) == (one.site.eui.hex(), 1)
        assert downlink.detail.startswith("ping slot ")
        assert one.life.counts["pings"] == 1
        # Of what the gateway sent, one frame began with one of the device's slots, and nothing was said before.
        address, periodicity = int(one.member.keys["dev_addr"], 16), one.life.radio.periodicity
        pings = [
            before
            for at, before in one.starts
            if abs(at - ping_slots.next_ms(round(at) - 15, address, periodicity)) < 1
        ]
        assert uplinks in pings
    assert await Downlink.objects.filter(state="acknowledged").acount() == 2
