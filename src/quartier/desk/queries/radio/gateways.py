"""Gateways as the desk looks at them: connected or not, how much they hear, send and mishear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from quartier.cities.rules import Actor
from quartier.desk.access import ENTER, within
from quartier.lorawan.models import Gateway, GatewayHour

# The radio writes every 20 s; a packet forwarder says every 30 s (its stat) that it lives.
ONLINE_WITHIN: Final = timedelta(seconds=120)
MUCH_USED: Final = 0.7
"""Share of a sub-band's allowance from which ordinary downlinks are held back."""
MANY_BROKEN: Final = 0.3
ENOUGH_FRAMES: Final = 20


def is_online(gateway: Gateway, now: datetime | None = None) -> bool:
    """Whether something was heard of it in the last two minutes."""
    seen = gateway.last_seen_at
    return not gateway.disabled and seen is not None and (now or timezone.now()) - seen < ONLINE_WITHIN


# In the order of Day.
_SUMS: Final = ("received", "accepted", "foreign", "sent", "failed", "airtime_s")


@dataclass(frozen=True, slots=True)
class Channel:
    """What came in on a frequency since the radio started."""

    frequency_hz: int
    intact: int
    broken: int

    @property
    def share(self) -> float:
        """Frames whose checksum failed, of all."""
        return self.broken / (self.intact + self.broken) if self.intact + self.broken else 0.0


@dataclass(frozen=True, slots=True)
class Day:
    """Sums of the last 24 hours."""

    received: int = 0
    accepted: int = 0
    foreign: int = 0
    sent: int = 0
    failed: int = 0
    airtime_s: float = 0


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """A gateway with what it is known to do."""

    gateway: Gateway
    online: bool
    day: Day
    channels: tuple[Channel, ...]
    duty_cycle: tuple[tuple[str, float], ...]

    @property
    def broken_share(self) -> float | None:
        """Share of frames with a bad checksum; None where too few came in."""
        intact, broken = sum(c.intact for c in self.channels), sum(c.broken for c in self.channels)
        return broken / (intact + broken) if intact + broken >= ENOUGH_FRAMES else None

    @property
    def busiest(self) -> tuple[str, float] | None:
        """The sub-band that is used most."""
        return max(self.duty_cycle, key=lambda pair: pair[1], default=None)

    @property
    def unprotected(self) -> bool:
        """Semtech's protocol proves nothing: without allowed networks anybody may speak in its name."""
        return (
            self.gateway.protocol == Gateway.Protocol.GWMP
            and not self.gateway.networks
            and not self.gateway.disabled
        )


def visible(actor: Actor) -> QuerySet[Gateway]:
    """The gateways of the actor's cities."""
    return Gateway.objects.filter(within(actor, ENTER)).select_related("municipality", "owner")


def filtered(actor: Actor, *, text: str = "", municipality: str = "", state: str = "") -> QuerySet[Gateway]:
    """Those that the filter of the list describes."""
    rows = visible(actor)
    if municipality:
        rows = rows.filter(municipality__slug=municipality)
    if text:
        rows = rows.filter(
            Q(name__icontains=text)
            | Q(place__icontains=text)
            | Q(eui__contains=text.lower().replace("-", ""))
        )
    limit = timezone.now() - ONLINE_WITHIN
    if state == "online":
        rows = rows.filter(disabled=False, last_seen_at__gte=limit)
    elif state == "offline":
        rows = rows.filter(Q(last_seen_at__lt=limit) | Q(last_seen_at__isnull=True), disabled=False)
    elif state == "off":
        rows = rows.filter(disabled=True)
    return rows.order_by("municipality_id", "name", "pk")


def health(gateways: Iterable[Gateway]) -> list[GatewayHealth]:
    """With the sums of the last 24 hours, in one further query."""
    rows = list(gateways)
    summed = (
        GatewayHour.objects.filter(gateway__in=rows, hour__gt=timezone.now() - timedelta(hours=24))
        .order_by()
        .values_list("gateway_id")
        .annotate(*(Sum(name) for name in _SUMS))
    )
    days = {gateway_id: Day(*sums) for gateway_id, *sums in summed}
    now = timezone.now()
    return [
        GatewayHealth(
            one, is_online(one, now), days.get(one.pk, Day()), channels(one.status), duty_cycle(one.status)
        )
        for one in rows
    ]


def channels(status: Any) -> tuple[Channel, ...]:
    """The channels of a gateway's status; what is unreadable is passed over."""
    found = status.get("channels") if isinstance(status, dict) else None
    if not isinstance(found, dict):
        return ()
    return tuple(
        Channel(int(frequency), int(counts[0]), int(counts[1]))
        for frequency, counts in sorted(found.items())
        if frequency.isdecimal() and isinstance(counts, list) and len(counts) == 2
    )


def duty_cycle(status: Any) -> tuple[tuple[str, float], ...]:
    """Share of each sub-band's allowance that the last hour used."""
    found = status.get("duty_cycle") if isinstance(status, dict) else None
    return (
        tuple((str(band), float(share)) for band, share in sorted(found.items()))
        if isinstance(found, dict)
        else ()
    )


def hours(gateway: Gateway, n: int = 24) -> list[GatewayHour]:
    """Its last hours, the newest first."""
    return list(gateway.hours.filter(hour__gt=timezone.now() - timedelta(hours=n)).order_by("-hour"))
