"""A series over a period, told four times: a sentence, a picture, a table, and the numbers for the page's
script.

The roll-ups are summed up once more to what a person reads (hours of a day, days of a week or month,
months of a year). Sums (rain, people) become bars; directions, which have no mean, shares of the eight
winds; yes and no a share of time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from django.utils import timezone
from django.utils.dates import MONTHS
from django.utils.formats import date_format
from django.utils.html import json_script
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from quartier.portal.axes import ZONE, finite
from quartier.portal.charts import Label, Line, Point, bar_chart, line_chart, share_bar
from quartier.portal.numbers import number, quantity, unit_label
from quartier.portal.periods import Window, day_text
from quartier.portal.presentation import is_boolean, meaning, property_name, spread, truth_words
from quartier.twin import queries
from quartier.twin.flags import is_bad
from quartier.twin.models import ObservedProperty, Series
from quartier.twin.queries import Bucket, Chart, Reading

# A day in quarter hours, a week and a month in hours, a year in days.
MAXIMUM_POINTS = 750
SINGLE_READINGS_FOR = timedelta(days=2)
_WIDTHS = {"15min": timedelta(minutes=15), "1h": timedelta(hours=1), "1d": timedelta(days=1)}


@dataclass(slots=True)
class Row:
    """A row of the table: a period summed up from smaller ones."""

    start: datetime
    end: datetime
    label: str
    n: int = 0
    n_flagged: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, bucket: Bucket) -> None:
        """Take a smaller period in."""
        self.n += bucket.n
        self.n_flagged += bucket.n_flagged
        if bucket.sum is not None:
            self.total += bucket.sum
        if bucket.min is not None:
            self.low = min(self.low, bucket.min)
        if bucket.max is not None:
            self.high = max(self.high, bucket.max)

    @property
    def mean(self) -> float | None:
        """Mean of all values that count."""
        return self.total / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its text, and a bar that repeats it."""

    text: str
    bar: SafeString | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """All that a page shows of a series over a period."""

    sentence: str
    picture: SafeString | None
    data: SafeString | None
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    n: int = 0
    n_flagged: int = 0
    live: bool = False

    @property
    def doubts(self) -> str:
        """How many values quality control doubts, in a sentence; empty if none."""
        if not self.n_flagged:
            return ""
        share = 100 * self.n_flagged / max(1, self.n + self.n_flagged)
        text = ngettext(
            "%(flagged)s von %(all)s Werten (%(share)s) ist auffällig. Er fließt nicht in Mittelwerte ein.",
            "%(flagged)s von %(all)s Werten (%(share)s) sind auffällig. Sie fließen nicht in Mittelwerte ein.",
            self.n_flagged,
        )
        return text % {
            "flagged": number(self.n_flagged),
            "all": number(self.n + self.n_flagged),
            "share": quantity(share, "%", 0 if share >= 1 else 1),
        }

    @property
    def trust(self) -> str:
        """That quality control found nothing, in a sentence; empty if it did or if there was nothing to check."""
        if self.n_flagged or not self.n:
            return ""
        return ngettext(
            "Der Wert dieses Zeitraums hat alle Prüfungen bestanden.",
            "Alle %(n)s Werte dieses Zeitraums haben die Prüfungen bestanden.",
            self.n,
        ) % {"n": number(self.n)}


def figure_of(series: Series, prop: ObservedProperty, window: Window, *, key: str) -> Figure:
    """What a series says over a period. ``key`` makes ids of the picture unique in the page."""
    chart, doubted = course(series, window)
    n, n_flagged = sum(b.n for b in chart.buckets), sum(b.n_flagged for b in chart.buckets)
    if not n and not n_flagged:
        return Figure(_("%(when)s gibt es keine Werte.") % {"when": window.heading}, None, None)
    if prop.circular:
        figure = _directions(prop, chart, window)
    elif prop.aggregation == "sum":
        figure = _sums(prop, chart, window, key)
    else:
        figure = _lines(series, chart, doubted, window, key)
    return Figure(
        figure.sentence, figure.picture, figure.data, figure.columns, figure.rows, n, n_flagged, figure.live
    )


def steps(buckets: Iterable[Bucket], window: Window) -> list[Row]:
    """Sum up into the periods of the table, oldest first; those without any value are left out."""
    rows: dict[datetime, Row] = {}
    for bucket in buckets:
        start, end = _step(bucket.start, window.period.slug)
        row = rows.get(start)
        if row is None:
            row = rows[start] = Row(start, end, _step_label(start, window.period.slug))
        row.add(bucket)
    return list(rows.values())


def _step(moment: datetime, period: str) -> tuple[datetime, datetime]:
    local = moment.astimezone(ZONE).replace(minute=0, second=0, microsecond=0)
    if period == "tag":
        start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return start, start + timedelta(hours=1)
    start = local.replace(hour=0, fold=0)
    if period in {"woche", "monat"}:
        return start.astimezone(UTC), (start + timedelta(days=1)).astimezone(UTC)
    start = start.replace(day=1)
    following = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start.astimezone(UTC), following.astimezone(UTC)


