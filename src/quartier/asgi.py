"""The web server's application: machines' side and people's side on one port.

``/api`` (makers, webhooks), ``/sensorthings``, ``/live`` (server-sent events), ``/health`` and ``/metrics`` are
Starlette on asynchronous connections; everything else is Django. Around all of it stand the limits and headers that no
page may forget.

    granian --interface asgi quartier.asgi:application
"""

# ruff: noqa: E402 (Django is set up before the rooms import their models)

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quartier.settings")

from django.core.asgi import get_asgi_application

django: Any = get_asgi_application()

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount

from quartier.config import config
from quartier.desk import live as desk_live
from quartier.engines import bus as engine
from quartier.engines import health
from quartier.engines.pools import async_pool
from quartier.interfaces.sensorthings import api as sensorthings
from quartier.interfaces.sensorthings.write.http import writing
from quartier.portal import live
from quartier.portal.server import Around, Assets, Connected, LowerCaseHeaders
from quartier.sources import api

log = structlog.get_logger(__name__)

# Five megabytes of a form (DATA_UPLOAD_MAX_MEMORY_SIZE) and what multipart puts around them.
MAXIMUM_REQUEST_BYTES = 6 * 1024 * 1024
# Files that are large by their nature: software of Stations (32 MiB).
LARGER_REQUESTS_BYTES = {"/amt/funknetz/updates/neu/": 33 * 1024 * 1024}
_WAIT_FOR_BUS_S = 3.0


async def _connect(app: Starlette) -> None:
    """Connect to the bus and start what lives on it. Pages are served meanwhile; /api and /live answer 503."""
    connection = await engine.connect(name="quartier-web")
    app.state.bus = connection
    app.state.live = live.Hub(connection)
    await app.state.live.start()
    log.info("connected to the bus")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the pool and the bus for the machines' side; close them when the server stops."""
    app.state.bus = app.state.live = None
    app.state.pool = async_pool(name="quartier-web")
    await app.state.pool.open(wait=False)
    connecting = asyncio.create_task(_connect(app))
    await asyncio.wait({connecting}, timeout=_WAIT_FOR_BUS_S)
    if connecting.done() and (error := connecting.exception()):
        log.error("the bus cannot be reached; live values and the API are off", error=str(error))
    try:
        async with sensorthings.reading(app.state), writing(app.state):
            yield
    finally:
        connecting.cancel()
        if app.state.live is not None:
            await app.state.live.close()
        if app.state.bus is not None:
            await app.state.bus.close()
        await app.state.pool.close(timeout=2)


routes: list[BaseRoute] = [
    # First, because routes are tried in their order and this one is asked most often.
    Mount("/sensorthings", sensorthings.application),
    Mount("/static", Assets()),
    Mount("/api", routes=api.routes, middleware=[Middleware(Connected)]),
    Mount("/live", routes=[*live.routes, *desk_live.routes], middleware=[Middleware(Connected)]),
    *health.routes,
    Mount("/", LowerCaseHeaders(django)),
]

application = Starlette(
    routes=routes,
    lifespan=lifespan,
    debug=config().debug,
    middleware=[
        Middleware(
            Around,
            maximum=MAXIMUM_REQUEST_BYTES,
            larger=LARGER_REQUESTS_BYTES,
            https=config().public_url.startswith("https://"),
            map_style=config().map_style_url,
            sign_in=config().oidc_server,
        ),
    ],
)
