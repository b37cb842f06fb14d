"""LoRaWAN frames: a library of its own that knows no database, no network and nothing else of Quartier.

``phy`` parses and serialises, ``crypto`` signs and encrypts, ``mac`` reads commands, ``regions`` know channels and data
rates. Every error is a ``FrameError`` that names the field. EUIs are 8 bytes as printed on a device; DevAddr, NetID and
nonces are ints.
"""

from .errors import FrameError

__all__ = ["FrameError"]
