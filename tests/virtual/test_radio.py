"""Which gateways hear the devices, and how."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from quartier.virtual.radio import CHANNELS_HZ, GATEWAYS, Radio, airtime_ms
from quartier.virtual.world import Device, world

CITIES = world(1)
RADIO = Radio(CITIES)


@given(
    device=st.sampled_from(CITIES.devices),
    frame_count=st.integers(0, 2**32 - 1),
    sent_us=st.integers(1_600_000_000_000_000, 2_000_000_000_000_000),
    size=st.integers(1, 51),
)
def test_frame_is_heard_by_gateways_of_its_own_city(
    device: Device, frame_count: int, sent_us: int, size: int
) -> None:
    frame = RADIO.frame(device, frame_count, sent_us, size)
    assert 1 <= len(frame.receptions) <= 4
    assert {reception.gateway.municipality for reception in frame.receptions} == {device.municipality}
    assert len({reception.gateway for reception in frame.receptions}) == len(frame.receptions)
    assert all(-122 <= reception.rssi_dbm <= -30 for reception in frame.receptions)
    assert all(-15.0 <= reception.snr_db <= 10.5 for reception in frame.receptions)
    assert all(0 <= reception.counter_us < 2**32 for reception in frame.receptions)
    assert frame.frequency_hz == CHANNELS_HZ[frame.channel]
    assert frame.spreading_factor + frame.data_rate == 12
    assert frame == RADIO.frame(device, frame_count, sent_us, size)


def test_most_devices_reach_the_fastest_data_rate() -> None:
    factors = Counter(RADIO.spreading_factor(device) for device in CITIES.devices)
    assert set(factors) <= {7, 8, 9, 10}
    assert factors[7] > 0.6 * len(CITIES.devices)


def test_gateways_of_both_cities_have_their_own_numbers() -> None:
    assert Counter(gateway.municipality for gateway in GATEWAYS) == {"dortmund": 16, "schwerte": 5}
    assert len({gateway.hex_id for gateway in GATEWAYS}) == len(GATEWAYS)


def test_airtime_grows_with_size_and_spreading_factor() -> None:
    # 61.696 ms is the recorded airtime of a real packet of 24 bytes at SF7.
    assert airtime_ms(7, 24) == 61.696
    assert airtime_ms(7, 64) > airtime_ms(7, 24)
    assert airtime_ms(10, 24) > 5 * airtime_ms(7, 24)
