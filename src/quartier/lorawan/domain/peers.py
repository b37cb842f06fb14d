"""Neighbouring networks and agreements with them: proposed, signed, ended, and what was carried under them.

An agreement that both sides signed is never changed. Whoever wants other terms ends it and proposes the next one, so
that the ledger always says under which terms a frame went.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.cities.secrets import seal, unseal
from quartier.lorawan.domain.changes import notify
from quartier.lorawan.domain.errors import LoraError, bounded_text, hexadecimal
from quartier.lorawan.models_roaming import LoraPeer, RoamingAgreement, RoamingFrame
from quartier.lorawan.roaming.fields import RatePolicy
from quartier.lorawan.roaming.peers import DataClass, PeerProtocol, Range, Tls
from quartier.lorawan.roaming.tls import client_context

SECRETS: Final = ("authorization", "certificate", "key", "ca", "keks", "mic_keys", "gateway_token")
"""What is sealed with a peer: how we call it, key encryption keys by label, keys of its devices for the MIC filter."""
_MOST_RANGES: Final = 1000
_KEK_BYTES: Final = (16, 24, 32)


@transaction.atomic
def save_peer(
    actor: Actor,
    municipality: Municipality,
    key: str,
    *,
    secret: Mapping[str, Any] | None = None,
    **values: Any,
) -> LoraPeer:
    """Register the peer ``key`` or change it; ``values`` are fields of the model. Needs ``lorawan:write``.

    ``secret`` replaces those of :data:`SECRETS` that it names; None among them deletes. They are sealed and never shown
    again. Raises LoraError naming the field, NotAllowed.
    """
    actor.require("lorawan:write", municipality.pk)
    peer = LoraPeer.objects.select_for_update().filter(key=key).first()
    if peer is not None and peer.municipality_id != municipality.pk:
        raise LoraError("key", gettext("gehört zu einer anderen Stadt"))
    created = peer is None
    peer = peer or LoraPeer(key=key, name=key, municipality=municipality)
    changed = sorted(name for name, value in values.items() if getattr(peer, name) != value)
    for name in changed:
        setattr(peer, name, values[name])
    if secret:
        sealed = unseal(peer.sealed) | dict(secret)
        peer.sealed = seal({name: value for name, value in sealed.items() if value is not None})
    _check(peer)
    peer.save()
    audit.log(
        actor,
        "lorawan.peer.create" if created else "lorawan.peer.change",
        peer.key,
        municipality_id=municipality.pk,
        changed=changed,
        secrets=sorted(secret or ()),
    )
    notify()
    return peer


def _check(peer: LoraPeer) -> None:
    peer.name = bounded_text("name", peer.name, 120, needed=True)
    peer.net_ids = [hexadecimal("net_ids", one, 3).hex() for one in peer.net_ids]
    peer.fingerprints = [
        hexadecimal("fingerprints", one.replace(":", ""), 32).hex() for one in peer.fingerprints
    ]
    if peer.nsid:
        peer.nsid = hexadecimal("nsid", peer.nsid, 8).hex()
    peer.join_euis = _ranges("join_euis", peer.join_euis, 64)
    if peer.protocol not in LoraPeer.Protocol.values:
        raise LoraError("protocol", gettext("muss eines sein von: %s") % ", ".join(LoraPeer.Protocol.values))
    if not 0.1 <= peer.timeout_s <= 60:
        raise LoraError("timeout_s", gettext("zwischen 0,1 und 60 Sekunden"))
    if PeerProtocol(peer.protocol).backend_interfaces:
        if peer.url and not peer.url.startswith(("https://", "http://")):
            raise LoraError("url", gettext("beginnt mit https:// oder http://"))
        if not peer.net_ids and not peer.join_euis:
            raise LoraError("net_ids", gettext("eine NetID oder JoinEUI wird gebraucht"))
    else:
        _check_gateway(peer)
    if peer.authority:
        try:
            x509.load_pem_x509_certificate(peer.authority.encode())
        except ValueError:
            raise LoraError("authority", gettext("ist kein Zertifikat")) from None
    elif peer.subject:
        raise LoraError("authority", gettext("wird zum Namen im Zertifikat gebraucht"))
    _check_secret(peer)


def _check_gateway(peer: LoraPeer) -> None:
    settings = peer.gateway
    if not isinstance(settings, dict) or "eui" not in settings:
        raise LoraError("gateway", gettext("die EUI des Gateways fehlt"))
    settings["eui"] = hexadecimal("gateway", settings["eui"], 8).hex()
    if peer.protocol == LoraPeer.Protocol.GWMP and not settings.get("host"):
        raise LoraError("gateway", gettext("der Rechner fehlt, an den gesendet wird"))
    if peer.protocol == LoraPeer.Protocol.STATION and not str(settings.get("url", "")).startswith(
        ("ws://", "wss://")
    ):
        raise LoraError("gateway", gettext("die Adresse beginnt mit wss:// oder ws://"))


def _check_secret(peer: LoraPeer) -> None:
    secret = unseal(peer.sealed)
    unknown = sorted(set(secret) - set(SECRETS))
    if unknown:
        raise LoraError("secret", gettext("unbekannt: %s") % ", ".join(unknown))
    keks = secret.get("keks", {})
    for label, kek in keks.items():
        _key(f"keks.{label}", kek, *_KEK_BYTES)
    if peer.kek_label and peer.kek_label not in keks:
        raise LoraError("kek_label", gettext("einen Schlüssel dieses Namens gibt es nicht"))
    for one in secret.get("mic_keys", ()):
        if not isinstance(one, dict):
            raise LoraError("mic_keys", gettext("DevAddr und Schlüssel werden gebraucht"))
        hexadecimal("mic_keys", str(one.get("dev_addr", "")), 4)
        _key("mic_keys", one.get("key"), 16)
    if secret.get("certificate") or secret.get("ca"):
        try:
            client_context(
                Tls(
                    certificate=secret.get("certificate", ""),
                    key=secret.get("key", ""),
                    ca=secret.get("ca", ""),
                )
            )
        except (ssl.SSLError, ValueError, OSError):
            raise LoraError(
                "certificate", gettext("Zertifikat und Schlüssel passen nicht zusammen")
            ) from None


def _key(field: str, value: Any, *sizes: int) -> None:
    # The message never repeats what was given: it may be a key with a slip of the finger.
    try:
        good = isinstance(value, str) and len(bytes.fromhex(value)) in sizes
    except ValueError:
        good = False
    if not good:
        expected = " / ".join(str(size) for size in sizes)
        raise LoraError(field, gettext("%s Bytes hexadezimal werden gebraucht") % expected)


def _ranges(field: str, values: Any, bits: int) -> list[str]:
    if not isinstance(values, list) or len(values) > _MOST_RANGES:
        raise LoraError(field, gettext("eine Liste mit höchstens %d Bereichen") % _MOST_RANGES)
    try:
        return [str(Range.parse(str(one), bits)) for one in values]
    except ValueError as error:
        raise LoraError(field, str(error)) from None


@transaction.atomic
def make_bearer(actor: Actor, peer: LoraPeer) -> str:
    """A new value for the peer's Authorization header when it calls us, shown once. Needs ``lorawan:write``."""
    actor.require("lorawan:write", peer.municipality_id)
    value = f"Bearer {secrets.token_urlsafe(32)}"
    peer.bearer_digest = hashlib.sha256(value.encode()).hexdigest()
    peer.save(update_fields=["bearer_digest", "updated_at"])
    audit.log(actor, "lorawan.peer.token", peer.key, municipality_id=peer.municipality_id)
    notify()
    return value


