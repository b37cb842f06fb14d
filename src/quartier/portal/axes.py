"""Round ends and readable ticks for the axes of charts; civil time with its 23- and 25-hour days."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils.dates import MONTHS_3, WEEKDAYS_ABBR

from quartier.portal.numbers import language

ZONE = ZoneInfo("Europe/Berlin")
# Beyond this a number is drawn at the edge: no sensor says it, and differences must not overflow.
LARGEST = 1e100


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis: ``at`` is 0 at its begin and 1 at its end; the label may stand elsewhere."""

    at: float
    label: str
    label_at: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    decimals: int

    def share(self, value: float) -> float:
        """Where a value lies between 0 (low) and 1 (high)."""
        return min(1.0, max(0.0, (clamp(value) - self.low) / (self.high - self.low)))


def clamp(value: float) -> float:
    """The value, at most as large as charts can draw."""
    return min(LARGEST, max(-LARGEST, value))


def finite(value: float | None) -> float | None:
    """The value, or None where it is not a number that can be drawn."""
    return clamp(value) if value is not None and math.isfinite(value) else None


def scale(values: Sequence[float], *, from_zero: bool = False, ticks: int = 4) -> Scale:
    """A scale with round ends around ``values``; its ticks are 1, 2, 2.5 or 5 times a power of ten apart."""
    low = min((clamp(v) for v in values), default=0.0)
    high = max((clamp(v) for v in values), default=1.0)
    if from_zero:
        low, high = min(0.0, low), max(0.0, high)
    # Numbers that differ by less are one number, drawn in the middle of a scale.
    if high - low <= max(abs(low), abs(high)) * 1e-9 or high - low < 1e-12:
        widen = max(abs(low) * 0.05, 0.5)
        low, high = (low if from_zero and low == 0 else low - widen), high + widen
    rough = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    factor = next(f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * 0.999)
    step = power * factor
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = -math.floor(math.log10(step) + 1e-9) + (1 if factor == 2.5 else 0)
    marks = tuple(i * step for i in range(first, last + 1))
    return Scale(first * step, last * step, marks, max(0, min(6, decimals)))


def time_ticks(since: datetime, until: datetime, zone: ZoneInfo = ZONE) -> list[Tick]:
    """Ticks at civil hours, days, weeks, months or years of ``zone``, as fits the length of the period."""
    span_s = (until - since).total_seconds()
    if span_s <= 0:
        return []
    axis = _Axis(since, span_s, zone)
    days = span_s / 86_400
    if days <= 2.2:
        ticks = axis.hours(3 if days <= 1.2 else 6)
    elif days <= 10:
        ticks = axis.days()
    elif days <= 100:
        ticks = axis.weeks(1 if days <= 45 else 2)
    elif days <= 800:
        ticks = axis.months(1 if days <= 400 else 3)
    else:
        ticks = axis.years(max(1, round(days / 365 / 8)))
    return list(ticks)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Civil arithmetic: from midnight to midnight, whatever hours lie between."""

    since: datetime
    span_s: float
    zone: ZoneInfo

    def _at(self, moment: datetime) -> float:
        return (moment.astimezone(UTC) - self.since).total_seconds() / self.span_s

    def _first_day(self) -> datetime:
        return self.since.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0)

    def _period(self, start: datetime, end: datetime, label: str) -> Tick:
        """A rule where a period begins and its label in the middle; none where too little of it is seen."""
        begin, finish = self._at(start), self._at(end)
        seen = min(1.0, finish) - max(0.0, begin)
        wide_enough = seen > 0.55 * (finish - begin)
        return Tick(begin, label if wide_enough else "", (max(0.0, begin) + min(1.0, finish)) / 2)

    def hours(self, step_h: int) -> Iterator[Tick]:
        """Every few hours; at midnight the name of the day that begins."""
        day = self._first_day()
        while (x := self._at(day)) <= 1:
            for hour in range(0, 24, step_h):
                moment = day.replace(hour=hour)
                x = self._at(moment)
                # The hour that a clock change in spring leaves out does not exist.
                if 0 <= x <= 1 and moment.astimezone(UTC).astimezone(self.zone).hour == hour:
                    yield Tick(x, f"{hour}:00" if hour else str(WEEKDAYS_ABBR[moment.weekday()]), x)
            day += timedelta(days=1)

    def days(self) -> Iterator[Tick]:
        """Every day, its name in its middle."""
        day = self._first_day()
        while self._at(day) <= 1:
            following = day + timedelta(days=1)
            # Seven labels must fit into a telephone's width.
            number = f"{day.day}." if language() == "de" else str(day.day)
            yield self._period(day, following, f"{str(WEEKDAYS_ABBR[day.weekday()])[:2]} {number}")
            day = following

    def weeks(self, every: int) -> Iterator[Tick]:
        """Mondays with their date."""
        day = self._first_day()
        day -= timedelta(days=day.weekday())
        while (x := self._at(day)) <= 1:
            if x >= 0:
                yield Tick(x, f"{day.day}.{day.month}.", x)
            day += timedelta(days=7 * every)

    def months(self, every: int) -> Iterator[Tick]:
        """Months or quarters, the name of the first month in the middle."""
        day = self._first_day().replace(day=1)
        while self._at(day) <= 1:
            number = day.year * 12 + day.month - 1 + every
            following = day.replace(year=number // 12, month=number % 12 + 1)
            yield self._period(day, following, str(MONTHS_3[day.month]).capitalize())
            day = following

    def years(self, every: int) -> Iterator[Tick]:
        """Years."""
        day = self._first_day().replace(month=1, day=1)
        while (x := self._at(day)) <= 1:
            if x >= 0:
                yield Tick(x, str(day.year), x)
            day = day.replace(year=day.year + every)
