"""Asks our own SensorThings endpoint on behalf of a visitor, within the process.

The very routes that answer programs are called, so that the page shows what a program would get: the same words for
what is wrong, the same limits per caller, the same time. Nothing goes over the network, and no address has to be known.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from asgiref.sync import async_to_sync
from django.http import HttpRequest
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Router

from quartier.config import config
from quartier.interfaces.sensorthings import api
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import decoded
from quartier.portal.limits import visitor_address

MAXIMUM_BYTES: Final = 200_000
MAXIMUM_LENGTH: Final = 4_000
_TIMEOUT_S: Final = 20.0
# What a browser leaves as it is in a path and in a query; a percent sign begins what is encoded already.
_PATH_SAFE: Final = "/%()',;:@$!*+=&~[]"
_QUERY_SAFE: Final = "/%()',;:@$!*+=&~?"
_SERVICE: Final = re.compile(r"^(?:https?://[^/?#]+)?/sensorthings/(?:(?P<city>[\w-]+)/)?v1\.[01](?:/|$)")
# Long queries may be written over several lines.
_BREAK_BEFORE_OPTION: Final = re.compile(r"\s*[\r\n]\s*(?=[?&])")
_BREAK: Final = re.compile(r"\s*[\r\n]\s*")

_routes = Router(routes=[Mount("/sensorthings", routes=api.routes)])


@dataclass(frozen=True, slots=True)
class Question:
    """What a visitor wants to know: a path behind the version, and its query, as they were typed."""

    path: str
    query: str
    city: str = ""

    @classmethod
    def of(cls, text: str, city: str = "") -> Question:
        """Read ``Things?$top=3``, or a whole address of this interface."""
        text = _BREAK.sub(" ", _BREAK_BEFORE_OPTION.sub("", text.replace("\x00", "").strip()))[
            :MAXIMUM_LENGTH
        ]
        if found := _SERVICE.match(text):
            text, city = text[found.end() :], found["city"] or ""
        path, _, query = text.partition("?")
        return cls(path.strip("/ "), query, city)

    @classmethod
    def of_address(cls, path: str, query: str) -> Question:
        """Read the parts of an address of ours, decoded as far as it stays the same question."""
        options = []
        for one in filter(None, query.split("&")):
            name, equals, value = one.partition("=")
            plain = unquote(value)
            safe = not set("&+#%\ufffd\n\r") & set(plain)
            options.append(f"{unquote(name)}{equals}{plain if safe else value}")
        return cls.of(unquote(path) + ("?" + "&".join(options) if options else ""))

    @property
    def text(self) -> str:
        """As it stands in the form."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def service(self) -> str:
        """The path of the service."""
        return f"/sensorthings/{self.city}/v1.1" if self.city else "/sensorthings/v1.1"

    @property
    def encoded_path(self) -> str:
        """The path, ready for an address."""
        path = quote(self.path, safe=_PATH_SAFE)
        return f"{self.service}/{path}" if path else self.service

    @property
    def encoded_query(self) -> str:
        """The query, ready for an address."""
        return quote(self.query, safe=_QUERY_SAFE)

    @property
    def address(self) -> str:
        """Path and query of the request."""
        return f"{self.encoded_path}?{self.encoded_query}" if self.query else self.encoded_path

    def options(self) -> list[tuple[str, str]]:
        """The options of the query, decoded as the interface does it."""
        pairs = (one.partition("=") for one in self.query.split("&") if one)
        return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: str) -> str:
    try:
        return decoded(text.encode())
    except QueryError:
        return text


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``body`` may be only the beginning."""

    status: int
    media_type: str
    body: bytes
    complete: bool
    duration_ms: float


class _Enough(OSError):
    """More than we show; to the endpoint it looks as if the reader had gone."""


def ask(request: HttpRequest, question: Question) -> Answer | None:
    """The endpoint's answer to whoever sent ``request``; None where there is no endpoint beside these pages."""
    scope = getattr(request, "scope", None) or {}
    app = scope.get("app")
    if app is None or getattr(app.state, "sensorthings", None) is None:
        return None
    asked = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": request.scheme or "http",
        "path": unquote(question.encoded_path),
        "raw_path": question.encoded_path.encode(),
        "query_string": question.encoded_query.encode(),
        "root_path": "",
        "headers": _headers(request),
        "client": (visitor_address(request), 0),
        "server": None,
        "app": app,
    }
    return async_to_sync(_call)(asked)


def base_url(request: HttpRequest) -> str:
    """The address of this installation as the interface names it in its answers."""
    if root := config().base_url.rstrip("/"):
        return root
    scheme = request.headers.get("x-forwarded-proto", request.scheme or "http")
    return f"{'https' if scheme == 'https' else 'http'}://{request.get_host()}"


def _headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    # No sign-in: the page shows what everybody may see.
    headers = [(b"host", request.get_host().encode()), (b"accept", b"application/json")]
    if proto := request.headers.get("x-forwarded-proto"):
        headers.append((b"x-forwarded-proto", proto.encode()))
    return headers


async def _call(scope: dict[str, Any]) -> Answer:
    status, media_type, got = 503, "", bytearray()
    began = time.perf_counter()
    complete = True

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(_TIMEOUT_S)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, media_type
        if message["type"] == "http.response.start":
            status = message["status"]
            media_type = next((v.decode() for k, v in message["headers"] if k == b"content-type"), "")
            return
        got.extend(message.get("body", b""))
        if len(got) > MAXIMUM_BYTES:
            raise _Enough

    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await _routes(scope, receive, send)
    except (_Enough, ClientDisconnect, TimeoutError):
        complete = False
    duration_ms = (time.perf_counter() - began) * 1000
    return Answer(status, media_type.partition(";")[0], bytes(got[:MAXIMUM_BYTES]), complete, duration_ms)
