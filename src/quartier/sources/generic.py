"""Any JSON: where things stand in a message is said by JSONPaths (RFC 9535) in the source's settings.

``mapping`` names: ``device`` (required; a path, or ``topic:2`` for the third level of the MQTT topic), ``items`` (one
message holds many), ``time``, ``fields`` (one path to an object, or a table of names and paths), or ``payload`` with
``encoding`` ``hex`` or ``base64`` for a codec, and ``port``, ``frame_counter``, ``rssi``, ``snr``, ``battery``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import jsonpath

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.values import (
    base64_bytes,
    hexadecimal,
    name_of,
    number_or_none,
    plain_fields,
    read_json,
    text_of,
    time_of,
    whole,
)

MAXIMUM_ITEMS: Final = 1000
NAMES: Final = frozenset(
    {
        "device",
        "items",
        "time",
        "fields",
        "payload",
        "encoding",
        "port",
        "frame_counter",
        "rssi",
        "snr",
        "battery",
    }
)
PROBLEMS: Final = {
    "no_object": "must be an object",
    "unknown": "is no name that a mapping has",
    "missing": "is missing",
    "both": "give either fields or payload",
    "encoding": "must be hex or base64",
    "empty": "is empty",
    "topic": "must be topic:<number of the level, from 0>",
    "path": "must be a JSONPath that begins with $",
}
_TOPIC = "topic:"


class MappingError(ValueError):
    """A mapping cannot be used; ``field`` says where, ``problem`` is one of PROBLEMS."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {PROBLEMS[problem]}")
        self.field = field
        self.problem = problem


@lru_cache(maxsize=1024)
def _compiled(path: str) -> Any:
    return jsonpath.compile(path)


def check(mapping: Any) -> None:
    """Raise MappingError unless ``mapping`` can be used."""
    if not isinstance(mapping, Mapping):
        raise MappingError("mapping", "no_object")
    for name in mapping:
        if name not in NAMES:
            raise MappingError(f"mapping.{name}", "unknown")
    if "device" not in mapping:
        raise MappingError("mapping.device", "missing")
    if "fields" in mapping and "payload" in mapping:
        raise MappingError("mapping.payload", "both")
    if mapping.get("encoding", "hex") not in ("hex", "base64"):
        raise MappingError("mapping.encoding", "encoding")
    for name, path in mapping.items():
        if name == "encoding":
            continue
        if name == "fields" and isinstance(path, Mapping):
            if not path:
                raise MappingError("mapping.fields", "empty")
            for field, inner in path.items():
                _check_path(f"mapping.fields.{field}", inner)
        elif name == "device" and isinstance(path, str) and path.startswith(_TOPIC):
            if not path.removeprefix(_TOPIC).isdecimal():
                raise MappingError("mapping.device", "topic")
        else:
            _check_path(f"mapping.{name}", path)


def _check_path(field: str, path: Any) -> None:
    if not isinstance(path, str) or not path.startswith("$"):
        raise MappingError(field, "path")
    try:
        _compiled(path)
    except jsonpath.JSONPathError:
        raise MappingError(field, "path") from None


def parse(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplinks in a message. Raises MessageError."""
    mapping = settings.get("mapping")
    try:
        check(mapping)
    except MappingError as error:
        raise MessageError("bad_mapping", str(error)) from None
    assert mapping is not None  # noqa: S101 (checked above)
    content = read_json(message)
    items = _find_all(mapping["items"], content) if "items" in mapping else [content]
    if len(items) > MAXIMUM_ITEMS:
        raise MessageError("too_large", f"{len(items)} items; at most {MAXIMUM_ITEMS} are taken")
    return tuple(_uplink(item, mapping, message) for item in items)


def _find_all(path: str, content: Any) -> list[Any]:
    if not isinstance(content, dict | list):
        raise MessageError("wrong_type", f"an object was expected, not {name_of(content)}")
    try:
        found: list[Any] = _compiled(path).findall(content)
    except (jsonpath.JSONPathError, RecursionError) as error:
        raise MessageError("bad_mapping", f"{path}: {type(error).__name__}") from None
    return found


def _find(mapping: Mapping[str, Any], name: str, item: Any) -> Any:
    """The first value at a path; None where there is none or the mapping does not name it."""
    path = mapping.get(name)
    if path is None:
        return None
    found = _find_all(path, item)
    return found[0] if found else None


def _uplink(item: Any, mapping: Mapping[str, Any], message: RawMessage) -> Uplink:
    external_id = _device(item, mapping, message)
    if not isinstance(item, dict):
        raise MessageError("wrong_type", f"an object was expected, not {name_of(item)}", external_id)
    payload: bytes | None = None
    fields: dict[str, Any] | None = None
    if "payload" in mapping:
        raw = _find(mapping, "payload", item)
        if not isinstance(raw, str):
            raise MessageError("missing_field", mapping["payload"], external_id)
        decode = base64_bytes if mapping.get("encoding") == "base64" else hexadecimal
        payload = decode(raw, mapping["payload"], external_id)
    else:
        fields = _fields(item, mapping.get("fields"), external_id)
    stated = _find(mapping, "time", item)
    counter, port = _find(mapping, "frame_counter", item), _find(mapping, "port", item)
    return Uplink(
        external_id=external_id,
        received_at=message.received_at,
        observed_at=None if stated is None else time_of(stated, mapping["time"], external_id),
        payload=payload,
        fields=fields,
        frame_counter=None if counter is None else whole(counter, mapping["frame_counter"], external_id),
        port=None if port is None else whole(port, mapping["port"], external_id),
        rssi_dbm=number_or_none(_find(mapping, "rssi", item), "rssi", external_id),
        snr_db=number_or_none(_find(mapping, "snr", item), "snr", external_id),
        battery_percent=number_or_none(_find(mapping, "battery", item), "battery", external_id),
    )


def _device(item: Any, mapping: Mapping[str, Any], message: RawMessage) -> str:
    path = mapping["device"]
    if path.startswith(_TOPIC):
        levels = message.topic.split("/")
        number = int(path.removeprefix(_TOPIC))
        found: Any = levels[number] if number < len(levels) else ""
    else:
        found = _find(mapping, "device", item)
        if found is None:
            raise MessageError("missing_field", path)
    return text_of(found, path)


def _fields(item: dict[str, Any], wanted: Any, external_id: str) -> dict[str, Any]:
    if wanted is None:
        return item
    if isinstance(wanted, str):
        found = _find_all(wanted, item)
        if not found or not isinstance(found[0], dict):
            raise MessageError("missing_field", wanted, external_id)
        return dict(found[0])
    values: dict[str, Any] = {}
    for name, path in wanted.items():
        matches = _find_all(path, item)
        if matches:
            values[name] = matches[0]
    return plain_fields(values, "fields", external_id)
