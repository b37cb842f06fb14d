"""Ping slots against the answers of ChirpStack and The Things Stack, and as a whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, ping_slots

ADDRESSES = st.integers(0, 0xFFFF_FFFF)
PERIODICITIES = st.integers(0, ping_slots.RAREST)
MOMENTS = st.integers(0, 2_000_000_000_000)


@pytest.mark.parametrize(
    ("after_ms", "periodicity", "at_ms"),
    [(0, 7, 74_300), (120_000, 7, 185_620), (0, 6, 12_860), (13_000, 6, 74_300), (124_000, 0, 124_220)],
)
def test_next_slots_of_chirpstack(after_ms: int, periodicity: int, at_ms: int) -> None:
    # chirpstack/src/downlink/classb.rs, test_get_next_ping_slot_after: DevAddr 00000000.
    assert ping_slots.next_ms(after_ms, 0, periodicity) == at_ms


@pytest.mark.parametrize(
    ("beacon_s", "dev_addr", "periodicity", "offset"), [(0, 0, 0, 6), (0xFF42, 0x0042_00FF, 7, 3994)]
)
def test_offsets_of_the_things_stack(beacon_s: int, dev_addr: int, periodicity: int, offset: int) -> None:
    # lorawan-stack/pkg/crypto, TestComputePingOffset.
    assert ping_slots.offset(beacon_s * 1000, dev_addr, periodicity) == offset


@given(ADDRESSES, PERIODICITIES, st.integers(0, 1 << 34))
@example(0xFFFF_FFFF, 7, (1 << 32) // 128 - 1)
def test_the_slots_of_a_beacon_period(dev_addr: int, periodicity: int, number: int) -> None:
    beacon = number * ping_slots.BEACON_PERIOD_MS
    found = [ping_slots.next_ms(beacon, dev_addr, periodicity)]
    while found[-1] < beacon + ping_slots.BEACON_PERIOD_MS:
        found.append(ping_slots.next_ms(found[-1], dev_addr, periodicity))
    within = found[:-1]
    assert len(within) == ping_slots.count(periodicity) == 2 ** (7 - periodicity)
    # Never while the beacon has the air, nor so late that a frame could run into the next one.
    assert within[0] >= beacon + ping_slots.RESERVED_MS
    assert within[-1] <= beacon + ping_slots.BEACON_PERIOD_MS - ping_slots.GUARD_MS - ping_slots.SLOT_MS
    every = ping_slots.period(periodicity) * ping_slots.SLOT_MS
    assert {later - earlier for earlier, later in pairwise(within)} <= {every}
    assert ping_slots.next_ms(beacon, dev_addr, ping_slots.RAREST) in within


@given(MOMENTS, ADDRESSES, PERIODICITIES)
def test_the_next_slot_lies_ahead_and_none_before_it(after_ms: int, dev_addr: int, periodicity: int) -> None:
    at = ping_slots.next_ms(after_ms, dev_addr, periodicity)
    assert after_ms < at <= after_ms + 2 * ping_slots.BEACON_PERIOD_MS
    assert ping_slots.next_ms(at - 1, dev_addr, periodicity) == at


def test_beacons() -> None:
    assert [ping_slots.beacon_ms(at) for at in (0, 127_999, 128_000)] == [0, 0, 128_000]
    assert [ping_slots.until_beacon_ms(at) for at in (0, 1, 127_999)] == [128_000, 127_999, 1]


@pytest.mark.parametrize("periodicity", [-1, 8])
def test_periodicities_that_do_not_exist(periodicity: int) -> None:
    with pytest.raises(FrameError, match=f"periodicity: {periodicity} is not between 0 and 7"):
        ping_slots.next_ms(0, 0, periodicity)
