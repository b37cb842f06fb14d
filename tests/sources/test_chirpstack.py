"""ChirpStack's events become uplinks."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.chirpstack import parse
from tests.sources.messages import ARRIVED, CHIRPSTACK_TOPIC, CHIRPSTACK_UP, raw

EUI = "a84041ffff1234ab"


def _parse(content: Any, *, topic: str = CHIRPSTACK_TOPIC, **settings: Any) -> list[Uplink]:
    return list(parse(raw("chirpstack", content, topic=topic), settings))


def _changed(**changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(CHIRPSTACK_UP)
    content.update(changes)
    return content


def test_up_event_gives_payload_and_best_reception() -> None:
    assert _parse(CHIRPSTACK_UP) == [
        Uplink(
            external_id="a84041ffff1234ab",
            # The documentation's nanoseconds end at microseconds.
            received_at=datetime(2022, 7, 18, 9, 34, 15, 775023, UTC),
            payload=b"\xaa",
            frame_counter=4,
            port=1,
            rssi_dbm=-36,
            snr_db=10.5,
            gateways=2,
            device_name="sw-klima-001",
            variables={"place": "Markt"},
        )
    ]


def test_up_event_by_http_says_its_kind_in_the_query() -> None:
    path = "/api/sources/lns/events"
    assert _parse(CHIRPSTACK_UP, topic=f"{path}?event=up") == _parse(CHIRPSTACK_UP)
    assert _parse({"deviceInfo": CHIRPSTACK_UP["deviceInfo"]}, topic=f"{path}?event=join") == []


def test_absent_zero_fields_are_zero() -> None:
    content = _changed(rxInfo=[{"gatewayId": "0016c001f153a14c"}])
    del content["fCnt"], content["fPort"], content["time"]
    (uplink,) = _parse(content)
    assert (uplink.frame_counter, uplink.port, uplink.rssi_dbm, uplink.snr_db) == (0, None, 0, 0)
    assert uplink.received_at == ARRIVED


@pytest.mark.parametrize(
    ("changes", "use", "payload", "fields"),
    [
        ({"object": {"t": 21.5}}, "data", b"\xaa", None),
        ({"object": {"t": 21.5}}, "object", None, {"t": 21.5}),
        ({"object": {"t": 21.5}, "data": ""}, "data", None, {"t": 21.5}),
        ({"object": {}}, "object", b"\xaa", None),
    ],
)
def test_payload_or_decoded_object(
    changes: dict[str, Any], use: str, payload: bytes | None, fields: dict[str, Any] | None
) -> None:
    (uplink,) = _parse(_changed(**changes), use=use)
    assert (uplink.payload, uplink.fields) == (payload, fields)


def test_frame_without_payload_carries_no_reading() -> None:
    assert _parse(_changed(data="")) == []


@pytest.mark.parametrize("event", ["status", "join", "ack", "txack", "log", "location", "integration"])
def test_other_events_carry_no_reading(event: str) -> None:
    assert _parse({"deviceInfo": {}}, topic=f"application/a/device/b/event/{event}") == []


@pytest.mark.parametrize(
    ("content", "reason", "detail", "external_id"),
    [
        (b"{", "not_json", "Input data was truncated", ""),
        (b'{"x": ' + b"[" * 50_000, "not_json", "nested too deeply", ""),
        ([], "wrong_type", "Expected `object`, got `array`", ""),
        ({}, "missing_field", "deviceInfo.devEui", ""),
        (_changed(deviceInfo={"devEui": "12"}), "bad_value", "deviceInfo.devEui: '12' is not a DevEUI", ""),
        (_changed(fCnt="4"), "wrong_type", "Expected `int`, got `str` - at `$.fCnt`", EUI),
        (_changed(fCnt=-1), "bad_value", "fCnt: -1 is no frame counter", EUI),
        (_changed(data="q"), "wrong_type", "Invalid base64 encoded string - at `$.data`", EUI),
        (_changed(time="yesterday"), "wrong_type", "Invalid RFC3339 encoded datetime - at `$.time`", EUI),
        (
            _changed(rxInfo=[{"rssi": "x"}]),
            "wrong_type",
            "Expected `float`, got `str` - at `$.rxInfo[0].rssi`",
            EUI,
        ),
    ],
)
def test_bad_event_is_refused_with_the_field(
    content: Any, reason: str, detail: str, external_id: str
) -> None:
    with pytest.raises(MessageError) as caught:
        _parse(content)
    assert (caught.value.reason, caught.value.external_id) == (reason, external_id)
    assert caught.value.detail.startswith(detail)


def test_unknown_event_is_refused() -> None:
    with pytest.raises(MessageError, match="unknown_event: event 'party' is none of ChirpStack's"):
        _parse(CHIRPSTACK_UP, topic="application/a/device/b/event/party")
