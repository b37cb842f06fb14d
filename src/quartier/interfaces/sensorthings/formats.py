"""Lists as dataArray (18-088 clause 12), CSV and GeoJSON (as FROST writes them), row by row in constant memory.

Each is an ordinary list without links, rewritten. CSV has the columns that the request names, not those that the data
happen to have, so that two downloads of the same address always fit together.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from quartier.interfaces.sensorthings.compile import statement
from quartier.interfaces.sensorthings.facts import Entity
from quartier.interfaces.sensorthings.model import BY_NAME, asked_link, target
from quartier.interfaces.sensorthings.query.ast import Expand, Options, Path, Request, ResultFormat, Select
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.read import Asked, Reader, next_link

MEDIA_TYPES: Final[dict[ResultFormat, str]] = {
    "json": "application/json",
    "dataArray": "application/json",
    "CSV": "text/csv; charset=utf-8; header=present",
    "GeoJSON": "application/geo+json",
}
_ROWS_AT_ONCE: Final = 500
_HELD_ROWS: Final = 10_000
_UNIT: Final = "unitOfMeasurement"
_UNIT_PARTS: Final = ("name", "symbol", "definition")
_SHAPES: Final = {
    "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection",
}  # fmt: skip
_ID: Final = Path(("id",))

type Row = dict[str, Any]


@dataclass(slots=True)
class _Rows:
    """The entities of a request one by one, read with ``options``; afterwards ``next_link`` says where more are."""

    reader: Reader
    origin: Asked
    options: Options
    next_link: str | None = None
    count: tuple[int, bool] | None = None

    async def __aiter__(self) -> AsyncIterator[Row]:
        origin = self.origin
        options = replace(self.options, result_format=None, result_metadata="minimal")
        made = statement.plan(Request(origin.resource, options), origin.eyes, origin.token, stream=True)
        asked = replace(origin, options=options, plan=made)
        if options.count and made.count is not None:
            self.count = await self.reader.count(asked)
        if made.kind == "entity":
            yield orjson.loads(await self.reader.entity(asked))
            return
        token = None
        async for item, token in self.reader.rows(asked):  # noqa: B007 - the last one counts
            yield orjson.loads(item)
        if token is not None:
            self.next_link = next_link(origin, token.decode())

    def tail(self) -> bytes:
        """Members that are known behind the rows."""
        found: Row = {}
        if self.count is not None:
            found["@iot.count"], estimated = self.count
            if estimated:
                found["@iot.countIsEstimate"] = True
        if self.next_link is not None:
            found["@iot.nextLink"] = self.next_link
        return b"," + orjson.dumps(found)[1:-1] if found else b""


async def formatted(reader: Reader, asked: Asked) -> AsyncIterator[bytes]:
    """The answer in the format that was asked for, in pieces. Raises QueryError and NotFound before the first one."""
    options = asked.options
    if asked.plan.kind not in ("collection", "entity") or asked.resource.suffix:
        raise QueryError("is for entities", option="$resultFormat")
    match options.result_format:
        case "CSV":
            pieces = _csv(csv_columns(asked.plan.entity, options), _Rows(reader, asked, options))
        case "GeoJSON":
            pieces = _geojson(_Rows(reader, asked, options))
        case _:
            arrays, wanted = _data_arrays(asked)
            pieces = _data_array(arrays, _Rows(reader, asked, wanted))
    async for piece in pieces:
        yield piece


# -- CSV (RFC 4180)


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head, and where in an entity its value is."""

    name: str
    steps: tuple[str | int, ...]


def csv_columns(entity: Entity, options: Options, prefix: str = "") -> list[Column]:
    """The columns for a list of ``entity``: its properties, and behind them those of what is expanded.

    Raises QueryError for lists within rows, unless they are of one (``$top=1``).
    """
    found: list[Column] = []
    for steps in _selected(entity, options):
        inner = ("@iot.id",) if steps == ("id",) else steps
        name = prefix + "/".join(map(str, steps))
        if steps == (_UNIT,):
            found += [Column(f"{name}/{part}", (_UNIT, part)) for part in _UNIT_PARTS]
        else:
            found.append(Column(name, inner))
    for one in options.expand:
        link = asked_link(entity, one.name)
        if link is None:
            continue  # which the compiler says better
        if link.many and one.options.top != 1:
            raise QueryError(
                f"CSV has one row per entity, and {one.name} are many; ask for {one.name}($top=1), or ask"
                f" for {target(link).set} and expand what they belong to",
                option="$expand",
                at=one.at,
            )
        place: tuple[str | int, ...] = (link.name, 0) if link.many else (link.name,)
        below = csv_columns(target(link), one.options, f"{prefix}{link.name}/")
        found += [Column(column.name, (*place, *column.steps)) for column in below]
    return found


def _selected(entity: Entity, options: Options) -> Iterator[tuple[str | int, ...]]:
    if options.select is None:
        yield from ((found.name,) for found in entity.properties)
        return
    for path in options.select.paths:
        if path.steps[0] in ("id", "@iot.id"):
            yield ("id",)
        elif entity.find_link(path.steps[0]) is None:
            yield path.steps


