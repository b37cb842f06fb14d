"""Token buckets per gateway and per source address, in bounded memory.

GWMP authenticates nobody and source addresses can be forged, so the table of addresses forgets the one that was quiet
the longest instead of growing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_MOST_SOURCES: Final = 4096


class Bucket:
    """So many a second on average, with bursts."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Whether there is room for ``amount`` at the monotonic time ``now``."""
        tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s) if self._at else self._burst
        self._at = now
        if tokens < amount:
            self._tokens = tokens
            return False
        self._tokens = tokens - amount
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """Datagrams, messages and log lines a second; bursts may be twice as many.

    A gateway with eight demodulators hears at most about 160 frames a second. Strangers share nothing with a gateway
    that happens to be behind the same address.
    """

    gateway_per_s: float = 300
    source_per_s: float = 8000
    stranger_per_s: float = 20
    refusals_told_per_s: float = 20


class Sources:
    """A bucket for each of the addresses heard lately."""

    __slots__ = ("_buckets", "_per_s")

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, host: str, now: float) -> bool:
        """Whether ``host`` may say one more thing."""
        bucket = self._buckets.get(host)
        if bucket is None:
            if len(self._buckets) >= _MOST_SOURCES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[host] = Bucket(self._per_s, 2 * self._per_s)
        else:
            self._buckets.move_to_end(host)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)
