"""Pictures of series as SVG, made on the server: they work without scripts and in print.

No inline style and no script stand in them, so they live under a strict Content Security Policy; colours
come from the classes ``q-…`` of the style sheet, and shape or dash repeats what colour says. The plot
stretches with the page while letters keep their size: the outer picture is laid out in per cent, the
inner one stretches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from quartier.portal.axes import ZONE, Scale, Tick, finite, scale, time_ticks
from quartier.portal.numbers import number

MAXIMUM_MARKS = 60
_WIDTH = 1000
_TOP, _FOOT = 24, 26
_DASHES = ("", "7 4", "2 4", "12 4 2 4", "4 2", "14 6")
_STROKE = (
    'stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"'
    ' vector-effect="non-scaling-stroke"'
)


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a line: its value, and the smallest and largest of the period that it stands for.

    ``doubted`` is a single reading that does not count: shown as a cross where it fits, never part of the line.
    """

    time: datetime
    value: float | None
    low: float | None = None
    high: float | None = None
    flagged: bool = False
    doubted: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one series, oldest first. Nothing is drawn between points further apart than ``gap``."""

    name: str
    points: Sequence[Point]
    gap: timedelta


@dataclass(frozen=True, slots=True)
class Label:
    """How a chart is called: ``key`` is unique in the page, title and description are for screen readers."""

    key: str
    title: str
    description: str
    unit: str = ""


def line_chart(
    lines: Sequence[Line],
    since: datetime,
    until: datetime,
    label: Label,
    *,
    height: int = 260,
    from_zero: bool = False,
    zone: ZoneInfo = ZONE,
) -> SafeString:
    """Up to six lines over one time axis, each with a band from its smallest to its largest values.

    Missing values and gaps stay empty; flagged moments carry a cross.
    """
    plot = height - _FOOT
    every = [x for line in lines for p in line.points for x in (p.value, p.low, p.high)]
    known = [x for v in every if (x := finite(v)) is not None]
    # One impossible reading must not press all the others flat, so doubted ones count only where there are no others.
    known = known or [x for line in lines for p in line.points if (x := finite(p.doubted)) is not None]
    y = scale(known, from_zero=from_zero)
    drawings = [_Drawing(i, line, (since, until), y, plot) for i, line in enumerate(lines)]
    parts = _axes(y, time_ticks(since, until, zone), plot, label.unit)
    parts.append(_plot(plot, [d.band() for d in drawings] + [d.stroke() for d in drawings]))
    parts.extend(d.marks() for d in drawings)
    return _frame(parts, label, height)


def bar_chart(
    points: Sequence[Point],
    width: timedelta,
    since: datetime,
    until: datetime,
    label: Label,
    *,
    height: int = 260,
    zone: ZoneInfo = ZONE,
) -> SafeString:
    """Sums of periods (rain, people counted) as bars that begin at zero; ``width`` is a period's length."""
    plot = height - _FOOT
    span_s = max((until - since).total_seconds(), 1.0)
    y = scale([v for p in points if (v := finite(p.value)) is not None], from_zero=True)
    bars = []
    for point in points:
        value = finite(point.value)
        start = (point.time - since).total_seconds() / span_s
        end = start + width.total_seconds() / span_s
        if value is None or value == 0 or end < 0 or start > 1:
            continue
        start, end = max(start, 0.0), min(end, 1.0)
        bars.append(_bar(start * _WIDTH, (end - start) * _WIDTH * 0.82, y, value, plot))
    parts = _axes(y, time_ticks(since, until, zone), plot, label.unit)
    parts.append(_plot(plot, bars))
    return _frame(parts, label, height)


def histogram(values: Sequence[float], label: Label, *, height: int = 200) -> SafeString:
    """How often values of which size occur."""
    found = [v for value in values if (v := finite(value)) is not None]
    x, counts = classes(found)
    plot = height - _FOOT
    y = scale([float(c) for c in counts], from_zero=True, ticks=3)
    y = Scale(y.low, y.high, tuple(t for t in y.ticks if t == int(t)), 0)
    every = max(1, math.ceil(len(x.ticks) / 7))
    ticks = [
        Tick(-1, f"{number(value, x.decimals)} {label.unit if i == 0 else ''}".strip(), x.share(value))
        for i, value in enumerate(x.ticks)
        if i % every == 0
    ]
    width = _WIDTH / len(counts)
    bars = [
        _bar((i + 0.04) * width, width * 0.92, y, float(count), plot)
        for i, count in enumerate(counts)
        if count
    ]
    parts = _axes(y, ticks, plot, "")
    parts.append(_plot(plot, bars))
    return _frame(parts, label, height)


