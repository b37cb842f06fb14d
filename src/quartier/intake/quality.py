"""Quality control of one series as its values arrive: range, spike, persistence.

The checks are those of WMO-No. 488 (Guide to the Global Observing System), appendix VI.2, as the network in
Dortmund runs them today, with one difference for sensors that report every five to fifteen minutes: a step
that is too large is flagged provisionally and *acquitted* when the next value confirms the new level,
because a thunderstorm's cold front is a step and a glitch is a spike. One call costs about a microsecond,
for it runs for every reading; the state of a series is small and can be rebuilt from its newest
observations.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from quartier.twin.flags import Flag
from quartier.twin.properties import Limits

_RANGE = int(Flag.RANGE)
_PERSISTENCE = int(Flag.PERSISTENCE)
_SPIKE = int(Flag.SPIKE)

# Two equal values a day apart prove nothing; a stuck sensor repeats itself.
_SHORTEST_RUN = 5
# Neighbours for values that arrive late. LoRaWAN repeats a lost frame within the next few, so few are enough.
_RECENT = 8


class SeriesState:
    """What the checks remember of one series. Times are seconds since 1970 (UTC).

    ``acquitted_s`` is set for one call, when the value of that time, flagged as a spike before, turned out
    to be the first of a new level: its flag is to be lifted.
    """

    __slots__ = (
        "acquitted_s",
        "anchor",
        "candidate",
        "candidate_s",
        "recent",
        "run",
        "since_s",
        "time_s",
        "value",
    )

    def __init__(self, time_s: float, value: float) -> None:
        self.time_s = time_s  # of the newest good value
        self.value = value
        self.anchor = value  # what the value has stayed near to …
        self.since_s = time_s  # … since then …
        self.run = 1  # … in so many readings
        self.candidate = value  # the newest value, if it was taken for a spike
        self.candidate_s: float | None = None
        self.acquitted_s: float | None = None
        self.recent: list[tuple[float, float]] = [(time_s, value)]  # good values in order of time


def check(
    state: SeriesState | None, time_s: float, value: float, limits: Limits
) -> tuple[int, SeriesState | None]:
    """Flags (bits of :class:`~quartier.twin.flags.Flag`) of one value, and the state after it.

    ``state`` is None before the first good value, and is changed in place afterwards. Values in the unit of
    the limits; NaN is out of range. A value older than the newest (late) is checked for its range and,
    where the values around it are still remembered, for a spike between the two.
    """
    if not limits.minimum <= value <= limits.maximum:
        if state is not None:
            state.acquitted_s = None
        return _RANGE, state
    if state is None:
        return 0, SeriesState(time_s, value)
    state.acquitted_s = None
    elapsed_s = time_s - state.time_s
    if elapsed_s <= 0.0:
        return _late(state, time_s, value, limits), state

    step = value - state.value
    moved = value - state.anchor
    if limits.circular:
        step = (step + 180.0) % 360.0 - 180.0
        moved = (moved + 180.0) % 360.0 - 180.0

    allowed = limits.max_step + limits.max_step_per_min * elapsed_s / 60.0
    if step > allowed or -step > allowed:
        if not _confirms(state, time_s, value, limits):
            state.candidate = value
            state.candidate_s = time_s
            return _SPIKE, state
        state.acquitted_s = state.candidate_s
    if state.candidate_s is not None and time_s > state.candidate_s:
        state.candidate_s = None
    state.time_s = time_s
    state.value = value
    recent = state.recent
    recent.append((time_s, value))
    if len(recent) > _RECENT:
        del recent[0]

    delta = limits.persistence_delta
    if moved > delta or -moved > delta:
        state.anchor = value
        state.since_s = time_s
        state.run = 1
        return 0, state
    state.run += 1
    unchanged_s = time_s - state.since_s
    long = unchanged_s >= limits.persistence_s and state.run >= _SHORTEST_RUN
    return _stuck(unchanged_s, value, limits) if long else 0, state


def _stuck(unchanged_s: float, value: float, limits: Limits) -> int:
    """The flag of a value that has not changed for too long, unless nature explains it."""
    if unchanged_s < limits.persistence_ignore_s:
        for low, high in limits.persistence_ignore:
            if low <= value <= high:
                return 0
    return _PERSISTENCE


def _confirms(state: SeriesState, time_s: float, value: float, limits: Limits) -> bool:
    """Whether the value stays on the level of the one flagged just before."""
    if state.candidate_s is None or time_s <= state.candidate_s:
        return False
    allowed = limits.max_step + limits.max_step_per_min * (time_s - state.candidate_s) / 60.0
    return abs(_difference(value, state.candidate, limits)) <= allowed


def _difference(value: float, other: float, limits: Limits) -> float:
    difference = value - other
    return (difference + 180.0) % 360.0 - 180.0 if limits.circular else difference


def _late(state: SeriesState, time_s: float, value: float, limits: Limits) -> int:
    """Flags of a value between others: a spike sticks out from both of them on the same side."""
    recent = state.recent
    if time_s < recent[0][0]:
        return 0
    before, after = None, None
    for neighbour in recent:
        if neighbour[0] == time_s:
            return 0
        if neighbour[0] < time_s:
            before = neighbour
        else:
            after = neighbour
            break
    if before is None or after is None:
        return 0
    up = _difference(value, before[1], limits)
    down = _difference(value, after[1], limits)
    rate = limits.max_step_per_min / 60.0
    if (
        up * down > 0.0
        and abs(up) > limits.max_step + rate * (time_s - before[0])
        and abs(down) > limits.max_step + rate * (after[0] - time_s)
    ):
        return _SPIKE
    insort(recent, (time_s, value))
    if len(recent) > _RECENT:
        del recent[0]
    return 0


def rebuild(observations: Iterable[tuple[float, float]], limits: Limits) -> SeriesState | None:
    """The state of a series from its newest observations ``(time_s, value)`` in order of time.

    How long a value has not changed is known only as far back as the observations reach; a restart therefore
    delays the finding that a sensor is stuck, and never invents one. None if no value was in range.
    """
    state: SeriesState | None = None
    for time_s, value in observations:
        _, state = check(state, time_s, value, limits)
    if state is not None:
        state.acquitted_s = None
    return state
