"""The HTTP interface: ``/sensorthings/v1.1`` for all cities together, ``/sensorthings/<municipality>/v1.1`` for one.

``/v1.0`` is the same for older clients. Reading is here; further methods are registered by :func:`handle`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount
from starlette.types import Receive, Scope, Send

from quartier.cities.rules import Actor
from quartier.config import config
from quartier.interfaces.sensorthings import events, formats, openapi, service
from quartier.interfaces.sensorthings.aggregate import ask
from quartier.interfaces.sensorthings.answers import OPEN, OPEN_RAW, Answered, Refusal, endpoint, header
from quartier.interfaces.sensorthings.compile.context import Eyes, NotFound
from quartier.interfaces.sensorthings.limits import RateLimit
from quartier.interfaces.sensorthings.read import Asked, Reader, read_pool
from quartier.interfaces.sensorthings.visibility import Observers, actor_of, caller

type Handler = Callable[[Request], Awaitable[Response]]

_METADATA: Final = re.compile(r"(?:odata\.)?metadata=(none|minimal|full)")
_READING: Final = ("GET", "HEAD", "OPTIONS")
# Public lists may be kept for a moment by caches in between, and are asked for again by their ETag.
_KEPT: Final = [
    *OPEN_RAW,
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"Authorization, Prefer, Accept"),
]
# The version may come at once, or behind a city, which cannot be called like one.
_ADDRESS: Final = re.compile(r"/(?:(?P<city>[^/]+)/)??(?P<version>v1\.[01])(?:/(?P<path>.*))?", re.S)

observers = Observers()
_handlers: dict[str, Handler] = {}
_limit = RateLimit(config().sensorthings_per_minute)


def handle(method: str, handler: Handler) -> None:
    """Let ``handler`` answer requests of another method (POST, PATCH, PUT, DELETE)."""
    _handlers[method] = handler


@asynccontextmanager
async def reading(state: Any) -> AsyncIterator[None]:
    """Within the application's life: ``state.sensorthings`` reads from the store."""
    pool = read_pool()
    await pool.open(wait=False)
    state.sensorthings = Reader(pool)
    try:
        yield
    finally:
        await events.closed(state)
        await pool.close(timeout=2)


def root_of(request: Request) -> str:
    """The address of this installation, as answers name it."""
    if root := config().base_url.rstrip("/"):
        return root
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    return f"{'https' if scheme == 'https' else 'http'}://{request.headers.get('host', 'localhost')}"


def base_of(request: Request) -> str:
    """The address of the service that a request came to, as its answers name it."""
    root = config().base_url.rstrip("/")
    if not root:
        scheme = header(request, b"x-forwarded-proto") or request.scope["scheme"]
        root = f"{'https' if scheme == 'https' else 'http'}://{header(request, b'host') or 'localhost'}"
    city = request.path_params.get("city", "")
    return f"{root}/sensorthings{f'/{city}' if city else ''}/{request.path_params['version']}"


async def _dispatch(request: Request) -> Response:
    if request.method == "OPTIONS":
        return _options()
    if request.method in ("GET", "HEAD"):
        return await read(request)
    if (handler := _handlers.get(request.method)) is None:
        allowed = ", ".join([*_READING, *_handlers])
        raise Refusal(405, f"{request.method} is not possible here", {"allow": allowed})
    return await handler(request)


def _options() -> Response:
    allowed = ", ".join([*_READING, *_handlers])
    return Response(
        status_code=204,
        headers=OPEN
        | {
            "allow": allowed,
            "access-control-allow-methods": allowed,
            "access-control-allow-headers": "Authorization, Content-Type, Prefer, If-None-Match",
            "access-control-max-age": "86400",
        },
    )


async def admitted(request: Request, cost: int = 1) -> Actor:
    """Who asks, with ``cost`` requests counted against his limit. Raises Refusal."""
    actor = await actor_of(request)
    for _ in range(cost):
        _limit.take(caller(request, actor))
    return actor


async def understood(request: Request, *, stream: bool = False) -> Asked:
    """What is asked, by whom. Raises Refusal, QueryError and NotFound."""
    reader: Reader = request.app.state.sensorthings
    actor = await admitted(request)
    eyes = await observers.eyes(actor, request.path_params.get("city", ""))
    return reader.understand(
        request.path_params["path"],
        request.scope["query_string"],
        eyes,
        base_of(request),
        stream=stream,
        result_metadata=_preferred(request),
    )


