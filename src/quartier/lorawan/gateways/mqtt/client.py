"""The client at the broker: listens to the gateways' events, publishes their downlinks, reconnects with back-off.

The broker authenticates the gateways, and only ids that are registered are heard.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import aiomqtt
import structlog

from quartier.lorawan.gateways import metrics
from quartier.lorawan.gateways.ids import IdError, parse_eui
from quartier.lorawan.gateways.links import Confirmed, LinkError, Order
from quartier.lorawan.gateways.mqtt import codec
from quartier.lorawan.gateways.mqtt.codec import Acknowledged, BridgeError, Encoding, Heard
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.gateways.registry import Gateway, GatewayProtocol, Live, Refused, Registry
from quartier.lorawan.types import Discarded, Eui, Receiver, Reception, TransmitError

log = structlog.get_logger(__name__)

_PROTOCOL: Final = GatewayProtocol.MQTT
_MOST_PENDING: Final = 1024
_MOST_QUEUED: Final = 10_000
_SEND_S: Final = 5.0
_LONGEST_BACKOFF_S: Final = 60.0
_ERRORS: Final = {error.value.upper(): error for error in TransmitError}


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttBroker:
    """Where the gateways' messages are. ``prefix`` comes before ``gateway/…`` in topics, such as ``eu868``."""

    host: str
    port: int = 1883
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    prefix: str = "eu868"
    client_id: str = ""


