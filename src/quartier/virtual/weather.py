"""The weather over both cities: a pure function of seed, place and time.

What is the same everywhere (season, synoptic waves, sun, pressure) is computed on a five-minute grid, kept, and
interpolated; what belongs to a place (height, heat island, when a rain front arrives) is added. The formulas are simple
and named after their authors; they are meant to look right on a page and to be fast, not to forecast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from .noise import between, mix, smooth, smoothstep, unit

GRID_S = 300.0
DAY_S = 86400.0
YEAR_S = 365.2422 * DAY_S
SLOT_S = 10 * 3600.0  # at most one rain front begins in a slot
LAT_RAD = math.radians(51.5)
LON_DEG = 7.5
REFERENCE_ALTITUDE_M = 80.0
LAPSE_K_PER_M = 0.0065
NEW_YEAR_2000_S = 946684800.0

_TAU = 2.0 * math.pi


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a sensor hangs, as far as the weather there depends on it."""

    east_km: float
    north_km: float
    altitude_m: float
    density: float
    shade: float
    height_m: float
    seed: int


@dataclass(frozen=True, slots=True)
class Region:
    """What is the same over both cities at one moment (SI units, degrees Celsius, hPa)."""

    temperature_c: float
    dew_point_c: float
    pressure_sea_hpa: float
    wind_east_m_s: float
    wind_north_m_s: float
    cloud: float
    sun_elevation_rad: float


@dataclass(frozen=True, slots=True)
class Front:
    """A band of rain that crosses both cities."""

    start_s: float
    duration_s: float
    total_mm: float
    thunder: float
    from_east: float
    from_north: float
    speed_km_s: float
    seed: int

    def arrival_s(self, east_km: float, north_km: float) -> float:
        """When it begins to rain at a place."""
        return self.start_s - (east_km * self.from_east + north_km * self.from_north) / self.speed_km_s

    def amount_mm(self, east_km: float, north_km: float) -> float:
        """How much this front rains at a place in all; neighbours get about the same."""
        phase = _TAU * unit(self.seed, 1)
        pattern = math.sin(east_km / 4.1 + phase) * math.cos(north_km / 5.3 + 2.0 * phase)
        return self.total_mm * (1.0 + 0.4 * pattern)

    def share(self, time_s: float, arrival_s: float) -> float:
        """The part of the amount, 0 to 1, that has fallen by a time (integral of a raised cosine)."""
        x = (time_s - arrival_s) / self.duration_s
        if x <= 0.0:
            return 0.0
        if x >= 1.0:
            return 1.0
        return x - math.sin(_TAU * x) / _TAU

    def intensity(self, time_s: float, arrival_s: float) -> float:
        """Rate per second as part of the amount."""
        x = (time_s - arrival_s) / self.duration_s
        if not 0.0 < x < 1.0:
            return 0.0
        return (1.0 - math.cos(_TAU * x)) / self.duration_s


@dataclass(frozen=True, slots=True)
class Air:
    """Temperature and moisture at one spot and moment."""

    region: Region
    temperature_c: float
    dew_point_c: float
    relative_humidity_percent: float
    vapour_pressure_kpa: float
    rain_mm_h: float
    chill_k: float
    regional_wind_m_s: float
    night: float


@dataclass(frozen=True, slots=True)
class Sample:
    """All of the weather at one spot and moment."""

    air: Air
    pressure_hpa: float
    wind_speed_m_s: float
    wind_direction_deg: float
    wind_gust_m_s: float
    irradiance_w_m2: float
    black_globe_c: float


def season(time_s: float) -> float:
    """-1 in the coldest days (about 20 January), +1 in the warmest (about 20 July)."""
    return -math.cos(_TAU * (time_s - NEW_YEAR_2000_S - 19.5 * DAY_S) / YEAR_S)


