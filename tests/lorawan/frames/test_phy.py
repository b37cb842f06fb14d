"""PHYPayload: every bit comes back, and whatever is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, phy
from quartier.lorawan.frames.phy import (
    Data,
    EncryptedJoinAccept,
    FrameType,
    JoinAccept,
    JoinRequest,
    Proprietary,
    RejoinRequest,
)

EUI_A, EUI_B = bytes.fromhex("0102030405060708"), bytes.fromhex("1112131415161718")
MIC = bytes.fromhex("a1a2a3a4")

# Written out by hand along TS001-1.0.4 §4 and LoRaWAN 1.1 §6.2.
FRAMES = {
    # MHDR, DevAddr, FCtrl, FCnt, FPort, FRMPayload, MIC
    "40 f17dbe49 00 0200 01 954378762b11ff0d"[:-8] + "a1a2a3a4": Data(
        FrameType.UNCONFIRMED_UP, 0x49BE7DF1, 2, port=1, payload=bytes.fromhex("95437876"), mic=MIC
    ),
    "80 04030201 e3 ffff 021e0a 00"[:-3] + " a1a2a3a4": Data(
        FrameType.CONFIRMED_UP, 0x01020304, 0xFFFF, 0xE0, bytes.fromhex("021e0a"), mic=MIC
    ),
    "60 04030201 30 0100 a1a2a3a4": Data(FrameType.UNCONFIRMED_DOWN, 0x01020304, 1, 0x30, mic=MIC),
    "a0 04030201 00 0100 e0 a1a2a3a4": Data(FrameType.CONFIRMED_DOWN, 0x01020304, 1, port=0xE0, mic=MIC),
    "5c 04030201 00 0000 a1a2a3a4": Data(FrameType.UNCONFIRMED_UP, 0x01020304, 0, mic=MIC, reserved=7),
    "00 0807060504030201 1817161514131211 3412 a1a2a3a4": JoinRequest(EUI_A, EUI_B, 0x1234, MIC),
    "20" + "ab" * 16: EncryptedJoinAccept(b"\xab" * 16),
    "20" + "ab" * 32: EncryptedJoinAccept(b"\xab" * 32),
    "c0 00 030201 1817161514131211 3412 a1a2a3a4": RejoinRequest(0, 0x010203, None, EUI_B, 0x1234, MIC),
    "c0 01 0807060504030201 1817161514131211 3412 a1a2a3a4": RejoinRequest(
        1, None, EUI_A, EUI_B, 0x1234, MIC
    ),
    "c0 02 030201 1817161514131211 3412 a1a2a3a4": RejoinRequest(2, 0x010203, None, EUI_B, 0x1234, MIC),
    "e0 0102": Proprietary(b"\x01\x02"),
    "ff": Proprietary(b"", 31),
}


@pytest.mark.parametrize(("text", "frame"), FRAMES.items(), ids=[key[:20] for key in FRAMES])
def test_frames_are_parsed_and_serialised(text: str, frame: phy.Frame) -> None:
    whole = bytes.fromhex(text)
    assert phy.parse(whole) == frame
    assert frame.serialise() == whole


def test_flags_of_a_data_frame_are_told_by_name() -> None:
    up = Data(FrameType.CONFIRMED_UP, 1, 1, phy.ADR | phy.ADR_ACK_REQUEST | phy.ACK | phy.PENDING)
    assert (up.uplink, up.confirmed, up.adr, up.adr_ack_request, up.ack, up.class_b) == (True,) * 6
    down = Data(FrameType.UNCONFIRMED_DOWN, 1, 1, phy.PENDING)
    assert (down.uplink, down.confirmed, down.adr, down.ack, down.pending) == (
        False,
        False,
        False,
        False,
        True,
    )


BAD = {
    "": ("frame", "empty"),
    "00" * 256: ("frame", "256 bytes, more than 255"),
    "41" + "00" * 11: ("major version", "1 instead of 0"),
    "40" + "00" * 10: ("data frame", "11 bytes, fewer than 12"),
    "40 00000000 05 0000 0102 00000000": ("options", "5 bytes announced, 2 there"),
    "40 00000000 01 0000 02 00 00000000": ("port", "0 together with options"),
    "00" + "00" * 21: ("join request", "22 bytes instead of 23"),
    "00" + "00" * 23: ("join request", "24 bytes instead of 23"),
    "04" + "00" * 22: ("reserved", "bits of MHDR are set in a join frame"),
    "02" + "00" * 22: ("major version", "2 instead of 0"),
    "20" + "00" * 17: ("join accept", "18 bytes instead of 17 or 33"),
    "c0": ("rejoin_type", "missing"),
    "c0 03": ("rejoin_type", "3 is reserved"),
    "c0 00" + "00" * 18: ("rejoin request of type 0", "20 bytes instead of 19"),
    "c0 01" + "00" * 17: ("rejoin request of type 1", "19 bytes instead of 24"),
}


@pytest.mark.parametrize(("text", "error"), BAD.items(), ids=[error[1][:30] for error in BAD.values()])
def test_malformed_frames_are_refused_with_the_field(text: str, error: tuple[str, str]) -> None:
    with pytest.raises(FrameError) as raised:
        phy.parse(bytes.fromhex(text))
    assert (raised.value.field, raised.value.detail) == error


UP = FrameType.UNCONFIRMED_UP
UNSENDABLE = [
    (Data(FrameType.JOIN_REQUEST, 1, 1), "type"),
    (Data(UP, 1 << 32, 1), "dev_addr"),
    (Data(UP, 1, 0x1_0000), "frame_counter"),
    (Data(UP, 1, 1, 0x0F), "flags"),
    (Data(UP, 1, 1, options=bytes(16)), "options"),
    (Data(UP, 1, 1, port=256), "port"),
    (Data(UP, 1, 1, options=b"\x02", port=0), "port"),
    (Data(UP, 1, 1, payload=b"x"), "port"),
    (Data(UP, 1, 1, port=1, payload=bytes(243)), "payload"),
    (Data(UP, 1, 1, mic=b""), "mic"),
    (Data(UP, 1, 1, reserved=8), "reserved"),
    (JoinRequest(b"", EUI_B, 1), "join_eui"),
    (JoinRequest(EUI_A, b"", 1), "dev_eui"),
    (JoinRequest(EUI_A, EUI_B, -1), "dev_nonce"),
    (RejoinRequest(3, 1, None, EUI_B, 1), "rejoin_type"),
    (RejoinRequest(0, None, None, EUI_B, 1), "net_id"),
    (RejoinRequest(1, 1, None, EUI_B, 1), "join_eui"),
    (RejoinRequest(2, 1 << 24, None, EUI_B, 1), "net_id"),
    (EncryptedJoinAccept(bytes(17)), "join accept"),
    (Proprietary(bytes(255)), "body"),
    (Proprietary(b"", 32), "reserved"),
]


@pytest.mark.parametrize(
    ("frame", "field"), UNSENDABLE, ids=[f"{number}-{one[1]}" for number, one in enumerate(UNSENDABLE)]
)
def test_frames_that_cannot_be_sent_name_the_field(frame: phy.Frame, field: str) -> None:
    with pytest.raises(FrameError) as raised:
        frame.serialise()
    assert raised.value.field == field


def test_the_largest_data_frame_fits() -> None:
    whole = Data(UP, 1, 1, port=1, payload=bytes(242)).serialise()
    assert len(whole) == 255
    assert phy.parse(whole) == Data(UP, 1, 1, port=1, payload=bytes(242))


@pytest.mark.parametrize("most", [False, True])
def test_limits_of_all_fields(most: bool) -> None:
    def limit(bits: int) -> int:
        return (1 << bits) - 1 if most else 0

    frames: tuple[phy.Frame, ...] = (
        Data(UP, limit(32), limit(16), limit(4) << 4, b"", limit(8), b"", MIC, limit(3)),
        JoinRequest(EUI_A, EUI_B, limit(16), MIC),
        RejoinRequest(0, limit(24), None, EUI_B, limit(16), MIC),
        RejoinRequest(1, None, EUI_A, EUI_B, limit(16), MIC),
        Proprietary(bytes(254 if most else 0), limit(5)),
    )
    for frame in frames:
        assert phy.parse(frame.serialise()) == frame
    accept = JoinAccept(limit(24), limit(24), limit(32), limit(3), limit(4), most, limit(4) or 1, None)
    assert JoinAccept.parse(accept.message()) == accept


def test_join_accept_in_the_clear() -> None:
    accept = JoinAccept(
        join_nonce=0x010203,
        net_id=0x112233,
        dev_addr=0x21222324,
        rx1_data_rate_offset=5,
        rx2_data_rate=3,
        opt_neg=True,
        rx_delay_s=7,
        channel_list=bytes(range(16)),
    )
    message = bytes.fromhex("20 030201 332211 24232221 d3 07 000102030405060708090a0b0c0d0e0f")
    assert accept.message() == message
    assert JoinAccept.parse(message) == accept


def test_join_accept_without_delay_means_one_second() -> None:
    accept = JoinAccept.parse(bytes.fromhex("20 030201 332211 24232221 00 00"))
    assert accept == JoinAccept(0x010203, 0x112233, 0x21222324, rx_delay_s=1)


@pytest.mark.parametrize(
    ("accept", "field"),
    [
        (JoinAccept(1 << 24, 0, 0), "join_nonce"),
        (JoinAccept(0, -1, 0), "net_id"),
        (JoinAccept(0, 0, 1 << 32), "dev_addr"),
        (JoinAccept(0, 0, 0, rx1_data_rate_offset=8), "rx1_data_rate_offset"),
        (JoinAccept(0, 0, 0, rx2_data_rate=16), "rx2_data_rate"),
        (JoinAccept(0, 0, 0, rx_delay_s=16), "rx_delay_s"),
        (JoinAccept(0, 0, 0, channel_list=b""), "channel_list"),
    ],
)
def test_join_accepts_that_cannot_be_sent_name_the_field(accept: JoinAccept, field: str) -> None:
    with pytest.raises(FrameError) as raised:
        accept.message()
    assert raised.value.field == field


@given(st.binary(max_size=260))
@example(bytes.fromhex("40000000000f0000") + bytes(15) + bytes(4))
@example(b"\xc0\x01" + bytes(22))
def test_any_bytes_are_parsed_to_the_same_bytes_or_refused(whole: bytes) -> None:
    _parse_and_serialise(whole)


def _parse_and_serialise(whole: bytes) -> None:
    try:
        frame = phy.parse(whole)
    except FrameError:
        return
    assert frame.serialise() == whole


@given(
    st.sampled_from((0x40, 0x60, 0x80, 0xA0)),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 15),
    st.binary(min_size=6, max_size=60),
)
def test_likely_data_frames_are_parsed_to_the_same_bytes_or_refused(
    header: int, dev_addr: bytes, flags: int, rest: bytes
) -> None:
    """Random bytes are seldom a data frame; these mostly are."""
    _parse_and_serialise(bytes((header,)) + dev_addr + bytes((flags << 4 | len(rest) % 16,)) + rest)
