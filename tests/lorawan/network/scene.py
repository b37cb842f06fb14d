"""A network server with virtual devices in the air: what the tests of this folder share.

The devices are those of the virtual cities, which know only the frames library; gateways are an object that hears and
transmits without a radio between, so that a test decides who hears what, and what becomes of a downlink.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.engines.bus import INBOX, Bus
from quartier.intake.inbox import RawMessage, decode
from quartier.lorawan.domain import DeviceSettings, register_device, save_profile
from quartier.lorawan.frames.crypto import SessionKeys, session_1_0
from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.message import Up
from quartier.lorawan.models import DeviceProfile, LoraDevice
from quartier.lorawan.network import Network, Outcome
from quartier.lorawan.store import Line, Store
from quartier.lorawan.types import Reception, Transmission, TransmitError, TransmitResult
from quartier.virtual.lora.air import Emission, Heard
from quartier.virtual.lora.device import Abp, Device, Otaa
from tests.patience import patient
from tests.world import World

GATEWAY = bytes.fromhex("b827ebfffe000001")
OTHER = bytes.fromhex("b827ebfffe000002")
THIRD = bytes.fromhex("b827ebfffe000003")
JOIN_EUI = bytes.fromhex("70b3d57ed0000001")
_up = msgspec.json.Decoder(Up)


@dataclass(slots=True)
class Sent:
    """A downlink as a gateway got it, and what the device made of it."""

    transmission: Transmission
    heard: Heard | None


@dataclass(slots=True)
class Air:
    """Transmits to the devices that are listed, in the window that is asked for first; or fails as it is told to."""

    devices: dict[bytes, Device] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    failures: list[TransmitError] = field(default_factory=list)
    delay_s: float = 0.0

    async def transmit(self, transmission: Transmission) -> TransmitResult:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.failures:
            self.sent.append(Sent(transmission, None))
            error = self.failures.pop(0)
            return TransmitResult(id=transmission.id, ok=False, error=error, gateway=transmission.gateway)
        window = transmission.windows[0]
        name = "RX1" if window.delay_s is not None else "RXC" if transmission.gps_time_ms is None else "RXB"
        heard = None
        for eui, device in self.devices.items():
            if transmission.device in (None, eui):
                heard = device.receive(transmission.phy, name)
        self.sent.append(Sent(transmission, heard))
        return TransmitResult(
            id=transmission.id,
            ok=True,
            window=0,
            gateway=transmission.gateway,
            at=datetime.now(UTC),
            airtime_s=0.05,
        )


@dataclass(slots=True)
class Neighbour:
    """Roaming that takes what it is told to."""

    takes: bool = False
    offered: list[Sequence[Reception]] = field(default_factory=list)

    async def forward(self, receptions: Sequence[Reception]) -> bool:
        self.offered.append(receptions)
        return self.takes


@dataclass(slots=True)
class Scene:
    """One network server at work."""

    world: World
    store: Store
    network: Network
    bus: Bus
    air: Air
    neighbour: Neighbour
    profile: DeviceProfile
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def hear(
        self,
        phy: bytes,
        *,
        frequency_hz: int = 868_100_000,
        data_rate: int = 0,
        by: Mapping[bytes, float] | Sequence[bytes] = (GATEWAY,),
        peer: str = "",
        token: str = "",
        gps: Collection[bytes] = (),
    ) -> None:
        """Gateways hear a frame, with these SNRs; those of ``gps`` know when it was."""
        heard = by if isinstance(by, Mapping) else dict.fromkeys(by, 5.0)
        for gateway, snr_db in heard.items():
            self.network.receive(
                Reception(
                    gateway=gateway,
                    phy=phy,
                    frequency_hz=frequency_hz,
                    data_rate=data_rate,
                    received_at=datetime.now(UTC),
                    received_monotonic=time.monotonic(),
                    rssi_dbm=-100.0,
                    snr_db=snr_db,
                    context={"tmst": 1},
                    peer=peer,
                    token=token,
                    gps_time_ms=gps_ms(datetime.now(UTC)) if gateway in gps else None,
                )
            )

    async def send(self, emission: Emission, **how: Any) -> Outcome:
        """Gateways hear what a device sends; returns when it was worked off, with its answer."""
        self.hear(emission.phy, frequency_hz=emission.frequency_hz, data_rate=emission.data_rate, **how)
        outcome = await self.network.outcome(emission.phy)
        await self.idle()
        return outcome

    async def idle(self) -> None:
        """Until nothing is being worked off."""
        await until(lambda: self.network.open_frames == 0)

    async def profile_of(self, key: str, **values: Any) -> DeviceProfile:
        """A device profile for all cities."""
        return await sync_to_async(save_profile)(SYSTEM, key, **values)

    async def otaa(
        self,
        *,
        version: str = "1.0.3",
        profile: DeviceProfile | None = None,
        register: bool = True,
        **how: Any,
    ) -> Device:
        """A device that joins; registered, and in the air."""
        number = next(self._numbers)
        eui = bytes.fromhex("70b3d57ed00000") + bytes([number])
        app_key, nwk_key = bytes([number]) * 16, bytes([number + 100]) * 16
        v11 = version.startswith("1.1")
        settings: dict[str, Any] = {
            key: how.pop(key) for key in ("counter_reset", "may_roam", "tags", "active") if key in how
        }
        if register:
            keys = {"app_key": app_key.hex()} | ({"nwk_key": nwk_key.hex()} if v11 else {})
            await sync_to_async(register_device)(
                SYSTEM,
                self.world.municipality,
                DeviceSettings(
                    dev_eui=eui.hex(),
                    name=f"Gerät {number}",
                    profile=profile or self.profile,
                    join_eui=JOIN_EUI.hex(),
                    keys=keys,
                    **settings,
                ),
            )
            await self.store.reload()
        device = Device(
            Otaa(dev_eui=eui, join_eui=JOIN_EUI, app_key=app_key, nwk_key=nwk_key if v11 else None),
            version=parts(version),
            seed=number,
            **how,
        )
        self.air.devices[eui] = device
        return device

    async def abp(
        self,
        *,
        version: str = "1.0.3",
        profile: DeviceProfile | None = None,
        dev_addr: int | None = None,
        **how: Any,
    ) -> Device:
        """A device with a session from the start; registered, and in the air."""
        number = next(self._numbers)
        eui = bytes.fromhex("70b3d57ed00001") + bytes([number])
        address = 0x00E2_0000 + number if dev_addr is None else dev_addr
        keys = [bytes([number * 4 + one]) * 16 for one in range(4)]
        settings: dict[str, Any] = {
            key: how.pop(key) for key in ("counter_reset", "may_roam", "counters", "active") if key in how
        }
        names: Sequence[str] = ("nwk_s_key", "app_s_key")
        session = session_1_0(keys[0], keys[1])
        if version.startswith("1.1"):
            names = ("f_nwk_s_int_key", "s_nwk_s_int_key", "nwk_s_enc_key", "app_s_key")
            session = SessionKeys(keys[0], keys[1], keys[2], keys[3], True)
        await sync_to_async(register_device)(
            SYSTEM,
            self.world.municipality,
            DeviceSettings(
                dev_eui=eui.hex(),
                name=f"Gerät {number}",
                profile=profile or self.profile,
                activation="abp",
                keys={"dev_addr": f"{address:08x}"}
                | {name: key.hex() for name, key in zip(names, keys, strict=False)},
                **settings,
            ),
        )
        await self.store.reload()
        device = Device(Abp(dev_addr=address, session=session), version=parts(version), seed=number, **how)
        self.air.devices[eui] = device
        return device

    def eui_of(self, device: Device) -> bytes:
        """The DevEUI under which a device is registered."""
        return next(eui for eui, one in self.air.devices.items() if one is device)

    async def row(self, device: Device) -> LoraDevice:
        """The device's row."""
        return await LoraDevice.objects.select_related("municipality", "profile", "device").aget(
            dev_eui=self.eui_of(device).hex()
        )

    async def joined(self, **how: Any) -> Device:
        """A device that has joined and spoken once."""
        device = await self.otaa(**how)
        assert (await self.send(device.join())).accepted
        assert device.state is not None, self.air.sent
        assert (await self.send(device.uplink(b"\x00", 1))).accepted
        return device

    async def inbox(self) -> list[RawMessage]:
        """Everything that is in the inbox."""
        state = (await self.bus.js.stream_info(INBOX)).state
        return [
            decode((await self.bus.js.get_msg(INBOX, seq=seq)).data or b"")
            for seq in range(state.first_seq, state.last_seq + 1)
        ]

    async def ups(self) -> list[Up]:
        """The uplinks in the inbox."""
        return [_up.decode(one.body) for one in await self.inbox()]

    def lines(self) -> list[Line]:
        """What the frame log has to say, and has not written yet."""
        return list(self.store.frames.waiting)


def parts(version: str) -> tuple[int, int, int]:
    """1.0.3 as numbers."""
    major, minor, patch = version.split(".")
    return int(major), int(minor), int(patch)


async def until(condition: Any, *, seconds: float = 10) -> None:
    """Wait for something that happens by itself."""
    deadline = time.monotonic() + patient(seconds)
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)
