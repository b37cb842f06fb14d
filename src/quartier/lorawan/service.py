"""Everything that the process ``radio`` runs: gateways, network server, roaming, and what is written beside them.

Listeners open when the first gateway that needs them is registered, so that an installation that uses one protocol
does not offer the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import nats.errors
import psycopg
import structlog
from aiohttp import web

from quartier.cities.secrets import SecretError
from quartier.config import Config
from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.intake.conveyor import Conveyor
from quartier.lorawan import metrics
from quartier.lorawan.alone import Alone
from quartier.lorawan.frames.netid import Prefix
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.gateways.cups import CupsServer
from quartier.lorawan.gateways.mqtt.client import MqttBroker, MqttClient
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.gateways.registry import GatewayProtocol, Refusal, Registry
from quartier.lorawan.gateways.station.server import StationServer
from quartier.lorawan.gateways.transmit import GatewayTransmitter
from quartier.lorawan.gateways.udp import UdpServer
from quartier.lorawan.network import Network
from quartier.lorawan.network.join import Addresses
from quartier.lorawan.roaming.client import Ourselves
from quartier.lorawan.roaming.service import Listening, Roaming
from quartier.lorawan.roaming.tls import server_context
from quartier.lorawan.store import Line, Store
from quartier.lorawan.store.frames import SUBJECT as FRAMES
from quartier.lorawan.store.frames import Heard
from quartier.lorawan.types import Eui, Transmitter

log = structlog.get_logger(__name__)

CHANGED: Final = "lorawan.changed"
"""NATS subject by which a program tells that something was changed; pages do so by PostgreSQL's NOTIFY."""
_CHANNEL: Final = "lorawan_changed"
_RELOAD_S: Final = 60.0
_TELL_S: Final = 0.25
_WRITE_S: Final = 1.0
_SEEN_S: Final = 20.0
_RETENTION_S: Final = 3600.0
_SHUTDOWN_S: Final = 2.0
_AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)


