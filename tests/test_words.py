"""The glossary and the page about quality say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from tools import quality_limits

from quartier.cities.models import Role
from quartier.intake.findings import CHECK_NAMES
from quartier.intake.models import QualityFinding
from quartier.twin.models import ThingKind
from quartier.twin.properties import catalogue

DOCS = Path(__file__).parent.parent / "docs"


def _glossary() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    return [row for row in rows if row[0] != "code"]


def test_one_word_per_thing() -> None:
    rows = _glossary()
    assert len(rows) > 80
    code = [row[0] for row in rows]
    assert sorted(code) == sorted(set(code))
    pages = [row[1] for row in rows if row[1] != "–"]
    # An observation on its way is a reading, which matters in code only.
    assert sorted(pages) == sorted([*set(pages), "Messwert"])


def test_glossary_has_the_words_of_roles_kinds_checks_and_decisions() -> None:
    page = {code: word for code, word, _ in _glossary()}
    assert {role.value: page.get(role.value) for role in Role} == {
        role.value: str(role.label) for role in Role
    }
    for kind in ThingKind:
        assert page.get(kind.value.replace("_", " ")) == str(kind.label)
    assert set(CHECK_NAMES.values()) <= page.keys()
    for state in (QualityFinding.State.CONFIRMED, QualityFinding.State.DISMISSED):
        assert page.get(state.value) == str(state.label)


def test_tables_about_quality_are_those_of_the_code() -> None:
    text = (DOCS / "quality.md").read_text()
    assert quality_limits.written(text) == text, "run: python tools/quality_limits.py"
    for one in catalogue().values():
        assert f"\n| {one.name_en} | {one.name_de} | " in text


def test_limits_are_written_as_people_read_them() -> None:
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in quality_limits.limits_table()}
    assert rows["Air temperature"] == (
        "| Air temperature | Lufttemperatur | −40 to 60 °C | 3 °C, and 0.3 more per minute between them | 3 h"
        " | 3.5 °C |"
    )
    assert rows["Wind direction"] == (
        "| Wind direction | Windrichtung | 0 to 360 ° | – | 3 h (0 or 360 °: for 24 h) | – |"
    )
    assert rows["Precipitation"].endswith("| 0 to 50 mm | – | 3 h (0 mm: always) | – |")
