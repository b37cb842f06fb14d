"""The connection of one Station: what is sent to it, and who waits for its confirmation."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from quartier.lorawan.gateways.links import LinkError, Opportunity, Order
from quartier.lorawan.gateways.registry import Gateway, Live
from quartier.lorawan.types import TransmitError

_SEND_S: Final = 5.0


class Connection:
    """One Station."""

    def __init__(
        self,
        gateway: Gateway,
        live: Live,
        socket: web.WebSocketResponse,
        *,
        host: str,
        credential: bytes,
    ) -> None:
        self.credential = credential
        self.gateway = gateway
        self.live = live
        self.socket = socket
        self.host = host
        self.configured = False
        self.beacon = False
        self.errors = 0
        self.waiting: dict[int, tuple[asyncio.Future[Opportunity], Order]] = {}
        self.pings: dict[bytes, float] = {}
        self.clock_offered = 0.0
        self._sending = asyncio.Lock()

    async def send(self, text: str) -> None:
        """Send one message. Raises LinkError where the Station does not take it in time."""
        try:
            async with asyncio.timeout(_SEND_S), self._sending:
                await self.socket.send_str(text)
        except (TimeoutError, ConnectionError, RuntimeError):
            raise LinkError(TransmitError.GATEWAY_OFFLINE, "the connection is broken") from None

    def fail(self, detail: str) -> None:
        """Tell whoever waits for a confirmation that none will come."""
        for future, _ in self.waiting.values():
            if not future.done():
                future.set_exception(LinkError(TransmitError.NO_CONFIRMATION, detail))
        self.waiting.clear()
