"""``python -m quartier.virtual``: run the virtual cities from the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import click

from .lora.plan import RadioPorts
from .run import DEFAULT_HISTORY_S, run


@click.command(help="Run the virtual Dortmund (ELEMENT IoT by HTTP) and Schwerte (ChirpStack by MQTT).")
@click.option(
    "--element-port", default=8790, show_default=True, help="Port of the ELEMENT IoT server on 127.0.0.1."
)
@click.option(
    "--mqtt-host", default="127.0.0.1", show_default=True, help="MQTT broker that gets Schwerte's events."
)
@click.option("--mqtt-port", default=1883, show_default=True, help="Port of the MQTT broker.")
@click.option("--mqtt-username", default=None, help="User at the MQTT broker.")
@click.option(
    "--mqtt-password", default=None, envvar="QUARTIER_VIRTUAL_MQTT_PASSWORD", help="Password at the broker."
)
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0.01, 3600), help="How fast time runs."
)
@click.option(
    "--seed", default=1, show_default=True, help="Another number gives other cities and other weather."
)
@click.option(
    "--history", default=DEFAULT_HISTORY_S, show_default=True, help="Seconds of past at the ELEMENT server."
)
@click.option(
    "--mqtt-history", default=0, show_default=True, help="Seconds of past to publish by MQTT at the start."
)
@click.option(
    "--radio",
    multiple=True,
    type=RadioPorts.parse,
    metavar="CITY=UDPPORT:STATIONPORT",
    help="Where a city's LoRaWAN network server listens on 127.0.0.1.",
)
@click.option(
    "--radio-memory",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File in which LoRaWAN devices keep their nonces.",
)
def main(
    *,
    element_port: int,
    mqtt_host: str,
    mqtt_port: int,
    mqtt_username: str | None,
    mqtt_password: str | None,
    speed: float,
    seed: int,
    history: int,
    mqtt_history: int,
    radio: tuple[tuple[str, RadioPorts], ...],
    radio_memory: Path | None,
) -> None:
    """Run until interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    async def until_interrupted() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await run(
            element_port=element_port,
            mqtt_host=mqtt_host,
            mqtt_port=mqtt_port,
            mqtt_username=mqtt_username,
            mqtt_password=mqtt_password,
            speed=speed,
            seed=seed,
            history_s=history,
            stop=stop,
            mqtt_history_s=mqtt_history,
            radio_servers=dict(radio),
            radio_memory=radio_memory,
        )

    asyncio.run(until_interrupted())


if __name__ == "__main__":
    main()
