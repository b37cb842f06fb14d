"""ZENNER ELEMENT IoT: packets (payload in hexadecimal) and readings (already decoded), as its REST API gives them.

A packet names its device only by ELEMENT's own UUID. The connector knows the device list and adds the DevEUI and the
name as headers; a device without DevEUI keeps the UUID.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.values import hexadecimal, read, utc

EUI_HEADER = "dev-eui"
NAME_HEADER = "device-name"

_MAXIMUM_PAYLOAD_BYTES = 64 * 1024


class _Reception(msgspec.Struct, gc=False):
    rssi: float | None = None
    snr: float | None = None


class _Meta(msgspec.Struct, gc=False):
    frame_count_up: int | None = None
    frame_port: int | None = None
    gateway_stats: tuple[_Reception, ...] | None = None


class _Document(msgspec.Struct, gc=False):
    """A packet or a reading; both have ``device_id``."""

    device_id: str = ""
    # of a packet
    packet_type: str | None = "up"
    payload: str | dict[str, Any] | list[Any] | float | bool | None = None
    payload_encoding: str | None = None
    # Freeform where the driver is not LoRaWAN.
    meta: _Meta | str | None = None
    transceived_at: datetime | None = None
    is_meta: bool | None = False
    skip_parsers: bool | None = False
    # of a reading
    data: dict[str, Any] | None = None
    measured_at: datetime | None = None


_decoder = msgspec.json.Decoder(_Document)


def parse(message: RawMessage, _: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplink in a packet or reading; downlinks and packets without payload carry none. Raises MessageError."""
    external_id = message.headers.get(EUI_HEADER, "")
    document = read(_decoder, message, external_id=external_id)
    external_id = external_id or document.device_id.lower()[:120]
    if not external_id:
        raise MessageError("missing_field", "device_id")
    name = message.headers.get(NAME_HEADER, "")
    if document.data is not None:
        if document.measured_at is None:
            raise MessageError("missing_field", "measured_at", external_id)
        return (
            Uplink(
                external_id=external_id,
                received_at=utc(document.measured_at) or message.received_at,
                fields=document.data,
                device_name=name,
            ),
        )
    if document.packet_type not in ("up", None) or document.is_meta or document.skip_parsers:
        return ()
    meta = document.meta if isinstance(document.meta, _Meta) else _Meta()
    payload, fields = _payload(document, external_id)
    if payload is None and fields is None:
        return ()
    if document.transceived_at is None:
        raise MessageError("missing_field", "transceived_at", external_id)
    receptions = meta.gateway_stats or ()
    rssi = [r.rssi for r in receptions if r.rssi is not None]
    snr = [r.snr for r in receptions if r.snr is not None]
    counter = meta.frame_count_up
    if counter is not None and not 0 <= counter < 1 << 32:
        raise MessageError("bad_value", f"meta.frame_count_up: {counter} is no frame counter", external_id)
    return (
        Uplink(
            external_id=external_id,
            received_at=utc(document.transceived_at) or message.received_at,
            payload=payload,
            fields=fields,
            frame_counter=counter,
            port=meta.frame_port,
            rssi_dbm=max(rssi) if rssi else None,
            snr_db=max(snr) if snr else None,
            gateways=len(receptions) or None,
            device_name=name,
        ),
    )


def _payload(document: _Document, external_id: str) -> tuple[bytes | None, dict[str, Any] | None]:
    raw = document.payload
    if raw is None or raw in ("", {}):
        return None, None
    match document.payload_encoding:
        case "binary" | None if isinstance(raw, str):
            if len(raw) > 2 * _MAXIMUM_PAYLOAD_BYTES:
                raise MessageError("too_large", "payload", external_id)
            return hexadecimal(raw, "payload", external_id), None
        case "utf8" if isinstance(raw, str):
            return raw.encode(errors="replace"), None
        case "json" if isinstance(raw, dict):
            return None, raw
        case "none":
            return None, None
        case encoding:
            raise MessageError(
                "bad_payload", f"payload: cannot be read as {str(encoding)[:20]!r}", external_id
            )
