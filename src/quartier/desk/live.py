"""The frame log as it comes: server-sent events at ``/live/frames`` for staff who may read it.

What the radio tells the bus (``lorawan.frames.<municipality>``) is shown by the same template as the page's own lines,
in the language of whoever watches. Rights are asked again every minute, so that a role that was taken away, or a
session that ended, ends the stream. A flood is cut: a page shows so many lines a second and says how many it left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.db import DatabaseError, connection
from django.http import HttpRequest, QueryDict
from django.template.loader import render_to_string
from django.utils import translation
from nats.aio.msg import Msg
from prometheus_client import Gauge
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quartier.cities.models import Person
from quartier.cities.rules import Actor, actor_of
from quartier.desk import radio_frames
from quartier.desk.access import ENTER, MESSAGES, everywhere, municipalities
from quartier.desk.forms.radio.frames import FrameFilterForm
from quartier.desk.queries.radio.frames import FrameFilter
from quartier.engines.bus import Bus
from quartier.engines.sse import EventStream
from quartier.lorawan.store.frames import SUBJECT

log = structlog.get_logger(__name__)

MAXIMUM_CLIENTS: Final = 50
LINES_PER_ROUND: Final = 20
ROUND_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
CHECKED_EVERY_S: Final = 60.0
_WAITING: Final = 64

WATCHING = Gauge("quartier_frame_log_clients", "Pages that follow the frame log", multiprocess_mode="livesum")


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who watches, in which language, what."""

    actor: Actor
    language: str
    wanted: FrameFilter
    municipalities: tuple[str, ...]


@dataclass(eq=False, slots=True)
class _Mailbox:
    """What came since the last round; the oldest is dropped and counted."""

    messages: deque[bytes] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    lost: int = 0

    async def take(self, message: Msg) -> None:
        if len(self.messages) >= _WAITING:
            self.messages.popleft()
            self.lost += 1
        self.messages.append(message.data)
        self.ready.set()


@sync_to_async(thread_sensitive=False)
def watcher_of(cookies: dict[str, str], query: str) -> Watcher | None:
    """Who is signed in, if they may read the log; asks the session and the roles as they are now."""
    try:
        request = HttpRequest()
        engine: Any = import_module(settings.SESSION_ENGINE)
        request.session = engine.SessionStore(cookies.get(settings.SESSION_COOKIE_NAME))
        person = get_user(request)
        if not isinstance(person, Person):
            return None
        actor = actor_of(person)
        if not (actor.may(ENTER) and actor.may(MESSAGES)):
            return None
        asked = QueryDict(query)
        wanted = FrameFilterForm(actor, asked).wanted()
        found = [
            one.slug
            for one in municipalities(actor, MESSAGES)
            if not wanted.municipality or one.slug == wanted.municipality
        ]
        if everywhere(actor, MESSAGES) and not wanted.municipality:
            found.append("-")
        language = asked.get("lang", "")
        if language not in dict(settings.LANGUAGES):
            language = settings.LANGUAGE_CODE
        return Watcher(actor, language, wanted, tuple(found))
    finally:
        # This thread belongs to nobody who would give the connection back.
        connection.close()


@sync_to_async(thread_sensitive=False)
def _rows(watcher: Watcher, messages: list[bytes]) -> tuple[str, int]:
    """The newest lines as rows of the page, and how many were left out."""
    try:
        with translation.override(watcher.language):
            told: list[radio_frames.Told] = []
            for data in messages:
                told += radio_frames.told_live(watcher.actor, data, watcher.wanted)
            told.sort(key=lambda one: one.at, reverse=True)
            shown = told[:LINES_PER_ROUND]
            rows = "".join(render_to_string("desk/radio/parts/frame.html", {"frame": one}) for one in shown)
            return rows, len(told) - len(shown)
    finally:
        connection.close()


def event(rows: str, left_out: int) -> bytes:
    """One event; JSON has no line ends that could break out of it."""
    return b"event: frames\ndata: %b\n\n" % msgspec.json.encode({"rows": rows, "left_out": left_out})


class FrameStream(EventStream):
    """New lines of the frame log for one page."""

    def __init__(self, bus: Bus, request: Request, watcher: Watcher) -> None:
        super().__init__()
        self._bus, self._watcher = bus, watcher
        self._cookies, self._query = dict(request.cookies), request.url.query

    def left(self) -> None:
        """One watcher less."""
        WATCHING.dec()
        _Watching.n -= 1

    async def chunks(self) -> AsyncIterator[bytes]:
        """Rows, as frames come."""
        mailbox = _Mailbox()
        subscriptions = [
            await self._bus.nc.subscribe(f"{SUBJECT}.{slug}", cb=mailbox.take)
            for slug in self._watcher.municipalities
        ]
        # Without this, frames that come before the server knows of the subscription are missed.
        await self._bus.nc.flush()
        yield b"retry: 3000\n\n"
        try:
            checked = time.monotonic()
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(mailbox.ready.wait(), HEARTBEAT_S)
                if time.monotonic() - checked > CHECKED_EVERY_S:
                    checked = time.monotonic()
                    if await watcher_of(self._cookies, self._query) is None:
                        return
                if not mailbox.messages:
                    yield b": still here\n\n"
                    continue
                messages, lost = list(mailbox.messages), mailbox.lost
                mailbox.messages.clear()
                mailbox.ready.clear()
                mailbox.lost = 0
                rows, left_out = await _rows(self._watcher, messages)
                if rows or left_out or lost:
                    yield event(rows, left_out + lost)
                await asyncio.sleep(ROUND_S)
        except DatabaseError as error:
            log.warning("frame_log_unavailable", error=str(error).strip())
        finally:
            for subscription in subscriptions:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()


class _Watching:
    """How many pages of this process follow."""

    n = 0


async def frames(request: Request) -> Response:
    """``GET /live/frames?stadt=…&geraet=…&lang=en``: the filters of the page, and its language."""
    try:
        watcher = await watcher_of(dict(request.cookies), request.url.query)
    except DatabaseError:
        return JSONResponse({"error": "busy", "field": "", "detail": "try again later"}, 503)
    if watcher is None:
        detail = f"sign in as somebody with the right {MESSAGES}"
        return JSONResponse({"error": "forbidden", "field": "", "detail": detail}, 403)
    if _Watching.n >= MAXIMUM_CLIENTS:
        detail = f"{MAXIMUM_CLIENTS} pages are following already"
        return JSONResponse({"error": "busy", "field": "", "detail": detail}, 503, {"Retry-After": "30"})
    _Watching.n += 1
    WATCHING.inc()
    return FrameStream(request.app.state.bus, request, watcher)


routes = [Route("/frames", frames, methods=["GET"])]
