"""Whose token is this, and which devices may it speak for: asked on every message, so remembered for half a minute."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from quartier.cities import tokens
from quartier.cities.rules import Actor, actor_of_token
from quartier.sources.domain.makers import SOURCE_KEY
from quartier.sources.threads import Together, in_thread
from quartier.twin.models import Deployment

_REMEMBERED_S: Final = 30.0
_AT_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """A device of a maker, as far as its messages need it."""

    external_id: str
    municipality_id: int
    municipality: str
    sensor_id: str = ""
    sensors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows. ``devices`` are those that its person registered, by external id."""

    token_id: int
    actor: Actor
    devices: dict[str, OwnDevice]
    expires_at: datetime | None = None


def look_up(text: str) -> Grant:
    """The grant of a token, from the database. Raises tokens.TokenError."""
    token = tokens.find(text)
    actor = actor_of_token(token)
    devices: dict[str, OwnDevice] = {}
    deployments = Deployment.objects.filter(
        thing__owner_person_id=token.person_id,
        device__source_key=SOURCE_KEY,
        device__active=True,
        until__isnull=True,
    ).select_related("device__municipality")
    for deployment in deployments:
        device = deployment.device
        stored = device.properties
        devices[device.external_id] = OwnDevice(
            device.external_id,
            device.municipality_id,
            device.municipality.slug,
            str(stored.get("sensor_id", "")),
            dict(stored.get("sensors", {})),
        )
    return Grant(token.pk, actor, devices, token.expires_at)


class Grants:
    """Remembers grants for a short time, by a hash of the token, so that none lies in memory in clear."""

    def __init__(self, *, remembered_s: float = _REMEMBERED_S) -> None:
        self._remembered_s = remembered_s
        self._known: OrderedDict[bytes, tuple[float, Grant]] = OrderedDict()
        self._asked: Together[Grant] = Together()

    async def of(self, text: str, *, fresh: bool = False) -> Grant:
        """The grant of a token. ``fresh`` asks the database in any case. Raises tokens.TokenError."""
        key = hashlib.sha256(text.encode(errors="replace")).digest()
        found = self._known.get(key)
        if found is not None and not fresh and time.monotonic() - found[0] < self._remembered_s:
            return found[1]
        if fresh:
            return await self._look_up(key, text)
        return await self._asked.of(key, lambda: self._look_up(key, text))

    async def _look_up(self, key: bytes, text: str) -> Grant:
        grant = await in_thread(look_up, text)
        self._known[key] = (time.monotonic(), grant)
        self._known.move_to_end(key)
        while len(self._known) > _AT_MOST:
            self._known.popitem(last=False)
        return grant
