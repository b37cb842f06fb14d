"""What CUPS keeps at a Basics Station: its addresses, and the token with which it signs in.

A token is rolled in two phases. The new one is offered at the Station's next request to CUPS, and both hold until the
Station has signed in with it. Nobody ever sees it: it goes from here to the Station alone.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import transaction
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.rules import Actor
from quartier.cities.secrets import seal, unseal
from quartier.lorawan.domain.changes import notify
from quartier.lorawan.domain.errors import LoraError
from quartier.lorawan.models import Gateway

_KEY: Final = "station"
_SCHEMES: Final = {"cups_uri": ("https://", "http://"), "lns_uri": ("wss://", "ws://")}
_TOKENS: Final = ("cups_token", "lns_token")


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
    # Here, because pages would load aiohttp with it.
    from quartier.lorawan.gateways.cups import CupsError, Wanted  # noqa: PLC0415

    try:
        Wanted(cups_uri=cups_uri, lns_uri=lns_uri)
    except CupsError as error:
        name, _, reason = str(error).partition(": ")
        raise LoraError(name, reason) from None
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


def _certificate(pem: str) -> bytes:
    """A certificate in DER as a Station can take it apart."""
    from quartier.lorawan.gateways.cups import Credentials, CupsError  # noqa: PLC0415

    try:
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        Credentials(der, b"-")
    except (ValueError, CupsError):
        raise LoraError("trust", gettext("ist kein Zertifikat")) from None
    return der
