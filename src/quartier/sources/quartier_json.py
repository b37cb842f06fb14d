"""The makers' simple form: ``{"device": "my-sensor", "time": "…", "values": {"air_temperature": 21.4}}``, or a list.

``time`` may be missing (then the time of arrival counts). A value may state its unit:
``{"value": 70, "unit": "[degF]"}``. By MQTT the topic names the device, and the values may stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.values import name_of, plain_fields, read_json, text_of, time_of

# The door writes here which device it has found a message to be from.
DEVICE_HEADER = "device"
MAXIMUM_ENTRIES = 1000
_KEYS = frozenset({"device", "time", "values"})


def parse(message: RawMessage, _: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplinks in a message. Raises MessageError for the first entry that cannot be used."""
    content = read_json(message)
    default_device = message.headers.get(DEVICE_HEADER, "")
    if not isinstance(content, list):
        return (_entry(content, "", message, default_device),)
    if len(content) > MAXIMUM_ENTRIES:
        raise MessageError("too_large", f"{len(content)} entries; at most {MAXIMUM_ENTRIES} are taken")
    if not content:
        raise MessageError("missing_field", "the list is empty")
    return tuple(_entry(entry, f"[{i}].", message, default_device) for i, entry in enumerate(content))


def _entry(entry: Any, where: str, message: RawMessage, default_device: str) -> Uplink:
    if not isinstance(entry, dict):
        raise MessageError(
            "wrong_type", f"{where}: an object was expected, not {name_of(entry)}".lstrip(": ")
        )
    values = entry.get("values")
    if values is None and default_device and not _KEYS & entry.keys():
        entry = {"values": entry}
        values = entry["values"]
    device = text_of(entry["device"], f"{where}device") if "device" in entry else default_device
    if not device:
        raise MessageError("missing_field", f"{where}device")
    if values is None:
        raise MessageError("missing_field", f"{where}values", device)
    if not isinstance(values, dict):
        raise MessageError(
            "wrong_type", f"{where}values: an object was expected, not {name_of(values)}", device
        )
    unknown = entry.keys() - _KEYS
    if unknown:
        raise MessageError("unknown_field", f"{where}{min(unknown)[:60]}", device)
    stated = entry.get("time")
    return Uplink(
        external_id=device,
        received_at=message.received_at,
        observed_at=None if stated is None else time_of(stated, f"{where}time", device),
        fields=plain_fields(values, f"{where}values", device),
    )
