"""Differences of two scripts as rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quartier.desk.diff import Row, rows


def test_changed_line_with_its_surroundings() -> None:
    old = "\n".join(f"line {n}" for n in range(1, 12))
    assert rows(old, old.replace("line 6", "LINE 6")) == [
        Row("gap"),
        Row("same", 3, 3, "line 3"),
        Row("same", 4, 4, "line 4"),
        Row("same", 5, 5, "line 5"),
        Row("removed", 6, None, "line 6"),
        Row("added", None, 6, "LINE 6"),
        Row("same", 7, 7, "line 7"),
        Row("same", 8, 8, "line 8"),
        Row("same", 9, 9, "line 9"),
    ]


def test_change_in_the_first_line_has_no_gap_before() -> None:
    assert rows("a\nb", "c\nb") == [
        Row("removed", 1, None, "a"),
        Row("added", None, 1, "c"),
        Row("same", 2, 2, "b"),
    ]


def test_two_distant_changes_have_a_gap_between() -> None:
    old = [str(n) for n in range(30)]
    new = ["x", *old[1:-1], "y"]
    assert [row.kind for row in rows("\n".join(old), "\n".join(new))] == [
        "removed", "added", "same", "same", "same", "gap", "same", "same", "same", "removed", "added",
    ]  # fmt: skip


def test_equal_texts_differ_in_nothing() -> None:
    assert rows("a\nb", "a\nb") == []


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_the_rows_hold_every_change(old: list[str], new: list[str]) -> None:
    """Lines removed and added, as many as it takes to get from one text to the other."""
    found = rows("\n".join(old), "\n".join(new))
    removed = {row.old: row.text for row in found if row.kind == "removed"}
    added = {row.new: row.text for row in found if row.kind == "added"}
    kept_old = [line for number, line in enumerate(old, 1) if number not in removed]
    kept_new = [line for number, line in enumerate(new, 1) if number not in added]
    assert kept_old == kept_new
    assert all(
        row.text == old[row.old - 1] == new[row.new - 1]
        for row in found
        if row.kind == "same" and row.old and row.new
    )
