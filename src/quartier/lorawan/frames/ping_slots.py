"""When a device of class B listens: beacons, and the ping slots between them (TS001-1.0.4 §12, LoRaWAN 1.1 §13).

All times are milliseconds of GPS time. TBeaconDelay (1.5 ms, §13.5) is what a concentrator needs to begin to send; it
is the same for beacons and for frames in ping slots, and finer than gateways can be told, so it is not added.
"""

from __future__ import annotations

from typing import Final

from .crypto import KEY_SIZE, aes_encrypt
from .errors import check_range

BEACON_PERIOD_MS: Final = 128_000
RESERVED_MS: Final = 2_120
"""After the start of a beacon nothing else is sent for so long (BEACON_RESERVED)."""
GUARD_MS: Final = 3_000
"""Before a beacon no ping slot begins for so long (BEACON_GUARD): the longest frame has to end in time."""
SLOT_MS: Final = 30
SLOTS: Final = 4096
RAREST: Final = 7
"""The periodicity with one slot in a beacon period. A device with any other periodicity listens then as well."""

_KEY: Final = bytes(KEY_SIZE)


def count(periodicity: int) -> int:
    """How many ping slots a device opens in a beacon period (pingNb). Raises FrameError."""
    return 1 << (RAREST - check_range("periodicity", periodicity, 0, RAREST))


def period(periodicity: int) -> int:
    """Slots of 30 ms from one ping slot to the next (pingPeriod). Raises FrameError."""
    return SLOTS // count(periodicity)


def beacon_ms(gps_ms: int) -> int:
    """When the beacon period began in which a moment lies."""
    return gps_ms - gps_ms % BEACON_PERIOD_MS


def until_beacon_ms(gps_ms: int) -> int:
    """From a moment to the next beacon; a whole period at the start of one."""
    return BEACON_PERIOD_MS - gps_ms % BEACON_PERIOD_MS


def offset(beacon_at_ms: int, dev_addr: int, periodicity: int) -> int:
    """The number of the first ping slot after a beacon (pingOffset), which is another one after each (§12.2)."""
    time = beacon_at_ms // 1000 % (1 << 32)
    block = time.to_bytes(4, "little") + dev_addr.to_bytes(4, "little") + bytes(8)
    return int.from_bytes(aes_encrypt(_KEY, block)[:2], "little") % period(periodicity)


def next_ms(after_ms: int, dev_addr: int, periodicity: int) -> int:
    """When the first ping slot begins that lies after a moment. Raises FrameError."""
    every = period(periodicity)
    beacon = beacon_ms(after_ms)
    while True:
        first = beacon + RESERVED_MS + offset(beacon, dev_addr, periodicity) * SLOT_MS
        # How many of this beacon period's slots are over.
        number = 0 if after_ms < first else (after_ms - first) // (every * SLOT_MS) + 1
        if number < count(periodicity):
            return first + number * every * SLOT_MS
        beacon += BEACON_PERIOD_MS
