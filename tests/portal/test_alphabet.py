"""The order of names: DIN 5007-1, and numbers by their size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quartier.portal.alphabet import alphabetical


def test_umlauts_and_numbers_stand_where_people_look_for_them() -> None:
    names = [
        "Wickede", "Bürenbruch", "Leuchte 10, Rosen", "Bövinghausen", "Buchholz", "Leuchte 2, Altstadt", "Brackel",
        "Aplerbeck", "Ölbach", "Osterfeld", "Straße", "Strasse 1", "leuchte 1, Bahnhof", "",
    ]  # fmt: skip
    assert sorted(names, key=alphabetical) == [
        "", "Aplerbeck", "Bövinghausen", "Brackel", "Buchholz", "Bürenbruch", "leuchte 1, Bahnhof",
        "Leuchte 2, Altstadt", "Leuchte 10, Rosen", "Ölbach", "Osterfeld", "Straße", "Strasse 1", "Wickede",
    ]  # fmt: skip


@given(st.lists(st.text(max_size=12)))
def test_any_text_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, key=alphabetical)) == sorted(names)
