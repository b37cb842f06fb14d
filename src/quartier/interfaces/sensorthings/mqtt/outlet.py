"""Publishing finished messages: an MQTT connection with QoS 1, which knows when the broker has a message for good.

Only what a publisher needs of MQTT 3.1.1, because a general client's bookkeeping per message costs more than all else
that happens to an observation here.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self

from quartier.engines.nats import OUTGOING
from quartier.interfaces.sensorthings.mqtt.metrics import SENT
from quartier.sources.connect.mqtt import OwnBroker, client_id

_PREFIX: Final = OUTGOING.replace(".", "/").encode() + b"/"
# As many as the broker may have without having confirmed them; numbers of packets are far from being used up.
_AT_ONCE: Final = 1000
_ANSWER_S: Final = 20.0
_KEEPALIVE_S: Final = 30
_CONNACK, _PUBLISH, _PUBACK, _PINGREQ, _DISCONNECT = 0x20, 0x32, 0x40, 0xC0, 0xE0
_RETAIN: Final = 0x01


class Message(NamedTuple):
    """A body for a topic; ``retain`` lets the broker keep it for newcomers."""

    topic: str
    body: bytes
    retain: bool = False


class OutletError(OSError):
    """The broker cannot be reached, refused us, or the connection broke."""


class Outlet:
    """An open connection to the broker. Everything raises OutletError where it breaks."""

    def __init__(self, broker: OwnBroker) -> None:
        self._broker = broker
        self._number = 0
        self._open: set[int] = set()
        self._confirmed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(_ANSWER_S):
                self._reader, self._writer = await asyncio.open_connection(
                    self._broker.host, self._broker.port
                )
                self._writer.write(packet(0x10, self._connect()))
                kind, body = await self._read()
        except (OSError, TimeoutError, EOFError) as error:
            raise OutletError(f"the broker does not answer: {error}") from None
        if kind != _CONNACK or body[1:2] != b"\0":
            self._writer.close()
            raise OutletError(f"the broker refused the sign-in: code {body[1:2].hex()}")
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._keep_alive())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            self._writer.write(packet(_DISCONNECT, b""))
            self._writer.close()
            await self._writer.wait_closed()

    async def send(self, messages: Iterable[Message]) -> None:
        """Publish in order; returns when the broker has all of them (PUBACK)."""
        waiting = list(messages)
        try:
            async with asyncio.timeout(_ANSWER_S + len(waiting) / 100):
                for start in range(0, len(waiting), _AT_ONCE):
                    await self._send(waiting[start : start + _AT_ONCE])
        except (OSError, TimeoutError) as error:
            raise OutletError(f"the broker does not confirm: {error}") from None

    async def _send(self, part: list[Message]) -> None:
        packets = []
        for one in part:
            self._number = self._number % 65_535 + 1
            self._open.add(self._number)
            topic = _PREFIX + one.topic.encode()
            kind = _PUBLISH | _RETAIN if one.retain else _PUBLISH
            packets.append(
                packet(
                    kind, struct.pack("!H", len(topic)) + topic + struct.pack("!H", self._number) + one.body
                )
            )
        self._confirmed.clear()
        # Not writelines: asyncio's (3.13.0) watches the descriptor of a transport that is closed already, and with it
        # the next connection of that number.
        self._writer.write(b"".join(packets))
        await self._writer.drain()
        while self._open:
            if self._tasks[0].done():
                raise OutletError("the connection broke")
            await self._confirmed.wait()
        SENT.inc(len(part))

    async def _listen(self) -> None:
        try:
            while True:
                kind, body = await self._read()
                if kind & 0xF0 == _PUBACK:
                    self._open.discard(int.from_bytes(body[:2]))
                    if not self._open:
                        self._confirmed.set()
        except (OSError, EOFError):
            return
        finally:
            self._confirmed.set()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_KEEPALIVE_S / 2)
            self._writer.write(packet(_PINGREQ, b""))

    def _connect(self) -> bytes:
        # Clean session, user name and password (MQTT 3.1.1 section 3.1.2.3).
        # Another name each time: the broker lets a name wait whose last connection broke a moment ago.
        name = f"{client_id('sensorthings-out')}-{secrets.token_hex(4)}"
        parts = (name, self._broker.username, self._broker.password)
        texts = [part.encode() for part in parts]
        return (
            b"\x00\x04MQTT\x04\xc2"
            + struct.pack("!H", _KEEPALIVE_S)
            + b"".join(struct.pack("!H", len(text)) + text for text in texts)
        )

    async def _read(self) -> tuple[int, bytes]:
        kind = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            (byte,) = await self._reader.readexactly(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return kind, await self._reader.readexactly(length)


def packet(kind: int, body: bytes) -> bytes:
    """A control packet with its length (MQTT 3.1.1 section 2.2.3)."""
    length, n = bytearray(), len(body)
    while True:
        n, rest = divmod(n, 128)
        length.append(rest | 0x80 if n else rest)
        if not n:
            return bytes((kind,)) + bytes(length) + body
