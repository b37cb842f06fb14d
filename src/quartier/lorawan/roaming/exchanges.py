"""Frames that a peer's gateways brought us: what is needed to answer through them.

Kept for the time in which a device can be answered, and per gateway for a day, because a device of class C is called
through the gateway that heard it last.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.roaming.clock import monotonic
from quartier.lorawan.roaming.fields import Hex, TokenHex
from quartier.lorawan.roaming.objects import Gateway
from quartier.lorawan.roaming.sessions import Expiring
from quartier.lorawan.roaming.tokens import CLASS_C_S, WINDOW_S
from quartier.lorawan.types import Window

CONTEXT: Final = "exchange"
"""Where a reception's context says which exchange it belongs to."""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One PRStartReq or XmitDataReq that brought a frame. ``accept`` gets the join-accept and its windows."""

    id: int
    peer: str
    transaction: int
    fns_token: TokenHex | None
    sender_token: TokenHex | None
    gateways: dict[bytes, Gateway]
    """By the EUI under which our network server knows the peer's gateway."""
    accept: asyncio.Future[tuple[bytes, tuple[Window, ...]]]
    chosen: bytes = b""
    """The gateway that is to send the join-accept."""

    def answering(self, gateway: bytes) -> list[Gateway]:
        """GWInfo of a downlink: the chosen gateway first, and those that may stand in for it."""
        chosen = self.gateways.get(gateway)
        others = [g for eui, g in self.gateways.items() if eui != gateway]
        return [
            Gateway(id=g.id, token=g.token)
            for g in ([chosen] if chosen is not None else []) + others
            if g.token is not None
        ]


@dataclass(frozen=True, slots=True)
class LastHeard:
    """A peer's gateway as it heard some device last."""

    id: Hex | None
    token: TokenHex | None
    fns_token: TokenHex | None


class Exchanges:
    """All that are open, bounded and with an end."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._open: Expiring[int, Exchange] = Expiring()
        self._last: Expiring[tuple[str, bytes], LastHeard] = Expiring()
        self._roamers: Expiring[int, bool] = Expiring()

    def begin(
        self,
        peer: str,
        transaction: int,
        gateways: Sequence[tuple[bytes, Gateway]],
        *,
        fns_token: TokenHex | None,
        sender_token: TokenHex | None,
    ) -> Exchange:
        """A frame has come."""
        exchange = Exchange(
            id=next(self._ids),
            peer=peer,
            transaction=transaction,
            fns_token=fns_token,
            sender_token=sender_token,
            gateways=dict(gateways),
            accept=asyncio.get_running_loop().create_future(),
        )
        now_s = monotonic()
        self._open.put(exchange.id, exchange, now_s + WINDOW_S)
        for eui, gateway in gateways:
            heard = LastHeard(gateway.id, gateway.token, fns_token)
            self._last.put((peer, eui), heard, now_s + CLASS_C_S)
        return exchange

    def get(self, number: object) -> Exchange | None:
        """The exchange that a reception's context names, while it can still be answered."""
        return self._open.get(number, monotonic()) if isinstance(number, int) else None

    def roamed(self, dev_addr: int) -> None:
        """A neighbour has heard one of our devices."""
        self._roamers.put(dev_addr, True, monotonic() + CLASS_C_S)

    def roams(self, dev_addr: int) -> bool:
        """Whether a neighbour has heard a device with this address within the last day."""
        return self._roamers.get(dev_addr, monotonic()) is not None

    def last(self, peer: str, gateway: bytes) -> LastHeard | None:
        """How a peer's gateway was heard of last."""
        return self._last.get((peer, gateway), monotonic())
