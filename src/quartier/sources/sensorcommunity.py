"""Measurements as the sensor.community firmware (airRohr) sends them to an "own API".

``{"esp8266id": "…", "sensordatavalues": [{"value_type": "BME280_temperature", "value": "24.98"}, …]}``. The part after
the last underscore is the quantity, the part before it the sensor. Where two sensors of one box measure the same
quantity, the better one counts for the place; the other keeps its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.quartier_json import DEVICE_HEADER
from quartier.sources.values import name_of, read_json, text_of

# Quantity -> our property and the firmware's unit (UCUM).
QUANTITIES: Final[dict[str, tuple[str, str]]] = {
    "temperature": ("air_temperature", "Cel"),
    "humidity": ("relative_humidity", "%"),
    "pressure": ("air_pressure", "Pa"),
    "P0": ("pm1", "ug/m3"),
    "P1": ("pm10", "ug/m3"),
    "P2": ("pm2_5", "ug/m3"),
    "co2_ppm": ("co2", "[ppm]"),
    "noise_LAeq": ("noise_level", "dB[SPL]"),
}
# Better thermometers and hygrometers first; a DHT22 ages fast, a BMP has no hygrometer.
_RANK: Final = ("SHT3X", "SHT4X", "BME280", "HTU21D", "SCD30", "BMP280", "BMP", "DS18B20", "DHT22", "")
# What the firmware says of itself, not of the air.
_ABOUT_ITSELF: Final = frozenset({"samples", "min_micro", "max_micro", "interval", "signal"})
MAXIMUM_VALUES: Final = 200


def sensor_id(content: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """The box's id as sensor.community writes it (``esp8266-1234567``); empty where the message does not say."""
    header = headers.get("x-sensor", "").strip()
    if header:
        return header[:120]
    for name, prefix in (("esp8266id", "esp8266-"), ("esp32id", "esp32-"), ("raspiid", "raspi-")):
        stated = content.get(name)
        if isinstance(stated, str | int) and not isinstance(stated, bool):
            return f"{prefix}{text_of(stated, name)}"[:120]
    return ""


def parse(message: RawMessage, _: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplink in a message. Raises MessageError."""
    content = read_json(message)
    if not isinstance(content, dict):
        raise MessageError("wrong_type", f"an object was expected, not {name_of(content)}")
    external_id = message.headers.get(DEVICE_HEADER, "") or sensor_id(content, message.headers)
    if not external_id:
        raise MessageError("missing_field", "esp8266id (or the header X-Sensor)")
    values = content.get("sensordatavalues")
    if values is None:
        raise MessageError("missing_field", "sensordatavalues", external_id)
    if not isinstance(values, list):
        raise MessageError(
            "wrong_type", f"sensordatavalues: an array was expected, not {name_of(values)}", external_id
        )
    if len(values) > MAXIMUM_VALUES:
        raise MessageError("too_large", f"sensordatavalues: more than {MAXIMUM_VALUES} entries", external_id)
    fields: dict[str, Any] = {}
    taken: dict[str, int] = {}
    for number, entry in enumerate(values):
        where = f"sensordatavalues[{number}]"
        if not isinstance(entry, dict):
            raise MessageError(
                "wrong_type", f"{where}: an object was expected, not {name_of(entry)}", external_id
            )
        name = entry.get("value_type")
        value = entry.get("value")
        if not isinstance(name, str) or not name:
            raise MessageError("missing_field", f"{where}.value_type", external_id)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise MessageError("wrong_type", f"{where}.value: a number was expected", external_id)
        if name in _ABOUT_ITSELF or name.startswith("GPS_"):
            continue
        sensor, found = _split(name)
        if found is None:
            fields[name[:120]] = value
            continue
        slug, unit = found
        rank = _RANK.index(sensor) if sensor in _RANK else len(_RANK)
        if rank < taken.get(slug, 1 << 10):
            taken[slug] = rank
            fields[slug] = {"value": value, "unit": unit}
    if not fields:
        raise MessageError("missing_field", "sensordatavalues: no measurement", external_id)
    return (Uplink(external_id=external_id, received_at=message.received_at, fields=fields),)


def _split(name: str) -> tuple[str, tuple[str, str] | None]:
    """Sensor and quantity of ``BME280_temperature``, ``SCD30_co2_ppm``, ``temperature``."""
    if name in QUANTITIES:
        return "", QUANTITIES[name]
    sensor, _, quantity = name.partition("_")
    return sensor, QUANTITIES.get(quantity)
