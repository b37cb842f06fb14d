"""The plain CSV form for readings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from quartier.cli.importers import ImportedReading, ImportFileError, RowError
from quartier.cli.importers.csv import readings

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def read(folder: Path, content: str) -> tuple[list[ImportedReading], list[str]]:
    path = folder / "readings.csv"
    path.write_text(content, encoding="utf-8")
    errors: list[RowError] = []
    return list(readings(path, errors.append)), [str(error) for error in errors]


def test_readings(tmp_path: Path) -> None:
    content = (
        "thing,property,unit,time,value\n"
        "school-roof,air_temperature,[degF],2026-07-01T12:00:00Z,77\n"
        "school-roof,air_pressure,kPa,2026-07-01T14:00:00+02:00,100.2\n"
        "bay-7,occupied,,2026-07-01T12:00:00Z,true\n"
    )
    assert read(tmp_path, content) == (
        [
            ImportedReading("school-roof", "air_temperature", "[degF]", NOON, 77.0),
            ImportedReading("school-roof", "air_pressure", "kPa", NOON, 100.2),
            ImportedReading("bay-7", "occupied", "1", NOON, 1.0),
        ],
        [],
    )


def test_german_spreadsheet(tmp_path: Path) -> None:
    content = "value;time;unit;property;thing\n21,5;2026-07-01T12:00:00Z;Cel;air_temperature;school-roof\n"
    assert read(tmp_path, content) == (
        [ImportedReading("school-roof", "air_temperature", "Cel", NOON, 21.5)],
        [],
    )


def test_bad_rows_are_named_and_cost_no_neighbour(tmp_path: Path) -> None:
    good = "a,air_temperature,Cel,2026-07-01T12:00:00Z,21\n"
    content = "thing,property,unit,time,value\n" + good.join(
        [
            "",
            "a,warmth,Cel,2026-07-01T12:00:00Z,21\n",
            "a,air_temperature,hPa,2026-07-01T12:00:00Z,21\n",
            "a,air_temperature,°C,2026-07-01T12:00:00Z,21\n",
            "a,air_temperature,Cel,2026-07-01 12:00,21\n",
            "a,air_temperature,Cel,2026-07-01T12:00:00Z,NaN\n",
            ",air_temperature,Cel,2026-07-01T12:00:00Z,21\n",
            "a,air_temperature,Cel\n",
        ]
    )
    found, errors = read(tmp_path, content)
    assert found == [ImportedReading("a", "air_temperature", "Cel", NOON, 21.0)] * 7
    assert errors == [
        "readings.csv, line 3, column property: 'warmth' is not a known property",
        "readings.csv, line 5, column unit: 'hPa' cannot be converted to 'Cel'",
        "readings.csv, line 7, column unit: '°C' is not a unit of UCUM; UCUM writes 'Cel'",
        "readings.csv, line 9, column time: '2026-07-01 12:00' has no time zone; UTC is written with Z at the end",
        "readings.csv, line 11, column value: 'NaN' is not a finite number",
        "readings.csv, line 13, column thing: is empty",
        "readings.csv, line 15: has 3 cells, the header 5",
    ]


def test_own_properties(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("thing,property,unit,time,value\nhive,weight,g,2026-07-01T12:00:00Z,41200\n")
    errors: list[RowError] = []
    found = list(readings(path, errors.append, property_units={"weight": "kg"}))
    assert (found, errors) == ([ImportedReading("hive", "weight", "g", NOON, 41200.0)], [])


def test_missing_column(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="the header has no column unit, value"):
        read(tmp_path, "thing,property,time\n")
