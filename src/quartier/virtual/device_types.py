"""The types of virtual devices: payload format, codec, and what each decoded field means.

``mapping`` is what an operator enters once per type on the desk: decoded field, property of Quartier, unit (UCUM).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from .payloads import DecentlabAtm41, DecentlabBlg, DecentlabSht35, Field, Format, Packed


@dataclass(frozen=True, slots=True)
class Mapping:
    """A decoded field, the property it measures, and the UCUM unit in which the field is given."""

    field: str
    property: str
    unit: str


@dataclass(frozen=True, slots=True)
class DeviceType:
    """A model of device. ``codec`` is a key of the codec library, or the name of a file in ``codecs/``."""

    key: str
    name: str
    manufacturer: str
    codec: str
    f_port: int
    interval_s: int
    mapping: tuple[Mapping, ...]
    format: Format

    @property
    def own_codec(self) -> bool:
        """Whether the codec is one of the virtual cities' own."""
        return self.codec.startswith("virtual-")


OURS = "Virtuelle Stadt"
BATTERY = Mapping("battery_voltage", "battery_voltage", "V")

_TYPES = (
    DeviceType(
        key="decentlab-dl-sht35", name="DL-SHT35", manufacturer="Decentlab", codec="decentlab-dl-sht35",
        f_port=1, interval_s=300, format=DecentlabSht35(),
        mapping=(
            Mapping("air_temperature", "air_temperature", "Cel"),
            Mapping("air_humidity", "relative_humidity", "%"),
            BATTERY,
        ),
    ),
    DeviceType(
        key="decentlab-dl-atm41", name="DL-ATM41", manufacturer="Decentlab", codec="decentlab-dl-atm41",
        f_port=1, interval_s=300, format=DecentlabAtm41(),
        mapping=(
            Mapping("air_temperature", "air_temperature", "Cel"),
            Mapping("relative_humidity", "relative_humidity", "%"),
            Mapping("atmospheric_pressure", "air_pressure", "kPa"),
            Mapping("vapor_pressure", "vapour_pressure", "kPa"),
            Mapping("wind_speed", "wind_speed", "m/s"),
            Mapping("wind_direction", "wind_direction", "deg"),
            Mapping("maximum_wind_speed", "wind_gust", "m/s"),
            Mapping("precipitation", "precipitation", "mm"),
            Mapping("solar_radiation", "solar_irradiance", "W/m2"),
            Mapping("lightning_strike_count", "lightning_strikes", "1"),
            Mapping("lightning_average_distance", "lightning_distance", "km"),
            BATTERY,
        ),
    ),
    DeviceType(
        key="decentlab-dl-blg", name="DL-BLG", manufacturer="Decentlab", codec="decentlab-dl-blg",
        f_port=1, interval_s=300, format=DecentlabBlg(),
        mapping=(Mapping("temperature", "black_globe_temperature", "Cel"), BATTERY),
    ),
    DeviceType(
        key="virtual-climate", name="Klimafühler", manufacturer=OURS, codec="virtual-climate",
        f_port=10, interval_s=300,
        format=Packed(0x11, (Field("temperature", "h", 100), Field("humidity", "H", 100),
                             Field("battery", "H", 1000))),
        mapping=(
            Mapping("temperature", "air_temperature", "Cel"),
            Mapping("humidity", "relative_humidity", "%"),
            Mapping("battery", "battery_voltage", "V"),
        ),
    ),
    DeviceType(
        key="virtual-weather", name="Wetterstation", manufacturer=OURS, codec="virtual-weather",
        f_port=11, interval_s=300,
        format=Packed(0x12, (
            Field("temperature", "h", 100), Field("humidity", "H", 100), Field("pressure", "H", 10),
            Field("vapour_pressure", "H", 1000), Field("wind_speed", "H", 100), Field("wind_direction", "H", 10),
            Field("wind_gust", "H", 100), Field("rain", "H", 1000), Field("irradiance", "H", 1),
            Field("strikes", "H", 1), Field("strike_distance", "B", 1), Field("battery", "H", 1000),
        )),
        mapping=(
            Mapping("temperature", "air_temperature", "Cel"),
            Mapping("humidity", "relative_humidity", "%"),
            Mapping("pressure", "air_pressure", "hPa"),
            Mapping("vapour_pressure", "vapour_pressure", "kPa"),
            Mapping("wind_speed", "wind_speed", "m/s"),
            Mapping("wind_direction", "wind_direction", "deg"),
            Mapping("wind_gust", "wind_gust", "m/s"),
            Mapping("rain", "precipitation", "mm"),
            Mapping("irradiance", "solar_irradiance", "W/m2"),
            Mapping("strikes", "lightning_strikes", "1"),
            Mapping("strike_distance", "lightning_distance", "km"),
            Mapping("battery", "battery_voltage", "V"),
        ),
    ),
    DeviceType(
        key="virtual-globe", name="Schwarzkugel", manufacturer=OURS, codec="virtual-globe",
        f_port=12, interval_s=300,
        format=Packed(0x13, (Field("globe_temperature", "h", 100), Field("battery", "H", 1000)),
                      little_endian=True),
        mapping=(
            Mapping("globe_temperature", "black_globe_temperature", "Cel"),
            Mapping("battery", "battery_voltage", "V"),
        ),
    ),
    DeviceType(
        key="virtual-level", name="Pegelsonde", manufacturer=OURS, codec="virtual-level",
        f_port=20, interval_s=600,
        format=Packed(0x21, (Field("level", "H", 1000), Field("water_temperature", "h", 10),
                             Field("battery", "B", 1))),
        mapping=(
            Mapping("level", "water_level", "m"),
            Mapping("water_temperature", "water_temperature", "Cel"),
            Mapping("battery", "battery_level", "%"),
        ),
    ),
    DeviceType(
        key="virtual-parking", name="Bodensensor Stellplatz", manufacturer=OURS, codec="virtual-parking",
        f_port=30, interval_s=600,
        format=Packed(0x31, (Field("occupied", "?"), Field("battery", "B", 1))),
        mapping=(Mapping("occupied", "occupied", "1"), Mapping("battery", "battery_level", "%")),
    ),
    DeviceType(
        key="virtual-carpark", name="Zählanlage Parkhaus", manufacturer=OURS, codec="virtual-carpark",
        f_port=31, interval_s=300,
        format=Packed(0x32, (Field("free", "H", 1), Field("capacity", "H", 1))),
        mapping=(Mapping("free", "free_spaces", "1"),),
    ),
    DeviceType(
        key="virtual-waste", name="Füllstandssensor", manufacturer=OURS, codec="virtual-waste",
        f_port=40, interval_s=3600,
        format=Packed(0x41, (Field("fill_level", "B", 1), Field("battery", "B", 1))),
        mapping=(Mapping("fill_level", "fill_level", "%"), Mapping("battery", "battery_level", "%")),
    ),
    DeviceType(
        key="virtual-soil", name="Bodenfeuchtesonde", manufacturer=OURS, codec="virtual-soil",
        f_port=50, interval_s=1800,
        format=Packed(0x51, (Field("moisture", "H", 100), Field("temperature", "h", 100),
                             Field("battery", "B", 1)), little_endian=True),
        mapping=(
            Mapping("moisture", "soil_moisture", "%"),
            Mapping("temperature", "soil_temperature", "Cel"),
            Mapping("battery", "battery_level", "%"),
        ),
    ),
    DeviceType(
        key="virtual-lamp", name="Leuchtensteuerung", manufacturer=OURS, codec="virtual-lamp",
        f_port=60, interval_s=900,
        format=Packed(0x61, (Field("power", "H", 10), Field("dimming", "B", 1), Field("failure", "?"))),
        mapping=(
            Mapping("power", "lamp_power", "W"),
            Mapping("dimming", "lamp_dimming", "%"),
            Mapping("failure", "lamp_failure", "1"),
        ),
    ),
    DeviceType(
        key="virtual-counter", name="Zählgerät", manufacturer=OURS, codec="virtual-counter",
        f_port=70, interval_s=900,
        format=Packed(0x71, (Field("pedestrians", "H", 1), Field("bicycles", "H", 1),
                             Field("battery", "B", 1))),
        mapping=(
            Mapping("pedestrians", "pedestrian_count", "1"),
            Mapping("bicycles", "bicycle_count", "1"),
            Mapping("battery", "battery_level", "%"),
        ),
    ),
    DeviceType(
        key="virtual-load", name="Lastgenerator", manufacturer=OURS, codec="virtual-load",
        f_port=99, interval_s=60,
        format=Packed(0x99, tuple(Field(f"channel_{n}", "h", 100) for n in range(10))),
        mapping=tuple(
            Mapping(f"channel_{n}", name, unit) for n, (name, unit) in enumerate((
                ("air_temperature", "Cel"), ("relative_humidity", "%"), ("wind_speed", "m/s"),
                ("wind_gust", "m/s"), ("precipitation", "mm"), ("water_level", "m"),
                ("water_temperature", "Cel"), ("soil_moisture", "%"), ("soil_temperature", "Cel"),
                ("battery_voltage", "V"),
            ))
        ),
    ),
)  # fmt: skip

DEVICE_TYPES: dict[str, DeviceType] = {kind.key: kind for kind in _TYPES}


@cache
def codec_source(name: str) -> str:
    """JavaScript (TS013 ``decodeUplink``) of one of our own codecs, by ``DeviceType.codec``. Raises KeyError."""
    if not any(kind.codec == name and kind.own_codec for kind in _TYPES):
        raise KeyError(name)
    return resources.files("quartier.virtual").joinpath(f"codecs/{name}.js").read_text()
