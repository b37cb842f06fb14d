"""The methods that write, as HTTP: registered with :mod:`..api`, and what they need while the application lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from quartier.interfaces.sensorthings import api
from quartier.interfaces.sensorthings.answers import OPEN, OPEN_RAW, Answered, Refusal, raw
from quartier.interfaces.sensorthings.write.service import LARGEST_BODY, Answer, Asking, Writer, json_of
from quartier.interfaces.sensorthings.write.work import Who


@asynccontextmanager
async def writing(state: Any) -> AsyncIterator[None]:
    """Within the application's life, and that of ``state.pool`` and :func:`..api.reading`."""
    writer = Writer(state.pool, state.sensorthings)
    state.sensorthings_writer = writer
    try:
        yield
    finally:
        await writer.close()


async def who_asks(request: Request) -> Who:
    """Who asks, counted against his limit. Raises Refusal and NotFound."""
    actor = await api.admitted(request)
    eyes = await api.observers.eyes(actor, request.path_params.get("city", ""))
    return Who(actor, eyes, eyes.municipality_id, api.base_of(request))


async def write(request: Request) -> Response:
    """POST, PATCH, PUT and DELETE."""
    from quartier.interfaces.sensorthings import batch  # noqa: PLC0415 (a batch holds such requests itself)

    writer: Writer = request.app.state.sensorthings_writer
    who = await who_asks(request)
    path = request.path_params.get("path", "")
    text = await request.body()
    if len(text) > LARGEST_BODY:
        raise Refusal(413, f"at most {LARGEST_BODY} bytes are taken in one request")
    # Of a header that came several times, the first one.
    headers = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"][::-1]
    }
    if request.method == "POST" and path.strip("/") == "$batch":
        return _response(await batch.answer(request, writer, who, text))
    body = json_of(text) if request.method != "DELETE" else None
    asking = Asking(request.method, path, request.scope["query_string"], headers, body)
    return _response(await writer.answer(asking, who))


def _response(answer: Answer) -> Response:
    media_type = answer.headers.pop("content-type", "application/json")
    headers = OPEN_RAW + raw(answer.headers)
    if answer.body:
        headers.append((b"content-type", media_type.encode("latin-1")))
    elif answer.status == 204:
        return Response(status_code=204, headers=OPEN | answer.headers)
    return Answered(answer.status, answer.body, headers)


for _method in ("POST", "PATCH", "PUT", "DELETE"):
    api.handle(_method, write)
