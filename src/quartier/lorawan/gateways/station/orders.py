"""What a Station can do of an order, and which of its windows a confirmation means."""

from __future__ import annotations

from typing import Final

from quartier.lorawan.gateways.links import LinkError, Opportunity, Order
from quartier.lorawan.gateways.station.messages import Transmitted
from quartier.lorawan.types import TransmitError

_SAME_TIME_US: Final = 500_000


def fitting(opportunities: tuple[Opportunity, ...]) -> tuple[Opportunity, ...]:
    """Both windows where the second is a second later, otherwise the first. Raises LinkError."""
    first = opportunities[0]
    if first.delay_s is None:
        return opportunities[:1]
    if not 1 <= first.delay_s <= 15 or first.delay_s != round(first.delay_s):
        raise LinkError(TransmitError.NOT_ALLOWED, f"a Station cannot wait {first.delay_s:g} s")
    later = [one for one in opportunities[1:2] if one.delay_s == first.delay_s + 1]
    return (first, *later)


def needs_xtime(order: Order) -> bool:
    """Whether it answers a reception at a time after it."""
    return order.gps_time_ms is None and order.opportunities[0].delay_s is not None


def context(order: Order, name: str, *, needed: bool) -> int | None:
    """A number that came with the reception. Raises LinkError where it is needed and missing."""
    value = order.context.get(name)
    if isinstance(value, int):
        return value
    if needed:
        raise LinkError(TransmitError.NOT_ALLOWED, f"the reception has no {name} of this Station")
    return None


def used(order: Order, message: Transmitted) -> Opportunity:
    """Which window it was: by the time, or else by frequency and data rate."""
    heard = order.context.get("xtime")
    if isinstance(heard, int) and message.xtime:
        for one in order.opportunities:
            if one.delay_s is not None:
                expected = heard + round(one.delay_s * 1_000_000)
                if abs(message.xtime - expected) < _SAME_TIME_US:
                    return one
    for one in order.opportunities:
        if (one.frequency_hz, one.data_rate) == (message.frequency_hz, message.data_rate):
            return one
    return order.opportunities[0]
