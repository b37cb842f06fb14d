"""Observations to take away: CSV, GeoJSON and Parquet of any places, property or city over any period.

Rows come through a server-side cursor and leave in pieces, so a download of a year needs no more memory
than one of an hour. A selection that is too large is refused with the parameter that makes it so, not
cut off silently. Every file says its licence and source: GeoJSON and Parquet inside, CSV stays plain RFC
4180 and has a file beside it (CSV on the Web).
"""

from __future__ import annotations

import csv
import io
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import IO, Any, Final

import orjson
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.utils import timezone
from django.views.decorators.http import require_safe

from quartier.cities.rules import actor_of
from quartier.portal.axes import ZONE
from quartier.portal.selection import Facts, Selection, SelectionError, select
from quartier.twin.flags import Flag
from quartier.twin.queries import Reading

# Pages must not wait for connections that downloads hold.
MAXIMUM_AT_ONCE: Final = 3
_CHUNK_ROWS: Final = 2000
_CHUNK_BYTES: Final = 256 * 1024
_ROW_GROUP: Final = 64 * 1024
_slots = threading.BoundedSemaphore(MAXIMUM_AT_ONCE)


class _Pieces:
    """Pieces of an answer, pulled one by one: plainly under WSGI, in Django's own thread under ASGI.

    Closing (also when the visitor has gone in the middle) ends the cursor and frees the place for the next download.
    """

    def __init__(self, pieces: Iterator[bytes], release: Callable[[], None]) -> None:
        self._pieces = pieces
        self._release = release
        self._open = True

    def close(self) -> None:
        """End the download. May be called twice."""
        if self._open:
            self._open = False
            try:
                close = getattr(self._pieces, "close", None)
                if close is not None:
                    close()
            finally:
                self._release()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def __del__(self) -> None:
        # A visitor who is gone before the answer began leaves a response that nobody closes.
        self.close()


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


class _AsyncPieces:
    """The same for ASGI: Django would otherwise gather the whole answer in memory first."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces

    def close(self) -> None:
        """End the download."""
        self._pieces.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        iterator = iter(self._pieces)
        try:
            while (piece := await sync_to_async(_next)(iterator)) is not None:
                yield piece
        finally:
            await sync_to_async(self._pieces.close)()


Produce = Callable[[Selection], Iterator[bytes]]


def _download(
    content_type: str, extension: str
) -> Callable[[Produce], Callable[[HttpRequest], HttpResponseBase]]:
    """Make a view of a function that turns a selection into pieces of a file."""

    def decorate(produce: Produce) -> Callable[[HttpRequest], HttpResponseBase]:
        @require_safe
        @wraps(produce)
        def view(request: HttpRequest) -> HttpResponseBase:
            try:
                selection = select(actor_of(request.user), request.GET, timezone.now())
            except SelectionError as error:
                return refused(error)
            headers = _headers(selection, extension)
            if request.method == "HEAD":
                return HttpResponse(content_type=content_type, headers=headers)
            if not _slots.acquire(blocking=False):
                body = {
                    "error": "busy",
                    "field": "",
                    "detail": "too many downloads at once; please try again soon",
                }
                return JsonResponse(body, status=503, headers={"Retry-After": "10"})
            try:
                pieces = _Pieces(produce(selection), _slots.release)
            except BaseException:
                _slots.release()
                raise
            content = _AsyncPieces(pieces) if isinstance(request, ASGIRequest) else pieces
            return StreamingHttpResponse(content, content_type=content_type, headers=headers)

        return view

    return decorate


def refused(error: SelectionError) -> JsonResponse:
    """The answer to an address that asks for something that cannot be given."""
    body = {"error": "invalid", "field": error.field, "detail": str(error)}
    return JsonResponse(body, status=400)


def file_name(selection: Selection, extension: str) -> str:
    """A name that still says what is inside when it lies in a folder of downloads."""
    facts = list(selection.facts.values())
    things = {fact.thing for fact in facts}
    cities = sorted({fact.municipality for fact in facts})
    what = things.pop() if len(things) == 1 else "-".join(cities) or "quartier"
    first, last = (
        timezone.localtime(moment, ZONE).date()
        for moment in (selection.since, selection.until - timedelta(seconds=1))
    )
    return f"{what}_{first}_{last}.{extension}"


def _headers(selection: Selection, extension: str) -> dict[str, str]:
    links = [f'<{licence.url}>; rel="license"' for licence in selection.licences if licence.url]
    if extension == "csv":
        links.append(f'<{metadata_address(selection)}>; rel="describedby"; type="application/csvm+json"')
    headers = {
        "Content-Disposition": f'attachment; filename="{file_name(selection, extension)}"',
        "Access-Control-Allow-Origin": "*",
        "Cache-Control": "private, max-age=60",
    }
    if links:
        headers["Link"] = ", ".join(links)
    return headers


def metadata_address(selection: Selection) -> str:
    """Where the description of a CSV file lies."""
    return f"/daten/beobachtungen.csv-metadata.json?{selection.query}"


_COLUMNS: Final = (
    ("municipality", "string", "Kommune", "municipality"),
    ("thing", "string", "Kennung des Ortes", "key of the place"),
    ("name", "string", "Name des Ortes", "name of the place"),
    ("longitude", "number", "Länge (WGS 84)", "longitude (WGS 84)"),
    ("latitude", "number", "Breite (WGS 84)", "latitude (WGS 84)"),
    ("property", "string", "Messgröße", "observed property"),
    (
        "channel",
        "string",
        "Kanal, wo ein Ort eine Größe mehrfach misst",
        "channel, where a place measures it twice",
    ),
    ("unit", "string", "Einheit (UCUM)", "unit (UCUM)"),
    ("time", "dateTime", "Zeitpunkt der Messung (UTC)", "time of the measurement (UTC)"),
    ("result", "string", "Ergebnis", "result"),
    ("flags", "integer", "Qualitätskennzeichen, als Summe", "quality flags, as a sum"),
    ("flag_names", "string", "Qualitätskennzeichen, als Wörter", "quality flags, as words"),
)


def instant(moment: datetime) -> str:
    """A moment in UTC as machines read it."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def flag_names(flags: int) -> str:
    """The names of quality flags, separated by blanks."""
    return " ".join(flag.name.lower() for flag in Flag if flags & flag and flag.name) if flags else ""


