"""A region's data rates as gateways spell them."""

from __future__ import annotations

from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.modulation import DataRate, Fsk, Lora
from quartier.lorawan.frames.regions import Region


class Rates:
    """Translates between the numbers of a region and names (``SF7BW125``) or bit rates of FSK."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._index: dict[str | int, int] = {}
        self._spelling: dict[int, str | int] = {}
        self._number = {rate: index for index, rate in region.data_rates.items()}
        for index, rate in region.data_rates.items():
            if isinstance(rate, Lora | Fsk):
                spelling = rate.name if isinstance(rate, Lora) else rate.bit_rate
                self._index[spelling] = index
                self._spelling[index] = spelling

    def index(self, spelling: str | int) -> int | None:
        """The number of a data rate, None where the region does not use it."""
        return self._index.get(spelling)

    def index_of(self, data_rate: DataRate) -> int | None:
        """The number of a data rate, None where the region does not use it."""
        return self._number.get(data_rate)

    def spelling(self, index: int) -> str | int | None:
        """How GWMP calls a data rate; None where gateways cannot send it."""
        return self._spelling.get(index)

    def airtime_s(self, index: int, size: int) -> float | None:
        """Seconds on air of a downlink of ``size`` bytes; None where gateways cannot send at this data rate."""
        if index not in self._spelling:
            return None
        return time_on_air_s(self.region.data_rate(index), size, crc=False)

    def heard_frequency(self, frequency_hz: int) -> bool:
        """Whether a frame may have been heard there."""
        return self.region.low_hz <= frequency_hz <= self.region.high_hz

    def most_eirp_dbm(self, frequency_hz: int) -> float | None:
        """What may be sent there; None outside of the region's bands."""
        band = self.region.sub_band(frequency_hz)
        return None if band is None else band.eirp_dbm
