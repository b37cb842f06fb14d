"""What the virtual gateways have in common: how a radio and a gateway call each other, and Europe's channel rules."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.frames.modulation import DataRate

LOW_HZ = 863_000_000
HIGH_HZ = 870_000_000
STRONG_LOW_HZ = 869_400_000
STRONG_HIGH_HZ = 869_650_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """A frame as this gateway hears it; ``ended_at`` is the end of reception on the gateway's clock, in seconds."""

    phy: bytes
    frequency_hz: int
    data_rate: DataRate
    rssi_dbm: float
    snr_db: float
    ended_at: float
    intact: bool = True
    channel: int = 0


class Gps:
    """A satellite receiver: GPS time in ms at a time of a gateway's clock in s, and back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._ahead_ms = gps_ms(datetime.now(UTC)) - clock() * 1000

    def ms(self, at: float) -> float:
        """GPS time."""
        return at * 1000 + self._ahead_ms

    def at(self, gps_time_ms: float) -> float:
        """The clock's time."""
        return (gps_time_ms - self._ahead_ms) / 1000


class Transmit(Protocol):
    """The radio: called when a gateway starts to send, at ``at`` on its clock."""

    def __call__(
        self, at: float, phy: bytes, frequency_hz: int, data_rate: DataRate, power_dbm: float
    ) -> None: ...


def downlink_airtime_s(data_rate: DataRate, phy: bytes) -> float:
    """Seconds on air of a downlink, which has no checksum."""
    return time_on_air_s(data_rate, len(phy), crc=False)
