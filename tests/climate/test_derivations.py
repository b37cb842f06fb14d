"""The table of derivations: names that exist, and indices only where a station has what they need."""

from __future__ import annotations

import numpy as np
import pytest

from quartier.climate import indices
from quartier.climate.derivations import DERIVATIONS, Context, Derivation, applicable
from quartier.twin.properties import catalogue

STATION = {
    "air_temperature": np.array([27.0, 12.5, np.nan]),
    "relative_humidity": np.array([50.0, 87.1, 60.0]),
    "black_globe_temperature": np.array([38.0, 12.6, 20.0]),
    "wind_speed": np.array([1.5, 1.66, 1.0]),
    "air_pressure": np.array([1005.0, 996.9, 1000.0]),
}


@pytest.mark.parametrize("derivation", DERIVATIONS.values(), ids=lambda derivation: derivation.slug)
def test_derivation_is_usable(derivation: Derivation) -> None:
    assert derivation.slug == derivation.output
    assert {derivation.output, *derivation.inputs} <= set(catalogue())
    assert derivation.anchor in derivation.inputs
    assert set(derivation.tolerance_s) == set(derivation.inputs)
    assert derivation.tolerance_s[derivation.anchor] == 0
    assert not set(derivation.inputs) & set(DERIVATIONS)
    result = derivation.compute({slug: STATION[slug] for slug in derivation.inputs}, Context())
    assert result.shape == (3,)
    assert np.isnan(result[2])
    limits = catalogue()[derivation.output].limits
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
        (
            {"air_temperature", "black_globe_temperature", "wind_speed"},
            ["mean_radiant_temperature"],
        ),
        (
            set(STATION),  # DL-ATM41 and DL-BLG at one station
            [
                "dew_point",
                "absolute_humidity",
                "heat_index",
                "wet_bulb_temperature",
                "mean_radiant_temperature",
                "utci",
                "pet",
            ],
        ),
        (
            {"air_temperature", "relative_humidity", "dew_point"},
            ["absolute_humidity", "heat_index", "wet_bulb_temperature"],
        ),
    ],
)
def test_applicable(measured: set[str], outputs: list[str]) -> None:
    assert [derivation.output for derivation in applicable(measured)] == outputs


def test_context_reaches_the_formulas() -> None:
    inputs = {slug: values[:1] for slug, values in STATION.items()}
    radiation = indices.mean_radiant_temperature(
        [27.0], 38.0, 1.5, globe_diameter_m=0.05, globe_emissivity=0.9
    )
    context = Context(wind_height_m=2.0, globe_diameter_m=0.05, globe_emissivity=0.9)
    assert DERIVATIONS["mean_radiant_temperature"].compute(inputs, context) == pytest.approx(radiation)
    assert DERIVATIONS["utci"].compute(inputs, context) == pytest.approx(
        indices.utci(27.0, radiation, 1.5, 50.0, wind_height_m=2.0)
    )
    assert DERIVATIONS["pet"].compute(inputs, context) == pytest.approx(
        indices.pet(27.0, radiation, 1.5, 50.0, 1005.0, wind_height_m=2.0)
    )
