"""The difference of two texts as rows of a table: readable aloud, because each row says whether it came or went."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal

CONTEXT_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the difference; ``gap`` stands for lines left out."""

    kind: Literal["same", "added", "removed", "gap"]
    old: int | None = None
    new: int | None = None
    text: str = ""


def rows(old: str, new: str) -> list[Row]:
    """Changed lines with three lines around them; empty where the texts are the same."""
    before, after = old.splitlines(), new.splitlines()
    groups = list(SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(CONTEXT_LINES))
    result: list[Row] = []
    for number, group in enumerate(groups):
        if number or group[0][1] or group[0][3]:
            result.append(Row("gap"))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                result += [Row("same", i + 1, j1 + (i - i1) + 1, before[i]) for i in range(i1, i2)]
            else:
                result += [Row("removed", i + 1, None, before[i]) for i in range(i1, i2)]
                result += [Row("added", None, j + 1, after[j]) for j in range(j1, j2)]
    return result
