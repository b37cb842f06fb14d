"""Comfort indices over arrays, computed with the library thermal-comfort (VDI 3787-2, VDI 3786-4, ISO 7726).

Every function takes numbers or arrays that broadcast, and returns an array of their common shape. Where an
input is missing (NaN) or outside the range for which the index is defined, the result is NaN: a gap says
more than an index that nobody validated.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import thermal_comfort
from numpy.typing import ArrayLike, NDArray

type Floats = NDArray[np.float64]

# ISO 7726 B.2.1: the standard globe. Dortmund's network computes with it for its Decentlab DL-BLG globes.
GLOBE_DIAMETER_M = 0.15
GLOBE_EMISSIVITY = 0.95

# Bröde et al. 2012 (doi 10.1007/s00484-011-0454-1): UTCI wants the wind 10 m above ground and brings it to
# the walking person with a logarithmic profile over short grass; its authors advise the same profile
# upwards.
ROUGHNESS_M = 0.01
UTCI_WIND_HEIGHT_M = 10.0
# Höppe 1999 (doi 10.1007/s004840050118): PET takes the wind at the centre of the body.
PET_WIND_HEIGHT_M = 1.1

# Hygrometers overshoot in fog; above this they are broken.
_HIGHEST_HUMIDITY_PERCENT = 105.0


def _where(valid: Floats | NDArray[np.bool_], compute: Callable[..., object], *columns: Floats) -> Floats:
    """The result of ``compute`` over the valid elements only; NaN elsewhere."""
    result = np.full(valid.shape, np.nan)
    if valid.any():
        result[valid] = compute(*(column[valid] for column in columns))
    return result


def _columns(*values: ArrayLike) -> list[Floats]:
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    return [np.array(array) for array in np.broadcast_arrays(*arrays)]


def _humidity(relative_humidity: Floats) -> Floats:
    """Percent, with the overshoot in fog taken back to saturation and nonsense to NaN."""
    valid = (relative_humidity > 0) & (relative_humidity <= _HIGHEST_HUMIDITY_PERCENT)
    return np.where(valid, np.minimum(relative_humidity, 100.0), np.nan)


def dew_point(air_temperature: ArrayLike, relative_humidity: ArrayLike) -> Floats:
    """Dew point in °C from °C and %; below 0 °C over ice (VDI 3786-4). Valid from −45 to 60 °C."""
    ta, rh = _columns(air_temperature, relative_humidity)
    rh = _humidity(rh)
    return _where((ta >= -45) & (ta <= 60) & (rh > 0), thermal_comfort.dew_point, ta, rh)


def absolute_humidity(air_temperature: ArrayLike, relative_humidity: ArrayLike) -> Floats:
    """Absolute humidity in g/m³ from °C and % (VDI 3786-4). Valid from −45 to 60 °C."""
    ta, rh = _columns(air_temperature, relative_humidity)
    rh = _humidity(rh)
    return _where((ta >= -45) & (ta <= 60) & (rh > 0), thermal_comfort.absolute_humidity, ta, rh)


def heat_index(air_temperature: ArrayLike, relative_humidity: ArrayLike) -> Floats:
    """Heat index in °C from °C and %, with the extension of the US National Weather Service.

    Valid from 20 °C, where the extension begins (68 °F), to 50 °C: in the cold it would only repeat the air
    temperature, and say nothing of comfort. NaN above 60 °C, where the Weather Service's chart has ended.
    """
    ta, rh = _columns(air_temperature, relative_humidity)
    rh = _humidity(rh)
    result = _where((ta >= 20) & (ta <= 50) & (rh > 0), thermal_comfort.heat_index_extended, ta, rh)
    result[result > 60] = np.nan
    return result


def wet_bulb_temperature(air_temperature: ArrayLike, relative_humidity: ArrayLike) -> Floats:
    """Wet bulb temperature in °C from °C and % (Stull 2011, doi 10.1175/JAMC-D-11-0143.1).

    Valid from −20 to 50 °C and from 5 to 99 %; above that the air is saturated and the wet bulb as warm as
    it.
    """
    ta, rh = _columns(air_temperature, relative_humidity)
    rh = _humidity(rh)
    valid = (ta >= -20) & (ta <= 50) & (rh >= 5)
    result = _where(valid & (rh <= 99), thermal_comfort.wet_bulb_temp, ta, rh)
    return np.where(valid & (rh > 99), ta, result)


def mean_radiant_temperature(
    air_temperature: ArrayLike,
    black_globe_temperature: ArrayLike,
    wind_speed: ArrayLike,
    *,
    globe_diameter_m: float = GLOBE_DIAMETER_M,
    globe_emissivity: float = GLOBE_EMISSIVITY,
) -> Floats:
    """Mean radiant temperature in °C from a black globe (ISO 7726, annex B.2.3), wind in m/s at the globe.

    The larger one of natural and forced convection counts. NaN where the result would lie outside −80 to
    120 °C, which no sun or sky explains: a wet globe, or wind from another place.
    """
    ta, tg, v = _columns(air_temperature, black_globe_temperature, wind_speed)

    def compute(ta: Floats, tg: Floats, v: Floats) -> object:
        return thermal_comfort.mean_radiant_temp(
            ta=ta, tg=tg, v=v, d=float(globe_diameter_m), e=float(globe_emissivity)
        )

    valid = (np.abs(ta) <= 60) & (tg >= -60) & (tg <= 120) & (v >= 0) & (v <= 60)
    result = _where(valid, compute, ta, tg, v)
    result[(result < -80) | (result > 120)] = np.nan
    return result


def wind_at_height(wind_speed: ArrayLike, from_height_m: ArrayLike, to_height_m: float) -> Floats:
    """Wind speed brought from one height above ground to another by the logarithmic profile of the UTCI.

    NaN where the height of the sensor is not well above the roughness of the ground, or above 200 m.
    """
    v, height_m = _columns(wind_speed, from_height_m)
    valid = (height_m >= 0.1) & (height_m <= 200)
    factor = log(to_height_m / ROUGHNESS_M) / np.log(np.where(valid, height_m, np.nan) / ROUGHNESS_M)
    return v * factor


def utci(
    air_temperature: ArrayLike,
    mean_radiant_temperature: ArrayLike,
    wind_speed: ArrayLike,
    relative_humidity: ArrayLike,
    *,
    wind_height_m: ArrayLike = UTCI_WIND_HEIGHT_M,
) -> Floats:
    """Universal Thermal Climate Index in °C; wind in m/s, measured ``wind_height_m`` above ground.

    Valid (Bröde et al. 2012) for air from −50 to 50 °C, mean radiant temperature from 30 K below to 70 K
    above it, wind at 10 m up to 17 m/s and vapour pressure up to 50 hPa. Calmer air than 0.5 m/s counts as
    0.5 m/s: the person of the UTCI walks, and calm nights would otherwise be gaps.
    """
    v = wind_at_height(wind_speed, wind_height_m, UTCI_WIND_HEIGHT_M)
    ta, tmrt, v, rh = _columns(air_temperature, mean_radiant_temperature, v, relative_humidity)
    rh = _humidity(rh)
    radiation = tmrt - ta
    valid = (np.abs(ta) <= 50) & (radiation >= -30) & (radiation <= 70) & (v >= 0) & (v <= 17) & (rh > 0)
    vapour_pressure_hpa = _where(valid, thermal_comfort.sat_vap_press_water, np.clip(ta, -45, 60)) * rh / 100
    return _where(
        valid & (vapour_pressure_hpa <= 50), thermal_comfort.utci_approx, ta, tmrt, np.maximum(v, 0.5), rh
    )


def pet(
    air_temperature: ArrayLike,
    mean_radiant_temperature: ArrayLike,
    wind_speed: ArrayLike,
    relative_humidity: ArrayLike,
    air_pressure: ArrayLike,
    *,
    wind_height_m: ArrayLike = PET_WIND_HEIGHT_M,
) -> Floats:
    """Physiologically equivalent temperature in °C (VDI 3787-2: 35 years, 1.75 m, 75 kg, 0.9 clo, 80 W).

    Wind in m/s, measured ``wind_height_m`` above ground; pressure in hPa. Valid for air and radiation that
    occur on Earth; a barometer that reads nothing of the kind gives no PET.
    """
    v = wind_at_height(wind_speed, wind_height_m, PET_WIND_HEIGHT_M)
    ta, tmrt, v, rh, p = _columns(
        air_temperature, mean_radiant_temperature, v, relative_humidity, air_pressure
    )
    rh = _humidity(rh)
    valid = (np.abs(ta) <= 50) & (tmrt >= -80) & (tmrt <= 120) & (v >= 0) & (v <= 30) & (rh > 0)
    return _where(valid & (p >= 800) & (p <= 1100), thermal_comfort.pet_static, ta, tmrt, v, rh, p)