async def _csv(columns: Sequence[Column], rows: AsyncIterable[Row]) -> AsyncIterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([column.name for column in columns])
    n = 0
    async for row in rows:
        writer.writerow([_cell(_at(row, column.steps)) for column in columns])
        n += 1
        if n % _ROWS_AT_ONCE == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def table(columns: Iterable[Sequence[str]], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """Rows that are at hand, as CSV; the parts of a column's name are joined by slashes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["/".join("id" if part == "@iot.id" else part for part in path) for path in columns])
    for n, row in enumerate(rows, 1):
        writer.writerow(map(_cell, row))
        if n % _ROWS_AT_ONCE == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula, for texts are given by anybody; numbers as they are."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    if value is None:
        return value
    return orjson.dumps(value).decode()


def _at(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(str(step))
        elif isinstance(value, list):
            place = step if isinstance(step, int) else int(step) if step.isdecimal() else len(value)
            value = value[place] if place < len(value) else None
        else:
            return None
    return value


# -- GeoJSON (RFC 7946)


async def _geojson(rows: _Rows) -> AsyncIterator[bytes]:
    pieces = [b'{"type":"FeatureCollection","features":[']
    n = 0
    async for row in rows:
        pieces.append((b"," if n else b"") + orjson.dumps(feature(row)))
        n += 1
        if n % _ROWS_AT_ONCE == 0:
            yield b"".join(pieces)
            pieces.clear()
    yield b"".join(pieces) + b"]" + rows.tail() + b"}"


def feature(entity: Row) -> Row:
    """An entity with all that is expanded as one flat feature; its geometry is the first one that is found."""
    properties: Row = {}
    geometries: list[Row] = []
    _flatten(entity, "", properties, geometries)
    return {
        "type": "Feature",
        "geometry": geometries[0] if geometries else None,
        "properties": properties,
    }


def _flatten(value: Any, path: str, properties: Row, geometries: list[Row]) -> None:
    shape = _geometry(value)
    if shape is not None:
        geometries.append(shape)
        return
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        properties[path] = value
        return
    for name, below in items:
        if name == "@iot.id":
            properties[f"{path}/id" if path else "id"] = below
        elif "@iot." not in str(name):
            _flatten(below, f"{path}/{name}" if path else str(name), properties, geometries)


def _geometry(value: Any) -> Row | None:
    """The geometry, if a value is one or a feature around one."""
    if not isinstance(value, dict):
        return None
    if value.get("type") in _SHAPES and ("coordinates" in value or "geometries" in value):
        return value
    return _geometry(value.get("geometry")) if value.get("type") == "Feature" else None


# -- dataArray


@dataclass(slots=True)
class _Arrays:
    """Rows by the (Multi)Datastream that they belong to; ``owner`` is the one that all of them have, if known."""

    components: list[tuple[str, tuple[str | int, ...]]]
    base: str
    owner: tuple[str, Any] | None
    held: dict[tuple[str, Any], list[bytes]] = field(default_factory=dict)
    n: int = 0

    def add(self, row: Row) -> None:
        """Hold a row."""
        values = [_at(row, steps) for _, steps in self.components]
        self.held.setdefault(self.owner or _owner(row), []).append(orjson.dumps(values))
        self.n += 1

    def taken(self) -> Iterator[bytes]:
        """The groups held; none is held any longer."""
        names = orjson.dumps([name for name, _ in self.components])
        for (name, id_), arrays in self.held.items():
            link = orjson.dumps(f"{self.base}/{BY_NAME[name].set}({id_})")
            yield (
                b'{"%b@iot.navigationLink":%b,"components":%b,"dataArray@iot.count":%d,"dataArray":['
                % (name.encode(), link, names, len(arrays))
                + b",".join(arrays)
                + b"]}"
            )
        self.held.clear()
        self.n = 0


def _owner(row: Mapping[str, Any]) -> tuple[str, Any]:
    for name in ("Datastream", "MultiDatastream"):
        if isinstance(row.get(name), dict):
            return name, row[name]["@iot.id"]
    return "Datastream", None


def _data_arrays(asked: Asked) -> tuple[_Arrays, Options]:
    """Where rows go, and the request that gives them. Raises QueryError for anything but Observations."""
    entity, options = asked.plan.entity, asked.options
    if entity.name != "Observation" or asked.plan.kind != "collection":
        raise QueryError("dataArray is for sets of Observations", option="$resultFormat")
    if options.expand:
        raise QueryError("nothing can be expanded in a dataArray", option="$expand", at=options.expand[0].at)
    components: list[tuple[str, tuple[str | int, ...]]] = []
    for steps in _selected(entity, options):
        name = "/".join(map(str, steps))
        components.append((name, ("@iot.id",) if steps == ("id",) else steps))
    owner = None
    before = asked.resource.segments[-2] if len(asked.resource.segments) > 1 else None
    if before is not None and before.key is not None:
        owner = {"Datastreams": "Datastream", "MultiDatastreams": "MultiDatastream"}.get(before.name)
    arrays = _Arrays(components, asked.base, (owner, before.key) if owner and before else None)
    if arrays.owner is None:
        only_id = Options(select=Select((_ID,)))
        links = (Expand("Datastream", only_id), Expand("MultiDatastream", only_id))
        options = replace(options, expand=links)
    return arrays, options


async def _data_array(arrays: _Arrays, rows: _Rows) -> AsyncIterator[bytes]:
    before = b'{"value":['
    async for row in rows:
        arrays.add(row)
        # Longer answers come in several groups per Datastream, so that memory stays as it is.
        if arrays.n >= _HELD_ROWS:
            yield before + b",".join(arrays.taken())
            before = b","
    if arrays.held or before != b",":
        yield before + b",".join(arrays.taken())
    yield b"]" + rows.tail() + b"}"
