"""A persistent MQTT 3.1.1 session that acknowledges a message only when we say so.

aiomqtt acknowledges on arrival; here a PUBACK may leave only after the inbox has the message, or a crash between the
two would lose it. So paho's client is driven from the event loop directly, with many messages open at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

# Packets read in one go before other tasks get their turn.
_BATCH = 200


class MqttError(Exception):
    """The broker cannot be reached, refused us, or the connection broke. Never contains credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where and as whom to sign in."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    clean_session: bool = False
    keepalive_s: int = 30
    connect_timeout_s: float = 10

    def __repr__(self) -> str:
        return f"Broker({self.host}:{self.port} as {self.client_id})"


@dataclass(slots=True)
class Delivery:
    """A message from the broker. Call :meth:`done` when it is safe; until then the broker keeps it."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    repeated: bool
    mid: int
    session: MqttSession

    def done(self) -> None:
        """Let the broker forget the message (PUBACK)."""
        self.session.finish(self)


class MqttSession:
    """One connection of a persistent session; :meth:`run` lasts until it breaks or ``stop`` is set."""

    def __init__(
        self,
        broker: Broker,
        topics: Sequence[str],
        deliver: Callable[[Delivery], Awaitable[None]],
        *,
        known_topics: Sequence[str] = (),
        maximum_open: int = 2000,
    ) -> None:
        """``deliver`` is awaited once per message, in order.

        ``known_topics`` are those to which the session was subscribed before, ``maximum_open`` is the number of
        unfinished messages at which reading from the broker pauses.
        """
        self._broker = broker
        self._topics = list(topics)
        self._known_topics = list(known_topics)
        self._deliver = deliver
        self._maximum_open = maximum_open
        self._asked: list[str] = []
        self._open = 0
        self._open_numbers: set[int] = set()
        self._paused = False
        self._flush_planned = False
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._client: paho.Client | None = None
        self._descriptor = -1
        self.connected = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, subscribe with QoS 1 and deliver. Raises MqttError when the connection breaks."""
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        client = self._make_client()
        try:
            await asyncio.to_thread(
                client.connect, self._broker.host, self._broker.port, self._broker.keepalive_s
            )
        except (OSError, ValueError) as error:
            raise MqttError(f"cannot connect to {self._broker.host}:{self._broker.port}: {error}") from None
        socket = client.socket()
        if socket is None:
            raise MqttError(f"{self._broker.host}:{self._broker.port} closed the connection")
        self._client = client
        self._descriptor = socket.fileno()
        self._poll = select.poll()  # unlike select(), it takes descriptors above 1023
        self._poll.register(self._descriptor, select.POLLIN)
        self._loop.add_reader(self._descriptor, self._readable)
        self._flush()
        tasks: list[asyncio.Future[Any]] = [
            asyncio.create_task(self._pump()),
            asyncio.create_task(self._housekeeping()),
            asyncio.create_task(stop.wait()),
        ]
        try:
            done, _ = await asyncio.wait([*tasks, self._broken], return_when=asyncio.FIRST_COMPLETED)
            for finished in done:
                finished.result()
        finally:
            self.connected.clear()
            self._disconnect()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def finish(self, delivery: Delivery) -> None:
        """Acknowledge; a delivery of a connection that is gone is ignored, the broker will send it again."""
        self._open -= 1
        client = self._client
        if client is None:
            return
        if delivery.qos:
            self._open_numbers.discard(delivery.mid)
            client.ack(delivery.mid, delivery.qos)
        if self._paused and self._open < self._maximum_open // 2:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._readable)
            # Bytes that TLS has already decrypted wake no selector.
            self._loop.call_soon(self._readable)

    def _make_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._broker.client_id,
            clean_session=self._broker.clean_session,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = self._broker.connect_timeout_s
        if self._broker.username:
            client.username_pw_set(self._broker.username, self._broker.password)
        if self._broker.tls is not None:
            client.tls_set_context(self._broker.tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_socket_register_write = self._on_want_write
        return client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        if not self._broken.done():
            self._broken.cancel()
        if client is not None:
            with contextlib.suppress(OSError):
                client.disconnect()
                client.loop_write()
        while not self._arrived.empty():
            self._arrived.get_nowait()
        self._open = 0
        self._open_numbers.clear()

    def _break(self, reason: str) -> None:
        if not self._broken.done():
            self._broken.set_exception(MqttError(reason))

    # What paho tells us, inside loop_read and therefore in the event loop's thread

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: Any, __: Any) -> None:
        if reason.is_failure:
            self._break(f"the broker refused the sign-in: {reason}")
            return
        kept = set(self._known_topics) if flags.session_present else set()
        if gone := sorted(kept - set(self._topics)):
            client.unsubscribe(gone)
        # What the session has already is not asked for again; that would only bring retained messages once more.
        self._asked = [topic for topic in self._topics if topic not in kept]
        if self._asked:
            client.subscribe([(topic, 1) for topic in self._asked])
        else:
            self.connected.set()

    def _on_subscribe(self, _: paho.Client, __: Any, ___: int, reasons: list[Any], ____: Any) -> None:
        for topic, reason in zip(self._asked, reasons, strict=False):
            if reason.is_failure:
                self._break(f"the broker refused the subscription to {topic}: {reason}")
                return
        self.connected.set()

    def _on_disconnect(self, _: paho.Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self._break(f"connection lost: {reason}")

    def _on_message(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        if message.qos:
            if message.mid in self._open_numbers:
                # The broker lost patience while we are still at it.
                return
            self._open_numbers.add(message.mid)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._open += 1
        self._arrived.put_nowait(
            Delivery(
                topic, bytes(message.payload), message.qos, message.retain, message.dup, message.mid, self
            )
        )

    def _on_want_write(self, *_: Any) -> None:
        # The first call comes from the connecting thread; then the flush after connecting does the work.
        if self._client is not None and not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    # Moving bytes

    def _readable(self) -> None:
        client = self._client
        if client is None or self._paused:
            return
        for _ in range(_BATCH):
            if self._open >= self._maximum_open:
                self._paused = True
                self._loop.remove_reader(self._descriptor)
                return
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._break("connection lost")
                return
            if not self._more_to_read(client):
                return
        self._loop.call_soon(self._readable)

    def _more_to_read(self, client: paho.Client) -> bool:
        socket = client.socket()
        if socket is None:
            return False
        if isinstance(socket, ssl.SSLSocket) and socket.pending():
            return True
        return bool(self._poll.poll(0))

    def _flush(self) -> None:
        self._flush_planned = False
        client = self._client
        if client is None:
            return
        if client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._break("connection lost")
        elif client.want_write():
            self._loop.add_writer(self._descriptor, self._flush)
        else:
            self._loop.remove_writer(self._descriptor)

    async def _pump(self) -> None:
        while True:
            await self._deliver(await self._arrived.get())

    async def _housekeeping(self) -> None:
        try:
            async with asyncio.timeout(self._broker.connect_timeout_s):
                await self.connected.wait()
        except TimeoutError:
            raise MqttError(
                f"{self._broker.host}:{self._broker.port} did not answer to the sign-in"
            ) from None
        while True:
            await asyncio.sleep(1)
            if self._client is not None and self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._break("the broker does not answer")
