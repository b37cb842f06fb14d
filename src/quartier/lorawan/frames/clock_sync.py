"""Clock synchronisation over the application layer (TS003): how devices before 1.0.3 get the time.

Versions 1.0.0 and 2.0.0 are the same on the air; they only call command 3 differently (ForceDeviceResyncReq, …Cmd).
Times are seconds of GPS time modulo 2^32.
"""

from __future__ import annotations

from typing import Final

from .commands import Command, Parsed, Vocabulary, bits, down, flag, up

CLOCK_SYNC: Final = Vocabulary()
PORT: Final = 202
"""The default FPort; a device's profile may name another one."""


@down(CLOCK_SYNC, 0x00)
class PackageVersionReq(Command):
    pass


@up(CLOCK_SYNC, 0x00, size=2)
class PackageVersionAns(Command):
    package: int = bits(0, 8)
    version: int = bits(8, 8)


@up(CLOCK_SYNC, 0x01, size=5)
class AppTimeReq(Command):
    """``answer_required``: even if the clock is right; without it the server answers only if there is a difference."""

    device_time_s: int = bits(0, 32)
    token: int = bits(32, 4)
    answer_required: bool = flag(36)


@down(CLOCK_SYNC, 0x01, size=5)
class AppTimeAns(Command):
    """What the device has to add to its clock; ``token`` is that of the request."""

    correction_s: int = bits(0, 32, signed=True)
    token: int = bits(32, 4)


@down(CLOCK_SYNC, 0x02, size=1)
class DeviceAppTimePeriodicityReq(Command):
    period: int = bits(0, 4)

    @property
    def period_s(self) -> int:
        """Between two AppTimeReq, plus or minus 30 s."""
        return int(128 << self.period)


@up(CLOCK_SYNC, 0x02, size=5)
class DeviceAppTimePeriodicityAns(Command):
    not_supported: bool = flag(0)
    device_time_s: int = bits(8, 32)


@down(CLOCK_SYNC, 0x03, size=1)
class ForceDeviceResync(Command):
    """The device sends this many AppTimeReq now."""

    transmissions: int = bits(0, 3)


def parse(data: bytes, *, uplink: bool) -> Parsed:
    """What devices (``uplink``) or the server say. Never raises."""
    return CLOCK_SYNC.parse(data, uplink=uplink)


def answer(request: AppTimeReq, received_gps_s: int) -> AppTimeAns | None:
    """The answer to a request received at this GPS time; None where the clock is right and the device wants none."""
    difference = (received_gps_s - request.device_time_s) & 0xFFFF_FFFF
    correction = difference - (1 << 32) if difference >> 31 else difference
    if not correction and not request.answer_required:
        return None
    return AppTimeAns(correction_s=correction, token=request.token)
