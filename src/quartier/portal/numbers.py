"""Numbers and quantities in the language of the page; a dash where there is none."""

from __future__ import annotations

import math

from django.utils.translation import get_language

from quartier.twin.units import display, display_number, display_value

# From here on digits are no information any more.
_LARGE = 1e15


def language() -> str:
    """``de`` or ``en``."""
    return (get_language() or "de")[:2]


def number(value: float | None, decimals: int = 0) -> str:
    """``value`` rounded to ``decimals``: 3,5 in German, 3.5 in English."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2e}" if abs(value) >= _LARGE else display_number(value, decimals, language())


def quantity(value: float | None, unit: str, decimals: int = 0) -> str:
    """``value`` with its unit (UCUM) as people write it: 3,5 °C."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= _LARGE:
        return f"{value:.2e}\u00a0{display(unit, language())}".rstrip()
    return display_value(value, unit, decimals, language())


def unit_label(unit: str) -> str:
    """A unit (UCUM) as people write it; empty for plain numbers."""
    return display(unit, language())
