"""List and map of places: one set of filters in the address, two views of what it finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from django.core.cache import cache
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from quartier.cities.models import District
from quartier.cities.rules import NOBODY, Actor, actor_of
from quartier.portal import data_queries, search
from quartier.portal.alphabet import alphabetical
from quartier.portal.classes import Class, class_of, classes_for
from quartier.portal.context import City, cities
from quartier.portal.data_queries import Place, Value
from quartier.portal.presentation import CATEGORIES, KINDS, ago, kind_of, main_value, property_name, text_of
from quartier.portal.rows import properties_by_slug, rows_of, wanted_properties
from quartier.twin.models import ObservedProperty, Series, Thing
from quartier.usage.rules import visible_things

PAGE_SIZE: Final = 25
MAP_LIST: Final = 100
MAXIMUM_FEATURES: Final = 5000
_CHOICES_KEPT_S: Final = 60
# So many kinds have a colour of their own on the map.
_COLOURS: Final = 8
_SORTS: Final = ("name", "entfernung", "wert", "-wert")


@dataclass(frozen=True, slots=True)
class Filters:
    """What an address asks for. Words that mean nothing are passed over, so that no address is an error."""

    city: str = ""
    kind: str = ""
    prop: str = ""
    district: str = ""
    state: str = ""
    text: str = ""
    near: tuple[float, float] | None = None
    sort: str = ""

    @classmethod
    def read(cls, query: QueryDict, known_cities: Sequence[City]) -> Filters:
        """The filters of an address."""
        city = query.get("stadt", "")
        sort = query.get("sort", "")
        return cls(
            city if any(city == c.slug for c in known_cities) else "",
            _plain(query.get("art", "")),
            _plain(query.get("messgroesse", "")),
            _plain(query.get("stadtteil", "")),
            query.get("zustand", "") if query.get("zustand") in {"wach", "still"} else "",
            _plain(query.get("q", ""))[: search.MAXIMUM_LENGTH].strip(),
            _position(query),
            sort if sort in _SORTS else "",
        )

    def query(self, **changes: str) -> str:
        """The filters as an address, with some of them changed."""
        values = {
            "q": self.text,
            "stadt": self.city,
            "art": self.kind,
            "messgroesse": self.prop,
            "stadtteil": self.district,
            "zustand": self.state,
            "lat": f"{self.near[1]:.5g}" if self.near else "",
            "lon": f"{self.near[0]:.5g}" if self.near else "",
            "sort": self.sort,
        } | changes
        return urlencode({name: value for name, value in values.items() if value})

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return bool(self.query(sort="", lat="", lon=""))


def _plain(text: str) -> str:
    # PostgreSQL cannot hold the null character in a text, and nobody types it.
    return text.replace("\x00", "")


def _position(query: QueryDict) -> tuple[float, float] | None:
    try:
        lon, lat = float(query.get("lon", "")), float(query.get("lat", ""))
    except ValueError:
        return None
    return (lon, lat) if abs(lon) <= 180 and abs(lat) <= 90 else None


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry of a filter."""

    value: str
    label: Any


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to choose from: only what some visible thing really has."""

    kinds: tuple[str, ...]
    properties: tuple[str, ...]
    districts: tuple[tuple[str, str, str], ...]


def choices(actor: Actor) -> Choices:
    """The entries of the filters; those for everybody are kept for a minute."""
    kept: Choices | None = cache.get("portal.choices") if actor is NOBODY else None
    if kept is None:
        visible = visible_things(actor)
        kept = Choices(
            tuple(visible.order_by("kind").values_list("kind", flat=True).distinct()),
            tuple(
                ObservedProperty.objects.filter(
                    pk__in=Series.objects.filter(thing__in=visible.order_by()).values("observed_property_id")
                ).values_list("slug", flat=True)
            ),
            tuple(District.objects.values_list("municipality__slug", "slug", "name")),
        )
        if actor is NOBODY:
            cache.set("portal.choices", kept, _CHOICES_KEPT_S)
    return kept


@dataclass(frozen=True, slots=True)
class Selection:
    """What the filters found."""

    places: list[Place]
    filters: Filters
    near: tuple[float, float] | None
    near_name: str
    understood: str
    districts: Sequence[search.Spot]
    sort: str


def select(actor: Actor, filters: Filters) -> Selection:
    """The places that an address asks for, in its order."""
    things = _filtered(visible_things(actor), filters)
    near, near_name, understood = filters.near, "", ""
    districts: Sequence[search.Spot] = ()
    ranks: dict[int, int] = {}
    if filters.text:
        index = search.index_of(visible_things(actor), public=actor is NOBODY)
        found = search.search(filters.text, index)
        understood, districts = found.understood, found.districts
        if found.ids:
            things = things.filter(pk__in=found.ids)
            ranks = {pk: rank for rank, pk in enumerate(found.ids)}
        elif found.spot:
            # Nothing is called so, but we know where it is: what is nearest to it.
            near, near_name = (found.spot.lon, found.spot.lat), found.spot.name
        else:
            things = things.none()
    sort = filters.sort
    if sort == "entfernung" and not near:
        sort = ""
    sort = sort or ("" if ranks else "entfernung" if near else "name")
    rows = data_queries.places(things.order_by("name", "id"))
    rows.sort(key=lambda place: alphabetical(place.name))
    if filters.state:
        awake = {
            pk for pk, (_time, is_awake) in data_queries.activity([p.id for p in rows]).items() if is_awake
        }
        rows = [p for p in rows if (p.id in awake) == (filters.state == "wach")]
    return Selection(
        _sorted(rows, sort, near, ranks, filters.prop), filters, near, near_name, understood, districts, sort
    )


def _filtered(things: QuerySet[Thing], filters: Filters) -> QuerySet[Thing]:
    if filters.city:
        things = things.filter(municipality__slug=filters.city)
    if filters.kind:
        things = things.filter(kind=filters.kind)
    if filters.district:
        municipality, _slash, slug = filters.district.partition("/")
        things = things.filter(municipality__slug=municipality, district__slug=slug)
    if filters.prop:
        having = Series.objects.filter(observed_property__slug=filters.prop).values("thing_id")
        things = things.filter(pk__in=having)
    return things


def _sorted(
    rows: list[Place], sort: str, near: tuple[float, float] | None, ranks: dict[int, int], prop: str
) -> list[Place]:
    if sort == "entfernung" and near:
        return sorted(rows, key=lambda place: data_queries.distance_m(*near, place))
    if sort in {"wert", "-wert"}:
        values = data_queries.values([place.id for place in rows], wanted_properties(rows, prop))
        sign = -1 if sort == "-wert" else 1

        def key(place: Place) -> tuple[bool, float]:
            value = main_value(place, values.get(place.id, {}))
            result = value.good if value else None
            return (True, 0.0) if result is None or not math.isfinite(result) else (False, sign * result)

        return sorted(rows, key=key)
    if not sort and ranks:
        return sorted(rows, key=lambda place: ranks[place.id])
    return rows


def _context(request: HttpRequest, view: str) -> dict[str, Any]:
    actor = actor_of(request.user)
    known = cities()
    filters = Filters.read(request.GET, known)
    selection = select(actor, filters)
    properties = properties_by_slug()
    offered = choices(actor)
    page: Page[Place] = Paginator(selection.places, PAGE_SIZE if view == "list" else MAP_LIST).get_page(
        request.GET.get("seite")
    )
    chosen = properties.get(filters.prop)
    city = next((c for c in known if c.slug == filters.city), None)
    return {
        "view": view,
        "filters": filters,
        "selection": selection,
        "page": page,
        "rows": rows_of(list(page), properties, chosen=filters.prop, near=selection.near),
        "count": len(selection.places),
        "chosen": chosen,
        "chosen_name": property_name(chosen) if chosen else "",
        "theme": city.theme if city else "",
        "kinds": [Choice(slug, kind_of(slug).many) for slug in _in_order(offered.kinds)],
        "properties": grouped(offered.properties, properties),
        "districts": _districts(offered, known, filters.city),
        "sorts": _sorts(selection),
        "list_address": f"/orte/?{filters.query()}",
        "map_address": f"/orte/karte?{filters.query()}",
        "geojson_address": f"/orte.geojson?{filters.query()}",
        "previous": f"?{filters.query(seite=str(page.number - 1))}",
        "next": f"?{filters.query(seite=str(page.number + 1))}",
        "download": f"/daten/?{filters.query()}",
    }


def _in_order(kinds: Sequence[str]) -> list[str]:
    known = list(KINDS)
    return sorted(kinds, key=lambda slug: (known.index(slug) if slug in KINDS else len(known), slug))


def grouped(slugs: Sequence[str], properties: dict[str, ObservedProperty]) -> list[tuple[str, list[Choice]]]:
    groups: dict[str, list[Choice]] = {category: [] for category in CATEGORIES}
    for slug in slugs:
        if slug in properties:
            prop = properties[slug]
            groups.setdefault(prop.category, []).append(Choice(slug, property_name(prop)))
    return [
        (str(CATEGORIES.get(category, category)), sorted(entries, key=lambda c: alphabetical(str(c.label))))
        for category, entries in groups.items()
        if entries
    ]


def _districts(offered: Choices, known: Sequence[City], city: str) -> list[tuple[str, list[Choice]]]:
    return [
        (c.name, [Choice(f"{m}/{slug}", name) for m, slug, name in offered.districts if m == c.slug])
        for c in known
        if not city or c.slug == city
    ]


def _sorts(selection: Selection) -> list[Choice]:
    sorts = [
        Choice("name", _("Name")),
        Choice("-wert", _("größter Wert zuerst")),
        Choice("wert", _("kleinster Wert zuerst")),
    ]
    if selection.near:
        sorts.insert(0, Choice("entfernung", _("Entfernung")))
    if selection.filters.text and not selection.near_name:
        sorts.insert(0, Choice("", _("bester Treffer zuerst")))
    return sorts


@require_safe
def place_list(request: HttpRequest) -> HttpResponse:
    """``/orte/``: all places as a list."""
    return render(request, "portal/data/places.html", _context(request, "list"))


@require_safe
def place_map(request: HttpRequest) -> HttpResponse:
    """``/orte/karte``: the same places on a map, the list beside it."""
    return render(request, "portal/data/places.html", _context(request, "map"))


@require_safe
def place_geojson(request: HttpRequest) -> HttpResponse:
    """``/orte.geojson``: the same places for the map and for other people's maps, with a value each (RFC 7946)."""
    actor = actor_of(request.user)
    filters = Filters.read(request.GET, cities())
    selection = select(actor, filters)
    places = [p for p in selection.places if p.lon is not None and p.lat is not None]
    properties = properties_by_slug()
    values = data_queries.values([p.id for p in places], wanted_properties(places, filters.prop))
    mains = {place.id: main_value(place, values.get(place.id, {})) for place in places}
    chosen = properties.get(filters.prop)
    if chosen:
        found = classes_for(chosen, [v.good for v in mains.values() if v and v.good is not None])
        legend = [{"class": number, "label": label} for number, label in _merged(found)]
        numbers: dict[str, int] = {}
    else:
        found = []
        kinds = _in_order(list({place.kind for place in places}))
        numbers = {slug: index + 1 if index < _COLOURS else 0 for index, slug in enumerate(kinds)}
        legend = [{"class": numbers[slug], "label": str(kind_of(slug).many)} for slug in kinds]
    features = []
    for place in places[:MAXIMUM_FEATURES]:
        value = mains[place.id]
        feature = _feature(place, value, properties)
        colour = class_of(found, value.good if value else None) if chosen else numbers[place.kind]
        feature["properties"]["class"] = colour
        features.append(feature)
    legend += _unknown([feature["properties"] for feature in features], chosen=chosen is not None)
    body = {
        "type": "FeatureCollection",
        "features": features,
        "legend": legend,
        "numberMatched": len(places),
        "numberReturned": len(features),
    }
    response = HttpResponse(orjson.dumps(body), content_type="application/geo+json")
    response["Cache-Control"] = "private, max-age=10"
    response["Access-Control-Allow-Origin"] = "*"
    return response


