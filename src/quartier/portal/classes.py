"""Classes of values for the colours of the map and the bars of a distribution, with the words of the legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from django.utils.translation import gettext as _

from quartier.climate.categories import PET_CATEGORIES, UTCI_CATEGORIES
from quartier.portal.axes import finite, scale
from quartier.portal.numbers import language, number, quantity
from quartier.portal.presentation import is_boolean, truth_words
from quartier.twin.models import ObservedProperty


@dataclass(frozen=True, slots=True)
class Class:
    """A class of values on the map: its colour (1 little to 6 much, 0 unknown) and its words."""

    number: int
    label: str
    upper: float


_CLASS_EDGES: dict[str, tuple[float, ...]] = {
    "air_temperature": (0, 10, 18, 25, 30),
    "fill_level": (20, 40, 60, 80, 90),
    "occupancy": (20, 40, 60, 80, 95),
    "relative_humidity": (30, 45, 60, 75, 90),
    "soil_moisture": (10, 15, 20, 25, 35),
}
# Much of these is good, so little of it gets the warm colours.
_REVERSED = frozenset({"free_spaces", "soil_moisture"})


def classes_for(prop: ObservedProperty, values: Sequence[float]) -> list[Class]:
    """At most six classes that hold all values, from little to much, with fixed limits where people know them."""
    if is_boolean(prop):
        yes, no = truth_words(prop.slug)
        return [Class(2, no, 0.5), Class(5, yes, math.inf)]
    if prop.slug in {"utci", "pet"}:
        return _stress_classes(prop.slug)
    edges = _CLASS_EDGES.get(prop.slug) or _even_edges(values)
    bounds = [-math.inf, *edges, math.inf]
    found = []
    for index, (low, high) in enumerate(pairwise(bounds)):
        colour = len(bounds) - 1 - index if prop.slug in _REVERSED else index + 1
        # A value on the limit belongs to the class above, as its label says.
        found.append(Class(colour, _class_label(prop, low, high), math.nextafter(high, -math.inf)))
    return found


def _even_edges(values: Sequence[float]) -> tuple[float, ...]:
    known = [v for value in values if (v := finite(value)) is not None]
    if not known:
        return ()
    ticks = scale(known, ticks=5).ticks
    return ticks[1:-1][:5]


def _class_label(prop: ObservedProperty, low: float, high: float) -> str:
    decimals = (
        0 if all(math.isinf(x) or float(x).is_integer() for x in (low, high)) else max(1, prop.decimals)
    )
    if math.isinf(low) and math.isinf(high):
        return _("alle Werte")
    if math.isinf(low):
        return _("unter %(high)s") % {"high": quantity(high, prop.unit, decimals)}
    if math.isinf(high):
        return _("ab %(low)s") % {"low": quantity(low, prop.unit, decimals)}
    return _("%(low)s bis %(high)s") % {
        "low": number(low, decimals),
        "high": quantity(high, prop.unit, decimals),
    }


def _stress_classes(slug: str) -> list[Class]:
    """Thermal stress in six colours; both kinds of cold share the two cold ones."""
    colours = {-5: 1, -4: 1, -3: 1, -2: 2, -1: 2, 0: 3, 1: 4, 2: 4, 3: 5, 4: 6, 5: 6}
    scale_ = UTCI_CATEGORIES if slug == "utci" else PET_CATEGORIES
    return [Class(colours[c.level], c.name(language()), c.upper) for c in scale_]


def class_of(found: Sequence[Class], value: float | None) -> int:
    """The colour of a value; 0 where there is none."""
    if value is None or not math.isfinite(value):
        return 0
    return next((c.number for c in found if value <= c.upper), 0)