def _step_label(start: datetime, period: str) -> str:
    local = start.astimezone(ZONE)
    if period == "tag":
        return date_format(local, "D, H:i")
    if period == "jahr":
        return f"{MONTHS[local.month]} {local.year}"
    return day_text(local)


def clock(moment: datetime, window: Window) -> str:
    """When something was, as exactly as the period asks for."""
    local = timezone.localtime(moment, ZONE)
    if window.period.slug == "tag":
        return _("um %(time)s Uhr") % {"time": date_format(local, "H:i")}
    return _("am %(day)s") % {
        "day": date_format(local, "j. N" if window.period.slug == "jahr" else "D, j. N")
    }


def course(series: Series, window: Window) -> tuple[Chart, dict[datetime, float]]:
    """How a series went, and of single readings those that do not count, which a chart still shows."""
    if window.until - window.since <= SINGLE_READINGS_FOR:
        rows = queries.readings(series, window.since, window.until, limit=MAXIMUM_POINTS + 1)
        if len(rows) <= MAXIMUM_POINTS:
            doubted = {r.time: r.result for r in rows if r.result is not None and is_bad(r.flags)}
            return Chart("raw", [_bucket(row) for row in rows]), doubted
    return queries.chart(series, window.since, window.until, max_points=MAXIMUM_POINTS), {}


def _bucket(reading: Reading) -> Bucket:
    """A single reading as the smallest period; a doubted one is counted and has no value."""
    bad = is_bad(reading.flags)
    x = None if bad else reading.result
    return Bucket(reading.time, int(x is not None), int(bad and reading.result is not None), x, x, x, x, x, x)


def points_of(
    chart: Chart, factor: float = 1.0, doubted: Mapping[datetime, float] | None = None
) -> list[Point]:
    """The buckets as points; a roll-up stands in the middle of its time."""
    half = _WIDTHS[chart.resolution] / 2 if chart.resolution != "raw" else timedelta(0)

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    return [
        Point(
            b.start + half,
            scaled(b.mean),
            scaled(b.min),
            scaled(b.max),
            flagged=b.n_flagged > 0,
            doubted=scaled(doubted.get(b.start)) if doubted else None,
        )
        for b in chart.buckets
    ]


def gap_of(chart: Chart, series: Series) -> timedelta:
    """How far two points may be apart and still belong together: three times the usual distance."""
    starts = [b.start for b in chart.buckets]
    distances = [(b - a).total_seconds() for a, b in pairwise(starts)]
    usual = timedelta(seconds=median(distances)) if distances else timedelta(minutes=20)
    width = _WIDTHS.get(chart.resolution, timedelta(minutes=5))
    expected = timedelta(seconds=(series.device.expected_interval_s or 0) if series.device else 0)
    return (
        max(usual, width, expected) * 3.1 if chart.resolution == "raw" else max(usual * 1.6, expected * 3.1)
    )


def script_data(series: Sequence[dict[str, Any]], window: Window, gap: timedelta) -> SafeString:
    """The numbers for the element ``<time-chart>``."""
    return json_script(
        {
            "series": series,
            "gap_s": round(gap.total_seconds()),
            "since": round(window.since.timestamp() * 1000),
            "until": round(window.until.timestamp() * 1000),
        }
    )


