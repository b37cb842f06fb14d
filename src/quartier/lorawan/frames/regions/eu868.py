"""EU863-870 (RP002-1.0.4 §2.5), with the sub-bands of ETSI EN 300 220-2 annex B."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from ..errors import FrameError, check_length, check_range
from ..modulation import DataRate, Fsk, Lora, LrFhss
from .region import Channel, ChannelList, SubBand

_CHANNELS_IN_LIST = 5


class _Eu868:
    name: Final = "EU868"
    default_channels: Final = (
        Channel(868_100_000, 0, 5),
        Channel(868_300_000, 0, 5),
        Channel(868_500_000, 0, 5),
    )
    max_channels: Final = 16
    low_hz: Final = 863_000_000
    high_hz: Final = 870_000_000
    data_rates: Final = MappingProxyType[int, DataRate](
        {
            0: Lora(12, 125_000),
            1: Lora(11, 125_000),
            2: Lora(10, 125_000),
            3: Lora(9, 125_000),
            4: Lora(8, 125_000),
            5: Lora(7, 125_000),
            6: Lora(7, 250_000),
            7: Fsk(50_000),
            8: LrFhss("1/3", 137_000),
            9: LrFhss("2/3", 137_000),
            10: LrFhss("1/3", 336_000),
            11: LrFhss("2/3", 336_000),
        }
    )
    downlink_data_rates: Final = (0, 1, 2, 3, 4, 5, 6, 7)
    adr_data_rates: Final = (0, 1, 2, 3, 4, 5)
    rx2_frequency_hz: Final = 869_525_000
    rx2_data_rate: Final = 0
    beacon_frequency_hz: Final = 869_525_000
    beacon_data_rate: Final = 3
    beacon_layout: Final = (2, 8, 17)
    ping_slot_frequency_hz: Final = 869_525_000
    ping_slot_data_rate: Final = 3
    max_eirp_dbm: Final = 16.0
    tx_powers: Final = 8
    receive_delay1_s: Final = 1
    join_accept_delay1_s: Final = 5
    adr_ack_limit: Final = 64
    adr_ack_delay: Final = 32
    # What lies between these bands belongs to alarms.
    sub_bands: Final = (
        SubBand(863_000_000, 865_000_000, 0.001, 14.0),
        SubBand(865_000_000, 868_000_000, 0.01, 14.0),
        SubBand(868_000_000, 868_600_000, 0.01, 14.0),
        SubBand(868_700_000, 869_200_000, 0.001, 14.0),
        SubBand(869_400_000, 869_650_000, 0.1, 27.0),
        SubBand(869_700_000, 870_000_000, 0.01, 14.0),
    )

    _indexes: Final = {data_rate: index for index, data_rate in data_rates.items()}
    # N of tables 10 and 11: without and with a repeater.
    _max_payload: Final = (
        (51, 51, 51, 115, 242, 242, 242, 242, 50, 115, 50, 115),
        (51, 51, 51, 115, 222, 222, 222, 222, 50, 115, 50, 115),
    )
    # LR-FHSS cannot be sent by a gateway; its answers come as LoRa (table 12).
    _rx1_of_lr_fhss: Final = MappingProxyType({8: 1, 9: 2, 10: 1, 11: 2})

    def __repr__(self) -> str:
        return self.name

    def data_rate(self, index: int) -> DataRate:
        found = self.data_rates.get(index)
        if found is None:
            raise FrameError("data_rate", f"{index} is not defined in {self.name}")
        return found

    def data_rate_index(self, data_rate: DataRate) -> int:
        found = self._indexes.get(data_rate)
        if found is None:
            raise FrameError("data_rate", f"{data_rate.name} is not used in {self.name}")
        return found

    def data_rate_name(self, index: int) -> str:
        return f"DR{index} ({self.data_rate(index).name})"

    def max_payload(self, data_rate: int, *, repeater: bool = False) -> int:
        self.data_rate(data_rate)
        return self._max_payload[repeater][data_rate]

    def tx_power_dbm(self, index: int, max_eirp_dbm: float | None = None) -> float:
        check_range("tx_power", index, 0, self.tx_powers - 1)
        return (self.max_eirp_dbm if max_eirp_dbm is None else max_eirp_dbm) - 2.0 * index

    def rx1_frequency_hz(self, uplink_hz: int) -> int:
        return uplink_hz

    def rx1_data_rate(self, uplink: int, offset: int) -> int:
        self.data_rate(uplink)
        check_range("rx1_data_rate_offset", offset, 0, 5)
        return max(0, self._rx1_of_lr_fhss.get(uplink, uplink) - offset)

    def sub_band(self, frequency_hz: int) -> SubBand | None:
        for band in self.sub_bands:
            if band.low_hz <= frequency_hz < band.high_hz:
                return band
        return None

    def enabled_channels(self, control: int, mask: int, defined: Iterable[int]) -> frozenset[int]:
        known = frozenset(defined)
        if control == 6:
            return known
        if control != 0:
            raise FrameError("channel_mask_control", f"{control} is not defined in {self.name}")
        enabled = frozenset(index for index in range(self.max_channels) if mask >> index & 1)
        if not enabled:
            raise FrameError("channel_mask", "no channel would be left")
        if enabled - known:
            raise FrameError("channel_mask", f"channel {min(enabled - known)} is not defined")
        return enabled

    def channel_masks(self, enabled: Iterable[int]) -> tuple[tuple[int, int], ...]:
        mask = 0
        for index in enabled:
            mask |= 1 << check_range("channel", index, 0, self.max_channels - 1)
        return ((0, mask),)

    def pack_channel_list(self, frequencies_hz: Iterable[int]) -> bytes:
        frequencies = tuple(frequencies_hz)
        if len(frequencies) > _CHANNELS_IN_LIST:
            raise FrameError("channel_list", f"{len(frequencies)} channels, more than {_CHANNELS_IN_LIST}")
        return b"".join(pack_frequency(frequency) for frequency in frequencies).ljust(16, b"\0")

    def parse_channel_list(self, packed: bytes) -> ChannelList:
        check_length("channel_list", packed, 16)
        kind, body = packed[15], packed[:15]
        if kind == 0:
            numbers = (int.from_bytes(body[at : at + 3], "little") * 100 for at in range(0, 15, 3))
            return ChannelList(frequencies_hz=tuple(number for number in numbers if number))
        if kind == 1:
            return ChannelList(
                masks=tuple(int.from_bytes(body[at : at + 2], "little") for at in range(0, 14, 2))
            )
        raise FrameError("channel_list", f"type {kind} is reserved")


def pack_frequency(frequency_hz: int) -> bytes:
    """Three bytes, in steps of 100 Hz. Raises FrameError for a frequency between the steps or too high."""
    steps, rest = divmod(frequency_hz, 100)
    if rest:
        raise FrameError("frequency_hz", f"{frequency_hz} is not a multiple of 100")
    return check_range("frequency_hz", steps, 0, 0xFF_FFFF).to_bytes(3, "little")


EU868: Final = _Eu868()
