"""The persistent session: acknowledged late, bounded, and honest about why it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from quartier.sources.connect.mqtt import OwnBroker
from quartier.sources.connect.mqtt_session import Broker, Delivery, MqttError, MqttSession
from tests.sources.mqtt_client import mqtt, publish_all


def _broker(own: OwnBroker, name: str) -> Broker:
    return Broker(
        host=own.host,
        port=own.port,
        client_id=f"quartier-{name}",
        username=own.username,
        password=own.password,
    )


class _Inbox:
    """Collects deliveries; ``finish`` decides whether they are acknowledged."""

    def __init__(self, *, finish: bool = True) -> None:
        self.finish = finish
        self.got: list[Delivery] = []
        self._more = asyncio.Condition()

    async def __call__(self, delivery: Delivery) -> None:
        async with self._more:
            self.got.append(delivery)
            self._more.notify_all()
        if self.finish:
            delivery.done()

    async def wait_for(self, number: int) -> None:
        async with asyncio.timeout(20), self._more:
            await self._more.wait_for(lambda: len(self.got) >= number)


@asynccontextmanager
async def _running(
    own: OwnBroker, name: str, topics: Sequence[str], inbox: _Inbox, **more: object
) -> AsyncIterator[MqttSession]:
    session = MqttSession(_broker(own, name), topics, inbox, **more)  # type: ignore[arg-type]
    stop = asyncio.Event()
    task = asyncio.create_task(session.run(stop))
    try:
        async with asyncio.timeout(10):
            await session.connected.wait()
        yield session
    finally:
        stop.set()
        await task


async def test_messages_are_delivered_in_order_and_acknowledged(own_broker: OwnBroker) -> None:
    inbox = _Inbox()
    async with (
        _running(own_broker, "order", ["order/#"], inbox),
        mqtt(own_broker.port, own_broker.username, own_broker.password) as client,
    ):
        await publish_all(client, [(f"order/{n}", b"%d" % n) for n in range(300)])
        await inbox.wait_for(300)
    assert [(one.topic, one.payload, one.qos) for one in inbox.got] == [
        (f"order/{n}", b"%d" % n, 1) for n in range(300)
    ]


async def test_unfinished_messages_come_again_in_the_next_session(own_broker: OwnBroker) -> None:
    lost = _Inbox(finish=False)
    async with (
        _running(own_broker, "again", ["again/#"], lost),
        mqtt(own_broker.port, own_broker.username, own_broker.password) as client,
    ):
        await publish_all(client, [("again/x", b"1"), ("again/x", b"2")])
        await lost.wait_for(2)
        # Published while nobody is connected:
    async with mqtt(own_broker.port, own_broker.username, own_broker.password) as client:
        await publish_all(client, [("again/x", b"3")])
    kept = _Inbox()
    async with _running(own_broker, "again", ["again/#"], kept, known_topics=["again/#"]):
        await kept.wait_for(3)
    assert sorted(one.payload for one in kept.got) == [b"1", b"2", b"3"]
    rest = _Inbox()
    async with _running(own_broker, "again", ["again/#"], rest, known_topics=["again/#"]):
        await asyncio.sleep(0.3)
    assert rest.got == []


async def test_reading_pauses_while_too_much_is_open(own_broker: OwnBroker) -> None:
    inbox = _Inbox(finish=False)
    async with (
        _running(own_broker, "pause", ["pause/#"], inbox, maximum_open=50),
        mqtt(own_broker.port, own_broker.username, own_broker.password) as client,
    ):
        await publish_all(client, [("pause/x", b"%d" % n) for n in range(200)])
        await inbox.wait_for(50)
        await asyncio.sleep(0.2)
        assert len(inbox.got) == 50
        inbox.finish = True
        for delivery in inbox.got:
            delivery.done()
        await inbox.wait_for(200)


async def test_another_topic_replaces_the_old_one(own_broker: OwnBroker) -> None:
    inbox = _Inbox()
    async with _running(own_broker, "topic", ["old/#"], inbox):
        pass
    async with (
        _running(own_broker, "topic", ["new/#"], inbox, known_topics=["old/#"]),
        mqtt(own_broker.port, own_broker.username, own_broker.password) as client,
    ):
        await publish_all(client, [("old/x", b"old"), ("new/x", b"new")])
        await inbox.wait_for(1)
        await asyncio.sleep(0.2)
    assert [one.payload for one in inbox.got] == [b"new"]


async def test_wrong_password_is_told_without_it(own_broker: OwnBroker) -> None:
    broker = replace(_broker(own_broker, "wrong"), password="geheim")
    with pytest.raises(MqttError, match="the broker refused the sign-in: Not authorized") as caught:
        await MqttSession(broker, ["x"], _Inbox()).run(asyncio.Event())
    assert "geheim" not in str(caught.value) + repr(broker)


async def test_no_broker_there(unused_tcp_port: int) -> None:
    broker = Broker(host="127.0.0.1", port=unused_tcp_port, client_id="x")
    with pytest.raises(MqttError, match=f"cannot connect to 127.0.0.1:{unused_tcp_port}"):
        await MqttSession(broker, ["x"], _Inbox()).run(asyncio.Event())


async def test_something_else_that_listens(unused_tcp_port: int) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", unused_tcp_port)
    async with server:
        broker = Broker(host="127.0.0.1", port=unused_tcp_port, client_id="x", connect_timeout_s=0.3)
        with pytest.raises(MqttError, match="did not answer to the sign-in"):
            await MqttSession(broker, ["x"], _Inbox()).run(asyncio.Event())


async def test_broker_that_talks_rubbish(unused_tcp_port: int) -> None:
    async def rubbish(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xf0\xff\xff\xff\xff\xff\xff HTTP/1.1 400 Bad Request")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(rubbish, "127.0.0.1", unused_tcp_port)
    async with server:
        broker = Broker(host="127.0.0.1", port=unused_tcp_port, client_id="x", connect_timeout_s=2)
        with pytest.raises(MqttError, match="connection lost"):
            await MqttSession(broker, ["x"], _Inbox()).run(asyncio.Event())
