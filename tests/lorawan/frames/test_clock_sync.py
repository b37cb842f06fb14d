"""Clock synchronisation against the bytes of ChirpStack's tests (``lrwn/src/applayer/clocksync``), and GPS time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import clock_sync, gps_time
from quartier.lorawan.frames.commands import Command, Parsed


@pytest.mark.parametrize(
    ("text", "uplink", "command"),
    [
        ("00", False, clock_sync.PackageVersionReq()),
        ("000101", True, clock_sync.PackageVersionAns(package=1, version=1)),
        ("01000400001f", True, clock_sync.AppTimeReq(device_time_s=1024, token=15, answer_required=True)),
        ("01000400000f", False, clock_sync.AppTimeAns(correction_s=1024, token=15)),
        ("01feffffff03", False, clock_sync.AppTimeAns(correction_s=-2, token=3)),
        ("020f", False, clock_sync.DeviceAppTimePeriodicityReq(period=15)),
        (
            "020100040000",
            True,
            clock_sync.DeviceAppTimePeriodicityAns(not_supported=True, device_time_s=1024),
        ),
        ("0307", False, clock_sync.ForceDeviceResync(transmissions=7)),
    ],
)
def test_commands(text: str, uplink: bool, command: Command) -> None:
    assert clock_sync.parse(bytes.fromhex(text), uplink=uplink) == Parsed((command,), b"")
    assert command.serialise().hex() == text


def _ask(device_time_s: int, *, answer_required: bool = False) -> clock_sync.AppTimeReq:
    return clock_sync.AppTimeReq(device_time_s=device_time_s, token=5, answer_required=answer_required)


@pytest.mark.parametrize(
    ("device_s", "received_s", "correction_s"),
    [
        (1000, 1300, 300),
        (1300, 1000, -300),
        (0xFFFF_FFFF, 1, 2),
        (1, 0xFFFF_FFFF, -2),
        (5, (1 << 32) + 9, 4),
        (0, 0x7FFF_FFFF, 0x7FFF_FFFF),
        (0, 0x8000_0000, -0x8000_0000),
    ],
)
def test_the_answer_is_what_the_device_has_to_add(device_s: int, received_s: int, correction_s: int) -> None:
    expected = clock_sync.AppTimeAns(correction_s=correction_s, token=5)
    assert clock_sync.answer(_ask(device_s), received_s) == expected


def test_a_right_clock_is_answered_only_if_the_device_wants_it() -> None:
    assert clock_sync.answer(_ask(1000), 1000) is None
    assert clock_sync.answer(_ask(1000, answer_required=True), 1000) == clock_sync.AppTimeAns(
        correction_s=0, token=5
    )


def test_periods_are_in_seconds() -> None:
    assert clock_sync.DeviceAppTimePeriodicityReq(period=0).period_s == 128
    assert clock_sync.DeviceAppTimePeriodicityReq(period=15).period_s == 4_194_304


@pytest.mark.parametrize(
    ("moment", "gps_s"),
    [
        (datetime(1980, 1, 6, tzinfo=UTC), 0),
        # https://www.andrews.edu/~tzs/timeconv: GPS 1,000,000,000 and the day of the leap second of 2016.
        (datetime(2011, 9, 14, 1, 46, 25, tzinfo=UTC), 1_000_000_000),
        (datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC), 1_167_264_016),
        (datetime(2017, 1, 1, tzinfo=UTC), 1_167_264_018),
        (datetime(2026, 11, 26, 12, tzinfo=UTC), 1_479_729_618),
    ],
)
def test_gps_time(moment: datetime, gps_s: int) -> None:
    assert gps_time.gps_ms(moment) == gps_s * 1000
    assert gps_time.from_gps_ms(gps_s * 1000) == moment


def test_every_leap_second() -> None:
    """IERS Bulletin C: GPS − UTC in seconds, from each of these days on."""
    days = [
        "1981-07-01",
        "1982-07-01",
        "1983-07-01",
        "1985-07-01",
        "1988-01-01",
        "1990-01-01",
        "1991-01-01",
        "1992-07-01",
        "1993-07-01",
        "1994-07-01",
        "1996-01-01",
        "1997-07-01",
        "1999-01-01",
        "2006-01-01",
        "2009-01-01",
        "2012-07-01",
        "2015-07-01",
        "2017-01-01",
    ]
    for difference, day in enumerate(days, start=1):
        midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
        for moment, leaps in ((midnight - timedelta(seconds=1), difference - 1), (midnight, difference)):
            gps_ms = (moment - gps_time.EPOCH) // timedelta(milliseconds=1) + 1000 * leaps
            assert (gps_time.gps_ms(moment), gps_time.from_gps_ms(gps_ms)) == (gps_ms, moment)


def test_within_a_leap_second_it_is_already_the_next_day() -> None:
    assert gps_time.from_gps_ms(1_167_264_017_000) == datetime(2017, 1, 1, tzinfo=UTC)


@given(st.datetimes(datetime(1980, 1, 6), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_gps_time_comes_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert gps_time.from_gps_ms(gps_time.gps_ms(moment)) == moment
    assert gps_time.gps_ms(moment + timedelta(seconds=1)) - gps_time.gps_ms(moment) in (1000, 2000)
