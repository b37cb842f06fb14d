"""The periods that pages show: the last day, week, month or year, or the one that ended on a given day.

The address says it (``?zeitraum=woche&bis=2026-11-01``), so a link shows everybody the same. What cannot
be understood is passed over: a page is always better than an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from quartier.portal.axes import ZONE
from quartier.portal.numbers import language

# Older than any sensor, and not so far that civil time cannot be computed.
EARLIEST: Final = date(1990, 1, 1)


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time with its names."""

    slug: str
    label: Any
    past: Any
    days: int


PERIODS: Final = {
    period.slug: period
    for period in (
        Period("tag", gettext_lazy("Tag"), gettext_lazy("In den letzten 24 Stunden"), 1),
        Period("woche", gettext_lazy("Woche"), gettext_lazy("In den letzten 7 Tagen"), 7),
        Period("monat", gettext_lazy("Monat"), gettext_lazy("In den letzten 30 Tagen"), 30),
        Period("jahr", gettext_lazy("Jahr"), gettext_lazy("In den letzten 12 Monaten"), 365),
    )
}


@dataclass(frozen=True, slots=True)
class Window:
    """A period with its place in time. ``last_day`` is None for the one that ends now."""

    period: Period
    since: datetime
    until: datetime
    last_day: date | None

    @property
    def heading(self) -> str:
        """When this is, as a sentence begins."""
        if self.last_day is None:
            return str(self.period.past)
        first = timezone.localtime(self.since, ZONE).date()
        if first == self.last_day:
            return _("Am %(day)s") % {"day": _day(self.last_day)}
        return _("Vom %(first)s bis zum %(last)s") % {"first": _day(first), "last": _day(self.last_day)}

    @property
    def earlier(self) -> date | None:
        """Last day of the period before; None where no time is left."""
        end = self.last_day or timezone.localtime(self.until, ZONE).date()
        day = end - timedelta(days=self.period.days)
        return day if day > EARLIEST + timedelta(days=400) else None

    def later(self, today: date) -> date | None:
        """Last day of the period after; None for the one that ends now."""
        if self.last_day is None:
            return None
        day = self.last_day + timedelta(days=self.period.days)
        return day if day < today else None


def _day(day: date) -> str:
    return date_format(day, "DATE_FORMAT")


def day_text(day: date, *, weekday: bool = True) -> str:
    """A day of this year as a sentence holds it: "Sa, 7. November"."""
    form = "j. F" if language() == "de" else "j F"
    return date_format(day, f"D, {form}" if weekday else form)


def midnight(day: date) -> datetime:
    """The moment at which a civil day begins."""
    return datetime.combine(day, time(), ZONE).astimezone(UTC)


def parse_day(text: str | None) -> date | None:
    """A day as ``2026-11-22``; None for anything else and for days outside of our time."""
    try:
        day = date.fromisoformat(text or "")
    except ValueError:
        return None
    return day if EARLIEST < day < date(2200, 1, 1) else None


def window(query: Mapping[str, str], now: datetime, *, default: str = "tag") -> Window:
    """The period that an address names."""
    period = PERIODS.get(query.get("zeitraum", ""), PERIODS[default])
    today = timezone.localtime(now, ZONE).date()
    last_day = parse_day(query.get("bis"))
    if last_day is None or last_day >= today or last_day - EARLIEST < timedelta(days=400):
        return Window(period, now - timedelta(days=period.days), now, None)
    first_day = last_day - timedelta(days=period.days - 1)
    return Window(period, midnight(first_day), midnight(last_day + timedelta(days=1)), last_day)


def shifted(found: Window, days: int) -> Window:
    """The same window so many civil days earlier."""
    since, until = (timezone.localtime(t, ZONE) - timedelta(days=days) for t in (found.since, found.until))
    last_day = found.last_day - timedelta(days=days) if found.last_day else None
    return Window(found.period, since.astimezone(UTC), until.astimezone(UTC), last_day)
