"""The shared medium: who hears whom, and what collides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.modulation import Fsk, Lora
from quartier.virtual.lora import propagation
from quartier.virtual.lora.propagation import Place
from quartier.virtual.lora.radio import CHANNELS_HZ, DEMODULATORS, Flight, Radio
from quartier.virtual.lora.sites import sites
from quartier.virtual.places import offset

SF7, SF9, SF12 = (Lora(factor, 125_000) for factor in (7, 9, 12))
PHY = bytes(20)
GATEWAY = Place(number=0, lon=7.5, lat=51.5, altitude_m=100.0, height_m=30.0, density=0.5)
FAR_GATEWAY = Place(number=1, lon=7.9, lat=51.5, altitude_m=100.0, height_m=30.0, density=0.5)


def device(km: float, *, number: int = 1000, **changes: Any) -> Place:
    """A device east of the gateway."""
    lon, lat = offset(GATEWAY.lon, GATEWAY.lat, km, 0.0)
    values = {"altitude_m": 100.0, "height_m": 1.5, "density": 0.5} | changes
    return Place(number=number, lon=lon, lat=lat, **values)


def send(radio: Radio, place: Place, *, start_s: float = 0.0, rate: Any = SF7, hz: int = CHANNELS_HZ[0],
         eirp_dbm: float = 14.0, size: int = 20) -> Flight:  # fmt: skip
    """A device sends."""
    return radio.up(
        place,
        bytes(size),
        frequency_hz=hz,
        data_rate=rate,
        eirp_dbm=eirp_dbm,
        start_s=start_s,
        airtime_s=time_on_air_s(rate, size),
    )


def answer(radio: Radio, gateway: int = 0, *, start_s: float, rate: Any = SF7) -> Flight:
    """A gateway sends."""
    return radio.down(
        gateway,
        PHY,
        frequency_hz=CHANNELS_HZ[0],
        data_rate=rate,
        power_dbm=14.0,
        start_s=start_s,
        airtime_s=time_on_air_s(rate, len(PHY), crc=False),
    )


def heard(radio: Radio, flight: Flight) -> list[int]:
    """Who heard it."""
    return [number for number, _ in radio.heard_by_gateways(flight)]


def test_loss_of_the_open_country_is_hata_s() -> None:
    # By hand: Okumura-Hata, suburban, 868 MHz, hb 30 m, hm 1.5 m: 116.1 dB at 1 km, 35.2 dB per decade.
    low = device(1.0, density=0.0)
    assert propagation.path_loss_db(GATEWAY, low) == pytest.approx(116.1, abs=0.3)
    ten = device(10.0, density=0.0)
    assert propagation.path_loss_db(GATEWAY, ten) - propagation.path_loss_db(GATEWAY, low) == pytest.approx(
        44.9 - 6.55 * math.log10(30.0), abs=0.1
    )


@given(
    km=st.floats(0.0, 40.0),
    height_m=st.floats(0.0, 200.0),
    density=st.floats(0.0, 1.0),
    below_m=st.floats(-100.0, 100.0),
)
def test_loss_is_never_less_than_in_free_space(
    km: float, height_m: float, density: float, below_m: float
) -> None:
    high = Place(number=0, lon=7.5, lat=51.5, altitude_m=100.0, height_m=height_m)
    low = device(km, density=density, altitude_m=100.0 + below_m)
    free_db = 32.44 + 20 * math.log10(868.0) + 20 * math.log10(max(0.02, high.distance_km(low)))
    assert propagation.path_loss_db(high, low) >= free_db - 1e-9


def test_height_helps_and_lids_do_not() -> None:
    plain = propagation.path_loss_db(GATEWAY, device(3.0))
    assert propagation.path_loss_db(GATEWAY, device(3.0, altitude_m=60.0)) < plain
    assert propagation.path_loss_db(GATEWAY, device(3.0, height_m=6.0)) < plain
    assert propagation.path_loss_db(GATEWAY, device(3.0, loss_db=15.0)) == plain + 15.0
    assert propagation.path_loss_db(GATEWAY, device(3.0, density=1.0)) > plain


def test_shadows_belong_to_the_link_and_to_the_seed() -> None:
    near, other = device(1.0), device(1.0, number=1001)
    assert propagation.shadow_db(1, GATEWAY, near) == propagation.shadow_db(1, near, GATEWAY)
    assert propagation.shadow_db(1, GATEWAY, near) != propagation.shadow_db(1, GATEWAY, other)
    assert propagation.shadow_db(1, GATEWAY, near) != propagation.shadow_db(2, GATEWAY, near)
    many = [propagation.shadow_db(7, GATEWAY, device(1.0, number=n)) for n in range(1000, 3000)]
    mean = sum(many) / len(many)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in many) / len(many))
    assert mean == pytest.approx(0.0, abs=0.5)
    assert deviation == pytest.approx(6.0, abs=0.3)


@pytest.mark.parametrize(
    ("rate", "least_dbm"),
    [(SF7, -124.5), (SF9, -129.5), (SF12, -137.0), (Lora(7, 250_000), -121.5), (Fsk(50_000), -108.0)],
)
def test_sensitivity(rate: Any, least_dbm: float) -> None:
    assert propagation.snr_db(least_dbm, rate) == pytest.approx(propagation.least_snr_db(rate), abs=0.05)


def test_slow_frames_reach_further() -> None:
    reach = {}
    for rate in (SF7, SF9, SF12):
        kilometres = [
            km for km in range(1, 40) if heard(radio := Radio([GATEWAY]), send(radio, device(km), rate=rate))
        ]
        reach[rate] = len(kilometres)
    assert 1 <= reach[SF7] < reach[SF9] < reach[SF12] < 30


def test_answer_takes_the_same_way_back() -> None:
    radio = Radio([GATEWAY])
    place = device(2.0)
    up = send(radio, place)
    down = answer(radio, start_s=1.0)
    # Equal but for the fading of each frame, which stays within four deviations.
    assert radio.rssi_dbm(place, down) == pytest.approx(radio.rssi_dbm(GATEWAY, up), abs=16.0)
    assert radio.heard_at(place, down) is not None
    assert radio.heard_at(device(39.0, number=1002), down) is None


def test_gain_of_an_antenna_counts_in_both_directions() -> None:
    strong = Place(number=0, lon=7.5, lat=51.5, altitude_m=100.0, height_m=30.0, gain_dbi=6.0)
    place = device(2.0)
    for begin in (send, lambda radio, _: answer(radio, start_s=0.0)):
        plain, better = Radio([GATEWAY]), Radio([strong])
        one, other = begin(plain, place), begin(better, place)
        at = (GATEWAY, strong) if one.up else (place, place)
        assert better.rssi_dbm(at[1], other) - plain.rssi_dbm(at[0], one) == pytest.approx(6.0)


def test_equal_frames_destroy_each_other() -> None:
    radio = Radio([GATEWAY])
    one = send(radio, device(0.5))
    other = send(radio, device(0.5, number=1001), start_s=0.01)
    # Whoever is 6 dB stronger survives; both never do.
    assert len(heard(radio, one)) + len(heard(radio, other)) <= 1
    assert radio.losses["collision"] >= 1


def test_stronger_frame_survives() -> None:
    radio = Radio([GATEWAY])
    near = send(radio, device(0.2), eirp_dbm=14.0)
    far = send(radio, device(2.5, number=1001), start_s=0.01, eirp_dbm=2.0)
    assert heard(radio, near) == [0]
    assert heard(radio, far) == []


@pytest.mark.parametrize(
    ("rate", "hz", "start_s"),
    [
        pytest.param(SF7, CHANNELS_HZ[1], 0.0, id="another channel"),
        pytest.param(SF9, CHANNELS_HZ[0], 0.0, id="another spreading factor"),
        pytest.param(SF7, CHANNELS_HZ[0], 0.2, id="later"),
        pytest.param(SF7, CHANNELS_HZ[0], -0.0545, id="in the first symbols only"),
    ],
)
def test_frames_that_do_not_meet(rate: Any, hz: int, start_s: float) -> None:
    radio = Radio([GATEWAY])
    send(radio, device(1.0, number=1001), rate=rate, hz=hz, start_s=start_s, size=20)
    assert heard(radio, send(radio, device(1.0))) == [0]


def test_much_stronger_frame_covers_other_spreading_factors() -> None:
    radio = Radio([GATEWAY])
    send(radio, device(0.05, number=1001), rate=SF9, eirp_dbm=27.0)
    assert heard(radio, send(radio, device(4.0))) == []


def test_gateway_is_deaf_while_it_sends() -> None:
    radio = Radio([GATEWAY, FAR_GATEWAY])
    answer(radio, start_s=0.03)
    assert heard(radio, send(radio, device(0.5))) == []
    assert radio.losses["deaf"] == 1
    assert heard(radio, send(radio, device(0.5), start_s=0.5)) == [0]


def test_gateway_follows_eight_frames() -> None:
    radio = Radio([GATEWAY])
    rates = [Lora(factor, 125_000) for factor in (9, 10, 11, 12)]
    taken = [
        send(radio, device(0.5, number=1001 + n), rate=rates[n % 4], hz=CHANNELS_HZ[n % 8], start_s=n * 1e-4)
        for n in range(DEMODULATORS)
    ]
    ninth = send(radio, device(0.5, number=1100), hz=CHANNELS_HZ[0], start_s=0.001)
    assert all(heard(radio, one) == [0] for one in taken)
    assert heard(radio, ninth) == []
    assert radio.losses["demodulators"] == 1


def test_gateways_listen_on_eight_channels() -> None:
    radio = Radio([GATEWAY])
    assert heard(radio, send(radio, device(0.2), hz=869_525_000)) == []


def test_equal_seeds_give_equal_air() -> None:
    def story(seed: int) -> list[Any]:
        radio = Radio([site.place for site in sites()], seed=seed)
        told = []
        for number in range(60):
            place = Place(
                number=1000 + number, lon=7.40 + number * 0.004, lat=51.46, altitude_m=110, height_m=2
            )
            told.append(radio.heard_by_gateways(send(radio, place, start_s=number * 0.03, rate=SF9)))
        return told

    assert story(1) == story(1)
    assert story(1) != story(2)


def test_gateways_stand_in_their_cities() -> None:
    known = sites()
    assert [site.municipality for site in known] == ["dortmund"] * 8 + ["schwerte"] * 3
    assert len({site.eui for site in known}) == 11
    assert [site.place.number for site in known] == list(range(11))
    assert all(6.0 <= site.place.height_m <= 70.0 for site in known)
    assert {site.protocol for site in known} == {"gwmp", "station"}
