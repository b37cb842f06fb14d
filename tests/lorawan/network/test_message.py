"""An uplink in the inbox, and how the intake reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.intake import parsers
from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError, Uplink
from quartier.lorawan.message import HeardBy, Up, parse, raw_message

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UP = Up(
    dev_eui="70b3d57ed0000001",
    dev_addr="00e27d66",
    time=AT,
    counter=70_000,
    port=10,
    data=b"\x01\x02",
    confirmed=False,
    adr=True,
    data_rate=5,
    frequency=868_100_000,
    receptions=[
        HeardBy(gateway="b827ebfffe000001", rssi=-110.5, snr=-3.25),
        HeardBy(gateway="b827ebfffe000002", rssi=-99.0, snr=7.0, peer="schwerte"),
    ],
    battery=50,
    tags={"kind": "lamp"},
)


def test_what_is_written_is_read() -> None:
    message = raw_message("dortmund", UP)
    assert (message.municipality, message.source, message.kind) == ("dortmund", "lorawan", "lorawan")
    assert parsers.parse(message, {}) == (
        Uplink(
            external_id="70b3d57ed0000001",
            received_at=AT,
            payload=b"\x01\x02",
            frame_counter=70_000,
            port=10,
            rssi_dbm=-99.0,
            snr_db=7.0,
            gateways=2,
            battery_percent=50,
            variables={"kind": "lamp"},
        ),
    )
    assert b'"data":"AQI="' in message.body
    assert b'"fCnt":70000' in message.body


@pytest.mark.parametrize(("port", "data"), [(0, b"\x02"), (None, b""), (7, b"")])
def test_frames_without_a_payload_carry_no_reading(port: int | None, data: bytes) -> None:
    import msgspec

    assert parse(raw_message("dortmund", msgspec.structs.replace(UP, port=port, data=data)), {}) == ()


@given(st.binary(max_size=200))
def test_nothing_but_a_message_error(body: bytes) -> None:
    message = RawMessage(municipality="x", source="lorawan", kind="lorawan", received_at=AT, body=body)
    with pytest.raises(MessageError):
        parse(message, {})
