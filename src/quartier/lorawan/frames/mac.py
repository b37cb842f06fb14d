"""The MAC commands of LoRaWAN 1.0.0 to 1.0.4 and 1.1, up and down (TS001-1.0.4 §5, §10 to §14; LoRaWAN 1.1 §5, §9).

``parse`` reads what stands in FOpts or, on port 0, in FRMPayload. A command that is unknown has an unknown length, so
it ends the parse; what came before it is kept.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from . import commands
from .commands import Command, Parsed, Vocabulary, bits, down, flag, hertz, up
from .errors import FrameError

MAC: Final = Vocabulary()
KEEP: Final = 15
"""As ``data_rate`` or ``tx_power`` of a LinkADRReq (from 1.0.4 on): leave it as it is."""
BATTERY_EXTERNAL: Final = 0
BATTERY_UNKNOWN: Final = 255
_MAX_EIRP_DBM: Final = (8, 10, 12, 13, 14, 16, 18, 20, 21, 24, 26, 27, 29, 30, 33, 36)


class DeviceClass(IntEnum):
    """As told by DeviceModeInd (LoRaWAN 1.1 §18.1); class B is told by the frame header."""

    A = 0
    C = 2


# 1.1, ABP: the device was reset


@up(MAC, 0x01, size=1)
class ResetInd(Command):
    minor: int = bits(0, 4)


@down(MAC, 0x01, size=1)
class ResetConf(Command):
    minor: int = bits(0, 4)


# Is anybody there?


@up(MAC, 0x02)
class LinkCheckReq(Command):
    pass


@down(MAC, 0x02, size=2)
class LinkCheckAns(Command):
    """``margin_db`` above the demodulation floor, of the best of ``gateways`` receptions."""

    margin_db: int = bits(0, 8)
    gateways: int = bits(8, 8)


# Data rate, power, channels, repetitions


@down(MAC, 0x03, size=4)
class LinkADRReq(Command):
    tx_power: int = bits(0, 4)
    data_rate: int = bits(4, 4)
    channel_mask: int = bits(8, 16)
    transmissions: int = bits(24, 4)
    """NbTrans; 0 keeps it as it is."""
    channel_mask_control: int = bits(28, 3)


@up(MAC, 0x03, size=1)
class LinkADRAns(Command):
    channel_mask_ok: bool = flag(0)
    data_rate_ok: bool = flag(1)
    tx_power_ok: bool = flag(2)

    @property
    def ok(self) -> bool:
        return self.channel_mask_ok and self.data_rate_ok and self.tx_power_ok


@down(MAC, 0x04, size=1)
class DutyCycleReq(Command):
    """At most 1/2^``exponent`` of the time, over all bands together."""

    exponent: int = bits(0, 4)

    @property
    def ratio(self) -> float:
        return float(0.5**self.exponent)


@up(MAC, 0x04)
class DutyCycleAns(Command):
    pass


@down(MAC, 0x05, size=4)
class RXParamSetupReq(Command):
    rx2_data_rate: int = bits(0, 4)
    rx1_data_rate_offset: int = bits(4, 3)
    rx2_frequency_hz: int = hertz(8)


@up(MAC, 0x05, size=1)
class RXParamSetupAns(Command):
    channel_ok: bool = flag(0)
    rx2_data_rate_ok: bool = flag(1)
    rx1_data_rate_offset_ok: bool = flag(2)

    @property
    def ok(self) -> bool:
        return self.channel_ok and self.rx2_data_rate_ok and self.rx1_data_rate_offset_ok


@down(MAC, 0x06)
class DevStatusReq(Command):
    pass


@up(MAC, 0x06, size=2)
class DevStatusAns(Command):
    battery: int = bits(0, 8)
    """1 … 254 from empty to full; 0 with external power, 255 where it cannot be measured."""
    margin_db: int = bits(8, 6, signed=True)
    """SNR of the last DevStatusReq."""

    @property
    def battery_ratio(self) -> float | None:
        """0 … 1; None with external power or where it cannot be measured."""
        return None if self.battery in (BATTERY_EXTERNAL, BATTERY_UNKNOWN) else (self.battery - 1) / 253


@down(MAC, 0x07, size=5)
class NewChannelReq(Command):
    """Frequency 0 removes the channel."""

    channel: int = bits(0, 8)
    frequency_hz: int = hertz(8)
    min_data_rate: int = bits(32, 4)
    max_data_rate: int = bits(36, 4)


@up(MAC, 0x07, size=1)
class NewChannelAns(Command):
    frequency_ok: bool = flag(0)
    data_rates_ok: bool = flag(1)

    @property
    def ok(self) -> bool:
        return self.frequency_ok and self.data_rates_ok


@down(MAC, 0x08, size=1)
class RXTimingSetupReq(Command):
    delay: int = bits(0, 4)

    @property
    def delay_s(self) -> int:
        """Until the first receive window; 0 means 1 s."""
        return self.delay or 1


@up(MAC, 0x08)
class RXTimingSetupAns(Command):
    pass


@down(MAC, 0x09, size=1)
class TxParamSetupReq(Command):
    max_eirp: int = bits(0, 4)
    uplink_dwell_time: bool = flag(4)
    """At most 400 ms on air."""
    downlink_dwell_time: bool = flag(5)

    @property
    def max_eirp_dbm(self) -> int:
        return _MAX_EIRP_DBM[self.max_eirp]


@up(MAC, 0x09)
class TxParamSetupAns(Command):
    pass


@down(MAC, 0x0A, size=4)
class DlChannelReq(Command):
    """The first receive window of an uplink channel opens on another frequency."""

    channel: int = bits(0, 8)
    frequency_hz: int = hertz(8)


@up(MAC, 0x0A, size=1)
class DlChannelAns(Command):
    frequency_ok: bool = flag(0)
    uplink_frequency_exists: bool = flag(1)

    @property
    def ok(self) -> bool:
        return self.frequency_ok and self.uplink_frequency_exists


# 1.1, OTAA: the device uses the keys of its new session


@up(MAC, 0x0B, size=1)
class RekeyInd(Command):
    minor: int = bits(0, 4)


@down(MAC, 0x0B, size=1)
class RekeyConf(Command):
    minor: int = bits(0, 4)


@down(MAC, 0x0C, size=1)
class ADRParamSetupReq(Command):
    """ADR_ACK_LIMIT and ADR_ACK_DELAY as powers of two."""

    delay_exponent: int = bits(0, 4)
    limit_exponent: int = bits(4, 4)


@up(MAC, 0x0C)
class ADRParamSetupAns(Command):
    pass


@up(MAC, 0x0D)
class DeviceTimeReq(Command):
    pass


@down(MAC, 0x0D, size=5)
class DeviceTimeAns(Command):
    """GPS time at the end of the uplink that asked for it; see ``gps_time``."""

    gps_s: int = bits(0, 32)
    fraction_256: int = bits(32, 8)

    @property
    def gps_ms(self) -> int:
        return self.gps_s * 1000 + self.fraction_256 * 1000 // 256


@down(MAC, 0x0E, size=2)
class ForceRejoinReq(Command):
    """A rejoin request now; repeated ``max_retries`` times, with pauses of 32 s × 2^``period`` and a little more."""

    data_rate: int = bits(0, 4)
    rejoin_type: int = bits(4, 3)
    max_retries: int = bits(8, 3)
    period: int = bits(11, 3)


@down(MAC, 0x0F, size=1)
class RejoinParamSetupReq(Command):
    """A rejoin request of type 0 every 2^(``max_count`` + 4) uplinks or 2^(``max_time`` + 10) seconds."""

    max_count: int = bits(0, 4)
    max_time: int = bits(4, 4)


@up(MAC, 0x0F, size=1)
class RejoinParamSetupAns(Command):
    time_ok: bool = flag(0)


# Class B


@up(MAC, 0x10, size=1)
class PingSlotInfoReq(Command):
    """A ping slot every 2^``periodicity`` seconds."""

    periodicity: int = bits(0, 3)


@down(MAC, 0x10)
class PingSlotInfoAns(Command):
    pass


@down(MAC, 0x11, size=4)
class PingSlotChannelReq(Command):
    frequency_hz: int = hertz(0)
    data_rate: int = bits(24, 4)


@up(MAC, 0x11, size=1)
class PingSlotChannelAns(Command):
    frequency_ok: bool = flag(0)
    data_rate_ok: bool = flag(1)

    @property
    def ok(self) -> bool:
        return self.frequency_ok and self.data_rate_ok


@up(MAC, 0x12)
class BeaconTimingReq(Command):
    """Of LoRaWAN 1.0.2 and before; later devices use DeviceTimeReq."""


@down(MAC, 0x12, size=3)
class BeaconTimingAns(Command):
    """The next beacon begins ``delay`` to ``delay`` + 1 times 30 ms after the end of this frame (1.0.2 §14.5)."""

    delay: int = bits(0, 16)
    channel: int = bits(16, 8)
    """0 where beacons have one frequency."""


@down(MAC, 0x13, size=3)
class BeaconFreqReq(Command):
    """Frequency 0 goes back to the region's own."""

    frequency_hz: int = hertz(0)


