"""The sentence says what is known and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest

from quartier.climate.sentences import weather_sentence


@pytest.mark.parametrize(
    ("known", "german", "english"),
    [
        (
            {"air_temperature": 27.3, "utci": 31.2, "pet": 34.0, "heat_index": 28.0},
            "27 °C, gefühlt 31 °C, mäßige Wärmebelastung",
            "27 °C, feels like 31 °C, moderate heat stress",
        ),
        (
            {"air_temperature": 27.3, "utci": math.nan, "pet": 36.0},
            "27 °C, gefühlt 36 °C, starke Wärmebelastung",
            "27 °C, feels like 36 °C, strong heat stress",
        ),
        ({"air_temperature": 30.0, "heat_index": 33.6}, "30 °C, gefühlt 34 °C", "30 °C, feels like 34 °C"),
        ({"air_temperature": 22.0, "heat_index": 21.4}, "22 °C", "22 °C"),
        (
            {"air_temperature": -3.4, "utci": -14.0},
            "−3 °C, gefühlt −14 °C, starke Kältebelastung",
            "−3 °C, feels like −14 °C, strong cold stress",
        ),
        ({"air_temperature": -0.3}, "0 °C", "0 °C"),
        ({"utci": 20.0}, "Gefühlt 20 °C, keine Belastung", "Feels like 20 °C, no thermal stress"),
        ({"heat_index": 35.0}, "", ""),
        ({"air_temperature": math.nan}, "", ""),
        ({}, "", ""),
    ],
)
def test_weather_sentence(known: dict[str, Any], german: str, english: str) -> None:
    assert weather_sentence("de", **known) == german.replace(" °", "\u00a0°")
    assert weather_sentence("en", **known) == english.replace(" °", "\u00a0°")
