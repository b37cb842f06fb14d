"""An uplink of our own network as it lies in the inbox: JSON, decrypted, with everybody who heard it.

Written by the network server, read by the pipeline like any other source's message, so that codecs, mappings and
replays need not know where a frame came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink

KIND: Final = "lorawan"
SOURCE: Final = "lorawan"


class HeardBy(msgspec.Struct, gc=False, omit_defaults=True):
    """One reception. ``peer`` is empty for our own gateways; private gateways have no place."""

    gateway: str
    rssi: float
    snr: float
    peer: str = ""
    lon: float | None = None
    lat: float | None = None
    fine_time_ns: int | None = msgspec.field(default=None, name="fineTimeNs")


class Up(msgspec.Struct, gc=False):
    """One accepted uplink. ``data`` is base64 in JSON; ``frequency`` in Hz, ``dr`` the data rate's number.

    ``battery`` is in percent, as the device last answered to DevStatusReq.
    """

    dev_eui: str = msgspec.field(name="devEui")
    dev_addr: str = msgspec.field(name="devAddr")
    time: datetime
    counter: int = msgspec.field(name="fCnt")
    port: int | None = msgspec.field(name="fPort")
    data: bytes
    confirmed: bool
    adr: bool
    data_rate: int = msgspec.field(name="dr")
    frequency: int
    receptions: list[HeardBy]
    battery: int | None = None
    tags: dict[str, str] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Up)


def raw_message(municipality: str, up: Up) -> RawMessage:
    """The message for the inbox."""
    return RawMessage(
        municipality=municipality,
        source=SOURCE,
        kind=KIND,
        received_at=up.time,
        topic=f"lorawan/{up.dev_eui}/up",
        body=_encoder.encode(up),
    )


def parse(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplink in a message; a frame without payload carries no reading. Raises MessageError."""
    try:
        up = _decoder.decode(message.body)
    except msgspec.DecodeError as error:
        raise MessageError("not_json", str(error)) from None
    if not up.data or not up.port:
        # Port 0 is talk between device and network.
        return ()
    heard = up.receptions
    return (
        Uplink(
            external_id=up.dev_eui,
            received_at=up.time,
            payload=up.data,
            frame_counter=up.counter,
            port=up.port,
            rssi_dbm=max(r.rssi for r in heard) if heard else None,
            snr_db=max(r.snr for r in heard) if heard else None,
            gateways=len(heard) or None,
            battery_percent=up.battery,
            variables=up.tags,
        ),
    )
