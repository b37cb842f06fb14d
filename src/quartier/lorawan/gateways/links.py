"""What the transmitter and the protocols agree on: a frame with its opportunities goes out by a link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from quartier.lorawan.types import Eui, TransmitError

if TYPE_CHECKING:
    from quartier.lorawan.gateways.registry import Gateway, GatewayProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Opportunity:
    """A window that is possible: ``index`` in the transmission, ``due`` as monotonic time, EIRP in dBm."""

    index: int
    frequency_hz: int
    data_rate: int
    delay_s: float | None
    due: float
    airtime_s: float
    eirp_dbm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A frame for one gateway; ``deadline`` is the monotonic time when waiting ends."""

    gateway: Gateway
    phy: bytes
    opportunities: tuple[Opportunity, ...]
    context: Mapping[str, Any]
    device: Eui | None
    priority: int
    gps_time_ms: int | None
    deadline: float


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The gateway took the frame, for this opportunity; ``detail`` says with what limitation."""

    opportunity: Opportunity
    detail: str = ""


class LinkError(Exception):
    """A gateway refused, could not be reached, or said nothing in time."""

    def __init__(self, error: TransmitError, detail: str = "") -> None:
        super().__init__(f"{error}: {detail}" if detail else str(error))
        self.error = error
        self.detail = detail


class Link(Protocol):
    """One protocol, with the gateways that speak it now.

    ``chooses``: the gateway takes all opportunities at once and picks the first that is possible.
    ``guard_s``: how long before an emission it must have the frame. ``late_s``: how much later than due it may send
    what has no time of its own.
    """

    protocol: GatewayProtocol
    chooses: bool
    guard_s: float
    late_s: float

    async def send(self, order: Order) -> Confirmed:
        """Hand over and wait for the confirmation, for as long as the caller does. Raises LinkError."""

    def drop(self, eui: Eui) -> None:
        """Forget a gateway, closing its connection."""
