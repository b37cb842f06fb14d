"""Readings from a plain CSV file with the columns thing, property, unit, time and value.

For everything that has no importer of its own: a spreadsheet of a department, another platform's export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from quartier.cli.importers.table import ImportedReading, OnError, Row, RowError, read_table
from quartier.twin.properties import catalogue
from quartier.twin.units import UnitError, converter

COLUMNS = ("thing", "property", "unit", "time", "value")

_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}


def catalogue_units() -> dict[str, str]:
    """The canonical unit of every property of the catalogue; text cannot be imported."""
    return {known.slug: known.unit for known in catalogue().values() if known.result_type != "text"}


def readings(
    path: Path, on_error: OnError, *, property_units: Mapping[str, str] | None = None
) -> Iterator[ImportedReading]:
    """The readings of a file. ``property_units`` are the known properties and the units they are kept in.

    Each row is checked before it is yielded: the property is known, its unit converts, the time has a zone,
    the value is a number (or true or false). Raises ImportFileError if the file cannot be read.
    """
    known = catalogue_units() if property_units is None else property_units
    convertible = lru_cache(maxsize=1024)(_convertible)
    for row in read_table(path, COLUMNS, on_error):
        try:
            yield _reading(row, known, convertible)
        except RowError as error:
            on_error(error)


def _reading(row: Row, known: Mapping[str, str], convertible: Callable[[str, str], str]) -> ImportedReading:
    slug = row.text("property")
    if slug not in known:
        raise row.error("property", f"{slug!r} is not a known property")
    unit = row.text("unit", required=False) or known[slug]
    problem = convertible(unit, known[slug])
    if problem:
        raise row.error("unit", problem)
    value = _TRUTH.get(row.text("value").lower())
    return ImportedReading(
        thing_key=row.text("thing"),
        property_slug=slug,
        unit=unit,
        time=row.time("time"),
        value=row.number("value") if value is None else value,
    )


def _convertible(unit: str, target: str) -> str:
    try:
        converter(unit, target)
    except UnitError as error:
        return str(error)
    return ""