class Service:
    """The radio of one installation."""

    def __init__(self, pool: Pool, bus: Bus, settings: Config) -> None:
        self._pool = pool
        self._bus = bus
        self._settings = settings
        self._changed = asyncio.Event()
        municipalities = [one.strip() for one in settings.radio_municipalities.split(",") if one.strip()]
        self._alone = Alone(pool, municipalities)
        self.store = Store(pool, municipalities)
        self.registry = Registry(self.store.gateways, on_refusal=self._refused)
        self._rates = Rates(EU868)
        self.transmitter = GatewayTransmitter(self.registry, self._rates)
        self.transmitters: dict[str, Transmitter] = {"": self.transmitter}
        self.roaming = Roaming(
            pool=pool,
            store=self.store,
            transmitters=self.transmitters,
            ourselves=Ourselves(net_id=settings.radio_net_id.upper()),
            secret=settings.secret(),
            listening=self._listening(),
            municipalities=municipalities,
        )
        self.network: Network | None = None
        self._open: dict[GatewayProtocol, Callable[[], Awaitable[None]]] = {}
        self._running: set[GatewayProtocol] = set()
        self._udp: UdpServer | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Wait until no other process serves our municipalities, then work until ``stop``.

        Raises psycopg errors and SecretError where it cannot begin, TakenOver where another process went on without us.
        """
        if not await self._alone.wait(stop):
            return
        try:
            await self._run(stop)
        finally:
            await self._alone.release()

    async def _run(self, stop: asyncio.Event) -> None:
        began = time.monotonic()
        await self.store.start()
        # What is in memory now stays: looking at it again and again would stop everything else meanwhile.
        gc.collect()
        gc.freeze()
        log.info(
            "radio.loaded", devices=len(self.store.directory), seconds=round(time.monotonic() - began, 2)
        )
        async with Conveyor(self._bus) as conveyor:
            self.network = Network(
                self.store,
                self.transmitters,
                self.roaming,
                conveyor,
                addresses=_addresses(self._settings),
                window_of=self.roaming.window_of,
            )
            self.roaming.serve(self.network)
            await self.roaming.start()
            subscription = await self._bus.nc.subscribe(CHANGED, cb=self._on_changed)
            try:
                await self._together(stop, self.network)
            finally:
                stop.set()
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
                await self._close_listeners()
                await self.store.close()

    async def _together(self, stop: asyncio.Event, network: Network) -> None:
        store = self.store

        async def stopping() -> None:
            await stop.wait()
            self._changed.set()
            network.wake()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(network.run(stop))
            tasks.create_task(self.roaming.run(stop))
            tasks.create_task(self._alone.keep(stop))
            tasks.create_task(self._follow(stop))
            tasks.create_task(self._listen(stop))
            tasks.create_task(_every(stop, _TELL_S, self._tell))
            tasks.create_task(_every(stop, _TELL_S, store.queue.write))
            tasks.create_task(_every(stop, _WRITE_S, lambda: store.frames.write(store.municipality_ids)))
            tasks.create_task(_every(stop, _SEEN_S, self._write_gateways))
            tasks.create_task(
                _every(stop, _RETENTION_S, lambda: store.frames.keep(self._settings.radio_frames_days))
            )
            tasks.create_task(stopping())

    # Changes

    async def _on_changed(self, _: Any) -> None:
        self._changed.set()

    async def _follow(self, stop: asyncio.Event) -> None:
        """Take in changes when told, and every minute; open listeners for gateways that need them."""
        while not stop.is_set():
            await self._open_listeners(stop)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _RELOAD_S)
            self._changed.clear()
            if stop.is_set():
                return
            try:
                gateways, _ = await self.store.reload()
                self.registry.forget(gateways)
                await self.roaming.reload()
            except (*_AWAY, SecretError) as error:
                log.warning("radio.reload_failed", error=str(error).strip())
                await asyncio.sleep(1)
            if self.network is not None:
                self.network.wake()

    async def _listen(self, stop: asyncio.Event) -> None:
        """Hear of what pages commit."""
        while not stop.is_set():
            try:
                async with self._pool.connection() as connection:
                    try:
                        await connection.execute(f"LISTEN {_CHANNEL}")
                        self._changed.set()  # what was told while nobody listened is unknown
                        while not stop.is_set():
                            async for _ in connection.notifies(timeout=1.0, stop_after=1):
                                self._changed.set()
                    finally:
                        with contextlib.suppress(psycopg.Error):
                            await connection.execute(f"UNLISTEN {_CHANNEL}")
            except _AWAY as error:
                log.warning("radio.listen_retry", error=str(error).strip())
                await asyncio.sleep(1)

    # Listeners

    async def _open_listeners(self, stop: asyncio.Event) -> None:
        network = self.network
        if network is None:
            return
        wanted = self.store.gateways.protocols()
        opening = {
            GatewayProtocol.GWMP: self._open_udp,
            GatewayProtocol.STATION: self._open_station,
            GatewayProtocol.MQTT: self._open_mqtt,
        }
        for protocol in wanted - self._running:
            try:
                await opening[protocol](network, stop)
            except OSError as error:
                log.error("radio.cannot_listen", protocol=protocol, error=str(error))
            else:
                self._running.add(protocol)

    async def _open_udp(self, network: Network, _: asyncio.Event) -> None:
        server = UdpServer(self.registry, self._rates, network)
        port = await server.start(self._settings.radio_host, self._settings.radio_udp_port)
        log.info("radio.listens", protocol="gwmp", host=self._settings.radio_host, port=port)

        async def close() -> None:
            server.close()

        self._udp = server
        self._open[GatewayProtocol.GWMP] = close

    async def _open_station(self, network: Network, _: asyncio.Event) -> None:
        settings = self._settings
        stations = StationServer(self.registry, self._rates, network, public_url=settings.station_url)
        cups = CupsServer(self.registry, self.store.gateways)
        application = web.Application(client_max_size=64 * 1024)
        application.add_routes([*stations.routes(), *cups.routes()])
        # A Station that fetches an update asks again; waiting for a slow one would hold up the end of the process.
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.TCPSite(
                runner, settings.radio_host, settings.station_port, ssl_context=_station_tls(settings)
            ).start()
        except BaseException:
            await runner.cleanup()
            raise
        log.info("radio.listens", protocol="station", host=settings.radio_host, port=settings.station_port)

        async def close() -> None:
            await stations.close()
            await runner.cleanup()

        self._open[GatewayProtocol.STATION] = close

    async def _open_mqtt(self, network: Network, stop: asyncio.Event) -> None:
        client = MqttClient(_broker(self._settings), self.registry, self._rates, network)
        task = asyncio.create_task(client.run(stop))

        async def close() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._open[GatewayProtocol.MQTT] = close

    async def _close_listeners(self) -> None:
        for close in self._open.values():
            await close()
        self._open.clear()

    def _listening(self) -> Listening | None:
        settings = self._settings
        if not settings.roaming_port:
            return None
        tls: ssl.SSLContext | None = None
        if settings.roaming_certificate:
            tls = server_context(
                certificate=Path(settings.roaming_certificate),
                key=Path(settings.roaming_key),
                authorities=Path(settings.roaming_authority).read_text()
                if settings.roaming_authority
                else "",
            )
        return Listening(host=settings.radio_host, port=settings.roaming_port, tls=tls)

    # What is told and written

    def _refused(self, refusal: Refusal) -> None:
        """A gateway's message that was not taken stands in the frame log, too."""
        gateway = self.store.gateways.get(refusal.gateway) if refusal.gateway else None
        self.store.frames.add(
            Line(
                at=refusal.at,
                municipality=gateway.municipality if gateway else "",
                direction="up",
                kind="gateway",
                outcome=refusal.reason,
                size=0,
                data_rate=0,
                frequency_hz=refusal.frequency_hz or 0,
                gateways=[Heard(eui=refusal.gateway.hex())] if refusal.gateway else [],
                detail={"detail": refusal.detail, "protocol": refusal.protocol, "address": refusal.address},
            )
        )

    async def _tell(self) -> None:
        network = self.network
        metrics.OPEN_FRAMES.set(network.open_frames if network else 0)
        if self._udp is not None:
            self._udp.count_dropped()
        for municipality, lines in self.store.frames.take_live().items():
            with contextlib.suppress(nats.errors.Error):
                await self._bus.nc.publish(f"{FRAMES}.{municipality or '-'}", lines)

    async def _write_gateways(self) -> None:
        self.registry.count_connected()
        await self.store.frames.write_hours(self.store.gateways.id_of)
        seen: list[tuple[Eui, datetime | None, dict[str, Any]]] = []
        for one in self.registry.snapshot(self.transmitter.duty_cycle):
            status = {
                "online": one.online,
                "address": one.address,
                "address_changes": one.address_changes,
                "version": one.version,
                "model": one.model,
                "connected_at": one.connected_at,
                "told": one.status,
                "rtt_median_s": one.rtt_median_s,
                "rtt_90_s": one.rtt_90_s,
                "noise_floor_dbm": one.noise_floor_dbm,
                "channels": {str(hz): [c.intact, c.broken] for hz, c in one.channels.items()},
                "transmitted": one.transmitted,
                "failed": {str(error): n for error, n in one.failed.items()},
                "refused": {str(reason): n for reason, n in one.refused.items()},
                "duty_cycle": dict(one.duty_cycle),
                "gps": one.gps,
            }
            seen.append((one.eui, one.seen_at, status))
        await self.store.gateways.write(seen)


