"""CUPS: keeps the addresses, credentials and software of Basics Stations up to date.

What is said is in :mod:`.cups_messages`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final, Protocol

from aiohttp import web

from quartier.lorawan.gateways.access import certificate_of, host_of, token_of
from quartier.lorawan.gateways.cups_messages import Answer, CupsError, Report, Update, Wanted, answer, parse
from quartier.lorawan.gateways.registry import GatewayProtocol, Refused, Registry
from quartier.lorawan.types import Discarded, Eui

LARGEST_REQUEST: Final = 16 * 1024
_PROTOCOL: Final = GatewayProtocol.STATION
_READ_S: Final = 10


class Stations(Protocol):
    """What Stations should have; kept by the store."""

    async def wanted(self, eui: Eui, report: Report) -> Wanted | None:
        """What this Station should have, after it reported; None where nothing is kept for it."""

    async def answered(self, eui: Eui, report: Report, said: Answer) -> None:
        """A Station asked and is about to be given this."""

    def image(self, update: Update) -> AsyncIterator[bytes]:
        """The bytes of an update, piece by piece."""

    async def delivered(self, eui: Eui, update: Update) -> None:
        """A Station has fetched all bytes of an update."""


class CupsServer:
    """Answers ``/update-info``; ``routes`` goes into an aiohttp application (with its ``client_max_size``)."""

    def __init__(self, registry: Registry, stations: Stations) -> None:
        self._registry = registry
        self._stations = stations

    def routes(self) -> list[web.RouteDef]:
        """The one address."""
        return [web.post("/update-info", self._update_info)]

    async def _update_info(self, request: web.Request) -> web.Response:
        host = host_of(request)
        eui: Eui | None = None
        try:
            try:
                eui, report = parse(await _read(request))
            except CupsError as error:
                self._registry.stranger(host, time.monotonic())
                raise Refused(Discarded.MALFORMED, str(error)) from None
            gateway, live = self._registry.admit(eui, _PROTOCOL, host, time.monotonic())
            credential = self._registry.sign_in(gateway, token_of(request), certificate_of(request))
        except Refused as refused:
            self._registry.refuse(refused, _PROTOCOL, gateway=eui, address=host)
            # Station writes the reason of the status line into its log.
            return web.Response(status=_status(refused), reason=str(refused).replace("\n", " ")[:100])
        live.describe(
            version=report.station or "",
            model=report.model or "",
            status={"package": (report.package or "")[:80]},
        )
        wanted = await self._stations.wanted(eui, report)
        said = Answer() if wanted is None else answer(report, wanted, signed_in_with=credential)
        await self._stations.answered(eui, report, said)
        packed = said.packed()
        if said.update is None:
            return web.Response(body=packed, content_type="application/octet-stream")
        # Headers and the parts before the update leave in one piece, as Station's cups.c wants its first read to hold
        # both addresses; with a length, because it reads no chunked transfer.
        return web.Response(
            body=self._with_update(eui, packed, said.update),
            content_type="application/octet-stream",
            headers={"Content-Length": str(len(packed) + said.update.size)},
        )

    async def _with_update(self, eui: Eui, packed: bytes, update: Update) -> AsyncIterator[bytes]:
        yield packed
        async for piece in self._stations.image(update):
            yield piece
        await self._stations.delivered(eui, update)


async def _read(request: web.Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_READ_S):
            while chunk := await request.content.read(LARGEST_REQUEST):
                body += chunk
                if len(body) > LARGEST_REQUEST:
                    raise Refused(Discarded.TOO_LARGE, "update-info")
    except TimeoutError:
        raise Refused(Discarded.MALFORMED, "update-info: the body took too long") from None
    return body


def _status(refused: Refused) -> int:
    match refused.reason:
        case Discarded.MALFORMED:
            return 400
        case Discarded.TOO_LARGE:
            return 413
        case Discarded.RATE_LIMITED:
            return 429
        case Discarded.UNAUTHORISED:
            return 401
        case _:
            return 403
