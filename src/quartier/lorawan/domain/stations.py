"""What CUPS keeps at a Basics Station: its addresses, and the token with which it signs in.

A token is rolled in two phases. The new one is offered at the Station's next request to CUPS, and both hold until the
Station has signed in with it. Nobody ever sees it: it goes from here to the Station alone.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.rules import Actor
from quartier.cities.secrets import seal, unseal
from quartier.lorawan.domain.changes import notify
from quartier.lorawan.domain.errors import LoraError
from quartier.lorawan.gateways.cups_messages import LONGEST_URI, Credentials, CupsError, Wanted
from quartier.lorawan.models import Gateway

_KEY: Final = "station"
_SCHEMES: Final = {"cups_uri": ("https://", "http://"), "lns_uri": ("wss://", "ws://")}
_TOKENS: Final = ("cups_token", "lns_token")
_MOST_PEM: Final = 20_000


class Roll(StrEnum):
    """How far a rolled token has come."""

    NEVER = "never"
    WAITING = "waiting"
    """The Station has not asked since."""
    GIVEN = "given"
    """The Station has it, and has not signed in with it yet."""
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The certificate of the authority that a Station is told to trust."""

    subject: str
    valid_until: datetime
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StationState:
    """What a Station should have, what it said that it has, and what it was given. Without any token."""

    cups_uri: str
    lns_uri: str
    trust: Trust | None
    roll: Roll
    rolled_at: datetime | None
    roll_done_at: datetime | None
    asked_at: datetime | None
    station: str
    model: str
    package: str
    keys: int
    cups_uri_there: str
    lns_uri_there: str
    given: tuple[str, ...]
    """Parts of ``cups.Answer`` of the last answer that was not empty."""
    given_at: datetime | None


def station_state(gateway: Gateway) -> StationState:
    """As the gateway's row tells it."""
    kept = gateway.settings.get(_KEY) or {}
    told = gateway.cups
    secret = unseal(kept.get("sealed", ""))
    rolled_at, credentials_at = _moment(kept.get("rolled_at")), _moment(told.get("credentials_given_at"))
    token = secret.get("lns_token")
    if not token:
        roll = Roll.NEVER
    elif gateway.credentials == [hashlib.sha256(token.encode()).hexdigest()]:
        roll = Roll.DONE
    elif rolled_at is not None and credentials_at is not None and credentials_at >= rolled_at:
        roll = Roll.GIVEN
    else:
        roll = Roll.WAITING
    return StationState(
        cups_uri=kept.get("cups_uri", ""),
        lns_uri=kept.get("lns_uri", ""),
        trust=_trust(secret.get("trust", "")),
        roll=roll,
        rolled_at=rolled_at,
        roll_done_at=_moment(told.get("signed_in_at")) if roll is Roll.DONE else None,
        asked_at=_moment(told.get("asked_at")),
        station=told.get("station", ""),
        model=told.get("model", ""),
        package=told.get("package", ""),
        keys=told.get("keys", 0),
        cups_uri_there=told.get("cups_uri", ""),
        lns_uri_there=told.get("lns_uri", ""),
        given=tuple(told.get("given", ())),
        given_at=_moment(told.get("given_at")),
    )


def _moment(text: str | None) -> datetime | None:
    return parse_datetime(text) if text else None


def _trust(der: str) -> Trust | None:
    if not der:
        return None
    certificate = x509.load_der_x509_certificate(bytes.fromhex(der))
    return Trust(
        subject=certificate.subject.rfc4514_string(),
        valid_until=certificate.not_valid_after_utc,
        fingerprint=hashlib.sha256(bytes.fromhex(der)).hexdigest(),
    )


