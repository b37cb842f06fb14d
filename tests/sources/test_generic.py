"""Any JSON, with a mapping of JSONPaths."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.generic import MappingError, check, parse
from tests.sources.messages import ARRIVED, raw


def _parse(content: Any, mapping: Any, *, topic: str = "") -> list[Uplink]:
    return list(parse(raw("generic_mqtt", content, topic=topic), {"mapping": mapping}))


def test_one_message_with_named_fields() -> None:
    content = {"dev": {"id": 17}, "ts": 1714564800, "m": {"t": 21.5, "h": "60"}, "rf": {"rssi": "-90"}}
    mapping = {
        "device": "$.dev.id",
        "time": "$.ts",
        "fields": {"air_temperature": "$.m.t", "relative_humidity": "$.m.h", "absent": "$.m.x"},
        "rssi": "$.rf.rssi",
    }
    assert _parse(content, mapping) == [
        Uplink(
            external_id="17",
            received_at=ARRIVED,
            observed_at=datetime(2024, 5, 1, 12, 0, tzinfo=UTC),
            fields={"air_temperature": 21.5, "relative_humidity": "60"},
            rssi_dbm=-90,
        )
    ]


def test_many_items_with_payload_in_base64() -> None:
    content = {"rows": [{"id": "a", "p": "qg==", "n": "7", "f": 2}, {"id": "b", "p": "uw==", "n": 8, "f": 2}]}
    mapping = {
        "items": "$.rows[*]",
        "device": "$.id",
        "payload": "$.p",
        "encoding": "base64",
        "frame_counter": "$.n",
        "port": "$.f",
    }
    assert _parse(content, mapping) == [
        Uplink(external_id="a", received_at=ARRIVED, payload=b"\xaa", frame_counter=7, port=2),
        Uplink(external_id="b", received_at=ARRIVED, payload=b"\xbb", frame_counter=8, port=2),
    ]


def test_device_in_the_topic_and_all_fields() -> None:
    assert _parse({"t": 1}, {"device": "topic:1"}, topic="sensors/a7/up") == [
        Uplink(external_id="a7", received_at=ARRIVED, fields={"t": 1})
    ]


@pytest.mark.parametrize(
    ("content", "mapping", "reason", "detail"),
    [
        (b"nope", {"device": "$.id"}, "not_json", ""),
        ({}, {"device": "$.id"}, "missing_field", "$.id"),
        ([1], {"device": "$.id"}, "missing_field", "$.id"),
        (7, {"device": "$.id"}, "wrong_type", "an object was expected, not number"),
        (
            {"id": "a", "p": "xyz"},
            {"device": "$.id", "payload": "$.p"},
            "bad_payload",
            "$.p: not hexadecimal",
        ),
        (
            {"id": "a", "t": "soon"},
            {"device": "$.id", "time": "$.t"},
            "bad_time",
            "$.t: 'soon' is not a time",
        ),
        (
            {"id": "a", "v": [1]},
            {"device": "$.id", "fields": {"x": "$.v"}},
            "wrong_type",
            "fields.x: a number",
        ),
        ({"id": "a"}, {"device": "$.id", "fields": {"x": "$.v"}}, "missing_field", "fields: no values"),
        (
            {"id": "a", "n": "x"},
            {"device": "$.id", "port": "$.n"},
            "wrong_type",
            "$.n: a whole number was expected",
        ),
        ({"id": {}}, {"device": "$.id"}, "wrong_type", "$.id: a text was expected, not object"),
        ({"id": "a"}, {}, "bad_mapping", "mapping.device: is missing"),
    ],
)
def test_bad_message_is_refused_with_the_path(content: Any, mapping: Any, reason: str, detail: str) -> None:
    with pytest.raises(MessageError) as caught:
        _parse(content, mapping)
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(detail)


@pytest.mark.parametrize(
    ("mapping", "field"),
    [
        (None, "mapping"),
        ({"device": "id"}, "mapping.device"),
        ({"device": "$.["}, "mapping.device"),
        ({"device": "topic:x"}, "mapping.device"),
        ({"device": "$.id", "colour": "$.c"}, "mapping.colour"),
        ({"device": "$.id", "fields": {}}, "mapping.fields"),
        ({"device": "$.id", "fields": {"t": "t"}}, "mapping.fields.t"),
        ({"device": "$.id", "fields": "$.v", "payload": "$.p"}, "mapping.payload"),
        ({"device": "$.id", "payload": "$.p", "encoding": "rot13"}, "mapping.encoding"),
    ],
)
def test_bad_mapping_is_refused_when_it_is_saved(mapping: Any, field: str) -> None:
    with pytest.raises(MappingError) as caught:
        check(mapping)
    assert caught.value.field == field
