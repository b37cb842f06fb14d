"""What the processes ``intake`` and ``worker`` have in common: an event loop that ends on SIGTERM, and tasks whose
failure ends the process (the supervisor starts it again) rather than going on by halves."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
import uvloop

from quartier.config import config
from quartier.engines import logs

log = structlog.get_logger(__name__)

_GRACE_S = 5.0
_TIDY_EVERY_S = 30.0


async def together(stop: asyncio.Event, tasks: Mapping[str, Awaitable[None]]) -> None:
    """Run ``tasks`` until ``stop``, then wait for their ends. Raises the error of the first that fails."""
    running: dict[asyncio.Future[Any], str] = {
        asyncio.ensure_future(task): name for name, task in tasks.items()
    }
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            done, _ = await asyncio.wait({*running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                name = running.pop(task)
                task.result()
                log.info("process.task_ended", task=name)
            if not running:
                return
        await asyncio.wait(running, timeout=_GRACE_S)
    finally:
        stop.set()
        stopping.cancel()
        for task in running:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)


async def _tidy() -> None:
    """Give back what a rush needed: the C library keeps freed memory for itself, tens of megabytes after a backlog."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(_TIDY_EVERY_S)
        trim(0)


def run(
    role: str, main: Callable[[asyncio.Event], Awaitable[None]], *, models: bool = True, pages: bool = False
) -> None:
    """Run ``main(stop)`` with signals and logging in place, until SIGTERM or Ctrl-C.

    ``models=False`` leaves out Django and its memory, for a process that speaks SQL only; ``pages`` brings what only
    pages need.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "quartier.settings" if pages else "quartier.settings_background"
    logs.configure(role, config().log_format)
    if models:
        import django  # noqa: PLC0415 (settings are read here, after the environment is complete)

        django.setup()

    async def supervised() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        tidying = asyncio.create_task(_tidy())
        try:
            await main(stop)
        finally:
            tidying.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(supervised())
