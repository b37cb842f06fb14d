"""32-bit counters from 16 bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, counters


@pytest.mark.parametrize(
    ("last", "low", "newest", "replayed"),
    [
        (None, 7, 7, None),
        (0, 0, 0, None),
        (5, 6, 6, None),
        (5, 5, 5, None),
        (5, 4, 0x1_0004, 4),
        (0xFFFF, 0, 0x1_0000, 0),
        (0x1_0002, 0xFFFF, 0x1_FFFF, 0xFFFF),
        (0x1_0002, 2, 0x1_0002, 2),
        (0xFFFF_FFFE, 0xFFFF, 0xFFFF_FFFF, 0xFFFE_FFFF),
    ],
)
def test_counters_are_completed(last: int | None, low: int, newest: int, replayed: int | None) -> None:
    assert (counters.newest(last, low), counters.replayed(last, low)) == (newest, replayed)


def test_used_up_counters_are_refused() -> None:
    with pytest.raises(FrameError, match="frame_counter: the counters of this session are used up"):
        counters.newest(0xFFFF_FFFF, 0)
    with pytest.raises(FrameError, match="used up"):
        counters.newest(0x1_0000_0000, 0)


@given(st.integers(0, 0xFFFE_FFFF), st.integers(0, 0xFFFF))
def test_completed_counters_are_the_nearest(last: int, low: int) -> None:
    newest, replayed = counters.newest(last, low), counters.replayed(last, low)
    assert newest & 0xFFFF == low
    assert last <= newest < last + 0x1_0000
    if replayed is None:
        assert last < 0x1_0000
        assert low >= last
    else:
        assert replayed & 0xFFFF == low
        assert last - 0x1_0000 <= replayed < last
