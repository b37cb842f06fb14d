"""Contents of messages: the payload of a transmission, damaged or not, and identifiers for everything.

Identifiers look like UUIDs and are hashes of what they name. Those of packets and readings also carry their position
in time (a UUID of version 8, RFC 9562 §5.8), so that paging can go on after any of them without a memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from .noise import mix
from .readings import payload_at
from .schedule import Order, Transmission
from .world import Device, World

READING_DELAY_US = 84_000  # an ELEMENT server needs about so long from the packet to the parsed reading
MAX_DELAY_US = (1 << 32) - 1


def payload_of(world: World, transmission: Transmission) -> bytes:
    """The payload as it arrived."""
    payload = payload_at(world, transmission.device, transmission.virtual_s)
    if transmission.damage in ("truncated", "garbled"):
        return payload[: len(payload) // 2]
    if transmission.damage == "absurd":
        # Keep what identifies the frame, fill the values with ones: 655.35 °C, 65 m of water.
        head = 5 if transmission.device.type.startswith("decentlab") else 1
        return payload[:head] + b"\xff" * (len(payload) - head)
    return payload


def reported_time(transmission: Transmission) -> datetime:
    """The time a message claims; a gateway without GPS and NTP believes it is 1970."""
    if transmission.damage == "epoch":
        return datetime.fromtimestamp(transmission.sent_us % 1_000_000_000 / 1e6, UTC)
    return from_us(transmission.sent_us)


def from_us(time_us: int) -> datetime:
    """A UTC datetime from microseconds, without the rounding of floating point."""
    seconds, micro = divmod(time_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micro)


def iso(moment: datetime) -> str:
    """ISO 8601 of a UTC datetime with six decimals and Z."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _dashed(bits: int) -> str:
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid_of(*keys: int) -> str:
    """A random-looking UUID (version 4 in form) that belongs to the keys."""
    bits = (mix(*keys, 1) << 64) | mix(*keys, 2)
    bits = bits & ~(0xF << 76) | (4 << 76)
    return _dashed(bits & ~(0b11 << 62) | (0b10 << 62))


def secret_of(*keys: int) -> str:
    """An invented 128-bit key in upper-case hex, as an ELEMENT server shows it."""
    return f"{mix(*keys, 3):016X}{mix(*keys, 4):016X}"


@dataclass(frozen=True, slots=True)
class Position:
    """What the identifier of a packet or reading tells."""

    device_index: int
    sent_us: int
    arrived_us: int
    copy: int
    reading: bool

    def key(self, order: Order) -> tuple[int, int, int]:
        """The same as ``Transmission.key``."""
        return (self.sent_us if order == "sent" else self.arrived_us, self.device_index, self.copy)


def _check(seed: int, high: int, low: int) -> int:
    return mix(seed, 501, high, low) & 0x3_FFFF


def message_id(seed: int, transmission: Transmission, *, reading: bool) -> str:
    """The identifier of a packet, or of the reading made from it."""
    milli, micro = divmod(transmission.sent_us, 1000)
    delay_us = min(MAX_DELAY_US, transmission.arrived_us - transmission.sent_us)
    high = milli << 16 | 8 << 12 | transmission.device.index
    # From above: reading, copy, microseconds, delay, check; the two variant bits come on top.
    low = int(reading) << 61 | transmission.copy << 60 | micro << 50 | delay_us << 18
    return _dashed(high << 64 | 0b10 << 62 | low | _check(seed, high, low))


def position_of(seed: int, identifier: str) -> Position | None:
    """The position an identifier tells, or None if it is not one of ours."""
    try:
        bits = int(identifier.replace("-", ""), 16)
    except ValueError:
        return None
    if len(identifier) != 36 or bits >> 128:
        return None
    high, low = bits >> 64, bits & ((1 << 62) - 1)
    if high >> 12 & 0xF != 8 or low & 0x3_FFFF != _check(seed, high, low & ~0x3_FFFF):
        return None
    sent_us = (high >> 16) * 1000 + (low >> 50 & 0x3FF)
    return Position(
        device_index=high & 0xFFF,
        sent_us=sent_us,
        arrived_us=sent_us + (low >> 18 & 0xFFFF_FFFF),
        copy=low >> 60 & 1,
        reading=bool(low >> 61 & 1),
    )


def device_id(world: World, device: Device) -> str:
    """The identifier a network server gives a device."""
    return uuid_of(world.seed, 502, device.index)
