"""What the other things of the city do: brooks, trees, parking, containers, lamps, people.

Like the weather, every value is a pure function of seed, thing and time. Habits of people follow local time in
Europe/Berlin; water follows the rain of the hours and days before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from . import weather
from .noise import between, smooth, smoothstep, unit
from .weather import DAY_S, Spot

BERLIN = ZoneInfo("Europe/Berlin")
_TAU = 2.0 * math.pi
SATURATED_SOIL_PERCENT = 44.0
CIVIL_DUSK_RAD = math.radians(-2.0)


@dataclass(frozen=True, slots=True)
class Stream:
    """How a brook at a gauge answers to rain."""

    base_m: float
    gain_m_per_mm: float
    rise_s: float


@lru_cache(maxsize=512)
def _utc_offset_s(hour: int) -> int:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    shift = moment.astimezone(BERLIN).utcoffset()
    return 0 if shift is None else int(shift.total_seconds())


def local_clock(time_s: float) -> tuple[int, float]:
    """Weekday (0 is Monday) and hour of the day in Europe/Berlin."""
    local_s = time_s + _utc_offset_s(math.floor(time_s / 3600.0))
    day = math.floor(local_s / DAY_S)
    return (day + 3) % 7, (local_s - day * DAY_S) / 3600.0


def water_level_m(seed: int, spot: Spot, stream: Stream, time_s: float) -> float:
    """Level over the gauge's zero: base flow, season, and a wave after every rain front.

    Each front answers with Nash's two-reservoir shape x·exp(1-x), which peaks ``rise_s`` after the front's middle.
    """
    level = stream.base_m * (1.0 - 0.15 * weather.season(time_s))
    memory_s = 8.0 * stream.rise_s
    for passing in weather.fronts(seed, time_s - memory_s - weather.SLOT_S, time_s):
        arrival_s = passing.arrival_s(spot.east_km, spot.north_km)
        x = (time_s - arrival_s - passing.duration_s / 2.0) / stream.rise_s
        if x > 0.0:
            level += (
                stream.gain_m_per_mm * passing.amount_mm(spot.east_km, spot.north_km) * x * math.exp(1.0 - x)
            )
    return max(0.02, level + 0.004 * smooth(spot.seed + 21, time_s, 1200.0))


def water_temperature_c(seed: int, spot: Spot, time_s: float) -> float:
    """Water follows the air of the last day, damped."""
    total = 0.0
    for hours_back in (0, 3, 6, 9, 12, 15, 18, 21, 24):
        total += weather.region(seed, time_s - hours_back * 3600.0).temperature_c
    mean = total / 9.0
    now = weather.region(seed, time_s - 2 * 3600.0).temperature_c
    return max(
        0.2, 10.0 + 0.7 * (mean - 10.0) + 0.12 * (now - mean) + 0.1 * smooth(spot.seed + 22, time_s, 7200.0)
    )


def soil_moisture_percent(seed: int, spot: Spot, time_s: float) -> float:
    """Volumetric water content at 30 cm: rain soaks in, the tree and the sun draw it out again."""
    summer = 0.5 + 0.5 * weather.season(time_s)
    dry = 27.0 - 13.0 * summer + 3.0 * (unit(spot.seed, 23) - 0.5)
    memory_s = (9.0 - 5.0 * summer) * DAY_S
    wetness = 0.0
    for passing in weather.fronts(seed, time_s - 4.0 * memory_s, time_s):
        arrival_s = passing.arrival_s(spot.east_km, spot.north_km)
        # Water needs some hours to reach the sensor, so the front is stretched.
        soaked = smoothstep(arrival_s, arrival_s + passing.duration_s + 4 * 3600.0, time_s)
        if soaked > 0.0:
            age = (time_s - arrival_s) / memory_s
            wetness += 0.75 * passing.amount_mm(spot.east_km, spot.north_km) * soaked * math.exp(-age)
    room = SATURATED_SOIL_PERCENT - dry
    return dry + room * (1.0 - math.exp(-wetness / room))


def soil_temperature_c(seed: int, spot: Spot, time_s: float) -> float:
    """At 30 cm: the air of the last days, damped and late."""
    total = 0.0
    for step in range(10):
        total += weather.region(seed, time_s - (6.0 + 7.0 * step) * 3600.0).temperature_c
    return 10.5 + 0.75 * (total / 10.0 - 10.5) + 0.8 * spot.density


def parking_demand(weekday: int, hour: float) -> float:
    """Part of the city's parking that is in use, 0 to 1, by weekday and local hour."""
    day = math.exp(-(((hour - 12.0) / 4.2) ** 2))
    evening = 0.35 * math.exp(-(((hour - 20.0) / 2.2) ** 2))
    if weekday == 5:
        return 0.12 + 0.83 * math.exp(-(((hour - 14.0) / 3.4) ** 2)) + 0.6 * evening
    if weekday == 6:
        return 0.12 + 0.30 * math.exp(-(((hour - 15.5) / 3.2) ** 2)) + 0.4 * evening
    return 0.10 + 0.70 * day + evening


