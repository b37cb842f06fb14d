"""Backend Interfaces messages: tolerant in, exact out. Sources of spellings are named where they were found."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames.keywrap import unwrap
from quartier.lorawan.roaming.envelope import EnvelopeError, opened, sealed_for
from quartier.lorawan.roaming.fields import Eui64, Frame, Hex, NetId, Region, ResultCode, hz, mhz
from quartier.lorawan.roaming.messages import (
    ANSWERS,
    MAX_BODY_BYTES,
    REQUESTS,
    Answer,
    HomeNSAns,
    MessageError,
    PRStartAns,
    PRStartReq,
    XmitDataAns,
    answer_to,
    canonical_id,
    read,
    write,
)
from quartier.lorawan.roaming.names import NAMES
from quartier.lorawan.roaming.objects import KeyEnvelope, Result, ServiceProfile
from quartier.lorawan.roaming.peers import Peer

HEADER: dict[str, Any] = {
    "ProtocolVersion": "1.0",
    "SenderID": "0x00000A",
    "ReceiverID": "000013",
    "TransactionID": 7,
    "MessageType": "PRStartReq",
}
START: dict[str, Any] = HEADER | {
    "PHYPayload": "0x40AABBCCDD",
    "ULMetaData": {
        "DevAddr": "00E27D66",
        "DataRate": 5,
        "ULFreq": 868.1,
        "RecvTime": "2026-03-01T10:00:00.250Z",
        "RFRegion": "eu868",
        "GWCnt": 1,
        "GWInfo": [{"ID": "aabbccdd", "RSSI": -57, "SNR": 7.5, "ULToken": "0A0b", "DLAllowed": True}],
    },
}


def body(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def changed(path: str, value: Any) -> bytes:
    """START with one value changed; … removes it."""
    message = json.loads(json.dumps(START))
    *way, last = path.split(".")
    place = message
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return body(message)


def test_start_is_read_and_written_in_the_standard_s_spelling() -> None:
    message = read(body(START))
    assert isinstance(message, PRStartReq)
    assert (message.sender, message.receiver) == ("00000a", "000013")
    assert message.uplink.received_at == datetime(2026, 3, 1, 10, 0, 0, 250_000, UTC)
    expected = json.loads(json.dumps(START).lower().replace("0x40", "40"))
    # Everything but hexadecimal digits and the region is as it came.
    assert json.loads(write(message)) == {
        **HEADER,
        "PHYPayload": expected["phypayload"],
        "ULMetaData": {
            "DevAddr": "00e27d66",
            "DataRate": 5,
            "ULFreq": 868.1,
            "RecvTime": "2026-03-01T10:00:00.250000Z",
            "RFRegion": "EU868",
            "GWCnt": 1,
            "GWInfo": [{"ID": "aabbccdd", "RSSI": -57, "SNR": 7.5, "ULToken": "0a0b", "DLAllowed": True}],
        },
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("TransactionID", "7"),
        ("ULMetaData.DataRate", "5"),
        ("ULMetaData.ULFreq", "868.1"),
        ("ULMetaData.GWInfo.0.RSSI", "-57"),
        ("ULMetaData.GWInfo.0.RSSI", -57.0),
        ("ULMetaData.GWInfo.0.DLAllowed", "true"),
        ("ULMetaData.RFRegion", "EU863_870"),
        ("ULMetaData.RFRegion", "eu863-870"),
        ("PHYPayload", "40aabbccdd"),
        ("PHYPayload", "0X40AABBCCDD"),
        ("ULMetaData.DevAddr", "0x00e27d66"),
        ("ULMetaData.FNSULToken", None),
        ("SenderNSID", None),
        ("VSExtension", {"VendorID": "0x0004A3", "Object": {"a": [1]}}),
        ("SomethingNew", {"a": 1}),
    ],
)
def test_spellings_found_in_the_wild_mean_the_same(path: str, value: Any) -> None:
    message = read(changed(path, value))
    assert isinstance(message, PRStartReq)
    plain = read(body(START))
    assert isinstance(plain, PRStartReq)
    assert message.phy == plain.phy
    assert message.uplink == plain.uplink
    assert message.transaction_id == plain.transaction_id


@pytest.mark.parametrize("path", ["ULMetaData.GWInfo", "ULMetaData.RecvTime", "ULMetaData.RFRegion"])
def test_optional_fields_may_be_missing_or_null(path: str) -> None:
    # brocaar/lorawan writes null for an empty GWInfo.
    for value in (..., None):
        assert isinstance(read(changed(path, value)), PRStartReq)


@pytest.mark.parametrize(
    ("content", "result", "field"),
    [
        (b"", ResultCode.MALFORMED_MESSAGE, ""),
        (b"\xff\xfe", ResultCode.MALFORMED_MESSAGE, ""),
        (b"[]", ResultCode.MALFORMED_MESSAGE, ""),
        (b"[" * 50_000, ResultCode.MALFORMED_MESSAGE, ""),
        (b"{" + b" " * MAX_BODY_BYTES + b"}", ResultCode.MALFORMED_MESSAGE, ""),
        (b"{}", ResultCode.MALFORMED_MESSAGE, "ProtocolVersion"),
        (changed("ProtocolVersion", "2.0"), ResultCode.INVALID_PROTOCOL_VERSION, "ProtocolVersion"),
        (changed("MessageType", "PRStarted"), ResultCode.MALFORMED_MESSAGE, "MessageType"),
        (changed("MessageType", 5), ResultCode.MALFORMED_MESSAGE, "MessageType"),
        (changed("TransactionID", 1 << 32), ResultCode.MALFORMED_MESSAGE, "TransactionID"),
        (changed("TransactionID", -1), ResultCode.MALFORMED_MESSAGE, "TransactionID"),
        (changed("PHYPayload", ...), ResultCode.MALFORMED_MESSAGE, "PHYPayload"),
        (changed("PHYPayload", "40 aabb"), ResultCode.MALFORMED_MESSAGE, "PHYPayload"),
        (changed("PHYPayload", "4"), ResultCode.MALFORMED_MESSAGE, "PHYPayload"),
        (changed("PHYPayload", 40), ResultCode.MALFORMED_MESSAGE, "PHYPayload"),
        (changed("PHYPayload", ""), ResultCode.FRAME_SIZE_ERROR, "PHYPayload"),
        (changed("PHYPayload", "00" * 257), ResultCode.FRAME_SIZE_ERROR, "PHYPayload"),
        (changed("ULMetaData", ...), ResultCode.MALFORMED_MESSAGE, "ULMetaData"),
        (changed("ULMetaData.DataRate", 16), ResultCode.MALFORMED_MESSAGE, "ULMetaData.DataRate"),
        (changed("ULMetaData.ULFreq", "high"), ResultCode.MALFORMED_MESSAGE, "ULMetaData.ULFreq"),
        (changed("ULMetaData.DevAddr", "00e27d"), ResultCode.MALFORMED_MESSAGE, "ULMetaData.DevAddr"),
        (changed("ULMetaData.RecvTime", "now"), ResultCode.MALFORMED_MESSAGE, "ULMetaData.RecvTime"),
        (
            changed("ULMetaData.GWInfo.0.RSSI", "loud"),
            ResultCode.MALFORMED_MESSAGE,
            "ULMetaData.GWInfo[0].RSSI",
        ),
        (changed("ULMetaData.GWInfo", [{}] * 65), ResultCode.MALFORMED_MESSAGE, "ULMetaData.GWInfo"),
    ],
)
def test_refusal_names_the_field(content: bytes, result: ResultCode, field: str) -> None:
    with pytest.raises(MessageError) as refused:
        read(content)
    assert (refused.value.result, refused.value.field) == (result, field)
    assert str(refused.value).startswith(field)


def test_refused_message_can_still_be_answered() -> None:
    with pytest.raises(MessageError) as refused:
        read(changed("ULMetaData.DataRate", 16))
    header = refused.value.header
    assert header is not None
    assert json.loads(write(answer_to(header, refused.value.result, str(refused.value)))) == {
        "ProtocolVersion": "1.0",
        "SenderID": "000013",
        "ReceiverID": "0x00000A",
        "TransactionID": 7,
        "MessageType": "PRStartAns",
        "Result": {
            "ResultCode": "MalformedRequest",
            "Description": "ULMetaData.DataRate: Expected `int` <= 15",
        },
    }


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*NAMES.values(), "x"]), inner, max_size=8)
        ),
        max_leaves=30,
    )
)
def test_whatever_comes_is_read_or_refused(content: Any) -> None:
    if not isinstance(content, bytes):
        content = body(HEADER | content if isinstance(content, dict) else content)
    try:
        message = read(content)
    except MessageError:
        return
    assert write(message)


@given(
    st.sampled_from(sorted(REQUESTS | ANSWERS)),
    st.dictionaries(
        st.sampled_from(list(NAMES.values())),
        st.none() | st.integers() | st.text("0123456789abcdefx", max_size=40) | st.just({}) | st.just([]),
    ),
)
def test_whatever_the_fields_are_a_message_is_read_or_refused(kind: str, fields: dict[str, Any]) -> None:
    try:
        again = read(write(read(body(HEADER | fields | {"MessageType": kind}))))
    except MessageError:
        return
    assert again.message_type == kind


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Success", ResultCode.SUCCESS),
        ("UnkownReceiver", ResultCode.UNKNOWN_RECEIVER),  # TS002 1.0 table 24
        ("UnknownReceiver", ResultCode.UNKNOWN_RECEIVER),  # what it should be; ChirpStack and TTS take both
        ("RoamingActDisallowedA", ResultCode.ROAMING_ACT_DISALLOWED),  # brocaar/lorawan
        ("MalformedMessage", ResultCode.MALFORMED_MESSAGE),
        ("micfailed", ResultCode.MIC_FAILED),
        ("SomethingOfTheirOwn", ResultCode.OTHER),
    ],
)
def test_result_codes(text: str, code: ResultCode) -> None:
    message = read(body(HEADER | {"MessageType": "XmitDataAns", "Result": {"ResultCode": text}}))
    assert isinstance(message, XmitDataAns)
    assert message.result == Result(code=code)


@pytest.mark.parametrize(
    ("code", "in_1_0", "in_1_1"),
    [
        (ResultCode.UNKNOWN_RECEIVER, "UnkownReceiver", "UnkownReceiver"),
        (ResultCode.MALFORMED_MESSAGE, "MalformedRequest", "MalformedMessage"),
        (ResultCode.FRAME_REPLAYED, "Other", "FrameReplayed"),
        (ResultCode.NO_ACTION, "Success", "NoAction"),
    ],
)
def test_result_is_written_as_the_version_knows_it(code: ResultCode, in_1_0: str, in_1_1: str) -> None:
    for version, expected in (("1.0", in_1_0), ("1.1", in_1_1)):
        request = read(body(START | {"ProtocolVersion": version}))
        assert json.loads(write(answer_to(request, code)))["Result"]["ResultCode"] == expected


def test_nsids_go_out_in_1_1_only() -> None:
    for version, expected in (("1.0", set()), ("1.1", {"SenderNSID", "ReceiverNSID", "HNSID"})):
        request = read(
            body(
                HEADER
                | {"ProtocolVersion": version, "MessageType": "HomeNSReq", "DevEUI": "70b3d57ed0000001"}
                | {"SenderNSID": "0102030405060708", "ReceiverNSID": "0807060504030201"}
            )
        )
        answer = answer_to(
            request, ResultCode.SUCCESS, home_net_id=NetId.parse("00000a"), home_nsid=Eui64(bytes(8))
        )
        assert isinstance(answer, HomeNSAns)
        assert {name for name in json.loads(write(answer)) if "NSID" in name} == expected


def test_answer_echoes_the_sender_s_token() -> None:
    request = read(body(START | {"SenderToken": "0xAB01"}))
    answer = json.loads(write(answer_to(request, ResultCode.SUCCESS, lifetime_s=0)))
    assert (answer["ReceiverToken"], answer["Lifetime"]) == ("ab01", 0)
    assert "SenderToken" not in answer


def test_service_profile_keeps_the_standard_s_misspelling() -> None:
    # TS002 1.0 table 18 says ReportDevStatusBatery.
    written = msgspec.to_builtins(ServiceProfile(report_battery=True, ul_rate_per_h=60))
    assert written == {"ReportDevStatusBatery": True, "ULRate": 60}


def test_every_message_of_the_standard_is_known() -> None:
    # TS002 1.0 table 12 without XmitLoc, which 1.1 dropped; RejoinReq is 1.1's too.
    kinds = [
        "Join",
        "Rejoin",
        "AppSKey",
        "PRStart",
        "PRStop",
        "HRStart",
        "HRStop",
        "HomeNS",
        "Profile",
        "XmitData",
    ]
    assert set(REQUESTS) == {f"{kind}Req" for kind in kinds}
    assert set(ANSWERS) == {f"{kind}Ans" for kind in kinds}
    assert all(issubclass(kind, Answer) for kind in ANSWERS.values())


@given(st.integers(1_000_000, 9_999_999_99).map(lambda n: n * 100 // 100 * 100))
def test_frequencies_survive_megahertz(frequency_hz: int) -> None:
    assert hz(float(json.dumps(mhz(frequency_hz)))) == frequency_hz


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0x00000A", "00000a"),
        ("00000A", "00000a"),
        ("70B3D57ED0000001", "70b3d57ed0000001"),
        ("as.city", "as.city"),
    ],
)
def test_ids_are_compared_in_one_spelling(text: str, canonical: str) -> None:
    assert canonical_id(text) == canonical


KEY = bytes.fromhex("01020304050607080102030405060708")
KEK = bytes.fromhex("08070605040302010807060504030201")
# Known answer of chirpstack/chirpstack, backend/src/lib.rs: test_key_envelope.
WRAPPED = bytes.fromhex("e3d5a47ba25cbe6e5da820846e0cb6a82b750c59d848ec7a")


def test_key_envelope_is_as_chirpstack_s() -> None:
    peer = Peer(key="p", name="P", keks={"test-kek": KEK}, kek_label="test-kek")
    envelope = sealed_for(peer, KEY)
    assert msgspec.json.decode(msgspec.json.encode(envelope, enc_hook=bytes.hex)) == {
        "KEKLabel": "test-kek",
        "AESKey": WRAPPED.hex(),
    }
    assert unwrap(KEK, WRAPPED) == KEY
    assert opened(envelope, {"test-kek": KEK}) == KEY


def test_key_never_leaves_in_the_clear() -> None:
    with pytest.raises(EnvelopeError, match="no key encryption key is agreed with p"):
        sealed_for(Peer(key="p", name="P"), KEY)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (KeyEnvelope(kek_label="other", aes_key=Hex(WRAPPED)), "KEKLabel 'other' is not known"),
        (KeyEnvelope(kek_label="k", aes_key=Hex(WRAPPED[:-1] + b"\0")), "not wrapped with this key"),
        (KeyEnvelope(kek_label="k", aes_key=Hex(b"short")), "wrapped key"),
        (KeyEnvelope(aes_key=Hex(b"short")), "16 bytes"),
    ],
)
def test_envelope_that_does_not_open(envelope: KeyEnvelope, reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        opened(envelope, {"k": KEK})


def test_start_answer_with_everything_is_read_back() -> None:
    request = read(body(START | {"ProtocolVersion": "1.1"}))
    answer = answer_to(
        request,
        ResultCode.SUCCESS,
        phy=Frame(b"\x20" + bytes(16)),
        dev_eui=Eui64(bytes(range(8))),
        lifetime_s=3600,
        nwk_s_key=KeyEnvelope(kek_label="k", aes_key=Hex(WRAPPED)),
        f_cnt_up=70_000,
        service_profile=ServiceProfile(ul_rate_per_h=60),
    )
    again = read(write(answer))
    assert again == answer
    assert isinstance(again, PRStartAns)


def test_region_names() -> None:
    assert [Region.parse(one) for one in ("eu868", "EU863-870", "eu863_870", "us902-928")] == [
        "EU868",
        "EU868",
        "EU868",
        "US902-928",
    ]
