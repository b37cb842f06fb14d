"""Measurements as a senseBox sends them to openSenseMap, so that a box can be pointed here without new firmware.

Forms: a JSON array of ``{"sensor", "value", "createdAt"}``, a JSON object ``{sensor: value}`` or
``{sensor: [value, createdAt]}``, CSV lines ``sensor,value[,createdAt[,lng,lat[,height]]]``, and the binary form of 16
(or with time 20) bytes per measurement. A sensor is named by a property (``air_temperature``) or by its 24-digit id,
which the box's registration translates.
"""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources import sensorcommunity
from quartier.sources.quartier_json import DEVICE_HEADER
from quartier.sources.values import CUT_HEADER, name_of, read_json, text_of, time_of

SENSORS_HEADER: Final = "sensors"
MAXIMUM_MEASUREMENTS: Final = 2500  # as openSenseMap itself

_BINARY = struct.Struct("<12sf")
_BINARY_WITH_TIME = struct.Struct("<12sfI")
_names = msgspec.json.Decoder(dict[str, str])


class _Measurement(NamedTuple):
    sensor: str
    value: Any
    time: datetime | None


def parse(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """One uplink per point in time. Raises MessageError naming the line or entry."""
    box = message.headers.get(DEVICE_HEADER, "")
    if not box:
        raise MessageError("missing_field", "boxId")
    kind = message.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "text/csv":
        measurements = list(_csv(message, box))
    elif kind.startswith("application/sbx-bytes"):
        measurements = list(_binary(message, box, with_time=kind.endswith("-ts")))
    else:
        content = read_json(message)
        if isinstance(content, dict) and "sensordatavalues" in content:
            return sensorcommunity.parse(message, settings)
        measurements = list(_json(content, box))
    if not measurements:
        raise MessageError("missing_field", "no measurements", box)
    if len(measurements) > MAXIMUM_MEASUREMENTS:
        raise MessageError(
            "too_large", f"{len(measurements)} measurements; at most {MAXIMUM_MEASUREMENTS} are taken", box
        )
    names = _sensor_names(message)
    at: dict[datetime | None, dict[str, Any]] = {}
    for one in measurements:
        at.setdefault(one.time, {})[names.get(one.sensor, one.sensor)] = one.value
    return tuple(
        Uplink(external_id=box, received_at=message.received_at, observed_at=time, fields=fields)
        for time, fields in at.items()
    )


def _sensor_names(message: RawMessage) -> dict[str, str]:
    try:
        return _names.decode(message.headers.get(SENSORS_HEADER, "{}"))
    except msgspec.DecodeError:
        return {}


def _json(content: Any, box: str) -> Iterator[_Measurement]:
    if isinstance(content, list):
        for number, entry in enumerate(content):
            where = f"[{number}]"
            if not isinstance(entry, dict):
                raise MessageError(
                    "wrong_type", f"{where}: an object was expected, not {name_of(entry)}", box
                )
            # Old firmware writes sensor_id.
            sensor = entry.get("sensor", entry.get("sensor_id"))
            if sensor is None:
                raise MessageError("missing_field", f"{where}.sensor", box)
            if "value" not in entry:
                raise MessageError("missing_field", f"{where}.value", box)
            created = entry.get("createdAt")
            yield _Measurement(
                text_of(sensor, f"{where}.sensor"),
                _value(entry["value"], f"{where}.value", box),
                None if created is None else time_of(created, f"{where}.createdAt", box),
            )
    elif isinstance(content, dict):
        for sensor, value in content.items():
            if isinstance(value, list):
                if not value:
                    raise MessageError("missing_field", f"{sensor[:60]}[0]", box)
                created = value[1] if len(value) > 1 else None
                time = None if created is None else time_of(created, f"{sensor[:60]}[1]", box)
                yield _Measurement(text_of(sensor, "sensor"), _value(value[0], sensor[:60], box), time)
            else:
                yield _Measurement(text_of(sensor, "sensor"), _value(value, sensor[:60], box), None)
    else:
        raise MessageError("wrong_type", f"an array or object was expected, not {name_of(content)}", box)


def _value(value: Any, field: str, box: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise MessageError("wrong_type", f"{field}: a number was expected, not {name_of(value)}", box)
    return value


def _csv(message: RawMessage, box: str) -> Iterator[_Measurement]:
    if CUT_HEADER in message.headers:
        raise MessageError("too_large", f"the message had {message.headers[CUT_HEADER]} bytes", box)
    try:
        lines = message.body.decode().splitlines()
    except UnicodeDecodeError:
        raise MessageError("not_csv", "not UTF-8", box) from None
    try:
        rows = list(csv.reader(lines))
    except csv.Error as error:
        raise MessageError("not_csv", str(error), box) from None
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        if not 2 <= len(row) <= 6:
            raise MessageError("not_csv", f"line {number}: 2 to 6 columns were expected, not {len(row)}", box)
        created = row[2].strip() if len(row) > 2 else ""
        yield _Measurement(
            text_of(row[0], f"line {number}, column 1"),
            row[1].strip(),
            time_of(created, f"line {number}, column 3", box) if created else None,
        )


def _binary(message: RawMessage, box: str, *, with_time: bool) -> Iterator[_Measurement]:
    form = _BINARY_WITH_TIME if with_time else _BINARY
    if CUT_HEADER in message.headers or len(message.body) % form.size:
        raise MessageError("bad_payload", f"the length is no multiple of {form.size} bytes", box)
    for sensor, value, *stated in form.iter_unpack(message.body):
        time = datetime.fromtimestamp(stated[0], UTC) if stated else None
        yield _Measurement(sensor.hex(), value, time)
