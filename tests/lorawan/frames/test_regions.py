"""EU868 against RP002-1.0.4 §2.5, and time on air against Semtech's and The Things Network's calculators."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError
from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.modulation import Fsk, Lora, LrFhss
from quartier.lorawan.frames.regions import EU868, REGIONS, ChannelList, Region


def test_regions_are_found_by_name() -> None:
    region: Region = REGIONS["EU868"]
    assert region is EU868


def test_data_rates_and_what_they_carry() -> None:
    rows = [
        (
            index,
            EU868.data_rate_name(index),
            EU868.max_payload(index),
            EU868.max_payload(index, repeater=True),
        )
        for index in EU868.data_rates
    ]
    assert rows == [
        (0, "DR0 (SF12BW125)", 51, 51),
        (1, "DR1 (SF11BW125)", 51, 51),
        (2, "DR2 (SF10BW125)", 51, 51),
        (3, "DR3 (SF9BW125)", 115, 115),
        (4, "DR4 (SF8BW125)", 242, 222),
        (5, "DR5 (SF7BW125)", 242, 222),
        (6, "DR6 (SF7BW250)", 242, 222),
        (7, "DR7 (FSK50)", 242, 222),
        (8, "DR8 (M0CW137)", 50, 50),
        (9, "DR9 (M0CW137)", 115, 115),
        (10, "DR10 (M0CW336)", 50, 50),
        (11, "DR11 (M0CW336)", 115, 115),
    ]
    for index, data_rate in EU868.data_rates.items():
        assert EU868.data_rate_index(data_rate) == index


def test_what_a_device_has_from_the_start() -> None:
    channels = [(one.frequency_hz, one.min_data_rate, one.max_data_rate) for one in EU868.default_channels]
    assert channels == [(868_100_000, 0, 5), (868_300_000, 0, 5), (868_500_000, 0, 5)]
    assert (EU868.low_hz, EU868.high_hz, EU868.max_channels) == (863_000_000, 870_000_000, 16)
    assert (EU868.rx2_frequency_hz, EU868.rx2_data_rate) == (869_525_000, 0)
    assert (EU868.beacon_frequency_hz, EU868.beacon_data_rate) == (869_525_000, 3)
    assert (EU868.ping_slot_frequency_hz, EU868.ping_slot_data_rate) == (869_525_000, 3)
    assert (EU868.receive_delay1_s, EU868.join_accept_delay1_s) == (1, 5)
    assert (EU868.adr_ack_limit, EU868.adr_ack_delay) == (64, 32)
    assert (EU868.downlink_data_rates, EU868.adr_data_rates) == (tuple(range(8)), tuple(range(6)))


def test_first_window_by_offset() -> None:
    """RP002-1.0.4 table 12."""
    table = {up: tuple(EU868.rx1_data_rate(up, offset) for offset in range(6)) for up in EU868.data_rates}
    assert table == {
        0: (0, 0, 0, 0, 0, 0),
        1: (1, 0, 0, 0, 0, 0),
        2: (2, 1, 0, 0, 0, 0),
        3: (3, 2, 1, 0, 0, 0),
        4: (4, 3, 2, 1, 0, 0),
        5: (5, 4, 3, 2, 1, 0),
        6: (6, 5, 4, 3, 2, 1),
        7: (7, 6, 5, 4, 3, 2),
        8: (1, 0, 0, 0, 0, 0),
        9: (2, 1, 0, 0, 0, 0),
        10: (1, 0, 0, 0, 0, 0),
        11: (2, 1, 0, 0, 0, 0),
    }
    assert EU868.rx1_frequency_hz(867_100_000) == 867_100_000


def test_powers_go_down_in_steps_of_two() -> None:
    assert [EU868.tx_power_dbm(index) for index in range(EU868.tx_powers)] == [16, 14, 12, 10, 8, 6, 4, 2]
    assert EU868.tx_power_dbm(3, max_eirp_dbm=14) == 8


def test_what_is_not_defined_is_refused() -> None:
    refused = []
    for attempt in (
        lambda: EU868.data_rate(12),
        lambda: EU868.data_rate_index(Lora(7, 500_000)),
        lambda: EU868.max_payload(-1),
        lambda: EU868.tx_power_dbm(8),
        lambda: EU868.rx1_data_rate(5, 6),
        lambda: EU868.rx1_data_rate(15, 0),
        lambda: EU868.enabled_channels(1, 1, (0, 1, 2)),
        lambda: EU868.enabled_channels(0, 0, (0, 1, 2)),
        lambda: EU868.enabled_channels(0, 0b1001, (0, 1, 2)),
        lambda: EU868.channel_masks((16,)),
        lambda: EU868.pack_channel_list(range(6)),
        lambda: EU868.pack_channel_list((868_100_001,)),
        lambda: EU868.parse_channel_list(bytes(15)),
        lambda: EU868.parse_channel_list(bytes(15) + b"\2"),
    ):
        with pytest.raises(FrameError) as raised:
            attempt()
        refused.append(str(raised.value))
    assert refused == [
        "data_rate: 12 is not defined in EU868",
        "data_rate: SF7BW500 is not used in EU868",
        "data_rate: -1 is not defined in EU868",
        "tx_power: 8 is not between 0 and 7",
        "rx1_data_rate_offset: 6 is not between 0 and 5",
        "data_rate: 15 is not defined in EU868",
        "channel_mask_control: 1 is not defined in EU868",
        "channel_mask: no channel would be left",
        "channel_mask: channel 3 is not defined",
        "channel: 16 is not between 0 and 15",
        "channel_list: 6 channels, more than 5",
        "frequency_hz: 868100001 is not a multiple of 100",
        "channel_list: 15 bytes instead of 16",
        "channel_list: type 2 is reserved",
    ]


@pytest.mark.parametrize(
    ("frequency_hz", "name", "duty_cycle", "erp_dbm"),
    [
        (863_000_000, "863–865", 0.001, 14),
        (865_000_000, "865–868", 0.01, 14),
        (867_900_000, "865–868", 0.01, 14),
        (868_100_000, "868–868.6", 0.01, 14),
        (868_800_000, "868.7–869.2", 0.001, 14),
        (869_525_000, "869.4–869.65", 0.1, 27),
        (869_900_000, "869.7–870", 0.01, 14),
    ],
)
def test_sub_bands(frequency_hz: int, name: str, duty_cycle: float, erp_dbm: float) -> None:
    band = EU868.sub_band(frequency_hz)
    assert band is not None
    assert (band.name, band.duty_cycle, band.erp_dbm) == (name, duty_cycle, erp_dbm)
    assert band.eirp_dbm == pytest.approx(erp_dbm + 2.15)


def test_edges_of_the_sub_bands() -> None:
    """ETSI EN 300 220-2 annex B, bands K, L, M, N, P and Q; in kHz."""
    assert [(band.low_hz / 1000, band.high_hz / 1000) for band in EU868.sub_bands] == [
        (863_000, 865_000),
        (865_000, 868_000),
        (868_000, 868_600),
        (868_700, 869_200),
        (869_400, 869_650),
        (869_700, 870_000),
    ]


@pytest.mark.parametrize("frequency_hz", [862_999_999, 868_650_000, 869_300_000, 869_680_000, 870_000_000])
def test_nothing_may_be_sent_between_the_sub_bands(frequency_hz: int) -> None:
    assert EU868.sub_band(frequency_hz) is None


def test_channel_list_of_frequencies() -> None:
    """The five further channels that most European networks use; bytes as in LoRaWAN 1.0's CFList, 100 Hz steps."""
    more = (867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000)
    packed = EU868.pack_channel_list(more)
    assert packed.hex() == "184f84e85684b85e84886684586e8400"
    assert EU868.parse_channel_list(packed) == ChannelList(frequencies_hz=more)
    assert EU868.parse_channel_list(EU868.pack_channel_list(more[:2])) == ChannelList(frequencies_hz=more[:2])