@transaction.atomic
def set_station(
    actor: Actor, gateway: Gateway, *, cups_uri: str = "", lns_uri: str = "", trust: str | None = None
) -> None:
    """Say what a Station should have; empty addresses leave what it has. Needs ``lorawan:write``.

    ``trust`` is the certificate (PEM) of the authority that signed ours for Stations; None keeps the one before. Raises
    LoraError naming the field, NotAllowed.
    """
    actor.require("lorawan:write", gateway.municipality_id)
    row = Gateway.objects.select_for_update().get(pk=gateway.pk)
    for name, uri in (("cups_uri", cups_uri), ("lns_uri", lns_uri)):
        if uri and not uri.startswith(_SCHEMES[name]):
            raise LoraError(name, gettext("beginnt mit %s") % " / ".join(_SCHEMES[name]))
        if uri and not _is_address(uri):
            raise LoraError(
                name, gettext("ist keine Adresse wie %s") % f"{_SCHEMES[name][0]}funk.example:3001"
            )
    try:
        Wanted(cups_uri=cups_uri, lns_uri=lns_uri)
    except CupsError as error:
        raise LoraError(
            str(error).partition(":")[0], gettext("höchstens %d Zeichen, keine Umlaute") % LONGEST_URI
        ) from None
    kept = dict(row.settings.get(_KEY) or {})
    if trust is not None:
        secret = unseal(kept.get("sealed", ""))
        kept["sealed"] = seal(secret | {"trust": _certificate(trust).hex()})
    _keep(actor, gateway, row, kept | {"cups_uri": cups_uri, "lns_uri": lns_uri}, "lorawan.gateway.change")


@transaction.atomic
def roll_station_token(actor: Actor, gateway: Gateway) -> None:
    """Let a Station have a new token at its next request to CUPS. Needs ``lorawan:write``.

    A token that was rolled before and has not been used yet is replaced, never the one that the Station uses. Raises
    LoraError where the authority's certificate is missing, without which a Station takes no token.
    """
    actor.require("lorawan:write", gateway.municipality_id)
    row = Gateway.objects.select_for_update().get(pk=gateway.pk)
    kept = dict(row.settings.get(_KEY) or {})
    secret = unseal(kept.get("sealed", ""))
    if not secret.get("trust"):
        raise LoraError("trust", gettext("wird gebraucht, bevor ein Schlüssel erneuert werden kann"))
    if not row.credentials:
        raise LoraError(
            "credentials", gettext("das Gateway hat noch keinen Schlüssel, mit dem es fragen kann")
        )
    token = secrets.token_urlsafe(32)
    kept["sealed"] = seal(secret | dict.fromkeys(_TOKENS, token))
    kept["rolled_at"] = timezone.now().isoformat()
    row.credentials = [row.credentials[0], hashlib.sha256(token.encode()).hexdigest()]
    _keep(actor, gateway, row, kept, "lorawan.gateway.token")


def forget_rolled(row: Gateway) -> None:
    """Offer no rolled token any more, because somebody gave the gateway another credential by hand."""
    kept = dict(row.settings.get(_KEY) or {})
    secret = unseal(kept.get("sealed", ""))
    if secret.keys() & set(_TOKENS):
        kept["sealed"] = seal({name: value for name, value in secret.items() if name not in _TOKENS})
        row.settings = row.settings | {_KEY: kept}


def _keep(actor: Actor, gateway: Gateway, row: Gateway, kept: dict[str, Any], action: str) -> None:
    row.settings = row.settings | {_KEY: kept}
    row.save(update_fields=["settings", "credentials", "updated_at"])
    gateway.settings, gateway.credentials = row.settings, row.credentials
    audit.log(actor, action, row.eui, municipality_id=row.municipality_id, changed=["station"])
    notify()


def _is_address(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0 and not any(one.isspace() for one in uri)
    except ValueError:
        return False


def _certificate(pem: str) -> bytes:
    """A certificate in DER as a Station can take it apart."""
    if len(pem) > _MOST_PEM:
        raise LoraError("trust", gettext("ist zu lang"))
    try:
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        Credentials(der, b"-")
    except (ValueError, CupsError):
        raise LoraError("trust", gettext("ist kein Zertifikat")) from None
    return der
