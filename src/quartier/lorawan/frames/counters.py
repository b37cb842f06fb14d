"""32-bit frame counters from the 16 bits that frames carry (TS001-1.0.4 §4.3.1.5)."""

from __future__ import annotations

from typing import Final

from .errors import FrameError

MAX_COUNTER: Final = 0xFFFF_FFFF
MAX_GAP: Final = 16384
"""MAX_FCNT_GAP of 1.0.0 to 1.0.3 and 1.1; 1.0.4 knows no limit."""


def newest(last: int | None, low: int) -> int:
    """The smallest counter with these low 16 bits that is not below ``last``, the last one accepted (None: none yet).

    Equal to ``last`` for a retransmission. Raises FrameError where the session's counters are used up.
    """
    if last is None:
        return low
    counter = last & ~0xFFFF | low
    if counter < last:
        counter += 0x1_0000
    if counter > MAX_COUNTER:
        raise FrameError("frame_counter", "the counters of this session are used up")
    return counter
