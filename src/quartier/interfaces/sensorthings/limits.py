"""How often one caller may ask: a bucket that holds a minute's worth of requests and fills steadily."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import Final

from quartier.interfaces.sensorthings.answers import Refusal

_AT_MOST: Final = 50_000


class RateLimit:
    """Buckets by caller; the least recently used are forgotten (a forgotten bucket is a full one)."""

    def __init__(self, per_minute: int) -> None:
        self._capacity = float(per_minute)
        self._per_s = per_minute / 60
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, *, now_s: float | None = None) -> None:
        """Take one request from the bucket of ``caller``. Raises Refusal 429 with Retry-After."""
        if not self._capacity:
            return
        now_s = time.monotonic() if now_s is None else now_s
        level, at_s = self._buckets.get(caller, (self._capacity, now_s))
        level = min(self._capacity, level + (now_s - at_s) * self._per_s)
        if level < 1:
            self._buckets[caller] = (level, now_s)
            wait_s = max(1, math.ceil((1 - level) / self._per_s))
            raise Refusal(
                429,
                f"at most {self._capacity:g} requests per minute; wait {wait_s} s, or ask for more in one request"
                " ($expand, $top)",
                {"retry-after": str(wait_s)},
            )
        self._buckets[caller] = (level - 1, now_s)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > _AT_MOST:
            self._buckets.popitem(last=False)
