"""The network server: from receptions to uplinks in the inbox, and downlinks to devices."""

from quartier.lorawan.network.network import Network
from quartier.lorawan.network.outcome import Foreign, Nobody, Outcome

__all__ = ["Foreign", "Network", "Nobody", "Outcome"]
