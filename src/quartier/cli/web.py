"""The process ``web``: granian with our application. Run as ``python -m quartier.cli.web``.

The server runs in this process and not in a child of its own, because the supervisor already restarts what dies.
"""

from __future__ import annotations

from quartier.cli import lean  # noqa: F401 (before what it is about)

# isort: split

import asyncio
import gc

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from quartier.cli.process import run
from quartier.config import config

# How long pages that follow live values may take to let go when the server stops.
_GRACE_S = 5.0


async def main(stop: asyncio.Event) -> None:
    """Serve until ``stop``."""
    from quartier.asgi import application  # noqa: PLC0415 (needs Django set up)

    # What lives as long as the process is looked through no more: a full collection of everything that Django, the
    # grammar and the models hold takes 70 ms, in which no request is answered.
    gc.collect()
    gc.freeze()
    settings = config()
    server = Server(
        application,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()  # type: ignore[no-untyped-call]
    stopping.cancel()
    async with asyncio.timeout(_GRACE_S):
        await serving


if __name__ == "__main__":
    run("web", main, pages=True)
