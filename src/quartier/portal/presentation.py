"""The words and numbers of the data pages: what a thing is, what a value means, how a period went.

Templates only place what is made here, so that a sentence about a value is the same on every page. Words
come from gettext; names of properties from the catalogue of observed properties, which is data in both
languages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext, pgettext_lazy

from quartier.climate.categories import pet_category, utci_category
from quartier.climate.sentences import weather_sentence
from quartier.portal.data_queries import Place, Value
from quartier.portal.numbers import language, number, quantity, unit_label
from quartier.portal.templatetags.portal import age_in_words
from quartier.twin.flags import explain
from quartier.twin.models import ObservedProperty, Thing
from quartier.twin.properties import Limits


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing in words, and its properties in the order of their weight for a visitor."""

    slug: str
    one: Any
    many: Any
    properties: tuple[str, ...]


KINDS: dict[str, Kind] = {
    kind.slug: kind
    for kind in (
        Kind(
            "station",
            gettext_lazy("Klimastation"),
            gettext_lazy("Klimastationen"),
            ("air_temperature", "utci", "relative_humidity", "precipitation", "wind_speed", "wind_gust"),
        ),
        Kind(
            "level_gauge",
            gettext_lazy("Pegel"),
            pgettext_lazy("Mehrzahl", "Pegel"),
            ("water_level", "water_temperature"),
        ),
        Kind(
            "car_park",
            gettext_lazy("Parkhaus"),
            gettext_lazy("Parkhäuser"),
            ("free_spaces", "occupancy"),
        ),
        Kind(
            "parking_space",
            gettext_lazy("Stellplatz"),
            gettext_lazy("Stellplätze"),
            ("occupied",),
        ),
        Kind(
            "waste_container",
            gettext_lazy("Wertstoffcontainer"),
            pgettext_lazy("Mehrzahl", "Wertstoffcontainer"),
            ("fill_level",),
        ),
        Kind("tree", gettext_lazy("Baum"), gettext_lazy("Bäume"), ("soil_moisture", "soil_temperature")),
        Kind(
            "street_lamp",
            gettext_lazy("Straßenleuchte"),
            gettext_lazy("Straßenleuchten"),
            ("lamp_dimming", "lamp_power", "lamp_failure"),
        ),
        Kind(
            "counter",
            gettext_lazy("Zählstelle"),
            gettext_lazy("Zählstellen"),
            ("pedestrian_count", "bicycle_count"),
        ),
        Kind(
            "citizen_sensor",
            gettext_lazy("Bürgersensor"),
            gettext_lazy("Bürgersensoren"),
            ("air_temperature", "pm2_5", "pm10", "noise_level", "relative_humidity"),
        ),
    )
}

CATEGORIES: dict[str, Any] = {
    "weather": gettext_lazy("Wetter"),
    "comfort": gettext_lazy("Wärme und Kälte"),
    "water": gettext_lazy("Wasser"),
    "mobility": gettext_lazy("Verkehr"),
    "waste": gettext_lazy("Abfall"),
    "green": gettext_lazy("Stadtgrün"),
    "light": gettext_lazy("Licht"),
    "air": gettext_lazy("Luft"),
    "noise": gettext_lazy("Lärm"),
    "device": gettext_lazy("Gerät"),
}

_SURFACES: dict[str, Any] = {
    "asphalt": gettext_lazy("Asphalt"),
    "paving": gettext_lazy("Pflaster"),
    "grass": gettext_lazy("Rasen"),
    "water": gettext_lazy("dem Gewässer"),
    "gravel": gettext_lazy("Schotter"),
    "soil": gettext_lazy("Erde"),
    "roof": gettext_lazy("einem Dach"),
    "concrete": gettext_lazy("Beton"),
}

# Lower ends of the Beaufort classes 1 to 12 in m/s (WMO-No. 8, part I, 5.1).
_BEAUFORT = (0.3, 1.6, 3.4, 5.5, 8.0, 10.8, 13.9, 17.2, 20.8, 24.5, 28.5, 32.7)
_WINDS = (
    gettext_lazy("Windstille"),
    gettext_lazy("leiser Zug"),
    gettext_lazy("leichte Brise"),
    gettext_lazy("schwache Brise"),
    gettext_lazy("mäßige Brise"),
    gettext_lazy("frische Brise"),
    gettext_lazy("starker Wind"),
    gettext_lazy("steifer Wind"),
    gettext_lazy("stürmischer Wind"),
    gettext_lazy("Sturm"),
    gettext_lazy("schwerer Sturm"),
    gettext_lazy("orkanartiger Sturm"),
    gettext_lazy("Orkan"),
)
_DIRECTIONS = (
    gettext_lazy("Nord"),
    gettext_lazy("Nordost"),
    gettext_lazy("Ost"),
    gettext_lazy("Südost"),
    gettext_lazy("Süd"),
    gettext_lazy("Südwest"),
    gettext_lazy("West"),
    gettext_lazy("Nordwest"),
)