def sun_elevation_rad(time_s: float) -> float:
    """Height of the sun over the horizon between both cities.

    Declination after Cooper (1969) and equation of time after Spencer's leading terms; good to about half a degree.
    """
    angle = _TAU * ((time_s - NEW_YEAR_2000_S) % YEAR_S) / YEAR_S
    declination = math.radians(23.45) * math.sin(angle - _TAU * 80.5 / 365.2422)
    equation_min = 9.87 * math.sin(2.0 * (angle - _TAU * 81.0 / 364.0)) - 7.53 * math.cos(
        angle - _TAU * 81.0 / 364.0
    )
    solar_s = time_s + LON_DEG * 240.0 + equation_min * 60.0
    hour_angle = _TAU * (solar_s % DAY_S) / DAY_S - math.pi
    sine = math.sin(LAT_RAD) * math.sin(declination) + math.cos(LAT_RAD) * math.cos(declination) * math.cos(
        hour_angle
    )
    return math.asin(max(-1.0, min(1.0, sine)))


def saturation_vapour_pressure_hpa(temperature_c: float) -> float:
    """Magnus formula over water, coefficients of the WMO guide (No. 8)."""
    return 6.112 * math.exp(17.62 * temperature_c / (243.12 + temperature_c))


@lru_cache(maxsize=4096)
def front(seed: int, slot: int) -> Front | None:
    """The rain front that begins in a ten-hour slot, if there is one."""
    key = mix(seed, 0xF407, slot)
    slot_s = slot * SLOT_S
    summer = 0.5 + 0.5 * season(slot_s)
    if unit(key, 0) > 0.42 - 0.08 * summer:
        return None
    thunder = 1.0 if unit(key, 1) < 0.35 * summer else 0.0
    total_mm = min(45.0, 0.2 - math.log(1.0 - unit(key, 2)) * (4.5 if thunder else 2.1))
    duration_s = between(0.7, 2.0, key, 3) * 3600.0 if thunder else between(1.5, 6.0, key, 3) * 3600.0
    origin = math.radians(between(200.0, 300.0, key, 4))
    return Front(
        start_s=slot_s + SLOT_S * unit(key, 5),
        duration_s=duration_s,
        total_mm=total_mm,
        thunder=thunder,
        from_east=math.sin(origin),
        from_north=math.cos(origin),
        speed_km_s=between(30.0, 60.0, key, 6) / 3600.0,
        seed=key,
    )


def fronts(seed: int, since_s: float, until_s: float) -> list[Front]:
    """All fronts that begin between two times."""
    found = []
    for slot in range(math.floor(since_s / SLOT_S), math.floor(until_s / SLOT_S) + 1):
        candidate = front(seed, slot)
        if candidate is not None:
            found.append(candidate)
    return found


def _wave(seed: int, which: int, time_s: float, periods_d: tuple[float, ...]) -> float:
    total = 0.0
    for number, period_d in enumerate(periods_d):
        total += math.sin(_TAU * (time_s / (period_d * DAY_S) + unit(seed, which, number)))
    return total


@lru_cache(maxsize=4096)
def _node(seed: int, step: int) -> Region:
    """The regional weather at one point of the five-minute grid."""
    time_s = step * GRID_S
    warm = season(time_s)
    elevation = sun_elevation_rad(time_s)
    pressure_wave = _wave(seed, 1, time_s, (3.1, 5.7, 9.3))
    cloud = 0.52 - 0.13 * warm + 0.16 * _wave(seed, 2, time_s, (1.3, 2.9, 6.1)) - 0.07 * pressure_wave
    cloud += 0.12 * smooth(seed + 3, time_s, 5400.0)
    near_rain = 0.0
    for passing in fronts(seed, time_s - SLOT_S, time_s + 3 * 3600.0):
        middle_s = passing.start_s + passing.duration_s / 2.0
        width_s = passing.duration_s / 2.0 + 5400.0
        near_rain += math.exp(-(((time_s - middle_s) / width_s) ** 2)) * min(
            1.0, 0.4 + passing.total_mm / 4.0
        )
    near_rain = min(1.0, near_rain)
    cloud = min(1.0, max(0.0, cloud + 0.75 * near_rain))
    solar_hour = ((time_s + LON_DEG * 240.0) % DAY_S) / 3600.0
    half_range = (2.6 + 2.6 * (0.5 + 0.5 * warm)) * (1.0 - 0.6 * cloud)
    diurnal = half_range * (
        math.cos(_TAU * (solar_hour - 15.0) / 24.0) + 0.18 * math.cos(2.0 * _TAU * (solar_hour - 14.0) / 24.0)
    )
    wave = _wave(seed, 4, time_s, (2.3, 4.7, 9.1, 17.3))
    # Summers have heat waves, winters do not have their mirror image.
    mean = 10.0 + 8.0 * warm + 1.9 * wave + 1.1 * max(0.0, wave) ** 1.5 * (0.5 + 0.5 * warm)
    temperature = mean + diurnal - 2.2 * near_rain * (0.5 + 0.5 * warm)
    depression = 4.4 + 1.6 * warm + 1.1 * _wave(seed, 5, time_s, (1.9, 3.7, 7.7))
    dew_point = mean - half_range * 0.3 - max(0.4, depression) * (1.0 - 0.8 * near_rain)
    wind = max(0.4, 3.4 - 0.5 * warm + 0.9 * _wave(seed, 6, time_s, (0.9, 2.1, 5.3)) - 0.25 * pressure_wave)
    wind *= (1.0 + 0.25 * smoothstep(-0.1, 0.6, elevation)) * (1.0 + 0.5 * near_rain)
    blows_from = math.radians(240.0 + 45.0 * _wave(seed, 7, time_s, (2.7, 6.3)) + 25.0 * near_rain)
    return Region(
        temperature_c=temperature,
        dew_point_c=dew_point,
        pressure_sea_hpa=1016.0 + 6.0 * pressure_wave - 4.0 * near_rain,
        wind_east_m_s=-wind * math.sin(blows_from),
        wind_north_m_s=-wind * math.cos(blows_from),
        cloud=cloud,
        sun_elevation_rad=elevation,
    )


