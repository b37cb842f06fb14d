"""Comfort indices against published answers, at the edges of their validity, and with gaps."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.climate import indices
from quartier.climate.indices import Floats

CLIMATE = Path(__file__).parents[3] / "shared" / "data" / "dortmund-climate"
NAN = math.nan


@pytest.mark.parametrize(
    ("air", "radiation", "wind_10_m", "humidity", "expected"),
    [
        # UTCI reference table of COST Action 730 (utci.org, polynomial approximation), as used by
        # thermal-comfort
        (-49.9, -49.9 - 16.7, 8, 78, -75.7),
        (-49.8, -49.8 - 14.6, 4, 77, -63.5),
        (-49.2, -49.2 - 5.6, 8, 100, -73.9),
        (-49.0, -49.0 - 17.2, 5, 98, -66.1),
        # validation-data-comfort-models (MIT), ts_utci.json
        (25, 27, 1, 50, 25.2),
        (19, 24, 1, 50, 20.0),
        (19, 14, 1, 50, 16.8),
        (27, 22, 1, 50, 25.5),
        (27, 22, 10, 50, 20.0),
        (27, 22, 16, 50, 15.8),
        (30, 27, 1, 50, 29.6),
        (9, 9, 1, 50, 8.7),
    ],
)
def test_utci(air: float, radiation: float, wind_10_m: float, humidity: float, expected: float) -> None:
    assert indices.utci(air, radiation, wind_10_m, humidity).item() == pytest.approx(expected, abs=0.1)


def test_utci_takes_the_wind_from_the_height_it_was_measured_at() -> None:
    # Bröde et al. 2012: va(10 m) = va(x) · ln(10 / 0.01) / ln(x / 0.01); 3 m → 1.2111
    assert indices.wind_at_height(2.0, 3.0, 10.0).item() == pytest.approx(2.4222, abs=1e-4)
    at_3_m = indices.utci(27, 22, 2.0, 50, wind_height_m=3.0)
    assert at_3_m == pytest.approx(indices.utci(27, 22, 2.4222, 50), abs=1e-3)


@pytest.mark.parametrize(
    ("air", "radiation", "wind", "humidity"),
    [
        (51, 22, 5, 50),
        (-51, -51, 5, 50),
        (20, -11, 1, 50),
        (20, 91, 1, 50),
        (20, 20, 17.5, 50),
        (20, 20, -0.1, 50),
        (20, 20, 1, 0),
        (20, 20, 1, 106),
        (40, 40, 1, 80),  # vapour pressure 59 hPa
        (NAN, 20, 1, 50),
        (20, NAN, 1, 50),
        (20, 20, NAN, 50),
        (20, 20, 1, NAN),
    ],
)
def test_utci_outside_of_its_validity(air: float, radiation: float, wind: float, humidity: float) -> None:
    assert math.isnan(indices.utci(air, radiation, wind, humidity))


def test_utci_of_calm_air_is_that_of_half_a_metre_per_second() -> None:
    assert indices.utci(20, 20, 0.0, 50) == indices.utci(20, 20, 0.5, 50)
    assert math.isfinite(indices.utci(20, 20, 0.0, 50))


@pytest.mark.parametrize(
    ("air", "vapour_pressure_hpa", "wind", "radiation", "expected"),
    # Höppe 1999, table 1 (doi 10.1007/s004840050118)
    [
        (21, 12, 0.1, 21, 21),
        (-5, 2, 0.5, 40, 10),
        (-5, 2, 6, -5, -13),
        (30, 21, 1, 60, 43),
        (30, 21, 1, 30, 29),
    ],
)
def test_pet(air: float, vapour_pressure_hpa: float, wind: float, radiation: float, expected: int) -> None:
    humidity = 100 * vapour_pressure_hpa / (6.1094 * math.exp(17.625 * air / (air + 243.04)))
    assert round(indices.pet(air, radiation, wind, humidity, 1013.25).item()) == expected


def test_pet_takes_the_wind_from_the_height_it_was_measured_at() -> None:
    # ln(1.1 / 0.01) / ln(3 / 0.01) = 0.82409
    at_3_m = indices.pet(30, 40, 2.0, 50, 1000, wind_height_m=3.0)
    assert at_3_m == pytest.approx(indices.pet(30, 40, 2.0 * 0.82409, 50, 1000), abs=0.01)


@pytest.mark.parametrize(
    ("air", "radiation", "wind", "humidity", "pressure"),
    [
        (51, 51, 1, 50, 1000),
        (20, 121, 1, 50, 1000),
        (20, 20, -1, 50, 1000),
        (20, 20, 31, 50, 1000),
        (20, 20, 1, 0, 1000),
        (20, 20, 1, 50, 0),  # the barometer at the Phoenix See in the snapshot of 6 April 2025
        (20, 20, 1, 50, 99.7),  # kPa by mistake
        (NAN, 20, 1, 50, 1000),
        (20, 20, 1, 50, NAN),
    ],
)
def test_pet_outside_of_its_validity(
    air: float, radiation: float, wind: float, humidity: float, pressure: float
) -> None:
    assert math.isnan(indices.pet(air, radiation, wind, humidity, pressure))


@pytest.mark.parametrize(
    ("globe", "wind", "air", "diameter_m", "expected"),
    [
        (55.0, 0.3, 30.0, 0.15, 74.4),  # DIN EN ISO 7726, example of annex B, standard globe
        (53.2, 0.3, 30.0, 0.10, 74.6),  # the same place with a globe of 10 cm
        (
            38.0,
            1.5,
            27.0,
            0.15,
            63.5,
        ),  # ISO 7726 equation (B.2) worked by hand: (311⁴ + 3.154e8 · 11)^¼ − 273
        (20.0, 0.0, 20.0, 0.15, 20.0),
    ],
)
def test_mean_radiant_temperature(
    globe: float, wind: float, air: float, diameter_m: float, expected: float
) -> None:
    result = indices.mean_radiant_temperature(air, globe, wind, globe_diameter_m=diameter_m)
    assert result.item() == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("air", "globe", "wind"),
    [
        (61, 30, 1),
        (20, 121, 1),
        (20, -61, 1),
        (20, 30, -1),
        (NAN, 30, 1),
        (20, NAN, 1),
        (20, 30, NAN),
        (50, -50, 50),
        (0, 35, 58),
    ],
)
def test_mean_radiant_temperature_outside_of_its_validity(air: float, globe: float, wind: float) -> None:
    assert math.isnan(indices.mean_radiant_temperature(air, globe, wind))


@pytest.mark.parametrize(
    ("function", "air", "humidity", "expected"),
    [
        (indices.dew_point, 20, 50, 9.26),  # VDI 3786-4, Magnus over water
        (indices.dew_point, 25, 100, 25.0),
        (indices.dew_point, 25, 103, 25.0),  # overshoot in fog
        (indices.dew_point, -5, 80, -7.58),  # frost point
        (indices.absolute_humidity, 20, 100, 17.24),
        (indices.absolute_humidity, 25, 50, 11.48),
        (indices.wet_bulb_temperature, 20, 50, 13.7),  # the worked example of Stull 2011
        (indices.wet_bulb_temperature, 12, 100, 12.0),
        (indices.heat_index, 30, 80, 37.7),  # validation-data-comfort-models, ts_heat_index.json
        (indices.heat_index, 32.222, 70, 41.1),  # NWS heat index chart: 90 °F, 70 % → 106 °F
        (indices.heat_index, 25, 50, 24.9),  # below 80 °F: Steadman's simple formula
    ],
)
def test_moist_air(
    function: Callable[[float, float], Floats], air: float, humidity: float, expected: float
) -> None:
    assert function(air, humidity).item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("function", "air", "humidity"),
    [
        (indices.dew_point, -46, 50),
        (indices.dew_point, 61, 50),
        (indices.dew_point, 20, 0),
        (indices.dew_point, 20, -3),
        (indices.dew_point, 20, 106),
        (indices.absolute_humidity, 61, 50),
        (indices.absolute_humidity, 20, NAN),
        (indices.wet_bulb_temperature, -21, 50),
        (indices.wet_bulb_temperature, 51, 50),
        (indices.wet_bulb_temperature, 20, 4),
        (indices.wet_bulb_temperature, -21, 100),
        (indices.heat_index, 19.9, 50),
        (indices.heat_index, 51, 50),
        (indices.heat_index, 50, 82),
        (indices.heat_index, NAN, 50),
    ],
)
def test_moist_air_outside_of_validity(
    function: Callable[[float, float], Floats], air: float, humidity: float
) -> None:
    assert math.isnan(function(air, humidity))


@pytest.mark.parametrize("height_m", [0.0, 0.05, -3.0, 201.0, NAN])
def test_wind_of_an_impossible_height_is_a_gap(height_m: float) -> None:
    assert math.isnan(indices.utci(20, 20, 1, 50, wind_height_m=height_m))
    assert math.isnan(indices.pet(20, 20, 1, 50, 1000, wind_height_m=height_m))


def test_every_row_may_have_its_own_wind_height() -> None:
    result = indices.utci(27, 22, 2.0, 50, wind_height_m=[10.0, 3.0, NAN])
    assert result[:2].tolist() == [
        indices.utci(27, 22, 2.0, 50).item(),
        indices.utci(27, 22, 2.0, 50, wind_height_m=3.0).item(),
    ]
    assert math.isnan(result[2])


def test_gaps_stay_gaps_and_shapes_stay_shapes() -> None:
    air = np.array([[20.0, NAN, 30.0], [99.0, 25.0, 0.0]])
    result = indices.utci(air, air, 1.0, 50.0)
    assert result.shape == (2, 3)
    assert np.isnan(result).tolist() == [[False, True, False], [True, False, False]]
    assert result[0, 2] == indices.utci(30, 30, 1, 50)
    assert np.isnan(air).sum() == 1  # inputs are left as they were


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0)])
def test_empty_and_single_arrays(shape: tuple[int, ...]) -> None:
    air, humidity = np.full(shape, 25.0), np.full(shape, 50.0)
    for result in (
        indices.dew_point(air, humidity),
        indices.absolute_humidity(air, humidity),
        indices.heat_index(air, humidity),
        indices.wet_bulb_temperature(air, humidity),
        indices.mean_radiant_temperature(air, air, 1.0),
        indices.utci(air, air, 1.0, humidity),
        indices.pet(air, air, 1.0, humidity, 1000.0),
    ):
        assert result.shape == shape
        assert np.isfinite(result).all()


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-60, 120)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers, numbers), max_size=8))
def test_any_numbers_give_a_plausible_index_or_a_gap(rows: list[tuple[float, ...]]) -> None:
    air, globe, wind, humidity, pressure = np.array(rows, dtype=float).reshape(-1, 5).T
    radiation = indices.mean_radiant_temperature(air, globe, wind)
    for result, low, high in (
        (indices.dew_point(air, humidity), -300, 60),
        (indices.absolute_humidity(air, humidity), 0, 140),
        (indices.heat_index(air, humidity), 15, 60),
        (indices.wet_bulb_temperature(air, humidity), -25, 51),
        (radiation, -80, 120),
        (indices.utci(air, radiation, wind, humidity), -130, 100),
        (indices.pet(air, radiation, wind, humidity, pressure), -60, 140),
    ):
        finite = result[np.isfinite(result)]
        assert len(result) == len(rows)
        assert not np.isinf(result).any()
        assert ((finite >= low) & (finite <= high)).all()


@pytest.mark.skipif(not CLIMATE.is_dir(), reason="../shared/data/dortmund-climate is not on this machine")
def test_dew_point_agrees_with_the_vapour_pressure_of_the_real_station() -> None:
    # The ATM41 measures the vapour pressure too; over water e = 6.112 exp(17.62 td / (243.12 + td)) hPa
    # (VDI 3786-4).
    with (CLIMATE / "ATM41_DEC00546D_raw_data.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    dew_point = indices.dew_point(
        [float(row["air_temperature"]) for row in rows], [float(row["relative_humidity"]) for row in rows]
    )
    vapour_pressure_hpa = 6.112 * np.exp(17.62 * dew_point / (243.12 + dew_point))
    assert vapour_pressure_hpa == pytest.approx([float(row["vapor_pressure"]) * 10 for row in rows], abs=0.15)
