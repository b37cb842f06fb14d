"""Classes of thermal stress, in words that citizens understand.

UTCI: ten classes after Błażejczyk et al. 2013 (doi 10.7163/GPol.2013.1). PET: nine classes for Central Europe
after Matzarakis and Mayer 1996 (VDI 3787-2, table). The classes share their slugs, so that a page needs one
colour and one icon for each.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import inf, isnan


@dataclass(frozen=True, slots=True)
class Category:
    """One class: it reaches up to and includes ``upper`` °C. ``level`` is 0 without stress, above 0 in heat."""

    slug: str
    level: int
    name_de: str
    name_en: str
    upper: float

    def name(self, language: str) -> str:
        """The words in German or English."""
        return self.name_de if language.startswith("de") else self.name_en


_WORDS: dict[str, tuple[int, str, str]] = {
    "extreme_cold_stress": (-5, "extreme Kältebelastung", "extreme cold stress"),
    "very_strong_cold_stress": (-4, "sehr starke Kältebelastung", "very strong cold stress"),
    "strong_cold_stress": (-3, "starke Kältebelastung", "strong cold stress"),
    "moderate_cold_stress": (-2, "mäßige Kältebelastung", "moderate cold stress"),
    "slight_cold_stress": (-1, "leichte Kältebelastung", "slight cold stress"),
    "no_thermal_stress": (0, "keine Belastung", "no thermal stress"),
    "slight_heat_stress": (1, "leichte Wärmebelastung", "slight heat stress"),
    "moderate_heat_stress": (2, "mäßige Wärmebelastung", "moderate heat stress"),
    "strong_heat_stress": (3, "starke Wärmebelastung", "strong heat stress"),
    "very_strong_heat_stress": (4, "sehr starke Wärmebelastung", "very strong heat stress"),
    "extreme_heat_stress": (5, "extreme Wärmebelastung", "extreme heat stress"),
}


def _scale(*classes: tuple[str, float]) -> tuple[Category, ...]:
    return tuple(Category(slug, *_WORDS[slug], upper) for slug, upper in classes)


UTCI_CATEGORIES = _scale(
    ("extreme_cold_stress", -40),
    ("very_strong_cold_stress", -27),
    ("strong_cold_stress", -13),
    ("moderate_cold_stress", 0),
    ("slight_cold_stress", 9),
    ("no_thermal_stress", 26),
    ("moderate_heat_stress", 32),
    ("strong_heat_stress", 38),
    ("very_strong_heat_stress", 46),
    ("extreme_heat_stress", inf),
)

PET_CATEGORIES = _scale(
    ("extreme_cold_stress", 4),
    ("strong_cold_stress", 8),
    ("moderate_cold_stress", 13),
    ("slight_cold_stress", 18),
    ("no_thermal_stress", 23),
    ("slight_heat_stress", 29),
    ("moderate_heat_stress", 35),
    ("strong_heat_stress", 41),
    ("extreme_heat_stress", inf),
)


def utci_category(value: float | None) -> Category | None:
    """The class of a UTCI in °C; None where there is no value."""
    return _category(UTCI_CATEGORIES, value)


def pet_category(value: float | None) -> Category | None:
    """The class of a PET in °C; None where there is no value."""
    return _category(PET_CATEGORIES, value)


def _category(scale: tuple[Category, ...], value: float | None) -> Category | None:
    if value is None or isnan(value):
        return None
    return scale[bisect_left(scale, value, key=lambda category: category.upper)]
