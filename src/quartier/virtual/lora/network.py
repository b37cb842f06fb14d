"""The cities' radio networks as a whole: devices, the air, and gateways that speak to a network server per city."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from ..schedule import Clock
from .ether import Ether
from .fleet import fleet
from .forwarder import PacketForwarder
from .gateway import Gps
from .life import Life
from .memory import Memory
from .plan import RadioPorts
from .radio import Radio
from .sites import sites, token_of
from .station import Station

logger = logging.getLogger(__name__)


class RadioNetworks:
    """Everything that is in the air. ``lives`` are the devices, by DevEUI; ``only`` leaves out all others."""

    def __init__(
        self,
        servers: Mapping[str, RadioPorts],
        clock: Clock,
        *,
        seed: int = 1,
        memory: Path | None = None,
        keepalive_s: float = 5.0,
        only: Collection[str] = (),
    ) -> None:
        self._servers = servers
        self._seed = seed
        self._keepalive_s = keepalive_s
        self.sites = tuple(site for site in sites() if site.municipality in servers)
        self.ether = Ether(Radio([site.place for site in self.sites], seed=seed))
        everyone, kept = fleet(seed), Memory(memory)
        self.lives = {
            member.device.dev_eui: Life(member, everyone, self.ether, clock, kept, seed=seed)
            for member in everyone.members
            if member.device.municipality in servers and (not only or member.device.dev_eui in only)
        }
        self.forwarders: dict[bytes, PacketForwarder] = {}
        self.stations: dict[bytes, Station] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``."""
        logger.info("virtual radio: %d devices, %d gateways", len(self.lives), len(self.sites))
        for number, site in enumerate(self.sites):
            server, transmit = self._servers[site.municipality], self.ether.transmit_of(number)
            gps = Gps() if site.gps else None
            if site.protocol == "gwmp":
                forwarder = PacketForwarder(site.eui, transmit, keepalive_s=self._keepalive_s, gps=gps)
                await forwarder.start("127.0.0.1", server.udp)
                self.ether.gateways[number] = self.forwarders[site.eui] = forwarder
            else:
                station = Station(site.eui, transmit, token=token_of(site, self._seed), gps=gps)
                station.start(f"ws://127.0.0.1:{server.station}")
                self.ether.gateways[number] = self.stations[site.eui] = station
        self.ether.listeners.extend(self.lives.values())
        living = [asyncio.create_task(life.live()) for life in self.lives.values()]
        stopping = asyncio.create_task(stop.wait())
        try:
            # A device that fails is a fault of ours and must be seen.
            await asyncio.wait({stopping, *living}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*living, stopping):
                task.cancel()
            results = await asyncio.gather(*living, stopping, return_exceptions=True)
            for forwarder in self.forwarders.values():
                await forwarder.close()
            for station in self.stations.values():
                await station.close()
        for result in results:
            if isinstance(result, Exception):
                raise result
