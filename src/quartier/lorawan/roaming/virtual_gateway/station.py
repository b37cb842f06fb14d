"""A virtual gateway that speaks LoRa Basics Station's LNS protocol (``s2e.c``, ``tc.c`` of Station 2.0.6)."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import aiohttp
import msgspec
import structlog

from quartier.lorawan.frames import FrameError
from quartier.lorawan.frames.phy import Data, JoinRequest, parse
from quartier.lorawan.gateways.ids import dashed, id6
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.roaming.clock import monotonic, now
from quartier.lorawan.roaming.delivery import Delivery
from quartier.lorawan.roaming.peers import Peer, VirtualGateway
from quartier.lorawan.roaming.policy import Shared
from quartier.lorawan.roaming.tls import client_context
from quartier.lorawan.roaming.virtual_gateway.uplinks import Uplinks
from quartier.lorawan.types import TransmitError, TransmitResult, Window

log = structlog.get_logger(__name__)

LARGEST_MESSAGE: Final = 64 * 1024
RETRY_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
MOST_AT_ONCE: Final = 64
_SIGNED: Final = struct.Struct("<i")

_Dr = Annotated[int, msgspec.Meta(ge=0, le=15)]
_Hz = Annotated[int, msgspec.Meta(ge=0, le=10_000_000_000)]


class _Downlink(msgspec.Struct, gc=False):
    pdu: str = msgspec.field(name="pdu")
    diid: int = msgspec.field(name="diid", default=0)
    device_class: int = msgspec.field(name="dC", default=0)
    xtime: int = msgspec.field(name="xtime", default=0)
    dev_eui: str = msgspec.field(name="DevEui", default="")
    rx_delay: Annotated[int, msgspec.Meta(ge=0, le=15)] = msgspec.field(name="RxDelay", default=1)
    rx1_dr: _Dr | None = msgspec.field(name="RX1DR", default=None)
    rx1_freq: _Hz | None = msgspec.field(name="RX1Freq", default=None)
    rx2_dr: _Dr | None = msgspec.field(name="RX2DR", default=None)
    rx2_freq: _Hz | None = msgspec.field(name="RX2Freq", default=None)


class _Kind(msgspec.Struct, gc=False):
    msgtype: str = ""


class _Router(msgspec.Struct, gc=False):
    uri: str = ""
    error: str = ""


class _Config(msgspec.Struct, gc=False):
    """Of ``router_config`` only the filters; an empty one lets everything through."""

    net_ids: list[int] | None = msgspec.field(name="NetID", default=None)
    join_euis: list[list[int]] | None = msgspec.field(name="JoinEui", default=None)


_kind = msgspec.json.Decoder(_Kind)
_router = msgspec.json.Decoder(_Router)
_config = msgspec.json.Decoder(_Config)
_downlink = msgspec.json.Decoder(_Downlink)


class StationLink:
    """One Station of the peer's network server; implements ``Link``."""

    def __init__(self, peer: Peer, gateway: VirtualGateway, delivery: Delivery, rates: Rates) -> None:
        self._peer = peer
        self._gateway = gateway
        self._delivery = delivery
        self._rates = rates
        self._uplinks = Uplinks()
        self._session = secrets.randbits(7) << 48
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._config = _Config()
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin, and stay connected."""
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End."""
        tasks = [task for task in (self._keeping, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connected(self) -> bool:
        """Whether the server has told how it wants us to work, so that it takes frames."""
        return self._socket is not None and not self._socket.closed

    async def offer(self, phy: bytes, shared: Sequence[Shared]) -> bool:
        """Hand over a frame; True if the connection took it (this protocol acknowledges no uplink). Never raises."""
        socket = self._socket
        message = self._message(phy, shared)
        if socket is None or socket.closed or message is None:
            return False
        try:
            async with asyncio.timeout(2):
                await socket.send_str(msgspec.json.encode(message).decode())
        except (TimeoutError, ConnectionError, aiohttp.ClientError):
            return False
        return True

    def _message(self, phy: bytes, shared: Sequence[Shared]) -> Mapping[str, Any] | None:
        try:
            frame = parse(phy)
        except FrameError:
            return None
        if not self._lets_through(frame):
            return None
        uplink = self._uplinks.remember(shared)
        best = shared[0]
        reception = best.reception
        common = {
            "RefTime": reception.received_at.timestamp(),
            "DR": reception.data_rate,
            "Freq": reception.frequency_hz,
            "upinfo": {
                "rctx": 0,
                "xtime": self._session | uplink.at_us,
                "gpstime": 0,
                "fts": -1,
                "rssi": round(best.rssi_dbm) if best.rssi_dbm is not None else -120,
                "snr": best.snr_db if best.snr_db is not None else 0.0,
                "rxtime": now().timestamp(),
            },
        }
        mic = _SIGNED.unpack(phy[-4:])[0]
        if isinstance(frame, Data):
            return {
                "msgtype": "updf",
                "MHdr": phy[0],
                "DevAddr": _SIGNED.unpack(phy[1:5])[0],
                "FCtrl": phy[5],
                "FCnt": frame.frame_counter,
                "FOpts": frame.options.hex().upper(),
                "FPort": frame.port if frame.port is not None else -1,
                "FRMPayload": frame.payload.hex().upper(),
                "MIC": mic,
            } | common
        if isinstance(frame, JoinRequest):
            return {
                "msgtype": "jreq",
                "MHdr": phy[0],
                "JoinEui": dashed(frame.join_eui),
                "DevEui": dashed(frame.dev_eui),
                "DevNonce": frame.dev_nonce,
                "MIC": mic,
            } | common
        # Station hands these over as they are.
        return {"msgtype": "propdf", "FRMPayload": phy.hex().upper()} | common

    def _lets_through(self, frame: object) -> bool:
        """The server's own filter (§ router_config: NetID, JoinEui), which a real Station applies, too."""
        if isinstance(frame, Data) and self._config.net_ids:
            return any(frame.dev_addr >> 25 == net_id & 0x7F for net_id in self._config.net_ids)
        if isinstance(frame, JoinRequest) and self._config.join_euis:
            value = int.from_bytes(frame.join_eui)
            return any(len(r) == 2 and r[0] <= value <= r[1] for r in self._config.join_euis)
        return True

    async def _keep(self) -> None:
        attempt = 0
        while True:
            began = monotonic()
            try:
                await self._connected()
            except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError, ValueError) as error:
                log.info("peer's server cannot be reached", peer=self._peer.key, error=str(error)[:200])
            finally:
                self._socket = None
            attempt = 0 if monotonic() - began > 60 else attempt + 1
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S)) - 1])

    async def _connected(self) -> None:
        """Discover, say who we are, and listen until the connection ends."""
        url = self._gateway.url.rstrip("/")
        tls = client_context(self._peer.tls) if url.startswith(("wss:", "https:")) else None
        headers = {"Authorization": self._gateway.token} if self._gateway.token else {}
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=10),
        ) as session:
            async with session.ws_connect(f"{url}/router-info", max_msg_size=LARGEST_MESSAGE) as discovery:
                await discovery.send_json({"router": id6(self._gateway.eui)})
                answer = _router.decode((await discovery.receive(timeout=10)).data)
            if not answer.uri:
                raise ValueError(f"no router: {answer.error[:100]}")
            async with session.ws_connect(answer.uri, max_msg_size=LARGEST_MESSAGE, heartbeat=30) as socket:
                await socket.send_json(
                    {
                        "msgtype": "version",
                        "station": "2.0.6(quartier)",
                        "firmware": None,
                        "package": None,
                        "model": "virtual",
                        "protocol": 2,
                        "features": "",
                    }
                )
                async for message in socket:
                    if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        self._hear(socket, message.data)

    def _hear(self, socket: aiohttp.ClientWebSocketResponse, content: str | bytes) -> None:
        try:
            kind = _kind.decode(content).msgtype
            if kind == "router_config":
                self._config = _config.decode(content)
                self._socket = socket
            elif kind == "dnmsg" and len(self._tasks) < MOST_AT_ONCE:
                downlink = _downlink.decode(content)
                task = asyncio.get_running_loop().create_task(self._transmit(socket, downlink))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (msgspec.DecodeError, RecursionError) as error:
            log.info("message of a peer's server not understood", peer=self._peer.key, error=str(error)[:200])

    async def _transmit(self, socket: aiohttp.ClientWebSocketResponse, downlink: _Downlink) -> None:
        result = await self._deliver(downlink)
        if not result.ok:
            # A real Station, too, says nothing about what it did not send.
            log.info("peer's downlink was not sent", peer=self._peer.key, reason=str(result.error))
            return
        used = result.window or 0
        second = downlink.rx1_freq is None or used > 0
        message = {
            "msgtype": "dntxed",
            "seqno": downlink.diid,
            "diid": downlink.diid,
            "DR": downlink.rx2_dr if second else downlink.rx1_dr,
            "Freq": downlink.rx2_freq if second else downlink.rx1_freq,
            "DevEui": downlink.dev_eui,
            "rctx": 0,
            "xtime": downlink.xtime + (downlink.rx_delay + used) * 1_000_000,
            "txtime": now().timestamp(),
            "gpstime": 0,
        }
        try:
            await socket.send_str(msgspec.json.encode(message).decode())
        except (ConnectionError, aiohttp.ClientError):
            return

    async def _deliver(self, downlink: _Downlink) -> TransmitResult:
        refused = TransmitResult(id=0, ok=False, error=TransmitError.TX_FREQ)
        try:
            phy = bytes.fromhex(downlink.pdu)
        except ValueError:
            return refused
        class_c = downlink.device_class == 2
        delay_s = float(downlink.rx_delay or 1)
        windows = []
        if downlink.rx1_freq and downlink.rx1_dr is not None and not class_c:
            windows.append(Window(frequency_hz=downlink.rx1_freq, data_rate=downlink.rx1_dr, delay_s=delay_s))
        if downlink.rx2_freq and downlink.rx2_dr is not None:
            windows.append(
                Window(
                    frequency_hz=downlink.rx2_freq,
                    data_rate=downlink.rx2_dr,
                    delay_s=None if class_c else delay_s + 1,
                )
            )
        if not windows or not 5 <= len(phy) <= 255:
            return refused
        if class_c:
            uplink = self._uplinks.of_device(int.from_bytes(phy[1:5], "little"))
        else:
            uplink = self._uplinks.by_time(downlink.xtime & ((1 << 48) - 1))
        if uplink is None:
            return TransmitResult(id=0, ok=False, error=TransmitError.TOO_LATE)
        return await self._delivery.by_gateway(self._peer, phy, tuple(windows), uplink.shared)
