"""Sources that are read by MQTT: ChirpStack, The Things Stack, generic JSON."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from quartier.config import config
from quartier.intake.conveyor import Conveyor
from quartier.intake.inbox import MAXIMUM_BODY_BYTES, RawMessage
from quartier.sources import metrics
from quartier.sources.connect.mqtt_session import Broker, Delivery, MqttError, MqttSession
from quartier.sources.connect.report import Report, SourceConfig
from quartier.sources.values import CUT_HEADER

CLIENT_PREFIX = "quartier-"
_KEPT_OF_A_LARGE_BODY = 4096


@dataclass(frozen=True, slots=True)
class OwnBroker:
    """Quartier's own MQTT broker, as its inner user reaches it."""

    host: str
    port: int
    username: str
    password: str

    def __repr__(self) -> str:
        return f"OwnBroker({self.host}:{self.port})"


def own_broker() -> OwnBroker:
    """The broker of this installation."""
    parts = urlsplit(config().nats_url)
    host = config().mqtt_host
    return OwnBroker(
        "127.0.0.1" if host in ("0.0.0.0", "::", "") else host,  # noqa: S104 (compared, not bound)
        config().mqtt_port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def client_id(name: str) -> str:
    """A stable client id that another installation on the same broker does not have."""
    installation = hashlib.sha256(config().secret().encode()).hexdigest()[:8]
    return f"{CLIENT_PREFIX}{installation}-{name}"


def broker_of(source: SourceConfig, own: OwnBroker) -> Broker:
    """Where a source's messages come from. Raises MqttError where the certificate cannot be read."""
    settings, credentials = source.settings, source.credentials
    if settings.get("broker") == "own":
        return Broker(
            host=own.host,
            port=own.port,
            client_id=client_id(source.key),
            username=own.username,
            password=own.password,
        )
    tls: ssl.SSLContext | None = None
    if settings.get("tls", True):
        try:
            tls = ssl.create_default_context(cafile=settings.get("ca_file"))
        except OSError as error:
            raise MqttError(f"ca_file: {error.strerror or 'no certificate in it'}") from None
    return Broker(
        host=settings["host"],
        port=settings.get("port") or (8883 if tls else 1883),
        client_id=client_id(source.key),
        username=credentials.get("username", ""),
        password=credentials.get("password", ""),
        tls=tls,
    )


async def run(
    source: SourceConfig, conveyor: Conveyor, report: Report, stop: asyncio.Event, own: OwnBroker
) -> None:
    """Read a source until ``stop``. Raises MqttError when the connection breaks."""
    topics = [source.settings["topic"]]

    async def deliver(delivery: Delivery) -> None:
        message = RawMessage(
            municipality=source.municipality,
            source=source.key,
            kind=source.kind,
            received_at=datetime.now(UTC),
            body=delivery.payload,
            topic=delivery.topic,
        )
        await hand_over(delivery, message, conveyor, report)

    session = MqttSession(
        await asyncio.to_thread(broker_of, source, own),
        topics,
        deliver,
        known_topics=report.cursor.get("topics", ()),
    )
    await follow(session, topics, report, stop)


async def follow(session: MqttSession, topics: list[str], report: Report, stop: asyncio.Event) -> None:
    """Run a session and note when it is connected and what it is subscribed to."""

    async def note_connection() -> None:
        await session.connected.wait()
        if report.cursor.get("topics") != topics:
            report.cursor["topics"] = topics
            report.moved()
        report.connected()

    noting = asyncio.create_task(note_connection())
    try:
        await session.run(stop)
    finally:
        noting.cancel()


async def hand_over(delivery: Delivery, message: RawMessage, conveyor: Conveyor, report: Report) -> None:
    """Put a delivery into the inbox; the broker hears of it when it is durable."""
    if delivery.retained:
        # A copy of something old that the broker keeps for newcomers; when it was measured nobody can say.
        metrics.REFUSED_AT_DOOR.labels("mqtt", "retained").inc()
        delivery.done()
        return
    size = len(message.body)
    if size > MAXIMUM_BODY_BYTES:
        # The beginning is kept, so that the message is listed among the refused ones and not lost in silence.
        message = _cut(message, size)

    def stored(future: asyncio.Future[int]) -> None:
        if not future.cancelled():
            report.arrived(message.received_at)
            delivery.done()

    future = await conveyor.send(message)
    future.add_done_callback(stored)


def _cut(message: RawMessage, size: int) -> RawMessage:
    fields: dict[str, Any] = {name: getattr(message, name) for name in message.__struct_fields__}
    fields["body"] = message.body[:_KEPT_OF_A_LARGE_BODY]
    fields["headers"] = {**message.headers, CUT_HEADER: str(size)}
    return RawMessage(**fields)


async def forget(source: SourceConfig, own: OwnBroker) -> None:
    """End the persistent session of a source that is switched off, or its broker would keep messages for ever.

    Raises MqttError.
    """

    async def nothing(_: Delivery) -> None:
        return

    broker = await asyncio.to_thread(broker_of, source, own)
    stop = asyncio.Event()
    session = MqttSession(replace(broker, clean_session=True), [], nothing)

    async def leave() -> None:
        await session.connected.wait()
        stop.set()

    leaving = asyncio.create_task(leave())
    try:
        await session.run(stop)
    finally:
        leaving.cancel()
