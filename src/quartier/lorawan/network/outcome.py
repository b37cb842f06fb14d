"""What the network server and roaming tell each other about a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from quartier.lorawan.types import Discarded, Eui, Reception


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a frame.

    ``accepted``: it is (or, for ``reason`` RETRANSMISSION, was before) taken as a new frame of one of our devices.
    ``uplink_counter`` is the full 32-bit counter. ``forwarded``: a peer took it. ``join_accept`` is the encrypted
    PHYPayload that answers a join or rejoin request.
    """

    accepted: bool
    reason: Discarded | None = None
    device: Eui | None = None
    dev_addr: int | None = None
    uplink_counter: int | None = None
    forwarded: bool = False
    join_accept: bytes | None = None


class Foreign(Protocol):
    """What takes frames that fit none of our devices: roaming."""

    async def forward(self, receptions: Sequence[Reception]) -> bool:
        """All receptions of one data frame, join or rejoin request; True where a peer took it. Never raises."""


class Nobody:
    """No roaming: every strange frame is a stranger's."""

    async def forward(self, receptions: Sequence[Reception]) -> bool:
        """Take nothing."""
        return False
