"""ELEMENT's packets and readings become uplinks; the recorded ones are a real server's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.element import EUI_HEADER, NAME_HEADER, parse
from tests.sources.messages import raw, recorded

PACKET: dict[str, Any] = {
    "device_id": "0126d246-05e1-43c7-a0df-3765cf982022",
    "id": "89bdf402-994d-463d-a97d-721576f46fa2",
    "packet_type": "up",
    "payload": "0254A6",
    "payload_encoding": "binary",
    "transceived_at": "2024-08-13T13:11:04.070758Z",
    "inserted_at": "2024-08-13T13:11:04.080107Z",
    "meta": {"frame_count_up": 1491, "frame_port": 1, "gateway_stats": [{"rssi": -77, "snr": 10.0}]},
}
HEADERS = {EUI_HEADER: "70b3d57ba00054a6", NAME_HEADER: "DEC0054A6"}


def _parse(content: Any, *, headers: dict[str, str] | None = None) -> list[Uplink]:
    return list(parse(raw("element", content, headers=headers or {}), {}))


def test_recorded_packet_gives_payload_and_best_reception() -> None:
    packets = json.loads(recorded("packets_by_device_DEC0054A6.json"))["body"]
    assert [_parse(packet, headers=HEADERS) for packet in packets] == [
        [
            Uplink(
                external_id="70b3d57ba00054a6",
                received_at=datetime(2024, 8, 13, 13, 11, 4, 70758, UTC),
                payload=bytes.fromhex("0254A60003758A61B80C17"),
                frame_counter=1491,
                port=1,
                rssi_dbm=-77,
                snr_db=10.0,
                gateways=2,
                device_name="DEC0054A6",
            )
        ],
        [
            Uplink(
                external_id="70b3d57ba00054a6",
                received_at=datetime(2024, 8, 13, 13, 6, 3, 622052, UTC),
                payload=bytes.fromhex("0254A60003783F596E0C17"),
                frame_counter=1490,
                port=1,
                rssi_dbm=-69,
                snr_db=9.2,
                gateways=4,
                device_name="DEC0054A6",
            )
        ],
    ]


def test_recorded_reading_gives_the_decoded_fields() -> None:
    (reading,) = json.loads(recorded("readings_DEC0054A6.json"))["body"]
    assert _parse(reading) == [
        Uplink(
            # Without the device list ELEMENT's own id must do.
            external_id="0126d246-05e1-43c7-a0df-3765cf982022",
            received_at=datetime(2024, 6, 6, 13, 49, 41, 968992, UTC),
            fields={
                "air_humidity": 46.93369954985885,
                "air_temperature": 22.703517204547182,
                "battery_voltage": 3.132,
                "device_id": 21670,
                "protocol_version": 2,
            },
        )
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"packet_type": "down"},
        {"is_meta": True},
        {"skip_parsers": True},
        {"payload": None},
        {"payload": ""},
        {"payload": "AA", "payload_encoding": "none"},
    ],
)
def test_packets_without_a_measurement_carry_no_reading(changes: dict[str, Any]) -> None:
    assert _parse({**PACKET, **changes}) == []


@pytest.mark.parametrize(
    ("changes", "payload", "fields"),
    [
        ({"payload": {"t": 1}, "payload_encoding": "json", "meta": "freeform"}, None, {"t": 1}),
        ({"payload": "21,5", "payload_encoding": "utf8", "meta": None}, b"21,5", None),
    ],
)
def test_other_encodings(
    changes: dict[str, Any], payload: bytes | None, fields: dict[str, Any] | None
) -> None:
    (uplink,) = _parse({**PACKET, **changes})
    assert (uplink.payload, uplink.fields, uplink.frame_counter) == (payload, fields, None)


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b'{"device_id": "x", "payload": "02', "not_json", "Input data was truncated"),
        ({**PACKET, "device_id": ""}, "missing_field", "device_id"),
        ({**PACKET, "payload": "0254A"}, "bad_payload", "payload: not hexadecimal"),
        ({**PACKET, "payload": 5}, "bad_payload", "payload: cannot be read as 'binary'"),
        ({**PACKET, "transceived_at": None}, "missing_field", "transceived_at"),
        (
            {**PACKET, "meta": {"frame_count_up": -1}},
            "bad_value",
            "meta.frame_count_up: -1 is no frame counter",
        ),
        ({"device_id": "x", "data": {"t": 1}}, "missing_field", "measured_at"),
    ],
)
def test_bad_document_is_refused_with_the_field(content: Any, reason: str, detail: str) -> None:
    with pytest.raises(MessageError) as caught:
        _parse(content)
    assert (caught.value.reason, caught.value.detail) == (reason, detail)
