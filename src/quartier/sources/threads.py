"""Django's database work from asynchronous code: in a few threads of its own, with connections given back at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from django.db import connections

_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="sources-db")


async def in_thread[T](function: Callable[..., T], *arguments: Any, timeout_s: float = 15, **named: Any) -> T:
    """Call ``function`` in a thread. Raises what it raises, or TimeoutError."""
    work = partial(_call, partial(function, *arguments, **named))
    return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(_threads, work), timeout_s)


def _call[T](work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        # Back to Django's pool: threads live as long as the process, and their connections would, too.
        connections.close_all()


class Together[T]:
    """Whoever asks for the same while an answer is on its way gets that one.

    What is remembered for some seconds becomes too old for all requests at once; without this, each of them would ask.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Future[T]] = {}

    async def of(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer for ``key``. Raises what ``ask`` raises."""
        running = self._running.get(key)
        if running is None or running.get_loop() is not asyncio.get_running_loop():
            running = self._running[key] = asyncio.ensure_future(ask())
            running.add_done_callback(partial(self._done, key))
        # One who goes away must not take the answer from the others.
        return await asyncio.shield(running)

    def _done(self, key: Hashable, running: asyncio.Future[T]) -> None:
        if self._running.get(key) is running:
            del self._running[key]
        if not running.cancelled():
            # Looked at even if all who asked went away.
            running.exception()
