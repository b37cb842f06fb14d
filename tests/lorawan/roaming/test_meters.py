"""What is used of agreements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quartier.lorawan.roaming.fields import RatePolicy
from quartier.lorawan.roaming.meters import Meters
from quartier.lorawan.roaming.peers import Rate
from quartier.lorawan.roaming.policy import Usage
from tests.lorawan.roaming.test_policy import EVERYTHING

AGREEMENT = replace(
    EVERYTHING, uplink_rate=Rate(3600, 3, RatePolicy.DROP), downlink_rate=Rate(1800, 2), downlinks_per_day=9
)
INFINITE = float("inf")


def test_bucket_empties_frame_by_frame_and_fills_by_the_hour_s_rate() -> None:
    meters = Meters()

    def tokens(now_s: float, device: str = "a") -> float:
        return meters.usage(AGREEMENT, device, day=1, now_s=now_s).tokens

    left = []
    for _ in range(4):
        left.append(tokens(100.0))
        meters.charge_uplink(AGREEMENT, "a", day=1, now_s=100.0, airtime_s=0.1)
    assert left == [3.0, 2.0, 1.0, 0.0]
    assert tokens(100.5) == pytest.approx(0.5)
    assert tokens(1000.0) == 3.0
    assert tokens(100.0, "another device") == 3.0


def test_budgets_are_per_agreement_and_day() -> None:
    meters = Meters()
    other = replace(EVERYTHING, id=2)
    for _ in range(3):
        meters.charge_uplink(EVERYTHING, "a", day=1, now_s=0, airtime_s=0.5)
    meters.charge_downlink(EVERYTHING, "a", day=1, now_s=0, airtime_s=0.25)
    used = Usage(
        tokens=INFINITE, airtime_s=1.5, downlink_tokens=INFINITE, downlink_airtime_s=0.25, downlinks=1
    )
    unused = Usage(tokens=INFINITE, downlink_tokens=INFINITE)
    assert meters.usage(EVERYTHING, "b", day=1, now_s=0) == used
    assert meters.usage(other, "a", day=1, now_s=0) == unused
    assert meters.usage(EVERYTHING, "a", day=2, now_s=0) == unused


def test_downlink_that_was_not_sent_is_given_back() -> None:
    meters = Meters()
    meters.charge_downlink(AGREEMENT, "a", day=1, now_s=0, airtime_s=0.25)
    meters.refund_downlink(AGREEMENT, day=1, airtime_s=0.25)
    usage = meters.usage(AGREEMENT, "a", day=1, now_s=0)
    assert (usage.downlinks, usage.downlink_airtime_s, usage.downlink_tokens) == (0, 0.0, 1.0)


def test_what_the_ledger_says_holds_after_a_restart() -> None:
    meters = Meters()
    meters.restore(1, 7, airtime_s=5.0, downlink_airtime_s=1.0, downlinks=4)
    usage = meters.usage(EVERYTHING, "a", day=7, now_s=0)
    assert (usage.airtime_s, usage.downlink_airtime_s, usage.downlinks) == (5.0, 1.0, 4)
