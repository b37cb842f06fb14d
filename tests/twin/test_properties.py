"""The catalogue of observed properties is complete, in order and usable."""

from __future__ import annotations

import json
from collections import Counter
from math import inf
from typing import Any

import pytest

from quartier.twin import units
from quartier.twin.properties import (
    AGGREGATIONS,
    CATEGORIES,
    PROPERTY_BASE,
    RESULT_TYPES,
    Limits,
    LimitsError,
    Property,
    catalogue,
)

SLUGS = [
    "air_temperature",
    "relative_humidity",
    "air_pressure",
    "vapour_pressure",
    "wind_speed",
    "wind_direction",
    "wind_gust",
    "precipitation",
    "solar_irradiance",
    "lightning_strikes",
    "lightning_distance",
    "black_globe_temperature",
    "dew_point",
    "absolute_humidity",
    "heat_index",
    "wet_bulb_temperature",
    "mean_radiant_temperature",
    "utci",
    "pet",
    "water_level",
    "water_temperature",
    "battery_voltage",
    "battery_level",
    "distance",
    "occupied",
    "free_spaces",
    "occupancy",
    "fill_level",
    "soil_moisture",
    "soil_temperature",
    "lamp_power",
    "lamp_dimming",
    "lamp_failure",
    "pedestrian_count",
    "bicycle_count",
    "noise_level",
    "pm10",
    "pm2_5",
    "pm1",
    "no2",
    "co2",
    "illuminance",
]


def test_catalogue_has_every_property_once() -> None:
    assert list(catalogue()) == SLUGS
    assert [iri for iri, n in Counter(p.iri for p in catalogue().values()).items() if n > 1] == []


@pytest.mark.parametrize("known", catalogue().values(), ids=lambda known: known.slug)
def test_property_is_usable(known: Property) -> None:
    assert known.category in CATEGORIES
    assert known.aggregation in AGGREGATIONS
    assert known.result_type in RESULT_TYPES
    assert known.iri.startswith(
        ("http://vocab.nerc.ac.uk/standard_name/", "http://qudt.org/vocab/quantitykind/", PROPERTY_BASE)
    )
    assert units.is_valid(known.unit)
    assert units.un_cefact(known.unit) is not None
    assert known.circular == (known.unit == "deg")
    assert 0 <= known.decimals <= 2
    for text in (known.description_de, known.description_en):
        assert text.endswith(".")
        assert len(text) <= 240
    assert known.limits == Limits.from_json(known.limits_json, unit=known.unit, circular=known.circular)
    if known.result_type == "number":
        assert known.limits.minimum < known.limits.maximum < inf
    json.dumps(known.limits_json)


def test_names_in_both_languages() -> None:
    utci = catalogue()["utci"]
    assert (utci.name("de"), utci.name("en-gb")) == (
        "Gefühlte Temperatur (UTCI)",
        "Feels-like temperature (UTCI)",
    )
    assert utci.iri == "https://quartier.example/property/utci"


def test_limits_from_json() -> None:
    data = {"minimum": 0, "persistence_s": 60, "persistence_ignore": [[0, 0.3]]}
    assert Limits.from_json(data, unit="m/s") == Limits(
        unit="m/s", minimum=0.0, persistence_s=60.0, persistence_ignore=((0.0, 0.3),)
    )
    assert Limits.from_json({}) == Limits()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"minimun": 3}, "minimun: there is no such limit"),
        ({"unit": 3}, "unit: there is no such limit"),
        ({"minimum": "3"}, "minimum: '3' is not a number"),
        ({"minimum": True}, "minimum: True is not a number"),
        ({"maximum": float("nan")}, "maximum: nan is not a number"),
        ({"maximum": 10**400}, "is not a number"),
        ({"max_step": -1}, "max_step: -1 is negative"),
        ({"minimum": 5, "maximum": 4}, "minimum: 5 is above the maximum 4"),
        ({"persistence_ignore": [3]}, r"persistence_ignore: \[3\] is not a list of \[low, high\]"),
        ({"persistence_ignore": 3}, r"persistence_ignore: 3 is not a list of \[low, high\]"),
        ({"persistence_ignore": [[2, 1]]}, r"persistence_ignore: \[2, 1\] is not a range"),
    ],
)
def test_limits_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(LimitsError, match=says):
        Limits.from_json(data)
