"""A virtual packet forwarder: speaks Semtech's UDP protocol as the reference implementation does.

It keeps its route open by PULL_DATA, sends what it hears at once, and queues frames by its own 32-bit counter. Like
the original it refuses a frame that comes too late, too early, or while something else is to be sent.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from quartier.lorawan.frames.modulation import DataRate, Fsk, Lora

from .gateway import HIGH_HZ, LOW_HZ, Gps, Hearing, Transmit, downlink_airtime_s

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)
_COUNTER: Final = 1 << 32
_LATEST_S: Final = 0.0425  # start delay, margin and JIT delay of lora_pkt_fwd
_EARLIEST_S: Final = 512.0
_GAP_S: Final = 0.0025
_MOST_QUEUED: Final = 32
_LORA: Final = re.compile(r"SF(\d{1,2})BW(\d{3})")


@dataclass(slots=True)
class _Job:
    start: float
    end: float
    timer: asyncio.TimerHandle


@dataclass(slots=True)
class Counts:
    """What the forwarder reports in its statistics."""

    heard: int = 0
    intact: int = 0
    forwarded: int = 0
    pushed: int = 0
    acknowledged: int = 0
    downlinks: int = 0
    sent: int = 0


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: Callable[[bytes], None]) -> None:
        self._on_datagram = on_datagram

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._on_datagram(data)

    def error_received(self, exc: Exception) -> None:
        """A server that is down for a moment; the next keepalive tries again."""


class PacketForwarder:
    """One gateway. ``loses(is_up)`` decides which datagrams get lost on the way; without ``gps`` it has no GPS time."""

    def __init__(
        self,
        eui: bytes,
        transmit: Transmit,
        *,
        keepalive_s: float = 10.0,
        statistics_s: float = 30.0,
        strongest_dbm: int = 27,
        counter_us: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        loses: Callable[[bool], bool] = lambda _: False,
        gps: Gps | None = None,
    ) -> None:
        self.eui = eui
        self.counts = Counts()
        self.answered_at = 0.0
        self._transmit = transmit
        self._keepalive_s = keepalive_s
        self._statistics_s = statistics_s
        self._strongest_dbm = strongest_dbm
        self._clock = clock
        self._loses = loses
        self.gps = gps
        start_us = random.randrange(_COUNTER) if counter_us is None else counter_us  # noqa: S311
        self._epoch_us = start_us - round(clock() * 1_000_000)
        self._queue: list[_Job] = []
        self._up: asyncio.DatagramTransport | None = None
        self._down: asyncio.DatagramTransport | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> None:
        """Open the two sockets (as the original has them) and begin."""
        loop = asyncio.get_running_loop()
        self._up, _ = await loop.create_datagram_endpoint(
            lambda: _Socket(self._on_up), remote_addr=(host, port)
        )
        self._down, _ = await loop.create_datagram_endpoint(
            lambda: _Socket(self._on_down), remote_addr=(host, port)
        )
        self._tasks = [
            asyncio.create_task(self._pull_regularly()),
            asyncio.create_task(self._report_regularly()),
        ]

    async def close(self) -> None:
        """Stop; what was queued is not sent."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for job in self._queue:
            job.timer.cancel()
        self._queue.clear()
        for transport in (self._up, self._down):
            if transport is not None:
                transport.close()

    def counter_us(self, at: float) -> int:
        """The concentrator's counter at a time of the clock."""
        return (round(at * 1_000_000) + self._epoch_us) % _COUNTER

    # Up

    def heard(self, *hearings: Hearing) -> None:
        """Forward frames, several in one datagram where they ended together."""
        self.counts.heard += len(hearings)
        self.counts.intact += sum(one.intact for one in hearings)
        self.counts.forwarded += len(hearings)
        self._push({"rxpk": [self._rxpk(one) for one in hearings]})

    def _rxpk(self, hearing: Hearing) -> dict[str, Any]:
        rate = hearing.data_rate
        packet: dict[str, Any] = {
            "jver": 1,
            "tmst": self.counter_us(hearing.ended_at),
            "chan": hearing.channel,
            "rfch": 1,
            "freq": hearing.frequency_hz / 1_000_000,
            "mid": 8,
            "stat": 1 if hearing.intact else -1,
            "rssi": round(hearing.rssi_dbm),
            "size": len(hearing.phy),
            "data": base64.b64encode(hearing.phy).decode(),
        }
        if self.gps is not None:
            packet["tmms"] = round(self.gps.ms(hearing.ended_at))
        if isinstance(rate, Lora):
            lora = {"modu": "LORA", "datr": rate.name, "codr": "4/5", "lsnr": round(hearing.snr_db, 1)}
            return packet | lora | {"rssis": round(hearing.rssi_dbm), "foff": 0}
        return packet | {"modu": "FSK", "datr": rate.bit_rate if isinstance(rate, Fsk) else 0}

    def _push(self, body: dict[str, Any]) -> None:
        self.counts.pushed += 1
        token = random.randbytes(2)  # noqa: S311
        self._send(self._up, bytes((2, *token, PUSH_DATA)) + self.eui + json.dumps(body).encode())

    def _on_up(self, datagram: bytes) -> None:
        if len(datagram) == 4 and datagram[3] == PUSH_ACK and not self._loses(False):
            self.counts.acknowledged += 1
            self.answered_at = self._clock()

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._statistics_s)
            counts = self.counts
            ratio = 100.0 * counts.acknowledged / counts.pushed if counts.pushed else 0.0
            self._push(
                {
                    "stat": {
                        "time": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} GMT",
                        "rxnb": counts.heard,
                        "rxok": counts.intact,
                        "rxfw": counts.forwarded,
                        "ackr": round(ratio, 1),
                        "dwnb": counts.downlinks,
                        "txnb": counts.sent,
                        "temp": 24.5,
                    }
                }
            )

    # Down

    async def _pull_regularly(self) -> None:
        while True:
            token = random.randbytes(2)  # noqa: S311
            self._send(self._down, bytes((2, *token, PULL_DATA)) + self.eui)
            await asyncio.sleep(self._keepalive_s)

    def _on_down(self, datagram: bytes) -> None:
        if len(datagram) < 4 or datagram[0] != 2 or self._loses(False):
            return
        if datagram[3] == PULL_ACK:
            self.answered_at = self._clock()
        elif datagram[3] == PULL_RESP:
            self.counts.downlinks += 1
            answer = self._queue_frame(datagram[4:])
            body = b"" if answer is None else json.dumps({"txpk_ack": answer}).encode()
            self._send(self._down, bytes((2, *datagram[1:3], TX_ACK)) + self.eui + body)

    def _queue_frame(self, body: bytes) -> dict[str, Any] | None:
        """Plan a frame; what the acknowledgement says, None where all is well."""
        packet = json.loads(body)["txpk"]
        phy = base64.b64decode(packet["data"])
        frequency_hz = round(packet["freq"] * 1_000_000)
        rate = _data_rate(packet["datr"])
        now = self._clock()
        airtime_s = downlink_airtime_s(rate, phy)
        if not LOW_HZ <= frequency_hz <= HIGH_HZ:
            return {"error": "TX_FREQ"}
        if packet.get("imme"):
            start = self._first_gap(now + 0.01, airtime_s)
        elif "tmst" in packet:
            ahead_us = (packet["tmst"] - self.counter_us(now)) % _COUNTER
            if ahead_us >= _COUNTER // 2:
                ahead_us -= _COUNTER
            start = now + ahead_us / 1_000_000
            if ahead_us < _LATEST_S * 1_000_000:
                return {"error": "TOO_LATE"}
        elif "tmms" in packet and self.gps is not None:
            start = self.gps.at(packet["tmms"])
            if start - now < _LATEST_S:
                return {"error": "TOO_LATE"}
        else:
            return {"error": "GPS_UNLOCKED"}
        if start - now > _EARLIEST_S:
            return {"error": "TOO_EARLY"}
        end = start + airtime_s
        if len(self._queue) >= _MOST_QUEUED or any(
            job.start - _GAP_S < end and start < job.end + _GAP_S for job in self._queue
        ):
            return {"error": "COLLISION_PACKET"}
        power_dbm = min(packet["powe"], self._strongest_dbm)
        self._plan(start, end, lambda: self._transmit(start, phy, frequency_hz, rate, power_dbm))
        return {"warn": "TX_POWER", "value": power_dbm} if power_dbm < packet["powe"] else None

    def _first_gap(self, earliest: float, airtime_s: float) -> float:
        start = earliest
        for job in sorted(self._queue, key=lambda one: one.start):
            if start + airtime_s + _GAP_S < job.start:
                break
            start = max(start, job.end + 2 * _GAP_S)
        return start

    def _plan(self, start: float, end: float, transmit: Callable[[], None]) -> None:
        def send() -> None:
            self.counts.sent += 1
            transmit()

        loop = asyncio.get_running_loop()
        job = _Job(start, end, loop.call_later(max(0.0, start - self._clock()), send))
        self._queue.append(job)
        loop.call_later(max(0.0, end - self._clock()), self._forget, job)

    def _forget(self, job: _Job) -> None:
        if job in self._queue:
            self._queue.remove(job)

    def _send(self, transport: asyncio.DatagramTransport | None, datagram: bytes) -> None:
        if transport is not None and not transport.is_closing() and not self._loses(True):
            transport.sendto(datagram)


def _data_rate(spelling: str | int) -> DataRate:
    if isinstance(spelling, int):
        return Fsk(spelling)
    found = _LORA.fullmatch(spelling)
    if found is None:
        raise ValueError(f"unknown data rate {spelling!r}")
    return Lora(int(found[1]), int(found[2]) * 1000)
