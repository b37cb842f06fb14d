"""The one sentence about the weather at a station that a citizen needs: "27 °C, gefühlt 31 °C, mäßige …".

It says only what is known. "Feels like" is the UTCI, else the PET, else the heat index where that is defined;
the word for the stress belongs to the index that was used.
"""

from __future__ import annotations

from math import isnan

from quartier.climate.categories import pet_category, utci_category
from quartier.twin.units import display_value

# Below 80 °F the US National Weather Service publishes no heat index.
_HEAT_INDEX_FROM_C = 26.7


def weather_sentence(
    language: str,
    *,
    air_temperature: float | None = None,
    utci: float | None = None,
    pet: float | None = None,
    heat_index: float | None = None,
) -> str:
    """All values in °C; None or NaN for what is not known. Empty if nothing is."""
    german = language.startswith("de")
    air, felt, stress = _known(air_temperature), None, None
    if (value := _known(utci)) is not None:
        felt, stress = value, utci_category(value)
    elif (value := _known(pet)) is not None:
        felt, stress = value, pet_category(value)
    elif air is not None and air >= _HEAT_INDEX_FROM_C:
        felt = _known(heat_index)
    parts = []
    if air is not None:
        parts.append(display_value(air, "Cel", 0, language))
    if felt is not None:
        words = "gefühlt" if german else "feels like"
        parts.append(f"{words} {display_value(felt, 'Cel', 0, language)}")
    if stress is not None:
        parts.append(stress.name(language))
    sentence = ", ".join(parts)
    return sentence[:1].upper() + sentence[1:]


def _known(value: float | None) -> float | None:
    return None if value is None or isnan(value) else value
