"""The process ``intake``: connectors to outside systems, the makers' MQTT door, and the pipeline with its codec
workers. Run as ``python -m quartier.cli.intake``."""

from __future__ import annotations

import asyncio

from quartier.cli.process import run, together
from quartier.config import config
from quartier.engines.bus import connect
from quartier.engines.pools import async_pool


async def main(stop: asyncio.Event) -> None:
    """Work until ``stop``."""
    from quartier.intake import catalogue  # noqa: PLC0415 (needs Django set up)
    from quartier.intake.codecs.sandbox import CodecPool  # noqa: PLC0415
    from quartier.intake.interpreter import Interpreter  # noqa: PLC0415
    from quartier.intake.pipeline import Pipeline  # noqa: PLC0415
    from quartier.sources.service import tasks  # noqa: PLC0415
    from quartier.twin.record import Recorder  # noqa: PLC0415

    codecs = CodecPool(processes=config().codec_processes)
    async with async_pool(name="intake") as pool:
        bus = await connect(name="intake")
        await codecs.start()
        recorder = Recorder(pool)
        await recorder.start()
        facts = catalogue.Catalogue()
        pipeline = Pipeline(pool, bus, recorder, Interpreter(pool, codecs, facts))
        try:
            await together(
                stop,
                {
                    "pipeline": pipeline.run(stop),
                    "catalogue": catalogue.listen(pool, facts, stop),
                    **tasks(pool, bus, stop),
                },
            )
        finally:
            await recorder.close()
            await codecs.close()
            await bus.close()


if __name__ == "__main__":
    run("intake", main)
