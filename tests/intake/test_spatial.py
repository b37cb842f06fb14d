"""The spatial check on synthetic fields, at its edges, and on the real network's snapshot."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import quartier
from quartier.intake.spatial import (
    SPATIAL_LIMITS,
    SpatialResult,
    sea_level_pressure,
    spatial_check,
)

CLIMATE = Path(__file__).parents[3] / "shared" / "data" / "dortmund-climate"
N = 91


class Network:
    """76 stations spread over Dortmund and 15 over Schwerte, as far apart as the real ones."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        uniform = self.random.uniform
        self.lats = np.concatenate([uniform(51.45, 51.59, 76), uniform(51.42, 51.46, 15)])
        self.lons = np.concatenate([uniform(7.33, 7.62, 76), uniform(7.52, 7.61, 15)])
        # The land rises from 60 m at the Emscher in the north to 230 m at the Ruhr hills in the south.
        self.heights_m = 60 + (51.59 - self.lats) / 0.17 * 150 + uniform(-15, 15, N)
        self.from_centre_km = np.hypot((self.lons - 7.465) * 69.4, (self.lats - 51.514) * 111.2)

    def heat_island(self, strength_k: float, width_km: float = 3.0) -> NDArray[np.float64]:
        """Air temperature of a summer night with a warm city centre, and 0.4 K of everything else."""
        field: NDArray[np.float64] = (
            20.0
            - 0.0065 * self.heights_m
            + strength_k * np.exp(-((self.from_centre_km / width_km) ** 2))
            + self.random.normal(0, 0.4, N)
        )
        return field

    def check(self, slug: str, values: NDArray[np.float64]) -> list[SpatialResult]:
        return spatial_check(
            slug, self.lats.tolist(), self.lons.tolist(), self.heights_m.tolist(), values.tolist()
        )


def flagged(results: list[SpatialResult]) -> list[int]:
    return [i for i, result in enumerate(results) if result.flagged]


@pytest.mark.parametrize("seed", range(20))
def test_heat_island_of_three_kelvin_is_weather(seed: int) -> None:
    network = Network(seed)
    results = network.check("air_temperature", network.heat_island(3.0))
    assert flagged(results) == []
    assert sum(result.checked for result in results) >= 85


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("error_k", [6.0, -6.0])
def test_outlier_of_six_kelvin_is_found_and_alone(seed: int, error_k: float) -> None:
    network = Network(seed)
    values = network.heat_island(3.0)
    checked = [i for i, result in enumerate(network.check("air_temperature", values)) if result.checked]
    outlier = checked[seed * 4 % len(checked)]
    values[outlier] += error_k
    results = network.check("air_temperature", values)
    assert flagged(results) == [outlier]
    found = results[outlier]
    assert found.deviation == pytest.approx(error_k, abs=2.5)
    assert found.expected is not None
    assert found.expected + (found.deviation or 0) == pytest.approx(values[outlier])


def test_two_outliers_are_found_together() -> None:
    network = Network(3)
    values = network.heat_island(2.0)
    near = int(np.argsort(network.from_centre_km)[0])
    next_to_it = int(np.argsort(network.from_centre_km)[1])
    values[near] += 9.0
    values[next_to_it] -= 8.0
    assert flagged(network.check("air_temperature", values)) == sorted([near, next_to_it])


def test_single_warm_square_is_not_flagged() -> None:
    network = Network(5)
    values = network.heat_island(0.0, 1.0)
    values[40] = 20.0 - 0.0065 * network.heights_m[40] + 3.0
    assert flagged(network.check("air_temperature", values)) == []


def test_height_is_accounted_for() -> None:
    network = Network(8)
    network.heights_m[10] += 120.0
    values = 20.0 - 0.0065 * network.heights_m
    results = network.check("air_temperature", values)
    assert flagged(results) == []
    assert results[10].deviation == pytest.approx(0.0, abs=1e-6)


def test_humidity_outlier_is_found() -> None:
    network = Network(2)
    values = 60 + network.random.normal(0, 4, N)
    values[7] = 95.0
    assert flagged(network.check("relative_humidity", values)) == [7]


def test_pressure_is_compared_at_sea_level() -> None:
    network = Network(4)
    at_sea_level = 1018.0 + network.random.normal(0, 0.5, N)
    values = at_sea_level / (sea_level_pressure(np.ones(N), network.heights_m))
    assert np.ptp(values) > 12  # hPa, by height alone
    assert flagged(network.check("air_pressure", values)) == []
    values[33] += 9.0
    results = network.check("air_pressure", values)
    assert flagged(results) == [33]
    assert results[33].expected == pytest.approx(values[33] - 9.0, abs=2.0)


