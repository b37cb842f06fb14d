"""Quality control against the neighbours: does a station fit the stations around it at the same time?

titanlib's buddy check (MET Norway) over all stations of both cities. Its parameters are set for a dense
city network: a heat island of 3 K is weather, a sensor in the sun that reads 6 K too high is not. Each
station is compared with about eight neighbours within 3 to 10 km, as near ones say more and the edge of the
city has few. titanlib is imported at the first check only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

MIN_NEIGHBOURS = 5
_WANTED_NEIGHBOURS = 8
_NEAREST_M, _FARTHEST_M = 3_000.0, 10_000.0
_EARTH_RADIUS_M = 6_371_000.0
# An outlier spoils the mean of its neighbours until it is out; two more rounds clear that up.
_ROUNDS = 3


class SpatialLimits(NamedTuple):
    """How far a value may lie from its neighbours' mean.

    It is flagged if it differs by more than ``threshold`` times their standard deviation, which counts at
    least ``min_std`` (in the unit of the property). ``gradient_per_m`` is the usual change with height;
    neighbours more than ``max_height_difference_m`` higher or lower are not compared (None: height does not
    matter).
    """

    min_std: float
    threshold: float
    gradient_per_m: float
    max_height_difference_m: float | None


# Air temperature: ICAO standard atmosphere, −6.5 K/km. 3.5 K of deviation in an even field: more than the
# heat island of a single square against its surroundings, less than a shield in the sun. Relative humidity
# is that of the same air at another temperature: 3.5 K are about 15 points. Air pressure is compared at sea
# level; the network's barometers differ by some 2 hPa among themselves (snapshot of 6 April 2025).
SPATIAL_LIMITS = {
    "air_temperature": SpatialLimits(1.0, 3.5, -0.0065, 200.0),
    "relative_humidity": SpatialLimits(5.0, 4.0, 0.0, None),
    "air_pressure": SpatialLimits(1.5, 4.0, 0.0, 200.0),
}


@dataclass(frozen=True, slots=True)
class SpatialResult:
    """What the neighbours say about one value.

    ``checked`` is false where there are too few neighbours, no height, or no value. ``expected`` is the
    median of the good neighbours brought to the station's own height, ``neighbours`` their number.
    """

    checked: bool
    flagged: bool
    neighbours: int
    expected: float | None
    deviation: float | None


@cache
def _titanlib() -> Any:
    import titanlib  # noqa: PLC0415 - native library of which only the periodic check has need

    # The check reads flags that other threads are writing; one thread makes it repeatable and is fast enough.
    titanlib.set_omp_threads(1)
    return titanlib


def sea_level_pressure(pressure_hpa: Floats, height_m: Floats) -> Floats:
    """Air pressure reduced to sea level by the ICAO standard atmosphere, in hPa."""
    return pressure_hpa * _standard_ratio(height_m)


def _standard_ratio(height_m: Floats) -> Floats:
    # ICAO Doc 7488: T0 = 288.15 K, −6.5 K/km, exponent g M / (R L) = 5.25588
    ratio: Floats = (1.0 - 0.0065 * height_m / 288.15) ** -5.25588
    return ratio


def _distances_m(lats: Floats, lons: Floats) -> Floats:
    """Great-circle distances between all stations, shape (n, n)."""
    phi, lam = np.radians(lats), np.radians(lons)
    half = (
        np.sin((phi[:, None] - phi) / 2) ** 2
        + np.cos(phi[:, None]) * np.cos(phi) * np.sin((lam[:, None] - lam) / 2) ** 2
    )
    distances: Floats = 2 * _EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
    return distances


def spatial_check(
    property_slug: str,
    lats: Sequence[float],
    lons: Sequence[float],
    heights_m: Sequence[float],
    values: Sequence[float],
) -> list[SpatialResult]:
    """Compare values that stations measured at about the same time (within a reporting interval).

    All sequences have the same length; a missing height or value is NaN. Give only values that passed the
    other checks, in the canonical unit of the property. The result has one entry per station, in the same
    order. Raises ValueError for a property without spatial limits and for sequences of different lengths.
    """
    if property_slug not in SPATIAL_LIMITS:
        raise ValueError(f"{property_slug}: there is no spatial check for this property")
    if not len(lats) == len(lons) == len(heights_m) == len(values):
        raise ValueError("lats, lons, heights_m and values must have the same length")
    limits = SPATIAL_LIMITS[property_slug]
    columns = np.array([lats, lons, heights_m, values], dtype=np.float64).reshape(4, -1)
    if limits.max_height_difference_m is None:
        columns[2] = 0.0
    usable = np.isfinite(columns).all(axis=0)
    results = [SpatialResult(False, False, 0, None, None)] * len(values)
    if usable.sum() <= MIN_NEIGHBOURS:
        return results
    lat, lon, height, value = columns[:, usable]
    to_own_height = np.ones_like(value)
    if property_slug == "air_pressure":
        to_own_height = 1.0 / _standard_ratio(height)
    compared = value / to_own_height

    eligible = _distances_m(lat, lon)
    np.fill_diagonal(eligible, np.inf)
    if limits.max_height_difference_m is not None:
        eligible[np.abs(height[:, None] - height) > limits.max_height_difference_m] = np.inf
    ranked = np.sort(eligible, axis=1)
    wanted = ranked[:, min(_WANTED_NEIGHBOURS, ranked.shape[1] - 1) - 1]
    radius = np.clip(wanted + 1.0, _NEAREST_M, _FARTHEST_M)

    titanlib = _titanlib()
    flagged = titanlib.buddy_check(
        titanlib.Points(lat, lon, height),
        compared,
        radius,
        np.full(len(value), MIN_NEIGHBOURS, dtype=np.int32),
        limits.threshold,
        limits.max_height_difference_m if limits.max_height_difference_m is not None else -1.0,
        limits.gradient_per_m,
        limits.min_std,
        _ROUNDS,
    ).astype(bool)

    for k, index in enumerate(np.flatnonzero(usable)):
        around = (eligible[k] <= radius[k]) & ~flagged
        n = int(around.sum())
        if n < MIN_NEIGHBOURS and not flagged[k]:
            results[index] = SpatialResult(False, False, n, None, None)
            continue
        if not n:  # every neighbour turned out to be an outlier too
            results[index] = SpatialResult(True, bool(flagged[k]), 0, None, None)
            continue
        at_own_height = compared[around] + (height[k] - height[around]) * limits.gradient_per_m
        expected = float(np.median(at_own_height) * to_own_height[k])
        results[index] = SpatialResult(True, bool(flagged[k]), n, expected, float(value[k] - expected))
    return results
