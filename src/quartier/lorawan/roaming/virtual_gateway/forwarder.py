"""A virtual gateway that speaks GWMP, as a Semtech packet forwarder does (``PROTOCOL.md`` of sx1302_hal, 1.6)."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog

from quartier.lorawan.gateways.gwmp import GwmpError, Kind, header, parse
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.roaming.clock import monotonic
from quartier.lorawan.roaming.delivery import Delivery
from quartier.lorawan.roaming.peers import Peer, VirtualGateway
from quartier.lorawan.roaming.policy import Shared
from quartier.lorawan.roaming.virtual_gateway.uplinks import Uplinks
from quartier.lorawan.types import TransmitError, TransmitResult, Window

log = structlog.get_logger(__name__)

KEEPALIVE_S: Final = 10.0
ACK_S: Final = 1.0
ATTEMPTS: Final = 2
MOST_AT_ONCE: Final = 64
_OWN_ERRORS: Final = {
    TransmitError.TOO_EARLY,
    TransmitError.COLLISION_PACKET,
    TransmitError.COLLISION_BEACON,
    TransmitError.TX_FREQ,
    TransmitError.TX_POWER,
    TransmitError.GPS_UNLOCKED,
}
"""GWMP has words for these; everything else is, for the server, a frame that did not go out in time."""


class _Txpk(msgspec.Struct, gc=False):
    data: str
    freq: float
    datr: str | int
    imme: bool = False
    tmst: int | None = None
    tmms: int | None = None
    powe: float | None = None


class _PullResp(msgspec.Struct, gc=False):
    txpk: _Txpk


_decoder = msgspec.json.Decoder(_PullResp, strict=False)


class ForwarderLink(asyncio.DatagramProtocol):
    """One gateway of the peer's network server; implements ``Link``."""

    def __init__(self, peer: Peer, gateway: VirtualGateway, delivery: Delivery, rates: Rates) -> None:
        self._peer = peer
        self._gateway = gateway
        self._delivery = delivery
        self._rates = rates
        self._uplinks = Uplinks()
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._acknowledged_s = -3 * KEEPALIVE_S

    async def open(self) -> None:
        """Begin, and keep the way back open."""
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End."""
        tasks = [task for task in (self._keeping, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    @property
    def connected(self) -> bool:
        """Whether the server has acknowledged something lately."""
        return monotonic() - self._acknowledged_s < 3 * KEEPALIVE_S

    async def offer(self, phy: bytes, shared: Sequence[Shared]) -> bool:
        """Hand over a frame; True if the server acknowledged the datagram. Never raises."""
        uplink = self._uplinks.remember(shared)
        best = shared[0]
        reception = best.reception
        spelling = self._rates.spelling(reception.data_rate)
        if spelling is None:
            return False
        body = {
            "rxpk": [
                {
                    "tmst": uplink.at_us % (1 << 32),
                    "time": reception.received_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                    "chan": 0,
                    "rfch": 0,
                    "freq": reception.frequency_hz / 1_000_000,
                    "stat": 1,
                    "modu": "LORA" if isinstance(spelling, str) else "FSK",
                    "datr": spelling,
                    "codr": "4/5",
                    "rssi": round(best.rssi_dbm) if best.rssi_dbm is not None else -120,
                    "lsnr": best.snr_db if best.snr_db is not None else 0.0,
                    "size": len(phy),
                    "data": b64encode(phy).decode(),
                }
            ]
        }
        return await self._send(Kind.PUSH_DATA, msgspec.json.encode(body))

    async def _send(self, kind: Kind, body: bytes = b"") -> bool:
        """Send and wait for the acknowledgement, twice at most: UDP loses datagrams."""
        for _ in range(ATTEMPTS):
            transport = self._transport
            if transport is None or transport.is_closing():
                return False
            token = secrets.token_bytes(2)
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            key = token + bytes([Kind.PUSH_ACK if kind is Kind.PUSH_DATA else Kind.PULL_ACK])
            self._waiting[key] = future
            transport.sendto(header(kind, token, self._gateway.eui) + body)
            try:
                async with asyncio.timeout(ACK_S):
                    await future
                return True
            except TimeoutError:
                pass
            finally:
                self._waiting.pop(key, None)
        return False

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._transport is None or self._transport.is_closing():
                    await loop.create_datagram_endpoint(
                        lambda: self, remote_addr=(self._gateway.host, self._gateway.port)
                    )
                if not await self._send(Kind.PULL_DATA):
                    log.info("peer's server does not answer its gateway", peer=self._peer.key)
            except OSError as error:
                log.info("peer's server cannot be reached", peer=self._peer.key, error=str(error))
            await asyncio.sleep(KEEPALIVE_S)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.DatagramTransport):
            self._transport = transport

    def error_received(self, exc: Exception) -> None:
        # Nobody listens there at the moment; the next datagram will tell.
        log.debug("virtual gateway", peer=self._peer.key, error=str(exc))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            kind, token, _, body = parse(data)
        except GwmpError:
            return
        if kind in (Kind.PUSH_ACK, Kind.PULL_ACK):
            self._acknowledged_s = monotonic()
            future = self._waiting.get(token + bytes([kind]))
            if future is not None and not future.done():
                future.set_result(None)
        elif kind is Kind.PULL_RESP and len(self._tasks) < MOST_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._transmit(token, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _transmit(self, token: bytes, body: bytes) -> None:
        result = await self._deliver(body)
        error = "NONE"
        if not result.ok:
            reason = result.error or TransmitError.TOO_LATE
            error = (reason if reason in _OWN_ERRORS else TransmitError.TOO_LATE).value.upper()
            log.info(
                "peer's downlink was not sent", peer=self._peer.key, reason=str(reason), detail=result.detail
            )
        if self._transport is not None and not self._transport.is_closing():
            answer = msgspec.json.encode({"txpk_ack": {"error": error}})
            self._transport.sendto(header(Kind.TX_ACK, token, self._gateway.eui) + answer)

    async def _deliver(self, body: bytes) -> TransmitResult:
        refused = TransmitResult(id=0, ok=False, error=TransmitError.TX_FREQ)
        try:
            txpk = _decoder.decode(body).txpk
            phy = b64decode(txpk.data + "=" * (-len(txpk.data) % 4), validate=True)
        except (msgspec.DecodeError, Base64Error, ValueError, RecursionError):
            return refused
        spelling = txpk.datr
        if isinstance(spelling, str) and spelling.isdecimal():
            spelling = int(spelling)
        data_rate = self._rates.index(spelling)
        if data_rate is None or not 5 <= len(phy) <= 255 or not 1 <= txpk.freq <= 10_000:
            return refused
        if not txpk.imme and txpk.tmst is None and txpk.tmms is not None:
            # A GPS time (class B) is not passed on, and must not become "at once".
            return TransmitResult(id=0, ok=False, error=TransmitError.GPS_UNLOCKED)
        if txpk.imme or txpk.tmst is None:
            uplink, delay_s = self._uplinks.of_device(int.from_bytes(phy[1:5], "little")), None
        else:
            found = self._uplinks.answered_at(txpk.tmst)
            uplink, delay_s = found if found is not None else (None, None)
        if uplink is None:
            return TransmitResult(id=0, ok=False, error=TransmitError.TOO_LATE, detail="no uplink fits")
        window = Window(
            frequency_hz=round(txpk.freq * 10_000) * 100,
            data_rate=data_rate,
            delay_s=float(delay_s) if delay_s is not None else None,
            power_dbm=txpk.powe,
        )
        return await self._delivery.by_gateway(self._peer, phy, (window,), uplink.shared)
