"""With whose eyes a request is read: who asks (a token, or nobody), and what ``usage.rules`` lets him see, as SQL."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import math
import re
import time
from functools import lru_cache
from typing import Any, Final

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import connection
from starlette.requests import Request

from quartier.cities.models import Municipality
from quartier.cities.rules import NOBODY, Actor
from quartier.cities.tokens import TokenError
from quartier.interfaces.sensorthings.answers import Refusal, header
from quartier.interfaces.sensorthings.compile.context import Eyes, NotFound
from quartier.sources.grants import Grants
from quartier.sources.threads import Together, in_thread
from quartier.usage.rules import visible_things

# For so long a change of what may be seen may go unnoticed; signing in is remembered for as long.
_REMEMBERED_S: Final = 15.0
_AT_MOST: Final = 5_000

type _Condition = tuple[str, tuple[tuple[str, str], ...]]

grants = Grants()


def _things(actor: Actor) -> _Condition:
    """The condition of ``usage.rules.visible_things`` as SQL on a row of twin_thing, with its parameters."""
    query = visible_things(actor).query
    compiler = query.get_compiler(connection=connection)
    try:
        sql, parameters = compiler.compile(query.where)
    except EmptyResultSet:
        return "FALSE", ()
    except FullResultSet:
        return "", ()
    if others := set(re.findall(r'"(\w+)"\."', sql)) - {"twin_thing"}:
        raise AssertionError(f"the rule of visible things names other tables: {others}")
    sql = sql.replace('"twin_thing".', "{t}.")
    for number in range(len(parameters)):
        sql = sql.replace("%s", f"{{{number}}}", 1)
    return sql, tuple((str(one), "bigint" if isinstance(one, int) else "text") for one in parameters)


class Observers:
    """Remembers what actors may see, and which cities there are, for some seconds."""

    def __init__(self) -> None:
        self._things: dict[Any, tuple[float, _Condition]] = {}
        self._asked: Together[_Condition] = Together()
        self._cities: tuple[float, dict[str, int]] = (-math.inf, {})
        self._cities_asked: Together[dict[str, int]] = Together()

    async def eyes(self, actor: Actor, city: str = "") -> Eyes:
        """What ``actor`` sees at the endpoint of ``city`` (its slug; empty: of all). Raises NotFound."""
        sql, parameters = await self._visible(actor)
        return Eyes(sql, parameters, await self.city(city) if city else None)

    async def _visible(self, actor: Actor) -> _Condition:
        wide = actor.municipalities("things:read")
        key = (actor.person_id, wide)
        found = self._things.get(key)
        if found is not None and time.monotonic() - found[0] < _REMEMBERED_S:
            return found[1]
        return await self._asked.of(key, lambda: self._look_up(key, actor))

    async def _look_up(self, key: Any, actor: Actor) -> _Condition:
        made = await in_thread(_things, actor)
        if len(self._things) >= _AT_MOST:
            self._things.clear()
        self._things[key] = (time.monotonic(), made)
        return made

    async def city(self, slug: str) -> int:
        """The number of a municipality. Raises NotFound."""
        at, known = self._cities
        age_s = time.monotonic() - at
        # An unknown name is looked up again, but not by every request.
        if age_s > (_REMEMBERED_S if slug in known else 1.0):
            known = await self._cities_asked.of("", self._look_up_cities)
        if slug not in known:
            raise NotFound(f"there is no municipality {slug[:60]!r}; there are {', '.join(sorted(known))}")
        return known[slug]

    async def _look_up_cities(self) -> dict[str, int]:
        known = await in_thread(lambda: dict(Municipality.objects.values_list("slug", "id")))
        self._cities = (time.monotonic(), known)
        return known


def token_in(request: Request) -> str | None:
    """The token of a request: ``Authorization: Bearer``, or the password of Basic (with any user); None without one."""
    text = header(request, b"authorization").strip()
    if not text:
        return None
    scheme, _, rest = text.partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            password = ""
        if password:
            return password
    raise Refusal(401, "send a token as Authorization: Bearer qt_… or as the password of Basic")


async def actor_of(request: Request) -> Actor:
    """Who asks. Raises Refusal 401 for a token that cannot be used."""
    text = token_in(request)
    if text is None:
        return NOBODY
    try:
        return (await grants.of(text)).actor
    except TokenError as error:
        raise Refusal(401, str(error)) from None


def caller(request: Request, actor: Actor) -> str:
    """Whom limits count for: a person, or else an address (as a hash)."""
    if actor.person_id is not None:
        return f"person {actor.person_id}"
    client = request.scope.get("client")
    peer: str = client[0] if client else ""
    forwarded = header(request, b"x-forwarded-for")
    # The last entry is the one that the nearest proxy wrote; those before it anybody may have written.
    address = forwarded.rsplit(",", 1)[-1].strip() if forwarded and _is_inside(peer) else peer
    return hashlib.sha256(address.encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def _is_inside(peer: str) -> bool:
    """Whether an address is of our own networks, as that of a proxy is."""
    try:
        return ipaddress.ip_address(peer).is_private
    except ValueError:
        return False
