"""Adaptive data rate: tables of history, setting and what follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.network.adr import HISTORY, Setting, decide, remember


def history(snr_db: float, n: int = HISTORY, *, step: int = 1) -> bytes:
    made = b""
    for number in range(n):
        made = remember(made, number * step, snr_db)
    return made


@pytest.mark.parametrize(
    ("heard", "now", "expected"),
    [
        # SNR 5 at SF12: 5 + 20 - 10 = 15 dB to spend, five steps of 3 dB.
        (history(5.0), Setting(0, 0, 1), Setting(5, 0, 1)),
        # 8 + 20 - 10 = 18 dB: five steps of data rate, one of power.
        (history(8.0), Setting(0, 0, 1), Setting(5, 1, 1)),
        # With few uplinks 2.5 dB are kept, and power is not touched.
        (history(8.0, 5), Setting(0, 0, 1), Setting(5, 0, 1)),
        (history(5.0, 1), Setting(0, 0, 1), Setting(4, 0, 1)),
        # At the floor nothing is left, and power goes up again.
        (history(-7.5), Setting(5, 3, 1), Setting(5, 0, 1)),
        (history(0.0), Setting(5, 2, 1), Setting(5, 1, 1)),
        (history(-20.0), Setting(0, 0, 1), Setting(0, 0, 1)),
        # Every second frame lost: repeated up to three times, step by step.
        (history(-20.0, step=2), Setting(0, 0, 1), Setting(0, 0, 3)),
        (history(2.5), Setting(5, 0, 3), Setting(5, 0, 2)),
        (b"", Setting(3, 2, 2), Setting(3, 2, 2)),
    ],
)
def test_decisions(heard: bytes, now: Setting, expected: Setting) -> None:
    assert decide(heard, now, margin_db=10, fastest=5, weakest=7) == expected


def test_what_a_device_refused_is_the_limit() -> None:
    assert decide(history(30.0), Setting(0, 0, 1), margin_db=10, fastest=3, weakest=2) == Setting(3, 2, 1)


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.floats(-60, 60)), max_size=40),
    st.integers(0, 7),
    st.integers(0, 7),
    st.integers(1, 15),
)
def test_any_history_gives_something_that_can_be_asked_for(
    entries: list[tuple[int, float]], data_rate: int, power: int, repetitions: int
) -> None:
    heard = b""
    for counter, snr_db in entries:
        heard = remember(heard, counter, snr_db)
    assert len(heard) <= 4 * HISTORY
    found = decide(heard, Setting(data_rate, power, repetitions), margin_db=10, fastest=5, weakest=7)
    assert found.data_rate in range(8)
    assert found.power in range(8)
    assert found.data_rate >= data_rate, "a slower data rate is the device's own choice"
