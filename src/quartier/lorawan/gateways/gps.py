"""What a gateway lets know of its GPS time: ping slots and beacons need one that is right to the millisecond.

Gateways do not say that they have GPS time, but it comes with the frames that they hear. So a gateway that was silent
for an hour, or whose last frame came without, counts as one that has none.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Final

from quartier.lorawan.frames.gps_time import gps_ms

_HOLDS_S: Final = 3600.0
_FURTHEST_MS: Final = 5000
"""What differs more from our own clock is no GPS time, or ours is no clock to plan by."""
_SAMPLES: Final = 8


class GpsClock:
    """One gateway's. ``now`` is monotonic time in seconds."""

    def __init__(self) -> None:
        self.told: bool | None = None
        """Whether it had GPS time when it was last heard of; None where it has not been heard of."""
        self.why_not = "it has not told GPS time yet"
        self._told_at = 0.0
        # When frames came, and GPS time less that, in seconds; what came late makes it smaller.
        self._ahead_s: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)

    def tell(self, gps_time_ms: int | None, now: float) -> None:
        """A frame came now, and with it when it was heard (None: the gateway does not know)."""
        if gps_time_ms is None:
            self.lost("its last frame came without GPS time")
            return
        off_ms = gps_time_ms - gps_ms(datetime.now(UTC))
        if abs(off_ms) > _FURTHEST_MS:
            self.lost(f"its GPS time differs by {off_ms / 1000:.0f} s from ours")
            return
        self.told, self._told_at = True, now
        self._ahead_s.append((now, gps_time_ms / 1000 - now))

    def tell_position(self, now: float) -> None:
        """It reports where it is. Some only say what was entered, so what frames have told counts more."""
        if self.told is not False:
            self.told, self._told_at = True, now

    def lost(self, why: str) -> None:
        """It has none, until a frame comes with it."""
        self.told, self.why_not = False, why
        self._ahead_s.clear()

    def holds(self, now: float) -> bool:
        """Whether something can be sent at a GPS time."""
        if self.told and now - self._told_at > _HOLDS_S:
            self.told, self.why_not = None, "it has not told GPS time for an hour"
        return bool(self.told)

    def due(self, gps_time_ms: int, now: float) -> float:
        """When that is in monotonic time, as frames of this gateway arrive, so that all its emissions compare."""
        known = [ahead_s for at, ahead_s in self._ahead_s if now - at < _HOLDS_S]
        if known:
            return gps_time_ms / 1000 - max(known)
        return now + (gps_time_ms - gps_ms(datetime.now(UTC))) / 1000