def test_channel_list_of_masks() -> None:
    packed = bytes.fromhex("ff00 0100 0000 0000 0000 0000 0000 00 01")
    assert EU868.parse_channel_list(packed) == ChannelList(masks=(0x00FF, 1, 0, 0, 0, 0, 0))


def test_channel_masks_enable_what_they_say() -> None:
    defined = range(8)
    assert EU868.enabled_channels(0, 0b101, defined) == {0, 2}
    assert EU868.enabled_channels(6, 0, defined) == set(defined)
    ((control, mask),) = EU868.channel_masks({0, 2, 7})
    assert EU868.enabled_channels(control, mask, defined) == {0, 2, 7}


@given(st.binary(min_size=16, max_size=16))
def test_any_channel_list_is_read_or_refused(packed: bytes) -> None:
    try:
        read = EU868.parse_channel_list(packed)
    except FrameError:
        return
    assert len(read.frequencies_hz) <= 5


@pytest.mark.parametrize(
    ("data_rate", "size", "crc", "milliseconds"),
    [
        # avbentem's calculator for The Things Network: payload and 13 bytes of LoRaWAN.
        (Lora(7, 125_000), 13, True, 46.336),
        (Lora(7, 125_000), 23, True, 61.696),
        (Lora(9, 125_000), 23, True, 205.824),
        (Lora(12, 125_000), 64, True, 2793.472),
        (Lora(12, 125_000), 13, True, 1155.072),
        (Lora(7, 250_000), 23, True, 30.848),
        # By hand along AN1200.13, as a gateway sends: without CRC; 12.25 + 8 + 4 · 5 symbols of 1.024 ms.
        (Lora(7, 125_000), 13, False, 41.216),
        # Fewer bits than the header block holds: 12.25 + 8 symbols of 32.768 ms.
        (Lora(12, 125_000), 1, False, 663.552),
        # TS001: (5 + 3 + 1 + 20 + 2) bytes at 50 kbit/s
        (Fsk(50_000), 20, True, 4.96),
        # Three headers, (20 + 3) / 2 fragments; two headers, (20 + 3) / 4 fragments
        (LrFhss("1/3", 137_000), 20, True, 3 * 233.472 + 12 * 102.4),
        (LrFhss("2/3", 137_000), 20, True, 2 * 233.472 + 6 * 102.4),
    ],
)
def test_time_on_air(data_rate: Lora | Fsk | LrFhss, size: int, crc: bool, milliseconds: float) -> None:
    assert time_on_air_s(data_rate, size, crc=crc) * 1000 == pytest.approx(milliseconds, abs=0.001)


def test_longer_frames_and_slower_data_rates_take_longer() -> None:
    for size in (12, 51, 115):
        times = [time_on_air_s(EU868.data_rate(index), size) for index in range(8)]
        assert times == sorted(times, reverse=True)
    lengths = [time_on_air_s(EU868.data_rate(5), size) for size in range(12, 256)]
    assert lengths == sorted(lengths)
    assert (
        time_on_air_s(Lora(5, 125_000), 23)
        < time_on_air_s(Lora(6, 125_000), 23)
        < time_on_air_s(Lora(7, 125_000), 23)
    )
