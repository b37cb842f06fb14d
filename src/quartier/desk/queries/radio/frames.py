"""The frame log: filtered, paged by keyset, each frame with what was answered.

The log is large, so that it is read by its indexes: by device, or by city and time. Gateway and outcome are looked for
within a period.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q, QuerySet
from django.utils import timezone

from quartier.cities.rules import Actor
from quartier.desk.access import ENTER, MESSAGES, everywhere, municipalities, within
from quartier.lorawan.models import Frame, Gateway, LoraDevice

PAGE_SIZE: Final = 40
PERIODS: Final = {
    "": timedelta(days=1),
    "stunde": timedelta(hours=1),
    "woche": timedelta(days=7),
    "alle": timedelta(days=400),
}
# RX2 of a join opens 6 s after the request; a gateway confirms a little later.
_ANSWERED_WITHIN: Final = timedelta(seconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFilter:
    """What the log is narrowed to; empty values do not narrow."""

    municipality: str = ""
    device: str = ""
    gateway: str = ""
    outcome: str = ""
    direction: str = ""
    period: str = ""

    def fits(
        self, *, dev_eui: str, dev_addr: str, gateways: Iterable[str], outcome: str, direction: str
    ) -> bool:
        """Whether a new line belongs into the list that this filter shows."""
        return (
            (not self.device or self.device in (dev_eui, dev_addr))
            and (not self.gateway or self.gateway in gateways)
            and (not self.outcome or _wanted(self.outcome, direction, outcome))
            and (not self.direction or self.direction == direction)
        )


REFUSED: Final = "refused"
_FINE: Final = ("accepted", "forwarded", "retransmission", "ok")


def _wanted(wanted: str, direction: str, outcome: str) -> bool:
    return outcome not in _FINE if wanted == REFUSED else outcome == wanted


def page(
    actor: Actor, wanted: FrameFilter, after: tuple[datetime, int] | None = None, *, size: int = PAGE_SIZE
) -> tuple[list[Frame], tuple[datetime, int] | None]:
    """A page, newest first, and the key of the next one (None: this was the last)."""
    rows = _narrowed(wanted)
    if after is not None:
        at, pk = after
        rows = rows.filter(Q(at__lt=at) | Q(at=at, pk__lt=pk))
    # City by city, each along its index.
    cities: list[int | None] = [
        one.pk
        for one in municipalities(actor, MESSAGES)
        if not wanted.municipality or one.slug == wanted.municipality
    ]
    if everywhere(actor, MESSAGES) and not wanted.municipality:
        cities.append(None)
    found: list[Frame] = []
    for city in cities:
        of_city = rows.filter(municipality=city) if city else rows.filter(municipality__isnull=True)
        found += of_city.order_by("-at", "-pk")[: size + 1]
    found.sort(key=lambda one: (one.at, one.pk), reverse=True)
    if len(found) <= size:
        return found, None
    return found[:size], (found[size - 1].at, found[size - 1].pk)


def _narrowed(wanted: FrameFilter) -> QuerySet[Frame]:
    since = timezone.now() - PERIODS.get(wanted.period, PERIODS[""])
    rows = Frame.objects.filter(at__gte=since)
    if wanted.device:
        rows = rows.filter(_of_device(wanted.device))
    if wanted.gateway:
        rows = rows.filter(gateways__contains=[{"eui": wanted.gateway}])
    if wanted.direction:
        rows = rows.filter(direction=wanted.direction)
    if wanted.outcome == REFUSED:
        rows = rows.exclude(outcome__in=_FINE)
    elif wanted.outcome:
        rows = rows.filter(outcome=wanted.outcome)
    return rows


def _of_device(text: str) -> Q:
    """By DevEUI (whose row is found first, for the index), or by DevAddr."""
    if len(text) == 8:
        try:
            return Q(dev_addr=int(text, 16))
        except ValueError:
            return Q(pk__isnull=True)
    device = LoraDevice.objects.filter(dev_eui=text).values_list("pk", flat=True).first()
    return Q(device_id=device) if device is not None else Q(dev_eui=text)


def of_device(device: LoraDevice, limit: int = 15) -> list[Frame]:
    """The newest frames of one device."""
    return list(Frame.objects.filter(device_id=device.pk).order_by("-at", "-pk")[:limit])


def answers(frames: Sequence[Frame]) -> dict[int, list[Frame]]:
    """By uplink: what was sent to its device before the next one came."""
    ups = [one for one in frames if one.direction == "up" and one.device_id is not None]
    if not ups:
        return {}
    downs = Frame.objects.filter(
        device_id__in={one.device_id for one in ups},
        direction="down",
        at__gte=min(one.at for one in ups),
        at__lte=max(one.at for one in ups) + _ANSWERED_WITHIN,
    ).order_by("at", "pk")
    found: dict[int, list[Frame]] = {}
    for down in downs:
        before = [
            one
            for one in ups
            if one.device_id == down.device_id and one.at <= down.at <= one.at + _ANSWERED_WITHIN
        ]
        if before:
            found.setdefault(max(before, key=lambda one: (one.at, one.pk)).pk, []).append(down)
    return found


@dataclass(frozen=True, slots=True)
class KnownGateway:
    """How a gateway in a line is called, and its row where the actor may open its page."""

    label: str
    pk: int | None


def known_gateways(actor: Actor, euis: Iterable[str]) -> dict[str, KnownGateway]:
    """Gateways by EUI. Of private ones elsewhere not even the EUI is told."""
    own = set(Gateway.objects.filter(within(actor, ENTER), eui__in=set(euis)).values_list("eui", flat=True))
    found = {}
    for one in Gateway.objects.filter(eui__in=set(euis)):
        mine = one.eui in own
        label = one.name if mine or not one.private else ""
        found[one.eui] = KnownGateway(label, one.pk if mine else None)
    return found


def known_devices(actor: Actor, ids: Iterable[int]) -> dict[int, str]:
    """Names of the devices whose page the actor may open."""
    return dict(LoraDevice.objects.filter(within(actor, ENTER), pk__in=set(ids)).values_list("pk", "name"))
