"""The table of derivations: names that exist, inputs that the stations have, and the height of the wind."""

from __future__ import annotations

import numpy as np
import pytest

from quartier.climate import indices
from quartier.climate.derivations import DERIVATIONS
from quartier.twin.derive import Derivation, Surroundings
from quartier.twin.properties import catalogue

BY_SLUG = {derivation.slug: derivation for derivation in DERIVATIONS}
STATION = {
    "air_temperature": np.array([27.0, 12.5, 31.0]),
    "relative_humidity": np.array([50.0, 87.1, 40.0]),
    "black_globe_temperature": np.array([38.0, 12.6, 41.0]),
    "wind_speed": np.array([1.5, 1.66, 1.0]),
    "air_pressure": np.array([1005.0, 996.9, 1000.0]),
}


def compute(derivation: Derivation, wind_height_m: list[float]) -> list[float]:
    """What the engine would store for the three rows of STATION."""
    inputs = {slug: STATION[slug] for slug in derivation.inputs}
    heights_m = {slug: np.array(wind_height_m) for slug in derivation.inputs}
    return [float(value) for value in derivation.function(inputs, Surroundings(np.full(3, 90.0), heights_m))]


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=lambda derivation: derivation.slug)
def test_derivation_is_usable(derivation: Derivation) -> None:
    assert derivation.slug == derivation.output
    assert {derivation.output, *derivation.inputs} <= set(catalogue())
    assert set(derivation.tolerance_s) == set(derivation.inputs) - {derivation.anchor}
    assert not set(derivation.inputs) & set(BY_SLUG)
    limits = catalogue()[derivation.output].limits
    result = compute(derivation, [3.0] * 3)
    assert len(result) == 3
    expected_gaps = {"heat_index": [False, True, False]}  # 12.5 °C is no weather for a heat index
    assert np.isnan(result).tolist() == expected_gaps.get(derivation.slug, [False] * 3)
    assert all(np.isnan(value) or limits.minimum <= value <= limits.maximum for value in result)


@pytest.mark.parametrize(
    ("measured", "outputs"),
    [
        (set(), []),
        ({"air_temperature"}, []),
        (
            {"air_temperature", "relative_humidity", "battery_voltage"},  # Decentlab DL-SHT35
            ["dew_point", "absolute_humidity", "heat_index", "wet_bulb_temperature"],
        ),
        ({"air_temperature", "black_globe_temperature", "wind_speed"}, ["mean_radiant_temperature"]),
        (set(STATION), list(BY_SLUG)),  # DL-ATM41 and DL-BLG at one station
    ],
)
def test_what_a_station_can_have(measured: set[str], outputs: list[str]) -> None:
    assert [slug for slug, derivation in BY_SLUG.items() if set(derivation.inputs) <= measured] == outputs


def test_wind_counts_at_the_height_of_its_sensor() -> None:
    radiation = indices.mean_radiant_temperature(27.0, 38.0, 1.5)
    assert compute(BY_SLUG["mean_radiant_temperature"], [2.0] * 3)[0] == radiation
    assert compute(BY_SLUG["utci"], [2.0] * 3)[0] == indices.utci(27, radiation, 1.5, 50, wind_height_m=2.0)
    assert compute(BY_SLUG["pet"], [2.0] * 3)[0] == indices.pet(
        27, radiation, 1.5, 50, 1005, wind_height_m=2.0
    )


def test_wind_of_unknown_height_counts_as_measured_at_three_metres() -> None:
    nan = float("nan")
    for slug in ("utci", "pet"):
        assert compute(BY_SLUG[slug], [nan, nan, 2.0]) == [
            *compute(BY_SLUG[slug], [3.0] * 3)[:2],
            compute(BY_SLUG[slug], [2.0] * 3)[2],
        ]
