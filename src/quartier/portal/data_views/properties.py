"""The page of one property: all places side by side, ranked, per city and district, and how values are spread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from quartier.cities.rules import actor_of
from quartier.portal import data_queries
from quartier.portal.alphabet import alphabetical
from quartier.portal.axes import ZONE
from quartier.portal.charts import Label, classes, histogram, share_bar, sparkline
from quartier.portal.context import cities
from quartier.portal.data_queries import Place, Value
from quartier.portal.numbers import number, quantity, unit_label
from quartier.portal.periods import midnight
from quartier.portal.presentation import (
    CATEGORIES,
    is_boolean,
    kind_of,
    meaning,
    property_name,
    property_text,
    spread,
    text_of,
    truth_words,
)
from quartier.portal.rows import Shown, show
from quartier.twin.models import ObservedProperty, Series
from quartier.usage.rules import visible_things

PAGE_SIZE: Final = 50
_SORTS: Final = ("-wert", "wert", "name", "stadtteil", "zeit")


@dataclass(frozen=True, slots=True)
class Ranked:
    """A place with the value by which it is ranked: the newest one, or for sums what came together today."""

    place: Place
    kind: Any
    shown: Shown
    x: float | None
    text: str
    rank: int | None = None
    bar: SafeString | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A city or district: its mean and how many places it is the mean of."""

    name: str
    address: str
    count: int
    text: str
    meaning: str
    x: float
    bar: SafeString | None = None
    picture: SafeString | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A property in the index."""

    prop: ObservedProperty
    name: str
    text: str
    unit: str
    count: int


@require_safe
def property_index(request: HttpRequest) -> HttpResponse:
    """``/messgroessen/``: what is measured."""
    actor = actor_of(request.user)
    counted = dict(
        Series.objects.filter(thing__in=visible_things(actor).order_by())
        .order_by()
        .values_list("observed_property_id")
        .annotate(Count("thing", distinct=True))
    )
    groups: dict[str, list[Entry]] = {category: [] for category in CATEGORIES}
    for prop in ObservedProperty.objects.filter(pk__in=counted):
        groups.setdefault(prop.category, []).append(
            Entry(prop, property_name(prop), property_text(prop), unit_label(prop.unit), counted[prop.pk])
        )
    context = {
        "groups": [
            (CATEGORIES.get(category, category), sorted(entries, key=lambda e: alphabetical(e.name)))
            for category, entries in groups.items()
            if entries
        ]
    }
    return render(request, "portal/data/property_index.html", context)


@require_safe
def property_page(request: HttpRequest, slug: str) -> HttpResponse:
    """``/messgroessen/<slug>/``."""
    prop = ObservedProperty.objects.filter(slug=slug).first()
    if prop is None:
        raise Http404(_("Diese Messgröße gibt es nicht."))
    actor = actor_of(request.user)
    city = next((c for c in cities() if c.slug == request.GET.get("stadt")), None)
    having = Series.objects.filter(observed_property=prop).values("thing_id")
    things = visible_things(actor).filter(pk__in=having).order_by("name", "id")
    if city:
        things = things.filter(municipality_id=city.id)
    places = data_queries.places(things)
    now = timezone.now()
    ranked = _ranked(places, prop, now)
    sort = request.GET.get("sort", "")
    # Degrees of a compass are no more or less: they have no ranks.
    sort = sort if sort in _SORTS else "name" if prop.circular else "-wert"
    page: Page[Ranked] = Paginator(_sorted(ranked, sort), PAGE_SIZE).get_page(request.GET.get("seite"))
    numbers = [r.x for r in ranked if r.x is not None]
    name = property_name(prop)
    context = {
        "prop": prop,
        "name": name,
        "text": property_text(prop),
        "unit": unit_label(prop.unit),
        "city": city,
        "theme": city.theme if city else "",
        "count": len(places),
        "sums": prop.aggregation == "sum",
        "with_ranks": not prop.circular and not is_boolean(prop),
        "sentence": _sentence(ranked, prop),
        "page": page,
        "sort": sort,
        "sorts": {name_: f"?{_query(city.slug if city else '', name_)}" for name_ in _SORTS},
        "previous": f"?{_query(city.slug if city else '', sort)}&seite={page.number - 1}",
        "next": f"?{_query(city.slug if city else '', sort)}&seite={page.number + 1}",
        "groups": _groups(ranked, prop, now) if not prop.circular else [],
        "districts": _districts(ranked, prop) if not prop.circular else [],
        "spread_picture": _spread(numbers, prop),
        "spread_rows": _spread_rows(numbers, prop),
        "newest": max((r.shown.value.time for r in ranked), default=None),
        "list_query": urlencode({"messgroesse": prop.slug} | ({"stadt": city.slug} if city else {})),
        "today": timezone.localtime(now, ZONE).date(),
    }
    return render(request, "portal/data/property.html", context)


def _query(city: str, sort: str) -> str:
    return urlencode({name: value for name, value in {"stadt": city, "sort": sort}.items() if value})


def _ranked(places: Sequence[Place], prop: ObservedProperty, now: datetime) -> list[Ranked]:
    """All places that ever said something, the largest value first; old and doubted values have no rank."""
    values = data_queries.values([place.id for place in places], [prop.slug])
    shown = {place.id: values[place.id][prop.slug] for place in places if place.id in values}
    totals: Mapping[int, float] = {}
    if prop.aggregation == "sum":
        today = midnight(timezone.localtime(now, ZONE).date())
        totals = data_queries.totals([v.series_id for v in shown.values()], today)
    rows = []
    for place in places:
        value = shown.get(place.id)
        if value is None:
            continue
        x = _number(value, prop, totals)
        text = quantity(x, prop.unit, prop.decimals) if prop.aggregation == "sum" else ""
        rows.append(
            Ranked(
                place,
                kind_of(place.kind).one,
                show(value, prop),
                x,
                text or text_of(prop, value.result, value.value),
            )
        )
    rows.sort(key=lambda r: (r.x is None, -(r.x or 0.0), alphabetical(r.place.name)))
    known = [r.x for r in rows if r.x is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return [
        replace(r, rank=rank, bar=None if prop.circular else _bar(r.x, low, high, prop))
        if r.x is not None
        else r
        for rank, r in enumerate(rows, start=1)
    ]


def _bar(x: float, low: float, high: float, prop: ObservedProperty) -> SafeString:
    """Bars of temperatures would hide all differences if they began at zero; they begin a little below the least."""
    if low <= 0 or prop.aggregation == "sum" or prop.unit in {"%", "1"}:
        return share_bar(x, min(low, 0.0), high)
    base = low - 0.1 * (high - low)
    return share_bar(x - base, 0.0, high - base)


def _number(value: Value, prop: ObservedProperty, totals: Mapping[int, float]) -> float | None:
    if prop.aggregation == "sum":
        return totals.get(value.series_id, 0.0) if value.awake else None
    x = value.good
    return x if x is not None and math.isfinite(x) else None


def _sorted(rows: Sequence[Ranked], sort: str) -> list[Ranked]:
    if sort == "wert":
        return sorted(rows, key=lambda r: (r.x is None, r.x or 0.0, alphabetical(r.place.name)))
    if sort == "name":
        return sorted(rows, key=lambda r: alphabetical(r.place.name))
    if sort == "stadtteil":
        return sorted(
            rows,
            key=lambda r: (
                r.place.city,
                alphabetical(r.place.district or "\uffff"),
                alphabetical(r.place.name),
            ),
        )
    if sort == "zeit":
        return sorted(rows, key=lambda r: r.shown.value.time, reverse=True)
    return list(rows)


def _sentence(rows: Sequence[Ranked], prop: ObservedProperty) -> str:
    known = [r for r in rows if r.x is not None]
    if not known:
        return _("Gerade sendet kein Ort einen Wert.")
    if is_boolean(prop):
        yes = sum(1 for r in known if r.x)
        return _("Gerade %(yes)s: %(n)s von %(all)s Orten.") % {
            "yes": truth_words(prop.slug)[0],
            "n": number(yes),
            "all": number(len(known)),
        }
    if prop.circular:
        words_of = [meaning(prop.slug, r.x) or text_of(prop, r.x) for r in known]
        most, n = Counter(words_of).most_common(1)[0]
        return _("Gerade am häufigsten: %(most)s, an %(n)s von %(all)s Orten.") % {
            "most": most,
            "n": number(n),
            "all": number(len(known)),
        }
    values = [r.x or 0.0 for r in known]
    words = {
        "n": number(len(known)),
        "mean": quantity(sum(values) / len(values), prop.unit, prop.decimals),
        "spread": spread(prop, min(values), max(values)),
        "most": known[0].place.name,
        "least": known[-1].place.name,
    }
    if prop.aggregation == "sum" and max(values) == 0:
        return _("Heute an allen %(n)s Orten: %(spread)s.") % words
    if prop.aggregation == "sum":
        return _("Heute an %(n)s Orten: %(spread)s. Am meisten: %(most)s.") % words
    if len(known) == 1:
        return _("Ein Ort sendet gerade: %(most)s mit %(mean)s.") % words
    return (
        _(
            "Gerade %(spread)s an %(n)s Orten, im Mittel %(mean)s. Am höchsten: %(most)s; am niedrigsten: %(least)s."
        )
        % words
    )


def _mean(rows: Sequence[Ranked]) -> float:
    return sum(r.x or 0.0 for r in rows) / len(rows)


def _mean_text(x: float, prop: ObservedProperty) -> str:
    if is_boolean(prop):
        return f"{quantity(100 * x, '%')} {truth_words(prop.slug)[0]}"
    return quantity(x, prop.unit, max(prop.decimals, 1) if prop.unit == "1" else prop.decimals)


def _groups(rows: Sequence[Ranked], prop: ObservedProperty, now: datetime) -> list[Group]:
    """Per city the mean and how it went since yesterday."""
    found: dict[tuple[str, str], list[Ranked]] = {}
    for row in rows:
        if row.x is not None:
            found.setdefault((row.place.municipality, row.place.city), []).append(row)
    since = now - timedelta(hours=24)
    sums = prop.aggregation == "sum"
    series = {slug: [r.shown.value.series_id for r in members] for (slug, _name), members in found.items()}
    hours = data_queries.hours(series, since)
    groups = []
    for (slug, name), members in sorted(found.items()):
        values = data_queries.evenly(hours[slug], since, now, sums=sums)
        known = [v for v in values if v is not None]
        picture = None
        if len(known) > 1 and not is_boolean(prop):
            title = _("Letzte 24 Stunden: %(spread)s") % {"spread": spread(prop, min(known), max(known))}
            picture = sparkline(values, title=title, bars=sums)
        x = _mean(members)
        groups.append(
            Group(
                name,
                f"?stadt={slug}",
                len(members),
                _mean_text(x, prop),
                meaning(prop.slug, x),
                x,
                None,
                picture,
            )
        )
    return groups


def _districts(rows: Sequence[Ranked], prop: ObservedProperty) -> list[Group]:
    found: dict[tuple[str, str], list[Ranked]] = {}
    for row in rows:
        if row.x is not None and row.place.district:
            found.setdefault((row.place.city, row.place.district), []).append(row)
    means = {key: _mean(members) for key, members in found.items()}
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    return [
        Group(
            f"{district} ({city})",
            "",
            len(found[city, district]),
            _mean_text(x, prop),
            meaning(prop.slug, x),
            x,
            _bar(x, low, high, prop),
        )
        for (city, district), x in sorted(means.items(), key=lambda item: -item[1])
    ]


def _spread(numbers: Sequence[float], prop: ObservedProperty) -> SafeString | None:
    if len(numbers) < 5 or is_boolean(prop) or prop.circular or max(numbers) == min(numbers):
        return None
    title = _("Verteilung: %(name)s") % {"name": property_name(prop)}
    text = _("%(n)s Orte, %(spread)s") % {
        "n": number(len(numbers)),
        "spread": spread(prop, min(numbers), max(numbers)),
    }
    return histogram(numbers, Label("verteilung", title, text, unit_label(prop.unit)))


def _spread_rows(numbers: Sequence[float], prop: ObservedProperty) -> list[tuple[str, int]]:
    if _spread(numbers, prop) is None:
        return []
    scale, counts = classes(list(numbers))
    return [
        (
            _("%(low)s bis unter %(high)s")
            % {
                "low": number(scale.ticks[i], scale.decimals),
                "high": quantity(scale.ticks[i + 1], prop.unit, scale.decimals),
            },
            count,
        )
        for i, count in enumerate(counts)
    ]
