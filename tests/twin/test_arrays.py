"""Packed arrays against psycopg's own adaptation, in a real PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quartier.twin import arrays
from quartier.twin.arrays import PackedArray

Connection = psycopg.Connection[tuple[Any, ...]]

# The connection is the same for all examples: nothing is written.
_with_connection = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


@pytest.fixture
def connection(store: str) -> Iterator[Connection]:
    with psycopg.connect(store, autocommit=True) as opened:
        opened.execute("SET timezone = 'UTC'")
        arrays.register(opened.adapters)
        yield opened


def _integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_offsets = st.integers(-15 * 60, 15 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# The recorder takes times from 1900 to 2106.
_times = st.datetimes(datetime(1900, 1, 2), datetime(2105, 12, 31), timezones=_offsets | st.just(UTC))  # noqa: DTZ001 (hypothesis adds it)

_Case = tuple[type[PackedArray], str, st.SearchStrategy[Any], str]
_CASES: list[_Case] = [
    (arrays.SmallintArray, "smallint", _integers(16), "int64"),
    (arrays.IntegerArray, "integer", _integers(32), "int64"),
    (arrays.BigintArray, "bigint", _integers(64), "int64"),
    (arrays.DoubleArray, "double precision", st.floats(), "float64"),
    (arrays.DoubleArray, "double precision", st.integers(-(2**53), 2**53), "int64"),
]


def check(connection: Connection, packed: PackedArray, plain: Sequence[Any], type_: str) -> None:
    """Equal for PostgreSQL, and the same when read again."""
    row = connection.execute(
        f"SELECT %(packed)s IS NOT DISTINCT FROM %(plain)s::{type_}[], pg_typeof(%(packed)s)::text, %(packed)s",
        {"packed": packed, "plain": list(plain)},
    ).fetchone()
    assert row is not None
    same, found_type, back = row
    assert same
    assert found_type == ("timestamp with time zone[]" if type_ == "timestamptz" else f"{type_}[]")
    assert list(map(_comparable, back)) == list(map(_comparable, plain))


def _comparable(value: Any) -> Any:
    if isinstance(value, float | int):
        return "nan" if math.isnan(value) else (float(value), math.copysign(1, value))
    return value


@pytest.mark.parametrize("case", _CASES, ids=["smallint", "integer", "bigint", "double", "double from int"])
@given(data=st.data())
@_with_connection
def test_numbers(connection: Connection, case: _Case, data: st.DataObject) -> None:
    kind, type_, elements, dtype = case
    plain = data.draw(st.lists(st.none() | elements, max_size=30))
    nulls = np.array([x is None for x in plain], dtype=bool)
    filled = np.array([0 if x is None else x for x in plain], dtype=dtype)
    check(connection, arrays.pack(kind, filled, nulls), plain, type_)
    whole = [x for x in plain if x is not None]
    check(connection, arrays.pack(kind, np.array(whole, dtype=dtype)), whole, type_)


@given(plain=st.lists(st.none() | _times, max_size=30))
@example(plain=[datetime(2026, 10, 25, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=2)))])
@example(plain=[datetime(2105, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)])
@example(plain=[datetime(2000, 1, 1, tzinfo=UTC), None])
@_with_connection
def test_times_to_the_microsecond(connection: Connection, plain: list[datetime | None]) -> None:
    nulls = np.array([t is None for t in plain], dtype=bool)
    times = arrays.microseconds([t or datetime(2000, 1, 1, tzinfo=UTC) for t in plain])
    check(connection, arrays.pack(arrays.TimestampArray, times, nulls), plain, "timestamptz")


def test_array_of_nothing_but_nulls(connection: Connection) -> None:
    nulls = np.ones(3, dtype=bool)
    check(connection, arrays.pack(arrays.DoubleArray, np.zeros(3), nulls), [None] * 3, "double precision")


def test_nothing(connection: Connection) -> None:
    check(connection, arrays.pack(arrays.IntegerArray, np.array([], dtype=np.int64)), [], "integer")


def test_batch_of_the_recorders_size(connection: Connection) -> None:
    """Every third element is NULL; what is left must not have moved."""
    numbers = np.arange(8000, dtype=np.float64) / 7
    nulls = np.arange(8000) % 3 == 0
    plain = [None if null else float(x) for x, null in zip(numbers, nulls, strict=True)]
    check(connection, arrays.pack(arrays.DoubleArray, numbers, nulls), plain, "double precision")


@pytest.mark.parametrize(
    ("kind", "value"),
    [(arrays.SmallintArray, 2**15), (arrays.IntegerArray, -(2**31) - 1)],
)
def test_number_that_does_not_fit_is_not_cut(kind: type[PackedArray], value: int) -> None:
    with pytest.raises(OverflowError):
        arrays.pack(kind, np.array([1, value]))
