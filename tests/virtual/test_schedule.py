"""When devices send, and what becomes of their frames."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.virtual.messages import message_id, payload_of, position_of, reported_time
from quartier.virtual.readings import payload_at
from quartier.virtual.schedule import Clock, Faults, Order, Transmission
from tests.virtual.conftest import START_S, Hand, schedule

START_US = int(START_S * 1e6)
HOUR_US = 3_600_000_000
MANY = Faults(lost=0.05, doubled=0.05, late=0.05, broken=0.05)
orders: st.SearchStrategy[Order] = st.sampled_from(("sent", "arrived"))


def test_clock_runs_faster_only_after_the_start() -> None:
    clock = Clock(1000.0, 60.0, lambda: 1010.0)
    assert [clock.virtual_s(real_s) for real_s in (900.0, 1000.0, 1010.0)] == [900.0, 1000.0, 1600.0]
    assert [clock.real_s(virtual_s) for virtual_s in (900.0, 1000.0, 1600.0)] == [900.0, 1000.0, 1010.0]
    assert clock.now_us() == 1_010_000_000


def test_clock_refuses_to_stand_still() -> None:
    with pytest.raises(ValueError, match="speed must be positive"):
        Clock(0.0, 0.0)


@given(
    cuts=st.lists(st.integers(START_US - HOUR_US, START_US + HOUR_US), min_size=1, max_size=6).map(sorted),
    order=orders,
    speed=st.sampled_from([1.0, 60.0]),
)
def test_windows_fit_together_without_loss_or_repetition(cuts: list[int], order: Order, speed: float) -> None:
    plan = schedule("chirpstack", speed=speed, faults=MANY)
    low, high = START_US - HOUR_US, START_US + (HOUR_US if speed == 1.0 else HOUR_US // 60)
    edges = [low, *(min(cut, high) for cut in cuts), high]
    pieces: list[Transmission] = []
    for since_us, until_us in itertools.pairwise(edges):
        pieces.extend(plan.window(since_us, until_us, order))
    assert pieces == plan.window(low, high, order)
    assert pieces == sorted(pieces, key=lambda item: item.key(order))


def test_order_by_arrival_holds_the_same_messages() -> None:
    plan = schedule("chirpstack", faults=MANY, history_s=4 * 3600)
    begin, end = plan.begin_us, START_US + 3 * HOUR_US
    sent = {item for item in plan.window(begin, end, "sent") if item.arrived_us < end}
    assert sent == set(plan.window(begin, end, "arrived"))


def test_device_sends_at_its_interval_and_counts_on() -> None:
    plan = schedule("element", faults=Faults.none())
    for device in plan.devices[::17]:
        items = plan.window(START_US - 5 * HOUR_US, START_US, "sent", [device])
        gaps_s = [(b.sent_us - a.sent_us) / 1e6 for a, b in itertools.pairwise(items)]
        assert all(
            abs(gap_s - device.expected_interval_s) <= 0.011 * device.expected_interval_s for gap_s in gaps_s
        )
        counts = [item.frame_count for item in items]
        assert counts == list(range(counts[0], counts[0] + len(items)))
        assert len(items) == pytest.approx(5 * 3600 / device.expected_interval_s, abs=1)


def test_sends_are_spread_evenly() -> None:
    plan = schedule("element", faults=Faults.none())
    per_10_s = Counter(
        item.sent_us // 10_000_000 for item in plan.window(START_US - HOUR_US, START_US, "sent")
    )
    mean = sum(per_10_s.values()) / 360
    assert len(per_10_s) == pytest.approx(360, abs=2)
    assert max(per_10_s.values()) < 3 * mean


def test_speed_makes_devices_send_more_often_with_real_times() -> None:
    slow = schedule("element", speed=1.0, faults=Faults.none())
    fast = schedule("element", speed=60.0, faults=Faults.none())
    one_minute = fast.window(START_US, START_US + 60_000_000, "sent")
    one_hour = slow.window(START_US, START_US + HOUR_US, "sent")
    assert [item.frame_count for item in one_minute] == [item.frame_count for item in one_hour]
    assert [item.virtual_s for item in one_minute] == [item.virtual_s for item in one_hour]
    assert all(item.sent_us < START_US + 60_000_000 for item in one_minute)
    # Before the start nothing differs.
    assert fast.window(START_US - HOUR_US, START_US, "sent") == slow.window(
        START_US - HOUR_US, START_US, "sent"
    )


def test_fates_come_at_the_configured_rates() -> None:
    plan = schedule(
        "element", faults=Faults(lost=0.02, doubled=0.01, late=0.01, broken=0.01), history_s=86400 * 2
    )
    clean = schedule("element", faults=Faults.none(), history_s=86400 * 2)
    items = plan.window(plan.begin_us, START_US, "sent")
    whole = clean.window(plan.begin_us, START_US, "sent")
    total = len(whole)
    arrived = {(item.device.index, item.frame_count) for item in items}
    assert (total - len(arrived)) / total == pytest.approx(0.02, abs=0.003)
    assert sum(item.copy for item in items) / total == pytest.approx(0.01, abs=0.003)
    delays_s = [(item.arrived_us - item.sent_us) / 1e6 for item in items if item.copy == 0]
    late_s = [delay_s for delay_s in delays_s if delay_s > 1.0]
    assert len(late_s) / total == pytest.approx(0.01, abs=0.003)
    assert min(late_s) >= 120.0
    assert max(late_s) <= 3600.0
    damaged = Counter(item.damage for item in items if item.damage)
    assert sum(damaged.values()) / total == pytest.approx(0.01, abs=0.003)
    assert set(damaged) == {"truncated", "absurd", "epoch", "garbled"}


def test_no_faults_means_none() -> None:
    items = schedule("chirpstack", faults=Faults.none()).window(START_US - HOUR_US, START_US, "sent")
    assert all(
        item.copy == 0 and item.damage is None and item.arrived_us - item.sent_us < 100_000 for item in items
    )


def test_doubled_frame_is_the_same_frame_again() -> None:
    plan = schedule("chirpstack", faults=Faults(lost=0, doubled=0.3, late=0, broken=0))
    items = plan.window(START_US - HOUR_US, START_US, "sent")
    second = next(item for item in items if item.copy == 1)
    first = next(
        item
        for item in items
        if (item.device, item.frame_count, item.copy) == (second.device, second.frame_count, 0)
    )
    assert (first.sent_us, payload_of(plan.world, first)) == (second.sent_us, payload_of(plan.world, second))
    assert second.arrived_us > first.arrived_us


def test_silent_device_fell_silent_two_days_ago() -> None:
    plan = schedule("element", history_s=3 * 86400, faults=Faults.none())
    silent = next(device for device in plan.devices if device.fault == "silent")
    items = plan.window(plan.begin_us, START_US + HOUR_US, "sent", [silent])
    assert 1.8 * 86400 < START_S - items[-1].sent_us / 1e6 < 2.0 * 86400
    assert plan.last_sent(silent, START_US) == items[-1]


def test_last_sent_is_the_newest_that_has_arrived() -> None:
    plan = schedule("element", faults=MANY, speed=60.0)
    before_us = START_US + 77_000_000
    for device in plan.devices[::11]:
        if device.fault == "silent":
            continue
        candidates = [
            item
            for item in plan.window(START_US - 4 * HOUR_US, before_us, "sent", [device])
            if item.arrived_us <= before_us and item.damage is None
        ]
        assert plan.last_sent(device, before_us) == candidates[-1]


def test_damaged_payloads_and_times() -> None:
    plan = schedule("element", faults=Faults(lost=0, doubled=0, late=0, broken=0.2))
    by_damage = {item.damage: item for item in plan.window(START_US - HOUR_US, START_US, "sent")}
    for damage, item in by_damage.items():
        whole = payload_at(plan.world, item.device, item.virtual_s)
        sent = payload_of(plan.world, item)
        if damage in ("truncated", "garbled"):
            assert sent == whole[: len(whole) // 2]
        elif damage == "absurd":
            assert sent != whole
            assert len(sent) == len(whole)
        else:
            assert sent == whole
        assert (reported_time(item).year == 1970) is (damage == "epoch")


@given(data=st.data())
def test_message_id_tells_its_position(data: st.DataObject) -> None:
    plan = schedule("element", faults=MANY)
    item = data.draw(st.sampled_from(plan.window(START_US - HOUR_US, START_US, "sent")))
    for reading in (False, True):
        position = position_of(1, message_id(1, item, reading=reading))
        assert position is not None
        assert (position.key("sent"), position.key("arrived")) == (item.key("sent"), item.key("arrived"))
        assert position.reading is reading


def test_message_ids_sort_by_time_and_are_unique() -> None:
    items = schedule("element", faults=MANY).window(START_US - HOUR_US, START_US, "sent")
    identifiers = [message_id(1, item, reading=reading) for item in items for reading in (False, True)]
    assert len(set(identifiers)) == len(identifiers)
    milliseconds = [int(identifier.replace("-", "")[:12], 16) for identifier in identifiers]
    assert milliseconds == sorted(milliseconds)


@pytest.mark.parametrize(
    "identifier",
    ["", "x", "56f267dc-c23b-41c3-a6ed-68dc5719c2fe", "01a2055e-2dd6-8031-83cc-0003e40f7eaf" * 2, "-" * 36],
)
def test_message_id_of_somebody_else(identifier: str) -> None:
    assert position_of(1, identifier) is None


def test_message_id_of_another_world() -> None:
    item = schedule("element").window(START_US - HOUR_US, START_US, "sent")[0]
    assert position_of(2, message_id(1, item, reading=False)) is None


def test_clock_hand_moves_the_present() -> None:
    hand = Hand(START_S)
    plan = schedule("element", hand=hand)
    assert plan.clock.now_us() == START_US
    hand.now_s += 5
    assert plan.clock.now_us() == START_US + 5_000_000
