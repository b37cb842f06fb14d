"""Our simple JSON, openSenseMap's forms, and sensor.community's."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.intake.parsers import MessageError, Uplink
from quartier.sources import opensensemap, quartier_json, sensorcommunity
from tests.sources.messages import ARRIVED, SENSOR_COMMUNITY, raw

BOX = {"device": "garten"}
NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ELEVEN = datetime(2026, 5, 1, 11, 0, tzinfo=UTC)


def _simple(content: Any, headers: dict[str, str] | None = None) -> list[Uplink]:
    return list(quartier_json.parse(raw("quartier_json", content, headers=headers), {}))


def _box(content: Any, kind: str = "application/json", **headers: str) -> list[Uplink]:
    return list(
        opensensemap.parse(raw("opensensemap", content, headers={**BOX, "content-type": kind, **headers}), {})
    )


def test_simple_form() -> None:
    entry = {
        "device": "garten",
        "time": "2026-05-01T13:00:00+02:00",
        "values": {"air_temperature": {"value": 70, "unit": "[degF]"}, "occupied": True, "pm10": None},
    }
    assert _simple(entry) == [
        Uplink(
            external_id="garten",
            received_at=ARRIVED,
            observed_at=ELEVEN,
            fields={"air_temperature": {"value": 70, "unit": "[degF]"}, "occupied": True},
        )
    ]


def test_simple_form_as_a_list() -> None:
    assert _simple([{"device": "a", "values": {"pm10": 1}}, {"device": "b", "values": {"pm10": 2}}]) == [
        Uplink(external_id="a", received_at=ARRIVED, fields={"pm10": 1}),
        Uplink(external_id="b", received_at=ARRIVED, fields={"pm10": 2}),
    ]


@pytest.mark.parametrize(
    ("content", "observed_at"),
    [
        ({"air_temperature": 21.4}, None),
        ({"values": {"air_temperature": 21.4}}, None),
        ({"time": 1777629600, "values": {"air_temperature": 21.4}}, datetime(2026, 5, 1, 10, 0, tzinfo=UTC)),
    ],
)
def test_simple_form_by_mqtt_names_the_device_in_the_topic(
    content: Any, observed_at: datetime | None
) -> None:
    assert _simple(content, BOX) == [
        Uplink(
            external_id="garten",
            received_at=ARRIVED,
            observed_at=observed_at,
            fields={"air_temperature": 21.4},
        )
    ]


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b'{"device": "a", "values": {"t": NaN}}', "not_json", "JSON is malformed: invalid character"),
        ([], "missing_field", "the list is empty"),
        ("text", "wrong_type", "an object was expected, not text"),
        ({"values": {"t": 1}}, "missing_field", "device"),
        ({"device": 1.5, "values": {"t": 1}}, "wrong_type", "device: a text was expected, not number"),
        ({"device": "a"}, "missing_field", "values"),
        ({"device": "a", "values": [1]}, "wrong_type", "values: an object was expected, not array"),
        ({"device": "a", "values": {}}, "missing_field", "values: no values"),
        (
            {"device": "a", "values": {"t": [1]}},
            "wrong_type",
            "values.t: a number or text was expected, not array",
        ),
        ({"device": "a", "values": {"t": {"unit": "Cel"}}}, "missing_field", "values.t.value"),
        (
            {"device": "a", "values": {"t": {"value": 1, "unit": 5}}},
            "wrong_type",
            "values.t.unit: a text was expected",
        ),
        ({"device": "a", "values": {"t": 1}, "time": "noon"}, "bad_time", "time: 'noon' is not a time"),
        ({"device": "a", "values": {"t": 1}, "colour": 1}, "unknown_field", "colour"),
        ([{"device": "a", "values": {"t": 1}}, {"device": "b"}], "missing_field", "[1].values"),
        ([{}] * 1001, "too_large", "1001 entries; at most 1000 are taken"),
    ],
)
def test_bad_simple_form_is_refused_with_the_field(content: Any, reason: str, detail: str) -> None:
    with pytest.raises(MessageError) as caught:
        _simple(content)
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(detail)


@pytest.mark.parametrize(
    "content",
    [
        [
            {"sensor": "air_temperature", "value": "21.5", "createdAt": "2026-05-01T11:00:00.000Z"},
            {"sensor": "pm10", "value": 4, "createdAt": "2026-05-01T11:00:00.000Z"},
        ],
        {"air_temperature": ["21.5", "2026-05-01T11:00:00Z"], "pm10": [4, "2026-05-01T11:00:00Z"]},
    ],
)
def test_box_json_forms(content: Any) -> None:
    assert _box(content) == [
        Uplink(
            external_id="garten",
            received_at=ARRIVED,
            observed_at=ELEVEN,
            fields={"air_temperature": "21.5", "pm10": 4},
        )
    ]


def test_box_csv_groups_by_time_and_translates_sensor_ids() -> None:
    csv = (
        b"5a1b2c3d4e5f6a7b8c9d0e1f,21.5,2026-05-01T11:00:00Z,7.5,51.5,110\r\n"
        b"5a1b2c3d4e5f6a7b8c9d0e1f,21.9,2026-05-01T12:00:00Z\n\npm10,4\n"
    )
    sensors = '{"5a1b2c3d4e5f6a7b8c9d0e1f": "air_temperature"}'
    assert _box(csv, "text/csv", sensors=sensors) == [
        Uplink(
            external_id="garten", received_at=ARRIVED, observed_at=ELEVEN, fields={"air_temperature": "21.5"}
        ),
        Uplink(
            external_id="garten", received_at=ARRIVED, observed_at=NOON, fields={"air_temperature": "21.9"}
        ),
        Uplink(external_id="garten", received_at=ARRIVED, fields={"pm10": "4"}),
    ]


def test_box_binary_forms() -> None:
    sensor = "5a1b2c3d4e5f6a7b8c9d0e1f"
    value = struct.pack("<12sf", bytes.fromhex(sensor), 21.5)
    timed = value + struct.pack("<I", int(ELEVEN.timestamp()))
    assert _box(value, "application/sbx-bytes") == [
        Uplink(external_id="garten", received_at=ARRIVED, fields={sensor: 21.5})
    ]
    assert _box(timed, "application/sbx-bytes-ts") == [
        Uplink(external_id="garten", received_at=ARRIVED, observed_at=ELEVEN, fields={sensor: 21.5})
    ]


def test_box_takes_sensor_community_json_as_well() -> None:
    assert (
        _box(SENSOR_COMMUNITY)[0].fields
        == sensorcommunity.parse(raw("sensorcommunity", SENSOR_COMMUNITY, headers=BOX), {})[0].fields
    )


@pytest.mark.parametrize(
    ("content", "kind", "reason", "detail"),
    [
        ([{"value": 1}], "application/json", "missing_field", "[0].sensor"),
        ([{"sensor": "a"}], "application/json", "missing_field", "[0].value"),
        (
            [{"sensor": "a", "value": None}],
            "application/json",
            "wrong_type",
            "[0].value: a number was expected",
        ),
        ({"a": [1, "noon"]}, "application/json", "bad_time", "a[1]: 'noon' is not a time"),
        ({"a": []}, "application/json", "missing_field", "a[0]"),
        ([], "application/json", "missing_field", "no measurements"),
        (5, "application/json", "wrong_type", "an array or object was expected, not number"),
        (b"a,1\nb", "text/csv", "not_csv", "line 2: 2 to 6 columns were expected, not 1"),
        (b"a,1,noon", "text/csv", "bad_time", "line 1, column 3: 'noon' is not a time"),
        (b"\xff,1", "text/csv", "not_csv", "not UTF-8"),
        (b"short", "application/sbx-bytes", "bad_payload", "the length is no multiple of 16 bytes"),
    ],
)
def test_bad_box_message_is_refused_with_the_place(content: Any, kind: str, reason: str, detail: str) -> None:
    with pytest.raises(MessageError) as caught:
        _box(content, kind)
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(detail)
    assert caught.value.external_id == "garten"


def test_sensor_community_takes_the_better_sensor_and_states_units() -> None:
    assert list(sensorcommunity.parse(raw("sensorcommunity", SENSOR_COMMUNITY), {})) == [
        Uplink(
            external_id="esp8266-1234567",
            received_at=ARRIVED,
            fields={
                "pm10": {"value": "5.38", "unit": "ug/m3"},
                "pm2_5": {"value": "4.98", "unit": "ug/m3"},
                "air_temperature": {"value": "24.98", "unit": "Cel"},
                "relative_humidity": {"value": "45.20", "unit": "%"},
                "air_pressure": {"value": "101325.0", "unit": "Pa"},
                "PMS_N10": "3.1",
            },
        )
    ]


def test_sensor_community_header_names_the_box() -> None:
    message = raw("sensorcommunity", SENSOR_COMMUNITY, headers={"x-sensor": "esp32-99"})
    assert sensorcommunity.parse(message, {})[0].external_id == "esp32-99"


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        ({"sensordatavalues": []}, "missing_field", "esp8266id (or the header X-Sensor)"),
        ({"esp8266id": 1}, "missing_field", "sensordatavalues"),
        ({"esp8266id": 1, "sensordatavalues": {}}, "wrong_type", "sensordatavalues: an array was expected"),
        (
            {"esp8266id": 1, "sensordatavalues": [1]},
            "wrong_type",
            "sensordatavalues[0]: an object was expected",
        ),
        (
            {"esp8266id": 1, "sensordatavalues": [{"value": "1"}]},
            "missing_field",
            "sensordatavalues[0].value_type",
        ),
        (
            {"esp8266id": 1, "sensordatavalues": [{"value_type": "P1", "value": None}]},
            "wrong_type",
            "sensordatavalues[0].value: a number was expected",
        ),
        (
            {"esp8266id": 1, "sensordatavalues": [{"value_type": "signal", "value": "1"}]},
            "missing_field",
            "sensordatavalues: no measurement",
        ),
    ],
)
def test_bad_sensor_community_message_is_refused(content: Any, reason: str, detail: str) -> None:
    with pytest.raises(MessageError) as caught:
        sensorcommunity.parse(raw("sensorcommunity", content), {})
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(detail)
