"""Units of measure in UCUM: conversion, plain display and UN/CEFACT codes.

Every series is kept in the canonical unit of its property, so each incoming value is converted once. A
conversion is a linear function, computed once per pair of units and cached; the hot path is one multiply-add.
The units that sensors of a city really use stand in a table here (a test compares it with
ucumvert); any other UCUM unit is looked up with ucumvert and pint, which are imported only then, because that
costs about 20 MB and half a second.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache, lru_cache
from math import isclose, pi
from typing import Any, Literal, NamedTuple

# UCUM sets no limit; a unit longer than this is a mistake or an attack on the parser.
_LONGEST_UNIT = 80

Reason = Literal["unknown", "not_commensurable", "not_linear"]


class UnitError(ValueError):
    """A unit is not UCUM, or two units cannot be converted linearly into one another.

    ``unit`` is the unit at fault, ``reason`` one of "unknown", "not_commensurable" and "not_linear".
    """

    def __init__(self, unit: str, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.unit = unit
        self.reason = reason


class Conversion(NamedTuple):
    """``target = value * factor + offset``."""

    factor: float
    offset: float

    def apply(self, value: float) -> float:
        """The value in the target unit."""
        return value * self.factor + self.offset


class _Known(NamedTuple):
    """A unit of the table: ``base = value * factor + offset`` in the base unit of its dimension."""

    dimension: str
    factor: Fraction
    label: str
    un_cefact: str | None
    offset: Fraction = Fraction(0)


def _known(
    dimension: str, factor: str | Fraction, label: str, un_cefact: str | None = None, offset: str = "0"
) -> _Known:
    return _Known(dimension, Fraction(factor), label, un_cefact, Fraction(offset))


# Codes after UN/CEFACT Recommendation 20, annexes II and III (revision 14).
_TABLE: dict[str, _Known] = {
    "K": _known("temperature", "1", "K", "KEL"),
    "Cel": _known("temperature", "1", "°C", "CEL", "273.15"),
    "[degF]": _known("temperature", "5/9", "°F", "FAH", str(Fraction("459.67") * 5 / 9)),
    "1": _known("ratio", "1", "", "C62"),
    "%": _known("ratio", "0.01", "%", "P1"),
    "[ppth]": _known("ratio", "0.001", "‰", "NX"),
    "[ppm]": _known("ratio", "1e-6", "ppm", "59"),
    "[ppb]": _known("ratio", "1e-9", "ppb", "61"),
    "Pa": _known("pressure", "1", "Pa", "PAL"),
    "hPa": _known("pressure", "100", "hPa", "A97"),
    "kPa": _known("pressure", "1000", "kPa", "KPA"),
    "mbar": _known("pressure", "100", "mbar", "MBR"),
    "bar": _known("pressure", "100000", "bar", "BAR"),
    "mm": _known("length", "0.001", "mm", "MMT"),
    "cm": _known("length", "0.01", "cm", "CMT"),
    "dm": _known("length", "0.1", "dm", "DMT"),
    "m": _known("length", "1", "m", "MTR"),
    "km": _known("length", "1000", "km", "KMT"),
    "um": _known("length", "1e-6", "µm", "4H"),
    "m2": _known("area", "1", "m²", "MTK"),
    "L": _known("volume", "0.001", "l", "LTR"),
    "mL": _known("volume", "1e-6", "ml", "MLT"),
    "m3": _known("volume", "1", "m³", "MTQ"),
    "m/s": _known("speed", "1", "m/s", "MTS"),
    "cm/s": _known("speed", "0.01", "cm/s", "2M"),
    "km/h": _known("speed", Fraction(10, 36), "km/h", "KMH"),
    "mm/h": _known("speed", Fraction(1, 3_600_000), "mm/h", "H67"),
    "[kn_i]": _known("speed", Fraction(1852, 3600), "kn", "KNT"),
    "L/s": _known("flow", "0.001", "l/s", "G51"),
    "m3/s": _known("flow", "1", "m³/s", "MQS"),
    "m3/h": _known("flow", Fraction(1, 3600), "m³/h", "MQH"),
    "deg": _known("angle", "1", "°", "DD"),
    "rad": _known("angle", Fraction(180 / pi), "rad", "C81"),
    "W/m2": _known("irradiance", "1", "W/m²", "D54"),
    "lx": _known("illuminance", "1", "lx", "LUX"),
    "klx": _known("illuminance", "1000", "klx", "KLX"),
    "g/m3": _known("density", "0.001", "g/m³", "A93"),
    "mg/m3": _known("density", "1e-6", "mg/m³", "GP"),
    "ug/m3": _known("density", "1e-9", "µg/m³", "GQ"),
    "kg/m3": _known("density", "1", "kg/m³", "KMQ"),
    "mg/L": _known("density", "0.001", "mg/l", "M1"),
    "g": _known("mass", "0.001", "g", "GRM"),
    "kg": _known("mass", "1", "kg", "KGM"),
    "t": _known("mass", "1000", "t", "TNE"),
    "V": _known("voltage", "1", "V", "VLT"),
    "mV": _known("voltage", "0.001", "mV", "2Z"),
    "A": _known("current", "1", "A", "AMP"),
    "mA": _known("current", "0.001", "mA", "4K"),
    "Ohm": _known("resistance", "1", "Ω", "OHM"),
    "kOhm": _known("resistance", "1000", "kΩ", "B49"),
    "W": _known("power", "1", "W", "WTT"),
    "kW": _known("power", "1000", "kW", "KWT"),
    "W.h": _known("energy", "3600", "Wh", "WHR"),
    "kW.h": _known("energy", "3600000", "kWh", "KWH"),
    "J": _known("energy", "1", "J", "JOU"),
    "uS/cm": _known("conductivity", "0.0001", "µS/cm", "G42"),
    "mS/cm": _known("conductivity", "0.1", "mS/cm", "H61"),
    "ms": _known("time", "0.001", "ms", "C26"),
    "s": _known("time", "1", "s", "SEC"),
    "min": _known("time", "60", "min", "MIN"),
    "h": _known("time", "3600", "h", "HUR"),
    "d": _known("time", "86400", "d", "DAY"),
    "Hz": _known("frequency", "1", "Hz", "HTZ"),
    "/s": _known("frequency", "1", "1/s"),
    "/min": _known("frequency", Fraction(1, 60), "1/min"),
    "/h": _known("frequency", Fraction(1, 3600), "1/h"),
    # Levels are logarithmic: among themselves the number stays, nothing else converts linearly.
    # Sound level meters write "dB" where UCUM has "dB[SPL]".
    "dB": _known("level", "1", "dB", "2N"),
    "dB[SPL]": _known("level", "1", "dB", "2N"),
    "[pH]": _known("acidity", "1", "", "Q30"),
}

_UCUM_OF_LABEL = {
    unit.label: ucum for ucum, unit in reversed(_TABLE.items()) if unit.label and unit.label != ucum
} | {"C": "Cel", "µg/m3": "ug/m3", "l/m2": "L/m2", "Lux": "lx", "Volt": "V", "percent": "%", "degC": "Cel"}

_WORDS = {"de": {"d": "Tage"}, "en": {"d": "days", "L": "L", "mL": "mL", "L/s": "L/s", "mg/L": "mg/L"}}
_ANNOTATION = re.compile(r"\{[^{}]*\}")
# A unit may be what a sender wrote beside its value; 10*99999999 would be computed digit by digit.
_ABSURD_NUMBER = re.compile(r"\d{4}")
# Digits after a unit are its exponent, but not those inside a unit's own brackets, as in m[H2O].
_EXPONENT = re.compile(r"(?<=[A-Za-zµΩ\]*])-?\d+(?![^\[]*\])")
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@cache
def _registry() -> Any:
    from ucumvert import PintUcumRegistry  # noqa: PLC0415 - half a second and 20 MB that most processes never need

    return PintUcumRegistry()


class _Linear(NamedTuple):
    dimension: str
    factor: float
    offset: float


def _unknown(ucum: str) -> UnitError:
    hint = _UCUM_OF_LABEL.get(ucum)
    tail = f"; UCUM writes {hint!r}" if hint else ""
    return UnitError(ucum, "unknown", f"{ucum!r} is not a unit of UCUM{tail}")


@lru_cache(maxsize=512)
def _looked_up(ucum: str) -> _Linear:
    """A unit as a linear function to root units, from ucumvert."""
    if len(ucum) > _LONGEST_UNIT:
        raise _unknown(ucum[:_LONGEST_UNIT] + "…")
    if _ABSURD_NUMBER.search(_ANNOTATION.sub("", ucum)):
        raise _unknown(ucum)
    from lark.exceptions import LarkError  # noqa: PLC0415 - comes with ucumvert
    from pint.errors import PintError  # noqa: PLC0415
    from ucumvert import InvalidUcumError  # noqa: PLC0415

    registry = _registry()
    try:
        quantity = registry.from_ucum(ucum)
        # ucumvert answers a bare number for "1" and a token for a lone annotation, which is 1 (UCUM §12).
        if not hasattr(quantity, "to_root_units"):
            number = quantity if isinstance(quantity, int | float) else 1
            quantity = registry.Quantity(number, "dimensionless")
        at = [
            registry.Quantity(x * quantity.magnitude, quantity.units).to_root_units()
            for x in (0.0, 1.0, 100.0)
        ]
    except (LarkError, PintError, InvalidUcumError, OverflowError, ZeroDivisionError):
        raise _unknown(ucum) from None
    zero, one, hundred = (float(value.magnitude) for value in at)
    if not isclose(hundred - zero, 100 * (one - zero), rel_tol=1e-9):
        raise UnitError(
            ucum, "not_linear", f"{ucum!r} is a logarithmic unit and cannot be converted linearly"
        )
    factor = one if zero == 0 else (hundred - zero) / 100
    return _Linear(str(at[1].units), factor, zero)


@lru_cache(maxsize=4096)
def converter(from_ucum: str, to_ucum: str) -> Conversion:
    """How to convert values; cached, so calling it for every value is cheap.

    Raises UnitError if a unit is unknown, or the two do not measure the same, or only a logarithm leads from
    one to the other.
    """
    source, target = _TABLE.get(from_ucum), _TABLE.get(to_ucum)
    if source is not None and target is not None:
        if source.dimension != target.dimension:
            raise _not_commensurable(from_ucum, to_ucum)
        return Conversion(
            float(source.factor / target.factor), float((source.offset - target.offset) / target.factor)
        )
    if from_ucum == to_ucum:
        _looked_up(from_ucum)
        return Conversion(1.0, 0.0)
    for ucum, unit in ((from_ucum, source), (to_ucum, target)):
        if unit is not None and unit.dimension in ("level", "acidity"):
            _looked_up(to_ucum if ucum == from_ucum else from_ucum)
            raise _not_commensurable(from_ucum, to_ucum)
    a, b = _looked_up(from_ucum), _looked_up(to_ucum)
    if a.dimension != b.dimension:
        raise _not_commensurable(from_ucum, to_ucum)
    return Conversion(a.factor / b.factor, (a.offset - b.offset) / b.factor)


def _not_commensurable(from_ucum: str, to_ucum: str) -> UnitError:
    return UnitError(from_ucum, "not_commensurable", f"{from_ucum!r} cannot be converted to {to_ucum!r}")


def convert(value: float, from_ucum: str, to_ucum: str) -> float:
    """The value in the other unit. Raises UnitError as :func:`converter` does."""
    factor, offset = converter(from_ucum, to_ucum)
    return value * factor + offset


def is_valid(ucum: str) -> bool:
    """Whether this is a unit of UCUM that values can be kept in."""
    if ucum in _TABLE:
        return True
    try:
        _looked_up(ucum)
    except UnitError as error:
        return error.reason == "not_linear"
    return True


def from_label(label: str) -> str | None:
    """The unit of UCUM behind what people write ("°C", "W/m²"); None where it is not in the table."""
    return _UCUM_OF_LABEL.get(label)


def display(ucum: str, language: str = "de") -> str:
    """The unit as people write it: "°C", "W/m²", "µg/m³"; empty for plain numbers and annotations."""
    word = _WORDS.get(language[:2], {}).get(ucum)
    if word is not None:
        return word
    unit = _TABLE.get(ucum)
    if unit is not None:
        return unit.label
    text = _ANNOTATION.sub("", ucum).replace("Cel", "°C").replace("Ohm", "Ω")
    text = re.sub(r"(?<![A-Za-z])u(?=[A-Za-z])", "µ", text)
    text = _EXPONENT.sub(lambda match: match.group().translate(_SUPERSCRIPT), text)
    return text.replace("10*", "10").replace(".", "·").replace("[", "").replace("]", "").removesuffix("_i")


def un_cefact(ucum: str) -> str | None:
    """The UN/CEFACT common code that NGSI-LD writes as ``unitCode``; None where there is none."""
    unit = _TABLE.get(ucum)
    if unit is not None:
        return unit.un_cefact
    return "C62" if _ANNOTATION.fullmatch(ucum) else None


def display_number(value: float, decimals: int | None, language: str = "de") -> str:
    """A number as people write it: comma or point, a real minus sign, groups from five digits on.

    ``decimals`` None writes as many digits as the number has, at most six.
    """
    text = f"{value:.6f}".rstrip("0").rstrip(".") if decimals is None else f"{value:.{decimals}f}"
    whole, point, fraction = text.partition(".")
    sign, digits = ("−", whole[1:]) if whole.startswith("-") else ("", whole)
    if not (digits + fraction).strip("0"):
        sign = ""  # no "−0"
    if len(digits) > 4:
        # DIN 1333 and ISO 80000-1 §7.3.1 group by a small space, which reads the same in both languages.
        digits = f"{int(digits):,}".replace(",", "\u202f")
    return sign + digits + ("," if point and language.startswith("de") else point) + fraction


def display_value(value: float, ucum: str, decimals: int | None, language: str = "de") -> str:
    """Number and unit with a no-break space between them: "−3,5 °C"; plain numbers without a unit."""
    number, unit = display_number(value, decimals, language), display(ucum, language)
    return number + unit if unit in ("", "°") else f"{number}\u00a0{unit}"
