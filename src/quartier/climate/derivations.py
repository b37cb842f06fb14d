"""Which comfort indices follow from which measurements: the table that the engine of derived series works off.

Inputs are raw measurements only, so that no index waits for another; where a station lacks one, the engine makes no
series. Values that quality control found bad never reach these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from quartier.climate import indices
from quartier.twin.derive import Derivation, Surroundings

type Floats = NDArray[np.float64]
type Inputs = Mapping[str, Floats]
type Function = Callable[[Inputs, Surroundings], Floats]

# Globe and weather station are two devices that report every five minutes, each at its own time; Dortmund's network
# joins them within five minutes.
TOLERANCE_S = 300.0
# Both cities mount their stations on lamp posts; where no deployment says how high, it is about this.
USUAL_WIND_HEIGHT_M = 3.0

_MOIST_AIR = ("air_temperature", "relative_humidity")
_GLOBE = ("air_temperature", "black_globe_temperature", "wind_speed")


def _of_moist_air(function: Callable[[Floats, Floats], Floats]) -> Function:
    return lambda inputs, _: function(inputs["air_temperature"], inputs["relative_humidity"])


def _radiation(inputs: Inputs, _: Surroundings) -> Floats:
    # The globe hangs beside the wind sensor, so its wind needs no scaling.
    return indices.mean_radiant_temperature(
        inputs["air_temperature"], inputs["black_globe_temperature"], inputs["wind_speed"]
    )


def _wind_height_m(inputs: Inputs, surroundings: Surroundings) -> Floats:
    height_m = surroundings.height_m.get("wind_speed", np.full(len(inputs["wind_speed"]), np.nan))
    return np.where(np.isnan(height_m), USUAL_WIND_HEIGHT_M, height_m)


def _utci(inputs: Inputs, surroundings: Surroundings) -> Floats:
    return indices.utci(
        inputs["air_temperature"],
        _radiation(inputs, surroundings),
        inputs["wind_speed"],
        inputs["relative_humidity"],
        wind_height_m=_wind_height_m(inputs, surroundings),
    )


def _pet(inputs: Inputs, surroundings: Surroundings) -> Floats:
    return indices.pet(
        inputs["air_temperature"],
        _radiation(inputs, surroundings),
        inputs["wind_speed"],
        inputs["relative_humidity"],
        inputs["air_pressure"],
        wind_height_m=_wind_height_m(inputs, surroundings),
    )


def _derivation(output: str, inputs: tuple[str, ...], function: Function) -> Derivation:
    return Derivation(
        slug=output,
        output=output,
        inputs=inputs,
        anchor=inputs[0],
        tolerance_s=dict.fromkeys(inputs[1:], TOLERANCE_S),
        function=function,
    )


DERIVATIONS: tuple[Derivation, ...] = (
    _derivation("dew_point", _MOIST_AIR, _of_moist_air(indices.dew_point)),
    _derivation("absolute_humidity", _MOIST_AIR, _of_moist_air(indices.absolute_humidity)),
    _derivation("heat_index", _MOIST_AIR, _of_moist_air(indices.heat_index)),
    _derivation("wet_bulb_temperature", _MOIST_AIR, _of_moist_air(indices.wet_bulb_temperature)),
    _derivation("mean_radiant_temperature", _GLOBE, _radiation),
    _derivation("utci", (*_GLOBE, "relative_humidity"), _utci),
    _derivation("pet", (*_GLOBE, "relative_humidity", "air_pressure"), _pet),
)
