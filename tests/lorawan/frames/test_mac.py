"""MAC commands against the bytes of ChirpStack's tests (``lrwn/src/maccommand.rs``), and as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, mac
from quartier.lorawan.frames.commands import Command, Parsed, serialise

UP: list[tuple[str, Command]] = [
    ("0101", mac.ResetInd(minor=1)),
    ("02", mac.LinkCheckReq()),
    ("0300", mac.LinkADRAns(channel_mask_ok=False, data_rate_ok=False, tx_power_ok=False)),
    ("0301", mac.LinkADRAns(channel_mask_ok=True, data_rate_ok=False, tx_power_ok=False)),
    ("0302", mac.LinkADRAns(channel_mask_ok=False, data_rate_ok=True, tx_power_ok=False)),
    ("0304", mac.LinkADRAns(channel_mask_ok=False, data_rate_ok=False, tx_power_ok=True)),
    ("04", mac.DutyCycleAns()),
    ("0505", mac.RXParamSetupAns(channel_ok=True, rx2_data_rate_ok=False, rx1_data_rate_offset_ok=True)),
    ("060022", mac.DevStatusAns(battery=0, margin_db=-30)),
    ("06ff1e", mac.DevStatusAns(battery=255, margin_db=30)),
    ("067f3f", mac.DevStatusAns(battery=127, margin_db=-1)),
    ("0701", mac.NewChannelAns(frequency_ok=True, data_rates_ok=False)),
    ("0702", mac.NewChannelAns(frequency_ok=False, data_rates_ok=True)),
    ("08", mac.RXTimingSetupAns()),
    ("09", mac.TxParamSetupAns()),
    ("0a01", mac.DlChannelAns(frequency_ok=True, uplink_frequency_exists=False)),
    ("0a02", mac.DlChannelAns(frequency_ok=False, uplink_frequency_exists=True)),
    ("0b01", mac.RekeyInd(minor=1)),
    ("0c", mac.ADRParamSetupAns()),
    ("0d", mac.DeviceTimeReq()),
    ("0f01", mac.RejoinParamSetupAns(time_ok=True)),
    ("1003", mac.PingSlotInfoReq(periodicity=3)),
    ("1101", mac.PingSlotChannelAns(frequency_ok=True, data_rate_ok=False)),
    ("1102", mac.PingSlotChannelAns(frequency_ok=False, data_rate_ok=True)),
    ("12", mac.BeaconTimingReq()),
    ("1301", mac.BeaconFreqAns(frequency_ok=True)),
    ("2002", mac.DeviceModeInd(device_class=mac.DeviceClass.C)),
]
DOWN: list[tuple[str, Command]] = [
    ("0101", mac.ResetConf(minor=1)),
    ("020a0f", mac.LinkCheckAns(margin_db=10, gateways=15)),
    # Not from there: TS001-1.0.4 §5.3; DR5, power 2, channels 0 … 7, twice, ChMaskCntl 6.
    (
        "0352ff0062",
        mac.LinkADRReq(data_rate=5, tx_power=2, channel_mask=0xFF, channel_mask_control=6, transmissions=2),
    ),
    ("040d", mac.DutyCycleReq(exponent=13)),
    # TS001-1.0.4 §5.5: offset 3, DR2 on 869.525 MHz.
    (
        "0532d2ad84",
        mac.RXParamSetupReq(rx2_frequency_hz=869_525_000, rx2_data_rate=2, rx1_data_rate_offset=3),
    ),
    ("06", mac.DevStatusReq()),
    (
        "07030102045a",
        mac.NewChannelReq(channel=3, frequency_hz=26_265_700, max_data_rate=5, min_data_rate=10),
    ),
    ("080f", mac.RXTimingSetupReq(delay=15)),
    ("090f", mac.TxParamSetupReq(uplink_dwell_time=False, downlink_dwell_time=False, max_eirp=15)),
    ("091f", mac.TxParamSetupReq(uplink_dwell_time=True, downlink_dwell_time=False, max_eirp=15)),
    ("092f", mac.TxParamSetupReq(uplink_dwell_time=False, downlink_dwell_time=True, max_eirp=15)),
    ("0a00287684", mac.DlChannelReq(channel=0, frequency_hz=868_100_000)),
    ("0a01107a84", mac.DlChannelReq(channel=1, frequency_hz=868_200_000)),
    ("0b01", mac.RekeyConf(minor=1)),
    ("0caf", mac.ADRParamSetupReq(limit_exponent=10, delay_exponent=15)),
    ("0d0100000002", mac.DeviceTimeAns(gps_s=1, fraction_256=2)),
    ("0e251c", mac.ForceRejoinReq(period=3, max_retries=4, rejoin_type=2, data_rate=5)),
    ("0fef", mac.RejoinParamSetupReq(max_time=14, max_count=15)),
    ("10", mac.PingSlotInfoAns()),
    ("1128768405", mac.PingSlotChannelReq(frequency_hz=868_100_000, data_rate=5)),
    # The Things Stack, pkg/encoding/lorawan.
    ("12ff4242", mac.BeaconTimingAns(delay=0x42FF, channel=0x42)),
    ("13287684", mac.BeaconFreqReq(frequency_hz=868_100_000)),
    ("2000", mac.DeviceModeConf(device_class=mac.DeviceClass.A)),
]


@pytest.mark.parametrize(("text", "command"), UP, ids=[text for text, _ in UP])
def test_commands_of_devices(text: str, command: Command) -> None:
    assert mac.parse(bytes.fromhex(text), uplink=True) == Parsed((command,), b"")
    assert command.serialise().hex() == text


@pytest.mark.parametrize(("text", "command"), DOWN, ids=[text for text, _ in DOWN])
def test_commands_of_networks(text: str, command: Command) -> None:
    assert mac.parse(bytes.fromhex(text), uplink=False) == Parsed((command,), b"")
    assert command.serialise().hex() == text


def test_every_command_is_in_the_tables() -> None:
    assert {type(command) for _, command in UP} == set(mac.MAC.uplink.values())
    assert {type(command) for _, command in DOWN} == set(mac.MAC.downlink.values())


def test_an_unknown_command_ends_the_parse_and_keeps_what_came_before() -> None:
    known = [mac.DevStatusAns(battery=1, margin_db=2), mac.LinkCheckReq()]
    for rest in (b"\x80\x01\x02", b"\x03", b"\x06\x01", b"\x0e\x02"):
        assert mac.parse(serialise(known) + rest, uplink=True) == Parsed(tuple(known), rest)
    assert mac.parse(b"", uplink=True) == Parsed((), b"")


def test_reserved_bits_are_ignored() -> None:
    assert mac.parse(b"\x04\xfd", uplink=False).commands == (mac.DutyCycleReq(exponent=13),)
    assert mac.parse(b"\x06\x01\xff", uplink=True).commands == (mac.DevStatusAns(battery=1, margin_db=-1),)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (mac.DevStatusAns(battery=256, margin_db=0), "battery: 256 is not between 0 and 255"),
        (mac.DevStatusAns(battery=0, margin_db=32), "margin_db: 32 is not between -32 and 31"),
        (mac.RXTimingSetupReq(delay=16), "delay: 16 is not between 0 and 15"),
        (mac.BeaconFreqReq(frequency_hz=868_100_050), "frequency_hz: 868100050 is not a multiple of 100"),
        (
            mac.BeaconFreqReq(frequency_hz=2_000_000_000),
            "frequency_hz: 2000000000 is not between 0 and 1677721500",
        ),
    ],
)
def test_values_out_of_range_are_refused(command: Command, error: str) -> None:
    with pytest.raises(FrameError) as raised:
        command.serialise()
    assert str(raised.value) == error


@pytest.mark.parametrize(
    "kind", [*mac.MAC.uplink.values(), *mac.MAC.downlink.values()], ids=lambda kind: kind.__name__
)
def test_fields_fill_the_body_without_overlapping(kind: type[Command]) -> None:
    taken = 0
    for _, place in kind._places:
        mask = (1 << place.width) - 1 << place.start
        assert taken & mask == 0
        taken |= mask
    assert (taken.bit_length() + 7) // 8 == kind.size


def test_commands_need_all_their_fields() -> None:
    incomplete: Any = mac.LinkCheckAns
    with pytest.raises(TypeError):
        incomplete(margin_db=1)


def test_what_fields_mean() -> None:
    assert mac.DutyCycleReq(exponent=0).ratio == 1
    assert mac.DutyCycleReq(exponent=7).ratio == 1 / 128
    assert mac.RXTimingSetupReq(delay=0).delay_s == mac.RXTimingSetupReq(delay=1).delay_s == 1
    powers = [
        mac.TxParamSetupReq(max_eirp=index, uplink_dwell_time=False, downlink_dwell_time=False).max_eirp_dbm
        for index in range(16)
    ]
    # TS001-1.0.4 §5.8, table of MaxEIRP
    assert powers == [8, 10, 12, 13, 14, 16, 18, 20, 21, 24, 26, 27, 29, 30, 33, 36]
    assert mac.DevStatusAns(battery=254, margin_db=0).battery_ratio == 1
    assert mac.DevStatusAns(battery=1, margin_db=0).battery_ratio == 0
    assert mac.DevStatusAns(battery=mac.BATTERY_UNKNOWN, margin_db=0).battery_ratio is None
    assert mac.DevStatusAns(battery=mac.BATTERY_EXTERNAL, margin_db=0).battery_ratio is None
    assert mac.LinkADRAns(channel_mask_ok=True, data_rate_ok=True, tx_power_ok=True).ok
    assert not mac.LinkADRAns(channel_mask_ok=True, data_rate_ok=False, tx_power_ok=True).ok
    assert mac.device_time(1_000_500) == mac.DeviceTimeAns(gps_s=1000, fraction_256=128)
    assert mac.device_time(1_000_999).gps_ms == 1_000_996
    with pytest.raises(FrameError, match="gps_ms"):
        mac.device_time(-1)


@given(st.binary(max_size=30), st.booleans())
def test_any_bytes_are_split_into_commands_and_a_rest(data: bytes, uplink: bool) -> None:
    commands, rest = mac.parse(data, uplink=uplink)
    again = serialise(commands)
    assert len(again) + len(rest) == len(data)
    # Reserved bits are not kept, everything else is.
    assert mac.parse(again + rest, uplink=uplink) == (commands, rest)
