"""What a device measures at a moment, and the payload it sends.

The true state comes from ``weather`` and ``city``; here the device is put between: its own small error, its
battery, and the deliberate faults of a few devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from . import city, weather
from .noise import between, mix, smooth, unit
from .payloads import Value
from .world import FAILED_LAMPS, Device, Thing, World

DAY_S = 86400.0
DRIFT_PERIOD_S = 30 * DAY_S
DRIFT_K = 7.0
SPIKE_ONE_IN = 45
STUCK_SINCE_S = 1735732800.0  # 1 January 2025: a stuck sensor shows what it felt then


def _battery_share(device: Device, time_s: float) -> float:
    """What is left in the battery, 1 to 0.05; a battery lasts some six years, the weak one is nearly empty."""
    if device.fault == "weak_battery":
        return 0.06
    return max(
        0.3, 0.97 - 0.6 * unit(device.seed, 81) - 0.04 * math.sin(2.0 * math.pi * time_s / weather.YEAR_S)
    )


def _battery_v(device: Device, time_s: float, temperature_c: float) -> float:
    """Voltage of two lithium cells: sinks with age and in the cold."""
    return 2.55 + 0.62 * _battery_share(device, time_s) + 0.002 * min(0.0, temperature_c - 15.0)


def _battery_percent(device: Device, time_s: float) -> float:
    return 100.0 * _battery_share(device, time_s)


def _felt_temperature(device: Device, time_s: float, true_c: float) -> float:
    """The air temperature as this device measures it, with its calibration error and its fault, if any."""
    felt = true_c + between(-0.15, 0.15, device.seed, 82) + 0.04 * smooth(device.seed + 83, time_s, 400.0)
    if device.fault == "drift":
        felt += DRIFT_K * ((time_s / DRIFT_PERIOD_S) % 1.0)
    elif device.fault == "spikes" and mix(device.seed, 84, math.floor(time_s)) % SPIKE_ONE_IN == 0:
        felt += 28.0 if mix(device.seed, 85, math.floor(time_s)) % 2 else -31.0
    return felt


def _sht(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    moment_s = STUCK_SINCE_S if device.fault == "stuck" else time_s
    air = weather.air(world.seed, thing.spot, moment_s)
    temperature = _felt_temperature(device, moment_s, air.temperature_c)
    humidity = min(100.0, max(1.0, air.relative_humidity_percent + between(-1.2, 1.2, device.seed, 86)))
    volts = _battery_v(device, time_s, temperature)
    if device.type == "decentlab-dl-sht35":
        return {"air_temperature": temperature, "air_humidity": humidity, "battery_voltage": volts}
    return {"temperature": temperature, "humidity": humidity, "battery": volts}


def _weather_station(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    now = weather.sample(world.seed, thing.spot, time_s)
    since_s = time_s - device.expected_interval_s
    temperature = _felt_temperature(device, time_s, now.air.temperature_c)
    humidity = min(100.0, max(1.0, now.air.relative_humidity_percent + between(-1.5, 1.5, device.seed, 86)))
    # A tipping rain gauge counts whole drops of 0.017 mm; the total grows, so intervals add up.
    drops_mm = 0.017
    fallen_mm = weather.rain_mm(world.seed, thing.spot, since_s, time_s)
    rain_mm = math.floor(fallen_mm / drops_mm + unit(device.seed, 87, math.floor(time_s))) * drops_mm
    strikes, distance_km = weather.lightning(world.seed, thing.spot, since_s, time_s)
    volts = _battery_v(device, time_s, temperature)
    if device.type == "virtual-weather":
        return {
            "temperature": temperature,
            "humidity": humidity,
            "pressure": now.pressure_hpa,
            "vapour_pressure": now.air.vapour_pressure_kpa,
            "wind_speed": now.wind_speed_m_s,
            "wind_direction": now.wind_direction_deg,
            "wind_gust": now.wind_gust_m_s,
            "rain": rain_mm,
            "irradiance": now.irradiance_w_m2,
            "strikes": strikes,
            "strike_distance": min(255.0, distance_km),
            "battery": volts,
        }
    direction = math.radians(now.wind_direction_deg)
    return {
        "solar_radiation": now.irradiance_w_m2,
        "precipitation": rain_mm,
        "lightning_strike_count": strikes,
        "lightning_average_distance": distance_km,
        "wind_speed": now.wind_speed_m_s,
        "wind_direction": now.wind_direction_deg,
        "maximum_wind_speed": now.wind_gust_m_s,
        "air_temperature": temperature,
        "vapor_pressure": now.air.vapour_pressure_kpa,
        "atmospheric_pressure": now.pressure_hpa / 10.0,
        "relative_humidity": humidity,
        "sensor_temperature_internal": temperature + 0.3 + now.irradiance_w_m2 * 0.002,
        "x_orientation_angle": between(-1.5, 1.5, device.seed, 88),
        "y_orientation_angle": between(-1.5, 1.5, device.seed, 89),
        "compass_heading": mix(device.seed, 90) % 360,
        "north_wind_speed": -now.wind_speed_m_s * math.cos(direction),
        "east_wind_speed": -now.wind_speed_m_s * math.sin(direction),
        "battery_voltage": volts,
    }


def _globe(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    now = weather.sample(world.seed, thing.spot, time_s)
    volts = _battery_v(device, time_s, now.air.temperature_c)
    if device.type == "decentlab-dl-blg":
        return {"temperature": now.black_globe_c, "battery_voltage": volts}
    return {"globe_temperature": now.black_globe_c, "battery": volts}


def _level(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    if thing.stream is None:
        raise ValueError(f"{thing.key} stands at no stream")
    return {
        "level": city.water_level_m(world.seed, thing.spot, thing.stream, time_s),
        "water_temperature": city.water_temperature_c(world.seed, thing.spot, time_s),
        "battery": _battery_percent(device, time_s),
    }


def _parking(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    return {"occupied": city.occupied(thing.seed, time_s), "battery": _battery_percent(device, time_s)}


def _carpark(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    capacity = int(thing.properties["capacity"])
    return {"free": city.free_spaces(world.seed, thing.seed, capacity, time_s), "capacity": capacity}


def _waste(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    return {
        "fill_level": city.fill_level_percent(thing.seed, time_s),
        "battery": _battery_percent(device, time_s),
    }


def _soil(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    return {
        "moisture": city.soil_moisture_percent(world.seed, thing.spot, time_s),
        "temperature": city.soil_temperature_c(world.seed, thing.spot, time_s),
        "battery": _battery_percent(device, time_s),
    }


def _lamp(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    rated_w = float(thing.properties["rated_power_w"])
    power_w, dimming = city.lamp(world.seed, thing.seed, rated_w, time_s)
    failed = thing.key in FAILED_LAMPS and dimming > 0.0
    return {"power": 0.4 if failed else power_w, "dimming": dimming, "failure": failed}


def _counter(world: World, device: Device, thing: Thing, time_s: float) -> dict[str, Value]:
    interval_s = float(device.expected_interval_s)
    pedestrians = float(thing.properties["busy_pedestrians_per_hour"])
    bicycles = float(thing.properties["busy_bicycles_per_hour"])
    return {
        "pedestrians": city.people(world.seed, thing.spot, pedestrians, time_s, interval_s),
        "bicycles": city.bicycles(world.seed, thing.spot, bicycles, time_s, interval_s),
        "battery": _battery_percent(device, time_s),
    }


_MEASURE: dict[str, Callable[[World, Device, Thing, float], dict[str, Value]]] = {
    "decentlab-dl-sht35": _sht,
    "decentlab-dl-atm41": _weather_station,
    "decentlab-dl-blg": _globe,
    "virtual-climate": _sht,
    "virtual-weather": _weather_station,
    "virtual-globe": _globe,
    "virtual-level": _level,
    "virtual-parking": _parking,
    "virtual-carpark": _carpark,
    "virtual-waste": _waste,
    "virtual-soil": _soil,
    "virtual-lamp": _lamp,
    "virtual-counter": _counter,
}


def values_at(world: World, device: Device, time_s: float) -> dict[str, Value]:
    """The decoded fields a device would report at a Unix time, before rounding to its payload format."""
    return _MEASURE[device.type](world, device, world.thing_of(device), time_s)


def payload_at(world: World, device: Device, time_s: float) -> bytes:
    """The payload a device sends at a Unix time."""
    return device.device_type.format.pack(values_at(world, device, time_s), device.serial)
