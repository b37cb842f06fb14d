"""How much of a signal arrives: path loss, shadowing, fading, noise, and what a LoRa receiver makes of it.

Everything is a pure function of places and seed, and the same in both directions, as on a real link.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.frames.modulation import DataRate, Lora

from ..noise import mix, unit
from ..places import east_north_km

FREQUENCY_MHZ: Final = 868.0
NOISE_DBM: Final = -117.0
"""Thermal noise of 125 kHz and a receiver's own 6 dB."""
_SHADOW_DB: Final = 6.0
_FADING_DB: Final = 2.0
_SHORTEST_KM: Final = 0.02
# Least SNR to demodulate (SX1272 data sheet, table 13).
_LEAST_SNR_DB: Final = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}
_LEAST_FSK_SNR_DB: Final = 9.0
_MOST_SNR_DB: Final = 12.0
SAME_FACTOR_DB: Final = 6.0
"""So much stronger a frame has to be than another one of its spreading factor (capture effect)."""
OTHER_FACTOR_DB: Final = -16.0
"""Frames of other spreading factors disturb only when they are that much stronger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an antenna hangs. ``density`` of the buildings around; ``loss_db`` of a lid, a wall or wet soil."""

    number: int
    """Tells places apart in the shadows of links."""
    lon: float
    lat: float
    altitude_m: float
    height_m: float
    gain_dbi: float = 0.0
    density: float = 0.5
    loss_db: float = 0.0

    def distance_km(self, other: Place) -> float:
        """Over ground."""
        (east, north), (there_east, there_north) = (
            east_north_km(self.lon, self.lat),
            east_north_km(other.lon, other.lat),
        )
        return max(_SHORTEST_KM, math.hypot(east - there_east, north - there_north))


def path_loss_db(high: Place, low: Place) -> float:
    """Median loss between a gateway and a device: log-distance with heights (Hata, between town and open country).

    The gateway's height counts from the device's ground, because the Ruhr's valley and Ardey's ridge lie between the
    cities. Never less than in free space.
    """
    distance_km = high.distance_km(low)
    base_m = min(200.0, max(8.0, high.altitude_m + high.height_m - low.altitude_m))
    device_m = min(10.0, max(1.0, low.height_m))
    log_f = math.log10(FREQUENCY_MHZ)
    device_db = (1.1 * log_f - 0.7) * device_m - (1.56 * log_f - 0.8)
    town_db = 69.55 + 26.16 * log_f - 13.82 * math.log10(base_m) - device_db
    town_db += (44.9 - 6.55 * math.log10(base_m)) * math.log10(distance_km)
    suburb_db = 2.0 * math.log10(FREQUENCY_MHZ / 28.0) ** 2 + 5.4
    free_db = 32.44 + 20.0 * log_f + 20.0 * math.log10(distance_km)
    return max(free_db, town_db - suburb_db * (1.0 - low.density)) + high.loss_db + low.loss_db


def shadow_db(seed: int, one: Place, other: Place) -> float:
    """What houses and hills between two places add or take; it stays."""
    low, high = sorted((one.number, other.number))
    return _SHADOW_DB * _normal(seed, 501, low, high)


def fading_db(seed: int, frame: int, one: Place, other: Place) -> float:
    """What a passing bus adds or takes; another one for every frame."""
    return _FADING_DB * _normal(seed, 502, frame, one.number, other.number)


def snr_db(rssi_dbm: float, data_rate: DataRate) -> float:
    """Signal over noise in the width of the data rate."""
    width_hz = data_rate.bandwidth_hz if isinstance(data_rate, Lora) else 125_000
    return rssi_dbm - NOISE_DBM - 10.0 * math.log10(width_hz / 125_000)


def least_snr_db(data_rate: DataRate) -> float:
    """What a receiver needs."""
    if isinstance(data_rate, Lora):
        return _LEAST_SNR_DB[data_rate.spreading_factor]
    return _LEAST_FSK_SNR_DB


def told_snr_db(snr: float) -> float:
    """As receivers report it: in quarters, and never more than 12 dB."""
    return round(min(snr, _MOST_SNR_DB) * 4.0) / 4.0


def lock_s(data_rate: DataRate) -> float:
    """Until then after its start, a receiver may still lock on a frame that something else had covered."""
    if not isinstance(data_rate, Lora):
        return 0.0
    # Five of the preamble's eight symbols are enough.
    return 3.0 * (1 << data_rate.spreading_factor) / data_rate.bandwidth_hz


def _normal(*keys: int) -> float:
    """A number with mean 0 and deviation 1 that belongs to the keys (Box and Muller)."""
    draw = mix(*keys)
    radius = math.sqrt(-2.0 * math.log(1.0 - unit(draw, 1)))
    return radius * math.cos(2.0 * math.pi * unit(draw, 2))
