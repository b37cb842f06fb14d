"""How this interface says no: ``{"code", "type", "message"}``, as FROST does, and never a 500.

Where a query is to blame for it, ``option`` and ``character`` (counted from 1) say where in its decoded text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
import psycopg
import structlog
from django.db import DatabaseError
from psycopg_pool import PoolTimeout
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from quartier.cities.rules import NotAllowed
from quartier.interfaces.sensorthings.compile.context import NotFound
from quartier.interfaces.sensorthings.query.errors import QueryError

log = structlog.get_logger(__name__)

# Browsers' maps and dashboards of other sites read here, as they do with other servers.
OPEN = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "ETag, Location, Retry-After",
}
_TYPES = {401: 'Bearer realm="sensorthings"'}


class Refusal(Exception):
    """An answer that says no."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: dict[str, str] | None = None,
        place: dict[str, str | int] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
        self.place = place or {}

    def response(self) -> Response:
        """The answer."""
        headers = OPEN | self.headers
        if self.status in _TYPES:
            headers["www-authenticate"] = _TYPES[self.status]
        body = orjson.dumps({"code": self.status, "type": "error", "message": self.message} | self.place)
        return Response(body, self.status, headers, media_type="application/json")


def refusal_of(error: Exception) -> Refusal:
    """What an exception means to whoever asked."""
    match error:
        case Refusal():
            return error
        case QueryError():
            return Refusal(400, str(error), place=_place(error))
        case NotFound():
            return Refusal(404, str(error))
        case NotAllowed():
            return Refusal(403, str(error))
        case psycopg.errors.QueryCanceled():
            return Refusal(400, "answering takes too long; ask for less, or narrow the filter")
        case psycopg.DataError():
            return Refusal(400, f"a value in the query cannot be used: {_first_line(error)}")
        case psycopg.errors.ProgramLimitExceeded() | psycopg.errors.StatementTooComplex():
            return Refusal(400, "the answer would be too large; ask for less")
        case psycopg.OperationalError() | PoolTimeout() | DatabaseError() | TimeoutError():
            log.warning("sensorthings.store_away", error=type(error).__name__, text=_first_line(error))
            return Refusal(503, "not possible at the moment, try again", {"retry-after": "5"})
        case ClientDisconnect():
            return Refusal(400, "the request ended too early")
        case psycopg.Error():
            # A statement that PostgreSQL does not take is a mistake of ours, and somebody should see it.
            log.error("sensorthings.statement", error=type(error).__name__, text=_first_line(error))
            return Refusal(400, f"this query cannot be answered: {_first_line(error)}")
    raise error


def _place(error: QueryError) -> dict[str, str | int]:
    if error.at is None or not error.option:
        return {}
    return {"option": error.option, "character": error.at + 1}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def header(request: Request, name: bytes) -> str:
    """A header (its name in lower case) as it came first; empty without one.

    Starlette's mapping looks for it case by case and answers what is missing by an exception: too much, ten times per
    request.
    """
    for key, value in request.scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return ""


class Answered(Response):
    """A response with its headers as they are sent."""

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as they are sent."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


OPEN_RAW: Final = raw(OPEN)


def endpoint(function: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint: what it raises becomes an answer."""

    async def answered(request: Request) -> Response:
        try:
            return await function(request)
        except Exception as error:
            return refusal_of(error).response()

    return answered


def json_body(value: Any) -> bytes:
    """A value as JSON text."""
    return orjson.dumps(value)
