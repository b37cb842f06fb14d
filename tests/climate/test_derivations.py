"""The table of derivations: names that exist, and indices only where a station has what they need."""

from __future__ import annotations

import numpy as np
import pytest

from quartier.climate import indices
from quartier.climate.derivations import DERIVATIONS
from quartier.twin.derive import Derivation, Surroundings
from quartier.twin.properties import catalogue

STATION = {
    "air_temperature": np.array([27.0, 12.5, np.nan]),
    "relative_humidity": np.array([50.0, 87.1, 60.0]),
    "black_globe_temperature": np.array([38.0, 12.6, 20.0]),
    "wind_speed": np.array([1.5, 1.66, 1.0]),
    "air_pressure": np.array([1005.0, 996.9, 1000.0]),
}


def surroundings(wind_height_m: float) -> Surroundings:
    return Surroundings(np.full(3, 90.0), {slug: np.full(3, wind_height_m) for slug in STATION})


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=lambda derivation: derivation.slug)
def test_derivation_is_usable(derivation: Derivation) -> None:
    assert derivation.slug == derivation.output
    assert {derivation.output, *derivation.inputs} <= set(catalogue())
    assert derivation.anchor in derivation.inputs
    assert set(derivation.tolerance_s) == set(derivation.inputs)
    assert derivation.tolerance_s[derivation.anchor] == 0
    assert not set(derivation.inputs) & {other.slug for other in DERIVATIONS}
    result = derivation.function({slug: STATION[slug] for slug in derivation.inputs}, surroundings(3.0))
    assert result.shape == (3,)
    assert np.isnan(result[2])
    limits = catalogue()[derivation.output].limits
    assert all(np.isnan(value) or limits.minimum <= value <= limits.maximum for value in result)


def test_wind_is_scaled_from_the_height_of_its_device() -> None:
    by_slug = {derivation.slug: derivation for derivation in DERIVATIONS}
    heights = Surroundings(np.full(3, 90.0), {slug: np.array([2.0, np.nan, 2.0]) for slug in STATION})
    radiation = indices.mean_radiant_temperature(
        STATION["air_temperature"], STATION["black_globe_temperature"], STATION["wind_speed"]
    )
    for slug, formula, extra in (("utci", indices.utci, ()), ("pet", indices.pet, ("air_pressure",))):
        inputs = [STATION["air_temperature"], radiation, STATION["wind_speed"], STATION["relative_humidity"]]
        inputs += [STATION[name] for name in extra]
        found = by_slug[slug].function(STATION, heights)
        for row, height_m in ((0, 2.0), (1, 3.0)):
            wanted = formula(*(column[row] for column in inputs), wind_height_m=height_m)
            assert found[row] == pytest.approx(wanted)
