"""Adaptive data rate: as fast and as quiet as a device can be and still be heard.

From the best SNR of each of the last 20 uplinks: what is left above the floor of the data rate and a margin is spent
in steps of 3 dB, first on a faster data rate, then on less power. Where something is missing, power goes up again; a
slower data rate is the device's own choice (it asks by ADRACKReq), because a server that hears nothing cannot decide.
With fewer than 20 uplinks 2.5 dB more are kept, and power is not lowered. How often a frame is repeated follows from
how many were lost.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

HISTORY: Final = 20
_STEP_DB: Final = 3.0
_UNSURE_DB: Final = 2.5
# Demodulation floors of SF12 … SF7 at 125 kHz (SX1276 data sheet, table 13), by data rate of EU868.
FLOOR_DB: Final = (-20.0, -17.5, -15.0, -12.5, -10.0, -7.5)
# Repetitions by loss (below 5, 10, 30 %, above) and how often frames are repeated now.
_REPETITIONS: Final = ((1, 1, 2), (1, 2, 3), (2, 3, 3), (3, 3, 3))
_ENTRY: Final = struct.Struct("<Hh")


class Setting(NamedTuple):
    """What a device is told: data rate, index of transmit power (0 is the strongest), repetitions."""

    data_rate: int
    power: int
    repetitions: int


def remember(history: bytes, counter: int, snr_db: float) -> bytes:
    """The history with one more uplink; four bytes each, because there are many devices."""
    centi_db = max(-32_768, min(32_767, round(snr_db * 100)))
    return (history + _ENTRY.pack(counter & 0xFFFF, centi_db))[-HISTORY * _ENTRY.size :]


def decide(history: bytes, now: Setting, *, margin_db: float, fastest: int, weakest: int) -> Setting:
    """What the device should use. ``fastest`` and ``weakest`` are the limits of data rate and power index."""
    entries = list(_ENTRY.iter_unpack(history))
    if not entries:
        return now
    full = len(entries) == HISTORY
    best_db = max(snr for _, snr in entries) / 100
    # FSK and SF7 at 250 kHz are never chosen; a device that is there already is judged like the fastest.
    floor_db = FLOOR_DB[min(now.data_rate, len(FLOOR_DB) - 1)]
    steps = math.floor((best_db - floor_db - margin_db - (0 if full else _UNSURE_DB)) / _STEP_DB)
    data_rate, power = now.data_rate, now.power
    while steps > 0 and data_rate < min(fastest, len(FLOOR_DB) - 1):
        data_rate, steps = data_rate + 1, steps - 1
    while steps > 0 and full and power < weakest:
        power, steps = power + 1, steps - 1
    while steps < 0 and power > 0:
        power, steps = power - 1, steps + 1
    return Setting(data_rate, power, _repetitions(entries, now.repetitions) if full else now.repetitions)


def _repetitions(entries: list[tuple[int, int]], now: int) -> int:
    sent = ((entries[-1][0] - entries[0][0]) & 0xFFFF) + 1
    loss = 1 - len(entries) / sent if sent >= len(entries) else 0.0
    row = 0 if loss < 0.05 else 1 if loss < 0.10 else 2 if loss < 0.30 else 3
    return _REPETITIONS[row][max(1, min(3, now)) - 1]