@transaction.atomic
def propose(actor: Actor, peer: LoraPeer, direction: str, **values: Any) -> RoamingAgreement:
    """A new agreement that nobody has signed yet; ``values`` are fields of the model. Needs ``lorawan:write``.

    Raises LoraError naming the field, NotAllowed.
    """
    actor.require("lorawan:write", peer.municipality_id)
    agreement = RoamingAgreement(
        peer=peer, direction=direction, **({"classes": [str(one) for one in DataClass]} | values)
    )
    _check_agreement(agreement)
    agreement.save()
    audit.log(
        actor,
        "lorawan.agreement.propose",
        f"{peer.key} {agreement.pk}",
        municipality_id=peer.municipality_id,
        direction=direction,
    )
    return agreement


def _check_agreement(agreement: RoamingAgreement) -> None:
    if agreement.direction not in RoamingAgreement.Direction.values:
        raise LoraError("direction", gettext("carry oder carried"))
    if agreement.gateways not in RoamingAgreement.Gateways.values:
        raise LoraError("gateways", gettext("public oder all"))
    agreement.dev_addrs = _ranges("dev_addrs", agreement.dev_addrs, 32)
    agreement.dev_euis = _ranges("dev_euis", agreement.dev_euis, 64)
    agreement.join_euis = _ranges("join_euis", agreement.join_euis, 64)
    unknown = sorted(set(agreement.classes) - {str(one) for one in DataClass})
    if unknown or not agreement.classes:
        raise LoraError("classes", gettext("unbekannt: %s") % ", ".join(unknown))
    for field in ("uplink_policy", "downlink_policy"):
        if getattr(agreement, field) not in [str(one) for one in RatePolicy]:
            raise LoraError(field, gettext("Drop oder Mark"))
    for field in (
        "uplink_rate_per_h",
        "downlink_rate_per_h",
        "uplink_airtime_s_per_day",
        "downlink_airtime_s_per_day",
        "downlinks_per_day",
    ):
        value = getattr(agreement, field)
        if value is not None and value < 0:
            raise LoraError(field, gettext("nicht negativ"))
    if agreement.valid_until is not None and agreement.valid_until <= agreement.valid_from:
        raise LoraError("valid_until", gettext("liegt nicht nach dem Beginn"))
    if not agreement.purpose.strip():
        raise LoraError("purpose", gettext("der Zweck wird gebraucht"))
    if agreement.hand_over_keys and not agreement.peer.kek_label:
        raise LoraError(
            "hand_over_keys", gettext("dafür muss ein Schlüssel zum Verschlüsseln vereinbart sein")
        )