def _demand(time_s: float) -> float:
    """Demand without a jump at midnight: the last half hour of a day leads over into the next day."""
    weekday, hour = local_clock(time_s)
    here = parking_demand(weekday, hour)
    if hour > 23.5:
        share = (hour - 23.5) / 0.5
        return here * (1.0 - share) + parking_demand((weekday + 1) % 7, hour - 24.0) * share
    return here


def free_spaces(seed: int, thing_seed: int, capacity: int, time_s: float) -> int:
    """Free spaces of a car park: full on weekday mornings and on Saturdays, empty at night."""
    used = _demand(time_s) * (0.9 + 0.2 * unit(thing_seed, 31))
    used += 0.05 * smooth(thing_seed + 32, time_s, 1800.0)
    return round(capacity * (1.0 - min(1.0, max(0.02, used))))


def occupied(thing_seed: int, time_s: float) -> bool:
    """Whether somebody stands on a single parking space; stays last between half an hour and half a day."""
    weekday, hour = local_clock(time_s)
    stay_s = 14400.0 if hour < 6.0 or hour > 21.0 else 2700.0
    turn = math.floor((time_s + stay_s * unit(thing_seed, 41)) / stay_s)
    return unit(thing_seed, 42, round(stay_s), turn) < min(0.95, 0.15 + 0.85 * parking_demand(weekday, hour))


def fill_level_percent(thing_seed: int, time_s: float) -> float:
    """A glass container: fills over one to two weeks, faster at weekends, and is emptied when its turn has come."""
    week_s = 7.0 * DAY_S
    # Monday is day 0 four days before the epoch's Thursday; the steepest part falls on Saturday evening.
    since_monday = (time_s + 3.0 * DAY_S) / week_s
    warped_s = time_s - 0.1 * week_s * math.sin(_TAU * (since_monday - 5.8 / 7.0 + 0.5))
    position = warped_s / (between(8.0, 15.0, thing_seed, 51) * DAY_S) + unit(thing_seed, 52)
    turn = math.floor(position)
    return min(100.0, 3.0 + between(60.0, 108.0, thing_seed, 53, turn) * (position - turn))


def lamp(seed: int, thing_seed: int, rated_w: float, time_s: float) -> tuple[float, float]:
    """Power in watts and dimming in percent of a street lamp: on from dusk to dawn, dimmed late at night."""
    elevation = weather.region(seed, time_s).sun_elevation_rad
    if elevation > CIVIL_DUSK_RAD + math.radians(between(-0.6, 0.6, thing_seed, 61)):
        return 0.4, 0.0
    _, hour = local_clock(time_s)
    dimming = 50.0 if hour >= 23.0 or hour < 5.0 else 100.0
    power = rated_w * (0.08 + 0.92 * dimming / 100.0) * (1.0 + 0.02 * smooth(thing_seed + 62, time_s, 1800.0))
    return power, dimming


def people(seed: int, spot: Spot, busy_per_hour: float, time_s: float, interval_s: float) -> int:
    """Pedestrians that passed a counter in the interval before ``time_s``."""
    weekday, hour = local_clock(time_s - interval_s / 2.0)
    midday = math.exp(-(((hour - 13.5) / 3.6) ** 2))
    evening = math.exp(-(((hour - 18.0) / 2.2) ** 2))
    weight = (0.9, 0.92, 0.95, 1.0, 1.1, 1.35, 0.55)[weekday]
    rate = busy_per_hour * weight * (0.02 + 0.75 * midday + 0.45 * evening)
    rate *= 1.0 - 0.5 * _staying_home(seed, spot, time_s, interval_s)
    return _drawn(spot, 71, time_s, rate * interval_s / 3600.0)


def bicycles(seed: int, spot: Spot, busy_per_hour: float, time_s: float, interval_s: float) -> int:
    """Bicycles that passed a counter in the interval before ``time_s``: commuters, and fewer in rain and cold."""
    weekday, hour = local_clock(time_s - interval_s / 2.0)
    if weekday < 5:
        pattern = math.exp(-(((hour - 7.8) / 1.1) ** 2)) + 0.9 * math.exp(-(((hour - 16.8) / 1.7) ** 2))
        pattern += 0.35 * math.exp(-(((hour - 12.5) / 3.0) ** 2))
    else:
        pattern = 0.75 * math.exp(-(((hour - 15.0) / 3.2) ** 2))
    warmth = 0.35 + 0.65 * smoothstep(0.0, 18.0, weather.region(seed, time_s).temperature_c)
    rate = (
        busy_per_hour
        * warmth
        * (0.01 + pattern)
        * (1.0 - 0.75 * _staying_home(seed, spot, time_s, interval_s))
    )
    return _drawn(spot, 72, time_s, rate * interval_s / 3600.0)


def _drawn(spot: Spot, which: int, time_s: float, expected: float) -> int:
    """A whole number near the expected one, spread like a Poisson count (three uniform numbers make the bell)."""
    draw = sum(unit(spot.seed, which, math.floor(time_s), part) for part in range(3)) - 1.5
    return max(0, round(expected + 2.0 * draw * math.sqrt(max(expected, 0.0))))


def _staying_home(seed: int, spot: Spot, time_s: float, interval_s: float) -> float:
    """How much the rain of an interval keeps people at home, 0 to 1."""
    return 1.0 - math.exp(-2.0 * weather.rain_mm(seed, spot, time_s - interval_s, time_s))
