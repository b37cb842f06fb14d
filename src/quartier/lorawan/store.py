"""The radio's tables in plain SQL: sessions in memory, counters durable in group commits."""

from __future__ import annotations

from quartier.engines.pools import Pool


class Store:
    """Everything that the network server remembers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
