"""Copies of one frame are one frame."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.lorawan.network.collector import Collector, Frame
from quartier.lorawan.types import Reception


def reception(phy: bytes, gateway: int = 1, **values: Any) -> Reception:
    return Reception(
        **{
            "gateway": gateway.to_bytes(8),
            "phy": phy,
            "frequency_hz": 868_100_000,
            "data_rate": 5,
            "received_at": datetime.now(UTC),
            "received_monotonic": time.monotonic(),
            "rssi_dbm": -90.0,
            "snr_db": 1.0,
            **values,
        }
    )


DATA, JOIN = b"\x40data", b"\x00join"


async def test_copies_within_the_window_are_one_frame_and_late_ones_are_none() -> None:
    handled: list[Frame] = []
    collector = Collector(handled.append, window_s=0.05)
    assert collector.add(reception(DATA, 1, snr_db=-3.0))
    assert collector.add(reception(DATA, 2, snr_db=4.0, peer="schwerte"))
    assert collector.add(reception(JOIN, 1))
    await asyncio.sleep(0.02)
    assert collector.add(reception(DATA, 3, snr_db=0.0))
    assert handled == []
    await asyncio.sleep(0.1)
    assert [frame.phy for frame in handled] == [DATA, JOIN]
    assert [int.from_bytes(one.gateway) for one in handled[0].best()] == [2, 3, 1]
    assert not collector.add(reception(DATA, 4)), "came too late, and is no repetition"
    assert len(handled[0].receptions) == 3
    assert len(collector) == 0


async def test_a_gateway_that_says_the_same_twice_counts_once() -> None:
    handled: list[Frame] = []
    collector = Collector(handled.append, window_s=0.01)
    for snr_db in (1.0, 6.0, 2.0):
        collector.add(reception(DATA, 1, snr_db=snr_db))
    collector.add(reception(DATA, 1, peer="schwerte"))
    await asyncio.sleep(0.05)
    assert [(one.snr_db, one.peer) for one in handled[0].receptions] == [(6.0, ""), (1.0, "schwerte")]


async def test_a_device_that_repeats_itself_is_a_new_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quartier.lorawan.network.collector._SAME_DATA_S", 0.06)
    handled: list[Frame] = []
    collector = Collector(handled.append, window_s=0.02)
    for _ in range(2):
        collector.add(reception(DATA))
        collector.add(reception(JOIN))
        await asyncio.sleep(0.1)
    assert [frame.phy for frame in handled] == [DATA, JOIN, DATA], (
        "a join is answered after five seconds only"
    )


async def test_many_gateways_and_many_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quartier.lorawan.network.collector._MOST_OPEN", 10)
    handled: list[Frame] = []
    collector = Collector(handled.append, window_s=0.02)
    for gateway in range(200):
        collector.add(reception(DATA, gateway))
    for number in range(9):
        collector.add(reception(b"\x40" + bytes([number])))
    with pytest.raises(OverflowError):
        collector.add(reception(b"\x40one more"))
    await asyncio.sleep(0.08)
    assert len(handled) == 10
    assert len(handled[0].receptions) == 64
