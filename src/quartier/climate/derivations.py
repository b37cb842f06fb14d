"""Which comfort indices follow from which measurements: a table for the engine of derived series.

Pure: the engine finds the stations that measure all inputs, brings the inputs together at the times of the
anchor, and stores what ``compute`` returns. Inputs are raw measurements only, so that no index waits for
another; values that quality control found bad are to be left out before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from quartier.climate import indices

type Floats = NDArray[np.float64]

# Globe and weather station are two devices that report every five minutes, each at its own time; Dortmund's
# network joins them within five minutes.
TOLERANCE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a formula must know of the station besides its measurements.

    ``wind_height_m`` is the height of the wind sensor above ground; the networks of both cities mount
    theirs on lamp posts at about 3 m.
    """

    wind_height_m: float = 3.0
    globe_diameter_m: float = indices.GLOBE_DIAMETER_M
    globe_emissivity: float = indices.GLOBE_EMISSIVITY


type Inputs = Mapping[str, Floats]
type Compute = Callable[[Inputs, Context], Floats]


@dataclass(frozen=True, slots=True)
class Derivation:
    """One derived property. ``inputs`` are slugs of properties, in their canonical units.

    The derived value has the time of the ``anchor``; of every other input the value nearest in time is
    taken, at most ``tolerance_s[slug]`` seconds away. ``compute`` takes arrays of one length per input and
    returns an array of that length, NaN where there is no result.
    """

    slug: str
    output: str
    inputs: tuple[str, ...]
    anchor: str
    tolerance_s: Mapping[str, float]
    compute: Compute


def _derivation(output: str, inputs: tuple[str, ...], compute: Compute) -> Derivation:
    anchor = inputs[0]
    tolerance_s = MappingProxyType({slug: 0.0 if slug == anchor else TOLERANCE_S for slug in inputs})
    return Derivation(output, output, inputs, anchor, tolerance_s, compute)


def _radiation(inputs: Inputs, context: Context) -> Floats:
    # The globe hangs beside the wind sensor, so its wind needs no scaling.
    return indices.mean_radiant_temperature(
        inputs["air_temperature"],
        inputs["black_globe_temperature"],
        inputs["wind_speed"],
        globe_diameter_m=context.globe_diameter_m,
        globe_emissivity=context.globe_emissivity,
    )


def _utci(inputs: Inputs, context: Context) -> Floats:
    return indices.utci(
        inputs["air_temperature"],
        _radiation(inputs, context),
        inputs["wind_speed"],
        inputs["relative_humidity"],
        wind_height_m=context.wind_height_m,
    )


def _pet(inputs: Inputs, context: Context) -> Floats:
    return indices.pet(
        inputs["air_temperature"],
        _radiation(inputs, context),
        inputs["wind_speed"],
        inputs["relative_humidity"],
        inputs["air_pressure"],
        wind_height_m=context.wind_height_m,
    )


def _of_moist_air(function: Callable[[Floats, Floats], Floats]) -> Compute:
    return lambda inputs, _: function(inputs["air_temperature"], inputs["relative_humidity"])


_MOIST_AIR = ("air_temperature", "relative_humidity")
_GLOBE = ("air_temperature", "black_globe_temperature", "wind_speed")

DERIVATIONS: Mapping[str, Derivation] = MappingProxyType(
    {
        derivation.slug: derivation
        for derivation in (
            _derivation("dew_point", _MOIST_AIR, _of_moist_air(indices.dew_point)),
            _derivation("absolute_humidity", _MOIST_AIR, _of_moist_air(indices.absolute_humidity)),
            _derivation("heat_index", _MOIST_AIR, _of_moist_air(indices.heat_index)),
            _derivation("wet_bulb_temperature", _MOIST_AIR, _of_moist_air(indices.wet_bulb_temperature)),
            _derivation("mean_radiant_temperature", _GLOBE, _radiation),
            _derivation("utci", (*_GLOBE, "relative_humidity"), _utci),
            _derivation("pet", (*_GLOBE, "relative_humidity", "air_pressure"), _pet),
        )
    }
)


def applicable(measured: Set[str]) -> tuple[Derivation, ...]:
    """The derivations for a station that measures these properties; what it measures itself is not derived."""
    return tuple(
        derivation
        for derivation in DERIVATIONS.values()
        if measured >= set(derivation.inputs) and derivation.output not in measured
    )
