"""Arrays for PostgreSQL, packed by numpy.

A batch of thousands of observations is sent as a handful of array parameters. Packing them here in the binary wire
format takes a tenth of the time of adapting every element on its own, and that time is what bounds ``record``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format

_POSTGRES_EPOCH_US = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


class PackedArray:
    """A one-dimensional array in PostgreSQL's binary format."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class SmallintArray(PackedArray):
    """smallint[]"""


class IntegerArray(PackedArray):
    """integer[]"""


class BigintArray(PackedArray):
    """bigint[]"""


class DoubleArray(PackedArray):
    """double precision[]"""


class TimestampArray(PackedArray):
    """timestamptz[]"""


# Type oids of element and array, from PostgreSQL's pg_type.dat.
_OIDS: dict[type[PackedArray], tuple[int, int, str]] = {
    SmallintArray: (21, 1005, ">i2"),
    IntegerArray: (23, 1007, ">i4"),
    BigintArray: (20, 1016, ">i8"),
    DoubleArray: (701, 1022, ">f8"),
    TimestampArray: (1184, 1185, ">i8"),
}


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: PackedArray) -> Buffer:
        return obj.data


def register(adapters: AdaptersMap) -> None:
    """Teach a connection (or pool) to send packed arrays."""
    for kind, (_, array_oid, _) in _OIDS.items():
        adapters.register_dumper(kind, type(f"{kind.__name__}Dumper", (_PackedDumper,), {"oid": array_oid}))


def pack[T: PackedArray](
    kind: type[T], values: NDArray[np.generic], nulls: NDArray[np.bool_] | None = None
) -> T:
    """An array parameter of ``kind``; where ``nulls`` is true the element is NULL.

    Raises OverflowError for a number that the elements cannot hold.
    """
    element_oid, _, dtype = _OIDS[kind]
    length = np.dtype(dtype).itemsize
    n = len(values)
    if n and values.dtype.kind == "i" and values.dtype.itemsize > length:
        # numpy would cut the upper bytes away, and the value be that of another series.
        low, high = int(values.min()), int(values.max())
        if low < -(1 << 8 * length - 1) or high >= 1 << 8 * length - 1:
            raise OverflowError(f"{low}…{high} does not fit {kind.__doc__}")
    has_nulls = nulls is not None and bool(nulls.any())
    header = struct.pack(">iiIii", 1, int(has_nulls), element_oid, n, 1)
    rows = np.empty(n, dtype=[("length", ">i4"), ("value", dtype)])
    rows["length"] = length
    rows["value"] = values
    if not has_nulls:
        return kind(header + rows.tobytes())
    assert nulls is not None  # noqa: S101 (for the type checker)
    rows["length"][nulls] = -1
    raw = rows.tobytes()
    # A NULL element is its length word only: its value bytes are cut out.
    keep = np.ones(n * (4 + length), dtype=bool).reshape(n, 4 + length)
    keep[nulls, 4:] = False
    return kind(header + np.frombuffer(raw, dtype=np.uint8)[keep.reshape(-1)].tobytes())


def microseconds(times: Sequence[datetime]) -> NDArray[np.int64]:
    """Microseconds since PostgreSQL's epoch of aware datetimes; exact until 2106, when floats grow coarse."""
    seconds = np.array([t.timestamp() for t in times])
    result: NDArray[np.int64] = np.rint(seconds * 1e6).astype(np.int64) - _POSTGRES_EPOCH_US
    return result
