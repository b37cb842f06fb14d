"""How often a token may ask: a bucket that holds a minute's worth of requests and fills steadily."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import Final

from quartier.sources.api.answers import ApiError

REQUESTS_PER_MINUTE: Final = 120
_AT_MOST: Final = 50_000


class RateLimit:
    """Buckets by key; the least recently used are forgotten (a forgotten bucket is a full one)."""

    def __init__(self, per_minute: int = REQUESTS_PER_MINUTE) -> None:
        self._capacity = float(per_minute)
        self._per_s = per_minute / 60
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, key: int, *, now_s: float | None = None) -> None:
        """Take one request from the bucket of ``key``. Raises ApiError 429 with Retry-After."""
        now_s = time.monotonic() if now_s is None else now_s
        level, at_s = self._buckets.get(key, (self._capacity, now_s))
        level = min(self._capacity, level + (now_s - at_s) * self._per_s)
        if level < 1:
            self._buckets[key] = (level, now_s)
            wait_s = math.ceil((1 - level) / self._per_s)
            raise ApiError(
                429,
                "too_many_requests",
                f"at most {self._capacity:g} requests per minute; send several readings in one message",
                field="token",
                headers={"Retry-After": str(max(1, wait_s))},
            )
        self._buckets[key] = (level - 1, now_s)
        self._buckets.move_to_end(key)
        while len(self._buckets) > _AT_MOST:
            self._buckets.popitem(last=False)
