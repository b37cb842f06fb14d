"""How tasks reach devices: by whoever said that he reaches devices of a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Order:
    """What a device is to be told.

    ``source`` and ``device`` are the keys by which the twin knows the device (``source_key``, ``external_id``),
    ``parameters`` were checked against the capability, ``metadata`` is what the Actuator says of itself. The same
    order may be given again after a crash: ``task_id`` tells.
    """

    task_id: int
    municipality: str
    source: str
    device: str
    parameters: dict[str, Any]
    metadata: Any = None
    given_at: datetime | None = None


class Undeliverable(Exception):
    """The device can never be told this; the message says why."""


class Later(Exception):
    """The device cannot be told now; it is worth to try again."""


class Downlinks(Protocol):
    """A way to devices, such as a LoRaWAN network server."""

    async def send(self, order: Order) -> str:
        """Hand an order over for good; returns a detail for people, such as ``queued for the next uplink``.

        Raises Undeliverable and Later.
        """


@dataclass(slots=True)
class Ways:
    """Which downlinks reach the devices of which source."""

    _by_source: dict[str, Downlinks] = field(default_factory=dict)
    _others: list[Downlinks] = field(default_factory=list)

    def add(self, downlinks: Downlinks, source: str = "") -> None:
        """Send orders for the devices of ``source`` by this way; without a source those that nobody else reaches."""
        if source:
            self._by_source[source] = downlinks
        else:
            self._others.append(downlinks)

    def to(self, source: str) -> Downlinks | None:
        """The way to the devices of a source; None where there is none."""
        return self._by_source.get(source) or next(iter(self._others), None)
