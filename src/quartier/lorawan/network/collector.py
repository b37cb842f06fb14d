"""Copies of one frame are one frame: whatever gateways of either network hear of it within 200 ms.

Who hears it later is told apart from a device that repeats itself by time alone: a device that sends a frame again
has to wait for its second receive window first (TS001-1.0.4 §4.3.1.1), so the same bytes before that are a copy that
a slow network brought.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from quartier.lorawan import metrics
from quartier.lorawan.network.outcome import Outcome
from quartier.lorawan.types import Reception

WINDOW_S: Final = 0.2
# From the first reception; the second windows open after 2 s and after 6 s at the earliest.
_SAME_DATA_S: Final = 1.8
_SAME_JOIN_S: Final = 5.5
_TICK_S: Final = 0.002
_MOST_RECEPTIONS: Final = 64
_MOST_OPEN: Final = 20_000
_KEPT: Final = 100_000


class Frame:
    """One frame on its way, with everybody who heard it."""

    __slots__ = ("_outcome", "_waiting", "began", "due", "last", "phy", "receptions", "until")

    def __init__(self, first: Reception, now: float, due: float, until: float) -> None:
        self.phy = first.phy
        self.receptions = [first]
        self.began = now
        self.last = now
        self.due = due
        self.until = until
        self._outcome: Outcome | None = None
        self._waiting: list[asyncio.Future[Outcome]] | None = None

    def add(self, reception: Reception, now: float) -> None:
        """One more reception; of a gateway that says the same twice, the better one counts."""
        self.last = now
        for index, one in enumerate(self.receptions):
            if one.gateway == reception.gateway and one.peer == reception.peer:
                if reception.snr_db > one.snr_db:
                    self.receptions[index] = reception
                return
        if len(self.receptions) < _MOST_RECEPTIONS:
            self.receptions.append(reception)

    def best(self) -> list[Reception]:
        """Receptions, best first: by signal to noise, and by strength where it is so good that it says nothing."""
        return sorted(self.receptions, key=lambda one: (min(one.snr_db, 10.0), one.rssi_dbm), reverse=True)

    @property
    def outcome(self) -> Outcome | None:
        """What became of it; None while that is open."""
        return self._outcome

    def settle(self, outcome: Outcome) -> None:
        """What became of it; the first word counts."""
        if self._outcome is not None:
            return
        self._outcome = outcome
        for future in self._waiting or ():
            if not future.done():
                future.set_result(outcome)
        self._waiting = None

    def wait(self) -> asyncio.Future[Outcome]:
        """A future that gets the outcome."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._outcome is not None:
            future.set_result(self._outcome)
        else:
            self._waiting = [*(self._waiting or ()), future]
        return future


class Collector:
    """Collects receptions and hands over each frame once, when its window has closed."""

    def __init__(
        self,
        handle: Callable[[Frame], None],
        *,
        window_s: float = WINDOW_S,
        window_of: Callable[[Reception], float | None] | None = None,
    ) -> None:
        """``window_of`` may give a frame, by its first reception, a window of its own (s); None is the usual one."""
        self._handle = handle
        self._window_s = window_s
        self._window_of = window_of
        self._frames: dict[bytes, Frame] = {}
        self._open: list[tuple[float, int, Frame]] = []  # a heap: windows differ
        self._numbers = itertools.count()
        self._data: deque[Frame] = deque()
        self._joins: deque[Frame] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, reception: Reception) -> bool:
        """Take one reception; False where it is a late copy of a frame that was handed over already.

        Raises OverflowError while too many frames are open.
        """
        now = time.monotonic()
        frame = self._frames.get(reception.phy)
        if frame is not None and now < frame.due:
            frame.add(reception, now)
            return True
        if frame is not None and now < frame.until:
            metrics.LATE_COPIES.inc()
            return False
        if len(self._open) >= _MOST_OPEN:
            raise OverflowError("too many frames at once")
        # Join and rejoin requests are types 0 and 6.
        join = bool(reception.phy) and reception.phy[0] >> 5 in (0, 6)
        window_s = self._window_s
        if self._window_of is not None:
            own = self._window_of(reception)
            window_s = window_s if own is None else own
        frame = Frame(
            reception,
            now,
            now + window_s,
            now + max(window_s, _SAME_JOIN_S if join else _SAME_DATA_S),
        )
        self._frames[reception.phy] = frame
        heappush(self._open, (frame.due, next(self._numbers), frame))
        (self._joins if join else self._data).append(frame)
        if self._timer is None or frame.due < self._wakes_at:
            self._wake_at(frame.due, now)
        return True

    def find(self, phy: bytes) -> Frame | None:
        """The frame with these bytes, while it is remembered."""
        return self._frames.get(phy)

    def _wake_at(self, due: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Not call_at: uvloop's own clock stands still while a callback runs, and gives a handle without a time.
        self._timer = asyncio.get_running_loop().call_later(max(_TICK_S, due - now), self._tick)
        self._wakes_at = due

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic() + _TICK_S  # what is due in a moment need not wake us again
        while self._open and self._open[0][0] <= now:
            self._handle(heappop(self._open)[2])
        self._forget(self._data, now)
        self._forget(self._joins, now)
        if self._open and self._timer is None:
            self._wake_at(self._open[0][0], now)

    def _forget(self, frames: deque[Frame], now: float) -> None:
        while frames and (frames[0].until <= now or len(frames) > _KEPT):
            frame = frames.popleft()
            if self._frames.get(frame.phy) is frame:
                del self._frames[frame.phy]

    def close(self) -> None:
        """Drop what is open: nothing of it was promised to anybody."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, _, frame in self._open:
            frame.settle(Outcome(accepted=False))
        self._open.clear()
