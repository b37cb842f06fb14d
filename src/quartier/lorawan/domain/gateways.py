"""Gateways: registered, changed, given tokens."""

from __future__ import annotations

import hashlib
import secrets
from ipaddress import ip_network
from typing import Any, Final

from django.db import transaction
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.lorawan.domain.changes import notify
from quartier.lorawan.domain.errors import LoraError, bounded_number, bounded_text, hexadecimal
from quartier.lorawan.domain.stations import forget_rolled
from quartier.lorawan.frames.regions import REGIONS
from quartier.lorawan.models import Gateway

_LIMITS: Final = {
    "lon": (-180, 180),
    "lat": (-90, 90),
    "altitude_m": (-500, 9000),
    "height_above_ground_m": (-100, 1000),
    "antenna_gain_dbi": (-20, 30),
}
_MOST_NETWORKS: Final = 20
_KEPT_CREDENTIALS: Final = 2


@transaction.atomic
def save_gateway(actor: Actor, municipality: Municipality, eui: str, **values: Any) -> Gateway:
    """Register the gateway ``eui`` or change it; ``values`` are fields of the model. Needs ``lorawan:write``.

    Raises LoraError naming the field, NotAllowed.
    """
    actor.require("lorawan:write", municipality.pk)
    eui = hexadecimal("eui", eui, 8).hex()
    gateway = Gateway.objects.select_for_update().filter(eui=eui).first()
    if gateway is not None and gateway.municipality_id != municipality.pk:
        raise LoraError("eui", gettext("ist in einer anderen Stadt angemeldet"))
    created = gateway is None
    gateway = gateway or Gateway(municipality=municipality, eui=eui, name=eui)
    changed = []
    for name, value in values.items():
        if getattr(gateway, name) != value:
            setattr(gateway, name, value)
            changed.append(name)
    _check(gateway)
    # What the radio writes into the same row stays as it is.
    gateway.save(update_fields=None if created else [*changed, "updated_at"])
    audit.log(
        actor,
        "lorawan.gateway.create" if created else "lorawan.gateway.change",
        gateway.eui,
        municipality_id=municipality.pk,
        changed=sorted(changed),
    )
    notify()
    return gateway


def _check(gateway: Gateway) -> None:
    gateway.name = bounded_text("name", gateway.name, 120, needed=True)
    gateway.place = bounded_text("place", gateway.place, 200)
    if gateway.protocol not in Gateway.Protocol.values:
        raise LoraError("protocol", gettext("muss eines sein von: %s") % ", ".join(Gateway.Protocol.values))
    if gateway.region not in REGIONS:
        raise LoraError("region", gettext("muss eines sein von: %s") % ", ".join(REGIONS))
    if (gateway.lon is None) != (gateway.lat is None):
        raise LoraError("lon", gettext("Länge und Breite gehören zusammen"))
    for name, (low, high) in _LIMITS.items():
        value = getattr(gateway, name)
        if value is not None:
            bounded_number(name, value, low, high)
    if len(gateway.networks) > _MOST_NETWORKS:
        raise LoraError("networks", gettext("höchstens %d Netze") % _MOST_NETWORKS)
    for text in gateway.networks:
        try:
            ip_network(text, strict=False)
        except (ValueError, TypeError):
            raise LoraError("networks", gettext("ist kein Netz: %s") % str(text)[:50]) from None


@transaction.atomic
def set_disabled(actor: Actor, gateway: Gateway, disabled: bool) -> None:
    """Switch a gateway off or on. Needs ``lorawan:write``."""
    actor.require("lorawan:write", gateway.municipality_id)
    if gateway.disabled == disabled:
        return
    gateway.disabled = disabled
    gateway.save(update_fields=["disabled", "updated_at"])
    audit.log(
        actor,
        "lorawan.gateway.change",
        gateway.eui,
        municipality_id=gateway.municipality_id,
        changed=["disabled"],
        disabled=disabled,
    )
    notify()


@transaction.atomic
def make_token(actor: Actor, gateway: Gateway) -> str:
    """A new token for a Basics Station, shown once; the one before holds until the new one is used.

    Needs ``lorawan:write``.
    """
    actor.require("lorawan:write", gateway.municipality_id)
    row = Gateway.objects.select_for_update().get(pk=gateway.pk)
    token = secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    row.credentials = [*row.credentials, digest][-_KEPT_CREDENTIALS:]
    forget_rolled(row)
    row.save(update_fields=["credentials", "settings", "updated_at"])
    gateway.credentials, gateway.settings = row.credentials, row.settings
    audit.log(actor, "lorawan.gateway.token", row.eui, municipality_id=row.municipality_id)
    notify()
    return token


@transaction.atomic
def set_certificate(actor: Actor, gateway: Gateway, sha256: str) -> None:
    """Let a gateway sign in with the client certificate of this fingerprint (SHA-256 of the DER form), too.

    Needs ``lorawan:write``. Raises LoraError.
    """
    actor.require("lorawan:write", gateway.municipality_id)
    digest = hexadecimal("certificate", sha256, 32).hex()
    row = Gateway.objects.select_for_update().get(pk=gateway.pk)
    row.credentials = [*(one for one in row.credentials if one != digest), digest][-_KEPT_CREDENTIALS:]
    forget_rolled(row)
    row.save(update_fields=["credentials", "settings", "updated_at"])
    gateway.credentials, gateway.settings = row.credentials, row.settings
    audit.log(
        actor, "lorawan.gateway.token", row.eui, municipality_id=row.municipality_id, certificate=digest[:16]
    )
    notify()