def classes(values: Sequence[float]) -> tuple[Scale, list[int]]:
    """Round classes over ``values`` (from tick to tick of the scale) and how many fall into each."""
    x = scale(values, ticks=8)
    counts = [0] * max(len(x.ticks) - 1, 1)
    for value in values:
        counts[min(len(counts) - 1, int(x.share(value) * len(counts) + 1e-9))] += 1
    return x, counts


def sparkline(
    values: Sequence[float | None], *, title: str, bars: bool = False, height: int = 36
) -> SafeString:
    """A small picture of how something went: equal steps, None where nothing is known."""
    drawn = [finite(v) for v in values]
    known = [v for v in drawn if v is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if bars:
        low = min(low, 0.0)

    def down(value: float) -> float:
        # Flat lines run through the middle.
        share = 0.5 if high <= low else (value - low) / (high - low)
        return round(height - 3 - share * (height - 6), 1)

    parts: list[str] = []
    step = 100 / max(len(drawn) - (0 if bars else 1), 1)
    run: list[str] = []
    for i, value in enumerate([*drawn, None]):
        if value is not None and bars:
            top = down(value) if high > 0 else height - 3.0
            parts.append(
                f'<rect x="{i * step:.2f}" y="{top}" width="{step * 0.8:.2f}"'
                f' height="{max(height - 2 - top, 1):.1f}" fill="currentColor"/>'
            )
        elif value is not None:
            run.append(f"{i * step:.2f},{down(value)}")
        elif run:
            parts.append(f'<polyline points="{" ".join(run if len(run) > 1 else run * 2)}" {_STROKE}/>')
            run = []
    return mark_safe(  # noqa: S308 (the title is escaped, the rest are numbers)
        f'<svg xmlns="http://www.w3.org/2000/svg" class="q-spark" role="img" width="100%" height="{height}"'
        f' viewBox="0 0 100 {height}" preserveAspectRatio="none" fill="none"><title>{_text(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def share_bar(value: float | None, low: float, high: float) -> SafeString:
    """A bar for a table cell. It repeats the number beside it, so it is hidden from screen readers."""
    x, first, last = finite(value), finite(low) or 0.0, finite(high) or 0.0
    rect = ""
    if x is not None and last > first:
        zero = min(1.0, max(0.0, -first / (last - first)))
        tip = min(1.0, max(0.0, (x - first) / (last - first)))
        rect = (
            f'<rect x="{min(zero, tip) * 100:.1f}%" width="{max(abs(tip - zero) * 100, 0.5):.1f}%"'
            ' height="10" rx="2" fill="currentColor"/>'
        )
    return mark_safe(  # noqa: S308 (numbers only)
        '<svg xmlns="http://www.w3.org/2000/svg" class="q-share" aria-hidden="true" focusable="false"'
        f' width="100%" height="10">{rect}</svg>'
    )


class _Drawing:
    """One line of a chart in the coordinates of the plot."""

    def __init__(
        self, index: int, line: Line, period: tuple[datetime, datetime], y: Scale, plot: int
    ) -> None:
        self.index, self.y, self.plot, self.gap = index, y, plot, line.gap
        since, until = period
        span_s = max((until - since).total_seconds(), 1.0)
        places = (((p.time - since).total_seconds() / span_s, p) for p in line.points)
        self.placed = [(share * _WIDTH, p) for share, p in places if 0 <= share <= 1]

    def _down(self, value: float) -> float:
        return round(_TOP + (1 - self.y.share(value)) * (self.plot - _TOP), 1)

    def _runs(self) -> list[list[tuple[float, Point, float]]]:
        """Pieces between which nothing is known; where a value is missing the line breaks."""
        pieces: list[list[tuple[float, Point, float]]] = []
        last: datetime | None = None
        for x, point in self.placed:
            value = finite(point.value)
            if value is None:
                last = None
                continue
            if last is None or point.time - last > self.gap:
                pieces.append([])
            pieces[-1].append((x, point, value))
            last = point.time
        return pieces

    def band(self) -> str:
        """The area between smallest and largest values."""
        parts = []
        for run in self._runs():
            edges = [(x, finite(p.low), finite(p.high)) for x, p, _ in run]
            known = [(x, low, high) for x, low, high in edges if low is not None and high is not None]
            if len(known) < 2 or all(low == high for _, low, high in known):
                continue
            upper = " ".join(f"{x:.1f},{self._down(high)}" for x, _, high in known)
            lower = " ".join(f"{x:.1f},{self._down(low)}" for x, low, _ in reversed(known))
            parts.append(
                f'<polygon class="q-chart-band q-series-{self.index + 1}" points="{upper} {lower}"'
                ' fill="currentColor" fill-opacity="0.16"/>'
            )
        return "".join(parts)

    def stroke(self) -> str:
        """The line itself."""
        parts = []
        dash = f' stroke-dasharray="{_DASHES[self.index % 6]}"' if self.index % 6 else ""
        for run in self._runs():
            # A single point would be an invisible line; doubled, its round cap is a dot.
            path = " ".join(f"{x:.1f},{self._down(v)}" for x, _, v in (run if len(run) > 1 else run * 2))
            parts.append(
                f'<polyline class="q-chart-line q-series-{self.index + 1}" points="{path}" {_STROKE}{dash}/>'
            )
        return "".join(parts)

    def marks(self) -> str:
        """Crosses where readings were flagged, and a dot at the newest value."""
        parts = []
        flagged = [(x, p) for x, p in self.placed if p.flagged]
        for x, point in flagged[:: max(1, math.ceil(len(flagged) / MAXIMUM_MARKS))]:
            value = finite(point.value if point.value is not None else point.doubted)
            place = self._down(value) if value is not None else self.plot - 8
            parts.append(
                f'<svg x="{_percent(x / _WIDTH)}" y="{place}" overflow="visible"><path class="q-chart-flag"'
                ' d="M-4-4L4 4M4-4L-4 4" stroke="currentColor" stroke-width="2"/></svg>'
            )
        known = [(x, v) for x, p in self.placed if (v := finite(p.value)) is not None]
        if known:
            x, value = known[-1]
            parts.append(
                f'<circle class="q-chart-end q-series-{self.index + 1}" cx="{_percent(x / _WIDTH)}"'
                f' cy="{self._down(value)}" r="4" fill="currentColor"/>'
            )
        return "".join(parts)


def _bar(x: float, width: float, y: Scale, value: float, plot: int) -> str:
    zero, tip = y.share(0.0), y.share(value)
    top = plot - max(zero, tip) * (plot - _TOP)
    height = max(abs(tip - zero) * (plot - _TOP), 1)
    return (
        f'<rect class="q-chart-bar" x="{x:.2f}" y="{top:.1f}" width="{width:.2f}" height="{height:.1f}"'
        ' fill="currentColor"/>'
    )


def _percent(share: float) -> str:
    return f"{share * 100:.2f}%"


def _axes(y: Scale, x: Sequence[Tick], plot: int, unit: str) -> list[str]:
    """Rules and labels; the unit stands once, at the highest label."""
    parts = ['<g class="q-chart-grid" aria-hidden="true">']
    for tick in x:
        if 0 < tick.at < 1:
            place = _percent(tick.at)
            parts.append(
                f'<line class="q-chart-rule-x" x1="{place}" x2="{place}" y1="{_TOP}" y2="{plot}"'
                ' stroke="currentColor" stroke-opacity="0.1"/>'
            )
    for i, value in enumerate(y.ticks):
        down = round(_TOP + (1 - y.share(value)) * (plot - _TOP), 1)
        text = f"{number(value, y.decimals)} {unit if i == len(y.ticks) - 1 else ''}".strip()
        parts.append(
            f'<line class="q-chart-rule" x1="0" x2="100%" y1="{down}" y2="{down}" stroke="currentColor"'
            f' stroke-opacity="0.2"/><text class="q-chart-label" x="2" y="{down - 4:.1f}" fill="currentColor"'
            f' font-size="12">{_text(text)}</text>'
        )
    for tick in x:
        if tick.label:
            anchor = "start" if tick.label_at < 0.03 else "end" if tick.label_at > 0.97 else "middle"
            parts.append(
                f'<text class="q-chart-label" x="{_percent(tick.label_at)}" y="{plot + 18}" font-size="12"'
                f' fill="currentColor" text-anchor="{anchor}">{_text(tick.label)}</text>'
            )
    parts.append("</g>")
    return parts


def _plot(height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg width="100%" height="{height}" viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none"'
        f' overflow="hidden">{"".join(parts)}</svg>'
    )


def _frame(parts: Sequence[str], label: Label, height: int) -> SafeString:
    key = _text(label.key)
    size = " q-chart--low" if height < 240 else " q-chart--high" if height > 280 else ""
    return mark_safe(  # noqa: S308 (every text in it was escaped)
        f'<svg xmlns="http://www.w3.org/2000/svg" class="q-chart{size}" role="img" width="100%" height="{height}"'
        f' aria-labelledby="{key}-t {key}-d" fill="none">'
        f'<title id="{key}-t">{_text(label.title)}</title>'
        f'<desc id="{key}-d">{_text(label.description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _text(value: str) -> str:
    # Control characters cannot stand in XML at all, escaped or not (XML 1.0 §2.2).
    return escape("".join(c for c in value if c >= " " and not "\ud800" <= c <= "\udfff" and c < "\ufffe"))
