"""The way into the inbox: durable, many at once, and again after NATS was away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quartier.engines import bus as engine
from quartier.engines import nats
from quartier.engines.bus import INBOX, Bus
from quartier.intake.conveyor import Conveyor
from quartier.intake.inbox import MAXIMUM_BODY_BYTES, TooLarge, decode
from tests.sources.conftest import start_again
from tests.sources.messages import raw


async def test_confirmed_messages_are_in_the_stream_in_order(bus: Bus) -> None:
    async with Conveyor(bus) as conveyor:
        futures = [await conveyor.send(raw("generic_http", {"n": n})) for n in range(500)]
        positions = await asyncio.gather(*futures)
        assert conveyor.in_flight == 0
    first = positions[0]
    assert positions == list(range(first, first + 500))
    stored = await bus.js.get_msg(INBOX, seq=first + 499)
    assert stored.data is not None
    assert decode(stored.data) == raw("generic_http", {"n": 499})
    assert stored.subject == "inbox.musterstadt.test"


async def test_message_id_keeps_a_repetition_out(bus: Bus) -> None:
    async with Conveyor(bus) as conveyor:
        one = await conveyor.put(raw("generic_http", {}), message_id="m-1")
        assert await conveyor.put(raw("generic_http", {}), message_id="m-1") == one
        assert await conveyor.put(raw("generic_http", {}), message_id="m-2") == one + 1


async def test_too_large_message_is_refused(bus: Bus) -> None:
    async with Conveyor(bus) as conveyor:
        with pytest.raises(TooLarge, match="262145 bytes; at most 262144 are taken"):
            await conveyor.put(raw("generic_http", b"x" * (MAXIMUM_BODY_BYTES + 1)))


async def test_sending_waits_where_too_much_is_open(bus: Bus) -> None:
    async with Conveyor(bus, maximum_in_flight=2) as conveyor:
        futures = [await conveyor.send(raw("generic_http", {})) for _ in range(2)]
        third = asyncio.create_task(conveyor.send(raw("generic_http", {})))
        await asyncio.sleep(0)
        assert not third.done()
        await asyncio.gather(*futures)
        assert await (await third) > 0


async def test_everything_arrives_although_nats_is_killed(tmp_path: Path) -> None:
    server = nats.start(tmp_path, mqtt_port=0, durable=False)
    try:
        bus = await engine.connect(server.url, name="test")
        async with Conveyor(bus) as conveyor:
            futures = []
            for n in range(600):
                futures.append(await conveyor.send(raw("generic_http", {"n": n})))
                if n == 200:
                    server.process.kill()
                    server.process.wait()
                if n == 400:
                    server.process = start_again(server)
                await asyncio.sleep(0.001)
            positions = await asyncio.wait_for(asyncio.gather(*futures), 60)
        seen = set()
        for position in positions:
            stored = await bus.js.get_msg(INBOX, seq=position)
            assert stored.data is not None
            seen.add(decode(stored.data).body)
        assert len(seen) == 600
        await bus.close()
    finally:
        server.stop()
