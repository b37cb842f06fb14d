"""GWMP's datagrams. The receptions are the examples of Semtech's PROTOCOL.md (sx1302_hal, packet_forwarder)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quartier.lorawan.gateways import gwmp
from quartier.lorawan.gateways.gwmp import Acknowledgement, GwmpError, Heard, Kind
from tests.lorawan.gateways.bench import EUI

LORA: dict[str, Any] = {
    "time": "2013-03-31T16:21:17.528002Z",
    "tmst": 3512348611,
    "chan": 2,
    "rfch": 0,
    "freq": 866.349812,
    "stat": 1,
    "modu": "LORA",
    "datr": "SF7BW125",
    "codr": "4/6",
    "rssi": -35,
    "lsnr": 5.1,
    "size": 32,
    "data": "-DS4CGaDCdG+48eJNM3Vai-zDpsR71Pn9CPA9uCON84",
}
LORA_PHY = bytes.fromhex("f834b808668309d1bee3c78934cdd56a2fb30e9b11ef53e7f423c0f6e08e37ce")
FSK = {
    "time": "2013-03-31T16:21:17.530974Z",
    "tmst": 3512348514,
    "chan": 9,
    "rfch": 1,
    "freq": 869.1,
    "stat": 1,
    "modu": "FSK",
    "datr": 50000,
    "rssi": -75,
    "size": 16,
    "data": "VEVTVF9QQUNLRVRfMTIzNA==",
}
HEARD = Heard(LORA_PHY, 3512348611, 866_349_812, "SF7BW125", 1, -35.0, 5.1, 2)


def push(*receptions: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"rxpk": list(receptions), **more}).encode()


def test_header() -> None:
    datagram = bytes((2, 0xAB, 0xCD, 0)) + EUI + b"{}"
    assert gwmp.parse(datagram) == (Kind.PUSH_DATA, b"\xab\xcd", EUI, b"{}")
    assert gwmp.parse(bytes((2, 0xAB, 0xCD, 4))) == (Kind.PULL_ACK, b"\xab\xcd", b"", b"")


@pytest.mark.parametrize(
    ("datagram", "message"),
    [
        (b"", "datagram: shorter than its header"),
        (b"\2\0\0", "datagram: shorter than its header"),
        (b"\1\0\0\0" + EUI, "version: 1 instead of 2"),
        (b"\2\0\0\x06" + EUI, "identifier: 6 is unknown"),
        (b"\2\0\0\0" + EUI[:7], "gateway: missing"),
    ],
)
def test_refused_headers(datagram: bytes, message: str) -> None:
    with pytest.raises(GwmpError) as caught:
        gwmp.parse(datagram)
    assert str(caught.value) == message


def test_examples_of_the_protocol() -> None:
    assert gwmp.parse_push(push(LORA, FSK)) == gwmp.Push(
        [HEARD, Heard(b"TEST_PACKET_1234", 3512348514, 869_100_000, 50_000, 1, -75.0, 0.0, 9)]
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": LORA["data"] + "="}, {}),
        ({"data": LORA["data"].replace("-", "+")}, {}),
        ({"datr": "sf7bw125"}, {}),
        ({"tmst": "3512348611", "rssi": "-35", "lsnr": "5.1", "freq": "866.349812"}, {}),
        ({"datr": "50000"}, {"data_rate": 50_000}),
        ({"rssi": None, "rssis": -36}, {"rssi_dbm": -36.0}),
        ({"lsnr": None}, {"snr_db": 0.0}),
        ({"stat": -1}, {"crc": -1}),
        ({"tmms": 1464178432000}, {"gps_time_ms": 1464178432000}),
        ({"fts": 512_000_000}, {"fine_time_ns": 512_000_000}),
        ({"fts": -1}, {}),
        ({"chan": 300}, {"channel": None}),
        ({"foff": -2180, "jver": 1, "newer": [{}]}, {}),
        (
            {
                "rssi": None,
                "rsig": [
                    {"ant": 0, "chan": 7, "rssic": -111, "lsnr": -2.5, "etime": "AAAA"},
                    {"ant": 1, "chan": 15, "rssic": -101, "lsnr": 4.0, "ftime": 17},
                ],
            },
            {"rssi_dbm": -101.0, "snr_db": 4.0, "channel": 15, "fine_time_ns": 17},
        ),
    ],
)
def test_spellings(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    wanted = {name: getattr(HEARD, name) for name in Heard.__struct_fields__} | expected
    assert gwmp.parse_push(push(LORA | changes)) == gwmp.Push([Heard(**wanted)])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"size": 31}, "size: 31, but data has 32 bytes"),
        ({"size": 0, "data": ""}, "data: 0 bytes are no frame"),
        ({"size": 256, "data": "AAAA" * 85 + "AA"}, "data: 256 bytes are no frame"),
        ({"data": "§§§"}, "data: no base64"),
        ({"data": "A"}, "data: no base64"),
        ({"tmst": -1}, "tmst: not within 32 bits"),
        ({"tmst": 1 << 32}, "tmst: not within 32 bits"),
        ({"freq": 0}, "freq: no frequency in MHz"),
        ({"datr": "S" * 17}, "datr: no data rate"),
        ({"rssi": None}, "rssi: missing or impossible"),
        ({"rssi": 1e9}, "rssi: missing or impossible"),
        ({"lsnr": -1e9}, "lsnr: impossible"),
    ],
)
def test_one_bad_reception_leaves_the_others(changes: dict[str, Any], error: str) -> None:
    assert gwmp.parse_push(push(LORA | changes, LORA)) == gwmp.Push([HEARD], None, (error,))


@pytest.mark.parametrize("changes", [{"tmst": "soon"}, {"datr": [7]}, {"data": 5}, {"rsig": 1}])
def test_wrong_types_leave_the_others(changes: dict[str, Any]) -> None:
    parsed = gwmp.parse_push(push(LORA | changes, LORA, stat=[]))
    assert parsed.heard == [HEARD]
    assert [error.split(":")[0] for error in parsed.errors] == ["rxpk", "stat"]


def test_status_and_trailing_zeros() -> None:
    body = b'{"stat":{"time":"2014-01-12 08:59:28 GMT","rxnb":2,"temp":23.2}}\0\0'
    status = {"time": "2014-01-12 08:59:28 GMT", "rxnb": 2, "temp": 23.2}
    assert gwmp.parse_push(body) == gwmp.Push([], status)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"rxpk":1}', b"[" * 100_000])
def test_unreadable_bodies(body: bytes) -> None:
    with pytest.raises(GwmpError):
        gwmp.parse_push(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Acknowledgement()),
        (b"\0", Acknowledgement()),
        (b"{}", Acknowledgement()),
        (b'{"txpk_ack":{"error":"NONE"}}', Acknowledgement()),
        (b'{"txpk_ack":{"error":"COLLISION_PACKET"}}', Acknowledgement("COLLISION_PACKET")),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":20}}', Acknowledgement("", "TX_POWER", 20)),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":"20"}}', Acknowledgement("", "TX_POWER", 20)),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":"much"}}', Acknowledgement("", "TX_POWER")),
    ],
)
def test_acknowledgements(body: bytes, expected: Acknowledgement) -> None:
    assert gwmp.parse_acknowledgement(body) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"data_rate": "SF12BW125", "timestamp_us": (1 << 32) + 5},
            {"imme": False, "tmst": 5, "modu": "LORA", "datr": "SF12BW125", "codr": "4/5", "ipol": True},
        ),
        (
            {"data_rate": 50_000, "gps_time_ms": 1464178432000},
            {"imme": False, "tmms": 1464178432000, "modu": "FSK", "datr": 50000, "fdev": 25000, "prea": 5},
        ),
        (
            {"data_rate": "SF7BW125"},
            {"imme": True, "modu": "LORA", "datr": "SF7BW125", "codr": "4/5", "ipol": True},
        ),
    ],
)
def test_responses(arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    datagram = gwmp.pull_response(
        b"\1\2", phy=b"\x60abc", frequency_hz=869_525_000, power_dbm=27, **arguments
    )
    assert datagram[:4] == bytes((2, 1, 2, 3))
    common = {"freq": 869.525, "rfch": 0, "powe": 27, "size": 4, "data": "YGFiYw==", "ncrc": True}
    assert json.loads(datagram[4:]) == {"txpk": common | expected}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.binary(max_size=400))
@example(b'{"rxpk":[{"data":"AA==","freq":1e999,"datr":"SF7BW125","tmst":0}]}')
def test_nothing_but_a_gwmp_error_comes_of_any_bytes(data: bytes) -> None:
    for reader in (gwmp.parse, gwmp.parse_push, gwmp.parse_acknowledgement):
        with contextlib.suppress(GwmpError):
            reader(data)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*LORA, "rsig", "rssis", "tmms", "fts", "ftime"]), json_values, max_size=5
    ),
    json_values,
)
def test_nothing_but_a_gwmp_error_comes_of_any_json(changes: dict[str, Any], status: Any) -> None:
    body = json.dumps({"rxpk": [LORA | changes, LORA], "stat": status}).encode()
    try:
        parsed = gwmp.parse_push(body)
    except GwmpError:
        # json.dumps writes NaN and Infinity, which no decoder of JSON takes.
        assert b"NaN" in body or b"Infinity" in body
    else:
        assert parsed.heard
        for heard in parsed.heard:
            assert 0 < len(heard.phy) <= gwmp.LARGEST_PHY
            assert 0 <= heard.timestamp_us < 1 << 32


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["error", "warn", "value"]), json_values))
def test_nothing_but_a_gwmp_error_comes_of_any_acknowledgement(fields: dict[str, Any]) -> None:
    with contextlib.suppress(GwmpError):
        gwmp.parse_acknowledgement(json.dumps({"txpk_ack": fields}).encode())
