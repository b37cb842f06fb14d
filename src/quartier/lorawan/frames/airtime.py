"""Time on air: what duty cycles and agreements are counted in.

LoRa after Semtech's AN1200.13 and, for SF5 and SF6, the SX1262 data sheet §6.1.4; LR-FHSS after Boquet et al.,
“LR-FHSS: Overview and Performance Analysis”, 2021.
"""

from __future__ import annotations

from math import ceil

from .modulation import DataRate, Fsk, Lora


def time_on_air_s(data_rate: DataRate, size: int, *, crc: bool = True) -> float:
    """Seconds on air of a PHYPayload of ``size`` bytes. ``crc``: LoRa downlinks have none."""
    if isinstance(data_rate, Lora):
        return _lora_s(data_rate, size, crc=crc)
    if isinstance(data_rate, Fsk):
        # TS001: preamble 5, sync word 3, length 1, CRC 2 bytes.
        return (5 + 3 + 1 + size + 2) * 8 / data_rate.bit_rate
    # Headers (replicas) of 233.472 ms, then fragments of 102.4 ms that carry 48 coded bits each.
    headers, bytes_per_fragment = (3, 2) if data_rate.coding_rate == "1/3" else (2, 4)
    return headers * 0.233472 + ceil((size + 3) / bytes_per_fragment) * 0.1024


def beacon_s(data_rate: DataRate, size: int) -> float:
    """Seconds on air of a beacon of class B: ten symbols of preamble, neither header nor CRC (TS001-1.0.4 §13.1)."""
    if not isinstance(data_rate, Lora):
        return time_on_air_s(data_rate, size, crc=False)
    return _lora_s(data_rate, size, crc=False, header=False, preamble=10)


def _lora_s(data_rate: Lora, size: int, *, crc: bool, header: bool = True, preamble: int = 8) -> float:
    factor = data_rate.spreading_factor
    symbol_s = (1 << factor) / data_rate.bandwidth_hz
    optimised = symbol_s >= 0.016  # low data rate optimisation
    if factor < 7:
        sync, header_bits, bits_per_block = 6.25, 20, 4 * factor
    else:
        sync, header_bits, bits_per_block = 4.25, 28, 4 * (factor - 2 * optimised)
    bits = 8 * size - 4 * factor + header_bits + (16 if crc else 0) - (0 if header else 20)
    symbols = preamble + sync + 8 + max(0, ceil(bits / bits_per_block)) * 5  # coding rate 4/5
    return symbols * symbol_s
