"""The library's codecs against answers from outside, and against random bytes."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.intake.codecs.library import LibraryField, library
from quartier.intake.codecs.sandbox import Call, CodecError, CodecPool, Decoded, Encoded

from .conftest import Bench

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
PROPERTIES = {
    "air_temperature", "relative_humidity", "air_pressure", "vapour_pressure", "wind_speed", "wind_direction",
    "wind_gust", "precipitation", "solar_irradiance", "lightning_strikes", "lightning_distance",
    "black_globe_temperature", "battery_voltage", "battery_level", "distance", "water_level", "soil_moisture",
    "soil_temperature",
}  # fmt: skip

# Where the vector's names are not ours: Dragino's own codec mixes spellings and gives a number as text.
DRAGINO = {
    "Bat": "battery_voltage",
    "Distance": "distance",
    "Interrupt_flag": "interrupt_flag",
    "TempC_DS18B20": "probe_temperature",
    "Sensor_flag": "sensor_flag",
}


def read_json(path: str) -> Any:
    if not (DATA / path).exists():
        pytest.skip(f"the reference data ../shared/data/{path} is not on this machine")
    return json.loads((DATA / path).read_text())


@pytest.mark.parametrize(
    "key",
    ["decentlab-dl-atm41", "decentlab-dl-blg", "decentlab-dl-mbx", "dragino-ldds75", "milesight-em300-th"],
)
async def test_payload_vectors(pool: CodecPool, key: str) -> None:
    """chirpstack/chirpstack-device-profiles, MIT."""
    vectors = read_json(f"payload-vectors/{key}.json")
    calls = [Call(bytes(vector["input"]["bytes"]), vector["input"].get("fPort")) for vector in vectors]
    expected = []
    for vector in vectors:
        fields = {
            name: value["value"] if isinstance(value, dict) else value
            for name, value in vector["expected"]["data"].items()
        }
        if key == "dragino-ldds75":
            fields = {DRAGINO[name]: float(value) for name, value in fields.items()}
        expected.append(Decoded(fields))
    assert await pool.decode(library()[key].script, calls) == expected


async def test_raw_packets_of_a_dortmund_station(pool: CodecPool) -> None:
    """RUBclim/element-iot-api, MIT: raw packets of DEC0054A6 and what ELEMENT's own parser made of them."""
    packets = read_json("element-iot/packets_by_device_DEC0054A6.json")["body"]
    readings = {
        reading["packet_id"]: reading["data"]
        for reading in read_json("element-iot/readings_DEC0054A6_no_data.json")["body"]
    }
    calls = [Call(bytes.fromhex(packet["payload"]), packet["meta"]["frame_port"]) for packet in packets]
    results = await pool.decode(library()["decentlab-dl-sht35"].script, calls)
    assert results == [Decoded(readings[packet["id"]]) for packet in packets]
    newest = results[0]
    assert isinstance(newest, Decoded)
    assert [round(newest.data[name], 2) for name in ("air_temperature", "air_humidity", "battery_voltage")] == [
        35.35, 38.17, 3.1,
    ]  # fmt: skip


