"""The observed properties Quartier knows, and the limits of their plausible values.

The catalogue is data (``data/properties.json``), so that a city can read, correct and extend it without
code. The stable IRIs come from the CF standard names or QUDT where these have the quantity; the others are
our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from math import inf
from typing import Any

# Our own IRIs begin here; an installation that has a domain for its vocabulary changes this one line.
PROPERTY_BASE = "https://quartier.example/property/"

CATEGORIES = ("weather", "comfort", "water", "mobility", "waste", "green", "light", "air", "noise", "device")
AGGREGATIONS = ("mean", "sum", "last")
RESULT_TYPES = ("number", "bool", "text")


class LimitsError(ValueError):
    """Limits of plausible values that cannot be used; the message names the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What values of a property are plausible; numbers in ``unit`` (UCUM).

    A value may differ from the last good one by ``max_step`` at once and by ``max_step_per_min`` more for
    every minute between the two. A value that stays within ``persistence_delta`` for ``persistence_s`` is
    stuck, unless it lies in one of the ranges ``persistence_ignore`` (no rain, night, calm), which excuse
    it for ``persistence_ignore_s``. Infinity means that there is no such limit.
    """

    unit: str = "1"
    circular: bool = False
    minimum: float = -inf
    maximum: float = inf
    max_step: float = inf
    max_step_per_min: float = 0.0
    persistence_s: float = inf
    persistence_delta: float = 0.0
    persistence_ignore: tuple[tuple[float, float], ...] = ()
    persistence_ignore_s: float = inf

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, unit: str = "1", circular: bool = False) -> Limits:
        """Limits from the JSON of a property, where an absent limit does not limit.

        Raises LimitsError for an unknown name, a value that is no number, or a range that is upside down.
        """
        numbers = {f.name for f in fields(cls)} - {"unit", "circular", "persistence_ignore"}
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name == "persistence_ignore":
                values[name] = _ranges(value)
            elif name not in numbers:
                raise LimitsError(f"{name}: there is no such limit")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
                raise LimitsError(f"{name}: {value!r} is not a number")
            elif value < 0 and name not in ("minimum", "maximum"):
                raise LimitsError(f"{name}: {value!r} is negative")
            else:
                values[name] = float(value)
        limits = cls(unit=unit, circular=circular, **values)
        if limits.minimum > limits.maximum:
            raise LimitsError(f"minimum: {limits.minimum:g} is above the maximum {limits.maximum:g}")
        return limits


def _ranges(value: Any) -> tuple[tuple[float, float], ...]:
    try:
        ranges = tuple((float(low), float(high)) for low, high in value)
    except (TypeError, ValueError):
        raise LimitsError(f"persistence_ignore: {value!r} is not a list of [low, high]") from None
    for low, high in ranges:
        if not low <= high:
            raise LimitsError(f"persistence_ignore: [{low:g}, {high:g}] is not a range")
    return ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One observed property of the catalogue. ``limits_json`` is what the table of properties stores."""

    slug: str
    iri: str
    name_de: str
    name_en: str
    description_de: str
    description_en: str
    unit: str
    decimals: int
    category: str
    circular: bool
    result_type: str
    aggregation: str
    limits: Limits
    limits_json: dict[str, Any]

    def name(self, language: str) -> str:
        """The name in German or English."""
        return self.name_de if language.startswith("de") else self.name_en


@cache
def catalogue() -> dict[str, Property]:
    """All properties that come with Quartier, by slug, in the order of the file."""
    entries = json.loads((files("quartier.twin") / "data" / "properties.json").read_text(encoding="utf-8"))
    result = {}
    for entry in entries:
        limits_json = entry.pop("limits")
        limits = Limits.from_json(limits_json, unit=entry["unit"], circular=entry["circular"])
        iri = entry.pop("iri", None) or PROPERTY_BASE + entry["slug"]
        result[entry["slug"]] = Property(**entry, iri=iri, limits=limits, limits_json=limits_json)
    return result
