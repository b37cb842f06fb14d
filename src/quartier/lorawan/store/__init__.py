"""The radio's tables in plain SQL: everything in memory that a frame needs, and durable what must survive a crash."""

from quartier.lorawan.store.counters import Lost
from quartier.lorawan.store.downlinks import Item
from quartier.lorawan.store.frames import Line
from quartier.lorawan.store.joins import Joined, JoinFacts
from quartier.lorawan.store.store import Store

__all__ = ["Item", "JoinFacts", "Joined", "Line", "Lost", "Store"]