def region(seed: int, time_s: float) -> Region:
    """The weather that is the same over both cities, interpolated between grid points."""
    position = time_s / GRID_S
    step = math.floor(position)
    right = position - step
    left = 1.0 - right
    a, b = _node(seed, step), _node(seed, step + 1)
    return Region(
        temperature_c=a.temperature_c * left + b.temperature_c * right,
        dew_point_c=a.dew_point_c * left + b.dew_point_c * right,
        pressure_sea_hpa=a.pressure_sea_hpa * left + b.pressure_sea_hpa * right,
        wind_east_m_s=a.wind_east_m_s * left + b.wind_east_m_s * right,
        wind_north_m_s=a.wind_north_m_s * left + b.wind_north_m_s * right,
        cloud=a.cloud * left + b.cloud * right,
        sun_elevation_rad=a.sun_elevation_rad * left + b.sun_elevation_rad * right,
    )


def rain_mm(seed: int, spot: Spot, since_s: float, until_s: float) -> float:
    """Rain fallen at a spot between two times, in millimetres."""
    total = 0.0
    for passing in fronts(seed, since_s - SLOT_S, until_s + 3600.0):
        arrival_s = passing.arrival_s(spot.east_km, spot.north_km)
        share = passing.share(until_s, arrival_s) - passing.share(since_s, arrival_s)
        if share > 0.0:
            total += share * passing.amount_mm(spot.east_km, spot.north_km)
    return total


def lightning(seed: int, spot: Spot, since_s: float, until_s: float) -> tuple[int, float]:
    """Strikes seen from a spot between two times, and their mean distance in kilometres (0 without strikes)."""
    strikes, distance_km = 0, 0.0
    for passing in fronts(seed, since_s - SLOT_S, until_s + 3600.0):
        if not passing.thunder:
            continue
        arrival_s = passing.arrival_s(spot.east_km, spot.north_km)
        expected = 12.0 * passing.total_mm
        # Whole strikes of a growing total, so that intervals add up however they are cut.
        strikes += math.floor(expected * passing.share(until_s, arrival_s)) - math.floor(
            expected * passing.share(since_s, arrival_s)
        )
        x = (until_s - arrival_s) / passing.duration_s
        distance_km = max(1.0, 30.0 * abs(x - 0.5))
    return (strikes, distance_km) if strikes > 0 else (0, 0.0)


