"""The Things Stack's messages become uplinks."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.thethingsstack import parse
from tests.sources.messages import TTS_UP, raw


def _parse(content: Any, **settings: Any) -> list[Uplink]:
    return list(parse(raw("tts", content), settings))


def _changed(**changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(TTS_UP)
    content["uplink_message"].update(changes)
    return content


def test_uplink_gives_payload_best_reception_and_battery() -> None:
    assert _parse(TTS_UP) == [
        Uplink(
            external_id="0004a30b001c0530",
            received_at=datetime(2020, 2, 12, 15, 15, 45, 500182, UTC),
            payload=b"\x82A\xde",
            frame_counter=35,
            port=15,
            rssi_dbm=-35,
            snr_db=5.2,
            gateways=2,
            battery_percent=94.5,
            device_name="eui-0004a30b001c0530",
        )
    ]


def test_decoded_payload_is_taken_where_the_source_says_so() -> None:
    (uplink,) = _parse(TTS_UP, use="object")
    assert (uplink.payload, uplink.fields) == (None, {"temperature": 21.5, "open": False})


def test_omitted_fields_are_zero() -> None:
    content = _changed()
    for name in ("f_cnt", "f_port", "rx_metadata", "last_battery_percentage", "received_at"):
        del content["uplink_message"][name]
    (uplink,) = _parse(content)
    assert uplink == Uplink(
        external_id="0004a30b001c0530",
        received_at=datetime(2020, 2, 12, 15, 15, 45, 787000, UTC),
        payload=b"\x82A\xde",
        frame_counter=0,
        device_name="eui-0004a30b001c0530",
    )


def test_device_without_dev_eui_is_known_by_its_device_id() -> None:
    content = _changed()
    del content["end_device_ids"]["dev_eui"]
    assert _parse(content)[0].external_id == "eui-0004a30b001c0530"


@pytest.mark.parametrize(
    "name",
    [
        "join_accept",
        "downlink_ack",
        "downlink_queued",
        "location_solved",
        "service_data",
        "uplink_normalized",
    ],
)
def test_other_messages_carry_no_reading(name: str) -> None:
    assert _parse({"end_device_ids": TTS_UP["end_device_ids"], name: {"received_at": "x"}}) == []


def test_empty_frame_carries_no_reading() -> None:
    assert _parse({"end_device_ids": TTS_UP["end_device_ids"], "uplink_message": {"f_cnt": 1}}) == []


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"\xff", "not_json", ""),
        ({"end_device_ids": {}}, "missing_field", "uplink_message"),
        ({"uplink_message": {"frm_payload": "gkHe"}}, "missing_field", "end_device_ids.dev_eui"),
        (
            {**TTS_UP, "simulated": True},
            "simulated",
            "the network server's console made this message, no device",
        ),
        (_changed(f_cnt=1.5), "wrong_type", "Expected `int`, got `float` - at `$.uplink_message.f_cnt`"),
        (_changed(f_cnt=1 << 40), "bad_value", "uplink_message.f_cnt: 1099511627776 is no frame counter"),
        (
            _changed(frm_payload="%"),
            "wrong_type",
            "Invalid base64 encoded string - at `$.uplink_message.frm_payload`",
        ),
    ],
)
def test_bad_message_is_refused_with_the_field(content: Any, reason: str, detail: str) -> None:
    with pytest.raises(MessageError) as caught:
        _parse(content)
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(detail)
