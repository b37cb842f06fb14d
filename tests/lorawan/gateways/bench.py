"""A test bench: registered gateways, a receiver that keeps what it gets, a radio that keeps what is sent."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from quartier.lorawan.frames.modulation import DataRate, Lora
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.gateways.limits import Limits
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.gateways.registry import Gateway, Refusal, Registry
from quartier.lorawan.gateways.transmit import GatewayTransmitter
from quartier.lorawan.types import Eui, Reception, Transmission, Window
from quartier.virtual.lora.gateway import Hearing
from tests.patience import patient

EUI = bytes.fromhex("a84041fffe1e0c01")
OTHER = bytes.fromhex("a84041fffe1e0c02")
TOKEN = "a-gateway's-token"
# lora-packet's README: an unconfirmed uplink, DevAddr 49be7df1, counter 2.
UPLINK = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
DOWNLINK = bytes.fromhex("600000000a8005000a54972baa8b983cd1")
SF7 = Lora(7, 125_000)
RX1 = Window(frequency_hz=868_100_000, data_rate=5, delay_s=1)
RX2 = Window(frequency_hz=869_525_000, data_rate=0, delay_s=2)
ALWAYS = Window(frequency_hz=869_525_000, data_rate=5, delay_s=None)


@dataclass
class Known:
    """Implements Gateways."""

    gateways: dict[Eui, Gateway] = field(default_factory=dict)
    sign_ins: list[tuple[Eui, bytes]] = field(default_factory=list)

    def add(self, eui: Eui = EUI, **changes: Any) -> Gateway:
        """Register a gateway; it may sign in with TOKEN."""
        plain = Gateway(eui=eui, credentials=(hashlib.sha256(TOKEN.encode()).digest(),))
        self.gateways[eui] = replace(plain, **changes)
        return self.gateways[eui]

    def get(self, eui: Eui) -> Gateway | None:
        return self.gateways.get(eui)

    def signed_in(self, eui: Eui, credential: bytes) -> None:
        self.sign_ins.append((eui, credential))


@dataclass
class Sent:
    """What a virtual gateway put on the air."""

    at: float
    phy: bytes
    frequency_hz: int
    data_rate: DataRate
    power_dbm: float


class Bench:
    """Everything that a protocol's server needs."""

    def __init__(self, **limits: float) -> None:
        self.known = Known()
        self.refusals: list[Refusal] = []
        self.receptions: list[Reception] = []
        self.sent: list[Sent] = []
        self.registry = Registry(
            self.known,
            limits=Limits(**limits),
            on_refusal=self.refusals.append,
        )
        self.rates = Rates(EU868)
        self.transmitter = GatewayTransmitter(self.registry, self.rates, margin_s=0.5)

    def receive(self, reception: Reception) -> None:
        """Implements Receiver."""
        self.receptions.append(reception)

    def on_air(self, at: float, phy: bytes, frequency_hz: int, data_rate: DataRate, power_dbm: float) -> None:
        """Implements the virtual gateways' Transmit."""
        self.sent.append(Sent(at, phy, frequency_hz, data_rate, power_dbm))

    def reasons(self) -> list[str]:
        """Reasons of all refusals."""
        return [refusal.reason.value for refusal in self.refusals]


def hearing(phy: bytes = UPLINK, **changes: Any) -> Hearing:
    """A frame on the first channel, heard well, now."""
    plain = Hearing(
        phy=phy,
        frequency_hz=868_100_000,
        data_rate=SF7,
        rssi_dbm=-87,
        snr_db=7.5,
        ended_at=time.monotonic(),
        channel=2,
    )
    return replace(plain, **changes)


def answer(reception: Reception, *windows: Window, number: int = 1, **changes: Any) -> Transmission:
    """A downlink that answers a reception."""
    plain = Transmission(
        id=number,
        gateway=reception.gateway,
        phy=DOWNLINK,
        windows=windows or (RX1, RX2),
        context=reception.context,
        received_monotonic=reception.received_monotonic,
        device=bytes.fromhex("0102030405060708"),
    )
    return replace(plain, **changes)


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(patient(seconds)):
        while not condition():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)
