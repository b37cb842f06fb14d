"""What a virtual gateway remembers: which of our gateways heard the frame that is answered now."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.roaming.clock import monotonic
from quartier.lorawan.roaming.policy import Shared

ANSWERED_WITHIN_S: Final = 20.0
MOST: Final = 5000
_TOLERANCE_US: Final = 2000
_WRAP: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Uplink:
    """One frame that was handed over. ``at_us`` is when it was heard, by the virtual gateway's clock."""

    at_us: int
    at_s: float
    shared: Sequence[Shared]


class Uplinks:
    """The last frames, newest first."""

    def __init__(self) -> None:
        self._recent: deque[Uplink] = deque(maxlen=MOST)
        self._began_s = monotonic()
        self._last_us = 0

    def remember(self, shared: Sequence[Shared]) -> Uplink:
        """A frame goes to the peer's server; no two get the same time, so that an answer says which one it means."""
        heard_s = shared[0].reception.received_monotonic
        at_us = max(int((heard_s - self._began_s) * 1e6) + (1 << 24), self._last_us + 1)
        self._last_us = at_us
        made = Uplink(at_us, heard_s, shared)
        self._recent.appendleft(made)
        return made

    def answered_at(self, timestamp_us: int) -> tuple[Uplink, int] | None:
        """The frame that a transmission at ``timestamp_us`` (32 bits) answers, and its delay in whole seconds.

        A server adds the receive delay to the time of reception: a whole number of seconds (TS001 §3.3).
        """
        now_s = monotonic()
        best: tuple[int, Uplink, int] | None = None
        for uplink in self._recent:
            if now_s - uplink.at_s > ANSWERED_WITHIN_S:
                break
            delay_us = (timestamp_us - uplink.at_us) % _WRAP
            delay_s = round(delay_us / 1e6)
            error_us = abs(delay_us - delay_s * 1_000_000)
            if 1 <= delay_s <= 16 and error_us <= _TOLERANCE_US and (best is None or error_us < best[0]):
                best = (error_us, uplink, delay_s)
        return (best[1], best[2]) if best is not None else None

    def by_time(self, at_us: int) -> Uplink | None:
        """The frame with exactly this time (Basics Station's xtime comes back unchanged)."""
        now_s = monotonic()
        for uplink in self._recent:
            if now_s - uplink.at_s > ANSWERED_WITHIN_S:
                break
            if uplink.at_us == at_us:
                return uplink
        return None

    def of_device(self, dev_addr: int | None) -> Uplink | None:
        """The last frame of an address, or of any device, for what is to be sent at once (class C)."""
        wanted = dev_addr.to_bytes(4, "little") if dev_addr is not None else None
        for uplink in self._recent:
            if wanted is None or uplink.shared[0].reception.phy[1:5] == wanted:
                return uplink
        return self._recent[0] if self._recent else None
