"""Dortmund's climate network: invented rows for every oddity, and the real files."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from quartier.cli.importers import ImportedReading, ImportedThing, ImportFileError, RowError
from quartier.cli.importers.dortmund_climate import raw, snapshot, stations
from quartier.twin.properties import catalogue
from quartier.twin.units import convert

REAL = Path(__file__).parents[4] / "shared" / "data" / "dortmund-climate"
needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason="../shared/data/dortmund-climate is not on this machine"
)

STATIONS_HEADER = (
    "station_id,long_name,station_type,latitude,longitude,altitude,street,number,plz,city,country,district,"
    "leuchtennummer\n"
)
SNAPSHOT_HEADER = (
    "measured_at,station_id,longitude,latitude,altitude,"
    "relative_humidity,atmospheric_pressure,air_temperature\n"
)
WELL = ImportedThing(
    key="dotwel", name="Brunnen", kind="station", longitude=7.46, latitude=51.51, altitude_m=90.0
)


def write(folder: Path, content: str) -> Path:
    path = folder / "file.csv"
    path.write_text(content, encoding="utf-8")
    return path


def test_stations(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        STATIONS_HEADER
        + 'DOTWEL,"Brunnen, Platz",temprh,51.51,7.46,90.5,Am Markt,3 a,44135,Dortmund,Germany,Mitte,13\n'
        + "DOBNEW,Neu,biomet,51.5,7.5,,,,,Dortmund,Germany,,\n"
        + "DOTWEL,Noch einmal,temprh,51.51,7.46,90.5,,,,,,,\n"
        + "DOTNOR,Norden,temprh,north,7.46,90.5,,,,,,,\n"
        + "DOTFAR,Fern,temprh,151.51,7.46,90.5,,,,,,,\n"
        + "DOTODD,Seltsam,radar,51.51,7.46,90.5,,,,,,,\n",
    )
    errors: list[RowError] = []
    assert list(stations(path, errors.append)) == [
        ImportedThing(
            key="dotwel",
            name="Brunnen, Platz",
            kind="station",
            longitude=7.46,
            latitude=51.51,
            altitude_m=90.5,
            street="Am Markt",
            house_number="3 a",
            postcode="44135",
            district="Mitte",
            properties={"station_type": "temprh", "lamp_number": "13"},
        ),
        ImportedThing(
            key="dobnew",
            name="Neu",
            kind="station",
            longitude=7.5,
            latitude=51.5,
            properties={"station_type": "biomet"},
        ),
    ]
    assert [str(error) for error in errors] == [
        "file.csv, line 4, column station_id: DOTWEL comes twice",
        "file.csv, line 5, column latitude: 'north' is not a number",
        "file.csv, line 6, column latitude: 151.51 is not a latitude",
        "file.csv, line 7, column station_type: 'radar' is none of temprh, biomet, double",
    ]


def test_snapshot(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        SNAPSHOT_HEADER
        + "2025-04-06 09:48:00+00:00,DOTWEL,7.4601,51.5101,90,32.6,0,7.9\n"
        + "2025-04-06 09:49:00+00:00,DOTWEL,7.46,51.51,90,32.7,,warm\n"
        + "2025-04-06 09:50:00+00:00,DOTWEL,7.48,51.51,90,32.6,1013.6,7.9\n"
        + "2025-04-06 09:51:00+00:00,DOTXXX,7.46,51.51,90,32.6,1013.6,7.9\n",
    )
    errors: list[RowError] = []
    first = datetime(2025, 4, 6, 9, 48, tzinfo=UTC)
    assert list(snapshot(path, {"dotwel": WELL}, errors.append)) == [
        ImportedReading("dotwel", "air_temperature", "Cel", first, 7.9),
        ImportedReading("dotwel", "relative_humidity", "%", first, 32.6),
        ImportedReading("dotwel", "air_pressure", "hPa", first, 0.0),
        ImportedReading("dotwel", "relative_humidity", "%", first.replace(minute=49), 32.7),
    ]
    assert [str(error) for error in errors] == [
        "file.csv, line 3, column air_temperature: 'warm' is not a number",
        "file.csv, line 4, column longitude: the row stands 1384 m from Brunnen (dotwel)",
        "file.csv, line 5, column station_id: DOTXXX is not in the list of stations",
    ]


def test_unmeasured_words_are_gaps(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "measured_at,sensor_id,air_temperature,relative_humidity,battery_voltage\n"
        "2024-09-10 05:20:17+00,DEC1,-45,0,3.05\n"
        "2024-09-10 05:25:17+00,DEC1,12.5,85,3.05\n",
    )
    errors: list[RowError] = []
    assert [(r.property_slug, r.value) for r in raw(path, errors.append)] == [
        ("battery_voltage", 3.05),
        ("air_temperature", 12.5),
        ("relative_humidity", 85.0),
        ("battery_voltage", 3.05),
    ]
    assert errors == []


def test_raw_of_unknown_device(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="the header is that of no known device"):
        list(raw(write(tmp_path, "measured_at,sensor_id,co2\n"), lambda _: None))


def test_raw_of_known_device_without_its_columns(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="the header has no column battery_voltage"):
        list(raw(write(tmp_path, "measured_at,sensor_id,black_globe_temperature\n"), lambda _: None))


@needs_real_files
def test_real_stations() -> None:
    errors: list[RowError] = []
    found = list(stations(REAL / "stations.csv", errors.append))
    assert errors == []
    assert len(found) == 77
    assert Counter(station.properties["station_type"] for station in found) == {
        "temprh": 52,
        "biomet": 21,
        "double": 4,
    }
    assert all(7.3 < s.longitude < 7.65 and 51.4 < s.latitude < 51.6 for s in found)
    assert all(s.altitude_m is not None and 50 < s.altitude_m < 240 for s in found)


@needs_real_files
def test_real_snapshot() -> None:
    errors: list[RowError] = []
    known = {station.key: station for station in stations(REAL / "stations.csv", errors.append)}
    found = list(snapshot(REAL / "data.csv", known, errors.append))
    # One row carries the values and the place of Friedensplatz under the name of another station.
    assert [str(error) for error in errors] == [
        "data.csv, line 61, column longitude: the row stands 1580 m from Innenstadt-West (dotads)"
    ]
    assert Counter(reading.property_slug for reading in found) == {
        "air_temperature": 59,
        "relative_humidity": 59,
        "air_pressure": 23,
    }
    # What the checks of single values find: the barometer at the Phoenix See, and nothing else.
    implausible = [
        (reading.thing_key, reading.property_slug, reading.value)
        for reading in found
        if not (limits := catalogue()[reading.property_slug].limits).minimum
        <= reading.value
        <= limits.maximum
    ]
    assert implausible == [("dodphx", "air_pressure", 0.0)]


@needs_real_files
@pytest.mark.parametrize(
    ("file", "readings", "properties"),
    [("ATM41_DEC00546D", 48, 12), ("BLG_DEC005491", 8, 2), ("SHT35_DEC0054A4", 12, 3)],
)
def test_real_raw_readings(file: str, readings: int, properties: int) -> None:
    errors: list[RowError] = []
    found = list(raw(REAL / f"{file}_raw_data.csv", errors.append, thing_key="dobhap"))
    assert errors == []
    assert len(found) == readings
    assert len({reading.property_slug for reading in found}) == properties
    assert {reading.thing_key for reading in found} == {"dobhap"}
    for reading in found:
        known = catalogue()[reading.property_slug]
        value = convert(reading.value, reading.unit, known.unit)
        assert known.limits.minimum <= value <= known.limits.maximum


@needs_real_files
def test_real_raw_pressure_is_in_kilopascal() -> None:
    first = next(
        reading
        for reading in raw(REAL / "ATM41_DEC00546D_raw_data.csv", lambda _: None)
        if reading.property_slug == "air_pressure"
    )
    assert first == ImportedReading(
        "dec1", "air_pressure", "kPa", datetime(2024, 9, 10, 5, 18, 52, 21037, UTC), 99.69
    )
