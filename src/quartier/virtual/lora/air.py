"""What a virtual device and the radio around it hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from quartier.lorawan.frames.commands import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """A frame on the air. ``pause_s``: for how long the band's or the network's duty cycle then silences the device."""

    phy: bytes
    frequency_hz: int
    data_rate: int
    channel: int
    power_dbm: float
    airtime_s: float
    pause_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenWindow:
    """Where the device listens: ``delay_s`` after the end of its emission; None is all the time (class C)."""

    name: str
    delay_s: int | None
    frequency_hz: int
    data_rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came of a frame: ``joined``, ``data`` or ``ignored`` with the reason."""

    what: str
    reason: str = ""
    port: int | None = None
    payload: bytes = b""
    acknowledged: bool = False
    """The last confirmed uplink has arrived."""
    confirmed: bool = False
    pending: bool = False
    multicast: bool = False
    counter: int = 0
    commands: tuple[Command, ...] = ()