@transaction.atomic
def sign(actor: Actor, agreement: RoamingAgreement) -> None:
    """Sign for our side. Needs ``lorawan:write``."""
    actor.require("lorawan:write", agreement.peer.municipality_id)
    row = RoamingAgreement.objects.select_for_update().get(pk=agreement.pk)
    if row.signed_here_at is not None:
        raise LoraError("signed_here", gettext("ist schon unterschrieben"))
    row.signed_here_by, row.signed_here_at = actor.name[:200], timezone.now()
    row.signed_here_person_id = actor.person_id
    row.save(update_fields=["signed_here_by", "signed_here_at", "signed_here_person"])
    _note(actor, row, "lorawan.agreement.sign")


@transaction.atomic
def note_signature(actor: Actor, agreement: RoamingAgreement, name: str, at: datetime | None = None) -> None:
    """Note who signed for the other side, and when. Needs ``lorawan:write``."""
    actor.require("lorawan:write", agreement.peer.municipality_id)
    row = RoamingAgreement.objects.select_for_update().get(pk=agreement.pk)
    if row.signed_there_at is not None:
        raise LoraError("signed_there", gettext("ist schon unterschrieben"))
    row.signed_there_by = bounded_text("signed_there_by", name, 200, needed=True)
    row.signed_there_at = at or timezone.now()
    row.save(update_fields=["signed_there_by", "signed_there_at"])
    _note(actor, row, "lorawan.agreement.their_signature")


@transaction.atomic
def end(actor: Actor, agreement: RoamingAgreement, at: datetime | None = None) -> None:
    """End an agreement, now or at a time to come. Needs ``lorawan:write``."""
    actor.require("lorawan:write", agreement.peer.municipality_id)
    row = RoamingAgreement.objects.select_for_update().get(pk=agreement.pk)
    row.valid_until = max(at or timezone.now(), timezone.now())
    row.save(update_fields=["valid_until"])
    _note(actor, row, "lorawan.agreement.end")


def _note(actor: Actor, agreement: RoamingAgreement, action: str) -> None:
    audit.log(
        actor,
        action,
        f"{agreement.peer.key} {agreement.pk}",
        municipality_id=agreement.peer.municipality_id,
    )
    notify()


def trail(actor: Actor, municipality: Municipality, dev_eui: str) -> QuerySet[RoamingFrame]:
    """What of a device went to which network, when and under which agreement, newest first. Needs ``audit:read``.

    For the data protection officer; rows go after the agreement's time of retention. Frames whose device was not known
    (a neighbour's, without a key) are found by ``dev_addr`` only.
    """
    actor.require("audit:read", municipality.pk)
    return (
        RoamingFrame.objects.filter(
            dev_eui=hexadecimal("dev_eui", dev_eui, 8).hex(), peer__municipality=municipality
        )
        .select_related("peer", "agreement")
        .order_by("-at")
    )