def result_of(facts: Facts, reading: Reading) -> Any:
    """A result as JSON has it."""
    if reading.result is None:
        return reading.value
    return bool(reading.result) if facts.boolean else reading.result


def _csv_result(facts: Facts, reading: Reading) -> str:
    result = result_of(facts, reading)
    if result is None:
        return ""
    if isinstance(result, bool):
        return "true" if result else "false"
    if isinstance(result, int | float):
        return repr(result)
    return result if isinstance(result, str) else orjson.dumps(result).decode()


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula: names are given by anybody."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


@_download("text/csv; charset=utf-8; header=present", "csv")
def as_csv(selection: Selection) -> Iterator[bytes]:
    """``/daten/beobachtungen.csv``: RFC 4180, UTF-8, one row per observation, described by the file beside it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([name for name, *_rest in _COLUMNS])
    for count, (facts, reading) in enumerate(selection.readings(), start=1):
        writer.writerow(
            (
                facts.municipality,
                facts.thing,
                harmless(facts.name),
                facts.lon,
                facts.lat,
                facts.prop,
                harmless(facts.channel),
                facts.unit,
                instant(reading.time),
                harmless(_csv_result(facts, reading))
                if reading.result is None
                else _csv_result(facts, reading),
                reading.flags,
                flag_names(reading.flags),
            )
        )
        if count % _CHUNK_ROWS == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


@require_safe
def csv_metadata(request: HttpRequest) -> HttpResponse:
    """``/daten/beobachtungen.csv-metadata.json``: what the columns of the CSV mean, licence and source (CSVW)."""
    try:
        selection = select(actor_of(request.user), request.GET, timezone.now())
    except SelectionError as error:
        return refused(error)
    licences = selection.licences
    body: dict[str, Any] = {
        "@context": ["http://www.w3.org/ns/csvw", {"@language": "de"}],
        "url": f"beobachtungen.csv?{selection.query}",
        "dc:title": {"de": "Beobachtungen", "en": "Observations"},
        "dc:license": [{"@id": licence.url, "rdfs:label": licence.name} for licence in licences],
        "dc:source": sorted({licence.attribution for licence in licences if licence.attribution}),
        "dc:temporal": f"{instant(selection.since)}/{instant(selection.until)}",
        "dialect": {"delimiter": ",", "header": True, "encoding": "utf-8"},
        "tableSchema": {
            "columns": [
                {
                    "name": name,
                    "titles": name,
                    "datatype": kind,
                    "dc:description": {"de": german, "en": english},
                }
                for name, kind, german, english in _COLUMNS
            ],
            "primaryKey": ["municipality", "thing", "property", "channel", "time"],
        },
    }
    response = JsonResponse(body, content_type="application/csvm+json")
    response["Access-Control-Allow-Origin"] = "*"
    return response


def metadata(selection: Selection) -> dict[str, Any]:
    """What every file says of itself."""
    return {
        "source": sorted({licence.attribution for licence in selection.licences if licence.attribution}),
        "licence": [{"name": licence.name, "url": licence.url} for licence in selection.licences],
        "since": instant(selection.since),
        "until": instant(selection.until),
        "flags": {flag.name.lower(): int(flag) for flag in Flag if flag.name},
    }


@_download("application/geo+json", "geojson")
def as_geojson(selection: Selection) -> Iterator[bytes]:
    """``/daten/beobachtungen.geojson``: one feature per observation (RFC 7946); licence and source stand beside."""
    yield b'{"type":"FeatureCollection","quartier":' + orjson.dumps(metadata(selection)) + b',"features":['
    parts: list[bytes] = []
    size, first = 0, True
    for facts, reading in selection.readings():
        known = facts.lon is not None and facts.lat is not None
        feature = {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [facts.lon, facts.lat]} if known else None,
            "properties": {
                "municipality": facts.municipality,
                "thing": facts.thing,
                "name": facts.name,
                "property": facts.prop,
                "channel": facts.channel,
                "unit": facts.unit,
                "time": instant(reading.time),
                "result": result_of(facts, reading),
                "flags": reading.flags,
            },
        }
        parts.append((b"" if first else b",\n") + orjson.dumps(feature))
        first = False
        size += len(parts[-1])
        if size > _CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts) + b"]}\n"


@_download("application/vnd.apache.parquet", "parquet")
def as_parquet(selection: Selection) -> Iterator[bytes]:
    """``/daten/beobachtungen.parquet``: written to a temporary file, then sent; licence in its metadata."""
    with tempfile.TemporaryFile(prefix="quartier-") as file:
        write_parquet(selection, file)
        file.seek(0)
        while piece := file.read(_CHUNK_BYTES):
            yield piece


def write_parquet(selection: Selection, file: IO[bytes]) -> None:
    """Write the selection as Parquet, never more than one row group in memory."""
    # Half a second and 60 MB, which only those pay who ask for it.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    words = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            ("municipality", words),
            ("thing", words),
            ("name", words),
            ("longitude", pa.float64()),
            ("latitude", pa.float64()),
            ("property", words),
            ("channel", words),
            ("unit", words),
            ("time", pa.timestamp("us", tz="UTC")),
            ("result", pa.float64()),
            ("value", pa.string()),
            ("flags", pa.int32()),
        ],
        metadata={"quartier": orjson.dumps(metadata(selection))},
    )
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        columns: list[list[Any]] = [[] for _ in schema]
        for facts, reading in selection.readings():
            value = None if reading.value is None else orjson.dumps(reading.value).decode()
            row = (
                facts.municipality, facts.thing, facts.name, facts.lon, facts.lat, facts.prop, facts.channel,
                facts.unit, reading.time, reading.result, value, reading.flags,
            )  # fmt: skip
            for column, cell in zip(columns, row, strict=True):
                column.append(cell)
            if len(columns[0]) >= _ROW_GROUP:
                writer.write_table(pa.table(columns, schema=schema))
                columns = [[] for _ in schema]
        if columns[0]:
            writer.write_table(pa.table(columns, schema=schema))
