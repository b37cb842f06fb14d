"""Finding places as people write them: "hermannstr 12", "Muenster", "44137", "Hörde" with a typing error.

The names, streets, postcodes and districts of all places fit into memory, so the store needs no
extension for it. Words are brought to one spelling (ß, umlauts, str./straße) and match from their
beginning; only where nothing matches are similar words taken (difflib), and the page says so. What is
found still passes ``visible_things``.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Final

import orjson
from django.core.cache import cache
from django.db.models import QuerySet
from shapely.geometry import shape

from quartier.cities.models import District
from quartier.cities.rules import NOBODY
from quartier.portal.data_queries import Place, places
from quartier.twin.models import Thing
from quartier.usage.rules import visible_things

MAXIMUM_LENGTH = 100
_KEPT_S: Final = 30
_SIMILAR: Final = 0.74
_STREET = re.compile(r"str(?:asse)?\b\.?")
_WORD = re.compile(r"[a-z0-9]+")
_HOUSE_NUMBER = re.compile(r"\d{1,4}[a-z]?")


def normalise(text: str) -> str:
    """One spelling for all: lower case, ß as ss, umlauts without their e or dots, every kind of street as str."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    for written, meant in (("ae", "a"), ("oe", "o"), ("ue", "u")):
        plain = plain.replace(written, meant)
    return " ".join(_WORD.findall(_STREET.sub("str ", plain)))


def tokens(text: str) -> frozenset[str]:
    """The words that a text is found by; a street also as one word and as its stem."""
    words = normalise(text).split()
    found = set(words)
    for word in words:
        if word.endswith("str") and len(word) > 3:
            found.update((word[:-3], "str"))
    for first, second in pairwise(words):
        if second == "str":
            found.add(first + second)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A place with the words that it is found by."""

    place: Place
    name: frozenset[str]
    words: frozenset[str]
    number: str

    def score(self, wanted: Sequence[str]) -> int:
        """How well all wanted words fit; 0 where one does not."""
        total = 0
        for word in wanted:
            if word in self.name:
                total += 4
            elif word in self.words:
                total += 3
            elif len(word) > 1 and any(known.startswith(word) for known in self.words):
                total += 1
            else:
                return 0
        return total


@dataclass(frozen=True, slots=True)
class Spot:
    """A named part of a city, where it lies, and the address of its list if it is a district."""

    name: str
    lon: float
    lat: float
    municipality: str = ""
    slug: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: things in order, districts, a place to look around, and how the words were understood."""

    ids: tuple[int, ...] = ()
    districts: tuple[Spot, ...] = ()
    spot: Spot | None = None
    understood: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """All places of somebody's view."""

    entries: tuple[Entry, ...]
    spots: tuple[Spot, ...]
    vocabulary: frozenset[str] = field(default_factory=frozenset)
    spelling: dict[str, str] = field(default_factory=dict)


def build(rows: Iterable[Place], spots: Iterable[Spot]) -> Index:
    """The index over places and named parts of cities."""
    entries = []
    spelling: dict[str, str] = {}
    for place in rows:
        name = tokens(place.name)
        address = tokens(" ".join((place.street, place.postcode, place.district, place.city)))
        entries.append(Entry(place, name, name | address, normalise(place.house_number)))
        for text in (place.street, place.district, place.city, *place.name.split()):
            for word in normalise(text).split():
                spelling.setdefault(word, text)
    known = tuple(spots)
    for spot in known:
        for word in normalise(spot.name).split():
            spelling.setdefault(word, spot.name)
    vocabulary = frozenset(word for word in spelling if len(word) > 3 and not word.isdigit())
    return Index(tuple(entries), known, vocabulary, spelling)


@lru_cache(maxsize=1)
def _labels() -> tuple[Spot, ...]:
    """The named parts of the cities on our own base map."""
    raw = files("quartier.cities").joinpath("data/basemap.json").read_bytes()
    return tuple(
        Spot(feature["properties"]["name"], *feature["geometry"]["coordinates"][:2])
        for feature in orjson.loads(raw)["features"]
        if feature["properties"]["kind"] == "label" and feature["properties"].get("rank", 3) > 1
    )


def _districts() -> list[Spot]:
    found = []
    for district in District.objects.select_related("municipality"):
        middle = shape(district.polygon).representative_point()
        found.append(Spot(district.name, middle.x, middle.y, district.municipality.slug, district.slug))
    return found


def index_of(things: QuerySet[Thing], *, public: bool) -> Index:
    """The index over some things. The one over what everybody may see is kept for half a minute."""
    if not public:
        return build(places(things), [*_districts(), *_labels()])
    kept: Index | None = cache.get("portal.search")
    if kept is None:
        kept = build(places(visible_things(NOBODY).order_by()), [*_districts(), *_labels()])
        cache.set("portal.search", kept, _KEPT_S)
    return kept


def search(text: str, index: Index) -> Found:
    """What fits a text best, first the best."""
    wanted = normalise(text[:MAXIMUM_LENGTH]).split()
    if not wanted:
        return Found()
    ids, districts, spot = _look_up(wanted, index)
    if ids or districts or spot:
        return Found(ids, districts, spot)
    meant = [_similar(word, index) for word in wanted]
    if meant == wanted:
        return Found()
    ids, districts, spot = _look_up(meant, index)
    if not (ids or districts or spot):
        return Found()
    changed = [index.spelling[new] for old, new in zip(wanted, meant, strict=True) if new != old]
    return Found(ids, districts, spot, ", ".join(dict.fromkeys(changed)))


def _similar(word: str, index: Index) -> str:
    if len(word) < 4 or word.isdigit() or any(known.startswith(word) for known in index.spelling):
        return word
    close = difflib.get_close_matches(word, index.vocabulary, n=1, cutoff=_SIMILAR)
    return close[0] if close else word


def _look_up(wanted: Sequence[str], index: Index) -> tuple[tuple[int, ...], tuple[Spot, ...], Spot | None]:
    spots = [s for s in index.spots if _names(wanted, s.name)]
    districts = tuple(s for s in spots if s.slug)
    ids = _things(wanted, index, number="")
    if not ids and len(wanted) > 1:
        # A house number narrows the search down, but nobody minds the sensor next door.
        number = next((w for w in reversed(wanted) if _HOUSE_NUMBER.fullmatch(w)), "")
        if number:
            ids = _things([w for w in wanted if w != number], index, number=number)
    return ids, districts, spots[0] if spots else None


def _names(wanted: Sequence[str], name: str) -> bool:
    words = normalise(name).split()
    return len(wanted) <= len(words) and all(
        len(w) > 2 and any(known.startswith(w) for known in words) for w in wanted
    )


def _things(wanted: Sequence[str], index: Index, *, number: str) -> tuple[int, ...]:
    if not wanted:
        return ()
    numbers = [w for w in wanted if _HOUSE_NUMBER.fullmatch(w)] if not number else []
    found = []
    for entry in index.entries:
        words = [w for w in wanted if not (w in numbers and w == entry.number)]
        score = entry.score(words) if words else 0
        if score:
            away = abs(_digits(entry.number) - _digits(number)) if number else 0
            found.append((-score, away, entry.place.name, entry.place.id))
    return tuple(row[-1] for row in sorted(found))


def _digits(number: str) -> int:
    match = re.match(r"\d+", number)
    return int(match.group()) if match else 0
