"""Tables of strangers: cells, delimiters, and errors that name the place."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.cli.importers.table import ImportFileError, Row, RowError, header_of, read_table


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows_of(path: Path, *columns: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    errors: list[RowError] = []
    rows = [(row.line, row.cells) for row in read_table(path, columns, errors.append)]
    return rows, [str(error) for error in errors]


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n3,4\n", "a,b\r\n1,2\r\n3,4", "\ufeffa,b\n1,2\n\n3,4\n", "a;b\n1;2\n3;4\n"]
)
def test_rows(tmp_path: Path, content: str, name: str) -> None:
    rows, errors = rows_of(write(tmp_path, content, name), "a", "b")
    assert [cells for _, cells in rows] == [["1", "2"], ["3", "4"]]
    assert errors == []


def test_lines_are_counted_over_quoted_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b\n"x\ny",2\n3,4\n5\n6,7\n')
    assert rows_of(path, "a") == (
        [(2, ["x\ny", "2"]), (4, ["3", "4"]), (6, ["6", "7"])],
        ["table.csv, line 5: has 1 cells, the header 2"],
    )


def test_endless_quote_costs_the_rest_and_no_crash(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b\n1,2\n"3,4\n5,6\n')
    assert rows_of(path, "a") == ([(2, ["1", "2"])], ["table.csv, line 3: unexpected end of data"])


def test_endless_cell_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + "x" * 200_000 + ",2\n3,4\n")
    error = "table.csv, line 2: field larger than field limit (131072)"
    assert rows_of(path, "a") == ([(3, ["3", "4"])], [error])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the header has no column a, b"),
        ("a,c\n1,2\n", "the header has no column b$"),
        ("a,b,a\n1,2,3\n", "the header names a twice"),
        (b"a,b\n1,\xff\n", "is not UTF-8"),
    ],
)
def test_file_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(ImportFileError, match=says):
        rows_of(write(tmp_path, content), "a", "b")


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match=r"none\.csv: No such file or directory"):
        rows_of(tmp_path / "none.csv")


@pytest.mark.parametrize("damage", [slice(0, 40), slice(5, None)])
def test_broken_gzip(tmp_path: Path, damage: slice) -> None:
    path = write(tmp_path, "a,b\n" + "1,2\n" * 1000, "table.csv.gz")
    path.write_bytes(path.read_bytes()[damage])
    with pytest.raises(ImportFileError, match=r"table\.csv\.gz: "):
        rows_of(path, "a")


def test_header_of(tmp_path: Path) -> None:
    assert header_of(write(tmp_path, "a , b\n")) == ["a", "b"]
    assert header_of(write(tmp_path, "")) == []


def row(cell: str, *, decimal_comma: bool = False) -> Row:
    return Row("table.csv", 7, [cell], {"x": 0}, decimal_comma)


def test_numbers() -> None:
    assert [row(cell).number("x") for cell in ("1", " -2.5 ", "1e3")] == [1.0, -2.5, 1000.0]
    assert row("3,25", decimal_comma=True).number("x") == 3.25
    assert row(" ").optional_number("x") is None


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("", "is empty"),
        ("warm", "'warm' is not a number"),
        ("1,5", "'1,5' is not a number"),
        ("nan", "'nan' is not a finite number"),
        ("-inf", "'-inf' is not a finite number"),
        ("1e999", "'1e999' is not a finite number"),
        ("x" * 100, f"'{'x' * 60}…' is not a number"),
    ],
)
def test_number_refused(cell: str, says: str) -> None:
    with pytest.raises(RowError) as caught:
        row(cell).number("x")
    error = caught.value
    assert (error.file, error.line, error.column, error.message) == ("table.csv", 7, "x", says)
    assert str(error) == f"table.csv, line 7, column x: {says}"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024-09-10 05:18:52.021037+00", datetime(2024, 9, 10, 5, 18, 52, 21037, UTC)),
        ("2020-03-24T16:01:02Z", datetime(2020, 3, 24, 16, 1, 2, tzinfo=UTC)),
        ("2026-07-01T12:00:00+02:00", datetime(2026, 7, 1, 10, 0, tzinfo=UTC)),
    ],
)
def test_time(cell: str, expected: datetime) -> None:
    assert row(cell).time("x") == expected


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("yesterday", "'yesterday' is not a time (ISO 8601)"),
        ("2026-07-01T12:00:00", "'2026-07-01T12:00:00' has no time zone; UTC is written with Z at the end"),
        ("0001-01-01T00:00:00+14:00", "'0001-01-01T00:00:00+14:00' is not a time (ISO 8601)"),
        ("", "is empty"),
    ],
)
def test_time_refused(cell: str, says: str) -> None:
    with pytest.raises(RowError) as caught:
        row(cell).time("x")
    assert caught.value.message == says


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_or_named_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = write(tmp_path_factory.mktemp("any"), content)
    refused = ""
    rows: list[tuple[int, list[str]]] = []
    errors: list[str] = []
    try:
        rows, errors = rows_of(path)
    except ImportFileError as error:
        refused = str(error)
    assert refused == "" or refused.startswith(str(path))
    assert all(line >= 2 for line, _ in rows)
    assert all(error.startswith("table.csv, line ") for error in errors)
