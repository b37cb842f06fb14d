"""Basics Station's messages. The first three are those of a real Station 2.0.6 (recorded from its simulator)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.gateways.links import Opportunity
from quartier.lorawan.gateways.station import messages
from quartier.lorawan.gateways.station.messages import (
    Heard,
    Other,
    StationError,
    TimeQuestion,
    Transmitted,
    Version,
)
from quartier.lorawan.gateways.station.router_config import ChannelPlanError, RadioPlan, router_config
from quartier.virtual.lora.station import _parts
from tests.lorawan.gateways.bench import UPLINK
from tests.lorawan.gateways.test_gwmp import json_values

JOIN: dict[str, Any] = {
    "msgtype": "jreq",
    "MHdr": 0,
    "JoinEui": "01-02-03-04-05-06-07-08",
    "DevEui": "88-77-66-55-44-33-22-11",
    "DevNonce": 7,
    "MIC": 67305985,
    "RefTime": 1795381788.425928,
    "DR": 5,
    "Freq": 868100000,
    "upinfo": {
        "rctx": 0,
        "xtime": 12666374223417121,
        "gpstime": 0,
        "fts": -1,
        "rssi": -50,
        "snr": 9,
        "rxtime": 1795381788.425928,
    },
}
DATA: dict[str, Any] = {
    "msgtype": "updf",
    "MHdr": 64,
    "DevAddr": 1,
    "FCtrl": 0,
    "FCnt": 0,
    "FOpts": "",
    "FPort": 10,
    "FRMPayload": "AABB",
    "MIC": 1,
    "RefTime": 1795381794.918224,
    "DR": 5,
    "Freq": 868300000,
    "upinfo": JOIN["upinfo"],
}
CONFIRMED = {
    "msgtype": "dntxed",
    "seqno": 900,
    "diid": 900,
    "DR": 5,
    "Freq": 868100000,
    "DevEui": "88-77-66-55-44-33-22-11",
    "rctx": 0,
    "xtime": 12666374228417121,
    "txtime": 2852.156535,
    "gpstime": 0,
}
JOIN_PHY = bytes.fromhex("00" + "0807060504030201" + "1122334455667788" + "0700" + "01020304")


def heard(phy: bytes, frequency_hz: int = 868_100_000) -> Heard:
    return Heard(phy, 5, frequency_hz, 0, 12666374223417121, -50.0, 9.0, 0, None)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (JOIN, heard(JOIN_PHY)),
        (
            DATA,
            heard(bytes.fromhex("40" + "01000000" + "00" + "0000" + "0a" + "aabb" + "01000000"), 868300000),
        ),
        (CONFIRMED, Transmitted(900, 5, 868_100_000, 12666374228417121)),
        (JOIN | {"JoinEui": "102:304:506:708", "DevEui": "8877:6655:4433:2211"}, heard(JOIN_PHY)),
        (
            {("JoinEUI" if k == "JoinEui" else "DevEUI" if k == "DevEui" else k): v for k, v in JOIN.items()},
            heard(JOIN_PHY),
        ),
        (JOIN | {"MIC": -1}, heard(JOIN_PHY[:-4] + b"\xff" * 4)),
        (
            DATA
            | {"DevAddr": -2, "FCtrl": 0x82, "FOpts": "0307", "FPort": -1, "FRMPayload": "", "FCnt": 65535},
            heard(bytes.fromhex("40" + "feffffff" + "82" + "ffff" + "0307" + "01000000"), 868300000),
        ),
        (JOIN | {"msgtype": "propdf", "FRMPayload": "E0010203"}, heard(b"\xe0\1\2\3")),
        (JOIN | {"msgtype": "rejoin", "pdu": "c000" + "00" * 17}, heard(b"\xc0" + bytes(18))),
        (JOIN | {"msgtype": "rejoin", "MHdr": 0xC0}, heard(b"\xc0" + JOIN_PHY[1:])),
        ({"msgtype": "timesync", "txtime": 17}, TimeQuestion(17)),
        (
            {
                "msgtype": "version",
                "station": "2.0.6(linux/testsim)",
                "firmware": None,
                "package": None,
                "model": "linux",
                "protocol": 2,
                "features": "rmtsh",
            },
            Version("2.0.6(linux/testsim)", "linux", "", 2, "rmtsh"),
        ),
        ({"msgtype": "version", "features": ["gps", "rmtsh"]}, Version(features="gps rmtsh")),
        ({"msgtype": "rmtsh", "rmtsh": []}, Other("rmtsh")),
    ],
)
def test_messages(message: dict[str, Any], expected: messages.Message) -> None:
    assert messages.parse(json.dumps(message)) == expected


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (JOIN | {"DevNonce": 65536}, "DevNonce: not within 16 bits"),
        (JOIN | {"MHdr": -1}, "MHdr: not within 8 bits"),
        (JOIN | {"MIC": 1 << 32}, "MIC: not within 32 bits"),
        (JOIN | {"DevEui": "xx"}, "JoinEui, DevEui: 'xx' is no EUI"),
        ({k: v for k, v in JOIN.items() if k != "DevEui"}, "JoinEui, DevEui: missing"),
        (JOIN | {"DR": 16}, "DR: no data rate"),
        (JOIN | {"Freq": 0}, "Freq: no frequency in Hz"),
        (JOIN | {"upinfo": {"xtime": 1, "rssi": 1000}}, "upinfo: impossible signal"),
        (JOIN | {"upinfo": {"xtime": 1 << 63}}, "upinfo: impossible time"),
        (DATA | {"FOpts": "03"}, "FOpts: 1 bytes, but FCtrl says 0"),
        (DATA | {"FPort": -1}, "FRMPayload: without FPort"),
        (DATA | {"FPort": 256}, "FPort: not within 8 bits"),
        (DATA | {"FRMPayload": "xx"}, "FRMPayload: no hexadecimal text"),
        (DATA | {"FRMPayload": "00" * 300}, "FRMPayload: 269 bytes are no frame"),
        (JOIN | {"msgtype": "propdf"}, "FRMPayload: 0 bytes are no frame"),
        ({"msgtype": "dntxed"}, "diid: missing"),
    ],
)
def test_refused_messages(message: dict[str, Any], error: str) -> None:
    with pytest.raises(StationError) as caught:
        messages.parse(json.dumps(message))
    assert str(caught.value) == error


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=250))
def test_what_a_station_takes_apart_becomes_the_same_bytes(phy: bytes) -> None:
    parts = _parts(phy)
    if parts is not None:
        message = parts | {name: JOIN[name] for name in ("DR", "Freq", "upinfo")}
        assert messages.parse(json.dumps(message)) == heard(phy)


@settings(deadline=None)
@given(
    st.integers(0, 0x3FFF_FFFF),
    st.binary(max_size=15),
    st.none() | st.integers(0, 255),
    st.binary(max_size=200),
)
def test_every_data_frame_survives(numbers: int, options: bytes, port: int | None, payload: bytes) -> None:
    phy = b"\x80" + numbers.to_bytes(4) + bytes((len(options),)) + b"\1\2" + options
    phy += b"" if port is None else bytes((port,)) + payload
    phy += b"\xff\xee\xdd\xcc"
    parts = _parts(phy)
    assert parts is not None
    message = parts | {name: JOIN[name] for name in ("DR", "Freq", "upinfo")}
    assert messages.parse(json.dumps(message)) == heard(phy)


@settings(deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300))
def test_nothing_but_a_station_error_comes_of_any_text(text: str | bytes) -> None:
    for reader in (messages.parse, messages.parse_question):
        with contextlib.suppress(StationError):
            reader(text)


@settings(deadline=None)
@given(
    st.sampled_from([JOIN, DATA, CONFIRMED, {"msgtype": "version"}, {"msgtype": "timesync"}]),
    st.dictionaries(
        st.sampled_from([*JOIN, *DATA, "pdu", "diid", "txtime", "features"]), json_values, max_size=4
    ),
    st.dictionaries(st.sampled_from(list(JOIN["upinfo"])), json_values, max_size=4),
)
def test_nothing_but_a_station_error_comes_of_any_json(
    message: dict[str, Any], changes: dict[str, Any], info: dict[str, Any]
) -> None:
    changed = message | {"upinfo": JOIN["upinfo"] | info} | changes
    with contextlib.suppress(StationError):
        messages.parse(json.dumps(changed))


@pytest.mark.parametrize(
    ("text", "eui"),
    [
        ('{"router":"::1"}', "0000000000000001"),
        ('{"router":"b8:27:eb:1:2:3"}', None),
        ('{"router":1}', "0" * 15 + "1"),
    ],
)
def test_discovery(text: str, eui: str | None) -> None:
    if eui is None:
        with pytest.raises(StationError, match="router: "):
            messages.parse_question(text)
    else:
        assert messages.parse_question(text).hex() == eui


def opportunity(index: int, frequency_hz: int, data_rate: int, delay_s: float | None) -> Opportunity:
    return Opportunity(
        index=index,
        frequency_hz=frequency_hz,
        data_rate=data_rate,
        delay_s=delay_s,
        due=0,
        airtime_s=0,
        eirp_dbm=14,
    )


DOWN = {
    "msgtype": "dnmsg",
    "DevEui": "88-77-66-55-44-33-22-11",
    "diid": 900,
    "pdu": "20ABAB",
    "priority": 0,
    "MuxTime": 1795381788.5,
}
XTIME = 12666374223417121


@pytest.mark.parametrize(
    ("opportunities", "more", "expected"),
    [
        (
            (opportunity(0, 868_100_000, 5, 5), opportunity(1, 869_525_000, 0, 6)),
            {"xtime": XTIME, "antenna": 0},
            {
                "dC": 0,
                "RxDelay": 5,
                "RX1DR": 5,
                "RX1Freq": 868100000,
                "RX2DR": 0,
                "RX2Freq": 869525000,
                "xtime": XTIME,
                "rctx": 0,
            },
        ),
        (
            (opportunity(1, 869_525_000, 0, 2),),
            {"xtime": XTIME, "antenna": 1},
            {"dC": 0, "RxDelay": 2, "RX1DR": 0, "RX1Freq": 869525000, "xtime": XTIME, "rctx": 1},
        ),
        (
            (opportunity(0, 869_525_000, 3, None),),
            {},
            {"dC": 2, "RxDelay": 1, "RX2DR": 3, "RX2Freq": 869525000},
        ),
        (
            (opportunity(0, 869_525_000, 3, None),),
            {"gps_time_us": 1_400_000_000_000_000},
            {"dC": 1, "DR": 3, "Freq": 869525000, "gpstime": 1_400_000_000_000_000},
        ),
    ],
)
def test_downlinks(
    opportunities: tuple[Opportunity, ...], more: dict[str, Any], expected: dict[str, Any]
) -> None:
    message = messages.downlink(
        number=900,
        device=bytes.fromhex("8877665544332211"),
        phy=b"\x20\xab\xab",
        opportunities=opportunities,
        priority=0,
        now=1795381788.5,
        **more,
    )
    assert message == DOWN | expected


def test_router_config_of_the_usual_channels() -> None:
    config = router_config(EU868, RadioPlan(), now=1.5)
    # The data rates are those that a real Station took; DRs from 8 on are unknown to it.
    assert config["DRs"] == [
        [12, 125, 0],
        [11, 125, 0],
        [10, 125, 0],
        [9, 125, 0],
        [8, 125, 0],
        [7, 125, 0],
        [7, 250, 0],
        [0, 0, 0],
        *[[-1, 0, 0]] * 8,
    ]
    assert (config["region"], config["hwspec"], config["MuxTime"]) == ("EU863", "sx1301/1", 1.5)
    assert config["freq_range"] == [863_000_000, 870_000_000]
    assert config["upchannels"][:3] == [[868100000, 0, 5], [868300000, 0, 5], [868500000, 0, 5]]
    assert (config["NetID"], config["JoinEui"], config["bcning"]) == (None, None, None)
    (radio,) = config["sx1301_conf"]
    centres = [radio[f"radio_{number}"]["freq"] for number in range(2)]
    assert centres == [867_500_000, 868_450_000]
    heard_hz = {centres[one["radio"]] + one["if"] for name, one in radio.items() if "multiSF" in name}
    assert heard_hz == set(RadioPlan().frequencies_hz)
    assert radio["chan_Lora_std"] == {
        "enable": True,
        "radio": 1,
        "if": -150_000,
        "bandwidth": 250_000,
        "spread_factor": 7,
    }
    assert radio["chan_FSK"] == {
        "enable": True,
        "radio": 1,
        "if": 350_000,
        "bandwidth": 125_000,
        "datarate": 50_000,
    }


def test_router_config_with_filters_and_one_radio() -> None:
    plan = RadioPlan(
        frequencies_hz=(868_100_000, 868_300_000, 868_500_000),
        wide_hz=None,
        fsk_hz=None,
        net_ids=(0, 1),
        join_euis=((1, 5),),
    )
    config = router_config(EU868, plan, now=0)
    assert (config["NetID"], config["JoinEui"]) == ([0, 1], [[1, 5]])
    (radio,) = config["sx1301_conf"]
    assert radio["radio_0"] == {"enable": True, "freq": 868_300_000}
    off = {"enable": False}
    assert [radio[name] for name in ("radio_1", "chan_Lora_std", "chan_FSK", "chan_multiSF_3")] == [off] * 4


@pytest.mark.parametrize(
    "frequencies_hz",
    [(), tuple(range(867_000_000, 867_900_000, 100_000)), (863_000_000, 865_000_000, 868_100_000)],
)
def test_channels_that_no_concentrator_hears(frequencies_hz: tuple[int, ...]) -> None:
    with pytest.raises(ChannelPlanError):
        router_config(EU868, RadioPlan(frequencies_hz=frequencies_hz), now=0)


def test_the_uplink_of_the_bench_is_one_that_a_station_sends() -> None:
    assert _parts(UPLINK) is not None