def test_sea_level_pressure_of_the_standard_atmosphere() -> None:
    # ICAO Doc 7488, table: 500 m → 954.61 hPa, 1000 m → 898.76 hPa (geopotential)
    reduced = sea_level_pressure(np.array([1013.25, 954.61, 898.76]), np.array([0.0, 500.0, 1000.0]))
    assert reduced == pytest.approx([1013.25] * 3, abs=0.02)


def test_station_without_neighbours_is_not_checked() -> None:
    network = Network(6)
    network.lats[0], network.lons[0] = 51.9, 8.4
    values = network.heat_island(1.0)
    values[0] += 15.0
    assert network.check("air_temperature", values)[0] == SpatialResult(False, False, 0, None, None)


@pytest.mark.parametrize(("stations", "is_checked"), [(5, False), (6, True)])
def test_five_neighbours_are_needed(stations: int, is_checked: bool) -> None:
    lats = [51.5 + i / 1000 for i in range(stations)]
    lons, heights_m = [7.4] * stations, [80.0] * stations
    even = spatial_check("air_temperature", lats, lons, heights_m, [20.0] * stations)
    assert [(result.checked, result.flagged) for result in even] == [(is_checked, False)] * stations
    odd = spatial_check("air_temperature", lats, lons, heights_m, [20.0] * (stations - 1) + [40.0])
    assert [result.flagged for result in odd] == [False] * (stations - 1) + [is_checked]
    # Without the outlier the others have only four good neighbours left.
    assert [result.checked for result in odd] == [False] * (stations - 1) + [is_checked]


def test_missing_values_and_heights_are_passed_over() -> None:
    network = Network(9)
    values = network.heat_island(1.0)
    values[3] = math.nan
    network.heights_m[4] = math.nan
    results = network.check("air_temperature", values)
    assert [results[i] for i in (3, 4)] == [SpatialResult(False, False, 0, None, None)] * 2
    assert flagged(results) == []
    humidity = np.full(N, 50.0)
    assert network.check("relative_humidity", humidity)[4].checked  # height does not matter to it


def test_nothing_to_check() -> None:
    assert spatial_check("air_temperature", [], [], [], []) == []


def test_refused_input() -> None:
    with pytest.raises(ValueError, match="wind_speed: there is no spatial check"):
        spatial_check("wind_speed", [], [], [], [])
    with pytest.raises(ValueError, match="must have the same length"):
        spatial_check("air_temperature", [51.5], [7.4], [80.0], [])


def test_same_answer_every_time() -> None:
    network = Network(11)
    values = network.heat_island(3.0)
    values[:10] += 7.0
    first = network.check("air_temperature", values)
    assert all(network.check("air_temperature", values) == first for _ in range(20))


def test_titanlib_is_imported_late() -> None:
    script = "import sys, quartier.intake.spatial; assert 'titanlib' not in sys.modules"
    source = str(Path(quartier.__file__).parents[1])
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": source})


@pytest.mark.skipif(not CLIMATE.is_dir(), reason="../shared/data/dortmund-climate is not on this machine")
def test_snapshot_of_the_real_network() -> None:
    with (CLIMATE / "stations.csv").open(newline="", encoding="utf-8") as file:
        stations = {row["station_id"]: row for row in csv.DictReader(file)}
    with (CLIMATE / "data.csv").open(newline="", encoding="utf-8") as file:
        rows = list({row["station_id"]: row for row in reversed(list(csv.DictReader(file)))}.values())
    columns = {
        "air_temperature": "air_temperature",
        "relative_humidity": "relative_humidity",
        "air_pressure": "atmospheric_pressure",
    }
    found = {}
    for slug in SPATIAL_LIMITS:
        # The barometer at the Phoenix See reports 0 hPa; the range check has it out before.
        values = [float(row[columns[slug]] or "nan") or math.nan for row in rows]
        place = [stations[row["station_id"]] for row in rows]
        results = spatial_check(
            slug,
            [float(station["latitude"]) for station in place],
            [float(station["longitude"]) for station in place],
            [float(station["altitude"]) for station in place],
            values,
        )
        assert sum(result.checked for result in results) == sum(not math.isnan(value) for value in values)
        found[slug] = [
            (row["station_id"], round(value, 1), round(result.expected or 0, 1))
            for row, value, result in zip(rows, values, results, strict=True)
            if result.flagged
        ]
    # Persebeck reads 14.6 °C on a morning when all its neighbours read 8 to 9 °C; everything else is
    # plausible.
    assert found == {
        "air_temperature": [("DOTZHE", 14.6, 8.7)],
        "relative_humidity": [],
        "air_pressure": [],
    }
