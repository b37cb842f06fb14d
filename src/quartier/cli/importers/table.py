"""Reading CSV files of strangers: typed cells, and errors that name the line and the column.

Understands plain and gzipped UTF-8, with comma or semicolon (then also decimal commas, as German spreadsheets
write them).
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

_SHOWN = 60  # characters of a bad cell that an error repeats
_LONGEST_HEADER = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedThing:
    """A thing of the city as a file describes it. Position in degrees (WGS 84), altitude above sea level."""

    key: str
    name: str
    kind: str
    longitude: float
    latitude: float
    altitude_m: float | None = None
    street: str = ""
    house_number: str = ""
    postcode: str = ""
    district: str = ""
    properties: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class ImportedReading:
    """One value as a file states it: in ``unit`` (UCUM), not yet in the unit of the property. Time is UTC."""

    thing_key: str
    property_slug: str
    unit: str
    time: datetime
    value: float


class ImportFileError(Exception):
    """A file as a whole cannot be read; the message names it and says why."""


class RowError(ValueError):
    """A row, or one cell of it, cannot be used."""

    def __init__(self, file: str, line: int, column: str, message: str) -> None:
        where = f"{file}, line {line}" + (f", column {column}" if column else "")
        super().__init__(f"{where}: {message}")
        self.file = file
        self.line = line
        self.column = column
        self.message = message


type OnError = Callable[[RowError], None]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table with typed access; every method raises RowError with the place."""

    file: str
    line: int
    cells: list[str]
    index: Mapping[str, int]
    decimal_comma: bool

    def error(self, column: str, message: str) -> RowError:
        """The error to raise for a cell of this row."""
        return RowError(self.file, self.line, column, message)

    def text(self, column: str, *, required: bool = True) -> str:
        """The cell without surrounding blanks."""
        value = self.cells[self.index[column]].strip()
        if required and not value:
            raise self.error(column, "is empty")
        return value

    def number(self, column: str) -> float:
        """The cell as a finite number."""
        text = self.text(column)
        try:
            value = float(text.replace(",", ".") if self.decimal_comma else text)
        except ValueError:
            raise self.error(column, f"{_shown(text)} is not a number") from None
        if not isfinite(value):
            raise self.error(column, f"{_shown(text)} is not a finite number")
        return value

    def optional_number(self, column: str) -> float | None:
        """The cell as a number; None where it is empty."""
        return self.number(column) if self.text(column, required=False) else None

    def time(self, column: str) -> datetime:
        """The cell as a time with zone (ISO 8601), in UTC."""
        text = self.text(column)
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise self.error(column, f"{_shown(text)} is not a time (ISO 8601)") from None
        if value.tzinfo is None:
            raise self.error(column, f"{_shown(text)} has no time zone; UTC is written with Z at the end")
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise self.error(column, f"{_shown(text)} is not a time (ISO 8601)") from None


def read_table(path: Path, columns: Iterable[str], on_error: OnError) -> Iterator[Row]:
    """The rows of a CSV file that has at least these columns, one after the other.

    Rows with too few or too many cells go to ``on_error``. Raises ImportFileError if the file cannot be
    read, is not UTF-8, misses a column or names one twice.
    """
    with _readable(path) as file:
        header, delimiter = _header(path, file)
        missing = [column for column in columns if column not in header]
        if missing:
            raise ImportFileError(f"{path}: the header has no column {', '.join(missing)}")
        index = {name: position for position, name in enumerate(header)}
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            # The header is line 1, and a quoted cell may run over several lines: errors name the first.
            line = reader.line_num + 2
            try:
                cells = next(reader, None)
            except csv.Error as error:
                on_error(RowError(path.name, line, "", str(error)))
                continue
            if cells is None:
                return
            if len(cells) == len(header):
                yield Row(path.name, line, cells, index, delimiter == ";")
            elif cells:  # an empty line is no row
                on_error(RowError(path.name, line, "", f"has {len(cells)} cells, the header {len(header)}"))


def header_of(path: Path) -> list[str]:
    """The column names of a CSV file. Raises ImportFileError as :func:`read_table` does."""
    with _readable(path) as file:
        return _header(path, file)[0]


@contextmanager
def _readable(path: Path) -> Iterator[IO[str]]:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
                yield cast(IO[str], file)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield file
    except UnicodeDecodeError:
        raise ImportFileError(f"{path}: is not UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImportFileError(f"{path}: {reason}") from None


def _header(path: Path, file: IO[str]) -> tuple[list[str], str]:
    line = file.readline(_LONGEST_HEADER)
    delimiter = ";" if ";" in line and "," not in line else ","
    header = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ImportFileError(f"{path}: the header names {', '.join(twice)} twice")
    return header, delimiter
