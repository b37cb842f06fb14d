"""The process ``radio``: LoRaWAN gateways, network server and roaming on one event loop. Run as
``python -m quartier.cli.radio``.

It speaks plain SQL and leaves Django out. Until a gateway or a peer is registered it only waits for that, and has
loaded nothing of all this.
"""

from __future__ import annotations

from quartier.cli import lean  # noqa: F401 (before what it is about)

# isort: split

import asyncio
import contextlib
from typing import Final

import psycopg
import structlog

from quartier.cli.process import run, together
from quartier.config import config
from quartier.engines.bus import connect
from quartier.engines.pools import Pool, async_pool

log = structlog.get_logger(__name__)

_LOOK_S: Final = 5.0
_USED: Final = "SELECT EXISTS (SELECT FROM lorawan_gateway) OR EXISTS (SELECT FROM lorawan_lorapeer)"


async def wait_until_used(pool: Pool, stop: asyncio.Event) -> bool:
    """Return when there is a gateway or a peer; False if ``stop`` came first."""
    while not stop.is_set():
        try:
            async with pool.connection() as connection:
                row = await (await connection.execute(_USED)).fetchone()
            if row is not None and row[0]:
                return True
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
            log.warning("radio.store_away", error=str(error).strip())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_S)
    return False


async def main(stop: asyncio.Event) -> None:
    """Work until ``stop``."""
    async with async_pool(name="radio", min_size=0, max_size=8) as pool:
        if not await wait_until_used(pool, stop):
            return
        from quartier.lorawan.service import Service  # noqa: PLC0415 (much memory, and not needed before)

        bus = await connect(name="radio")
        try:
            service = Service(pool, bus, config())
            await together(stop, {"radio": service.run(stop)})
        finally:
            await bus.close()


if __name__ == "__main__":
    run("radio", main, models=False)