def _addresses(settings: Config) -> Addresses:
    blocks = [Prefix.parse(text) for text in settings.radio_dev_addrs.split(",") if text.strip()]
    return Addresses.of(int(settings.radio_net_id, 16), blocks)


def _station_tls(settings: Config) -> ssl.SSLContext | None:
    if not settings.station_certificate:
        return None
    authorities = Path(settings.station_authority).read_text() if settings.station_authority else ""
    return server_context(
        certificate=Path(settings.station_certificate),
        key=Path(settings.station_key),
        authorities=authorities,
    )


def _broker(settings: Config) -> MqttBroker:
    """Where gateways behind a bridge are: a broker of their own, or ours, which we enter as the inner user."""
    parts = urlsplit(settings.radio_mqtt_url or settings.nats_url)
    own = not settings.radio_mqtt_url
    tls = ssl.create_default_context() if parts.scheme == "mqtts" else None
    host = settings.mqtt_host if own else parts.hostname or "localhost"
    return MqttBroker(
        host="127.0.0.1" if host in ("0.0.0.0", "::", "") else host,  # noqa: S104 (compared, not bound)
        port=settings.mqtt_port if own else parts.port or (8883 if tls else 1883),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=tls,
        prefix=settings.radio_mqtt_prefix,
        client_id="quartier-radio",
    )


async def _every(stop: asyncio.Event, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do ``work`` every so often; what fails because the database is away is done next time."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)
        try:
            await work()
        except _AWAY as error:
            log.warning("radio.write_failed", error=str(error).strip() or type(error).__name__)
        except psycopg.Error:
            log.exception("radio.write_refused")
