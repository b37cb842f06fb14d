"""Times on the air never overlap; what may move gives way to what may not."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.lorawan.gateways.slots import Slots


def test_the_next_gap_is_between_fixed_times() -> None:
    slots = Slots()
    slots.reserve(10, 1, 0)
    slots.reserve(12, 1, 0)
    assert slots.reserve(10.5, 1, 0) is None
    fits = slots.reserve_next(10.2, 0.5, 0)
    assert (fits.start, fits.end) == (11.01, 11.51)
    assert slots.reserve_next(10.2, 0.6, 0).start == 13.01
    assert slots.reserve_next(5, 0.6, 0).start == 5


def test_what_may_move_gives_way() -> None:
    slots = Slots()
    movable = slots.reserve_next(10, 1, 0)
    fixed = slots.reserve(10.5, 1, 0)
    assert fixed is not None
    assert (movable.held, fixed.held, len(slots)) == (False, True, 1)
    handed_over = slots.reserve_next(0, 1, 0)
    handed_over.movable = False
    assert slots.reserve(0.5, 1, 0) is None


def test_the_past_is_forgotten() -> None:
    slots = Slots()
    first = slots.reserve(10, 1, 0)
    assert first is not None
    slots.release(first)
    slots.release(first)
    slots.reserve(10, 1, 0)
    slots.reserve(20, 1, 12)
    assert len(slots) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 50), st.floats(0.02, 3)), max_size=40))
def test_nothing_overlaps(wanted: list[tuple[bool, float, float]]) -> None:
    slots = Slots()
    all_slots = [
        slots.reserve(start, length, 0) if fixed else slots.reserve_next(start, length, 0)
        for fixed, start, length in wanted
    ]
    held = sorted((one.start, one.end) for one in all_slots if one is not None and one.held)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(held))
    assert len(held) == len(slots)
