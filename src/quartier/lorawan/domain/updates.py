"""Software updates for Basics Stations: uploaded with their signatures, switched on, assigned, watched.

A signature is verified here with the public key that Stations hold, so that none is offered that they would refuse. The
private key stays with whoever builds the software: Quartier signs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zlib import crc32

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.lorawan.domain.errors import LoraError, bounded_text
from quartier.lorawan.gateways.cups_messages import LARGEST_UPDATE, LONGEST_SIGNATURE, public_key_file
from quartier.lorawan.models import Gateway
from quartier.lorawan.models_stations import StationDelivery, StationUpdate, StationUpdatePart
from quartier.lorawan.updates import Offer, UpdateState, choose

_RIGHT: Final = "lorawan:write"
_PART: Final = 256 * 1024
_LONGEST_KEY: Final = 4096
_LONGEST: Final = 80
_MOST_VERSIONS: Final = 20
_MOST_SIGNATURES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AtStation:
    """The update that counts for a Station, and how far it is."""

    state: UpdateState
    update: StationUpdate | None
    delivery: StationDelivery | None


def visible_updates(actor: Actor, action: str = "desk:enter") -> QuerySet[StationUpdate]:
    """Those of the cities where the actor may do ``action``, and those for all cities."""
    rows = StationUpdate.objects.select_related("municipality")
    ids = actor.municipalities(action)
    if ids is None:
        return rows
    return rows.filter(Q(municipality_id__in=ids) | Q(municipality=None)) if ids else rows.none()


def may_change_update(actor: Actor, update: StationUpdate) -> bool:
    """Whether the actor may change it: one for all cities belongs to those who hold the right in all."""
    if update.municipality_id is None:
        return actor.municipalities(_RIGHT) is None
    return actor.may(_RIGHT, update.municipality_id)


@transaction.atomic
def add_update(
    actor: Actor,
    municipality: Municipality | None,
    *,
    model: str,
    package: str,
    image: Iterable[bytes],
    signature: bytes,
    key: bytes,
    packages: Sequence[str] = (),
    stations: Sequence[str] = (),
    note: str = "",
    everywhere: bool = False,
) -> StationUpdate:
    """Keep an update; it is not offered before it is activated. Needs ``lorawan:write``, without city: everywhere.

    ``image`` comes in pieces of any size. ``signature`` is ECDSA over SHA-512 in DER, as ``openssl dgst -sha512 -sign``
    writes it; ``key`` the public key (PEM, DER, or the 64 bytes of Station's ``sig-0.key``). ``packages`` and
    ``stations`` limit what it is put on. Raises LoraError naming the field, NotAllowed.
    """
    _require(actor, municipality.pk if municipality else None)
    update = StationUpdate(
        municipality=municipality,
        model=bounded_text("model", model, _LONGEST, needed=True),
        package=bounded_text("package", package, _LONGEST, needed=True),
        packages=_versions("packages", packages),
        stations=_versions("stations", stations),
        note=bounded_text("note", note, 200),
        size=0,
        signatures={},
        everywhere=everywhere,
        uploaded_by=actor.name[:200],
        person_id=actor.person_id,
    )
    if update.package in update.packages:
        raise LoraError("packages", gettext("enthält das Softwarepaket, das danach laufen soll"))
    if StationUpdate.objects.filter(
        municipality=municipality, model=update.model, package=update.package
    ).exists():
        raise LoraError("package", gettext("gibt es für dieses Modell schon"))
    update.save()
    _keep_image(update, image)
    update.signatures = {str(_checksum(key)): _verified(update, signature, key).hex()}
    update.save()
    _log(actor, "lorawan.update.create", update, sha256=update.sha256, keys=_keys(update))
    return update


def _keep_image(update: StationUpdate, image: Iterable[bytes]) -> None:
    sha256, sha512 = hashlib.sha256(), hashlib.sha512()
    number, waiting = 0, bytearray()

    def keep(data: bytes) -> None:
        nonlocal number
        StationUpdatePart.objects.create(update=update, number=number, data=data)
        number += 1

    for piece in image:
        update.size += len(piece)
        if update.size > LARGEST_UPDATE:
            raise LoraError("image", gettext("ist größer als %d MiB") % (LARGEST_UPDATE >> 20))
        sha256.update(piece)
        sha512.update(piece)
        waiting += piece
        while len(waiting) >= _PART:
            keep(bytes(waiting[:_PART]))
            del waiting[:_PART]
    if not update.size:
        raise LoraError("image", gettext("ist leer"))
    if waiting:
        keep(bytes(waiting))
    update.sha256, update.sha512 = sha256.hexdigest(), sha512.hexdigest()


@transaction.atomic
def add_signature(actor: Actor, update: StationUpdate, *, signature: bytes, key: bytes) -> None:
    """Add the signature of another key, for Stations that hold that one. Needs ``lorawan:write`` as above.

    Raises LoraError naming the field, NotAllowed.
    """
    row = _locked(actor, update)
    made = row.signatures | {str(_checksum(key)): _verified(row, signature, key).hex()}
    if len(made) > _MOST_SIGNATURES:
        raise LoraError("signature", gettext("höchstens %d Unterschriften") % _MOST_SIGNATURES)
    row.signatures = made
    row.save(update_fields=["signatures"])
    _log(actor, "lorawan.update.change", row, changed=["signatures"], keys=_keys(row))


@transaction.atomic
def set_update(
    actor: Actor, update: StationUpdate, *, active: bool | None = None, everywhere: bool | None = None
) -> None:
    """Offer it or stop offering it; to all Stations of the model, or only where it is assigned.

    Of several active ones for all, the one that was activated last counts. Needs ``lorawan:write`` as above.
    """
    row = _locked(actor, update)
    changed = []
    if active is not None and active != row.active:
        row.active, row.activated_at = active, timezone.now() if active else None
        changed.append("active")
    if everywhere is not None and everywhere != row.everywhere:
        row.everywhere = everywhere
        changed.append("everywhere")
    if not changed:
        return
    row.save(update_fields=["active", "activated_at", "everywhere"])
    _log(actor, "lorawan.update.change", row, changed=changed, active=row.active, everywhere=row.everywhere)


@transaction.atomic
def delete_update(actor: Actor, update: StationUpdate) -> None:
    """Remove it with what is known of its deliveries. Needs ``lorawan:write`` as above.

    Raises LoraError while it is active: a Station may be fetching it.
    """
    row = _locked(actor, update)
    if row.active:
        raise LoraError("active", gettext("Schalten Sie das Update erst ab."))
    _log(actor, "lorawan.update.delete", row, sha256=row.sha256)
    row.delete()


@transaction.atomic
def assign_update(actor: Actor, gateway: Gateway, update: StationUpdate | None) -> None:
    """Let this gateway have an update ahead of those for all; None: only those for all. Needs ``lorawan:write``.

    Raises LoraError where it is for another city or another model.
    """
    actor.require(_RIGHT, gateway.municipality_id)
    Gateway.objects.select_for_update().get(pk=gateway.pk)
    if update is not None:
        if update.municipality_id not in (None, gateway.municipality_id):
            raise LoraError("update", gettext("gehört zu einer anderen Stadt"))
        model = gateway.cups.get("model", "")
        if model and model != update.model:
            raise LoraError(
                "update",
                gettext("ist für das Modell %(wanted)s, die Station ist %(there)s")
                % {"wanted": update.model, "there": model},
            )
    StationDelivery.objects.filter(gateway=gateway, assigned=True).update(assigned=False)
    if update is not None:
        StationDelivery.objects.update_or_create(update=update, gateway=gateway, defaults={"assigned": True})
    audit.log(
        actor,
        "lorawan.update.assign",
        gateway.eui,
        municipality_id=gateway.municipality_id,
        update=str(update) if update else None,
    )


@transaction.atomic
def offer_again(actor: Actor, gateway: Gateway, update: StationUpdate) -> None:
    """Begin anew after deliveries in vain. Needs ``lorawan:write`` in the gateway's city."""
    actor.require(_RIGHT, gateway.municipality_id)
    StationDelivery.objects.filter(gateway=gateway, update=update).update(
        attempts=0, begun_at=None, delivered_at=None, done_at=None, missed_at=None
    )
    audit.log(
        actor,
        "lorawan.update.again",
        gateway.eui,
        municipality_id=gateway.municipality_id,
        update=str(update),
    )


def assigned_update(gateway: Gateway) -> StationUpdate | None:
    """What was assigned to this gateway, active or not."""
    return StationUpdate.objects.filter(deliveries__gateway=gateway, deliveries__assigned=True).first()


def update_at(gateway: Gateway, now: datetime | None = None) -> AtStation:
    """The update that counts for a Station, by what it told last; the radio decides the same way."""
    told = gateway.cups
    model = told.get("model", "")
    deliveries = {one.update_id: one for one in StationDelivery.objects.filter(gateway=gateway)}
    assigned = [pk for pk, one in deliveries.items() if one.assigned]
    rows = (
        StationUpdate.objects.filter(Q(municipality=None) | Q(municipality_id=gateway.municipality_id))
        .filter(Q(everywhere=True) | Q(pk__in=assigned), active=True)
        # A Station that has not asked yet may be of any model; then only what was assigned is known to be for it.
        .filter(Q(model=model) if model else Q(pk__in=assigned))
        .order_by(F("activated_at").desc(), "-pk")
    )
    by_id = {one.pk: one for one in sorted(rows, key=lambda one: one.pk not in assigned)}
    offer, state = choose(
        [_offer(one, deliveries.get(one.pk)) for one in by_id.values()],
        package=told.get("package", ""),
        station=told.get("station", ""),
        # Before the first request its keys are unknown.
        keys=told.get("key_checksums", ()) if model else [int(crc) for one in rows for crc in one.signatures],
        asked_at=parse_datetime(told["asked_at"]) if told.get("asked_at") else None,
        now=now or timezone.now(),
    )
    if offer is None:
        return AtStation(state=state, update=None, delivery=None)
    return AtStation(state=state, update=by_id[offer.id], delivery=deliveries.get(offer.id))


def _offer(update: StationUpdate, delivery: StationDelivery | None) -> Offer:
    return Offer(
        id=update.pk,
        package=update.package,
        size=update.size,
        packages=update.packages,
        stations=update.stations,
        signatures={int(crc): bytes.fromhex(one) for crc, one in update.signatures.items()},
        attempts=delivery.attempts if delivery else 0,
        begun_at=delivery.begun_at if delivery else None,
        delivered_at=delivery.delivered_at if delivery else None,
    )


def deliveries_of(
    update: StationUpdate, actor: Actor, action: str = "desk:enter"
) -> QuerySet[StationDelivery]:
    """Stations that were given or assigned it, of the cities where the actor may do ``action``; the last first."""
    rows = StationDelivery.objects.filter(update=update).select_related("gateway")
    ids = actor.municipalities(action)
    if ids is not None:
        rows = rows.filter(gateway__municipality_id__in=ids)
    return rows.order_by(Coalesce("delivered_at", "begun_at").desc(nulls_last=True), "gateway__name")


# Signatures


def _public_key(key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        if len(key) > _LONGEST_KEY:
            raise ValueError(len(key))
        if len(key) == 64:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
        loaded = load_pem_public_key(key) if key.lstrip().startswith(b"-----") else load_der_public_key(key)
    except ValueError:
        raise LoraError("key", gettext("ist kein öffentlicher Schlüssel")) from None
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or not isinstance(loaded.curve, ec.SECP256R1):
        raise LoraError("key", gettext("ist kein Schlüssel auf der Kurve P-256"))
    return loaded


def _checksum(key: bytes) -> int:
    """As a Station tells it of its key file."""
    return crc32(public_key_file(_public_key(key)))


def _verified(update: StationUpdate, signature: bytes, key: bytes) -> bytes:
    public = _public_key(key)
    if not 4 <= len(signature) <= LONGEST_SIGNATURE:
        raise LoraError("signature", gettext("hat nicht 4 bis %d Bytes") % LONGEST_SIGNATURE)
    try:
        public.verify(signature, bytes.fromhex(update.sha512), ec.ECDSA(Prehashed(hashes.SHA512())))
    except InvalidSignature:
        raise LoraError(
            "signature", gettext("passt nicht zu Datei und Schlüssel (ECDSA über SHA-512, DER)")
        ) from None
    return signature


def _keys(update: StationUpdate) -> list[str]:
    return [f"{int(crc):08x}" for crc in update.signatures]


# Rights and small things


def _require(actor: Actor, municipality_id: int | None) -> None:
    actor.require(_RIGHT, municipality_id)
    if municipality_id is None and actor.municipalities(_RIGHT) is not None:
        raise LoraError("municipality", gettext("ein Update für alle Städte braucht das Recht in allen"))


def _locked(actor: Actor, update: StationUpdate) -> StationUpdate:
    _require(actor, update.municipality_id)
    return StationUpdate.objects.select_for_update().get(pk=update.pk)


def _versions(field: str, texts: Sequence[str]) -> list[str]:
    found = [bounded_text(field, one, _LONGEST) for one in texts]
    if len(found) > _MOST_VERSIONS:
        raise LoraError(field, gettext("höchstens %d") % _MOST_VERSIONS)
    return [one for one in found if one]


def _log(actor: Actor, action: str, update: StationUpdate, **detail: object) -> None:
    audit.log(actor, action, update, municipality_id=update.municipality_id, **detail)
