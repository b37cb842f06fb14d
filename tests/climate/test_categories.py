"""Classes of thermal stress: thresholds and words."""

from __future__ import annotations

import math

import pytest

from quartier.climate.categories import (
    PET_CATEGORIES,
    UTCI_CATEGORIES,
    pet_category,
    utci_category,
)


@pytest.mark.parametrize(
    ("value", "slug"),
    # Błażejczyk et al. 2013, table 1
    [
        (-60, "extreme_cold_stress"),
        (-40, "extreme_cold_stress"),
        (-39.9, "very_strong_cold_stress"),
        (-27, "very_strong_cold_stress"),
        (-26.9, "strong_cold_stress"),
        (-13, "strong_cold_stress"),
        (-12.9, "moderate_cold_stress"),
        (0, "moderate_cold_stress"),
        (0.1, "slight_cold_stress"),
        (9, "slight_cold_stress"),
        (9.1, "no_thermal_stress"),
        (26, "no_thermal_stress"),
        (26.1, "moderate_heat_stress"),
        (32, "moderate_heat_stress"),
        (32.1, "strong_heat_stress"),
        (38, "strong_heat_stress"),
        (38.1, "very_strong_heat_stress"),
        (46, "very_strong_heat_stress"),
        (46.1, "extreme_heat_stress"),
        (80, "extreme_heat_stress"),
        (math.inf, "extreme_heat_stress"),
    ],
)
def test_utci_classes(value: float, slug: str) -> None:
    category = utci_category(value)
    assert category is not None
    assert category.slug == slug


@pytest.mark.parametrize(
    ("value", "slug"),
    # Matzarakis and Mayer 1996
    [
        (3.9, "extreme_cold_stress"),
        (4.1, "strong_cold_stress"),
        (8.1, "moderate_cold_stress"),
        (13.1, "slight_cold_stress"),
        (18.1, "no_thermal_stress"),
        (23.0, "no_thermal_stress"),
        (23.1, "slight_heat_stress"),
        (29.1, "moderate_heat_stress"),
        (35.1, "strong_heat_stress"),
        (41.0, "strong_heat_stress"),
        (41.1, "extreme_heat_stress"),
    ],
)
def test_pet_classes(value: float, slug: str) -> None:
    category = pet_category(value)
    assert category is not None
    assert category.slug == slug


@pytest.mark.parametrize("value", [None, math.nan])
def test_no_value_has_no_class(value: float | None) -> None:
    assert utci_category(value) is None
    assert pet_category(value) is None


def test_scales_are_complete() -> None:
    assert (len(UTCI_CATEGORIES), len(PET_CATEGORIES)) == (10, 9)
    for scale in (UTCI_CATEGORIES, PET_CATEGORIES):
        assert [category.upper for category in scale] == sorted(category.upper for category in scale)
        assert [category.level for category in scale] == sorted(category.level for category in scale)
        assert scale[-1].upper == math.inf
    shared = {category.slug for category in UTCI_CATEGORIES} | {category.slug for category in PET_CATEGORIES}
    assert len(shared) == 11


def test_words() -> None:
    category = utci_category(31)
    assert category is not None
    assert (category.name("de"), category.name("en"), category.level) == (
        "mäßige Wärmebelastung",
        "moderate heat stress",
        2,
    )
