"""The page of one place: what it says now, how it went, what measures there, and its data to take away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from quartier.cities.rules import actor_of
from quartier.portal import data_queries
from quartier.portal.axes import ZONE
from quartier.portal.charts import sparkline
from quartier.portal.data_queries import AWAKE_FOR, Place, Value
from quartier.portal.figures import figure_of
from quartier.portal.periods import PERIODS, Window, window
from quartier.portal.presentation import (
    CATEGORIES,
    every_so_often,
    headline,
    is_boolean,
    kind_of,
    meaning,
    property_name,
    property_text,
    reasons,
    spread,
    surface_name,
    text_of,
    where_measured,
)
from quartier.portal.rows import Row, Shown, properties_by_slug, rows_of, show, wanted_properties
from quartier.portal.sensorthings.show import try_address
from quartier.twin import queries
from quartier.twin.models import Deployment, Series, Thing
from quartier.twin.queries import Latest
from quartier.usage.rules import dataset_of, visible_things

_NEARBY: Final = 5
_NEARBY_DEGREES: Final = 0.03
_DEVICE: Final = "device"
# What fits into a glance; the rest stands below in a list.
_CARDS: Final = 6


@dataclass(frozen=True, slots=True)
class Card:
    """One series of the place: its newest value and its last day."""

    series: Series
    shown: Shown | None
    name: str
    picture: SafeString | None
    address: str
    current: bool
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reading that quality control doubts."""

    time: datetime
    text: str
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A device that measures here now, and how often it does."""

    deployment: Deployment
    interval: str


def find(visible: QuerySet[Thing], municipality: str, key: str) -> Thing:
    """The thing of an address, among the visible ones. Raises Http404 for both that it is not and may not be seen."""
    things = visible.select_related("municipality", "district", "owner")
    thing = things.filter(municipality__slug=municipality, key=key).first()
    if thing is None:
        raise Http404(_("Diesen Ort gibt es nicht."))
    return thing


def _value(series: Series, latest: Latest, now: datetime) -> Value:
    interval_s = (series.device.expected_interval_s or 0) if series.device else 0
    awake = latest.time > now - max(AWAKE_FOR, timedelta(seconds=3 * interval_s))
    return Value(
        series.pk,
        series.thing_id,
        series.observed_property.slug,
        series.channel,
        series.unit,
        latest.time,
        latest.result,
        latest.value,
        latest.flags,
        awake,
    )


def _order(kind: str) -> Any:
    told = kind_of(kind).properties
    categories = list(CATEGORIES)

    def key(series: Series) -> tuple[int, int, str, str]:
        prop = series.observed_property
        weight = told.index(prop.slug) if prop.slug in told else len(told)
        category = categories.index(prop.category) if prop.category in categories else len(categories)
        return weight, category, property_name(prop), series.channel

    return key


def _address(series: Series, found: Window) -> str:
    values = {
        "messgroesse": series.observed_property.slug,
        "kanal": series.channel,
        "zeitraum": found.period.slug if found.period.slug != "tag" else "",
        "bis": found.last_day.isoformat() if found.last_day else "",
    }
    return "?" + urlencode({name: value for name, value in values.items() if value})


def _cards(
    all_series: Sequence[Series],
    latest: dict[int, Latest],
    chosen: Series | None,
    found: Window,
    now: datetime,
) -> list[Card]:
    since = now - timedelta(hours=24)
    hours = data_queries.hours({str(s.pk): [s.pk] for s in all_series}, since)
    cards = []
    for series in all_series:
        prop = series.observed_property
        newest = latest.get(series.pk)
        sums = prop.aggregation == "sum"
        values = data_queries.evenly(hours[str(series.pk)], since, now, sums=sums)
        known = [v for v in values if v is not None]
        picture = None
        if len(known) > 1 and not prop.circular and not is_boolean(prop):
            title = _("Letzte 24 Stunden: %(spread)s") % {"spread": spread(prop, min(known), max(known))}
            picture = sparkline(values, title=title, bars=sums)
        name = property_name(prop) + (f" ({series.channel})" if series.channel else "")
        shown = show(_value(series, newest, now), prop) if newest else None
        current = series == chosen
        cards.append(
            Card(
                series,
                shown,
                name,
                picture,
                _address(series, found),
                current,
                "" if shown else meaning(prop.slug, None),
            )
        )
    return cards


def _choose(
    all_series: Sequence[Series], latest: dict[int, Latest], prop: str, channel: str
) -> Series | None:
    """The series that an address names, else the most telling one with data, else the first."""
    for series in all_series:
        if series.observed_property.slug == prop and series.channel == channel:
            return series
    for series in all_series:
        if series.observed_property.slug == prop:
            return series
    return next((s for s in all_series if s.pk in latest), all_series[0] if all_series else None)


def _nearby(visible: QuerySet[Thing], thing: Thing) -> list[Row]:
    if thing.lon is None or thing.lat is None:
        return []
    around = visible.filter(
        lon__range=(thing.lon - _NEARBY_DEGREES, thing.lon + _NEARBY_DEGREES),
        lat__range=(thing.lat - _NEARBY_DEGREES / 1.6, thing.lat + _NEARBY_DEGREES / 1.6),
    )
    here = (thing.lon, thing.lat)
    found = data_queries.places(around.exclude(pk=thing.pk).order_by())
    found.sort(key=lambda place: data_queries.distance_m(*here, place))
    nearest = _mixed(found)
    return rows_of(nearest, properties_by_slug(wanted_properties(nearest, "")), near=here)


def _mixed(found: Sequence[Place]) -> list[Place]:
    """The nearest ones, but at most two of a kind: eight spaces of one car park tell nothing."""
    chosen: list[Place] = []
    for place in found:
        if sum(other.kind == place.kind for other in chosen) < 2:
            chosen.append(place)
        if len(chosen) == _NEARBY:
            break
    return chosen


def _doubts(series: Series, found: Window) -> list[Doubt]:
    prop = series.observed_property
    readings = data_queries.doubted(series, found.since, found.until)
    return [Doubt(r.time, text_of(prop, r.result, r.value), reasons(prop, r.flags)) for r in readings]


def _sensorthings(thing: Thing) -> str:
    """Where its values can be asked for as programs do; that page asks as nobody, so only for what is public."""
    if not thing.public:
        return ""
    newest = "Observations($top=1;$orderby=phenomenonTime desc)"
    return try_address(f"Things({thing.pk})?$expand=Datastreams($expand={newest})")


def _downloads(thing: Thing, found: Window, today: date) -> dict[str, str]:
    first = timezone.localtime(found.since, ZONE).date()
    query = urlencode(
        {
            "ort": f"{thing.municipality.slug}/{thing.key}",
            "von": first.isoformat(),
            "bis": (found.last_day or today).isoformat(),
        }
    )
    return {form: f"/daten/beobachtungen.{form}?{query}" for form in ("csv", "geojson", "parquet")}


@require_safe
def thing_page(request: HttpRequest, municipality: str, key: str) -> HttpResponse:
    """``/orte/<municipality>/<key>/``."""
    visible = visible_things(actor_of(request.user))
    thing = find(visible, municipality, key)
    now = timezone.now()
    today = timezone.localtime(now, ZONE).date()
    found = window(request.GET, now)
    every = sorted(
        Series.objects.filter(thing=thing).select_related("observed_property", "device"),
        key=_order(thing.kind),
    )
    for series in every:
        series.thing = thing
    latest = queries.latest(series.pk for series in every)
    told = [s for s in every if s.observed_property.category != _DEVICE]
    chosen = _choose(told or every, latest, request.GET.get("messgroesse", ""), request.GET.get("kanal", ""))
    properties = {series.observed_property.slug: series.observed_property for series in every}
    values: dict[str, Value] = {}
    for series in every:
        if series.pk in latest:
            values.setdefault(series.observed_property.slug, _value(series, latest[series.pk], now))
    deployments = list(
        Deployment.objects.filter(thing=thing).select_related("device__device_type").order_by("-since")
    )
    present = [d for d in deployments if d.until is None or d.until > now]
    mounted = [Mounted(d, every_so_often(d.device.expected_interval_s)) for d in present]
    cards = _cards(told, latest, chosen, found, now)
    figure = figure_of(chosen, chosen.observed_property, found, key="verlauf") if chosen else None
    newest = max((value.time for value in values.values()), default=None)
    # The sentence is as old as its first value, not as the newest of all.
    spoken = next(
        (v for s in kind_of(thing.kind).properties if (v := values.get(s)) and v.good is not None), None
    )
    later = found.later(today)
    context = {
        "thing": thing,
        "theme": thing.municipality.theme or thing.municipality.slug,
        "kind": kind_of(thing.kind),
        "headline": headline(thing, values, properties, interval=mounted[0].interval if mounted else ""),
        "newest": newest,
        "measured_at": spoken.time if spoken else newest,
        "awake": any(value.awake for value in values.values()),
        "where": where_measured(present[0].height_above_ground_m, thing.surface) if present else "",
        "surface": surface_name(thing.surface),
        "cards": cards[:_CARDS],
        "more_cards": cards[_CARDS:],
        "device_cards": [
            show(_value(s, latest[s.pk], now), s.observed_property)
            for s in every
            if s.observed_property.category == _DEVICE and s.pk in latest
        ],
        "chosen": chosen,
        "chosen_name": property_name(chosen.observed_property) if chosen else "",
        "chosen_text": property_text(chosen.observed_property) if chosen else "",
        "window": found,
        "figure": figure,
        "doubts": _doubts(chosen, found) if chosen and figure and figure.n_flagged else [],
        "tabs": [
            {
                "label": period.label,
                "address": _tab(chosen, period.slug),
                "current": period.slug == found.period.slug,
            }
            for period in PERIODS.values()
        ],
        "earlier": _tab(chosen, found.period.slug, found.earlier) if found.earlier else "",
        "later": _tab(chosen, found.period.slug, later) if found.last_day else "",
        "present": mounted,
        "former": [d for d in deployments if d not in present],
        "nearby": _nearby(visible, thing),
        "dataset": dataset_of(thing),
        "downloads": _downloads(thing, found, today),
        "sensorthings": _sensorthings(thing),
        "compare": f"/vergleich/?reihe={chosen.pk}" if chosen else "",
        "coordinates": f"{thing.lat:.5f}, {thing.lon:.5f}"
        if thing.lat is not None and thing.lon is not None
        else "",
        "point": f"{thing.lon:.6f},{thing.lat:.6f}"
        if thing.lat is not None and thing.lon is not None
        else "",
        "slug": f"{thing.municipality.slug}/{thing.key}",
    }
    return render(request, "portal/data/thing.html", context)


def _tab(series: Series | None, period: str, last_day: date | None = None) -> str:
    values = {
        "messgroesse": series.observed_property.slug if series else "",
        "kanal": series.channel if series else "",
        "zeitraum": period,
        "bis": last_day.isoformat() if last_day else "",
    }
    return "?" + urlencode({name: value for name, value in values.items() if value}) + "#verlauf"
