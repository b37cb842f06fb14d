"""API tokens: made, shown once, found again by hash.

A token reads ``qt_<prefix>_<secret>``. The secret has 256 random bits, so a plain SHA-256 is as good as a slow hash and
lets a thousand requests a second pass.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta

from django.utils import timezone

from quartier.cities.models import Municipality, Person, Token
from quartier.cities.rules import SCOPES

_TEXT = re.compile(r"qt_([0-9a-f]{10})_([A-Za-z0-9_-]{43})")


class TokenError(Exception):
    """A token is malformed, unknown, expired or revoked; the message says which."""


def make(
    person: Person,
    *,
    name: str,
    scopes: list[str],
    municipality: Municipality | None = None,
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """Create a token; returns the row and the text to show once.

    Raises ValueError naming an unknown scope.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise ValueError(f"unknown scope {unknown[0]!r}; known: {', '.join(SCOPES)}")
    prefix = secrets.token_hex(5)
    secret = secrets.token_urlsafe(32)
    token = Token.objects.create(
        person=person,
        municipality=municipality,
        name=name,
        prefix=prefix,
        digest=hashlib.sha256(secret.encode()).digest(),
        scopes=sorted(scopes),
        expires_at=expires_at,
    )
    return token, f"qt_{prefix}_{secret}"


def find(text: str, *, now: datetime | None = None) -> Token:
    """The token behind ``text``. Raises TokenError where it cannot be used."""
    # The whole form is checked, because what stands here came from anybody and is looked up in the database.
    form = _TEXT.fullmatch(text)
    if form is None:
        raise TokenError("malformed token")
    prefix, secret = form.groups()
    token = Token.objects.select_related("person", "municipality").filter(prefix=prefix).first()
    if token is None or not hmac.compare_digest(
        bytes(token.digest), hashlib.sha256(secret.encode()).digest()
    ):
        raise TokenError("unknown token")
    now = now or timezone.now()
    if token.revoked_at is not None:
        raise TokenError("token was revoked")
    if token.expires_at is not None and token.expires_at <= now:
        raise TokenError(f"token expired on {token.expires_at:%Y-%m-%d}")
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=5):
        Token.objects.filter(pk=token.pk).update(last_used_at=now)
    return token
