"""What is used of agreements: a token bucket per device, and airtime and frames per day.

Kept in memory by the one process that carries frames; the day's sums are taken from the ledger when it starts, so that
a restart gives nobody a second budget.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from quartier.lorawan.roaming.peers import Agreement, Rate
from quartier.lorawan.roaming.policy import Usage

MAX_BUCKETS: Final = 200_000


@dataclass(slots=True)
class _Day:
    day: int = -1
    airtime_s: float = 0.0
    downlink_airtime_s: float = 0.0
    downlinks: int = 0


@dataclass(slots=True)
class Meters:
    """Used up, per agreement and device. ``now_s`` is monotonic, ``day`` as ``policy.day_of`` counts."""

    _days: dict[int, _Day] = field(default_factory=dict)
    _buckets: OrderedDict[Hashable, tuple[float, float]] = field(default_factory=OrderedDict)

    def restore(
        self, agreement: int, day: int, *, airtime_s: float, downlink_airtime_s: float, downlinks: int
    ) -> None:
        """Take over what the ledger says was used on ``day``."""
        self._days[agreement] = _Day(day, airtime_s, downlink_airtime_s, downlinks)

    def usage(self, agreement: Agreement, device: Hashable, *, day: int, now_s: float) -> Usage:
        """What is used and left for a frame of ``device`` now."""
        used = self._day(agreement.id, day)
        return Usage(
            tokens=self._tokens(agreement.uplink_rate, ("up", agreement.id, device), now_s),
            airtime_s=used.airtime_s,
            downlink_tokens=self._tokens(agreement.downlink_rate, ("down", agreement.id, device), now_s),
            downlink_airtime_s=used.downlink_airtime_s,
            downlinks=used.downlinks,
        )

    def charge_uplink(
        self, agreement: Agreement, device: Hashable, *, day: int, now_s: float, airtime_s: float
    ) -> None:
        """Count an uplink that is carried."""
        self._day(agreement.id, day).airtime_s += airtime_s
        self._take(agreement.uplink_rate, ("up", agreement.id, device), now_s)

    def charge_downlink(
        self, agreement: Agreement, device: Hashable, *, day: int, now_s: float, airtime_s: float
    ) -> None:
        """Count a downlink, before it is sent: a budget that is checked by many at once must not be overdrawn."""
        used = self._day(agreement.id, day)
        used.downlink_airtime_s += airtime_s
        used.downlinks += 1
        self._take(agreement.downlink_rate, ("down", agreement.id, device), now_s)

    def refund_downlink(self, agreement: Agreement, *, day: int, airtime_s: float) -> None:
        """It was not sent after all; the rate stays charged, because asking costs, too."""
        used = self._day(agreement.id, day)
        used.downlink_airtime_s = max(0.0, used.downlink_airtime_s - airtime_s)
        used.downlinks = max(0, used.downlinks - 1)

    def _day(self, agreement: int, day: int) -> _Day:
        used = self._days.get(agreement)
        if used is None or used.day != day:
            used = self._days[agreement] = _Day(day)
        return used

    def _tokens(self, rate: Rate | None, key: Hashable, now_s: float) -> float:
        if rate is None:
            return float("inf")
        tokens, at_s = self._buckets.get(key, (float(rate.bucket), now_s))
        return min(float(rate.bucket), tokens + (now_s - at_s) * rate.per_hour / 3600)

    def _take(self, rate: Rate | None, key: Hashable, now_s: float) -> None:
        if rate is None:
            return
        self._buckets[key] = (max(0.0, self._tokens(rate, key, now_s) - 1), now_s)
        self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