class MqttClient:
    """Implements Link for gateways behind one broker."""

    protocol: GatewayProtocol = _PROTOCOL
    chooses = True
    guard_s = 0.05
    late_s = 0.5

    def __init__(
        self,
        broker: MqttBroker,
        registry: Registry,
        rates: Rates,
        receiver: Receiver,
        *,
        first_backoff_s: float = 1.0,
    ) -> None:
        self._broker = broker
        self._registry = registry
        self._rates = rates
        self._receiver = receiver
        self._first_backoff_s = first_backoff_s
        self._client: aiomqtt.Client | None = None
        self._greeted = False
        self._encodings: dict[Eui, Encoding] = {}
        self._waiting: dict[tuple[Eui, int], tuple[asyncio.Future[Acknowledged], float]] = {}
        self._number = secrets.randbelow(1 << 31)
        self._base = f"{broker.prefix.strip('/')}/gateway" if broker.prefix else "gateway"
        self._received = metrics.RECEIVED.labels(_PROTOCOL)
        self.connected = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Stay connected until ``stop``."""
        backoff_s = self._first_backoff_s
        stopping = asyncio.create_task(stop.wait())
        listening: asyncio.Task[None] | None = None
        try:
            while not stop.is_set():
                listening = asyncio.create_task(self._listen())
                await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    break
                await listening
                backoff_s = self._first_backoff_s if self._greeted else min(2 * backoff_s, _LONGEST_BACKOFF_S)
                with suppress(TimeoutError):
                    # Spread, so that a broker that starts again is not met by all at once.
                    await asyncio.wait_for(
                        asyncio.shield(stopping),
                        backoff_s * random.uniform(0.75, 1.25),  # noqa: S311
                    )
        finally:
            stopping.cancel()
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        broker = self._broker
        self._greeted = False
        try:
            async with aiomqtt.Client(
                broker.host,
                broker.port,
                username=broker.username or None,
                password=broker.password or None,
                identifier=broker.client_id or None,
                protocol=aiomqtt.ProtocolVersion.V311,
                tls_context=broker.tls,
                max_queued_incoming_messages=_MOST_QUEUED,
                timeout=10,
                keepalive=30,
            ) as client:
                await client.subscribe([(f"{self._base}/+/event/+", 0), (f"{self._base}/+/state/conn", 0)])
                self._client = client
                self._greeted = True
                self.connected.set()
                log.info("gateways.mqtt_connected", broker=broker.host, prefix=broker.prefix)
                async for message in client.messages:
                    payload = message.payload
                    if isinstance(payload, bytes | bytearray):
                        self.take(str(message.topic), bytes(payload), retained=message.retain)
        except (aiomqtt.MqttError, OSError, TimeoutError) as error:
            log.warning("gateways.mqtt_broken", broker=broker.host, error=str(error)[:200])
        finally:
            self._client = None
            self.connected.clear()
            self._fail("the connection to the broker broke")

    def _fail(self, detail: str) -> None:
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(LinkError(TransmitError.NO_CONFIRMATION, detail))
        self._waiting.clear()

    def take(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Handle one message; what is wrong with it is counted."""
        now = time.monotonic()
        eui: Eui | None = None
        try:
            parts = topic.removeprefix(f"{self._base}/").split("/")
            if len(parts) != 3:
                raise Refused(Discarded.UNSUPPORTED, f"topic {topic[:80]!r}")
            try:
                eui = parse_eui(parts[0])
            except IdError as error:
                raise Refused(Discarded.MALFORMED, f"topic: {error}") from None
            gateway, live = self._registry.admit(eui, _PROTOCOL, "", now)
            if len(payload) > codec.LARGEST_MESSAGE:
                raise Refused(Discarded.TOO_LARGE, f"{len(payload)} bytes")
            kind = parts[2]
            if retained and kind != "conn":
                raise Refused(Discarded.UNSUPPORTED, "retained: nobody knows how old it is")
            try:
                self._handle(kind, gateway, live, payload, now)
            except BridgeError as error:
                raise Refused(Discarded.MALFORMED, str(error)) from None
        except Refused as refused:
            self._registry.refuse(refused, _PROTOCOL, gateway=eui, address=self._broker.host)

    def _handle(self, kind: str, gateway: Gateway, live: Live, payload: bytes, now: float) -> None:
        match kind:
            case "up":
                heard = codec.parse_up(payload)
                self._same(gateway, heard.gateway)
                self._greet(gateway, live, payload)
                self._on_heard(gateway, live, heard, now)
            case "ack":
                acknowledged = codec.parse_ack(payload)
                self._same(gateway, acknowledged.gateway)
                self._on_acknowledged(live, acknowledged, now)
            case "stats":
                statistics = codec.parse_stats(payload)
                self._same(gateway, statistics.gateway)
                self._greet(gateway, live, payload)
                live.describe(version=statistics.version, status=statistics.counts)
            case "conn":
                told, online = codec.parse_state(payload)
                self._same(gateway, told)
                if online:
                    self._greet(gateway, live, payload)
                elif live.link is self:
                    live.link = None
            case _:
                raise Refused(Discarded.UNSUPPORTED, f"event {kind[:40]!r}")

    def _same(self, gateway: Gateway, told: Eui) -> None:
        if told != gateway.eui:
            raise Refused(Discarded.MALFORMED, "gateway_id: not the one of the topic")

    def _greet(self, gateway: Gateway, live: Live, payload: bytes) -> None:
        live.seen_at = datetime.now(UTC)
        self._encodings[gateway.eui] = codec.encoding_of(payload)
        if live.link is not self:
            live.link = self
            live.connected_at = live.seen_at

    def _on_heard(self, gateway: Gateway, live: Live, heard: Heard, now: float) -> None:
        if not self._rates.heard_frequency(heard.frequency_hz):
            raise Refused(Discarded.UNSUPPORTED, f"{heard.frequency_hz} Hz is not in the region")
        live.heard(heard.frequency_hz, heard.rssi_dbm, heard.snr_db, intact=heard.intact)
        live.gps.tell(heard.gps_time_ms, now)
        if not heard.intact:
            raise Refused(Discarded.CRC)
        data_rate = None if heard.data_rate is None else self._rates.index_of(heard.data_rate)
        if data_rate is None:
            raise Refused(Discarded.UNSUPPORTED, f"modulation {heard.data_rate}")
        self._received.inc()
        self._receiver.receive(
            Reception(
                gateway=gateway.eui,
                phy=heard.phy,
                frequency_hz=heard.frequency_hz,
                data_rate=data_rate,
                received_at=datetime.now(UTC),
                received_monotonic=now,
                rssi_dbm=heard.rssi_dbm,
                snr_db=heard.snr_db,
                context={
                    "context": heard.context.hex(),
                    "board": heard.board,
                    "antenna": heard.antenna,
                },
                channel=heard.channel,
                fine_time_ns=heard.fine_time_ns,
                gps_time_ms=heard.gps_time_ms,
                lon=gateway.lon,
                lat=gateway.lat,
                private=gateway.private,
            )
        )

    def _on_acknowledged(self, live: Live, acknowledged: Acknowledged, now: float) -> None:
        waiting = self._waiting.get((live.eui, acknowledged.number))
        if waiting is None:
            raise Refused(Discarded.UNSUPPORTED, "ack that nobody waits for")
        future, sent_at = waiting
        live.measured_rtt(now - sent_at)
        if not future.done():
            future.set_result(acknowledged)

    async def send(self, order: Order) -> Confirmed:
        """Implements Link.send."""
        client, eui = self._client, order.gateway.eui
        if client is None:
            raise LinkError(TransmitError.GATEWAY_OFFLINE, "the broker is not connected")
        if len(self._waiting) >= _MOST_PENDING:
            raise LinkError(TransmitError.QUEUE_FULL, f"{_MOST_PENDING} frames wait for confirmation")
        timed = order.gps_time_ms is None and order.opportunities[0].delay_s is not None
        if timed and not isinstance(order.context.get("context"), str):
            raise LinkError(TransmitError.NOT_ALLOWED, "the reception has no context of this gateway")
        self._number = (self._number + 1) & 0x7FFF_FFFF
        number = self._number
        payload = codec.downlink(
            order,
            number,
            dict(self._rates.region.data_rates),
            self._encodings.get(eui, Encoding.PROTOBUF),
        )
        future: asyncio.Future[Acknowledged] = asyncio.get_running_loop().create_future()
        self._waiting[eui, number] = future, time.monotonic()
        try:
            await self._publish(client, f"{self._base}/{eui.hex()}/command/down", payload)
            acknowledged = await future
        finally:
            self._waiting.pop((eui, number), None)
        return _confirmed(order, acknowledged)

    async def _publish(self, client: aiomqtt.Client, topic: str, payload: Any) -> None:
        try:
            await client.publish(topic, payload, qos=0, timeout=_SEND_S)
        except aiomqtt.MqttError:
            raise LinkError(TransmitError.GATEWAY_OFFLINE, "the broker is not connected") from None

    def drop(self, eui: Eui) -> None:
        """Implements Link.drop."""
        self._encodings.pop(eui, None)


def _confirmed(order: Order, acknowledged: Acknowledged) -> Confirmed:
    reasons: list[str] = []
    for opportunity, status in zip(order.opportunities, acknowledged.statuses, strict=False):
        if status == "OK":
            return Confirmed(opportunity, "; ".join(reasons))
        if status != "IGNORED":
            reasons.append(status)
    last = reasons[-1] if reasons else "INTERNAL_ERROR"
    raise LinkError(_ERRORS.get(last, TransmitError.NOT_ALLOWED), "; ".join(reasons) or last)
