"""When a gateway is on the air, or promised to be: no two emissions of one gateway overlap.

Answers to uplinks have their fixed times. Frames for devices that always listen (class C) take the next gap and give
way when an answer needs their time before they were handed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GAP_S: Final = 0.01
"""Between two emissions (a Station's TX_MIN_GAP)."""


@dataclass(eq=False, slots=True)
class Slot:
    """A time on the air; ``held`` becomes False for a movable slot that had to give way."""

    start: float
    end: float
    movable: bool = False
    held: bool = True


class Slots:
    """The emissions of one gateway that lie ahead."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []

    def reserve(self, start: float, airtime_s: float, now: float) -> Slot | None:
        """A fixed time; None where something fixed is there already."""
        self._forget(now)
        end = start + airtime_s
        overlapping = [one for one in self._slots if one.start - GAP_S < end and start < one.end + GAP_S]
        if any(not one.movable for one in overlapping):
            return None
        for one in overlapping:
            one.held = False
            self._slots.remove(one)
        return self._add(Slot(start, end))

    def reserve_next(self, earliest: float, airtime_s: float, now: float) -> Slot:
        """The first gap from ``earliest``; the slot may move."""
        self._forget(now)
        start = earliest
        for one in self._slots:
            if start + airtime_s + GAP_S <= one.start:
                break
            start = max(start, one.end + GAP_S)
        return self._add(Slot(start, start + airtime_s, movable=True))

    def release(self, slot: Slot) -> None:
        """Nothing is sent then."""
        if slot in self._slots:
            self._slots.remove(slot)
        slot.held = False

    def __len__(self) -> int:
        return len(self._slots)

    def _add(self, slot: Slot) -> Slot:
        self._slots.append(slot)
        self._slots.sort(key=lambda one: one.start)
        return slot

    def _forget(self, now: float) -> None:
        if self._slots and self._slots[0].end < now:
            self._slots = [one for one in self._slots if one.end >= now]