@up(MAC, 0x13, size=1)
class BeaconFreqAns(Command):
    frequency_ok: bool = flag(0)


# 1.1: class A ⇄ C


@up(MAC, 0x20, size=1)
class DeviceModeInd(Command):
    device_class: int = bits(0, 8)


@down(MAC, 0x20, size=1)
class DeviceModeConf(Command):
    device_class: int = bits(0, 8)


STICKY: Final[tuple[type[Command], ...]] = (
    RXParamSetupAns, RXTimingSetupAns, DlChannelAns, PingSlotChannelAns,
)  # fmt: skip
"""Answers that a device repeats in every uplink until it gets a downlink in a class A window (TS001-1.0.4 §5, §11)."""


def parse(data: bytes, *, uplink: bool) -> Parsed:
    """What devices (``uplink``) or networks say. Never raises."""
    return MAC.parse(data, uplink=uplink)


serialise = commands.serialise


def device_time(gps_ms: int) -> DeviceTimeAns:
    """The answer to DeviceTimeReq, rounded down to 1/256 s. Raises FrameError before 1980 and after 2116."""
    if gps_ms < 0:
        raise FrameError("gps_ms", f"{gps_ms} is before the GPS epoch")
    seconds, milliseconds = divmod(gps_ms, 1000)
    return DeviceTimeAns(gps_s=seconds, fraction_256=milliseconds * 256 // 1000)
