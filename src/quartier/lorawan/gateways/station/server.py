"""The server that LoRa Basics Stations connect to: discovery, then one WebSocket per Station.

A Station signs in with its token (``Authorization``) or its client certificate. It picks the window itself, confirms
with ``dntxed`` when a frame is on the air, and says nothing about frames that it drops.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.gateways import metrics
from quartier.lorawan.gateways.access import certificate_of, host_of, token_of
from quartier.lorawan.gateways.ids import IdError, parse_eui
from quartier.lorawan.gateways.links import Confirmed, LinkError, Opportunity, Order
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.gateways.registry import GatewayProtocol, Refused, Registry
from quartier.lorawan.gateways.station import messages
from quartier.lorawan.gateways.station.connection import Connection
from quartier.lorawan.gateways.station.messages import (
    Heard,
    Message,
    Other,
    StationError,
    TimeQuestion,
    Transmitted,
    Version,
)
from quartier.lorawan.gateways.station.orders import context, fitting, needs_xtime, used
from quartier.lorawan.gateways.station.router_config import RadioPlan, router_config
from quartier.lorawan.types import Discarded, Eui, Receiver, Reception, TransmitError

log = structlog.get_logger(__name__)

_PROTOCOL: Final = GatewayProtocol.STATION
_PING_S: Final = 20.0
_SILENT_S: Final = 75.0
_MOST_PENDING: Final = 256
_MOST_ERRORS: Final = 100
_CLOCK_OFFER_S: Final = 600.0
_ENDS: Final = frozenset(
    {Discarded.UNKNOWN_GATEWAY, Discarded.GATEWAY_DISABLED, Discarded.WRONG_NETWORK, Discarded.UNAUTHORISED}
)


class StationServer:
    """Implements Link for Basics Stations; ``routes`` goes into an aiohttp application.

    ``public_url`` is how Stations reach this server (``wss://host:port``); empty takes what they connected to.
    ``offer_time`` tells Stations without a GPS the server's time, for frames at a GPS time.
    """

    protocol: GatewayProtocol = _PROTOCOL
    chooses = True
    guard_s = 0.03  # Station's TX_AIM_GAP and some
    late_s = 1.5  # class C: it tries up to ten times, 100 ms apart

    def __init__(
        self,
        registry: Registry,
        rates: Rates,
        receiver: Receiver,
        *,
        plan: RadioPlan | None = None,
        public_url: str = "",
        server_eui: Eui = bytes(7) + b"\x01",
        offer_time: bool = False,
    ) -> None:
        self._registry = registry
        self._rates = rates
        self._receiver = receiver
        self._plan = plan or RadioPlan()
        self._public_url = public_url.rstrip("/")
        self._server_eui = server_eui
        self._offer_time = offer_time
        self._connections: dict[Eui, Connection] = {}
        self._number = secrets.randbelow(1 << 31)
        self._received = metrics.RECEIVED.labels(_PROTOCOL)
        self._closing: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """Discovery and the Stations' WebSocket."""
        return [web.get("/router-info", self._discover), web.get("/router/{eui}", self._connect)]

    async def close(self) -> None:
        """Disconnect all."""
        for connection in list(self._connections.values()):
            connection.fail("the server stops")
            with suppress(ConnectionError, RuntimeError, TimeoutError):
                async with asyncio.timeout(2):
                    await connection.socket.close(code=WSCloseCode.GOING_AWAY)
        await asyncio.gather(*self._closing, return_exceptions=True)

    # Discovery

    async def _discover(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=messages.LARGEST_MESSAGE, timeout=5)
        await socket.prepare(request)
        host = host_of(request)
        eui: Eui | None = None
        try:
            async with asyncio.timeout(10):
                question = await socket.receive()
            if question.type is not WSMsgType.TEXT:
                raise Refused(Discarded.MALFORMED, "router-info: no text")
            try:
                eui = messages.parse_question(question.data)
            except StationError as error:
                self._registry.stranger(host, time.monotonic())
                raise Refused(Discarded.MALFORMED, str(error)) from None
            gateway, _ = self._registry.admit(eui, _PROTOCOL, host, time.monotonic())
            self._registry.sign_in(gateway, token_of(request), certificate_of(request))
            uri = f"{self._public_url or _own_url(request)}/router/{eui.hex()}"
            await socket.send_str(messages.encode(messages.router_info(eui, self._server_eui, uri)))
        except Refused as refused:
            self._registry.refuse(refused, _PROTOCOL, gateway=eui, address=host)
            with suppress(ConnectionError, RuntimeError):
                await socket.send_str(messages.encode({"error": str(refused)}))
        except (TimeoutError, ConnectionError, RuntimeError):
            log.debug("station.discovery_broken", host=host)
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            await socket.close()
        return socket

    # A Station's connection

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        host = host_of(request)
        eui: Eui | None = None
        try:
            try:
                eui = parse_eui(request.match_info["eui"])
            except IdError as error:
                self._registry.stranger(host, time.monotonic())
                raise Refused(Discarded.MALFORMED, str(error)) from None
            gateway, live = self._registry.admit(eui, _PROTOCOL, host, time.monotonic())
            credential = self._registry.sign_in(gateway, token_of(request), certificate_of(request))
        except Refused as refused:
            self._registry.refuse(refused, _PROTOCOL, gateway=eui, address=host)
            if refused.reason is Discarded.RATE_LIMITED:
                raise web.HTTPTooManyRequests from None
            raise web.HTTPForbidden(text=str(refused)) from None
        socket = web.WebSocketResponse(
            max_msg_size=messages.LARGEST_MESSAGE, timeout=5, autoping=False, compress=False
        )
        await socket.prepare(request)
        connection = Connection(gateway, live, socket, host=host, credential=credential)
        self._replace(connection)
        pinging = asyncio.create_task(self._ping(connection))
        try:
            await self._listen(connection)
        finally:
            pinging.cancel()
            connection.fail("the connection broke")
            if self._connections.get(gateway.eui) is connection:
                del self._connections[gateway.eui]
                if live.link is self:
                    live.link = None
        return socket

    def _replace(self, connection: Connection) -> None:
        eui = connection.gateway.eui
        before = self._connections.get(eui)
        self._connections[eui] = connection
        connection.live.link = self
        connection.live.connected_at = datetime.now(UTC)
        if before is not None:
            log.warning("station.replaced", gateway=eui.hex(), before=before.host, now=connection.host)
            before.fail("the Station connected anew")
            self._close_soon(before)

    def _close_soon(self, connection: Connection) -> None:
        async def close() -> None:
            with suppress(ConnectionError, RuntimeError, TimeoutError):
                async with asyncio.timeout(5):
                    await connection.socket.close(code=WSCloseCode.GOING_AWAY, message=b"replaced")

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _listen(self, connection: Connection) -> None:
        socket = connection.socket
        while not socket.closed:
            try:
                async with asyncio.timeout(_SILENT_S):
                    received = await socket.receive()
            except TimeoutError:
                log.info("station.silent", gateway=connection.gateway.eui.hex())
                break
            if received.type is WSMsgType.PONG:
                self._on_pong(connection, bytes(received.data))
                if self._outdated(connection):
                    break
            elif received.type is WSMsgType.PING:
                connection.live.seen_monotonic = time.monotonic()
                await socket.pong(received.data)
            elif received.type is WSMsgType.TEXT:
                if not await self._take(connection, received.data):
                    break
            elif received.type is WSMsgType.BINARY:
                self._ignore(connection, Refused(Discarded.UNSUPPORTED, "binary message"))
            elif received.type is WSMsgType.ERROR:
                problem = received.data
                too_large = (
                    isinstance(problem, WebSocketError) and problem.code == WSCloseCode.MESSAGE_TOO_BIG
                )
                reason = Discarded.TOO_LARGE if too_large else Discarded.MALFORMED
                self._ignore(connection, Refused(reason, "WebSocket message"))
                break
            else:
                break
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            await socket.close()

    async def _take(self, connection: Connection, text: str) -> bool:
        """Handle one message; False ends the connection."""
        now = time.monotonic()
        try:
            gateway, live = self._registry.admit(connection.gateway.eui, _PROTOCOL, connection.host, now)
            if connection.credential not in gateway.credentials:
                raise Refused(Discarded.UNAUTHORISED, "the token or certificate was revoked")
            connection.gateway = gateway
            if self._outdated(connection):
                return False
            live.seen_at = datetime.now(UTC)
            try:
                message = messages.parse(text)
            except StationError as error:
                raise Refused(Discarded.MALFORMED, str(error)) from None
            await self._handle(connection, message, now)
        except Refused as refused:
            self._ignore(connection, refused)
            return refused.reason not in _ENDS and connection.errors < _MOST_ERRORS
        except LinkError:
            return False
        return True

    def _outdated(self, connection: Connection) -> bool:
        """Whether it was configured otherwise than it should be; a Station takes its configuration when it connects."""
        gateway = self._registry.gateways.get(connection.gateway.eui)
        if gateway is None or not connection.configured or gateway.beacon == connection.beacon:
            return False
        log.info("station.configured_anew", gateway=gateway.eui.hex())
        return True

    def _ignore(self, connection: Connection, refused: Refused) -> None:
        if refused.reason in (Discarded.MALFORMED, Discarded.TOO_LARGE):
            connection.errors += 1
        self._registry.refuse(refused, _PROTOCOL, gateway=connection.gateway.eui, address=connection.host)

    async def _handle(self, connection: Connection, message: Message, now: float) -> None:
        match message:
            case Heard():
                self._on_heard(connection, message, now)
                await self._tell_time(connection, message, now)
            case Transmitted():
                self._on_transmitted(connection, message)
            case TimeQuestion():
                answer = messages.time_answer(message, gps_ms(datetime.now(UTC)) * 1000, time.time())
                await connection.send(messages.encode(answer))
            case Version():
                connection.live.describe(
                    version=message.station,
                    model=message.model,
                    status={
                        "package": message.package,
                        "protocol": message.protocol,
                        "features": message.features,
                    },
                )
                config = router_config(
                    self._rates.region, self._plan, now=time.time(), beacons=connection.gateway.beacon
                )
                await connection.send(messages.encode(config))
                connection.configured, connection.beacon = True, connection.gateway.beacon
            case Other():
                raise Refused(Discarded.UNSUPPORTED, f"message {message.kind!r}")

    def _on_heard(self, connection: Connection, heard: Heard, now: float) -> None:
        gateway, region = connection.gateway, self._rates.region
        if heard.data_rate not in region.data_rates:
            raise Refused(Discarded.UNSUPPORTED, f"data rate {heard.data_rate}")
        if not self._rates.heard_frequency(heard.frequency_hz):
            raise Refused(Discarded.UNSUPPORTED, f"{heard.frequency_hz} Hz is not in the region")
        gps_time_ms = heard.gps_time_us // 1000 if heard.gps_time_us else None
        connection.live.heard(heard.frequency_hz, heard.rssi_dbm, heard.snr_db)
        connection.live.gps.tell(gps_time_ms, now)
        self._received.inc()
        self._receiver.receive(
            Reception(
                gateway=gateway.eui,
                phy=heard.phy,
                frequency_hz=heard.frequency_hz,
                data_rate=heard.data_rate,
                received_at=datetime.now(UTC),
                received_monotonic=now,
                rssi_dbm=heard.rssi_dbm,
                snr_db=heard.snr_db,
                context={"xtime": heard.xtime, "rctx": heard.antenna},
                fine_time_ns=heard.fine_time_ns,
                gps_time_ms=gps_time_ms,
                lon=gateway.lon,
                lat=gateway.lat,
                private=gateway.private,
            )
        )

    async def _tell_time(self, connection: Connection, heard: Heard, now: float) -> None:
        if not self._offer_time or heard.gps_time_us:
            return
        if connection.clock_offered and now - connection.clock_offered < _CLOCK_OFFER_S:
            return
        connection.clock_offered = now
        way_us = round((connection.live.rtt_s(0.5) or 0.0) * 500_000)
        offer = messages.time_offer(heard.xtime, gps_ms(datetime.now(UTC)) * 1000 - way_us, time.time())
        await connection.send(messages.encode(offer))

    def _on_transmitted(self, connection: Connection, message: Transmitted) -> None:
        waiting = connection.waiting.pop(message.number, None)
        if waiting is None:
            raise Refused(Discarded.UNSUPPORTED, "dntxed that nobody waits for")
        future, order = waiting
        if not future.done():
            future.set_result(used(order, message))

    def _on_pong(self, connection: Connection, payload: bytes) -> None:
        now = time.monotonic()
        sent_at = connection.pings.pop(payload, None)
        connection.live.seen_monotonic = now
        if sent_at is not None:
            connection.live.measured_rtt(now - sent_at)

    async def _ping(self, connection: Connection) -> None:
        # The first ones quickly, so that the way is measured before the first answer is due.
        wait_s = 0.5
        while not connection.socket.closed:
            payload = secrets.token_bytes(4)
            if len(connection.pings) > 8:
                connection.pings.clear()
            connection.pings[payload] = time.monotonic()
            try:
                await connection.socket.ping(payload)
            except (ConnectionError, RuntimeError):
                return
            await asyncio.sleep(wait_s)
            wait_s = min(_PING_S, wait_s * 1.5)

    # Sending

    async def send(self, order: Order) -> Confirmed:
        """Implements Link.send."""
        connection = self._connections.get(order.gateway.eui)
        if connection is None or not connection.configured:
            raise LinkError(TransmitError.GATEWAY_OFFLINE, "the Station is not connected")
        if len(connection.waiting) >= _MOST_PENDING:
            raise LinkError(TransmitError.QUEUE_FULL, f"{_MOST_PENDING} frames wait for confirmation")
        opportunities = fitting(order.opportunities)
        self._number = (self._number + 1) & 0x7FFF_FFFF
        number = self._number
        message = messages.downlink(
            number=number,
            # A multicast has no device, but Station confirms only what has one.
            device=order.device if order.device and any(order.device) else order.gateway.eui,
            phy=order.phy,
            opportunities=opportunities,
            priority=max(0, min(order.priority, 255)),
            xtime=context(order, "xtime", needed=needs_xtime(order)),
            antenna=context(order, "rctx", needed=False),
            gps_time_us=None if order.gps_time_ms is None else order.gps_time_ms * 1000,
            now=time.time(),
        )
        future: asyncio.Future[Opportunity] = asyncio.get_running_loop().create_future()
        connection.waiting[number] = future, order
        try:
            await connection.send(messages.encode(message))
            return Confirmed(await future)
        finally:
            connection.waiting.pop(number, None)

    def drop(self, eui: Eui) -> None:
        """Implements Link.drop."""
        connection = self._connections.pop(eui, None)
        if connection is not None:
            connection.fail("the gateway was removed")
            self._close_soon(connection)


def _own_url(request: web.Request) -> str:
    scheme = "wss" if request.secure else "ws"
    host, _, port = request.host.rpartition(":")
    if not host or not port.isdecimal():
        # Station wants the port, even the usual one.
        host, port = request.host, "443" if request.secure else "80"
    return f"{scheme}://{host}:{port}"
