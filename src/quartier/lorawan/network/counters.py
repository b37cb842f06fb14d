"""Frame counters: what a device's 16 bits mean, given what was heard of it before.

A frame carries the lower half of a 32-bit counter (TS001-1.0.4 §4.3.1.5). Which full counter is meant is decided by the
MIC, and by nothing else: these functions only say which ones to try, and what each would mean.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from quartier.lorawan.frames.counters import MAX_COUNTER, MAX_GAP

# 1.0.4 dropped the rule that frames too far ahead are refused.
_GAP_VERSIONS: Final = frozenset({"1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.1.0"})


class Meaning(Enum):
    """What a frame with a valid MIC is."""

    NEW = "new"
    GAP = "gap"
    RETRANSMISSION = "retransmission"
    REPLAY = "replay"
    RESET = "reset"


class Candidate(NamedTuple):
    """A full counter, and what the frame is if its MIC fits with it."""

    counter: int
    meaning: Meaning


def forward(last: int, low: int, version: str) -> Candidate | None:
    """The next counter after ``last`` (-1: none yet) with these low bits; None beyond the end of 32 bits."""
    counter = (last & ~0xFFFF) | low if last >= 0 else low
    if counter <= last:
        counter += 0x1_0000
    if counter > MAX_COUNTER:
        return None
    gap = counter - last > MAX_GAP and version in _GAP_VERSIONS
    return Candidate(counter, Meaning.GAP if gap else Meaning.NEW)


def backward(last: int, low: int, *, may_reset: bool) -> list[Candidate]:
    """Counters that were used before, newest first: the last frame again, an older one, or (where the device may
    begin anew) the first after a reset."""
    if last < 0:
        return []
    counter = (last & ~0xFFFF) | low
    if counter > last:
        counter -= 0x1_0000
    found: list[Candidate] = []
    if counter == last:
        found.append(Candidate(counter, Meaning.RETRANSMISSION))
    elif counter >= 0:
        found.append(Candidate(counter, Meaning.REPLAY))
    if may_reset and low < last:
        reset = Candidate(low, Meaning.RESET)
        # Without a history of frames a reset and a replay look alike; whoever allows resets accepts that.
        return [one for one in found if one.counter != low] + [reset]
    return found