# Share of a container from which it is called nearly full.
NEARLY_FULL_PERCENT = 80


def kind_of(slug: str) -> Kind:
    """The words for a kind; an unknown one is called as it is."""
    return KINDS.get(slug) or Kind(slug, slug, slug, ())


def property_name(prop: ObservedProperty) -> str:
    """What a property is called in the page's language."""
    return prop.name_en if language() == "en" else prop.name_de


def property_text(prop: ObservedProperty) -> str:
    """What a property is, in a sentence or two."""
    return prop.description_en if language() == "en" else prop.description_de


def surface_name(surface: str) -> str:
    """What a station stands on, as it follows "über"."""
    return str(_SURFACES.get(surface, surface))


def is_boolean(prop: ObservedProperty) -> bool:
    """Whether the property says yes or no."""
    return prop.result_type == "bool"


def truth_words(slug: str) -> tuple[str, str]:
    """The words for yes and no of a property that knows nothing else."""
    if slug == "occupied":
        return _("belegt"), _("frei")
    if slug == "lamp_failure":
        return _("gestört"), _("in Ordnung")
    return _("ja"), _("nein")


def figure(prop: ObservedProperty, result: float | None, value: Any = None) -> tuple[str, str]:
    """A result as number (or word) and unit."""
    if result is None or not math.isfinite(result):
        return (str(value), "") if isinstance(value, str) else ("–", "")
    if is_boolean(prop):
        return truth_words(prop.slug)[0 if result else 1], ""
    return number(result, prop.decimals), unit_label(prop.unit)


def text_of(prop: ObservedProperty, result: float | None, value: Any = None) -> str:
    """A result with its unit: "21,4 °C", "frei"."""
    if result is not None and math.isfinite(result) and not is_boolean(prop):
        return quantity(result, prop.unit, prop.decimals)
    return figure(prop, result, value)[0]


def meaning(slug: str, result: float | None) -> str:
    """What a number means, where there is a common word for it; empty elsewhere."""
    if result is None or not math.isfinite(result):
        # The formula of the heat index begins there; a dash alone would look like a fault.
        return _("erst ab 20 °C") if slug == "heat_index" else ""
    if slug == "utci" and (felt := utci_category(result)):
        return felt.name(language())
    if slug == "pet" and (felt := pet_category(result)):
        return felt.name(language())
    if slug in {"wind_speed", "wind_gust"}:
        return str(_WINDS[sum(result >= limit for limit in _BEAUFORT)])
    if slug == "wind_direction":
        return _("Wind aus %(direction)s") % {"direction": _DIRECTIONS[round(result / 45) % 8]}
    if slug == "fill_level" and result >= NEARLY_FULL_PERCENT:
        return _("fast voll")
    return ""


def main_value(place: Place, known: Mapping[str, Value]) -> Value | None:
    """The value that stands for a place in a list: the most telling one it has."""
    for slug in kind_of(place.kind).properties:
        if slug in known:
            return known[slug]
    return next(iter(known.values()), None)


def headline(
    thing: Thing,
    known: Mapping[str, Value],
    properties: Mapping[str, ObservedProperty],
    *,
    interval: str = "",
) -> str:
    """The most important things a place has to say now, in one line; empty if it says nothing now.

    ``interval`` says over how long counts were counted: "15 Minuten".
    """
    now = {slug: value.result for slug, value in known.items() if value.good is not None}
    if thing.kind == "counter" and interval:
        words = _headline_of_counter(now, interval)
    else:
        words = _HEADLINES.get(thing.kind, _headline_of_values)(thing, now, properties)
    return words[:1].upper() + words[1:]


def _headline_of_counter(now: Mapping[str, float | None], interval: str) -> str:
    parts = []
    if (people := now.get("pedestrian_count")) is not None:
        parts.append(
            ngettext("%(n)s Mensch zu Fuß", "%(n)s Menschen zu Fuß", round(people)) % {"n": number(people)}
        )
    if (bicycles := now.get("bicycle_count")) is not None:
        parts.append(ngettext("%(n)s Fahrrad", "%(n)s Fahrräder", round(bicycles)) % {"n": number(bicycles)})
    if not parts:
        return ""
    return _("in %(interval)s %(counts)s") % {"interval": interval, "counts": _(" und ").join(parts)}


def _headline_of_values(
    thing: Thing, now: Mapping[str, float | None], properties: Mapping[str, ObservedProperty]
) -> str:
    wanted = [slug for slug in kind_of(thing.kind).properties if slug in now]
    wanted += [slug for slug in now if slug not in wanted and slug in properties]
    parts = [f"{property_name(properties[s])} {text_of(properties[s], now[s])}" for s in wanted[:3]]
    return ", ".join(parts)


