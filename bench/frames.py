"""LoRaWAN frames: what a network server pays per frame for parsing, for each key it tries, and for decrypting."""

from __future__ import annotations

import time
from collections.abc import Callable

from quartier.lorawan.frames import crypto, phy
from quartier.lorawan.frames.phy import Data, FrameType

ROUNDS = 100_000


def _us(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(ROUNDS):
        call()
    return round((time.perf_counter() - began) / ROUNDS * 1e6, 2)


def run() -> dict[str, float | str]:
    """Microseconds, for an uplink of 20 bytes."""
    session = crypto.session_1_0(b"\1" * 16, b"\2" * 16)
    newer = crypto.SessionKeys(b"\1" * 16, b"\2" * 16, b"\3" * 16, b"\4" * 16, lorawan_1_1=True)
    sealed = crypto.seal_data(session, Data(FrameType.UNCONFIRMED_UP, 1, 0, port=1, payload=bytes(20)), 5)
    sealed_newer = crypto.seal_data(newer, Data(FrameType.UNCONFIRMED_UP, 1, 0, port=1, payload=bytes(20)), 5)
    frame = phy.parse(sealed)
    assert isinstance(frame, Data)
    strangers = [crypto.session_1_0(number.to_bytes(16), bytes(16)) for number in range(100)]
    first_us = _first_try_us(sealed)
    return {
        "parse_us": _us(lambda: phy.parse(sealed)),
        "mic_first_try_us": first_us,
        "mic_us": _us(lambda: crypto.uplink_fits(session, sealed, 5)),
        "mic_1_1_us": _us(lambda: crypto.uplink_fits(newer, sealed_newer, 5)),
        "hundred_wrong_keys_us": _hundred_us(strangers, sealed),
        "decrypt_us": _us(lambda: crypto.open_data(session, frame, 5)),
        "seal_us": _us(lambda: crypto.seal_data(session, frame, 5)),
    }


def _first_try_us(sealed: bytes) -> float:
    """With a key that has not been used yet."""
    fresh = [
        crypto.session_1_0(number.to_bytes(16), bytes(16)) for number in range(1 << 20, (1 << 20) + 5000)
    ]
    began = time.perf_counter()
    for one in fresh:
        crypto.uplink_fits(one, sealed, 5)
    return round((time.perf_counter() - began) / len(fresh) * 1e6, 2)


def _hundred_us(strangers: list[crypto.SessionKeys], sealed: bytes) -> float:
    rounds = 500
    began = time.perf_counter()
    for _ in range(rounds):
        for one in strangers:
            crypto.uplink_fits(one, sealed, 5)
    return round((time.perf_counter() - began) / rounds * 1e6, 1)
