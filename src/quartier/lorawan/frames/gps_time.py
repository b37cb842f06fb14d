"""GPS time, in which LoRaWAN counts: seconds since 1980-01-06, without leap seconds."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1980, 1, 6, tzinfo=UTC)
# IERS Bulletin C: the UTC days that began after a leap second. GPS time was level with UTC in January 1980.
_AFTER_LEAP_SECOND: Final = tuple(
    datetime(year, month, 1, tzinfo=UTC)
    for year, month in (
        (1981, 7), (1982, 7), (1983, 7), (1985, 7), (1988, 1), (1990, 1), (1991, 1), (1992, 7), (1993, 7),
        (1994, 7), (1996, 1), (1997, 7), (1999, 1), (2006, 1), (2009, 1), (2012, 7), (2015, 7), (2017, 1),
    )
)  # fmt: skip
_LEAPS_MS: Final = tuple(
    (day - EPOCH) // timedelta(milliseconds=1) + 1000 * (number + 1)
    for number, day in enumerate(_AFTER_LEAP_SECOND)
)


def gps_ms(moment: datetime) -> int:
    """Milliseconds of GPS time at a moment of UTC (with time zone)."""
    leaps = bisect_right(_AFTER_LEAP_SECOND, moment)
    return (moment - EPOCH) // timedelta(milliseconds=1) + 1000 * leaps


def from_gps_ms(milliseconds: int) -> datetime:
    """The moment of UTC. Within a leap second, which datetime cannot say, the first second of the next day."""
    leaps = bisect_right(_LEAPS_MS, milliseconds)
    return EPOCH + timedelta(milliseconds=milliseconds - 1000 * leaps)
