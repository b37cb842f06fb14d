"""What a network server and a device have to know of a region (RP002-1.0.4 §2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..modulation import DataRate


@dataclass(frozen=True, slots=True)
class Channel:
    """One uplink channel with the data rates that are allowed on it."""

    frequency_hz: int
    min_data_rate: int
    max_data_rate: int


@dataclass(frozen=True, slots=True)
class SubBand:
    """A piece of the band with its own limits. ``duty_cycle`` is a ratio, ``erp_dbm`` the effective radiated power."""

    low_hz: int
    high_hz: int
    duty_cycle: float
    erp_dbm: float

    @property
    def eirp_dbm(self) -> float:
        """A dipole has 2.15 dBi, so this is what an isotropic antenna would have to be fed with."""
        return self.erp_dbm + 2.15

    @property
    def name(self) -> str:
        """In MHz, such as 868.0–868.6."""
        return f"{self.low_hz / 1e6:.6g}–{self.high_hz / 1e6:.6g}"


@dataclass(frozen=True, slots=True)
class ChannelList:
    """CFList of a join accept: frequencies (type 0; those that are set), or channel masks (type 1)."""

    frequencies_hz: tuple[int, ...] = ()
    masks: tuple[int, ...] = ()


class Region(Protocol):
    """One region's parameters. Every method raises FrameError for an index that the region does not define."""

    @property
    def name(self) -> str: ...

    @property
    def default_channels(self) -> tuple[Channel, ...]:
        """Channels that every device has from the start, and joins on."""

    @property
    def max_channels(self) -> int: ...

    @property
    def low_hz(self) -> int: ...

    @property
    def high_hz(self) -> int: ...

    @property
    def data_rates(self) -> Mapping[int, DataRate]:
        """By index."""

    @property
    def downlink_data_rates(self) -> tuple[int, ...]:
        """Indexes that may be used down."""

    @property
    def adr_data_rates(self) -> tuple[int, ...]:
        """Indexes, slowest first, between which ADR moves a device."""

    @property
    def rx2_frequency_hz(self) -> int: ...

    @property
    def rx2_data_rate(self) -> int: ...

    @property
    def beacon_frequency_hz(self) -> int: ...

    @property
    def beacon_data_rate(self) -> int: ...

    @property
    def beacon_layout(self) -> tuple[int, int, int]:
        """Of a beacon: where the time begins, where the gateway's own part begins, and its length, in bytes."""

    @property
    def ping_slot_frequency_hz(self) -> int: ...

    @property
    def ping_slot_data_rate(self) -> int: ...

    @property
    def max_eirp_dbm(self) -> float:
        """Of devices; what TX power index 0 means unless TxParamSetupReq said otherwise."""

    @property
    def tx_powers(self) -> int:
        """How many TX power indexes there are."""

    @property
    def sub_bands(self) -> tuple[SubBand, ...]: ...

    @property
    def receive_delay1_s(self) -> int: ...

    @property
    def join_accept_delay1_s(self) -> int: ...

    @property
    def adr_ack_limit(self) -> int: ...

    @property
    def adr_ack_delay(self) -> int: ...

    def data_rate(self, index: int) -> DataRate:
        """The modulation behind an index."""

    def data_rate_index(self, data_rate: DataRate) -> int:
        """The index of a modulation."""

    def data_rate_name(self, index: int) -> str:
        """For people, such as DR5 (SF7BW125)."""

    def max_payload(self, data_rate: int, *, repeater: bool = False) -> int:
        """Bytes of FOpts and FRMPayload together (N of RP002). ``repeater``: the frame has to fit through one."""

    def tx_power_dbm(self, index: int, max_eirp_dbm: float | None = None) -> float:
        """The EIRP behind a TX power index."""

    def rx1_frequency_hz(self, uplink_hz: int) -> int:
        """Where the first receive window of an uplink opens."""

    def rx1_data_rate(self, uplink: int, offset: int) -> int:
        """The index of the first receive window's data rate."""

    def sub_band(self, frequency_hz: int) -> SubBand | None:
        """The sub-band of a frequency; None where nothing may be sent."""

    def enabled_channels(self, control: int, mask: int, defined: Iterable[int]) -> frozenset[int]:
        """The channels that a LinkADRReq enables, by its ChMaskCntl and ChMask, of those that a device has."""

    def channel_masks(self, enabled: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """(ChMaskCntl, ChMask) of the LinkADRReqs that enable exactly these channels."""

    def pack_channel_list(self, frequencies_hz: Iterable[int]) -> bytes:
        """CFList, 16 bytes, for channels in addition to the default ones."""

    def parse_channel_list(self, packed: bytes) -> ChannelList:
        """What a CFList says."""
