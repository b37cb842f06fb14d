"""The inbox: every raw message is durable here before its sender gets an answer.

Messages are kept as they came, in a small MessagePack envelope, so that a parser, codec or mapping that was wrong
can be corrected and replayed over them.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from quartier.engines.bus import INBOX, Bus

MAXIMUM_BODY_BYTES = 256 * 1024
_TOKEN = re.compile(r"[^A-Za-z0-9_-]+")


class RawMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a source as it came. ``kind`` names the parser, ``topic`` the MQTT topic or HTTP path."""

    municipality: str
    source: str
    kind: str
    received_at: datetime
    body: bytes
    topic: str = ""
    headers: dict[str, str] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RawMessage)


def encode(message: RawMessage) -> bytes:
    """The envelope as it is stored in the stream."""
    return _encoder.encode(message)


def decode(data: bytes) -> RawMessage:
    """The message in an envelope. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


def subject(message: RawMessage) -> str:
    """``inbox.<municipality>.<source>``; both are slugs, so they are valid subject tokens."""
    return f"{INBOX}.{_TOKEN.sub('-', message.municipality)}.{_TOKEN.sub('-', message.source)}"


class TooLarge(ValueError):
    """The message is larger than the inbox takes."""


class Inbox:
    """Puts messages into the stream."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, message: RawMessage) -> int:
        """Store a message; returns its position once the stream has confirmed it.

        Raises TooLarge, or a NATS error (then nothing may be acknowledged to the sender).
        """
        if len(message.body) > MAXIMUM_BODY_BYTES:
            raise TooLarge(f"{len(message.body)} bytes; at most {MAXIMUM_BODY_BYTES} are taken")
        ack = await self._bus.js.publish(subject(message), encode(message))
        return ack.seq
