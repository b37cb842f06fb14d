"""Who sends: the token in a request, wherever senders put it, and what it allows."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from starlette.requests import Request

from quartier.cities.tokens import TokenError
from quartier.sources.api.answers import ApiError
from quartier.sources.api.limits import RateLimit
from quartier.sources.grants import Grant, Grants, OwnDevice

SCOPE: Final = "observations:write"
_grants = Grants()
_limit = RateLimit()


def token_in(request: Request, *, raw: bool = False, basic: bool = False) -> str:
    """The token of a request. Raises ApiError 401 where there is none.

    ``Authorization: Bearer`` is always understood; ``raw`` also the bare token that a senseBox sends, ``basic`` also a
    password (with any user) and a token in the path, as sensor.community's firmware can be told.
    """
    if basic and request.path_params.get("token"):
        return str(request.path_params["token"])
    header = request.headers.get("authorization", "").strip()
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    if basic and scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            password = ""
        if password:
            return password
    if raw and header and not rest:
        return header
    raise ApiError(
        401,
        "no_token",
        "send your token in the header Authorization: Bearer qt_…",
        field="Authorization",
        headers={"WWW-Authenticate": "Bearer"},
    )


async def grant_of(token: str, *, fresh: bool = False) -> Grant:
    """What a token allows; it must have the scope to send. Raises ApiError 401, 403, 429."""
    try:
        grant = await _grants.of(token, fresh=fresh)
    except TokenError as error:
        raise ApiError(
            401,
            "bad_token",
            str(error),
            field="Authorization",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        ) from None
    if not fresh:
        _limit.take(grant.token_id)
    if not grant.actor.may(SCOPE):
        raise ApiError(403, "missing_scope", f"the token lacks the scope {SCOPE}", field="token")
    return grant


async def device_of(token: str, grant: Grant, external_id: str, field: str) -> OwnDevice:
    """The sender's own device. Raises ApiError 403 or 404."""
    device = grant.devices.get(external_id)
    if device is None:
        # It may have been registered a moment ago.
        grant = await grant_of(token, fresh=True)
        device = grant.devices.get(external_id)
    if device is None:
        known = ", ".join(sorted(grant.devices)[:10]) or "none yet"
        raise ApiError(
            404,
            "unknown_device",
            f"you have registered no sensor {external_id[:80]!r}; yours: {known}",
            field=field,
        )
    if not grant.actor.may(SCOPE, device.municipality_id):
        raise ApiError(
            403, "missing_scope", f"the token lacks the scope {SCOPE} in {device.municipality}", field="token"
        )
    return device
