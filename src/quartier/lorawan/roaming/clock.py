"""What the parts of roaming share: who we are, the region, and the time of day."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from quartier.lorawan.frames import FrameError
from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.regions import EU868, Region


@dataclass(frozen=True, slots=True)
class Radio:
    """The region that we speak in."""

    region: Region = EU868

    def airtime_s(self, data_rate: int, size: int, *, downlink: bool = False) -> float:
        """Time on air; that of the slowest LoRa rate for an index that the region does not know, to be safe."""
        try:
            modulation = self.region.data_rate(data_rate)
        except FrameError:
            modulation = self.region.data_rate(0)
        return time_on_air_s(modulation, size, crc=not downlink)


def now() -> datetime:
    """The time of day, UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that never go back: the clock of receptions."""
    return time.monotonic()
