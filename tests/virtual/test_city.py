"""Brooks, trees, parking, containers, lamps and people."""

from __future__ import annotations

import itertools
import statistics
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from quartier.virtual import city, weather
from quartier.virtual.readings import values_at
from quartier.virtual.world import Device, world

CITIES = world(1)
times = st.floats(
    datetime(2024, 1, 1, tzinfo=UTC).timestamp(),
    datetime(2030, 1, 1, tzinfo=UTC).timestamp(),
    allow_nan=False,
)


def of_type(key: str) -> list[Device]:
    return [device for device in CITIES.devices if device.type == key]


def utc_s(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


@given(time_s=times)
def test_local_clock_is_that_of_berlin(time_s: float) -> None:
    local = datetime.fromtimestamp(time_s, ZoneInfo("Europe/Berlin"))
    weekday, hour = city.local_clock(time_s)
    assert weekday == local.weekday()
    assert (
        abs(hour - (local.hour + local.minute / 60 + (local.second + local.microsecond / 1e6) / 3600)) < 1e-4
    )


@given(time_s=times, device=st.sampled_from(CITIES.devices))
def test_every_value_is_a_number_in_range(time_s: float, device: Device) -> None:
    values = values_at(CITIES, device, time_s)
    limits = {
        "level": (0.0, 8.0), "water_temperature": (0.0, 30.0), "moisture": (3.0, 45.0), "fill_level": (0.0, 100.0),
        "dimming": (0.0, 100.0), "power": (0.0, 90.0), "battery": (0.0, 100.0), "battery_voltage": (2.2, 3.4),
        "humidity": (1.0, 100.0), "relative_humidity": (1.0, 100.0), "air_humidity": (1.0, 100.0),
        "pedestrians": (0, 5000), "bicycles": (0, 1000), "rain": (0.0, 30.0), "precipitation": (0.0, 30.0),
    }  # fmt: skip
    for name, value in values.items():
        low, high = limits.get(name, (-100.0, 2000.0))
        assert low <= value <= high, name
    if "free" in values:
        assert 0 <= values["free"] <= values["capacity"]


@given(time_s=times, device=st.sampled_from(of_type("virtual-level")))
def test_water_level_has_no_jumps(time_s: float, device: Device) -> None:
    thing = CITIES.thing_of(device)
    assert thing.stream is not None
    before, after = (
        city.water_level_m(1, thing.spot, thing.stream, time_s + step_s) for step_s in (0.0, 60.0)
    )
    assert abs(after - before) < 0.05


def test_water_rises_after_heavy_rain_and_falls_again() -> None:
    device = of_type("virtual-level")[1]
    thing = CITIES.thing_of(device)
    assert thing.stream is not None
    heavy = max(
        weather.fronts(1, utc_s(2026, 1, 1), utc_s(2026, 12, 1)),
        key=lambda front: front.amount_mm(thing.spot.east_km, thing.spot.north_km),
    )
    arrival_s = heavy.arrival_s(thing.spot.east_km, thing.spot.north_km)

    def level(hours: float) -> float:
        assert thing.stream is not None
        return city.water_level_m(1, thing.spot, thing.stream, arrival_s + hours * 3600.0)

    peak_h = max(range(25), key=level)
    assert level(peak_h) > level(0) + 0.3
    # The wave comes after the rain's middle, and has mostly gone a day later.
    assert peak_h * 3600.0 > heavy.duration_s / 2.0
    assert level(peak_h + 30) < level(0) + 0.4 * (level(peak_h) - level(0))


def test_soil_dries_between_rains_and_is_recharged() -> None:
    spot = CITIES.thing("do-baum-001").spot
    start = utc_s(2026, 6, 1)
    hours = [start + hour * 3600.0 for hour in range(24 * 60)]
    moist = [city.soil_moisture_percent(1, spot, hour) for hour in hours]
    dry_spells = [
        (a, b)
        for a, b, hour in zip(moist, moist[24:], hours, strict=False)
        if weather.rain_mm(1, spot, hour - 12 * 3600.0, hour + 86400.0) < 0.01
    ]
    assert len(dry_spells) > 10
    assert all(after < before for before, after in dry_spells)
    assert max(b - a for a, b in zip(moist, moist[12:], strict=False)) > 1.0


def test_car_park_is_full_on_workdays_at_noon_and_on_saturdays() -> None:
    device = of_type("virtual-carpark")[0]
    thing = CITIES.thing_of(device)
    capacity = int(thing.properties["capacity"])
    # 1 to 7 June 2026 is Monday to Sunday; local noon is 10:00 UTC in summer.
    free = {
        name: city.free_spaces(1, thing.seed, capacity, utc_s(2026, 6, day, hour)) / capacity
        for name, day, hour in (
            ("monday noon", 1, 10),
            ("monday night", 1, 1),
            ("saturday", 6, 12),
            ("sunday", 7, 12),
        )
    }
    assert free["monday noon"] < 0.35
    assert free["saturday"] < 0.25
    assert free["monday night"] > 0.75
    assert free["sunday"] > 0.45


def test_parking_spaces_follow_the_demand() -> None:
    spaces = [CITIES.thing_of(device).seed for device in of_type("virtual-parking")]

    def share(hour_utc: int) -> float:
        moments = [utc_s(2026, 6, 1, hour_utc) + 86400.0 * day for day in range(5)]
        return statistics.mean(city.occupied(seed, moment) for seed in spaces for moment in moments)

    assert share(10) > share(1) + 0.3


def test_container_only_fills_until_it_is_emptied() -> None:
    seed = CITIES.thing("do-container-001").seed
    levels = [city.fill_level_percent(seed, utc_s(2026, 6, 1) + hour * 3600.0) for hour in range(24 * 60)]
    drops = [(a, b) for a, b in itertools.pairwise(levels) if b < a]
    assert 3 <= len(drops) <= 8
    assert all(before > 50.0 and after < 10.0 for before, after in drops)


def test_lamps_burn_from_dusk_to_dawn_and_are_dimmed_late() -> None:
    seed = CITIES.thing("do-leuchte-001").seed
    noon, evening, late = utc_s(2026, 12, 1, 11), utc_s(2026, 12, 1, 18), utc_s(2026, 12, 2, 0)
    assert city.lamp(1, seed, 50.0, noon) == (0.4, 0.0)
    assert city.lamp(1, seed, 50.0, evening)[1] == 100.0
    assert 48.0 < city.lamp(1, seed, 50.0, evening)[0] < 52.0
    assert city.lamp(1, seed, 50.0, late)[1] == 50.0


def test_failed_lamp_says_so_at_night_only() -> None:
    failed = next(device for device in of_type("virtual-lamp") if device.thing == "do-leuchte-009")
    assert values_at(CITIES, failed, utc_s(2026, 12, 1, 18)) == {
        "power": 0.4,
        "dimming": 100.0,
        "failure": True,
    }
    assert values_at(CITIES, failed, utc_s(2026, 12, 1, 11))["failure"] is False


def test_counters_follow_the_day_and_the_weather() -> None:
    device = of_type("virtual-counter")[2]
    days = [
        utc_s(2026, 6, 1) + day * 86400.0
        for day in range(90)
        if (datetime(2026, 6, 1, tzinfo=UTC) + timedelta(day)).weekday() < 5
    ]
    spot = CITIES.thing_of(device).spot
    rush = [(city.bicycles(1, spot, 260, day + 6 * 3600.0, 3600.0), day) for day in days]
    night = [city.bicycles(1, spot, 260, day + 3600.0, 3600.0) for day in days]
    assert statistics.mean(count for count, _ in rush) > 10 * statistics.mean(night)
    rain = {day: weather.rain_mm(1, spot, day + 5 * 3600.0, day + 6 * 3600.0) for day in days}
    wet = [count for count, day in rush if rain[day] > 0.5]
    dry = [count for count, day in rush if rain[day] == 0.0]
    assert wet, "the seed has a rainy rush hour in these three months"
    assert statistics.mean(wet) < 0.7 * statistics.mean(dry)


def test_faulty_devices_show_their_fault() -> None:
    by_fault = {device.fault: device for device in CITIES.devices if device.fault}
    moments = [utc_s(2026, 6, 1) + 300.0 * step for step in range(2000)]

    def series(device: Device, name: str) -> list[float]:
        return [float(values_at(CITIES, device, moment)[name]) for moment in moments]

    assert len(set(series(by_fault["stuck"], "air_temperature"))) == 1
    spiked = series(by_fault["spikes"], "temperature")
    jumps = [abs(b - a) for a, b in itertools.pairwise(spiked)]
    assert 20 < sum(jump > 20.0 for jump in jumps) < 200
    truth = [
        weather.air(1, CITIES.thing_of(by_fault["drift"]).spot, moment).temperature_c for moment in moments
    ]
    error = [
        felt - true for felt, true in zip(series(by_fault["drift"], "air_temperature"), truth, strict=True)
    ]
    assert max(error) - min(error) > 1.0
    assert values_at(CITIES, by_fault["weak_battery"], moments[0])["battery"] == 6.0
