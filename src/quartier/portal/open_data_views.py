"""The page of open data: which data sets there are, what is in them, and how to take them along."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language, ngettext
from django.views.decorators.http import require_safe

from quartier.cities.rules import NOBODY
from quartier.config import config
from quartier.portal.context import City, cities
from quartier.usage.models import Dataset
from quartier.usage.rules import visible_things

FORMATS = (("CSV", "csv"), ("GeoJSON", "geojson"), ("Parquet", "parquet"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A data set as the page shows it."""

    title: str
    description: str
    things: int
    series: int
    interval: str
    licence: str
    licence_url: str
    attribution: str
    places: str
    formats: list[dict[str, str]]


def interval_in_words(seconds: int | None) -> str:
    """``alle 10 Minuten``; empty where it is not known."""
    if not seconds:
        return ""
    for size, one in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            n = seconds // size
            words = {
                "day": ngettext("jeden Tag", "alle %(n)d Tage", n),
                "hour": ngettext("jede Stunde", "alle %(n)d Stunden", n),
                "minute": ngettext("jede Minute", "alle %(n)d Minuten", n),
            }
            return words[one] % {"n": n} if "%(n)d" in words[one] else words[one]
    return ngettext("jede Sekunde", "alle %(n)d Sekunden", seconds) % {"n": seconds}


def _entry(
    dataset: Dataset, city: City, things: Counter[tuple[int, str]], series: Counter[tuple[int, str]]
) -> Entry:
    german = not (get_language() or "de").startswith("en")
    keys = [(city.id, kind) for kind in dataset.thing_kinds]
    kinds = [("art", kind) for kind in dataset.thing_kinds]
    where = urlencode([("stadt", city.slug), *kinds])
    return Entry(
        title=dataset.title_de if german else dataset.title_en,
        description=dataset.description_de if german else dataset.description_en,
        things=sum(things[key] for key in keys),
        series=sum(series[key] for key in keys),
        interval=interval_in_words(dataset.update_interval_s),
        licence=dataset.licence,
        licence_url=dataset.licence_url,
        attribution=dataset.attribution,
        places=f"/orte/?{where}",
        formats=[{"name": name, "address": f"/daten/beobachtungen.{end}?{where}"} for name, end in FORMATS],
    )


@require_safe
def open_data(request: HttpRequest) -> HttpResponse:
    """All public data sets by city."""
    visible = visible_things(NOBODY).order_by()
    counted = visible.values_list("municipality_id", "kind").annotate(n=Count("pk"))
    things = Counter({(municipality, kind): n for municipality, kind, n in counted})
    counted = visible.values_list("municipality_id", "kind").annotate(n=Count("series"))
    series = Counter({(municipality, kind): n for municipality, kind, n in counted})
    by_city: dict[int, list[Dataset]] = {}
    for dataset in Dataset.objects.filter(public=True):
        by_city.setdefault(dataset.municipality_id, []).append(dataset)
    groups: list[dict[str, Any]] = [
        {"city": city, "datasets": [_entry(dataset, city, things, series) for dataset in by_city[city.id]]}
        for city in cities()
        if city.id in by_city
    ]
    example = groups[0]["city"].slug if groups else "dortmund"
    values = {"groups": groups, "base_url": config().public_url, "example_city": example}
    return render(request, "portal/pages/open_data.html", values)