def script_line(
    series: Series,
    name: str,
    points: Sequence[Point],
    *,
    unit: str,
    decimals: int,
    words: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """One line of :func:`script_data`. ``series.thing`` and its municipality must be loaded.

    ``words`` for yes and no are said instead of 100 and 0 %.
    """
    digits = decimals + 1

    def short(value: float | None) -> float | None:
        known = finite(value)
        return None if known is None else round(known, digits)

    return {
        "id": series.pk,
        "thing": f"{series.thing.municipality.slug}/{series.thing.key}",
        "name": name,
        "unit": unit,
        "decimals": decimals,
        **({"words": words} if words else {}),
        "points": [
            [
                round(p.time.timestamp() * 1000),
                short(p.value),
                short(p.low),
                short(p.high),
                int(p.flagged),
                *([short(p.doubted)] if p.doubted is not None else []),
            ]
            for p in points
        ],
    }


def extremes(chart: Chart) -> tuple[Bucket, Bucket] | None:
    """The buckets with the smallest and the largest value."""
    known = [b for b in chart.buckets if b.min is not None and b.max is not None]
    if not known:
        return None
    return min(known, key=lambda b: b.min or 0.0), max(known, key=lambda b: b.max or 0.0)


def _lines(
    series: Series,
    chart: Chart,
    doubted: Mapping[datetime, float],
    window: Window,
    key: str,
) -> Figure:
    prop = series.observed_property
    truth = is_boolean(prop)
    unit, decimals, factor = ("%", 0, 100.0) if truth else (prop.unit, prop.decimals, 1.0)
    points, gap = points_of(chart, factor, doubted), gap_of(chart, series)
    rows = steps(chart.buckets, window)
    n, total = sum(row.n for row in rows), sum(row.total for row in rows)
    found = extremes(chart)
    values = {"name": property_name(prop), "when": window.heading}
    if found is None or not n:
        sentence = _("%(when)s gibt es keine Werte, die zählen.") % values
    elif truth:
        values |= {"share": quantity(100 * total / n, "%"), "yes": truth_words(prop.slug)[0]}
        sentence = _("%(when)s zu %(share)s der Zeit %(yes)s.") % values
    elif found[0].min == found[1].max:
        values |= {"mean": quantity(total / n, prop.unit, prop.decimals)}
        sentence = _("%(when)s durchgehend %(mean)s.") % values
    else:
        lowest, highest = found
        values |= {
            "spread": spread(prop, lowest.min or 0.0, highest.max or 0.0),
            "mean": quantity(total / n, prop.unit, prop.decimals),
            "low_at": clock(lowest.start, window),
            "high_at": clock(highest.start, window),
        }
        sentence = _(
            "%(when)s %(spread)s, im Mittel %(mean)s. Am niedrigsten war der Wert %(low_at)s, am höchsten %(high_at)s."
        )
        sentence = sentence % values
    line = Line(property_name(prop), points, gap)
    label = Label(key, f"{property_name(prop)}, {window.heading}", sentence, unit_label(unit))
    picture = line_chart([line], window.since, window.until, label, from_zero=truth or prop.unit == "%")
    data = script_data(
        [
            script_line(
                series,
                property_name(prop),
                points,
                unit=unit_label(unit),
                decimals=decimals,
                words=truth_words(prop.slug) if truth and chart.resolution == "raw" else None,
            )
        ],
        window,
        gap,
    )
    if truth:
        columns: tuple[str, ...] = (
            _("Zeit"),
            _("Anteil %(yes)s") % {"yes": truth_words(prop.slug)[0]},
            _("Messungen"),
        )
        table = [
            (r.label, [Cell(quantity(100 * (r.mean or 0), "%") if r.n else "–"), Cell(number(r.n))])
            for r in rows
        ]
    else:
        columns = (_("Zeit"), _("Mittel"), _("Kleinster"), _("Größter"), _("Messungen"), _("Auffällig"))
        table = [(r.label, _numbers(prop, r)) for r in rows]
    live = chart.resolution == "raw" and not truth and window.last_day is None
    return Figure(sentence, picture, data, columns, table, live=live)


def _numbers(prop: ObservedProperty, row: Row) -> list[Cell]:
    known = [row.mean, row.low, row.high] if row.n else [None, None, None]
    cells = [Cell(quantity(value, prop.unit, prop.decimals)) for value in known]
    return [*cells, Cell(number(row.n)), Cell(number(row.n_flagged))]


def _sums(prop: ObservedProperty, chart: Chart, window: Window, key: str) -> Figure:
    rows = steps(chart.buckets, window)
    total = sum(row.total for row in rows)
    most = max(rows, key=lambda row: row.total)
    values = {
        "when": window.heading,
        "total": quantity(total, prop.unit, prop.decimals),
        "name": property_name(prop),
        "most": quantity(most.total, prop.unit, prop.decimals),
        "most_at": most.label,
    }
    if total == 0:
        sentence = _("%(when)s zusammen %(total)s.") % values
    else:
        sentence = _("%(when)s zusammen %(total)s, am meisten: %(most)s (%(most_at)s).") % values
    points = [Point(row.start, row.total if row.n else None) for row in rows]
    label = Label(key, f"{property_name(prop)}, {window.heading}", sentence, unit_label(prop.unit))
    width = rows[-1].end - rows[-1].start
    picture = bar_chart(points, width, window.since, window.until, label)
    largest = max((row.total for row in rows), default=0.0)
    table = [
        (
            row.label,
            [
                Cell(quantity(row.total, prop.unit, prop.decimals), share_bar(row.total, 0.0, largest)),
                Cell(number(row.n)),
                Cell(number(row.n_flagged)),
            ],
        )
        for row in rows
    ]
    return Figure(sentence, picture, None, (_("Zeit"), _("Summe"), _("Messungen"), _("Auffällig")), table)


def _directions(prop: ObservedProperty, chart: Chart, window: Window) -> Figure:
    """Shares of the eight winds; each bucket counts with its last value, because degrees have no mean."""
    counts = [0] * 8
    for bucket in chart.buckets:
        if bucket.last is not None and math.isfinite(bucket.last):
            counts[round(bucket.last / 45) % 8] += 1
    total = sum(counts)
    if not total:
        return Figure(_("%(when)s gibt es keine Werte, die zählen.") % {"when": window.heading}, None, None)
    rows = []
    for index, count in enumerate(counts):
        share = 100 * count / total
        rows.append(
            (meaning(prop.slug, index * 45.0), [Cell(quantity(share, "%"), share_bar(share, 0.0, 100.0))])
        )
    most = max(range(8), key=counts.__getitem__)
    sentence = _("%(when)s am häufigsten: %(most)s (%(share)s der Zeit).") % {
        "when": window.heading,
        "most": meaning(prop.slug, most * 45.0),
        "share": quantity(100 * counts[most] / total, "%"),
    }
    return Figure(sentence, None, None, (_("Richtung"), _("Anteil der Zeit")), rows)
