"""For peers whose server knows no roaming: we are one gateway of theirs.

Their devices' frames arrive there as if that gateway had heard them, and what it is told to send goes out by the
gateway of ours that heard the device best. Agreements, budgets, ledger and audit apply as with any other peer.
"""

from __future__ import annotations

from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.roaming.clock import Radio
from quartier.lorawan.roaming.delivery import Delivery
from quartier.lorawan.roaming.forwarding import Link
from quartier.lorawan.roaming.peers import Peer, PeerProtocol
from quartier.lorawan.roaming.virtual_gateway.forwarder import ForwarderLink
from quartier.lorawan.roaming.virtual_gateway.station import StationLink

__all__ = ["open_link"]


async def open_link(peer: Peer, delivery: Delivery, radio: Radio) -> Link:
    """A link that keeps itself connected. Raises ValueError for a peer that is not configured as a gateway."""
    gateway = peer.gateway
    if gateway is None:
        raise ValueError(f"{peer.key}: no gateway is configured")
    kind = StationLink if peer.protocol is PeerProtocol.STATION else ForwarderLink
    link = kind(peer, gateway, delivery, Rates(radio.region))
    await link.open()
    return link
