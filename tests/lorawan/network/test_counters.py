"""Which full counters a frame may mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.network.counters import Candidate, Meaning, backward, forward

LAST = st.integers(-1, 0xFFFF_FFFF)
LOW = st.integers(0, 0xFFFF)
NEW, GAP, AGAIN, REPLAY, RESET = (
    Meaning.NEW, Meaning.GAP, Meaning.RETRANSMISSION, Meaning.REPLAY, Meaning.RESET,
)  # fmt: skip


@pytest.mark.parametrize(
    ("last", "low", "version", "expected"),
    [
        (-1, 0, "1.0.3", (0, NEW)),
        (-1, 7, "1.0.3", (7, NEW)),
        (-1, 0xFFFF, "1.0.3", (0xFFFF, GAP)),
        (-1, 0xFFFF, "1.0.4", (0xFFFF, NEW)),
        (5, 6, "1.0.3", (6, NEW)),
        (5, 5, "1.0.4", (0x1_0005, NEW)),
        (0xFFFF, 0, "1.0.3", (0x1_0000, NEW)),
        (0x1_FFFE, 3, "1.0.3", (0x2_0003, NEW)),
        (100, 100 + 16_384, "1.0.3", (16_484, NEW)),
        (100, 100 + 16_385, "1.0.3", (16_485, GAP)),
        (100, 100 + 16_385, "1.0.4", (16_485, NEW)),
        (100, 100 + 16_385, "1.1.0", (16_485, GAP)),
        (0xFFFF_FFFF, 0, "1.0.4", None),
        (0xFFFF_FFF0, 0xFFFF, "1.0.4", (0xFFFF_FFFF, NEW)),
    ],
)
def test_forward(last: int, low: int, version: str, expected: tuple[int, Meaning] | None) -> None:
    assert forward(last, low, version) == (expected and Candidate(*expected))


@pytest.mark.parametrize(
    ("last", "low", "may_reset", "expected"),
    [
        (-1, 0, True, []),
        (5, 5, False, [(5, AGAIN)]),
        (5, 3, False, [(3, REPLAY)]),
        (5, 6, False, []),
        (0x1_0005, 0xFFFF, False, [(0xFFFF, REPLAY)]),
        (0x1_0005, 5, False, [(0x1_0005, AGAIN)]),
        (500, 0, True, [(0, RESET)]),
        (0x1_0005, 3, True, [(0x1_0003, REPLAY), (3, RESET)]),
        (0x1_0005, 5, True, [(0x1_0005, AGAIN), (5, RESET)]),
        (0, 0, True, [(0, AGAIN)]),
    ],
)
def test_backward(last: int, low: int, may_reset: bool, expected: list[tuple[int, Meaning]]) -> None:
    assert backward(last, low, may_reset=may_reset) == [Candidate(*one) for one in expected]


@given(LAST, LOW, st.sampled_from(["1.0.2", "1.0.4"]))
def test_forward_is_the_next_counter_with_these_bits(last: int, low: int, version: str) -> None:
    found = forward(last, low, version)
    if found is None:
        assert last > 0xFFFF_0000
    else:
        assert last < found.counter <= last + 0x1_0000
        assert found.counter & 0xFFFF == low


@given(LAST, LOW, st.booleans())
def test_backward_never_goes_beyond_the_last(last: int, low: int, may_reset: bool) -> None:
    for counter, meaning in backward(last, low, may_reset=may_reset):
        assert 0 <= counter <= last
        assert counter & 0xFFFF == low
        assert (meaning is AGAIN) == (counter == last)
