"""Payloads: packed in Python, decoded by the JavaScript codecs, and against known answers of real devices."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import quickjs
from hypothesis import given
from hypothesis import strategies as st

from quartier.virtual.device_types import DEVICE_TYPES, DeviceType, codec_source
from quartier.virtual.payloads import DecentlabAtm41, DecentlabBlg, DecentlabSht35, PayloadError
from quartier.virtual.readings import payload_at, values_at
from quartier.virtual.world import Device, world

CITIES = world(1)
times = st.floats(1.70e9, 1.95e9, allow_nan=False)


@cache
def codec(kind: DeviceType) -> Any:
    """The codec's decodeUplink, taking and returning JSON."""
    if kind.own_codec:
        source = codec_source(kind.codec)
    else:
        source = resources.files("quartier.intake").joinpath(f"codecs/library/{kind.codec}.js").read_text()
    context = quickjs.Context()
    context.eval(source)
    context.eval("function decodeJson(text) { return JSON.stringify(decodeUplink(JSON.parse(text))); }")
    return context.get("decodeJson")


def decoded_by_codec(kind: DeviceType, payload: bytes) -> dict[str, Any]:
    answer = codec(kind)(json.dumps({"bytes": list(payload), "fPort": kind.f_port}))
    result: dict[str, Any] = json.loads(answer)
    return result


@given(time_s=times, device=st.sampled_from(CITIES.devices))
def test_codec_and_python_decode_the_same(time_s: float, device: Device) -> None:
    kind = device.device_type
    payload = payload_at(CITIES, device, time_s)
    expected = kind.format.unpack(payload)
    answer = decoded_by_codec(kind, payload)
    assert not answer.get("errors")
    assert set(answer["data"]) == set(expected)
    for name, value in expected.items():
        # Logarithms of two mathematics libraries may differ in the last bits.
        assert answer["data"][name] == pytest.approx(value, rel=1e-12), name


@given(time_s=times, device=st.sampled_from(CITIES.devices))
def test_decoded_values_are_those_measured(time_s: float, device: Device) -> None:
    measured = values_at(CITIES, device, time_s)
    decoded = device.device_type.format.unpack(payload_at(CITIES, device, time_s))
    for name, value in measured.items():
        assert decoded[name] == pytest.approx(value, abs=0.51 if isinstance(decoded[name], int) else 0.06), (
            name
        )


@given(
    payload=st.binary(max_size=48),
    key=st.sampled_from(sorted(k for k in DEVICE_TYPES if k.startswith("virtual-"))),
)
def test_codec_refuses_what_python_refuses(payload: bytes, key: str) -> None:
    kind = DEVICE_TYPES[key]
    answer = decoded_by_codec(kind, payload)
    try:
        expected = kind.format.unpack(payload)
    except PayloadError:
        assert answer["errors"]
    else:
        assert answer == {"data": expected}


@given(key=st.sampled_from(sorted(k for k in DEVICE_TYPES if k.startswith("virtual-"))), data=st.data())
def test_codec_reads_every_bit_of_a_frame(key: str, data: st.DataObject) -> None:
    kind = DEVICE_TYPES[key]
    device = next((device for device in CITIES.devices if device.type == key), None)
    size = 21 if device is None else len(payload_at(CITIES, device, 1.78e9))
    marker = 0x99 if device is None else payload_at(CITIES, device, 1.78e9)[0]
    payload = bytes([marker]) + data.draw(st.binary(min_size=size - 1, max_size=size - 1))
    assert decoded_by_codec(kind, payload) == {"data": kind.format.unpack(payload)}


def test_every_mapped_field_is_in_the_payload() -> None:
    for device in {device.type: device for device in CITIES.devices}.values():
        fields = device.device_type.format.unpack(payload_at(CITIES, device, 1.78e9))
        assert {mapping.field for mapping in device.device_type.mapping} <= set(fields), device.type


def test_codec_source_of_an_unknown_name() -> None:
    with pytest.raises(KeyError):
        codec_source("decentlab-dl-sht35")


# -- known answers ----------------------------------------------------------------------------------------------


def test_sht35_packet_of_a_real_station(data: Path) -> None:
    """Packet and reading of station DEC0054A6 (RUBclim/element-iot-api, MIT)."""
    packets = json.loads((data / "element-iot" / "packets_by_device_DEC0054A6.json").read_text())["body"]
    readings = json.loads((data / "element-iot" / "readings_DEC0054A6_no_data.json").read_text())["body"]
    by_packet = {reading["packet_id"]: reading["data"] for reading in readings}
    for packet in packets:
        decoded = DecentlabSht35().unpack(bytes.fromhex(packet["payload"]))
        assert decoded == by_packet[packet["id"]]
        assert DecentlabSht35().pack(decoded, int(decoded["device_id"])).hex().upper() == packet["payload"]


@pytest.mark.parametrize(
    ("name", "form"), [("decentlab-dl-atm41", DecentlabAtm41), ("decentlab-dl-blg", DecentlabBlg)]
)
def test_decentlab_vectors(data: Path, name: str, form: type[DecentlabAtm41 | DecentlabBlg]) -> None:
    """Vectors of chirpstack/chirpstack-device-profiles (MIT)."""
    vector = json.loads((data / "payload-vectors" / f"{name}.json").read_text())[0]
    payload = bytes(vector["input"]["bytes"])
    decoded = form().unpack(payload)
    expected = {
        key: value["value"] if isinstance(value, dict) else value
        for key, value in vector["expected"]["data"].items()
    }
    assert decoded == pytest.approx(expected)
    assert form().pack(decoded, int(decoded["device_id"])) == payload


@given(celsius=st.floats(-30, 80))
def test_globe_temperature_survives_the_thermistor(celsius: float) -> None:
    form = DecentlabBlg()
    decoded = form.unpack(form.pack({"temperature": celsius, "battery_voltage": 3.0}, 1))
    assert decoded["temperature"] == pytest.approx(celsius, abs=0.03)
    assert math.isfinite(decoded["thermistor_resistance"])
