"""What people and programs want devices to hear."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.config import config
from quartier.lorawan.domain.changes import keyring, notify
from quartier.lorawan.domain.errors import LoraError, bounded_number, bounded_text, hexadecimal
from quartier.lorawan.frames.netid import Prefix
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.keyring import GROUP
from quartier.lorawan.models import Downlink, LoraDevice, MulticastGroup, Session

MAXIMUM_WAITING: Final = 100
_MOST_BYTES: Final = 242


@transaction.atomic
def enqueue(
    actor: Actor,
    lora: LoraDevice,
    payload: bytes,
    *,
    port: int,
    confirmed: bool = False,
    priority: int = 0,
    expires_at: datetime | None = None,
) -> Downlink:
    """Put a downlink into a device's queue. A device of class A hears it after its next uplink, one of class C at once.

    ``priority`` above 0 goes before others and may use the duty cycle that is kept for what is urgent. Needs
    ``lorawan:send``. Raises LoraError naming the field, NotAllowed.
    """
    actor.require("lorawan:send", lora.municipality_id)
    if not lora.active:
        raise LoraError("device", gettext("das Gerät ist abgeschaltet"))
    if lora.downlinks.filter(state="queued").count() >= MAXIMUM_WAITING:
        raise LoraError("device", gettext("es warten schon %d Nachrichten") % MAXIMUM_WAITING)
    return _enqueue(
        actor,
        lora.municipality_id,
        lora.dev_eui,
        payload,
        port=port,
        confirmed=confirmed,
        priority=priority,
        expires_at=expires_at,
        device=lora,
    )


@transaction.atomic
def enqueue_group(
    actor: Actor,
    group: MulticastGroup,
    payload: bytes,
    *,
    port: int,
    expires_at: datetime | None = None,
) -> Downlink:
    """Send something to all devices of a group. Needs ``lorawan:send``. Raises LoraError, NotAllowed."""
    actor.require("lorawan:send", group.municipality_id)
    if not group.active:
        raise LoraError("group", gettext("die Gruppe ist abgeschaltet"))
    if group.downlinks.filter(state="queued").count() >= MAXIMUM_WAITING:
        raise LoraError("group", gettext("es warten schon %d Nachrichten") % MAXIMUM_WAITING)
    if len(payload) > EU868.max_payload(group.data_rate):
        raise LoraError("payload", gettext("höchstens %d Bytes") % EU868.max_payload(group.data_rate))
    return _enqueue(
        actor,
        group.municipality_id,
        group.name,
        payload,
        port=port,
        confirmed=False,
        priority=1,
        expires_at=expires_at,
        group=group,
    )


def _enqueue(
    actor: Actor,
    municipality_id: int,
    target: str,
    payload: bytes,
    *,
    port: int,
    confirmed: bool,
    priority: int,
    expires_at: datetime | None,
    **to: Any,
) -> Downlink:
    # TS001-1.0.4 §4.3.2: 0 is for commands, 224 for tests of compliance, the rest is reserved.
    bounded_number("port", port, 1, 223)
    bounded_number("priority", priority, -10, 10)
    if len(payload) > _MOST_BYTES:
        raise LoraError("payload", gettext("höchstens %d Bytes") % _MOST_BYTES)
    if expires_at is not None and expires_at <= timezone.now():
        raise LoraError("expires_at", gettext("liegt in der Vergangenheit"))
    downlink = Downlink.objects.create(
        municipality_id=municipality_id,
        port=port,
        payload=payload,
        confirmed=confirmed,
        priority=priority,
        expires_at=expires_at,
        requested_by=actor.name[:200],
        person_id=actor.person_id,
        **to,
    )
    audit.log(
        actor,
        "lorawan.downlink.enqueue",
        target,
        municipality_id=municipality_id,
        downlink=downlink.pk,
        port=port,
        bytes=len(payload),
    )
    notify()
    return downlink


@transaction.atomic
def cancel_downlink(actor: Actor, downlink: Downlink) -> None:
    """Withdraw what is not on its way yet. Needs ``lorawan:send``. Raises LoraError, NotAllowed."""
    actor.require("lorawan:send", downlink.municipality_id)
    cancelled = Downlink.objects.filter(pk=downlink.pk, state="queued").update(
        state=Downlink.State.CANCELLED, done_at=timezone.now()
    )
    if not cancelled:
        raise LoraError("state", gettext("ist schon auf dem Weg oder erledigt"))
    audit.log(
        actor,
        "lorawan.downlink.cancel",
        downlink.pk,
        municipality_id=downlink.municipality_id,
        downlink=downlink.pk,
    )
    notify()


@transaction.atomic
def create_group(
    actor: Actor,
    municipality: Municipality,
    name: str,
    *,
    dev_addr: str = "",
    key: str = "",
    frequency_hz: int = EU868.rx2_frequency_hz,
    data_rate: int = EU868.rx2_data_rate,
    devices: Iterable[LoraDevice] = (),
) -> MulticastGroup:
    """A multicast group of class C; address and key (McKey) are drawn where none are given.

    How devices learn the key (TS005 or at the bench) is the caller's business. Needs ``lorawan:write``. Raises
    LoraError, NotAllowed.
    """
    actor.require("lorawan:write", municipality.pk)
    name = bounded_text("name", name, 120, needed=True)
    if data_rate not in EU868.downlink_data_rates:
        raise LoraError("data_rate", gettext("gibt es in dieser Region nicht"))
    if EU868.sub_band(frequency_hz) is None:
        raise LoraError("frequency_hz", gettext("liegt in keinem Band dieser Region"))
    ours = Prefix.of(int(config().radio_net_id, 16))
    address = (
        int.from_bytes(hexadecimal("dev_addr", dev_addr, 4))
        if dev_addr
        else ours.address(secrets.randbelow(ours.size))
    )
    taken = Session.objects.filter(dev_addr=address).exists()
    if taken or MulticastGroup.objects.filter(dev_addr=address).exists():
        raise LoraError("dev_addr", gettext("ist schon vergeben"))
    mc_key = hexadecimal("key", key, 16) if key else secrets.token_bytes(16)
    group = MulticastGroup.objects.create(
        municipality=municipality,
        name=name,
        dev_addr=address,
        sealed_keys=keyring().seal(mc_key, GROUP, address.to_bytes(4)),
        frequency_hz=frequency_hz,
        data_rate=data_rate,
    )
    audit.log(actor, "lorawan.group.create", name, municipality_id=municipality.pk, group=group.pk)
    set_members(actor, group, devices)
    return group


@transaction.atomic
def set_members(actor: Actor, group: MulticastGroup, devices: Iterable[LoraDevice]) -> None:
    """Say which devices listen to a group. Needs ``lorawan:write``. Raises LoraError, NotAllowed."""
    actor.require("lorawan:write", group.municipality_id)
    members = list(devices)
    for one in members:
        if one.municipality_id != group.municipality_id:
            raise LoraError("devices", gettext("gehört einer anderen Stadt"))
        if one.profile.device_class != "C":
            raise LoraError("devices", gettext("hört nicht immer (Klasse C)"))
    group.devices.set(members)
    group.save(update_fields=["updated_at"])
    audit.log(
        actor,
        "lorawan.group.change",
        group.name,
        municipality_id=group.municipality_id,
        group=group.pk,
        devices=len(members),
    )
    notify()
