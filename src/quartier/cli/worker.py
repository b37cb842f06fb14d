"""The process ``worker``: what follows from recorded observations. Publishing, roll-ups, derived series, neighbour
checks, SensorThings by MQTT, tasks, replays, partitions and retention. Run as ``python -m quartier.cli.worker``."""

from __future__ import annotations

from quartier.cli import lean  # noqa: F401 (before what it is about)

# isort: split

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import psycopg
import structlog

from quartier.cli.process import run, together
from quartier.config import config
from quartier.engines.bus import connect
from quartier.engines.pools import Pool, async_pool

log = structlog.get_logger(__name__)

_FRAMES_KEPT = timedelta(days=7)
_NICE = 5


async def periodically(
    stop: asyncio.Event,
    name: str,
    every_s: float,
    work: Callable[[], Awaitable[object]],
    *,
    first_s: float = 0,
) -> None:
    """Do ``work`` every so often; a failure is logged and the next turn tries again."""
    delay_s = first_s
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), delay_s)
        if stop.is_set():
            return
        try:
            await work()
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("worker.failed", work=name, error=str(error).strip() or type(error).__name__)
        delay_s = every_s


async def housekeeping(pool: Pool) -> None:
    """Make the partitions of the next months, drop what is past its retention."""
    from quartier.twin import partitions  # noqa: PLC0415 (needs Django set up)

    now = datetime.now(UTC)
    async with pool.connection() as connection:
        await partitions.create_ahead(connection, now=now)
        if config().retention_months:
            oldest = now - timedelta(days=31 * config().retention_months)
            for month in await partitions.drop_before(connection, oldest):
                log.info("worker.partition_dropped", month=f"{month[0]}-{month[1]:02d}")
        await connection.execute("DELETE FROM intake_frame WHERE time < %s", [now - _FRAMES_KEPT])
        await connection.execute(
            "DELETE FROM intake_refusedmessage WHERE at < %s", [now - timedelta(days=config().inbox_days)]
        )


async def main(stop: asyncio.Event) -> None:
    """Work until ``stop``."""
    from quartier.climate.derivations import DERIVATIONS  # noqa: PLC0415 (needs Django set up)
    from quartier.intake.codecs.sandbox import CodecPool  # noqa: PLC0415
    from quartier.intake.neighbours import check_neighbours  # noqa: PLC0415
    from quartier.intake.replay import Replayer  # noqa: PLC0415
    from quartier.interfaces.sensorthings.mqtt.leader import Leader  # noqa: PLC0415
    from quartier.interfaces.sensorthings.read import Reader, read_pool  # noqa: PLC0415
    from quartier.interfaces.sensorthings.tasking.carrier import Carrier  # noqa: PLC0415
    from quartier.interfaces.sensorthings.tasking.downlinks import Ways  # noqa: PLC0415
    from quartier.interfaces.sensorthings.tasking.radio import RADIO_SOURCE, RadioDownlinks  # noqa: PLC0415
    from quartier.twin import rollups  # noqa: PLC0415
    from quartier.twin.derive import Deriver  # noqa: PLC0415
    from quartier.twin.publish import Publisher  # noqa: PLC0415
    from quartier.twin.record import Recorder  # noqa: PLC0415

    # Recording goes before what follows from it: under a flood roll-ups and derived series lag, and catch up after it.
    os.nice(_NICE)
    codecs = CodecPool(processes=1)
    ways = Ways()
    ways.add(RadioDownlinks(), RADIO_SOURCE)
    async with (
        async_pool(name="worker", statement_timeout_ms=120_000) as pool,
        read_pool(max_size=4) as reading,
    ):
        bus = await connect(name="worker")
        recorder = Recorder(pool)
        await recorder.start()
        try:
            await together(
                stop,
                {
                    "housekeeping": periodically(stop, "housekeeping", 3600, lambda: housekeeping(pool)),
                    "publisher": Publisher(pool).run(stop),
                    "rollups": rollups.run(pool, stop),
                    "deriver": Deriver(pool, bus, recorder, DERIVATIONS).run(stop),
                    "tasks": Carrier(pool, ways).run(stop),
                    "sensorthings": Leader(pool, Reader(reading), bus).run(stop),
                    "replayer": Replayer(pool, bus, recorder, codecs).run(stop),
                    "neighbours": periodically(
                        stop, "neighbours", 300, lambda: check_neighbours(pool), first_s=60
                    ),
                },
            )
        finally:
            await recorder.close()
            await codecs.close()
            await bus.close()


if __name__ == "__main__":
    run("worker", main)
