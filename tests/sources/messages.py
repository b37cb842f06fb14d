"""Messages as the outside systems send them, for the tests of parsers, connectors and doors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from quartier.intake.inbox import RawMessage

ARRIVED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "element-iot"

# Shape and values of the `up` event in ChirpStack's documentation (integrations/events), with two gateways.
CHIRPSTACK_UP: dict[str, Any] = {
    "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
    "time": "2022-07-18T09:34:15.775023242+00:00",
    "deviceInfo": {
        "tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242",
        "tenantName": "Schwerte",
        "applicationId": "17c82e96-be03-4f38-aef3-f83d48582d97",
        "applicationName": "Klima",
        "deviceProfileId": "14855bf7-d10d-4aee-b618-ebfcb64dc7ad",
        "deviceProfileName": "Station",
        "deviceName": "sw-klima-001",
        "devEui": "A84041FFFF1234AB",
        "tags": {"place": "Markt"},
    },
    "devAddr": "00189440",
    "adr": True,
    "dr": 1,
    "fCnt": 4,
    "fPort": 1,
    "data": "qg==",
    "rxInfo": [
        {"gatewayId": "0016c001f153a14c", "uplinkId": 4217106255, "rssi": -110, "snr": 10.5},
        {"gatewayId": "e45f01fffe7da7a8", "uplinkId": 4217106256, "rssi": -36, "snr": -2.5},
    ],
    "txInfo": {"frequency": 867100000, "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 11}}},
}
CHIRPSTACK_TOPIC = "application/17c82e96-be03-4f38-aef3-f83d48582d97/device/a84041ffff1234ab/event/up"

# Shape of The Things Stack's documentation (integrations/data-formats); zero, false and empty fields are absent there.
TTS_UP: dict[str, Any] = {
    "end_device_ids": {
        "device_id": "eui-0004a30b001c0530",
        "application_ids": {"application_id": "klima"},
        "dev_eui": "0004A30B001C0530",
        "join_eui": "800000000000000C",
        "dev_addr": "00BCB929",
    },
    "correlation_ids": ["as:up:01E0WZGT6Y7657CPFPE5WEYDSQ"],
    "received_at": "2020-02-12T15:15:45.787Z",
    "uplink_message": {
        "session_key_id": "AXA50tHUaucJvZ+RKzHCKg==",
        "f_cnt": 35,
        "f_port": 15,
        "frm_payload": "gkHe",
        "decoded_payload": {"temperature": 21.5, "open": False},
        "rx_metadata": [
            {"gateway_ids": {"gateway_id": "g1", "eui": "9C5C8E00001A05C4"}, "rssi": -35, "snr": 5.2},
            {"gateway_ids": {"gateway_id": "g2", "eui": "9C5C8E00001A05C5"}, "rssi": -101},
        ],
        "received_at": "2020-02-12T15:15:45.500182391Z",
        "last_battery_percentage": {"f_cnt": 30, "value": 94.5, "received_at": "2020-02-12T14:00:00Z"},
    },
}

# The body in the comment of openSenseMap's handler for sensor.community boxes, with what the firmware adds.
SENSOR_COMMUNITY: dict[str, Any] = {
    "esp8266id": "1234567",
    "software_version": "NRZ-2024-135",
    "sensordatavalues": [
        {"value_type": "SDS_P1", "value": "5.38"},
        {"value_type": "SDS_P2", "value": "4.98"},
        {"value_type": "temperature", "value": "25.90"},
        {"value_type": "BME280_temperature", "value": "24.98"},
        {"value_type": "BME280_humidity", "value": "45.20"},
        {"value_type": "BME280_pressure", "value": "101325.0"},
        {"value_type": "PMS_N10", "value": "3.1"},
        {"value_type": "samples", "value": "5042163"},
        {"value_type": "min_micro", "value": "28"},
        {"value_type": "signal", "value": "-67"},
    ],
}


def raw(
    kind: str, content: Any, *, topic: str = "", headers: dict[str, str] | None = None, source: str = "test"
) -> RawMessage:
    """A raw message; ``content`` is JSON unless it is bytes."""
    return RawMessage(
        municipality="musterstadt",
        source=source,
        kind=kind,
        received_at=ARRIVED,
        body=content if isinstance(content, bytes) else json.dumps(content).encode(),
        topic=topic,
        headers=headers or {},
    )


def recorded(name: str) -> bytes:
    """A recorded answer of a real ELEMENT IoT server; skips the test where the recordings are not at hand."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the recorded answer {name} is not in ../shared/data/element-iot")
    return path.read_bytes()
