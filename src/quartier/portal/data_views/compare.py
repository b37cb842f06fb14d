"""Up to six series over one time axis: other places, or the same place at another time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from quartier.cities.rules import NOBODY, Actor, actor_of
from quartier.portal import search
from quartier.portal.axes import ZONE
from quartier.portal.charts import Label, Line, Point, line_chart
from quartier.portal.data_views.places import Choice, choices, grouped
from quartier.portal.figures import Row, gap_of, points_of, script_data, script_line, steps
from quartier.portal.numbers import quantity, unit_label
from quartier.portal.periods import PERIODS, Window, shifted, window
from quartier.portal.presentation import is_boolean, property_name, spread
from quartier.portal.rows import properties_by_slug
from quartier.twin import queries
from quartier.twin.models import ObservedProperty, Series
from quartier.twin.queries import Chart
from quartier.usage.rules import visible_things

MAXIMUM_SERIES: Final = 6
_SUGGESTIONS: Final = 12
_SHIFTS: Final = {
    "": (gettext_lazy("nicht"), 0),
    "tag": (gettext_lazy("mit dem Tag davor"), 1),
    "woche": (gettext_lazy("mit der Woche davor"), 7),
    "monat": (gettext_lazy("mit vier Wochen davor"), 28),
    "jahr": (gettext_lazy("mit dem Jahr davor"), 364),
}


@dataclass(slots=True)
class Compared:
    """A series in the comparison, maybe moved in time. ``number`` says how its line is drawn."""

    series: Series
    prop: ObservedProperty
    name: str
    points: list[Point]
    gap: timedelta
    rows: list[Row]
    mean: float | None
    text: str
    days: int = 0
    remove: str = ""
    number: int = 1


@dataclass(frozen=True, slots=True)
class Panel:
    """All series of one unit: one picture and one table."""

    unit: str
    sentences: list[str]
    picture: SafeString
    data: SafeString
    members: list[Compared]
    table: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def doubted(self) -> bool:
        """Whether the picture has crosses."""
        return any(point.flagged for member in self.members for point in member.points)


def _short_names(members: Sequence[Compared]) -> str:
    """Where all measure the same, only their places differ; returns what they measure, or nothing."""
    if len({m.prop.pk for m in members}) != 1 or any(m.series.channel for m in members):
        return ""
    for member in members:
        member.name = member.series.thing.name + (f" – {_('davor')}" if member.days else "")
    return property_name(members[0].prop)


def _ids(request: HttpRequest) -> list[int]:
    """The series that an address names, each once; what is no number is passed over."""
    texts = request.GET.getlist("reihe")
    found = (int(t) for t in texts if t.isascii() and t.isdigit() and len(t) < 10)
    return list(dict.fromkeys(found))


def _address(ids: Sequence[int], found: Window, shift: str) -> str:
    pairs: list[tuple[str, str]] = [("reihe", str(pk)) for pk in ids]
    pairs.append(("zeitraum", found.period.slug))
    if found.last_day:
        pairs.append(("bis", found.last_day.isoformat()))
    if shift:
        pairs.append(("versatz", shift))
    return "?" + urlencode(pairs)


def _compared(series: Series, shown: Window, days: int, remove: str) -> Compared:
    """A series over the window, or over the one so many days earlier but drawn in this one."""
    prop = series.observed_property
    source = shifted(shown, days) if days else shown
    chart = queries.chart(series, source.since, source.until, max_points=750)
    if days:
        # Moved before it is summed up, so that its hours and days are those in which it is drawn.
        moved = shown.since - source.since
        chart = Chart(chart.resolution, [replace(b, start=b.start + moved) for b in chart.buckets])
    rows = steps(chart.buckets, shown)
    gap = gap_of(chart, series)
    factor = 100.0 if is_boolean(prop) else 1.0
    if prop.aggregation == "sum":
        points = [Point(r.start + (r.end - r.start) / 2, r.total if r.n else None) for r in rows]
        gap = max((r.end - r.start for r in rows), default=timedelta(hours=1)) * 1.6
    elif prop.circular:
        points = []
    else:
        points = points_of(chart, factor)
    total, n = sum(r.total for r in rows), sum(r.n for r in rows)
    known = [p for p in points if p.value is not None]
    mean = None
    text = _("keine Werte")
    if n and known:
        mean = total if prop.aggregation == "sum" else factor * total / n
        text = _summary(prop, mean, known)
    name = f"{series.thing.name} · {property_name(prop)}" + (f" ({series.channel})" if series.channel else "")
    if days:
        name += " – " + _("davor")
    return Compared(series, prop, name, points, gap, rows, mean, text, days, remove)


def _summary(prop: ObservedProperty, mean: float, known: Sequence[Point]) -> str:
    if prop.aggregation == "sum":
        return _("zusammen %(total)s") % {"total": quantity(mean, prop.unit, prop.decimals)}
    if is_boolean(prop):
        return _("im Mittel %(mean)s der Zeit") % {"mean": quantity(mean, "%")}
    lows = [p.low if p.low is not None else p.value or 0.0 for p in known]
    highs = [p.high if p.high is not None else p.value or 0.0 for p in known]
    return _("%(spread)s, im Mittel %(mean)s") % {
        "spread": spread(prop, min(lows), max(highs)),
        "mean": quantity(mean, prop.unit, prop.decimals),
    }


def _differences(members: Sequence[Compared]) -> list[str]:
    """How the others differ from the first, and each from its own past, in a sentence each."""
    now = [m for m in members if not m.days]
    pairs = [(m, now[0], now[0].name) for m in now[1:] if m.prop.pk == now[0].prop.pk]
    for earlier in (m for m in members if m.days):
        pairs += [(m, earlier, _("davor")) for m in now if m.series.pk == earlier.series.pk]
    return [_difference(one, other, name) for one, other, name in pairs if None not in {one.mean, other.mean}]


def _difference(one: Compared, other: Compared, name: str) -> str:
    prop = one.prop
    difference = (one.mean or 0.0) - (other.mean or 0.0)
    unit, decimals = ("%", 0) if is_boolean(prop) else (prop.unit, prop.decimals)
    words = {"one": one.name, "other": name, "difference": quantity(abs(difference), unit, decimals)}
    if words["difference"] == quantity(0.0, unit, decimals):
        return _("%(one)s: im Mittel gleich wie %(other)s.") % words
    if prop.aggregation == "sum" and difference > 0:
        return _("%(one)s: zusammen %(difference)s mehr als %(other)s.") % words
    if prop.aggregation == "sum":
        return _("%(one)s: zusammen %(difference)s weniger als %(other)s.") % words
    if difference > 0:
        return _("%(one)s: im Mittel %(difference)s höher als %(other)s.") % words
    return _("%(one)s: im Mittel %(difference)s niedriger als %(other)s.") % words


def _cell(member: Compared, row: Row | None) -> str:
    if row is None or not row.n:
        return "–"
    if member.prop.aggregation == "sum":
        return quantity(row.total, member.prop.unit, member.prop.decimals)
    if is_boolean(member.prop):
        return quantity(100 * (row.mean or 0.0), "%")
    return quantity(row.mean, member.prop.unit, member.prop.decimals)


def _table(members: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """One row per step of time, one column per series."""
    by_start = [{row.start: row for row in member.rows} for member in members]
    labels = {row.start: row.label for member in members for row in member.rows}
    return [
        (labels[start], [_cell(m, rows.get(start)) for m, rows in zip(members, by_start, strict=True)])
        for start in sorted(labels)
    ]


def _panels(members: Sequence[Compared], shown: Window) -> list[Panel]:
    units: dict[str, list[Compared]] = {}
    for member in members:
        if not member.prop.circular:
            unit = "%" if is_boolean(member.prop) else unit_label(member.prop.unit)
            group = units.setdefault(unit, [])
            group.append(member)
            # Colour and dash of its line in the picture of its unit.
            member.number = len(group)
    panels = []
    for index, (unit, group) in enumerate(units.items()):
        sentences = _differences(group)
        title = _("Vergleich: %(names)s") % {
            "names": ", ".join(dict.fromkeys(property_name(m.prop) for m in group))
        }
        text = " ".join(sentences) or " ".join(f"{m.name}: {m.text}." for m in group)
        label = Label(f"vergleich-{index}", title, text, unit)
        lines = [Line(m.name, m.points, m.gap) for m in group]
        decimals = [0 if is_boolean(m.prop) else m.prop.decimals for m in group]
        data = script_data(
            [
                script_line(m.series, m.name, m.points, unit=unit, decimals=d)
                for m, d in zip(group, decimals, strict=True)
            ],
            shown,
            max(m.gap for m in group),
        )
        picture = line_chart(lines, shown.since, shown.until, label, height=300)
        panels.append(Panel(unit, sentences, picture, data, group, _table(group)))
    return panels


def _suggestions(actor: Actor, text: str, prop: str, ids: Sequence[int]) -> list[Series]:
    """Series to add: of the places that a text finds, of a property if one was chosen."""
    things = visible_things(actor)
    ranks: dict[int, int] = {}
    if text:
        found = search.search(text, search.index_of(things, public=actor is NOBODY))
        ranks = {pk: rank for rank, pk in enumerate(found.ids[:200])}
        things = things.filter(pk__in=list(ranks))
    elif not prop:
        return []
    series = Series.objects.filter(thing__in=things.order_by()).exclude(pk__in=ids)
    series = series.exclude(observed_property__category="device").exclude(observed_property__circular=True)
    if prop:
        series = series.filter(observed_property__slug=prop)
    rows = list(
        series.select_related("thing__municipality", "observed_property").order_by("thing__name", "pk")[:400]
    )
    rows.sort(key=lambda s: ranks.get(s.thing_id, 0))
    return rows[:_SUGGESTIONS]


@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """``/vergleich/?reihe=<id>&reihe=<id>&zeitraum=woche&versatz=woche``."""
    actor = actor_of(request.user)
    now = timezone.now()
    shown = window(request.GET, now, default="woche")
    shift = request.GET.get("versatz", "")
    shift = shift if shift in _SHIFTS else ""
    wanted = _ids(request)
    asked = wanted[:MAXIMUM_SERIES]
    by_id = {
        s.pk: s
        for s in Series.objects.filter(
            pk__in=asked, thing__in=visible_things(actor).order_by()
        ).select_related("thing__municipality", "observed_property", "device")
    }
    ids = [pk for pk in asked if pk in by_id]
    days = _SHIFTS[shift][1]
    members: list[Compared] = []
    for pk in ids:
        remove = _address([other for other in ids if other != pk], shown, shift)
        members.append(_compared(by_id[pk], shown, 0, remove))
    if days:
        for pk in ids[: MAXIMUM_SERIES - len(members)]:
            members.append(_compared(by_id[pk], shown, days, ""))
    text = request.GET.get("ort", "").replace("\x00", "")[: search.MAXIMUM_LENGTH].strip()
    prop = request.GET.get("messgroesse", "").replace("\x00", "")
    if not text and not prop and len(ids) == 1:
        # The obvious next question: how is the same thing elsewhere?
        prop = by_id[ids[0]].observed_property.slug
    suggestions = _suggestions(actor, text, prop, ids) if len(ids) < MAXIMUM_SERIES else []
    later = shown.later(timezone.localtime(now, ZONE).date())
    common = _short_names(members)
    context = {
        "members": members,
        "common": common,
        "ids": ids,
        "panels": _panels(members, shown),
        "circular": [m for m in members if m.prop.circular],
        "window": shown,
        "shift": shift,
        "shifts": [Choice(value, label) for value, (label, _days) in _SHIFTS.items()],
        "text": text,
        "prop": prop,
        "properties": grouped(choices(actor).properties, properties_by_slug()),
        "suggestions": [
            (s, property_name(s.observed_property), _address([*ids, s.pk], shown, shift)) for s in suggestions
        ],
        "searched": bool(text),
        "full": len(ids) >= MAXIMUM_SERIES,
        "too_many": len(wanted) > MAXIMUM_SERIES,
        "missing": len(asked) - len(ids),
        "maximum": MAXIMUM_SERIES,
        "tabs": [
            {
                "label": period.label,
                "address": _period_address(ids, period.slug, shift),
                "current": period.slug == shown.period.slug,
            }
            for period in PERIODS.values()
        ],
        "earlier": _moved(ids, shown, shift, shown.earlier),
        "later": _moved(ids, shown, shift, later) if shown.last_day else "",
        "periods": PERIODS.values(),
    }
    return render(request, "portal/data/compare.html", context)


def _period_address(ids: Sequence[int], period: str, shift: str) -> str:
    pairs = [("reihe", str(pk)) for pk in ids] + [("zeitraum", period)]
    return "?" + urlencode(pairs + ([("versatz", shift)] if shift else []))


def _moved(ids: Sequence[int], shown: Window, shift: str, last_day: object) -> str:
    address = _period_address(ids, shown.period.slug, shift)
    return f"{address}&bis={last_day}" if last_day else address
