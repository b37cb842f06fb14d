"""Binary payloads of the virtual devices: packing, and the decoding that the codecs must reproduce.

Dortmund's climate stations speak Decentlab's published protocol version 2; everything else speaks small formats of
our own, whose JavaScript codecs lie in ``codecs/``. Decoding exists here too, because an ELEMENT server publishes
decoded readings next to the raw packets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

type Value = float | int | bool
type Values = Mapping[str, Value]


class PayloadError(Exception):
    """A payload cannot be decoded; the message says why."""


class Format(Protocol):
    """A binary payload format. ``device_id`` is the 16-bit number some vendors put into every frame."""

    def pack(self, values: Values, device_id: int) -> bytes:
        """The payload for decoded field values; out of range values are clipped to what the format can say."""
        ...

    def unpack(self, payload: bytes) -> dict[str, Value]:
        """The decoded field values. Raises PayloadError."""
        ...


_RANGES = {"B": (0, 0xFF), "H": (0, 0xFFFF), "h": (-0x8000, 0x7FFF), "I": (0, 0xFFFF_FFFF)}


@dataclass(frozen=True, slots=True)
class Field:
    """One number in a payload: the raw integer is the value times ``divisor``; ``?`` marks a flag."""

    name: str
    code: str
    divisor: int = 1


class Packed:
    """Our own formats: a marker byte that names format and version, then the fields in order."""

    def __init__(self, marker: int, fields: tuple[Field, ...], *, little_endian: bool = False) -> None:
        self.marker = marker
        self.fields = fields
        codes = "".join("B" if field.code == "?" else field.code for field in fields)
        self._struct = struct.Struct(("<" if little_endian else ">") + "B" + codes)

    def pack(self, values: Values, device_id: int) -> bytes:
        raw: list[int] = [self.marker]
        for field in self.fields:
            value = values[field.name]
            if field.code == "?":
                raw.append(1 if value else 0)
            else:
                low, high = _RANGES[field.code]
                raw.append(min(high, max(low, round(value * field.divisor))))
        return self._struct.pack(*raw)

    def unpack(self, payload: bytes) -> dict[str, Value]:
        if len(payload) != self._struct.size:
            raise PayloadError(f"{len(payload)} bytes instead of {self._struct.size}")
        marker, *raw = self._struct.unpack(payload)
        if marker != self.marker:
            raise PayloadError(f"marker {marker:#04x} instead of {self.marker:#04x}")
        decoded: dict[str, Value] = {}
        for field, number in zip(self.fields, raw, strict=True):
            if field.code == "?":
                decoded[field.name] = number != 0
            else:
                decoded[field.name] = number if field.divisor == 1 else number / field.divisor
        return decoded


class Decentlab:
    """Frame of Decentlab's protocol 2: version, device number, flags, sensor words, battery in millivolts."""

    words = 0

    def sensor_words(self, values: Values) -> list[int]:
        """The 16-bit words of the sensor part."""
        raise NotImplementedError

    def sensor_values(self, words: tuple[int, ...]) -> dict[str, Value]:
        """The decoded fields of the sensor part. Raises PayloadError."""
        raise NotImplementedError

    def pack(self, values: Values, device_id: int) -> bytes:
        words = [min(0xFFFF, max(0, word)) for word in self.sensor_words(values)]
        battery_mv = min(0xFFFF, max(0, round(values["battery_voltage"] * 1000)))
        return struct.pack(f">BHH{self.words + 1}H", 2, device_id, 0b11, *words, battery_mv)

    def unpack(self, payload: bytes) -> dict[str, Value]:
        if len(payload) != 7 + 2 * self.words:
            raise PayloadError(f"{len(payload)} bytes instead of {7 + 2 * self.words}")
        version, device_id, flags, *words = struct.unpack(f">BHH{self.words + 1}H", payload)
        if version != 2 or flags != 0b11:
            raise PayloadError(f"protocol version {version}, flags {flags:#06b}")
        decoded: dict[str, Value] = {"protocol_version": version, "device_id": device_id}
        decoded |= self.sensor_values(tuple(words[:-1]))
        decoded["battery_voltage"] = words[-1] / 1000
        return decoded


class DecentlabSht35(Decentlab):
    """DL-SHT35: air temperature and humidity as the sensor's raw words."""

    words = 2

    def sensor_words(self, values: Values) -> list[int]:
        return [
            round((values["air_temperature"] + 45) * 65535 / 175),
            round(values["air_humidity"] * 65535 / 100),
        ]

    def sensor_values(self, words: tuple[int, ...]) -> dict[str, Value]:
        return {"air_temperature": 175 * words[0] / 65535 - 45, "air_humidity": 100 * words[1] / 65535}


class DecentlabBlg(Decentlab):
    """DL-BLG: black globe temperature as the voltage ratio over a thermistor (Steinhart-Hart coefficients)."""

    words = 2
    a, b, c = 0.0008271111, 0.000208802, 0.000000080592

    def sensor_words(self, values: Values) -> list[int]:
        target = 1 / (values["temperature"] + 273.15)
        log_r = 11.0
        for _ in range(6):  # Newton's method; the curve is nearly straight, so this is exact
            wrong = self.a + self.b * log_r + self.c * log_r**3 - target
            log_r -= wrong / (self.b + 3 * self.c * log_r**2)
        ratio = 1000 / (math.exp(log_r) + 41000)
        raw = round((2 * ratio + 1) * 8388608)
        return [raw & 0xFFFF, raw >> 16]

    def sensor_values(self, words: tuple[int, ...]) -> dict[str, Value]:
        ratio = ((words[0] + words[1] * 65536) / 8388608 - 1) / 2
        if ratio == 0:
            raise PayloadError("voltage ratio is zero")
        resistance = 1000 / ratio - 41000
        if resistance <= 0:
            raise PayloadError("thermistor resistance is not positive")
        log_r = math.log(resistance)
        return {
            "voltage_ratio": ratio,
            "thermistor_resistance": resistance,
            "temperature": 1 / (self.a + self.b * log_r + self.c * log_r**3) - 273.15,
        }


class DecentlabAtm41(Decentlab):
    """DL-ATM41: seventeen words, each with an offset of 32768 and a divisor."""

    fields = (
        ("solar_radiation", 1), ("precipitation", 1000), ("lightning_strike_count", 1),
        ("lightning_average_distance", 1), ("wind_speed", 100), ("wind_direction", 10),
        ("maximum_wind_speed", 100), ("air_temperature", 10), ("vapor_pressure", 100),
        ("atmospheric_pressure", 100), ("relative_humidity", 10), ("sensor_temperature_internal", 10),
        ("x_orientation_angle", 10), ("y_orientation_angle", 10), ("compass_heading", 1),
        ("north_wind_speed", 100), ("east_wind_speed", 100),
    )  # fmt: skip
    words = len(fields)

    def sensor_words(self, values: Values) -> list[int]:
        return [round(values[name] * divisor) + 32768 for name, divisor in self.fields]

    def sensor_values(self, words: tuple[int, ...]) -> dict[str, Value]:
        decoded: dict[str, Value] = {}
        for (name, divisor), word in zip(self.fields, words, strict=True):
            decoded[name] = word - 32768 if divisor == 1 else (word - 32768) / divisor
        return decoded
