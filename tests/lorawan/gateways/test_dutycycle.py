"""The account of emissions: ETSI's hour, ceilings by priority, and a Station's own rule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.gateways.dutycycle import Account, DutyCycles

G1, G3, OUTSIDE = 868_100_000, 869_525_000, 868_650_000


@pytest.mark.parametrize(
    ("frequency_hz", "priority", "seconds"),
    [
        (G1, 0, 25.2),
        (G1, 1, 30.6),
        (G1, 2, 36),
        (G1, 9, 36),
        (G3, 0, 252),
        (G3, 2, 360),
        (863_500_000, 2, 3.6),
    ],
)
def test_an_hour_holds_what_the_band_and_the_priority_allow(
    frequency_hz: int, priority: int, seconds: float
) -> None:
    account = Account(EU868)
    account.book(frequency_hz, seconds - 1, 0)
    assert account.fits(frequency_hz, 0.999, 10, priority)
    assert not account.fits(frequency_hz, 1.001, 10, priority)


def test_bands_are_counted_apart_and_forgotten_after_an_hour() -> None:
    account = Account(EU868)
    account.book(G1, 36, 100)
    assert not account.fits(G1, 0.1, 200, 2)
    assert account.fits(G3, 0.1, 200, 2)
    assert not account.fits(G1, 0.1, 100 + 36 + 3599, 2)
    assert account.fits(G1, 36, 100 + 36 + 3601, 2)


def test_what_was_not_sent_is_given_back() -> None:
    account = Account(EU868)
    booking = account.book(G1, 36, 0)
    account.release(booking)
    account.release(booking)
    assert account.fits(G1, 36, 1, 2)


def test_nothing_fits_outside_of_the_bands() -> None:
    account = Account(EU868)
    assert not account.fits(OUTSIDE, 0.01, 0, 2)
    with pytest.raises(ValueError, match="868650000 Hz is in no sub-band of EU868"):
        account.book(OUTSIDE, 0.01, 0)


def test_a_station_closes_its_band_after_each_emission() -> None:
    account = Account(EU868, blocking=True)
    account.book(G1, 0.05, 100)
    # 1 %: 100 times the airtime. The neighbouring frequency is in the same band, 869.525 MHz in another.
    assert not account.fits(868_300_000, 0.05, 104.9)
    assert account.fits(868_300_000, 0.05, 105.1)
    assert account.fits(G3, 0.05, 101)
    # An emission before the booked one would close the band for it.
    assert not account.fits(G1, 0.05, 99)
    assert account.fits(G1, 0.05, 94)


def test_a_station_counts_all_below_868_as_one_band_of_a_thousandth() -> None:
    account = Account(EU868, blocking=True)
    account.book(867_100_000, 0.05, 0)
    assert not account.fits(864_000_000, 0.05, 49)
    assert account.fits(864_000_000, 0.05, 51)


def test_used_is_the_share_of_the_allowance() -> None:
    cycles = DutyCycles(EU868)
    assert cycles.used(bytes(8), 0) == {}
    cycles.account(bytes(8), blocking=False).book(G1, 9, 0)
    used = cycles.used(bytes(8), 10)
    assert used[EU868.sub_bands[2].name] == 0.25
    assert sum(used.values()) == 0.25
    assert cycles.account(bytes(8), blocking=True).blocking


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 7200), st.floats(0.02, 3), st.integers(0, 3)), max_size=120))
def test_no_hour_is_ever_overdrawn(wanted: list[tuple[float, float, int]]) -> None:
    account = Account(EU868)
    sent: list[tuple[float, float]] = []
    for start, airtime_s, priority in sorted(wanted):
        if account.fits(G1, airtime_s, start, priority):
            account.book(G1, airtime_s, start)
            sent.append((start, airtime_s))
    for start, airtime_s in sent:
        end = start + airtime_s
        within = sum(air for begin, air in sent if end - 3600 <= begin and begin + air <= end)
        assert within <= 36 + 1e-6