async def test_globe_temperature_of_a_dortmund_station(pool: CodecPool) -> None:
    """RUBclim/d2r-api, MIT: ratio, resistance and temperature of a DL-BLG; the words are made from the ratio."""
    path = DATA / "dortmund-climate/BLG_DEC005491_raw_data.csv"
    if not path.exists():
        pytest.skip("the reference data ../shared/data/dortmund-climate is not on this machine")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    calls = []
    for row in rows:
        counts = round((2 * float(row["voltage_ratio"]) + 1) * 8388608)
        words = ((counts & 0xFFFF) << 16 | counts >> 16).to_bytes(4)
        calls.append(
            Call(b"\x02\x00\x01\x00\x03" + words + round(float(row["battery_voltage"]) * 1000).to_bytes(2), 1)
        )
    results = await pool.decode(library()["decentlab-dl-blg"].script, calls)
    assert len(results) == len(rows) > 0
    for row, result in zip(rows, results, strict=True):
        assert isinstance(result, Decoded)
        for column, name in {
            "voltage_ratio": "voltage_ratio",
            "thermistor_resistance": "thermistor_resistance",
            "black_globe_temperature": "temperature",
            "battery_voltage": "battery_voltage",
        }.items():
            assert math.isclose(result.data[name], float(row[column]), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("key", "payload", "expected"),
    [
        # From the vendors' own descriptions (docs/codecs.md names them).
        ("cayenne-lpp", "03670110056700ff", Decoded({"temperature_3": 27.2, "temperature_5": 25.5})),
        ("cayenne-lpp", "0167ffd7067104d2fb2e0000", Decoded(
            {"temperature_1": -4.1, "accelerometer_x_6": 1.234, "accelerometer_y_6": -1.234, "accelerometer_z_6": 0})),
        ("cayenne-lpp", "018806765ff2960a0003e8", Decoded(
            {"latitude_1": 42.3519, "longitude_1": -87.9094, "gps_altitude_1": 10})),
        ("cayenne-lpp", "01687302732776", Decoded({"relative_humidity_1": 57.5, "barometric_pressure_2": 1010.2})),
        ("cayenne-lpp", "01030064020201f4", Decoded({"analog_out_1": 1, "analog_in_2": 5})),
        ("milesight-em300-th", "01756403671001046871", Decoded(
            {"battery_level": 100, "temperature": 27.2, "humidity": 56.5})),
        ("milesight-em300-th", "ff0101ff090100ff0a0102ff0f00ff166785c38226020003", Decoded({"protocol_version": 1})),
        ("dragino-ldds75", "0d4a001400fff601", Decoded(
            {"battery_voltage": 3.402, "interrupt_flag": 0, "probe_temperature": -1, "sensor_flag": 1},
            ("no distance: the sensor gave no valid echo",))),
        # Ours: the sign of temperatures, what is cut off, what is broken.
        ("milesight-em300-th", "0367ffff", Decoded({"temperature": -0.1})),
        ("milesight-em300-th", "0468710367ff", Decoded(
            {"humidity": 56.5}, ("stopped at the unknown or cut off channel 0367",))),
        ("milesight-em300-th", "20ce74694663100193046850", Decoded(
            {"humidity": 40}, ("1 stored measurements of earlier times were not read",))),
        ("milesight-em300-th", "0999", CodecError("codec_reported", "the last channel is cut off")),
        ("cayenne-lpp", "036701100a", Decoded(
            {"temperature_3": 27.2}, ("channel 10 is cut off",))),
        ("cayenne-lpp", "036701100a99", Decoded(
            {"temperature_3": 27.2}, ("stopped at the unknown type 153 of channel 10",))),
        ("cayenne-lpp", "0367", CodecError("codec_reported", "channel 3 is cut off")),
        ("decentlab-dl-blg", "020001000100000080", Decoded(
            {"protocol_version": 2, "device_id": 1, "voltage_ratio": 0},
            ("no temperature: the thermistor is not connected or broken",))),
        ("decentlab-dl-sht35", "0254a60002", CodecError("codec_reported", "the message ends after 5 of 7 bytes")),
        ("decentlab-dl-sht35", "0154a600020c17", CodecError(
            "codec_reported", "not a Decentlab message of protocol version 2")),
        ("dragino-ldds75", "0d", CodecError("codec_reported", "a measurement has 8 bytes, this has 1")),
    ],
)  # fmt: skip
async def test_known_answers(pool: CodecPool, key: str, payload: str, expected: Decoded | CodecError) -> None:
    codec = library()[key]
    assert await pool.decode(codec.script, [Call(bytes.fromhex(payload), codec.example_port)]) == [expected]


async def test_milesight_reporting_interval(pool: CodecPool) -> None:
    """Milesight's user guide: ff 03 b0 04 is 1200 s."""
    script = library()["milesight-em300-th"].script
    downlink = await pool.encode_downlink(script, {"reporting_interval_s": 1200})
    assert downlink == Encoded(b"\xff\x03\xb0\x04", 85)
    assert await pool.decode_downlink(script, Call(b"\xff\x03\xb0\x04", 85)) == Decoded(
        {"reporting_interval_s": 1200}
    )
    assert await pool.encode_downlink(script, {"reporting_interval_s": 0}) == CodecError(
        "codec_reported", "reporting_interval_s must be a whole number from 1 to 65535"
    )


@pytest.mark.parametrize("key", library())
async def test_head_describes_every_field(pool: CodecPool, key: str) -> None:
    codec = library()[key]
    assert set(codec.title) == {"de", "en"}
    [result] = await pool.decode(codec.script, [Call(codec.example_payload, codec.example_port)])
    assert isinstance(result, Decoded)
    assert result.warnings == ()
    assert result.data
    assert [name for name in result.data if codec.field(name) is None] == []
    assert {field.property for field in codec.fields.values() if field.property} <= PROPERTIES
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*\*?", name) for name in codec.fields)


def test_field_by_channel() -> None:
    codec = library()["cayenne-lpp"]
    assert codec.field("temperature_3") == LibraryField("air_temperature", "Cel")
    assert codec.field("unknown_3") is None
    assert library()["decentlab-dl-atm41"].field("air_temperature_3") is None


@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=50), port=st.none() | st.integers(1, 223))
def test_random_bytes_give_numbers_or_a_reason(bench: Bench, payload: bytes, port: int | None) -> None:
    for codec in library().values():
        # Also with a head that gets past the first check.
        for message in (payload, b"\x02" + payload, b"\x02\x00\x01\x00\x03" + payload):
            result = bench.decode(codec.script, message, port)
            if isinstance(result, CodecError):
                assert result.reason == "codec_reported", (codec.key, message, result)
            else:
                assert not any("null in its place" in warning for warning in result.warnings)
                for name, value in result.data.items():
                    assert type(value) in (int, float), (codec.key, name, value)
                    assert codec.field(name) is not None
