"""What a download asks for: which series over which period, who may have them, and under which licence.

A selection that is too large is refused with the parameter that makes it so; it is never cut off silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from django.db.models import QuerySet
from django.http import QueryDict

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.portal.periods import EARLIEST, midnight
from quartier.twin import queries
from quartier.twin.models import ObservedProperty, Series, Thing
from quartier.twin.queries import Reading
from quartier.usage.models import Dataset
from quartier.usage.rules import visible_things

MAXIMUM_PLACES: Final = 100
# A year of the air temperature of a hundred stations; at five minutes each some ten million readings.
MAXIMUM_SERIES_DAYS: Final = 40_000
MAXIMUM_DAYS: Final = 3660
DEFAULT_DAYS: Final = 7


class SelectionError(ValueError):
    """A parameter cannot be used; ``field`` names it."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


@dataclass(frozen=True, slots=True)
class Facts:
    """What every row of a series repeats."""

    municipality: str
    thing: str
    name: str
    lon: float | None
    lat: float | None
    prop: str
    channel: str
    unit: str
    boolean: bool


@dataclass(frozen=True, slots=True)
class Licence:
    """Under which licence somebody's data may be used, and who must be named."""

    name: str
    url: str
    attribution: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What somebody asked for."""

    facts: dict[int, Facts]
    since: datetime
    until: datetime
    licences: list[Licence]
    query: str

    def readings(self) -> Iterator[tuple[Facts, Reading]]:
        """All readings, series by series, oldest first."""
        for series_id, reading in queries.stream(list(self.facts), self.since, self.until):
            yield self.facts[series_id], reading


def _moment(query: QueryDict, name: str, *, end_of_day: bool) -> datetime | None:
    """A civil day in Dortmund and Schwerte, or a moment with its offset from UTC."""
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        if len(text) == 10:
            day = date.fromisoformat(text)
            moment = midnight(day + timedelta(days=1) if end_of_day else day)
        else:
            # A plus sign in an address means a blank unless it is written as %2B; nobody remembers that.
            moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except (ValueError, OverflowError):
        raise SelectionError(name, "is no day (2026-11-22) and no moment (2026-11-22T10:00:00Z)") from None
    if moment.tzinfo is None:
        raise SelectionError(name, "needs an offset from UTC, such as 2026-11-22T10:00:00Z")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise SelectionError(name, "lies outside of the years that are kept") from None
    if not EARLIEST.year <= moment.year <= 2200:
        raise SelectionError(name, "lies outside of the years that are kept")
    return moment


def _text(query: QueryDict, name: str) -> list[str]:
    values = [value for text in query.getlist(name) for value in text.split(",") if value]
    if any("\x00" in value or len(value) > 200 for value in values):
        raise SelectionError(name, "holds characters that no name has")
    return values


def select(actor: Actor, query: QueryDict, now: datetime) -> Selection:
    """The series and period of an address. Raises SelectionError."""
    places, properties, cities = _text(query, "ort"), _text(query, "messgroesse"), _text(query, "stadt")
    kinds = _text(query, "art")
    if not (places or properties or cities):
        raise SelectionError("ort", "give at least one of ort, messgroesse, stadt")
    until = _moment(query, "bis", end_of_day=True) or now
    since = _moment(query, "von", end_of_day=False) or until - timedelta(days=DEFAULT_DAYS)
    if since >= until:
        raise SelectionError("von", "must be before bis")
    if until - since > timedelta(days=MAXIMUM_DAYS):
        raise SelectionError(
            "von", f"at most {MAXIMUM_DAYS} days at once; ask for the years one after the other"
        )
    series = Series.objects.filter(thing__in=_things(actor, places, cities, kinds))
    if properties:
        known = set(ObservedProperty.objects.filter(slug__in=properties).values_list("slug", flat=True))
        if unknown := [slug for slug in properties if slug not in known]:
            raise SelectionError("messgroesse", f"{unknown[0]!r} is not known")
        series = series.filter(observed_property__slug__in=properties)
    rows = series.values_list(
        "pk", "municipality__slug", "thing__key", "thing__name", "thing__lon", "thing__lat", "observed_property__slug",
        "channel", "unit", "result_type", "municipality_id", "thing__kind",
    ).order_by("municipality_id", "thing__key", "pk")  # fmt: skip
    found = list(rows)
    days = max(1.0, (until - since) / timedelta(days=1))
    if len(found) * days > MAXIMUM_SERIES_DAYS:
        fitting = int(MAXIMUM_SERIES_DAYS / len(found))
        raise SelectionError(
            "von",
            f"{len(found)} series over {days:.0f} days are too many at once; at most {fitting} days for them",
        )
    facts = {row[0]: Facts(*row[1:9], row[9] == "bool") for row in found}
    licences = _licences({(row[10], row[11]) for row in found})
    return Selection(facts, since, until, licences, query.urlencode())


def _things(
    actor: Actor, places: Sequence[str], cities: Sequence[str], kinds: Sequence[str]
) -> QuerySet[Thing]:
    things = visible_things(actor).order_by()
    if len(places) > MAXIMUM_PLACES:
        raise SelectionError("ort", f"at most {MAXIMUM_PLACES} places at once, not {len(places)}")
    if places:
        pairs = [tuple(place.split("/")) for place in places]
        if wrong := [place for place, pair in zip(places, pairs, strict=True) if len(pair) != 2]:
            raise SelectionError("ort", f"{wrong[0]!r} is not <municipality>/<key>")
        found = dict.fromkeys(
            things.filter(key__in=[pair[1] for pair in pairs]).values_list("municipality__slug", "key", "pk")
        )
        ids = {(municipality, key): pk for municipality, key, pk in found}
        if missing := [place for place, pair in zip(places, pairs, strict=True) if pair not in ids]:
            raise SelectionError("ort", f"{missing[0]!r} is not known")
        things = things.filter(pk__in=[ids[pair[0], pair[1]] for pair in pairs])
    if cities:
        known = set(Municipality.objects.filter(slug__in=cities).values_list("slug", flat=True))
        if unknown := [city for city in cities if city not in known]:
            raise SelectionError("stadt", f"{unknown[0]!r} is not known")
        things = things.filter(municipality__slug__in=cities)
    return things.filter(kind__in=kinds) if kinds else things


def _licences(kinds: set[tuple[int, str]]) -> list[Licence]:
    """The licences of the data sets that hold things of these municipalities and kinds."""
    found: dict[Licence, None] = {}
    for dataset in Dataset.objects.filter(municipality_id__in={m for m, _kind in kinds}):
        if any((dataset.municipality_id, kind) in kinds for kind in dataset.thing_kinds):
            found[Licence(dataset.licence, dataset.licence_url, dataset.attribution)] = None
    return list(found)
