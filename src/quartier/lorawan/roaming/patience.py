"""How long to wait for further receptions of a frame.

Two networks that collect for 200 ms one after the other never meet: when the neighbour's receptions arrive, ours are on
their way already. So frames of strangers are handed on sooner, and those of devices that the neighbour hears, too, are
waited for longer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Windows in seconds. RX1 opens 1 s after the frame, and a gateway wants its order 0.1 s before."""

    foreign_s: float = 0.1
    """A frame of somebody else's device, as far as its address says."""
    roaming_s: float = 0.35
    """A frame of our device that a neighbour has heard within the last day."""
    peer_s: float = 0.08
    """A frame that a peer brings before any gateway of ours: it has waited already, only other peers may follow."""
    join_s: float = 0.5
    """A join request of our device: its windows open after 5 s."""
