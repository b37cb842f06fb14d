"""Runs the virtual cities: Dortmund's ELEMENT IoT server and Schwerte's MQTT events, and the radio of both."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from granian.constants import Interfaces
from granian.server.embed import Server

from .chirpstack import Events, Publisher
from .element_server import DEFAULT_KEY, ElementServer
from .lora.network import RadioNetworks
from .lora.plan import RadioPorts
from .radio import Radio
from .schedule import Clock, Faults, Schedule
from .world import world

logger = logging.getLogger(__name__)

DEFAULT_HISTORY_S = 2 * 86400
# The vendor's default is 50; it can be raised per key, and a demo wants its past quickly.
REQUESTS_PER_10_S = 500


async def run(
    *,
    element_port: int,
    mqtt_host: str,
    mqtt_port: int,
    mqtt_username: str | None,
    mqtt_password: str | None,
    speed: float = 1.0,
    seed: int = 1,
    history_s: int = DEFAULT_HISTORY_S,
    stop: asyncio.Event,
    mqtt_history_s: int = 0,
    faults: Faults | None = None,
    element_key: str = DEFAULT_KEY,
    radio_servers: Mapping[str, RadioPorts] | None = None,
    radio_memory: Path | None = None,
) -> None:
    """Run both virtual cities until ``stop`` is set.

    With ``speed`` above 1 devices send that much more often and weather and daylight pass that much faster, while
    the times in messages stay real. ``history_s`` seconds before the start can be asked of the ELEMENT server;
    ``mqtt_history_s`` seconds are published by MQTT at the start, as if a gateway had kept them. With
    ``radio_servers`` the cities have LoRaWAN networks of their own, too; ``radio_memory`` is where their devices keep
    what they must not forget.

    Raises whatever made the ELEMENT server fail, for example an occupied port.
    """
    cities = world(seed)
    clock = Clock(started_s=time.time(), speed=speed)
    chosen = Faults() if faults is None else faults
    radio = Radio(cities)
    dortmund = Schedule(cities, cities.devices_in("element"), clock, chosen, history_s)
    schwerte = Schedule(
        cities, cities.devices_in("chirpstack"), clock, chosen, max(history_s, mqtt_history_s)
    )
    element = ElementServer(dortmund, radio, api_key=element_key, requests_per_10_s=REQUESTS_PER_10_S)
    server = Server(
        element.app(),
        address="127.0.0.1",
        port=element_port,
        interface=Interfaces.ASGINL,
        websockets=False,
        log_enabled=False,
    )
    publisher = Publisher(
        Events(schwerte, radio),
        host=mqtt_host,
        port=mqtt_port,
        username=mqtt_username,
        password=mqtt_password,
        history_s=mqtt_history_s,
    )
    logger.info(
        "virtual cities: %d devices at ELEMENT IoT on 127.0.0.1:%d, %d devices by MQTT to %s:%d, speed %g, seed %d",
        len(dortmund.devices), element_port, len(schwerte.devices), mqtt_host, mqtt_port, speed, seed,
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    publishing = asyncio.create_task(publisher.run(stop))
    stopping = asyncio.create_task(stop.wait())
    working: list[asyncio.Task[Any]] = [serving, publishing, stopping]
    if radio_servers:
        networks = RadioNetworks(radio_servers, clock, seed=seed, memory=radio_memory)
        working.append(asyncio.create_task(networks.run(stop)))
    try:
        await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        server.stop()  # type: ignore[no-untyped-call]
        results = await asyncio.gather(*working, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
