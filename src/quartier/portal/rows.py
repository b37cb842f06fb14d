"""A place with one of its values, ready for a list, a map or a card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quartier.portal import data_queries
from quartier.portal.data_queries import Place, Value
from quartier.portal.numbers import number, quantity
from quartier.portal.presentation import (
    figure,
    is_boolean,
    kind_of,
    main_value,
    meaning,
    property_name,
    reasons,
    text_of,
    truth_words,
)
from quartier.twin.models import ObservedProperty


@dataclass(frozen=True, slots=True)
class Shown:
    """A value in words and numbers, and what the page's script needs to keep it up to date."""

    value: Value
    prop: ObservedProperty
    name: str
    number: str
    unit: str
    text: str
    meaning: str
    reasons: Sequence[str]

    @property
    def truth(self) -> tuple[str, str] | None:
        """Words for yes and no, where the property says only that."""
        return truth_words(self.prop.slug) if is_boolean(self.prop) else None


@dataclass(frozen=True, slots=True)
class Row:
    """A place in a list."""

    place: Place
    kind: Any
    shown: Shown | None
    time: datetime | None
    awake: bool
    distance: str = ""


def show(value: Value, prop: ObservedProperty) -> Shown:
    """A value as pages write it."""
    digits, unit = figure(prop, value.result, value.value)
    return Shown(
        value,
        prop,
        property_name(prop),
        digits,
        unit,
        text_of(prop, value.result, value.value),
        meaning(prop.slug, value.result),
        reasons(prop, value.flags) if value.bad else (),
    )


def distance_text(metres: float) -> str:
    """A distance as people say it; empty where it is not known."""
    if not math.isfinite(metres):
        return ""
    return quantity(round(metres, -1), "m") if metres < 1000 else f"{number(metres / 1000, 1)}\u00a0km"


def properties_by_slug(slugs: Iterable[str] | None = None) -> dict[str, ObservedProperty]:
    """The catalogue of observed properties, or some of it."""
    found = (
        ObservedProperty.objects.all() if slugs is None else ObservedProperty.objects.filter(slug__in=slugs)
    )
    return {prop.slug: prop for prop in found}


def wanted_properties(places: Iterable[Place], chosen: str) -> list[str]:
    """Which properties a list of places shows: the chosen one, else the most telling ones of their kinds."""
    if chosen:
        return [chosen]
    return sorted({slug for place in places for slug in kind_of(place.kind).properties[:3]})


def rows_of(
    places: Sequence[Place],
    properties: Mapping[str, ObservedProperty],
    *,
    chosen: str = "",
    near: tuple[float, float] | None = None,
) -> list[Row]:
    """The places with a value each: of the chosen property, else their main one. Two queries."""
    ids = [place.id for place in places]
    values = data_queries.values(ids, wanted_properties(places, chosen))
    activity = data_queries.activity(ids)
    rows = []
    for place in places:
        value = main_value(place, values.get(place.id, {}))
        prop = properties.get(value.property_slug) if value else None
        time, awake = activity.get(place.id, (None, False))
        distance = distance_text(data_queries.distance_m(*near, place)) if near else ""
        shown = show(value, prop) if value and prop else None
        rows.append(Row(place, kind_of(place.kind).one, shown, time, awake, distance))
    return rows
