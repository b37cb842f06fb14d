"""Units: the table against ucumvert, errors that say why, display, UN/CEFACT codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.twin import units
from quartier.twin.units import (
    Conversion,
    UnitError,
    convert,
    converter,
    display,
    display_value,
    is_valid,
    un_cefact,
)

# ucumvert knows these only as logarithms or not at all (0.3.2); the table keeps the number as it is.
NOT_IN_UCUMVERT = {"dB", "dB[SPL]", "[pH]"}
PAIRS = [
    (a, b)
    for a, one in units._TABLE.items()
    for b, other in units._TABLE.items()
    if one.dimension == other.dimension and a != b and a not in NOT_IN_UCUMVERT
]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_table_agrees_with_ucumvert(source: str, target: str) -> None:
    a, b = units._looked_up(source), units._looked_up(target)
    assert a.dimension == b.dimension
    expected = (a.factor / b.factor, (a.offset - b.offset) / b.factor)
    assert tuple(converter(source, target)) == pytest.approx(expected, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (100.0, "Cel", "[degF]", 212.0),
        (-40.0, "[degF]", "Cel", -40.0),
        (0.0, "Cel", "K", 273.15),
        (99.69, "kPa", "hPa", 996.9),
        (36.0, "km/h", "m/s", 10.0),
        (415.0, "[ppm]", "%", 0.0415),
        (1.0, "m[Hg]", "hPa", 1333.22387415),  # NIST SP 811, conventional metre of mercury
        (1.0, "mmol/L", "mol/m3", 1.0),
        (2.5, "{persons}", "1", 2.5),
        (1.0, "L/m2", "mm", 1.0),
        (62.0, "dB", "dB[SPL]", 62.0),
        (7.0, "[pH]", "[pH]", 7.0),
    ],
)
def test_convert(value: float, source: str, target: str, expected: float) -> None:
    assert convert(value, source, target) == pytest.approx(expected, rel=1e-12)


def test_factors_of_ten_are_exact() -> None:
    assert converter("kPa", "hPa") == Conversion(10.0, 0.0)
    assert converter("mg/m3", "ug/m3") == Conversion(1000.0, 0.0)
    assert converter("Cel", "Cel") == Conversion(1.0, 0.0)


@pytest.mark.parametrize(
    ("source", "target", "unit", "reason", "says"),
    [
        ("Cel", "hPa", "Cel", "not_commensurable", "'Cel' cannot be converted to 'hPa'"),
        ("deg", "%", "deg", "not_commensurable", "'deg' cannot be converted to '%'"),
        ("dB", "V", "dB", "not_commensurable", "'dB' cannot be converted to 'V'"),
        ("m[H2O]", "[pH]", "m[H2O]", "not_commensurable", "'m[H2O]' cannot be converted to '[pH]'"),
        ("mmol/L", "Cel", "mmol/L", "not_commensurable", "'mmol/L' cannot be converted to 'Cel'"),
        ("furlong", "m", "furlong", "unknown", "'furlong' is not a unit of UCUM"),
        ("furlong", "furlong", "furlong", "unknown", "'furlong' is not a unit of UCUM"),
        ("furlong", "dB", "furlong", "unknown", "'furlong' is not a unit of UCUM"),
        ("°C", "Cel", "°C", "unknown", "'°C' is not a unit of UCUM; UCUM writes 'Cel'"),
        ("µg/m³", "ug/m3", "µg/m³", "unknown", "'µg/m³' is not a unit of UCUM; UCUM writes 'ug/m3'"),
        ("", "m", "", "unknown", "'' is not a unit of UCUM"),
        ("B[W]", "W", "B[W]", "not_linear", "'B[W]' is a logarithmic unit and cannot be converted linearly"),
    ],
)
def test_conversion_refused(source: str, target: str, unit: str, reason: str, says: str) -> None:
    with pytest.raises(UnitError) as caught:
        converter(source, target)
    assert (caught.value.unit, caught.value.reason, str(caught.value)) == (unit, reason, says)


def test_endless_unit_is_refused_without_parsing() -> None:
    with pytest.raises(UnitError, match="is not a unit of UCUM"):
        converter("m." * 100_000 + "m", "m")


@given(st.text(max_size=30))
def test_any_text_is_a_unit_or_refused(text: str) -> None:
    if is_valid(text):
        assert isinstance(display(text), str)
    else:
        with pytest.raises(UnitError):
            converter(text, text)


@given(st.sampled_from(PAIRS), st.floats(-1e6, 1e6))
def test_there_and_back(pair: tuple[str, str], value: float) -> None:
    there = convert(value, pair[0], pair[1])
    assert convert(there, pair[1], pair[0]) == pytest.approx(value, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("ucum", "german", "english"),
    [
        ("Cel", "°C", "°C"),
        ("W/m2", "W/m²", "W/m²"),
        ("ug/m3", "µg/m³", "µg/m³"),
        ("%", "%", "%"),
        ("1", "", ""),
        ("{persons}", "", ""),
        ("L/s", "l/s", "L/s"),
        ("d", "Tage", "days"),
        ("umol/m2/s", "µmol/m²/s", "µmol/m²/s"),
        ("m.s-2", "m·s⁻²", "m·s⁻²"),
        ("m[H2O]", "mH2O", "mH2O"),
        ("10*3/uL", "10³/µL", "10³/µL"),
    ],
)
def test_display(ucum: str, german: str, english: str) -> None:
    assert (display(ucum, "de"), display(ucum, "en")) == (german, english)


@pytest.mark.parametrize(
    ("ucum", "code"),
    [
        ("Cel", "CEL"),
        ("%", "P1"),
        ("hPa", "A97"),
        ("m/s", "MTS"),
        ("W/m2", "D54"),
        ("ug/m3", "GQ"),
        ("mm/h", "H67"),
        ("1", "C62"),
        ("{persons}", "C62"),
        ("umol/m2/s", None),
    ],
)
def test_un_cefact(ucum: str, code: str | None) -> None:
    # UN/CEFACT Recommendation 20, annex III.
    assert un_cefact(ucum) == code


def test_pint_is_not_imported_for_units_of_the_table() -> None:
    source = str(Path(units.__file__).parents[2])
    script = (
        "import sys; from quartier.twin.units import convert, display, is_valid, un_cefact\n"
        "assert convert(1, 'kPa', 'hPa') == 10 and display('Cel') and is_valid('Cel') and un_cefact('Cel')\n"
        "assert 'pint' not in sys.modules and 'ucumvert' not in sys.modules\n"
        "assert is_valid('mmol/L') and 'pint' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": source})


@pytest.mark.parametrize(
    ("value", "ucum", "decimals", "german", "english"),
    [
        (27.04, "Cel", 1, "27,0\u00a0°C", "27.0\u00a0°C"),
        (-3.5, "Cel", 1, "−3,5\u00a0°C", "−3.5\u00a0°C"),
        (-0.04, "Cel", 1, "0,0\u00a0°C", "0.0\u00a0°C"),
        (-0.0, "Cel", None, "0\u00a0°C", "0\u00a0°C"),
        (1013.25, "hPa", 1, "1013,2\u00a0hPa", "1013.2\u00a0hPa"),
        (100_000, "lx", 0, "100\u202f000\u00a0lx", "100\u202f000\u00a0lx"),
        (-12345.5, "1", 1, "−12\u202f345,5", "−12\u202f345.5"),
        (270, "deg", 0, "270°", "270°"),
        (76, "1", 0, "76", "76"),
        (0.25, "V", None, "0,25\u00a0V", "0.25\u00a0V"),
    ],
)
def test_display_value(value: float, ucum: str, decimals: int | None, german: str, english: str) -> None:
    assert display_value(value, ucum, decimals, "de") == german
    assert display_value(value, ucum, decimals, "en") == english
