"""The process ``intake``: connectors to outside systems, the makers' MQTT door, and the pipeline with its codec
workers. Run as ``python -m quartier.cli.intake``."""

from __future__ import annotations

from quartier.cli import lean  # noqa: F401 (before what it is about)

# isort: split

import asyncio

import structlog
from nats.errors import Error as NatsError

from quartier.cli.process import run, together
from quartier.config import config
from quartier.engines.bus import Bus, bound_mqtt, connect
from quartier.engines.pools import async_pool

log = structlog.get_logger(__name__)


async def _bound(bus: Bus, ready: asyncio.Event, stop: asyncio.Event) -> None:
    """Limit the broker's store, which exists as soon as the first client of MQTT is there: our own."""
    either = [asyncio.ensure_future(one.wait()) for one in (ready, stop)]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    for one in either:
        one.cancel()
    if not ready.is_set():
        return
    try:
        await bound_mqtt(bus)
    except (NatsError, TimeoutError) as error:
        # An external server may not let us; the doctor says so.
        log.warning("intake.mqtt_unbounded", error=str(error))


async def main(stop: asyncio.Event) -> None:
    """Work until ``stop``."""
    from quartier.intake import catalogue  # noqa: PLC0415 (needs Django set up)
    from quartier.intake.codecs.sandbox import CodecPool  # noqa: PLC0415
    from quartier.intake.interpreter import Interpreter  # noqa: PLC0415
    from quartier.intake.pipeline import Pipeline  # noqa: PLC0415
    from quartier.interfaces.sensorthings.mqtt.inlet import Inlet  # noqa: PLC0415
    from quartier.interfaces.sensorthings.mqtt.rights import topics_of  # noqa: PLC0415
    from quartier.interfaces.sensorthings.read import Reader, read_pool  # noqa: PLC0415
    from quartier.sources.service import tasks  # noqa: PLC0415
    from quartier.twin.record import Recorder  # noqa: PLC0415

    codecs = CodecPool(processes=config().codec_processes)
    async with async_pool(name="intake") as pool, read_pool(max_size=2) as reading:
        bus = await connect(name="intake")
        await codecs.start()
        recorder = Recorder(pool)
        await recorder.start()
        facts = catalogue.Catalogue()
        inlet = Inlet(pool, Reader(reading))
        pipeline = Pipeline(pool, bus, recorder, Interpreter(pool, codecs, facts))
        try:
            await together(
                stop,
                {
                    "pipeline": pipeline.run(stop),
                    "catalogue": catalogue.listen(pool, facts, stop),
                    "sensorthings": inlet.run(stop),
                    "bound": _bound(bus, inlet.ready, stop),
                    **tasks(pool, bus, stop, further=topics_of, kept=[inlet.ready]),
                },
            )
        finally:
            await recorder.close()
            await codecs.close()
            await bus.close()


if __name__ == "__main__":
    run("intake", main)
