"""Write the tables of ``docs/quality.md`` that follow from the code: what the flags say, and the limits per property.

Run ``python tools/quality_limits.py`` after a change of the catalogue or of a sentence; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isinf
from pathlib import Path

from quartier.intake.findings import CHECK_NAMES
from quartier.intake.spatial import MIN_NEIGHBOURS, SPATIAL_LIMITS
from quartier.twin.flags import BAD, Flag, explain
from quartier.twin.properties import Limits, catalogue
from quartier.twin.units import display, display_number

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/quality.md"
_HOUR_S = 3600


def number(value: float) -> str:
    """As people write it: −40, 0.5, 100 000."""
    return display_number(value, None, "en")


def duration(seconds: float) -> str:
    """In hours up to two days, then in days."""
    hours = seconds / _HOUR_S
    return f"{number(hours)} h" if hours < 48 else f"{number(hours / 24)} d"


def with_unit(text: str, unit: str) -> str:
    """With the unit behind it, if there is one."""
    return f"{text} {display(unit, 'en')}".rstrip()


def possible(limits: Limits) -> str:
    """The range of possible values."""
    if isinf(limits.minimum) and isinf(limits.maximum):
        return "–"
    return with_unit(f"{number(limits.minimum)} to {number(limits.maximum)}", limits.unit)


def step(limits: Limits) -> str:
    """How far two readings may lie apart."""
    if isinf(limits.max_step):
        return "–"
    at_once = with_unit(number(limits.max_step), limits.unit)
    if not limits.max_step_per_min:
        return at_once
    return f"{at_once}, and {number(limits.max_step_per_min)} more per minute between them"


def standstill(limits: Limits) -> str:
    """How long a value may stay the same, and what excuses it."""
    if isinf(limits.persistence_s):
        return "–"
    text = duration(limits.persistence_s)
    if not limits.persistence_ignore:
        return text
    ranges = " or ".join(
        number(low) if low == high else f"{number(low)} to {number(high)}"
        for low, high in limits.persistence_ignore
    )
    excuse = (
        "always" if isinf(limits.persistence_ignore_s) else f"for {duration(limits.persistence_ignore_s)}"
    )
    return f"{text} ({with_unit(ranges, limits.unit)}: {excuse})"


def neighbours(slug: str) -> str:
    """From which deviation on a value is flagged at least."""
    limits = SPATIAL_LIMITS.get(slug)
    if limits is None:
        return "–"
    return with_unit(number(limits.threshold * limits.min_std), catalogue()[slug].unit)


def limits_table() -> Iterator[str]:
    """One row per property that a device can measure."""
    yield "| property | Messgröße | possible | jump | stands still | neighbours |"
    yield "|---|---|---|---|---|---|"
    for one in catalogue().values():
        cells = (
            one.name_en,
            one.name_de,
            possible(one.limits),
            step(one.limits),
            standstill(one.limits),
            neighbours(one.slug),
        )
        yield f"| {' | '.join(cells)} |"


def flags_table() -> Iterator[str]:
    """One row per flag, with the sentence that stands on the page of an air temperature."""
    limits = catalogue()["air_temperature"].limits
    yield "| flag | check | counts in means | on the page, here of an air temperature |"
    yield "|---|---|---|---|"
    detail = {"expected": 20.0, "neighbours": MIN_NEIGHBOURS}
    for flag in Flag:
        name = CHECK_NAMES.get(flag, "–")
        (sentence,) = explain(int(flag), "en", limits, detail)
        yield f"| {int(flag)} | {name} | {'no' if flag & BAD else 'yes'} | {sentence} |"


TABLES = {"flags": flags_table, "limits": limits_table}


def written(text: str) -> str:
    """The document with its tables as they should be."""
    for name, rows in TABLES.items():
        table = "\n".join(rows())
        text = re.sub(
            rf"(<!-- {name}: tools/quality_limits.py -->\n).*?(\n<!-- end -->)",
            lambda match, table=table: f"{match[1]}\n{table}\n{match[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
