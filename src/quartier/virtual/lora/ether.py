"""The medium in real time: carries frames between devices and gateways when they begin and end.

Devices and gateways of both cities share one; nobody reaches anybody without it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from quartier.lorawan.frames.modulation import DataRate
from quartier.lorawan.frames.regions import EU868

from .air import Emission
from .gateway import Hearing, Transmit, downlink_airtime_s
from .propagation import Place
from .radio import Flight, Radio


class Gateway(Protocol):
    """A virtual gateway, as far as the air is concerned."""

    def heard(self, hearing: Hearing, /) -> None:
        """A frame that has ended."""


class Listener(Protocol):
    """A virtual device, as far as the air is concerned."""

    def begins(self, flight: Flight) -> None:
        """A gateway begins to send."""

    def ends(self, flight: Flight) -> None:
        """It has ended."""


class Ether:
    """Gateways are added in the order of the radio's places; times are those of ``time.monotonic``."""

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.gateways: list[Gateway | None] = [None] * len(radio.gateways)
        self.listeners: list[Listener] = []

    def transmit_of(self, number: int) -> Transmit:
        """What a gateway calls when it begins to send."""

        def transmit(at: float, phy: bytes, frequency_hz: int, data_rate: DataRate, power_dbm: float) -> None:
            flight = self.radio.down(
                number,
                phy,
                frequency_hz=frequency_hz,
                data_rate=data_rate,
                power_dbm=power_dbm,
                start_s=at,
                airtime_s=downlink_airtime_s(data_rate, phy),
            )
            for listener in self.listeners:
                listener.begins(flight)
            asyncio.get_running_loop().call_later(
                max(0.0, flight.end_s - time.monotonic()), self._deliver, flight
            )

        return transmit

    def _deliver(self, flight: Flight) -> None:
        for listener in self.listeners:
            listener.ends(flight)

    async def send(self, place: Place, emission: Emission) -> Flight:
        """A device sends now; returns when the frame has ended and gateways have it."""
        flight = self.radio.up(
            place,
            emission.phy,
            frequency_hz=emission.frequency_hz,
            data_rate=EU868.data_rate(emission.data_rate),
            eirp_dbm=emission.power_dbm,
            start_s=time.monotonic(),
            airtime_s=emission.airtime_s,
        )
        await asyncio.sleep(flight.end_s - time.monotonic())
        for number, heard in self.radio.heard_by_gateways(flight):
            gateway = self.gateways[number]
            if gateway is not None:
                gateway.heard(
                    Hearing(
                        phy=flight.phy,
                        frequency_hz=flight.frequency_hz,
                        data_rate=flight.data_rate,
                        rssi_dbm=heard.rssi_dbm,
                        snr_db=heard.snr_db,
                        ended_at=flight.end_s,
                        channel=heard.channel,
                    )
                )
        return flight