def _unknown(shown: Sequence[dict[str, Any]], *, chosen: bool) -> list[dict[str, Any]]:
    """Lines of the legend for points that say nothing: those whose value is doubted, and those that are silent."""
    lines: list[dict[str, Any]] = []
    if chosen and any(one["class"] == 0 and not one["asleep"] for one in shown):
        lines.append({"class": 0, "label": _("auffällig, zählt nicht")})
    if any(one["asleep"] for one in shown):
        lines.append({"class": 0, "label": _("schweigt"), "asleep": True})
    return lines


def _merged(found: Sequence[Class]) -> list[tuple[int, str]]:
    """Classes of one colour share a line of the legend."""
    labels: dict[int, list[str]] = {}
    for one in found:
        labels.setdefault(one.number, []).append(one.label)
    return [(number, ", ".join(texts)) for number, texts in labels.items()]


def _feature(place: Place, value: Value | None, properties: dict[str, ObservedProperty]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "key": place.slug,
        "name": place.name,
        "municipality": place.municipality,
        "kind": place.kind,
        "kind_text": str(kind_of(place.kind).one),
        "district": place.district or None,
        "url": place.url,
        "asleep": value is None or not value.awake,
    }
    prop = properties.get(value.property_slug) if value else None
    if value and prop:
        shown |= {
            "property": prop.slug,
            "result": value.result,
            "unit": value.unit,
            "flags": value.flags,
            "time": value.time,
            "text": text_of(prop, value.result, value.value),
            "age_text": ago(value.time),
        }
    return {
        "type": "Feature",
        "id": place.slug,
        "geometry": {"type": "Point", "coordinates": [place.lon, place.lat]},
        "properties": shown,
    }
