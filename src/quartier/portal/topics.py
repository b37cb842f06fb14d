"""How the cities are right now: for each topic and city one number, one sentence and a small picture.

A topic says only what there is data for, leaves out what is old or doubted, and always says of how many places it
speaks, because a mean of two stations is not the weather of a city.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.cache import cache
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from quartier.portal import data_queries
from quartier.portal.charts import sparkline
from quartier.portal.context import City
from quartier.portal.data_queries import Hour, Place, Value
from quartier.portal.numbers import number, quantity, unit_label
from quartier.portal.presentation import NEARLY_FULL_PERCENT, meaning, spread
from quartier.twin.models import ObservedProperty

SPARK_HOURS: Final = 24
_SPARKS_KEPT_S: Final = 60
# A stream that moves less than this in three hours is called calm.
_CALM_CM: Final = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """What a topic says about one city."""

    city: City
    number: str
    unit: str
    sentence: SafeString | str
    address: str
    time: datetime
    picture: SafeString | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """A card of the home page."""

    slug: str
    title: Any
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Measured:
    """A fresh, undoubted number with its place."""

    place: Place
    value: Value
    x: float


@dataclass(slots=True)
class Scene:
    """Everything that the topics look at: read once, for all cities and topics."""

    now: datetime
    midnight: datetime
    properties: Mapping[str, ObservedProperty]
    measured: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)
    hours: Mapping[str, list[Hour]] = field(default_factory=dict)
    last_hour: Mapping[int, float] = field(default_factory=dict)
    today: Mapping[int, float] = field(default_factory=dict)
    levels_before: Mapping[int, float] = field(default_factory=dict)

    def of(self, city: City, slug: str, kinds: Iterable[str] = ()) -> list[Measured]:
        """The numbers of a property in a city, smallest first."""
        found = self.measured.get((city.slug, slug), [])
        wanted = set(kinds)
        return [m for m in found if not wanted or m.place.kind in wanted]

    def picture(self, city: City, slug: str, *, sums: bool = False) -> SafeString | None:
        """How a property went in a city since yesterday."""
        rows = self.hours.get(f"{city.slug}:{slug}", [])
        values = data_queries.evenly(rows, self.now - timedelta(hours=SPARK_HOURS), self.now, sums=sums)
        known = [v for v in values if v is not None]
        prop = self.properties.get(slug)
        if len(known) < 2 or prop is None:
            return None
        title = _("Letzte 24 Stunden: %(spread)s") % {"spread": spread(prop, min(known), max(known))}
        return sparkline(values, title=title, bars=sums)


_SPARKED: Final = (
    "air_temperature", "utci", "precipitation", "water_level", "free_spaces", "fill_level", "soil_moisture",
    "bicycle_count", "pm2_5",
)  # fmt: skip
SLUGS: Final = (*_SPARKED, "occupied", "pedestrian_count", "lamp_failure")


def scene_of(
    places: Sequence[Place],
    properties: Mapping[str, ObservedProperty],
    *,
    now: datetime,
    midnight: datetime,
    public: bool,
) -> Scene:
    """Read what the topics need, in five queries."""
    by_id = {place.id: place for place in places}
    scene = Scene(now, midnight, properties)
    series: dict[str, list[int]] = {}
    for thing_id, known in data_queries.values(list(by_id), SLUGS).items():
        place = by_id[thing_id]
        for slug, value in known.items():
            series.setdefault(f"{place.municipality}:{slug}", []).append(value.series_id)
            if (x := value.good) is not None:
                scene.measured.setdefault((place.municipality, slug), []).append(Measured(place, value, x))
    for found in scene.measured.values():
        found.sort(key=lambda m: m.x)

    def ids(*slugs: str) -> list[int]:
        return [i for key, found in series.items() if key.partition(":")[2] in slugs for i in found]

    scene.last_hour = data_queries.totals(ids("precipitation"), now - timedelta(hours=1))
    scene.today = data_queries.totals(ids("bicycle_count", "pedestrian_count"), midnight)
    scene.levels_before = data_queries.before(ids("water_level"), now - timedelta(hours=3))
    scene.hours = _hours(series, now, public=public)
    return scene


def _hours(series: Mapping[str, list[int]], now: datetime, *, public: bool) -> Mapping[str, list[Hour]]:
    """The hours of the small pictures; those for everybody are read once a minute."""
    groups = {name: ids for name, ids in series.items() if name.partition(":")[2] in _SPARKED}
    since = now - timedelta(hours=SPARK_HOURS)
    if not public:
        return data_queries.hours(groups, since)
    key = "portal.hours." + ".".join(sorted({name.partition(":")[0] for name in groups}))
    kept: Mapping[str, list[Hour]] | None = cache.get(key)
    if kept is None:
        kept = data_queries.hours(groups, since)
        cache.set(key, kept, _SPARKS_KEPT_S)
    return kept


def topics_of(scene: Scene, cities: Sequence[City]) -> list[Topic]:
    """The cards of the home page; those without any line are left out."""
    found = []
    for slug, title, tell in _TOPICS:
        lines = [line for city in cities if (line := tell(scene, city)) is not None]
        if lines:
            found.append(Topic(slug, title, lines))
    return found


def _link(place: Place, mark: str) -> SafeString:
    # The page's script replaces the cards; focus stays where an element of the same id comes back.
    return format_html('<a id="ort-{}-{}" href="{}">{}</a>', place.municipality, mark, place.url, place.name)


def _newest(found: Iterable[Measured]) -> datetime:
    return max(m.value.time for m in found)


def _mean(found: Sequence[Measured]) -> float:
    return sum(m.x for m in found) / len(found)


def _at(slug: str, city: City) -> str:
    return f"/messgroessen/{slug}/?stadt={city.slug}"


def _temperature(scene: Scene, city: City) -> Line | None:
    slug = "air_temperature"
    found = scene.of(city, slug, ("station",)) or scene.of(city, slug)
    if not found:
        return None
    prop = scene.properties[slug]
    if len(found) == 1:
        sentence = format_html(_("Gemessen an {place}."), place=_link(found[0].place, "1"))
    else:
        sentence = format_html(
            _(
                "Im Mittel von {n} Stationen. Am wärmsten: {warmest} mit {high}. Am kühlsten: {coolest} mit {low}."
            ),
            n=number(len(found)),
            warmest=_link(found[-1].place, "2"),
            high=quantity(found[-1].x, prop.unit, prop.decimals),
            coolest=_link(found[0].place, "3"),
            low=quantity(found[0].x, prop.unit, prop.decimals),
        )
    return Line(
        city, number(_mean(found), prop.decimals), unit_label(prop.unit), sentence, _at(slug, city), _newest(found),
        scene.picture(city, slug),
    )  # fmt: skip


def _felt(scene: Scene, city: City) -> Line | None:
    found = scene.of(city, "utci")
    if not found:
        return None
    prop = scene.properties["utci"]
    mean = _mean(found)
    sentence = format_html(
        ngettext(
            "Gemessen an {place}: {stress}.",
            "Im Mittel von {n} Stationen: {stress}. Am höchsten: {place} mit {high} ({highest}).",
            len(found),
        ),
        n=number(len(found)),
        stress=meaning("utci", mean),
        place=_link(found[-1].place, "4"),
        high=quantity(found[-1].x, prop.unit),
        highest=meaning("utci", found[-1].x),
    )
    return Line(
        city, number(mean), unit_label(prop.unit), sentence, _at("utci", city), _newest(found),
        scene.picture(city, "utci"),
    )  # fmt: skip


def _rain(scene: Scene, city: City) -> Line | None:
    slug = "precipitation"
    found = scene.of(city, slug)
    if not found:
        return None
    prop = scene.properties[slug]
    fallen = sorted(
        ((scene.last_hour.get(m.value.series_id, 0.0), m.place) for m in found), key=lambda f: f[0]
    )
    wet = [rain for rain, _place in fallen if rain >= 0.05]
    most, where = fallen[-1]
    if not wet:
        sentence: SafeString | str = ngettext(
            "An %(n)s Station in der letzten Stunde kein Regen.",
            "An allen %(n)s Stationen in der letzten Stunde kein Regen.",
            len(found),
        ) % {"n": number(len(found))}
    else:
        sentence = format_html(
            _("In der letzten Stunde Regen an {wet} von {all} Stationen, am meisten: {place} mit {most}."),
            wet=number(len(wet)),
            all=number(len(found)),
            place=_link(where, "5"),
            most=quantity(most, prop.unit, prop.decimals),
        )
    return Line(
        city, number(most, prop.decimals), unit_label(prop.unit), sentence, _at(slug, city), _newest(found),
        scene.picture(city, slug, sums=True),
    )  # fmt: skip


def _water(scene: Scene, city: City) -> Line | None:
    slug = "water_level"
    found = scene.of(city, slug)
    if not found:
        return None
    prop = scene.properties[slug]
    moved = [
        (m.x - earlier, m)
        for m in found
        if (earlier := scene.levels_before.get(m.value.series_id)) is not None
    ]
    change, gauge = max(moved, key=lambda pair: abs(pair[0]), default=(0.0, found[-1]))
    if not moved:
        words = number(gauge.x, prop.decimals)
        sentence = format_html(_("Höchster Wasserstand: {place}."), place=_link(gauge.place, "6"))
        return Line(city, words, unit_label(prop.unit), sentence, _at(slug, city), _newest(found))
    if abs(change) < _CALM_CM:
        word = _("ruhig")
        sentence = format_html(
            ngettext(
                "{n} Pegel, in drei Stunden um weniger als {calm} verändert.",
                "{n} Pegel, in drei Stunden alle um weniger als {calm} verändert.",
                len(found),
            ),
            n=number(len(found)),
            calm=quantity(_CALM_CM, prop.unit),
        )
    else:
        word = _("steigend") if change > 0 else _("fallend")
        text = (
            _("Am meisten gestiegen: {place} in drei Stunden um {change} auf {level}.")
            if change > 0
            else _("Am meisten gefallen: {place} in drei Stunden um {change} auf {level}.")
        )
        sentence = format_html(
            text,
            place=_link(gauge.place, "7"),
            change=quantity(abs(change), prop.unit, prop.decimals),
            level=quantity(gauge.x, prop.unit, prop.decimals),
        )
    return Line(city, word, "", sentence, _at(slug, city), _newest(found), scene.picture(city, slug))


def _parking(scene: Scene, city: City) -> Line | None:
    garages, spaces = scene.of(city, "free_spaces"), scene.of(city, "occupied")
    if not garages and not spaces:
        return None
    free_spaces = sum(1 for m in spaces if not m.x)
    parts = []
    if garages:
        parts.append(
            ngettext("in %(n)s Parkhaus", "in %(n)s Parkhäusern", len(garages)) % {"n": number(len(garages))}
        )
    if spaces:
        parts.append(
            _("%(free)s von %(all)s Stellplätzen am Straßenrand frei")
            % {"free": number(free_spaces), "all": number(len(spaces))}
        )
    if garages:
        total, slug = sum(m.x for m in garages), "free_spaces"
        sentence = f"{'; '.join(parts)}."
    else:
        total, slug, sentence = float(free_spaces), "occupied", f"{parts[0]}."
    return Line(
        city, number(total), _("freie Plätze"), sentence[:1].upper() + sentence[1:], _at(slug, city),
        _newest([*garages, *spaces]), scene.picture(city, slug),
    )  # fmt: skip


def _containers(scene: Scene, city: City) -> Line | None:
    slug = "fill_level"
    found = scene.of(city, slug)
    if not found:
        return None
    full = [m for m in found if m.x >= NEARLY_FULL_PERCENT]
    if full:
        sentence: SafeString | str = format_html(
            _("Von {n} Containern mindestens zu {limit} gefüllt. Am vollsten: {place} mit {level}."),
            n=number(len(found)),
            limit=quantity(NEARLY_FULL_PERCENT, "%"),
            place=_link(found[-1].place, "8"),
            level=quantity(found[-1].x, "%"),
        )
    else:
        sentence = _("Keiner von %(n)s Containern ist zu %(limit)s oder mehr gefüllt.") % {
            "n": number(len(found)),
            "limit": quantity(NEARLY_FULL_PERCENT, "%"),
        }
    return Line(
        city,
        number(len(full)),
        _("fast voll"),
        sentence,
        _at(slug, city),
        _newest(found),
        scene.picture(city, slug),
    )


def _trees(scene: Scene, city: City) -> Line | None:
    slug = "soil_moisture"
    found = scene.of(city, slug)
    if not found:
        return None
    prop = scene.properties[slug]
    sentence = format_html(
        ngettext(
            "Gemessen an {n} Baum: {place} mit {low}.",
            "Im Mittel von {n} Bäumen. Am trockensten: {place} mit {low}.",
            len(found),
        ),
        n=number(len(found)),
        place=_link(found[0].place, "9"),
        low=quantity(found[0].x, prop.unit, prop.decimals),
    )
    return Line(
        city, number(_mean(found)), unit_label(prop.unit), sentence, _at(slug, city), _newest(found),
        scene.picture(city, slug),
    )  # fmt: skip


def _counters(scene: Scene, city: City) -> Line | None:
    bicycles, people = scene.of(city, "bicycle_count"), scene.of(city, "pedestrian_count")
    if not bicycles:
        return None
    total = sum(scene.today.get(m.value.series_id, 0.0) for m in bicycles)
    walked = sum(scene.today.get(m.value.series_id, 0.0) for m in people)
    values = {"n": number(len(bicycles)), "people": number(walked)}
    if people:
        sentence = ngettext(
            "Heute an %(n)s Zählstelle, dazu %(people)s Menschen zu Fuß.",
            "Heute an %(n)s Zählstellen, dazu %(people)s Menschen zu Fuß.",
            len(bicycles),
        )
    else:
        sentence = ngettext("Heute an %(n)s Zählstelle.", "Heute an %(n)s Zählstellen.", len(bicycles))
    return Line(
        city, number(total), _("Fahrräder"), sentence % values, _at("bicycle_count", city), _newest(bicycles),
        scene.picture(city, "bicycle_count", sums=True),
    )  # fmt: skip


def _lamps(scene: Scene, city: City) -> Line | None:
    slug = "lamp_failure"
    found = scene.of(city, slug)
    if not found:
        return None
    broken = [m for m in found if m.x]
    sentence = ngettext(
        "Von %(n)s Leuchte, die sich selbst meldet.",
        "Von %(n)s Leuchten, die sich selbst melden.",
        len(found),
    ) % {"n": number(len(found))}
    word = ngettext("Störung", "Störungen", len(broken))
    return Line(city, number(len(broken)), word, sentence, _at(slug, city), _newest(found))


def _air(scene: Scene, city: City) -> Line | None:
    slug = "pm2_5"
    found = scene.of(city, slug)
    if not found:
        return None
    prop = scene.properties[slug]
    sentence = format_html(
        ngettext("An {n} Ort.", "Im Mittel von {n} Orten. Am höchsten: {place} mit {high}.", len(found)),
        n=number(len(found)),
        place=_link(found[-1].place, "10"),
        high=quantity(found[-1].x, prop.unit, prop.decimals),
    )
    return Line(
        city, number(_mean(found), prop.decimals), unit_label(prop.unit), sentence, _at(slug, city), _newest(found),
        scene.picture(city, slug),
    )  # fmt: skip


_TOPICS: Final[tuple[tuple[str, Any, Callable[[Scene, City], Line | None]], ...]] = (
    ("temperature", gettext_lazy("Lufttemperatur"), _temperature),
    ("felt", gettext_lazy("Gefühlte Temperatur"), _felt),
    ("rain", gettext_lazy("Regen in der letzten Stunde"), _rain),
    ("water", gettext_lazy("Bäche und Flüsse"), _water),
    ("parking", gettext_lazy("Parken"), _parking),
    ("bicycles", gettext_lazy("Rad- und Fußverkehr heute"), _counters),
    ("containers", pgettext_lazy("Mehrzahl", "Wertstoffcontainer"), _containers),
    ("trees", gettext_lazy("Bodenfeuchte an Bäumen"), _trees),
    ("air", gettext_lazy("Feinstaub"), _air),
    ("lamps", gettext_lazy("Straßenbeleuchtung"), _lamps),
)