def air(seed: int, spot: Spot, time_s: float) -> Air:
    """Temperature and moisture of the air at a spot."""
    around = region(seed, time_s)
    rain_mm_h, chill_k = 0.0, 0.0
    for passing in fronts(seed, time_s - SLOT_S, time_s + 3600.0):
        rate = passing.intensity(time_s, passing.arrival_s(spot.east_km, spot.north_km))
        if rate > 0.0:
            here_mm_h = rate * passing.amount_mm(spot.east_km, spot.north_km) * 3600.0
            rain_mm_h += here_mm_h
            chill_k += (1.5 + 3.0 * passing.thunder) * here_mm_h / (here_mm_h + 4.0)
    regional_wind = math.hypot(around.wind_east_m_s, around.wind_north_m_s)
    night = 1.0 - smoothstep(-0.05, 0.35, around.sun_elevation_rad)
    # Oke's observation: strongest in calm clear nights, near nothing at noon.
    heat_island_k = (
        spot.density * (0.5 + 3.4 * night) * (1.0 - 0.65 * around.cloud) * math.exp(-regional_wind / 7.0)
    )
    temperature = (
        around.temperature_c
        - LAPSE_K_PER_M * (spot.altitude_m - REFERENCE_ALTITUDE_M)
        + heat_island_k
        - chill_k
        + 0.18 * smooth(spot.seed + 11, time_s, 1500.0)
    )
    dew_point = (
        around.dew_point_c - 0.002 * (spot.altitude_m - REFERENCE_ALTITUDE_M) + 0.5 * min(1.0, rain_mm_h)
    )
    dew_point += 0.15 * smooth(spot.seed + 12, time_s, 2700.0)
    dew_point = min(dew_point, temperature - 0.05)
    vapour_hpa = saturation_vapour_pressure_hpa(dew_point)
    return Air(
        region=around,
        temperature_c=temperature,
        dew_point_c=dew_point,
        relative_humidity_percent=min(
            100.0, 100.0 * vapour_hpa / saturation_vapour_pressure_hpa(temperature)
        ),
        vapour_pressure_kpa=vapour_hpa / 10.0,
        rain_mm_h=rain_mm_h,
        chill_k=chill_k,
        regional_wind_m_s=regional_wind,
        night=night,
    )


def sample(seed: int, spot: Spot, time_s: float) -> Sample:
    """All of the weather at a spot."""
    here = air(seed, spot, time_s)
    around = here.region
    # Barometric height formula with the temperature of the place.
    kelvin = here.temperature_c + 273.15
    pressure = around.pressure_sea_hpa * math.exp(-9.80665 * spot.altitude_m / (287.05 * kelvin))
    # Logarithmic profile from 10 m to the sensor, rougher ground in the city (roughness 0.03 m to 0.8 m).
    roughness_m = 0.03 + 0.77 * spot.density
    profile = math.log(max(1.5, spot.height_m / roughness_m)) / math.log(10.0 / roughness_m)
    turbulence = 1.0 + 0.28 * smooth(spot.seed + 13, time_s, 420.0)
    wind = max(0.0, here.regional_wind_m_s * profile * turbulence)
    direction = math.degrees(math.atan2(-around.wind_east_m_s, -around.wind_north_m_s))
    direction += 22.0 * smooth(spot.seed + 14, time_s, 900.0)
    gust_factor = 1.6 + 0.18 * smooth(spot.seed + 15, time_s, 600.0) + 0.3 * min(1.0, here.chill_k)
    irradiance = 0.0
    cosine = math.sin(around.sun_elevation_rad)
    if cosine > 0.0:
        clear = 1098.0 * cosine * math.exp(-0.057 / cosine)  # Haurwitz (1945)
        local_cloud = min(1.0, max(0.0, around.cloud + 0.12 * smooth(spot.seed + 16, time_s, 1200.0)))
        irradiance = clear * (1.0 - 0.75 * local_cloud**3.4)  # Kasten and Czeplak (1980)
        # Trees and houses throw their shadow at the same hours every day.
        irradiance *= 1.0 - spot.shade * (0.4 + 0.4 * smooth(spot.seed + 17, time_s % DAY_S, 5400.0))
    globe = here.temperature_c + irradiance * 0.018 / (1.0 + 0.35 * wind**0.6)
    globe -= 0.8 * here.night * (1.0 - around.cloud)
    return Sample(
        air=here,
        pressure_hpa=pressure,
        wind_speed_m_s=wind,
        wind_direction_deg=direction % 360.0,
        wind_gust_m_s=wind * gust_factor,
        irradiance_w_m2=max(0.0, irradiance),
        black_globe_c=globe,
    )
