"""Server-sent events: an answer that goes on until whoever asked is gone."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)


class EventStream(Response, ABC):
    """The answer that never ends. ``headers`` come beside those that keep caches and proxies from holding it back."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(
            headers={**(headers or {}), "cache-control": "no-store", "x-accel-buffering": "no"},
            media_type="text/event-stream",
        )
        del self.headers["content-length"]

    @abstractmethod
    def chunks(self) -> AsyncIterator[bytes]:
        """Whole events, as they come."""

    def left(self) -> None:
        """It is over, however it ended."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI demands."""
        tasks = {asyncio.create_task(self._push(send)), asyncio.create_task(_gone(receive))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.left()
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    # The page asks again by itself; whoever runs the installation should know why it had to.
                    log.warning("sse.broke", error=repr(ended)[:300])

    async def _push(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
