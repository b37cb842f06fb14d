"""When devices send, what goes wrong on the way, and how virtual time relates to real time.

Up to the start of a run, virtual and real time are the same. From then on virtual time runs ``speed`` times as fast:
devices send ``speed`` times as often and weather and daylight pass faster, while the times written into messages
stay real, so that nothing ever seems to come from the future. Nothing is remembered: which frame was sent, lost,
doubled, late or damaged follows from device and frame number alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from .noise import between, mix, unit
from .world import Device, World

type Damage = Literal["truncated", "absurd", "epoch", "garbled"]
type Fate = Literal["lost", "doubled", "late", "broken"]
type Order = Literal["sent", "arrived"]

BLOCK = 32  # fates are drawn for this many frames at once, so that late ones are found without looking at every frame
GOLDEN = 0.6180339887498949
SILENT_BEFORE_START_S = 46 * 3600.0
LATEST_S = 3500.0
DAMAGES: tuple[Damage, ...] = ("truncated", "absurd", "epoch", "garbled")
FATES: tuple[Fate, ...] = ("lost", "doubled", "late", "broken")


@dataclass(frozen=True, slots=True)
class Faults:
    """Which share of frames is lost, arrives twice, arrives minutes to an hour late, or arrives damaged."""

    lost: float = 0.004
    doubled: float = 0.003
    late: float = 0.003
    broken: float = 0.002

    @classmethod
    def none(cls) -> Faults:
        """A network without faults."""
        return cls(0.0, 0.0, 0.0, 0.0)

    def rate(self, fate: Fate) -> float:
        """The share of frames that meet a fate."""
        return {"lost": self.lost, "doubled": self.doubled, "late": self.late, "broken": self.broken}[fate]


@dataclass(frozen=True, slots=True)
class Clock:
    """Real and virtual time of one run, Unix seconds. ``source`` tells the real time."""

    started_s: float
    speed: float = 1.0
    source: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not self.speed > 0.0:
            raise ValueError(f"speed must be positive, not {self.speed}")

    def now_us(self) -> int:
        """Real time in microseconds."""
        return int(self.source() * 1e6)

    def virtual_s(self, real_s: float) -> float:
        """Virtual time of a real time."""
        return real_s if real_s <= self.started_s else self.started_s + (real_s - self.started_s) * self.speed

    def real_s(self, virtual_s: float) -> float:
        """Real time of a virtual time."""
        return (
            virtual_s
            if virtual_s <= self.started_s
            else self.started_s + (virtual_s - self.started_s) / self.speed
        )


@dataclass(frozen=True, slots=True)
class Transmission:
    """One arrival of one frame at the network server; times in microseconds are real ones."""

    device: Device
    frame_count: int
    virtual_s: float
    sent_us: int
    arrived_us: int
    copy: int
    damage: Damage | None

    def key(self, order: Order) -> tuple[int, int, int]:
        """Position in a list sorted by sending or by arrival."""
        return (self.sent_us if order == "sent" else self.arrived_us, self.device.index, self.copy)


@lru_cache(maxsize=8192)
def _fates(device_seed: int, faults: Faults, block: int) -> dict[int, Fate]:
    """What happens to which frame of a block, by position in the block; most frames are not listed."""
    found: dict[int, Fate] = {}
    for number, fate in enumerate(FATES):
        expected = faults.rate(fate) * BLOCK
        count = math.floor(expected + unit(device_seed, 401, block, number))
        for turn in range(count):
            found.setdefault(mix(device_seed, 402, block, number, turn) % BLOCK, fate)
    return found


def _first_step(device: Device) -> int:
    """The sending step in which a device was installed; its frame counter starts there."""
    installed_s = datetime.combine(device.installed_on, datetime.min.time(), UTC).timestamp()
    return math.floor(installed_s / device.expected_interval_s)


class Schedule:
    """All transmissions of some devices over a clock; ``history_s`` seconds before the start are known, too."""

    def __init__(
        self, world: World, devices: Sequence[Device], clock: Clock, faults: Faults, history_s: float
    ) -> None:
        self.world = world
        self.devices = tuple(devices)
        self.clock = clock
        self.faults = faults
        self.begin_us = int((clock.started_s - history_s) * 1e6)
        self.longest_delay_us = int(LATEST_S * 1e6 / clock.speed) + 1
        self._first_step = {device.index: _first_step(device) for device in self.devices}

    def _virtual_send_s(self, device: Device, step: int) -> float:
        """When a device sends for the nth time: spread over the interval, with the jitter of a cheap quartz."""
        interval = device.expected_interval_s
        phase = (device.index * GOLDEN) % 1.0
        return interval * (step + phase + 0.01 * unit(device.seed, 403, step))

    def _steps(self, device: Device, since_us: int, until_us: int) -> Iterator[tuple[int, float, int]]:
        """Sending steps with virtual and real time, for real times from ``since_us`` up to but not at ``until_us``."""
        interval = device.expected_interval_s
        phase = (device.index * GOLDEN) % 1.0
        step = math.floor(self.clock.virtual_s(since_us / 1e6) / interval - phase - 0.01) - 1
        end_s = until_us / 1e6
        if device.fault == "silent":
            end_s = min(end_s, self.clock.started_s - SILENT_BEFORE_START_S)
        end_step = math.ceil(self.clock.virtual_s(end_s) / interval - phase)
        while step <= end_step:
            virtual_s = self._virtual_send_s(device, step)
            sent_us = int(self.clock.real_s(virtual_s) * 1e6)
            if since_us <= sent_us < until_us and sent_us < end_s * 1e6:
                yield step, virtual_s, sent_us
            step += 1

    def _arrivals(self, device: Device, step: int, virtual_s: float, sent_us: int) -> list[Transmission]:
        """What arrives of one sent frame: nothing, one message or two."""
        fate = _fates(device.seed, self.faults, step // BLOCK).get(step % BLOCK)
        if fate == "lost":
            return []
        latency_us = 8_000 + mix(device.seed, 404, step) % 60_000
        damage: Damage | None = None
        if fate == "late":
            latency_us = int(between(120.0, LATEST_S, device.seed, 405, step) * 1e6 / self.clock.speed)
        elif fate == "broken":
            damage = DAMAGES[mix(device.seed, 406, step) % len(DAMAGES)]
        count = (step - self._first_step[device.index]) % 2**32
        first = Transmission(device, count, virtual_s, sent_us, sent_us + latency_us, 0, damage)
        if fate != "doubled":
            return [first]
        again_us = sent_us + latency_us + 400_000 + mix(device.seed, 407, step) % 2_000_000
        return [first, Transmission(device, count, virtual_s, sent_us, again_us, 1, None)]

    def _late_from(self, device: Device, since_us: int, until_us: int) -> Iterator[Transmission]:
        """Late frames sent in a time span; looks at blocks, not at frames."""
        if self.faults.late <= 0.0:
            return
        interval, phase = device.expected_interval_s, (device.index * GOLDEN) % 1.0
        first = math.floor(self.clock.virtual_s(since_us / 1e6) / interval - phase) - 1
        last = math.ceil(self.clock.virtual_s(until_us / 1e6) / interval - phase)
        for block in range(first // BLOCK, last // BLOCK + 1):
            for position, fate in _fates(device.seed, self.faults, block).items():
                if fate != "late":
                    continue
                step = block * BLOCK + position
                virtual_s = self._virtual_send_s(device, step)
                sent_us = int(self.clock.real_s(virtual_s) * 1e6)
                if not since_us <= sent_us < until_us:
                    continue
                if (
                    device.fault == "silent"
                    and sent_us >= (self.clock.started_s - SILENT_BEFORE_START_S) * 1e6
                ):
                    continue
                yield from self._arrivals(device, step, virtual_s, sent_us)

    def window(
        self, since_us: int, until_us: int, order: Order, devices: Iterable[Device] | None = None
    ) -> list[Transmission]:
        """Transmissions whose time of the given kind lies in [since, until), sorted by it.

        Messages from before the known past are left out; those that have not arrived yet are the caller's business.
        """
        since_us = max(since_us, self.begin_us)
        found: list[Transmission] = []
        if since_us >= until_us:
            return found
        chosen = self.devices if devices is None else devices
        # Apart from late ones, frames arrive within three seconds.
        margin_us = 3_000_000 if order == "arrived" else 0
        for device in chosen:
            start_us = max(self.begin_us, since_us - margin_us)
            for step, virtual_s, sent_us in self._steps(device, start_us, until_us):
                found.extend(self._arrivals(device, step, virtual_s, sent_us))
            if order == "arrived":
                found.extend(
                    self._late_from(device, max(self.begin_us, start_us - self.longest_delay_us), start_us)
                )
        if order == "arrived":
            found = [item for item in found if since_us <= item.arrived_us < until_us]
        found.sort(key=lambda item: item.key(order))
        return found

    def last_sent(self, device: Device, before_us: int) -> Transmission | None:
        """The newest undamaged message of a device sent before a time, however many were lost."""
        until_us = before_us
        while until_us > self.begin_us:
            span_us = int(4e6 / self.messages_per_s((until_us - 1) / 1e6, [device]))
            for item in reversed(self.window(until_us - span_us, until_us, "sent", [device])):
                if item.damage is None and item.arrived_us <= before_us:
                    return item
            until_us -= span_us
        return None

    def messages_per_s(self, real_s: float, devices: Sequence[Device]) -> float:
        """Expected rate of messages at a real time."""
        rate = sum(1.0 / device.expected_interval_s for device in devices)
        return rate * (self.clock.speed if real_s > self.clock.started_s else 1.0)