def _headline_of_station(
    thing: Thing, now: Mapping[str, float | None], properties: Mapping[str, ObservedProperty]
) -> str:
    sentence = weather_sentence(
        language(),
        air_temperature=now.get("air_temperature"),
        utci=now.get("utci"),
        pet=now.get("pet"),
        heat_index=now.get("heat_index"),
    )
    return sentence or _headline_of_values(thing, now, properties)


def _headline_of_car_park(
    thing: Thing, now: Mapping[str, float | None], properties: Mapping[str, ObservedProperty]
) -> str:
    free = now.get("free_spaces")
    if free is None:
        return _headline_of_values(thing, now, properties)
    capacity = thing.properties.get("capacity") if isinstance(thing.properties, dict) else None
    if isinstance(capacity, int | float) and capacity > 0:
        return _("%(free)s von %(capacity)s Plätzen frei") % {
            "free": number(free),
            "capacity": number(capacity),
        }
    return ngettext("%(free)s Platz frei", "%(free)s Plätze frei", round(free)) % {"free": number(free)}


def _headline_of_space(
    thing: Thing, now: Mapping[str, float | None], properties: Mapping[str, ObservedProperty]
) -> str:
    occupied = now.get("occupied")
    if occupied is None:
        return _headline_of_values(thing, now, properties)
    return _("Der Stellplatz ist belegt") if occupied else _("Der Stellplatz ist frei")


def _headline_of_container(
    thing: Thing, now: Mapping[str, float | None], properties: Mapping[str, ObservedProperty]
) -> str:
    level = now.get("fill_level")
    if level is None:
        return _headline_of_values(thing, now, properties)
    return _("Zu %(level)s gefüllt") % {"level": quantity(level, "%")}


def _headline_of_lamp(
    thing: Thing, now: Mapping[str, float | None], properties: Mapping[str, ObservedProperty]
) -> str:
    if now.get("lamp_failure"):
        return _("Die Leuchte meldet eine Störung")
    brightness = now.get("lamp_dimming")
    if brightness is None:
        return _headline_of_values(thing, now, properties)
    if brightness <= 0:
        return _("Die Leuchte ist aus")
    return _("Die Leuchte brennt mit %(brightness)s ihrer Helligkeit") % {
        "brightness": quantity(brightness, "%")
    }


_HEADLINES = {
    "station": _headline_of_station,
    "car_park": _headline_of_car_park,
    "parking_space": _headline_of_space,
    "waste_container": _headline_of_container,
    "street_lamp": _headline_of_lamp,
}


def where_measured(height_m: float | None, surface: str) -> str:
    """Where the sensor sits: "3 m über Asphalt"; empty where nothing is known of it."""
    if height_m is None:
        return ""
    height = quantity(abs(height_m), "m", 0 if float(height_m).is_integer() else 1)
    if height_m < 0:
        return _("%(height)s unter der Erde") % {"height": height}
    if height_m == 0:
        return _("am Boden")
    if not surface:
        return _("%(height)s über dem Boden") % {"height": height}
    return _("%(height)s über %(surface)s") % {"height": height, "surface": surface_name(surface)}


def every_so_often(seconds: int | None) -> str:
    """An interval as it follows "measures every": "5 Minuten"; empty where it is not known."""
    if not seconds:
        return ""
    if seconds < 60:
        return ngettext("%(n)d Sekunde", "%(n)d Sekunden", seconds) % {"n": seconds}
    if seconds < 3600:
        minutes = round(seconds / 60)
        return ngettext("%(n)d Minute", "%(n)d Minuten", minutes) % {"n": minutes}
    hours = round(seconds / 3600)
    return ngettext("%(n)d Stunde", "%(n)d Stunden", hours) % {"n": hours}


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago, in words."""
    return age_in_words(((now or timezone.now()) - moment).total_seconds())


def reasons(prop: ObservedProperty, flags: int) -> list[str]:
    """Why quality control doubts a value, in sentences; empty if it does not."""
    if not flags:
        return []
    limits = Limits.from_json(prop.limits, unit=prop.unit, circular=prop.circular)
    return explain(flags, language(), limits)


def spread(prop: ObservedProperty, low: float, high: float) -> str:
    """From where to where values reach: "9,1 bis 14,2 °C"."""
    if number(low, prop.decimals) == number(high, prop.decimals):
        return quantity(low, prop.unit, prop.decimals)
    return pgettext("spread", "%(low)s bis %(high)s") % {
        "low": number(low, prop.decimals),
        "high": quantity(high, prop.unit, prop.decimals),
    }
