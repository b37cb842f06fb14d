"""Django's database work from asynchronous code: in a few threads of its own, with connections given back at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
