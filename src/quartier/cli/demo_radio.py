"""The network servers of both virtual cities in one process, because a demo should be small. Run as
``python -m quartier.cli.demo_radio``.

They share nothing but the process: each has its own NetID, gateways, devices and listeners, and they reach each other
by HTTP like strangers. Where cities are real, each runs the role ``radio`` for itself.
"""

from __future__ import annotations

from quartier.cli import lean  # noqa: F401 (before what it is about)

# isort: split

import argparse
import asyncio
from dataclasses import replace

from quartier.cli.process import run, together
from quartier.config import config
from quartier.engines.bus import connect
from quartier.engines.pools import async_pool
from quartier.lorawan.service import Service
from quartier.virtual.lora.plan import DEV_ADDRS, NET_IDS, RadioPorts


async def main(stop: asyncio.Event) -> None:
    """Work until ``stop``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--radio", action="append", type=RadioPorts.parse, required=True)
    given: dict[str, RadioPorts] = dict(parser.parse_args().radio)
    async with async_pool(name="radio", min_size=0, max_size=12) as pool:
        bus = await connect(name="radio")
        try:
            await together(
                stop,
                {
                    city: Service(
                        pool,
                        bus,
                        replace(
                            config(),
                            radio_municipalities=city,
                            radio_net_id=NET_IDS[city],
                            radio_dev_addrs=DEV_ADDRS[city],
                            radio_host="127.0.0.1",
                            radio_udp_port=ports.udp,
                            station_port=ports.station,
                            roaming_port=ports.roaming,
                        ),
                    ).run(stop)
                    for city, ports in given.items()
                },
            )
        finally:
            await bus.close()


if __name__ == "__main__":
    run("radio", main, models=False)
