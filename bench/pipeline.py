"""How many ChirpStack messages of ten readings the pipeline works off: from the inbox to committed observations."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from itertools import islice

from bench.installation import installation
from bench.load import CITY, SOURCE, register
from quartier.virtual.load import chirpstack_events

DEVICES, MESSAGES = 1000, 20_000


def run() -> dict[str, float]:
    """Messages per second that one intake process works off when the inbox is full."""
    with installation(streams=True):
        register(DEVICES)
        return asyncio.run(_measure())


async def _measure() -> dict[str, float]:
    from quartier.engines.bus import connect
    from quartier.engines.pools import async_pool
    from quartier.intake.catalogue import Catalogue
    from quartier.intake.codecs.sandbox import CodecPool
    from quartier.intake.inbox import RawMessage, encode, subject
    from quartier.intake.interpreter import Interpreter
    from quartier.intake.pipeline import Pipeline
    from quartier.twin.record import Recorder

    bus = await connect(name="bench")
    began = time.perf_counter()
    waiting = []
    for topic, body in islice(chirpstack_events(DEVICES), MESSAGES):
        message = RawMessage(
            municipality=CITY,
            source=SOURCE,
            kind="chirpstack",
            received_at=datetime.now(UTC),
            topic=topic,
            body=body,
        )
        waiting.append(await bus.js.publish_async(subject(message), encode(message), wait_stall=10))
    await asyncio.gather(*waiting)
    put_s = time.perf_counter() - began
    stop = asyncio.Event()
    async with async_pool() as pool, CodecPool(processes=2) as codecs:
        recorder = Recorder(pool)
        await recorder.start()
        began = time.perf_counter()
        task = asyncio.create_task(
            Pipeline(pool, bus, recorder, Interpreter(pool, codecs, Catalogue())).run(stop)
        )
        count = 0
        while count < MESSAGES * 10 and time.perf_counter() - began < 120:
            await asyncio.sleep(0.1)
            async with pool.connection() as connection:
                row = await (
                    await connection.execute("SELECT coalesce(sum(n), 0) FROM twin_state")
                ).fetchone()
            count = int(row[0]) if row else 0
        took_s = time.perf_counter() - began
        stop.set()
        await task
        await recorder.close()
    await bus.close()
    return {
        "inbox_put_messages_per_s": MESSAGES / put_s,
        "pipeline_messages_per_s": count / 10 / took_s,
        "pipeline_observations_per_s": count / took_s,
    }
