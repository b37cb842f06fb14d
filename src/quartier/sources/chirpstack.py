"""ChirpStack v4: its events as JSON, by MQTT or HTTP.

ChirpStack leaves out fields whose value is zero, false or empty (protobuf's JSON), so an absent frame counter is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import msgspec

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.values import dev_eui, read, utc

_OTHER_EVENTS = frozenset({"status", "join", "ack", "txack", "log", "location", "integration"})
_NOTHING: dict[str, str] = {}


class _Device(msgspec.Struct, gc=False):
    dev_eui: str = msgspec.field(default="", name="devEui")
    name: str = msgspec.field(default="", name="deviceName")
    tags: dict[str, str] = _NOTHING


class _Reception(msgspec.Struct, gc=False):
    rssi: float = 0
    snr: float = 0


class _Up(msgspec.Struct, gc=False):
    device: _Device | None = msgspec.field(default=None, name="deviceInfo")
    time: datetime | None = None
    counter: int = msgspec.field(default=0, name="fCnt")
    port: int = msgspec.field(default=0, name="fPort")
    data: bytes = b""
    decoded: dict[str, Any] | None = msgspec.field(default=None, name="object")
    receptions: tuple[_Reception, ...] = msgspec.field(default=(), name="rxInfo")


class _Who(msgspec.Struct, gc=False):
    device: _Device = msgspec.field(name="deviceInfo")


_decoder = msgspec.json.Decoder(_Up)
_who = msgspec.json.Decoder(_Who)


def _identify(body: bytes) -> str:
    return dev_eui(_who.decode(body).device.dev_eui, "deviceInfo.devEui")


def event_of(topic: str) -> str:
    """The kind of event: the last part of the MQTT topic, or the parameter ``event`` of the HTTP request."""
    if "?" in topic:
        return parse_qs(topic.partition("?")[2]).get("event", ["up"])[0]
    if "/event/" in topic:
        return topic.rsplit("/", 1)[1]
    return "up"


def parse(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplink of an ``up`` event; other events carry no reading.

    ``settings["use"]`` is ``data`` (the payload, for our codec; the default) or ``object`` (what ChirpStack decoded).
    The one that is wanted may be missing, then the other is taken. Raises MessageError.
    """
    event = event_of(message.topic)
    if event != "up":
        if event in _OTHER_EVENTS:
            return ()
        raise MessageError("unknown_event", f"event {event[:40]!r} is none of ChirpStack's")
    up = read(_decoder, message, identify=_identify)
    if up.device is None:
        raise MessageError("missing_field", "deviceInfo.devEui")
    external_id = dev_eui(up.device.dev_eui, "deviceInfo.devEui")
    if not 0 <= up.counter < 1 << 32:
        raise MessageError("bad_value", f"fCnt: {up.counter} is no frame counter", external_id)
    fields = up.decoded if up.decoded and (settings.get("use") == "object" or not up.data) else None
    if fields is None and not up.data:
        # A frame without payload only tells that the device lives.
        return ()
    receptions = up.receptions
    return (
        Uplink(
            external_id=external_id,
            received_at=utc(up.time) or message.received_at,
            payload=up.data if fields is None else None,
            fields=fields,
            frame_counter=up.counter,
            port=up.port or None,
            rssi_dbm=max(r.rssi for r in receptions) if receptions else None,
            snr_db=max(r.snr for r in receptions) if receptions else None,
            gateways=len(receptions) or None,
            device_name=up.device.name,
            variables=up.device.tags,
        ),
    )
