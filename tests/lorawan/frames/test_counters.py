"""32-bit counters from 16 bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, counters


@pytest.mark.parametrize(
    ("last", "low", "newest"),
    [
        (None, 7, 7),
        (0, 0, 0),
        (5, 6, 6),
        (5, 5, 5),
        (5, 4, 0x1_0004),
        (0xFFFF, 0, 0x1_0000),
        (0x1_0002, 0xFFFF, 0x1_FFFF),
        (0x1_0002, 2, 0x1_0002),
        (0xFFFF_FFFE, 0xFFFF, 0xFFFF_FFFF),
    ],
)
def test_counters_are_completed(last: int | None, low: int, newest: int) -> None:
    assert counters.newest(last, low) == newest


@pytest.mark.parametrize("last", [0xFFFF_FFFF, 0x1_0000_0000])
def test_used_up_counters_are_refused(last: int) -> None:
    with pytest.raises(FrameError, match="frame_counter: the counters of this session are used up"):
        counters.newest(last, 0)


@given(st.integers(0, 0xFFFE_FFFF), st.integers(0, 0xFFFF))
def test_completed_counters_are_the_nearest(last: int, low: int) -> None:
    newest = counters.newest(last, low)
    assert newest & 0xFFFF == low
    assert last <= newest < last + 0x1_0000
