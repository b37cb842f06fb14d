"""LoRa Basics Station: its messages, its configuration, and the server it connects to."""

from quartier.lorawan.gateways.station.server import StationServer

__all__ = ["StationServer"]
