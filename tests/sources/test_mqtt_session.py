"""The persistent session: acknowledged late, bounded, and honest about why it ended."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from quartier.engines import bus as engine
from quartier.engines import nats
from quartier.sources.connect.mqtt import OwnBroker
from quartier.sources.connect.mqtt import broker_of as broker_of_source
from quartier.sources.connect.mqtt_session import Broker, Delivery, MqttError, MqttSession
from quartier.sources.connect.report import SourceConfig
from tests.sources.conftest import broker_of, start_again
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


def _certificate(folder: Path) -> Path:
    """A certificate of our own making for 127.0.0.1, with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "broker.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "broker.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "broker.pem"


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[nats.Server, Path]]:
    """A broker that speaks TLS, and its certificate."""
    server = nats.start(tmp_path, mqtt_port=0, durable=False)
    server.stop()
    certificate = _certificate(tmp_path)
    configuration = json.loads((tmp_path / "nats.conf").read_text())
    configuration["mqtt"]["tls"] = {"cert_file": str(certificate), "key_file": str(tmp_path / "broker.key")}
    (tmp_path / "nats.conf").write_text(json.dumps(configuration))
    server.process = start_again(server)
    yield server, certificate
    server.stop()


def _tls_broker(server: nats.Server, **settings: object) -> Broker:
    own = broker_of(server)
    source = SourceConfig(
        1,
        "m",
        "tls",
        "chirpstack",
        {"host": own.host, "port": own.port, **settings},
        {"username": own.username, "password": own.password},
    )
    return replace(broker_of_source(source, own), connect_timeout_s=2)


async def test_tls_with_an_own_certificate(tls_server: tuple[nats.Server, Path]) -> None:
    server, certificate = tls_server
    bus = await engine.connect(server.url, name="test")
    inbox = _Inbox()
    session = MqttSession(_tls_broker(server, ca_file=str(certificate)), ["tls/#"], inbox)
    stop = asyncio.Event()
    task = asyncio.create_task(session.run(stop))
    async with asyncio.timeout(10):
        await session.connected.wait()
    # Large ones come in several TLS records, small ones many in one.
    for n in range(200):
        await bus.nc.publish("tls.x", b"%d " % n + b"x" * (100_000 if n % 50 == 0 else 10))
    await inbox.wait_for(200)
    assert [int(one.payload.split()[0]) for one in inbox.got] == list(range(200))
    stop.set()
    await task
    await bus.close()


# paho leaves a socket whose handshake failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_certificate_of_nobody_known_is_refused(tls_server: tuple[nats.Server, Path]) -> None:
    server, _ = tls_server
    bus = await engine.connect(server.url, name="test")
    with pytest.raises(MqttError, match="certificate verify failed"):
        await MqttSession(_tls_broker(server), ["x"], _Inbox()).run(asyncio.Event())
    gc.collect()
    await bus.close()


def test_certificate_that_is_not_there(own_broker: OwnBroker) -> None:
    source = SourceConfig(1, "m", "tls", "chirpstack", {"host": "h", "ca_file": "/no/such/file"}, {})
    with pytest.raises(MqttError, match="ca_file: No such file or directory"):
        broker_of_source(source, own_broker)