async def _followed(request: Request) -> Response:
    """New observations as they come."""
    await admitted(request)

    async def eyes() -> Eyes:
        return await observers.eyes(await actor_of(request), request.path_params.get("city", ""))

    return await events.opened(request, eyes, base_of(request))


def _preferred(request: Request) -> str | None:
    """How much metadata the headers ask for."""
    for name in (b"prefer", b"accept"):
        text = header(request, name)
        if "metadata" in text.lower() and (found := _METADATA.search(text.lower())):
            return found[1]
    return None


def _accepts(request: Request) -> list[str]:
    return [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"accept"]


async def read(request: Request) -> Response:
    """GET and HEAD."""
    if request.method == "GET" and events.asked_for(_accepts(request)):
        return await _followed(request)
    path = request.path_params.get("path", "").strip("/")
    if not path:
        return _answer(request, orjson.dumps(service.document(base_of(request))))
    if path in ("openapi.json", "api"):
        return _answer(request, orjson.dumps(openapi.document(base_of(request))))
    if path == service.BUSINESS_LOGIC:
        return _answer(request, service.business_logic(), "text/markdown; charset=utf-8")
    reader: Reader = request.app.state.sensorthings
    asked = await understood(request)
    format_ = asked.options.result_format or "json"
    if format_ != "json" and asked.plan.kind != "apply":
        return await _streamed(formats.formatted(reader, asked), formats.MEDIA_TYPES[format_])
    match asked.plan.kind:
        case "collection" if asked.plan.stream:
            return await _streamed(reader.stream(asked))
        case "collection":
            return _answer(request, await reader.collection(asked))
        case "entity":
            return _answer(request, await reader.entity(asked))
        case "count":
            n, _ = await reader.count(asked)
            return _answer(request, b"%d" % n, "text/plain; charset=utf-8")
        case "property":
            value = await reader.value(asked)
            name = asked.resource.segments[-1].name
            if value is None:
                return Response(status_code=204, headers=OPEN)
            return _answer(request, b"{" + orjson.dumps(name) + b":" + value + b"}")
        case "value":
            return _raw(request, await reader.value(asked))
        case "apply":
            found = await ask.answer(reader, asked)
            if format_ == "CSV":
                body = b"".join(formats.table(found.columns, found.rows))
                return _answer(request, body, formats.MEDIA_TYPES[format_])
            return _answer(request, b"".join(found.json()))
    raise Refusal(501, "this is not possible yet")


def _raw(request: Request, value: bytes | None) -> Response:
    if value is None:
        return Response(status_code=204, headers=OPEN)
    plain = orjson.loads(value)
    if isinstance(plain, str):
        return _answer(request, plain.encode(), "text/plain; charset=utf-8")
    kind = "application/json" if isinstance(plain, dict | list) else "text/plain; charset=utf-8"
    return _answer(request, value, kind)


async def _streamed(pieces: AsyncIterator[bytes], media_type: str = "application/json") -> Response:
    """An answer in pieces. The first one is waited for, so that what is wrong still gets its status."""
    first = await anext(pieces)

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(all_of_them(), headers=OPEN, media_type=media_type)


def _answer(request: Request, body: bytes, media_type: str = "application/json") -> Response:
    """An answer with its ETag; 304 to whoever has it already (RFC 9110 section 13.1.2)."""
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = [*_KEPT, (b"etag", tag.encode())]
    if (known := header(request, b"if-none-match")) and _matches(known, tag):
        return Response(status_code=304, headers={name.decode(): value.decode() for name, value in headers})
    return Answered(200, body, [*headers, (b"content-type", media_type.encode())])


def _matches(known: str, tag: str) -> bool:
    strong = tag.removeprefix("W/")
    return known.strip() == "*" or any(one.strip().removeprefix("W/") == strong for one in known.split(","))


async def _anywhere(request: Request) -> Response:
    """Whatever came below ``/sensorthings``."""
    if "version" not in request.path_params:
        # Somebody looks for the beginning.
        raise NotFound(f"the service begins at {root_of(request)}/sensorthings/v1.1")
    return await _dispatch(request)


_answered = endpoint(_anywhere)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Everything below ``/sensorthings`` as one ASGI application.

    One expression finds the parts of an address. Starlette's router would try five routes one after the other and put
    three layers around each, which is more than the work for a small request.
    """
    found = _ADDRESS.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
    scope["path_params"] = {name: one for name, one in found.groupdict("").items() if one} if found else {}
    if found:
        scope["path_params"].setdefault("path", "")
    response = await _answered(Request(scope, receive, send))
    await response(scope, receive, send)


routes: list[BaseRoute] = [Mount("", application)]
