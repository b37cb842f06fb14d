"""How the machine interface reads requests and says no: JSON with ``error``, ``field`` and ``detail``.

Bad input is never a 500, and a message is accepted only when it is durable.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import nats.js.errors
import structlog
from django.db import DatabaseError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from quartier.cities.rules import NotAllowed
from quartier.intake.inbox import MAXIMUM_BODY_BYTES, Inbox, RawMessage
from quartier.intake.parsers import MessageError
from quartier.sources import metrics

log = structlog.get_logger(__name__)

_PUT_TIMEOUT_S = 8
_FIELD = re.compile(r"([\w.\-\[\]]+)(?::|$)")


class ApiError(Exception):
    """An answer that says no."""

    def __init__(
        self, status: int, error: str, detail: str, *, field: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail
        self.field = field
        self.headers = headers or {}

    def response(self) -> Response:
        """The answer."""
        return JSONResponse(
            {"error": self.error, "field": self.field or None, "detail": self.detail},
            status_code=self.status,
            headers=self.headers,
        )


def bad_message(error: MessageError) -> ApiError:
    """A parser's complaint as an answer; its detail begins with the field."""
    found = _FIELD.match(error.detail)
    status = 413 if error.reason == "too_large" else 400
    detail = error.detail or error.reason
    if error.reason == "missing_field":
        detail = f"{detail} is missing"
    return ApiError(status, error.reason, detail, field=found[1] if found else "")


def endpoint(function: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint: what it raises becomes an answer, and is counted."""

    async def answered(request: Request) -> Response:
        try:
            return await function(request)
        except ApiError as error:
            refused = error
        except MessageError as error:
            refused = bad_message(error)
        except NotAllowed as error:
            refused = ApiError(
                403, "missing_scope", f"the token lacks the scope {error.action}", field="token"
            )
        except (DatabaseError, TimeoutError) as error:
            log.warning("api.store_away", error=type(error).__name__)
            refused = ApiError(
                503, "unavailable", "not possible at the moment, try again", headers={"Retry-After": "5"}
            )
        except ClientDisconnect:
            refused = ApiError(400, "cut_off", "the request ended too early")
        metrics.REFUSED_AT_DOOR.labels("http", refused.error).inc()
        return refused.response()

    return answered


async def body_of(request: Request, *, limit: int = MAXIMUM_BODY_BYTES) -> bytes:
    """The request's body. Raises ApiError 413 as soon as it is too large."""
    too_large = ApiError(413, "too_large", f"at most {limit} bytes are taken", field="body")
    try:
        stated = int(request.headers.get("content-length", "0"))
    except ValueError:
        raise ApiError(400, "bad_value", "not a number", field="Content-Length") from None
    if stated > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def media_type(request: Request) -> str:
    """The content type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Raise ApiError 415 unless the body is said to be JSON (or nothing is said)."""
    given = media_type(request)
    if given and given not in ("application/json", "text/json") and not given.endswith("+json"):
        raise ApiError(
            415, "not_json", f"send Content-Type: application/json, not {given[:60]}", field="Content-Type"
        )


async def put(request: Request, message: RawMessage) -> int:
    """Store a message; its position. Raises ApiError 503 where it could not be made durable."""
    try:
        position = await asyncio.wait_for(Inbox(request.app.state.bus).put(message), _PUT_TIMEOUT_S)
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
        log.warning("api.inbox_away", error=type(error).__name__)
        raise ApiError(
            503, "unavailable", "the message could not be stored, send it again", headers={"Retry-After": "5"}
        ) from None
    metrics.RECEIVED.labels(message.kind).inc()
    return position


def accepted(position: int, **more: Any) -> Response:
    """The message is durable."""
    return JSONResponse({"position": position, **more}, status_code=202)
