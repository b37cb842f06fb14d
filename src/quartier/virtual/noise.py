"""Deterministic pseudo-random numbers from integer keys.

Python's ``random`` keeps state and is slow to seed; here every number is a hash of what it belongs to (seed, place,
time step), so that values can be asked for in any order and always come out the same.
"""

from __future__ import annotations

import math
import zlib

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def mix(*keys: int) -> int:
    """64 well mixed bits of the keys: multiply and fold per key, and SplitMix64's last step at the end."""
    value = 0x2545_F491_4F6C_DD1D
    for key in keys:
        value = ((value ^ key) * 0x9E37_79B9_7F4A_7C15) & _MASK
        value ^= value >> 29
    value = (value * 0xBF58_476D_1CE4_E5B9) & _MASK
    return value ^ (value >> 32)


def key_of(text: str) -> int:
    """A stable integer for a name; the built-in ``hash`` changes from process to process."""
    return zlib.crc32(text.encode())


def unit(*keys: int) -> float:
    """A number in [0, 1) that belongs to the keys."""
    return (mix(*keys) >> 11) * (1.0 / (1 << 53))


def between(low: float, high: float, *keys: int) -> float:
    """A number in [low, high) that belongs to the keys."""
    return low + (high - low) * unit(*keys)


def smooth(seed: int, time_s: float, period_s: float) -> float:
    """Continuous noise in [-1, 1] that changes on the scale of ``period_s`` seconds."""
    position = time_s / period_s
    step = math.floor(position)
    fraction = position - step
    weight = fraction * fraction * (3.0 - 2.0 * fraction)
    left = unit(seed, step)
    return 2.0 * (left + (unit(seed, step + 1) - left) * weight) - 1.0


def smoothstep(low: float, high: float, value: float) -> float:
    """0 below ``low``, 1 above ``high``, smooth in between."""
    x = min(1.0, max(0.0, (value - low) / (high - low)))
    return x * x * (3.0 - 2.0 * x)
