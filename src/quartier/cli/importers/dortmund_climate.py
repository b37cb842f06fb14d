"""Dortmund's climate network (Data2Resilience): its stations, its snapshot and raw readings of its devices.

The files are those that the network's own interface hands out. What is odd about them, and what we make of
it:

- The snapshot repeats position and altitude of the station in every row. The list of stations counts; a row
  that stands more than 100 m from its station has been mixed up and is refused.
- A station may come several times, with different times; each row is a reading.
- Raw files state pressure and vapour pressure in kPa, the snapshot the pressure in hPa.
- A value that the device could not measure is written as the largest or smallest number of its word (Decentlab,
  payload of protocol version 2); such a cell is a gap and no reading. A pressure of 0 hPa is a reading that
  quality control will flag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import cos, hypot, radians
from pathlib import Path
from typing import NamedTuple

from quartier.cli.importers.table import (
    ImportedReading,
    ImportedThing,
    ImportFileError,
    OnError,
    RowError,
    header_of,
    read_table,
)

_STATION_TYPES = ("temprh", "biomet", "double")
_FARTHEST_M = 100.0


class _Column(NamedTuple):
    column: str
    property_slug: str
    unit: str
    gaps: tuple[float, ...] = ()


def _word(digits: int) -> tuple[float, float]:
    """What an unmeasured 16-bit word becomes after scaling by a power of ten."""
    return (-32768 / 10**digits, 32767 / 10**digits)


_SNAPSHOT = (
    _Column("air_temperature", "air_temperature", "Cel"),
    _Column("relative_humidity", "relative_humidity", "%"),
    _Column("atmospheric_pressure", "air_pressure", "hPa"),
)
_BATTERY = _Column("battery_voltage", "battery_voltage", "V")
# By the column that only this type of device has.
_RAW: dict[str, tuple[_Column, ...]] = {
    "solar_radiation": (  # DL-ATM41
        _Column("air_temperature", "air_temperature", "Cel", _word(1)),
        _Column("relative_humidity", "relative_humidity", "%", _word(1)),
        _Column("atmospheric_pressure", "air_pressure", "kPa", _word(2)),
        _Column("vapor_pressure", "vapour_pressure", "kPa", _word(2)),
        _Column("wind_speed", "wind_speed", "m/s", _word(2)),
        _Column("wind_direction", "wind_direction", "deg", _word(1)),
        _Column("maximum_wind_speed", "wind_gust", "m/s", _word(2)),
        _Column("precipitation_sum", "precipitation", "mm", _word(3)),
        _Column("solar_radiation", "solar_irradiance", "W/m2", _word(0)),
        _Column("lightning_average_distance", "lightning_distance", "km", _word(0)),
        _Column("lightning_strike_count", "lightning_strikes", "1", _word(0)),
        _BATTERY,
    ),
    "black_globe_temperature": (  # DL-BLG
        _Column("black_globe_temperature", "black_globe_temperature", "Cel"),
        _BATTERY,
    ),
    "air_temperature": (  # DL-SHT35; the sensor's own range ends at −45 and 130 °C, 0 %
        _Column("air_temperature", "air_temperature", "Cel", (-45.0, 130.0)),
        _Column("relative_humidity", "relative_humidity", "%", (0.0,)),
        _BATTERY,
    ),
}


def stations(path: Path, on_error: OnError) -> Iterator[ImportedThing]:
    """The stations of ``stations.csv``, keyed by their id in lower case."""
    columns = (
        "station_id",
        "long_name",
        "station_type",
        "latitude",
        "longitude",
        "altitude",
        "street",
        "number",
        "plz",
        "district",
        "leuchtennummer",
    )
    seen: set[str] = set()
    for row in read_table(path, columns, on_error):
        try:
            key = row.text("station_id").lower()
            if key in seen:
                raise row.error("station_id", f"{row.text('station_id')} comes twice")
            latitude, longitude = row.number("latitude"), row.number("longitude")
            if abs(latitude) > 90:
                raise row.error("latitude", f"{latitude:g} is not a latitude")
            if abs(longitude) > 180:
                raise row.error("longitude", f"{longitude:g} is not a longitude")
            station_type = row.text("station_type")
            if station_type not in _STATION_TYPES:
                raise row.error("station_type", f"{station_type!r} is none of {', '.join(_STATION_TYPES)}")
            properties = {"station_type": station_type}
            if lamp := row.text("leuchtennummer", required=False):
                properties["lamp_number"] = lamp
            thing = ImportedThing(
                key=key,
                name=row.text("long_name"),
                kind="station",
                longitude=longitude,
                latitude=latitude,
                altitude_m=row.optional_number("altitude"),
                street=row.text("street", required=False),
                house_number=row.text("number", required=False),
                postcode=row.text("plz", required=False),
                district=row.text("district", required=False),
                properties=properties,
            )
        except RowError as error:
            on_error(error)
            continue
        seen.add(key)
        yield thing


def snapshot(path: Path, known: Mapping[str, ImportedThing], on_error: OnError) -> Iterator[ImportedReading]:
    """The readings of ``data.csv``; ``known`` are the stations by key."""
    columns = ("measured_at", "station_id", "longitude", "latitude", *(item.column for item in _SNAPSHOT))
    for row in read_table(path, columns, on_error):
        try:
            key = row.text("station_id").lower()
            station = known.get(key)
            if station is None:
                raise row.error("station_id", f"{row.text('station_id')} is not in the list of stations")
            distance_m = _distance_m(station, row.number("longitude"), row.number("latitude"))
            if distance_m > _FARTHEST_M:
                raise row.error(
                    "longitude", f"the row stands {distance_m:.0f} m from {station.name} ({station.key})"
                )
            time = row.time("measured_at")
        except RowError as error:
            on_error(error)
            continue
        for item in _SNAPSHOT:
            try:
                value = row.optional_number(item.column)
            except RowError as error:
                on_error(error)
                continue
            if value is not None:
                yield ImportedReading(key, item.property_slug, item.unit, time, value)


def raw(path: Path, on_error: OnError, *, thing_key: str | None = None) -> Iterator[ImportedReading]:
    """The raw readings of one device (DL-ATM41, DL-BLG or DL-SHT35, told by the header).

    They belong to ``thing_key``, or to a thing named like the device if no key is given.
    """
    header = header_of(path)
    items = next((items for only, items in _RAW.items() if only in header), None)
    if items is None:
        raise ImportFileError(f"{path}: the header is that of no known device")
    columns = ("measured_at", "sensor_id", *(item.column for item in items))
    for row in read_table(path, columns, on_error):
        try:
            key, time = thing_key or row.text("sensor_id").lower(), row.time("measured_at")
        except RowError as error:
            on_error(error)
            continue
        for item in items:
            try:
                value = row.optional_number(item.column)
            except RowError as error:
                on_error(error)
                continue
            if value is not None and value not in item.gaps:
                yield ImportedReading(key, item.property_slug, item.unit, time, value)


def _distance_m(station: ImportedThing, longitude: float, latitude: float) -> float:
    """Distance on a plane, which is exact enough within one city."""
    metres_per_degree = 111_195.0
    east = (longitude - station.longitude) * cos(radians(station.latitude))
    return metres_per_degree * hypot(east, latitude - station.latitude)
