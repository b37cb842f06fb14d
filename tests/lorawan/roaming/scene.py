"""Two complete networks side by side: Schwerte with the devices, Dortmund with gateways near the border.

Each has a database, a network server and roaming of its own; they speak over loopback HTTPS with client certificates.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.intake.conveyor import Conveyor
from quartier.lorawan.network import Network
from quartier.lorawan.roaming.client import Ourselves
from quartier.lorawan.roaming.patience import Patience
from quartier.lorawan.roaming.peers import (
    Agreement,
    Credentials,
    Devices,
    Direction,
    Peer,
    PeerProtocol,
    ranges,
)
from quartier.lorawan.roaming.service import Listening, Roaming
from quartier.lorawan.store import Store
from quartier.lorawan.types import Reception, Transmission, TransmitError, TransmitResult, Transmitter
from quartier.virtual.lora.air import Emission
from quartier.virtual.lora.device import Device
from tests.lorawan.network.scene import until
from tests.lorawan.roaming.certificates import Authority, Identity

WINDOW_S = 0.05
PATIENCE = Patience(foreign_s=0.02, roaming_s=0.5, peer_s=0.02, join_s=0.5)
LONG_AGO = datetime.now(UTC) - timedelta(days=30)
OURS = bytes.fromhex("b827ebfffe00aa01")
THEIRS = bytes.fromhex("b827ebfffe00bb01")
THEIR_SECOND = bytes.fromhex("b827ebfffe00bb02")
NET_IDS = {"dortmund": "000000", "schwerte": "000000"}
KEK = bytes(range(16))


def agreement(direction: Direction, **changes: Any) -> Agreement:
    """Signed by both, about all addresses and JoinEUIs that the tests use."""
    return replace(
        Agreement(
            id=1 if direction is Direction.CARRY else 2,
            direction=direction,
            devices=Devices(dev_addrs=ranges(["00000000/7"], 32), join_euis=ranges(["70b3d57ed0000001"], 64)),
            valid_from=LONG_AGO,
            signed_here_at=LONG_AGO,
            signed_there_at=LONG_AGO,
        ),
        **changes,
    )


@dataclass(slots=True)
class Sky:
    """Gateways of one network. What they send reaches the devices that listen, or fails as told."""

    devices: dict[bytes, Device] = field(default_factory=dict)
    sent: list[Transmission] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    failures: list[TransmitError] = field(default_factory=list)
    window: int = 0

    async def transmit(self, transmission: Transmission) -> TransmitResult:
        self.sent.append(transmission)
        if self.failures:
            return TransmitResult(
                id=transmission.id,
                ok=False,
                error=self.failures.pop(0),
                detail="told so",
                gateway=transmission.gateway,
            )
        used = min(self.window, len(transmission.windows) - 1)
        name = "RXC" if transmission.windows[used].delay_s is None else f"RX{used + 1}"
        for device in self.devices.values():
            heard = device.receive(transmission.phy, name)
            if heard is not None:
                self.heard.append(heard)
        return TransmitResult(
            id=transmission.id, ok=True, window=used, gateway=transmission.gateway, at=datetime.now(UTC)
        )


@dataclass(slots=True)
class City:
    """One network."""

    name: str
    pool: Pool
    store: Store
    network: Network
    roaming: Roaming
    sky: Sky
    transmitters: dict[str, Transmitter]
    identity: Identity
    _times: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def hear(
        self, emission: Emission, by: Mapping[bytes, float] | Sequence[bytes], *, private: bool = False
    ) -> None:
        """Own gateways hear a frame, with these SNRs."""
        heard = by if isinstance(by, Mapping) else dict.fromkeys(by, 5.0)
        for gateway, snr_db in heard.items():
            self.network.receive(
                Reception(
                    gateway=gateway,
                    phy=emission.phy,
                    frequency_hz=emission.frequency_hz,
                    data_rate=emission.data_rate,
                    received_at=datetime.now(UTC),
                    received_monotonic=time.monotonic(),
                    rssi_dbm=-100.0,
                    snr_db=snr_db,
                    context={"tmst": next(self._times)},
                    lon=7.55,
                    lat=51.45,
                    private=private,
                )
            )

    async def rows(self, *, we_carry: bool) -> list[dict[str, Any]]:
        """The ledger, by time."""
        await self.roaming.ledger.flush()
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT direction, kind, state, dev_addr, dev_eui, gateways, classes, airtime_us, result, key"
                " FROM lorawan_roamingframe WHERE we_carry = %s ORDER BY direction DESC, id",
                (we_carry,),
            )
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


@dataclass(slots=True)
class Border:
    """Both networks, and their knowledge of each other."""

    dortmund: City
    schwerte: City
    authority: Authority

    async def connect(
        self,
        *,
        protocol: PeerProtocol = PeerProtocol.TS002_1_0,
        asynchronous: bool = False,
        here: Mapping[str, Any] | None = None,
        there: Mapping[str, Any] | None = None,
        agreed: Mapping[str, Any] | None = None,
        **peer: Any,
    ) -> None:
        """Make each the other's peer. ``agreed`` changes the agreement on both sides.

        ``here`` changes Schwerte as Dortmund knows it, ``there`` Dortmund as Schwerte knows it.
        """
        for city, other, direction, changes in (
            (self.dortmund, self.schwerte, Direction.CARRY, here),
            (self.schwerte, self.dortmund, Direction.CARRIED, there),
        ):
            settings: dict[str, Any] = {
                "id": 1,
                "key": other.name,
                "name": other.name.title(),
                "net_ids": (NET_IDS[other.name],),
                "protocol": protocol,
                "asynchronous": asynchronous,
                "url": f"https://127.0.0.1:{other.roaming.port}",
                "tls": city.identity.tls(self.authority),
                "credentials": Credentials(fingerprints=frozenset({other.identity.fingerprint})),
                "keks": {"grenze": KEK},
                "kek_label": "grenze",
                "agreements": (agreement(direction, **(agreed or {})),),
            }
            await city.roaming.use([Peer(**(settings | peer | dict(changes or {})))])

    async def idle(self) -> None:
        """Until no frame is being worked off on either side."""
        await until(lambda: self.dortmund.network.open_frames == 0 and self.schwerte.network.open_frames == 0)


@asynccontextmanager
async def city(
    name: str,
    pool: Pool,
    bus: Bus,
    *,
    identity: Identity,
    authority: Authority,
    folder: Path,
    tls: bool = True,
) -> AsyncIterator[City]:
    """Start one network; without ``tls`` it listens in the clear."""
    store = Store(pool)
    await store.start()
    sky = Sky()
    transmitters: dict[str, Transmitter] = {"": sky}
    roaming = Roaming(
        pool=pool,
        store=store,
        transmitters=transmitters,
        ourselves=Ourselves(net_id=NET_IDS[name]),
        secret=f"secret of {name}",
        listening=Listening(tls=identity.server(folder, authority) if tls else None),
        patience=PATIENCE,
    )
    stop = asyncio.Event()
    async with Conveyor(bus) as conveyor:
        network = Network(
            store, transmitters, roaming, conveyor, window_s=WINDOW_S, window_of=roaming.window_of
        )
        roaming.serve(network)
        await roaming.start()
        tasks = [asyncio.create_task(network.run(stop)), asyncio.create_task(roaming.run(stop))]
        try:
            yield City(name, pool, store, network, roaming, sky, transmitters, identity)
        finally:
            stop.set()
            network.wake()
            await asyncio.gather(*tasks)
            await store.close()
