"""The Things Stack v3: its application messages as JSON, by MQTT or webhook.

The Things Stack leaves out fields whose value is zero, false or empty: an absent frame counter is 0, an absent
SNR is 0 dB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.values import dev_eui, read, utc

_NOTHING: dict[str, str] = {}


class _Ids(msgspec.Struct, gc=False):
    device_id: str = ""
    dev_eui: str = ""


class _Reception(msgspec.Struct, gc=False):
    rssi: float = 0
    snr: float = 0


class _Battery(msgspec.Struct, gc=False):
    value: float = 0


class _Uplink(msgspec.Struct, gc=False):
    f_cnt: int = 0
    f_port: int = 0
    frm_payload: bytes = b""
    decoded_payload: dict[str, Any] | None = None
    rx_metadata: tuple[_Reception, ...] = ()
    received_at: datetime | None = None
    last_battery_percentage: _Battery | None = None
    attributes: dict[str, str] = _NOTHING


class _Message(msgspec.Struct, gc=False):
    end_device_ids: _Ids | None = None
    received_at: datetime | None = None
    uplink_message: _Uplink | None = None
    simulated: bool = False
    # Messages that carry no reading of their own. A normalised uplink repeats the uplink in another form.
    uplink_normalized: msgspec.Raw = msgspec.Raw(b"")
    join_accept: msgspec.Raw = msgspec.Raw(b"")
    downlink_ack: msgspec.Raw = msgspec.Raw(b"")
    downlink_nack: msgspec.Raw = msgspec.Raw(b"")
    downlink_sent: msgspec.Raw = msgspec.Raw(b"")
    downlink_failed: msgspec.Raw = msgspec.Raw(b"")
    downlink_queued: msgspec.Raw = msgspec.Raw(b"")
    downlink_queue_invalidated: msgspec.Raw = msgspec.Raw(b"")
    location_solved: msgspec.Raw = msgspec.Raw(b"")
    service_data: msgspec.Raw = msgspec.Raw(b"")

    def has_no_reading(self) -> bool:
        return any(
            (
                self.uplink_normalized,
                self.join_accept,
                self.downlink_ack,
                self.downlink_nack,
                self.downlink_sent,
                self.downlink_failed,
                self.downlink_queued,
                self.downlink_queue_invalidated,
                self.location_solved,
                self.service_data,
            )
        )


class _Who(msgspec.Struct, gc=False):
    end_device_ids: _Ids


_decoder = msgspec.json.Decoder(_Message)
_who = msgspec.json.Decoder(_Who)


def _identify(body: bytes) -> str:
    return _external_id(_who.decode(body).end_device_ids)


def _external_id(ids: _Ids) -> str:
    if ids.dev_eui:
        return dev_eui(ids.dev_eui, "end_device_ids.dev_eui")
    if ids.device_id:
        # A device that was activated by personalisation may have no DevEUI.
        return ids.device_id[:120]
    raise MessageError("missing_field", "end_device_ids.dev_eui")


def parse(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplink in a message; joins, acknowledgements and the like carry none.

    ``settings["use"]`` is ``data`` (``frm_payload``, for our codec; the default) or ``object`` (``decoded_payload``).
    The one that is wanted may be missing, then the other is taken. Raises MessageError.
    """
    whole = read(_decoder, message, identify=_identify)
    up = whole.uplink_message
    if up is None:
        if whole.has_no_reading():
            return ()
        raise MessageError("missing_field", "uplink_message")
    ids = whole.end_device_ids or _Ids()
    external_id = _external_id(ids)
    if whole.simulated:
        raise MessageError(
            "simulated", "the network server's console made this message, no device", external_id
        )
    if not 0 <= up.f_cnt < 1 << 32:
        raise MessageError("bad_value", f"uplink_message.f_cnt: {up.f_cnt} is no frame counter", external_id)
    fields = (
        up.decoded_payload
        if up.decoded_payload and (settings.get("use") == "object" or not up.frm_payload)
        else None
    )
    if fields is None and not up.frm_payload:
        return ()
    receptions = up.rx_metadata
    return (
        Uplink(
            external_id=external_id,
            received_at=utc(up.received_at) or utc(whole.received_at) or message.received_at,
            payload=up.frm_payload if fields is None else None,
            fields=fields,
            frame_counter=up.f_cnt,
            port=up.f_port or None,
            rssi_dbm=max(r.rssi for r in receptions) if receptions else None,
            snr_db=max(r.snr for r in receptions) if receptions else None,
            gateways=len(receptions) or None,
            battery_percent=up.last_battery_percentage.value if up.last_battery_percentage else None,
            device_name=ids.device_id,
            variables=up.attributes,
        ),
    )
