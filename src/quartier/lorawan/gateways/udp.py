"""The server for packet forwarders: GWMP by UDP.

The protocol authenticates nobody. What protects it: only registered gateways, on wish only from their networks, a rate
per gateway and per source address, and confirmations only from where the frame was sent to. Everything happens in the
callback of the datagram: no task per packet.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

import structlog

from quartier.engines.sockets import RECEIVE_BYTES, dropped, enlarge
from quartier.lorawan.gateways import gwmp, metrics
from quartier.lorawan.gateways.gwmp import GwmpError, Heard, Kind
from quartier.lorawan.gateways.links import Confirmed, LinkError, Order
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.gateways.registry import Gateway, GatewayProtocol, Live, Refused, Registry
from quartier.lorawan.types import Discarded, Eui, Receiver, Reception, TransmitError

log = structlog.get_logger(__name__)

_Address = tuple[Any, ...]
_PROTOCOL: Final = GatewayProtocol.GWMP
_MOST_PENDING: Final = 4096
_ERRORS: Final = {error.value.upper(): error for error in TransmitError}
# Field of "stat" and what it is called in the gateway's status.
_STATUS: Final = {
    "rxnb": "received",
    "rxok": "received_ok",
    "rxfw": "forwarded",
    "ackr": "acknowledged_percent",
    "dwnb": "downlinks",
    "txnb": "transmitted",
    "temp": "temperature_c",
    "lati": "lat",
    "long": "lon",
    "alti": "altitude_m",
}
_PLACE: Final = ("lat", "lon", "altitude_m")


class UdpServer(asyncio.DatagramProtocol):
    """Implements Link for packet forwarders. ``receiver`` gets what they hear."""

    protocol: GatewayProtocol = _PROTOCOL
    chooses = False
    guard_s = 0.05  # Semtech's forwarder wants a frame some 40 ms before its time
    late_s = 0.0

    def __init__(self, registry: Registry, rates: Rates, receiver: Receiver) -> None:
        self._registry = registry
        self._rates = rates
        self._receiver = receiver
        self._transport: asyncio.DatagramTransport | None = None
        self._pull: dict[Eui, _Address] = {}
        self._waiting: dict[tuple[Eui, bytes], tuple[asyncio.Future[gwmp.Acknowledgement], str, float]] = {}
        self._token = secrets.randbelow(1 << 16)
        self._received = metrics.RECEIVED.labels(_PROTOCOL)
        self._drops = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; the port (useful where ``port`` is 0). Raises OSError."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        granted = enlarge(transport.get_extra_info("socket"))
        if granted < RECEIVE_BYTES:
            log.warning("gwmp.small_buffer", granted_bytes=granted, wanted_bytes=RECEIVE_BYTES)
        return int(transport.get_extra_info("sockname")[1])

    def count_dropped(self) -> None:
        """Bring the counter of what the kernel threw away up to date."""
        if self._transport is None or self._transport.is_closing():
            return
        drops = dropped(self._transport.get_extra_info("socket"))
        if drops is not None:
            # The kernel's counter has 32 bits.
            metrics.DROPPED.inc((drops - self._drops) & 0xFFFF_FFFF)
            self._drops = drops

    def close(self) -> None:
        """Stop listening; whoever waits for a confirmation hears that the gateway is gone."""
        for future, _, _ in self._waiting.values():
            if not future.done():
                future.set_exception(LinkError(TransmitError.GATEWAY_OFFLINE, "the server stops"))
        self._waiting.clear()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def error_received(self, exc: Exception) -> None:
        # An ICMP message for something sent earlier; the gateway counts as gone when it stays silent.
        log.debug("gwmp.error", error=str(exc))

    def datagram_received(self, data: bytes, addr: _Address) -> None:
        now = time.monotonic()
        eui: Eui | None = None
        try:
            try:
                kind, token, gateway_eui, body = gwmp.parse(data)
            except GwmpError as error:
                self._registry.stranger(addr[0], now)
                raise Refused(Discarded.MALFORMED, str(error)) from None
            if kind not in gwmp.FROM_GATEWAY:
                self._registry.stranger(addr[0], now)
                raise Refused(Discarded.MALFORMED, "identifier: only servers send this")
            eui = gateway_eui
            gateway, live = self._registry.admit(eui, _PROTOCOL, addr[0], now)
            if kind is Kind.PUSH_DATA:
                self._answer(b"\x02%b\x01" % token, addr)
                self._on_push(gateway, live, body, now, addr)
            elif kind is Kind.PULL_DATA:
                self._answer(gwmp.header(Kind.PULL_ACK, token), addr)
                self._on_pull(live, addr)
            else:
                self._on_acknowledgement(live, token, body, addr, now)
        except Refused as refused:
            self._registry.refuse(refused, _PROTOCOL, gateway=eui, address=str(addr[0]))

    def _answer(self, datagram: bytes, addr: _Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram, addr)

    def _on_push(self, gateway: Gateway, live: Live, body: bytes, now: float, addr: _Address) -> None:
        try:
            push = gwmp.parse_push(body)
        except GwmpError as error:
            raise Refused(Discarded.MALFORMED, str(error)) from None
        at = live.seen_at = datetime.now(UTC)
        if push.status is not None:
            _note_status(gateway, live, push.status, now)
        for heard in push.heard:
            try:
                self._on_heard(gateway, live, heard, at, now)
            except Refused as refused:
                self._registry.refuse(
                    refused,
                    _PROTOCOL,
                    gateway=gateway.eui,
                    address=str(addr[0]),
                    frequency_hz=heard.frequency_hz,
                )
        for detail in push.errors:
            self._registry.refuse(
                Refused(Discarded.MALFORMED, detail), _PROTOCOL, gateway=gateway.eui, address=str(addr[0])
            )

    def _on_heard(self, gateway: Gateway, live: Live, heard: Heard, at: datetime, now: float) -> None:
        if not self._rates.heard_frequency(heard.frequency_hz):
            raise Refused(Discarded.UNSUPPORTED, f"{heard.frequency_hz} Hz is not in the region")
        intact = heard.crc == 1
        live.heard(heard.frequency_hz, heard.rssi_dbm, heard.snr_db, intact=intact)
        # Older forwarders know only "time", often by their own clock, and cannot be told "tmms".
        live.gps.tell(heard.gps_time_ms, now)
        if not intact:
            raise Refused(Discarded.CRC)
        data_rate = self._rates.index(heard.data_rate)
        if data_rate is None:
            raise Refused(Discarded.UNSUPPORTED, f"data rate {heard.data_rate}")
        self._received.inc()
        self._receiver.receive(
            Reception(
                gateway=gateway.eui,
                phy=heard.phy,
                frequency_hz=heard.frequency_hz,
                data_rate=data_rate,
                received_at=at,
                received_monotonic=now,
                rssi_dbm=heard.rssi_dbm,
                snr_db=heard.snr_db,
                context={"tmst": heard.timestamp_us},
                channel=heard.channel,
                fine_time_ns=heard.fine_time_ns,
                gps_time_ms=heard.gps_time_ms,
                lon=gateway.lon,
                lat=gateway.lat,
                private=gateway.private,
            )
        )

    def _on_pull(self, live: Live, addr: _Address) -> None:
        live.seen_at = datetime.now(UTC)
        if live.link is not self:
            live.link = self
            live.connected_at = live.seen_at
        self._pull[live.eui] = addr

    def _on_acknowledgement(self, live: Live, token: bytes, body: bytes, addr: _Address, now: float) -> None:
        waiting = self._waiting.get((live.eui, token))
        if waiting is None:
            raise Refused(Discarded.UNSUPPORTED, "TX_ACK that nobody waits for")
        future, host, sent_at = waiting
        if addr[0] != host:
            raise Refused(Discarded.WRONG_NETWORK, "TX_ACK from another address than the frame went to")
        try:
            acknowledgement = gwmp.parse_acknowledgement(body)
        except GwmpError as error:
            raise Refused(Discarded.MALFORMED, str(error)) from None
        live.measured_rtt(now - sent_at)
        if not future.done():
            future.set_result(acknowledgement)

    async def send(self, order: Order) -> Confirmed:
        """Implements Link.send, with the first opportunity."""
        eui = order.gateway.eui
        addr = self._pull.get(eui)
        if addr is None or self._transport is None or self._transport.is_closing():
            raise LinkError(TransmitError.GATEWAY_OFFLINE, "it has not asked for frames")
        if len(self._waiting) >= _MOST_PENDING:
            raise LinkError(TransmitError.QUEUE_FULL, f"{_MOST_PENDING} frames wait for confirmation")
        opportunity = order.opportunities[0]
        spelling = self._rates.spelling(opportunity.data_rate)
        if spelling is None:
            raise LinkError(TransmitError.TX_FREQ, f"data rate {opportunity.data_rate} cannot be sent")
        token = self._next_token(eui)
        datagram = gwmp.pull_response(
            token,
            phy=order.phy,
            frequency_hz=opportunity.frequency_hz,
            data_rate=spelling,
            power_dbm=int(opportunity.eirp_dbm - order.gateway.antenna_gain_db),
            timestamp_us=_timestamp(order, opportunity.delay_s),
            gps_time_ms=order.gps_time_ms,
        )
        future: asyncio.Future[gwmp.Acknowledgement] = asyncio.get_running_loop().create_future()
        self._waiting[eui, token] = future, addr[0], time.monotonic()
        try:
            self._transport.sendto(datagram, addr)
            acknowledgement = await future
        finally:
            self._waiting.pop((eui, token), None)
        if acknowledgement.error:
            raise LinkError(
                _ERRORS.get(acknowledgement.error, TransmitError.NOT_ALLOWED), acknowledgement.error
            )
        if acknowledgement.warning:
            power = acknowledgement.power_dbm
            told = "" if power is None else f": {power:g} dBm"
            return Confirmed(opportunity, f"{acknowledgement.warning}{told}")
        return Confirmed(opportunity)

    def _next_token(self, eui: Eui) -> bytes:
        while True:
            self._token = (self._token + 1) & 0xFFFF
            token = self._token.to_bytes(2)
            if (eui, token) not in self._waiting:
                return token

    def drop(self, eui: Eui) -> None:
        """Implements Link.drop: nothing is sent there any more."""
        self._pull.pop(eui, None)


def _timestamp(order: Order, delay_s: float | None) -> int | None:
    if order.gps_time_ms is not None or delay_s is None:
        return None
    counter = order.context.get("tmst")
    if not isinstance(counter, int):
        raise LinkError(TransmitError.NOT_ALLOWED, "the reception has no time stamp of this gateway")
    # The counter has 32 bits and wraps every 71 minutes.
    return (counter + round(delay_s * 1_000_000)) & 0xFFFF_FFFF


def _note_status(gateway: Gateway, live: Live, status: Mapping[str, Any], now: float) -> None:
    known = {
        name: value
        for field, name in _STATUS.items()
        if isinstance(value := status.get(field), int | float) and not isinstance(value, bool)
    }
    if "lat" in known and "lon" in known:
        live.gps.tell_position(now)
    if gateway.private:
        for name in _PLACE:
            known.pop(name, None)
    version = status.get("pfrm") or status.get("desc") or ""
    live.describe(version=version if isinstance(version, str) else "", status=known)
