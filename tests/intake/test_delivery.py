"""How the inbox hands messages to the pipeline: held while they are worked off, given again where a process died."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from quartier.engines.bus import INBOX, Bus
from quartier.engines.pools import Pool
from quartier.intake import pipeline as module
from quartier.intake.catalogue import Catalogue
from quartier.intake.codecs.sandbox import CodecPool
from quartier.intake.inbox import Inbox
from quartier.intake.interpreter import Interpreter
from quartier.intake.pipeline import CONSUMER, Pipeline
from quartier.twin.record import Observation, Recorder
from tests.intake.test_trouble import devices as devices  # noqa: PLC0414 (a fixture)
from tests.intake.test_trouble import raw, uplink
from tests.patience import patient


class SlowRecorder(Recorder):
    """Takes longer than a message may be out without a word."""

    async def record(self, rows: Sequence[Observation], *, publish: bool = True) -> bool:
        await asyncio.sleep(5)
        return await super().record(rows, publish=publish)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are delivered again after two seconds without a word."""
    monkeypatch.setattr(module, "_ACK_WAIT_S", 2.0)
    monkeypatch.setattr(module, "_HOLD_S", 0.2)


def _pipeline(pool: Pool, bus: Bus, recorder: Recorder, codecs: CodecPool) -> Pipeline:
    return Pipeline(pool, bus, recorder, Interpreter(pool, codecs, Catalogue()))


async def _worked_off(bus: Bus) -> int:
    """Wait until nothing is open; how many deliveries it took."""
    for _ in range(round(patient(10) / 0.1)):
        await asyncio.sleep(0.1)
        with contextlib.suppress(NotFoundError):
            info = await bus.js.consumer_info(INBOX, CONSUMER)
            assert info.delivered is not None
            if info.delivered.consumer_seq and not info.num_ack_pending and not info.num_pending:
                return int(info.delivered.consumer_seq)
    raise AssertionError("it was not worked off")


async def _recorded(pool: Pool) -> int:
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT count(*) FROM twin_observation")).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("devices", "hasty")
async def test_what_takes_long_is_held_and_not_delivered_twice(pool: Pool, bus: Bus) -> None:
    recorder = SlowRecorder(pool)
    await recorder.start()
    stop = asyncio.Event()
    async with CodecPool(processes=1) as codecs:
        await Inbox(bus).put(raw(uplink("plain", 60, 1, air_temperature=20)))
        task = asyncio.create_task(_pipeline(pool, bus, recorder, codecs).run(stop))
        assert await _worked_off(bus) == 1
        stop.set()
        await task
    await recorder.close()
    assert await _recorded(pool) == 1


@pytest.mark.usefixtures("devices", "hasty")
async def test_what_a_dead_pipeline_had_taken_is_delivered_again(pool: Pool, bus: Bus) -> None:
    slow, quick = SlowRecorder(pool), Recorder(pool)
    await slow.start()
    await quick.start()
    async with CodecPool(processes=1) as codecs:
        await Inbox(bus).put(raw(uplink("plain", 60, 1, air_temperature=20)))
        dying = asyncio.create_task(_pipeline(pool, bus, slow, codecs).run(asyncio.Event()))
        await _taken(bus)
        dying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dying
        assert await _recorded(pool) == 0
        stop = asyncio.Event()
        task = asyncio.create_task(_pipeline(pool, bus, quick, codecs).run(stop))
        assert await _worked_off(bus) >= 2
        stop.set()
        await task
    await slow.close()
    await quick.close()
    assert await _recorded(pool) == 1


async def _taken(bus: Bus) -> None:
    """Wait until a pipeline has a message."""
    for _ in range(round(patient(10) / 0.05)):
        await asyncio.sleep(0.05)
        with contextlib.suppress(NotFoundError):
            if (await bus.js.consumer_info(INBOX, CONSUMER)).num_ack_pending:
                return
    raise AssertionError("nobody took it")


async def test_consumer_of_an_older_version_is_brought_up_to_date(pool: Pool, bus: Bus) -> None:
    old = ConsumerConfig(
        durable_name=CONSUMER, filter_subject="inbox.>", ack_policy=AckPolicy.EXPLICIT, ack_wait=60,
        max_ack_pending=20_000,
    )  # fmt: skip
    await bus.js.add_consumer(INBOX, old)
    recorder = Recorder(pool)
    async with CodecPool(processes=1) as codecs:
        await _pipeline(pool, bus, recorder, codecs)._subscribe()
    assert (await bus.js.consumer_info(INBOX, CONSUMER)).config.ack_wait == 20
