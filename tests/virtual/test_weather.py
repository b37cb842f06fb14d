"""Weather: plausible at any time and place, continuous, and adding up."""

from __future__ import annotations

import itertools
import math
import statistics
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.virtual import weather
from quartier.virtual.weather import Spot

CITY = Spot(east_km=-2.5, north_km=1.5, altitude_m=86, density=1.0, shade=0.3, height_m=3.0, seed=71)
COUNTRY = Spot(east_km=6.6, north_km=-11.3, altitude_m=86, density=0.05, shade=0.1, height_m=3.0, seed=72)

times = st.floats(
    datetime(2024, 1, 1, tzinfo=UTC).timestamp(),
    datetime(2030, 1, 1, tzinfo=UTC).timestamp(),
    allow_nan=False,
)
seeds = st.integers(0, 50)
spots = st.builds(
    Spot,
    east_km=st.floats(-15, 12),
    north_km=st.floats(-14, 12),
    altitude_m=st.floats(55, 250),
    density=st.floats(0, 1),
    shade=st.floats(0, 0.5),
    height_m=st.just(3.0),
    seed=st.integers(0, 2**64 - 1),
)


def utc_s(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


@given(seed=seeds, spot=spots, time_s=times)
def test_weather_stays_within_what_happens_in_the_ruhr(seed: int, spot: Spot, time_s: float) -> None:
    now = weather.sample(seed, spot, time_s)
    assert -22.0 < now.air.temperature_c < 43.0
    assert now.air.dew_point_c < now.air.temperature_c
    assert 5.0 < now.air.relative_humidity_percent <= 100.0
    assert 0.05 < now.air.vapour_pressure_kpa < 4.0
    assert 940.0 < now.pressure_hpa < 1050.0
    assert 0.0 <= now.wind_speed_m_s < 30.0
    assert now.wind_gust_m_s >= now.wind_speed_m_s
    assert 0.0 <= now.wind_direction_deg < 360.0
    assert 0.0 <= now.irradiance_w_m2 < 1100.0
    assert now.air.rain_mm_h >= 0.0
    assert now.air.temperature_c - 2.0 < now.black_globe_c < now.air.temperature_c + 25.0


@given(seed=seeds, spot=spots, time_s=times)
def test_weather_is_continuous(seed: int, spot: Spot, time_s: float) -> None:
    before, after = (weather.sample(seed, spot, time_s + step) for step in (0.0, 30.0))
    assert abs(after.air.temperature_c - before.air.temperature_c) < 0.35
    assert abs(after.air.dew_point_c - before.air.dew_point_c) < 0.35
    assert abs(after.pressure_hpa - before.pressure_hpa) < 0.3
    assert abs(after.wind_speed_m_s - before.wind_speed_m_s) < 1.5
    assert abs(after.irradiance_w_m2 - before.irradiance_w_m2) < 60.0


@given(seed=seeds, spot=spots, time_s=times, parts=st.integers(2, 40))
def test_rain_of_parts_adds_up_to_the_whole(seed: int, spot: Spot, time_s: float, parts: int) -> None:
    step_s = 86400.0 / parts
    pieces = [
        weather.rain_mm(seed, spot, time_s + number * step_s, time_s + (number + 1) * step_s)
        for number in range(parts)
    ]
    assert all(piece >= 0.0 for piece in pieces)
    assert sum(pieces) == pytest.approx(weather.rain_mm(seed, spot, time_s, time_s + 86400.0), abs=1e-9)


@given(seed=seeds, time_s=times)
def test_lightning_of_parts_adds_up_to_the_whole(seed: int, time_s: float) -> None:
    edges = [time_s + hour * 3600.0 for hour in range(25)]
    pieces = [weather.lightning(seed, CITY, since, until)[0] for since, until in itertools.pairwise(edges)]
    assert sum(pieces) == weather.lightning(seed, CITY, edges[0], edges[-1])[0]


def test_sun_stands_where_the_calendar_says() -> None:
    # Height at solar noon is 90° − latitude ± 23.44° at the solstices and 90° − latitude at the equinoxes.
    for day, expected_deg in (
        (utc_s(2026, 6, 21), 61.9),
        (utc_s(2026, 12, 21), 15.1),
        (utc_s(2026, 3, 20), 38.5),
    ):
        highest = max(weather.sun_elevation_rad(day + minute * 60.0) for minute in range(1440))
        assert math.degrees(highest) == pytest.approx(expected_deg, abs=0.6)


def test_sun_rises_and_sets_as_in_the_almanac() -> None:
    # Dortmund, 21 June: sunrise 05:10 and sunset 21:51 in local summer time; 21 December: 08:32 and 16:23 in
    # winter time. Almanacs count the refracted upper edge of the sun, that is -0.83°.
    for day, rise_h, set_h in ((utc_s(2026, 6, 21), 3.17, 19.85), (utc_s(2026, 12, 21), 7.53, 15.38)):
        up = [
            minute / 60.0
            for minute in range(1440)
            if math.degrees(weather.sun_elevation_rad(day + minute * 60.0)) > -0.83
        ]
        assert up[0] == pytest.approx(rise_h, abs=0.12)
        assert up[-1] == pytest.approx(set_h, abs=0.12)


def test_no_sun_at_night() -> None:
    assert weather.sample(1, CITY, utc_s(2026, 1, 10, 23)).irradiance_w_m2 == 0.0


def test_climate_of_a_year_resembles_dortmund() -> None:
    # Dortmund 1991-2020: about 10.5 °C, 1.5 to 19 °C in the coldest and warmest month, 800 to 900 mm of rain.
    means, rain_mm = [], []
    for month in range(1, 13):
        start = utc_s(2026, month, 1)
        hours = [weather.air(1, COUNTRY, start + hour * 3600.0).temperature_c for hour in range(28 * 24)]
        means.append(statistics.mean(hours))
        rain_mm.append(weather.rain_mm(1, COUNTRY, start, start + 30.4 * 86400.0))
    assert 9.0 < statistics.mean(means) < 12.0
    assert 0.0 < min(means) < 4.5
    assert 16.5 < max(means) < 21.0
    assert 600.0 < sum(rain_mm) < 1200.0


def test_city_is_warmer_at_night() -> None:
    nights = [utc_s(2026, 7, 1, 1) + day * 86400.0 for day in range(30)]
    noons = [time_s + 11 * 3600.0 for time_s in nights]

    def excess_k(moments: list[float]) -> float:
        return statistics.mean(
            weather.air(1, CITY, moment).temperature_c - weather.air(1, COUNTRY, moment).temperature_c
            for moment in moments
        )

    assert 1.0 < excess_k(nights) < 4.5
    assert excess_k(noons) < 0.5 * excess_k(nights)


def test_rain_front_reaches_the_lee_side_later() -> None:
    front = next(found for slot in range(43_000, 43_200) if (found := weather.front(1, slot)) is not None)
    upwind = front.arrival_s(10.0 * front.from_east, 10.0 * front.from_north)
    downwind = front.arrival_s(-10.0 * front.from_east, -10.0 * front.from_north)
    assert downwind - upwind == pytest.approx(20.0 / front.speed_km_s)


def test_two_seeds_give_different_weather() -> None:
    moments = [utc_s(2026, 5, 1) + timedelta(days=day).total_seconds() for day in range(20)]
    one, two = ([weather.air(seed, CITY, moment).temperature_c for moment in moments] for seed in (1, 2))
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) > 2.0
