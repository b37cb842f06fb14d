"""Search: what people write finds what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.portal import search
from quartier.portal.data_queries import Place
from quartier.portal.search import Spot


def place(number: int, name: str, address: str = "|||") -> Place:
    street, house, postcode, district = address.split("|")
    return Place(
        number,
        "dortmund",
        "Dortmund",
        f"t{number}",
        name,
        "station",
        7.4,
        51.5,
        district,
        street,
        house,
        postcode,
    )


HOERDE = Spot("Hörde", 7.50, 51.49, "dortmund", "hoerde")
KREUZVIERTEL = Spot("Kreuzviertel", 7.456, 51.5035)
INDEX = search.build(
    [
        place(1, "Hörde, Hermannstraße", "Hermannstraße|12|44263|Hörde"),
        place(2, "Hörde, Faßstraße", "Faßstraße|7a|44263|Hörde"),
        place(3, "Rheinische Straße Mitte", "Rheinische Straße|40|44137|Innenstadt-West"),
        place(4, "Münsterstraße", "Münsterstraße|100|44145|Innenstadt-Nord"),
        place(5, "Pegel Emscher", "|||Aplerbeck"),
        place(6, "Hörde, Hermannstraße Nord", "Hermannstraße|90|44263|Hörde"),
        place(7, "Zählstelle Hansa", "Hansastraße|2|44137|Innenstadt-West"),
    ],
    [HOERDE, KREUZVIERTEL],
)


@pytest.mark.parametrize(
    ("written", "spelling"),
    [
        ("Faßstraße", "fassstr"),
        ("Fassstr. 7", "fassstr 7"),
        ("Rheinische Straße", "rheinische str"),
        ("MÜNSTERSTRASSE", "munsterstr"),
        ("Muenster Str.", "munster str"),
        ("Straßenleuchte", "strassenleuchte"),
        ("Sölde-Nord", "solde nord"),
        ("  ", ""),
        ("12 a", "12 a"),
    ],
)
def test_spellings_are_one(written: str, spelling: str) -> None:
    assert search.normalise(written) == spelling


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hermannstraße", (1, 6)),
        ("hermannstr.", (1, 6)),
        ("Hermann Str", (1, 6)),
        ("hermannstrasse 12", (1,)),
        ("Hermannstraße 85", (6, 1)),
        ("Faßstraße 7a", (2,)),
        ("fassstr", (2,)),
        ("rheinischestraße", (3,)),
        ("Muensterstr", (4,)),
        ("munster", (4,)),
        ("44137", (3, 7)),
        ("441", (4, 3, 7)),
        ("emscher pegel", (5,)),
        ("Hansa", (7,)),
        ("Dortmund Emscher", (5,)),
        ("Emscher Hansa", ()),
        ("", ()),
        ("%", ()),
    ],
)
def test_text_finds_places(text: str, ids: tuple[int, ...]) -> None:
    assert search.search(text, INDEX).ids == ids


@pytest.mark.parametrize(
    ("text", "ids", "understood"),
    [
        ("Hermanstraße", (1, 6), "Hermannstraße"),
        ("Reinische Straße", (3,), "Rheinische Straße"),
        ("Emschr", (5,), "Emscher"),
        ("Xylophonweg", (), ""),
    ],
)
def test_typing_errors_are_understood_and_said(text: str, ids: tuple[int, ...], understood: str) -> None:
    found = search.search(text, INDEX)
    assert (found.ids, found.understood) == (ids, understood)


def test_district_is_found_with_its_places() -> None:
    found = search.search("hoerde", INDEX)
    assert found == search.Found((2, 1, 6), (HOERDE,), HOERDE, "")


def test_quarter_without_places_gives_a_spot_to_look_around() -> None:
    assert search.search("Kreuzviertl", INDEX) == search.Found((), (), KREUZVIERTEL, "Kreuzviertel")
    assert search.search("kreuzv", INDEX) == search.Found((), (), KREUZVIERTEL, "")


@given(st.text(max_size=200))
def test_any_text_is_answered(text: str) -> None:
    found = search.search(text, INDEX)
    assert set(found.ids) <= {1, 2, 3, 4, 5, 6, 7}
