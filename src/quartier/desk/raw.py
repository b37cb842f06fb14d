"""The raw message behind a reading or a refusal, for people who repair codecs.

The inbox is asked directly: a reading knows its position there, a refusal holds its body. Neither needs a search
through the stream.
"""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import nats
import nats.errors
import nats.js.errors
from django.db import connection

from quartier.config import config
from quartier.engines.bus import INBOX
from quartier.intake import parsers
from quartier.intake.inbox import RawMessage, decode
from quartier.intake.models import RefusedMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.models import Source
from quartier.twin.models import Device

_TIMEOUT_S: Final = 3
_SHOWN_BYTES: Final = 16_384
_BYTES_PER_LINE: Final = 16


@dataclass(frozen=True, slots=True)
class Opened:
    """A raw message and what its parser finds in it."""

    raw: RawMessage
    uplinks: tuple[Uplink, ...] = ()
    error: MessageError | None = None

    def uplink_of(self, external_id: str) -> Uplink | None:
        """The uplink of a device in this message; the only one where none is named."""
        for uplink in self.uplinks:
            if uplink.external_id == external_id:
                return uplink
        return self.uplinks[0] if len(self.uplinks) == 1 and not external_id else None


def open_message(raw: RawMessage, settings: dict[str, Any]) -> Opened:
    """Let the parser of the message's kind read it."""
    try:
        return Opened(raw, tuple(parsers.parse(raw, settings)))
    except MessageError as error:
        return Opened(raw, error=error)


def open_refused(message: RefusedMessage) -> Opened:
    """The raw message of a refusal, as far as it was kept."""
    headers = {str(key): str(value) for key, value in message.headers.items()}
    raw = RawMessage(
        municipality=message.municipality.slug if message.municipality is not None else "",
        source=message.source_key,
        kind=headers.pop("kind", ""),
        received_at=message.at,
        body=bytes(message.body),
        topic=message.topic,
        headers=headers,
    )
    return open_message(raw, _settings(message.source_key))


def _settings(source_key: str) -> dict[str, Any]:
    return Source.objects.filter(key=source_key).values_list("settings", flat=True).first() or {}


async def _not_reported(_error: Exception) -> None:
    """The caller handles what goes wrong; the client's own log would only repeat it."""


async def _fetch(position: int) -> bytes | None:
    async with asyncio.timeout(_TIMEOUT_S):
        connected = await nats.connect(
            config().nats_url,
            name="desk",
            connect_timeout=_TIMEOUT_S,
            allow_reconnect=False,
            # Zero would mean for ever.
            max_reconnect_attempts=1,
            reconnect_time_wait=0.1,
            error_cb=_not_reported,
        )
        try:
            found = await connected.jetstream(timeout=_TIMEOUT_S).get_msg(INBOX, seq=position)
            return found.data
        except nats.js.errors.NotFoundError:
            return None  # older than the inbox keeps
        finally:
            await connected.close()


def at_position(position: int) -> RawMessage | None:
    """The message at a position of the inbox; None where it is no longer kept or the inbox cannot be reached."""
    if not config().nats_url:
        return None
    try:
        data = asyncio.run(_fetch(position))
        return decode(data) if data is not None else None
    except (nats.errors.Error, OSError, TimeoutError, msgspec.DecodeError):
        return None


def last_of(device: Device) -> Opened | None:
    """The newest message of a device that can still be read: behind its newest reading, or its newest refusal."""
    refused = (
        RefusedMessage.objects.filter(
            municipality_id=device.municipality_id,
            source_key=device.source_key,
            external_id=device.external_id,
        )
        .select_related("municipality")
        .first()
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT o.time, o.origin FROM twin_series s CROSS JOIN LATERAL (SELECT time, origin FROM twin_observation"
            " WHERE municipality_id = s.municipality_id AND series_id = s.id ORDER BY time DESC LIMIT 1) o"
            " WHERE s.device_id = %s AND s.derivation = '' AND o.origin IS NOT NULL ORDER BY o.time DESC LIMIT 1",
            [device.pk],
        )
        row: tuple[datetime, int] | None = cursor.fetchone()
    if row is not None and (refused is None or row[0] >= refused.at):
        raw = at_position(row[1])
        if raw is not None:
            return open_message(raw, _settings(device.source_key))
    return open_refused(refused) if refused is not None else None


_HEX: Final = re.compile(r"^(?:0x)?(?:[0-9a-fA-F]{2}[\s:,-]*)+$")


def bytes_from_text(text: str) -> bytes:
    """Bytes from hex (``0a1b``, ``0A 1B``, ``0x0a1b``) or Base64. Raises ValueError for anything else."""
    text = text.strip()
    if not text:
        return b""
    if _HEX.match(text):
        return bytes.fromhex(re.sub(r"^0x|[\s:,-]", "", text))
    try:
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except ValueError:
        raise ValueError("neither hex nor Base64") from None


def hex_dump(data: bytes) -> str:
    """Address, bytes, printable characters, sixteen to a line; long messages are cut."""
    lines = []
    for start in range(0, min(len(data), _SHOWN_BYTES), _BYTES_PER_LINE):
        part = data[start : start + _BYTES_PER_LINE]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<{_BYTES_PER_LINE * 3 - 1}}  {shown}")
    if len(data) > _SHOWN_BYTES:
        lines.append(f"… {len(data) - _SHOWN_BYTES} bytes more")
    return "\n".join(lines)


def as_text(data: bytes) -> str:
    """The message as text, indented where it is JSON; empty where it is no text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text if text.isprintable() or any(sign in text for sign in "\n\t,;") else ""
