"""Radio devices: the twin's device (with its state) and its radio side together."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from quartier.cities.rules import Actor
from quartier.desk.queries import devices as device_queries
from quartier.lorawan.message import SOURCE
from quartier.lorawan.models import Downlink, LoraDevice, Session
from quartier.twin.models import Device


def filtered(
    actor: Actor, *, text: str = "", municipality: str = "", profile: str = "", state: str = ""
) -> QuerySet[Device]:
    """The devices that the filter of the list describes, by name."""
    rows = device_queries.visible(actor).filter(source_key=SOURCE, lora__isnull=False)
    if municipality:
        rows = rows.filter(municipality__slug=municipality)
    if profile:
        rows = rows.filter(lora__profile__key=profile)
    if state:
        rows = rows.filter(Q(state=state))
    if text:
        digits = "".join(one for one in text.lower() if one not in " -:")
        wanted = Q(name__icontains=text)
        if digits:
            wanted |= Q(external_id__contains=digits)
        if len(digits) == 8 and all(one in "0123456789abcdef" for one in digits):
            session = Session.objects.filter(device__device=OuterRef("pk"), dev_addr=int(digits, 16))
            wanted |= Q(Exists(session))
        rows = rows.filter(wanted)
    return rows.select_related("municipality", "device_type", "lora__profile").order_by("name", "pk")


def sessions(device: LoraDevice) -> list[Session]:
    """The running session, then one that waits for its first uplink. Without keys."""
    return list(device.sessions.defer("sealed_keys").order_by("pending"))


def downlinks(device: LoraDevice, limit: int = 15) -> list[Downlink]:
    """The newest ones, those that wait first."""
    rows = list(device.downlinks.order_by("-created_at", "-pk")[:limit])
    waiting = list(device.downlinks.filter(state__in=Downlink.OPEN).order_by("-priority", "pk")[:limit])
    return waiting + [one for one in rows if one.state not in Downlink.OPEN]
