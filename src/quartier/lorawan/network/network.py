"""The network server's front: takes receptions, says what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from quartier.intake.conveyor import Conveyor
from quartier.lorawan.network.outcome import Foreign, Outcome
from quartier.lorawan.store import Store
from quartier.lorawan.types import Eui, Reception, Transmitter


class Network:
    """One network server on one event loop; implements ``Receiver``.

    ``transmitters`` has our gateways under the empty key and each peer under its own; it may change while the network
    runs.
    """

    def __init__(
        self,
        store: Store,
        transmitters: Mapping[str, Transmitter],
        foreign: Foreign,
        inbox: Conveyor,
    ) -> None:
        self._store = store
        self._transmitters = transmitters
        self._foreign = foreign
        self._inbox = inbox

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``: deduplication, class C, retention of what is told late."""
        raise NotImplementedError

    def receive(self, reception: Reception) -> None:
        """One reception, of our own gateways or a peer's. Copies within 200 ms become one frame."""
        raise NotImplementedError

    async def outcome(self, phy: bytes) -> Outcome:
        """What became of a frame that was received a moment ago; waits until that is known (at most some seconds)."""
        raise NotImplementedError

    def network_key(self, device: Eui) -> tuple[str, bytes] | None:
        """MAC version and NwkSKey (1.0.x) or FNwkSIntKey (1.1) of a device's session, for peers with whom that is
        agreed."""
        raise NotImplementedError
