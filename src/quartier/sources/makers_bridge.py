"""From the makers' MQTT topics into the inbox: ``quartier/v1/<device>``, one persistent session for all of them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.intake.conveyor import Conveyor
from quartier.intake.inbox import RawMessage
from quartier.sources.connect import mqtt
from quartier.sources.connect.mqtt_session import Broker, Delivery, MqttError, MqttSession
from quartier.sources.connect.report import Report, SourceConfig, pause
from quartier.sources.connectors import delay_s
from quartier.sources.domain.makers import SOURCE_KEY
from quartier.sources.mqtt_door import MAKER_TOPIC
from quartier.sources.quartier_json import DEVICE_HEADER

log = structlog.get_logger(__name__)

_REMEMBERED_S: Final = 60.0
_UNKNOWN: Final = "unknown"


class Bridge:
    """Keeps the session and finds out which city a device belongs to."""

    def __init__(self, pool: Pool, bus: Bus, *, own_broker: mqtt.OwnBroker | None = None) -> None:
        self._pool = pool
        self._bus = bus
        self._own = own_broker or mqtt.own_broker()
        self._cities: dict[str, tuple[float, str]] = {}
        # Set once the session exists: from then on the broker keeps what comes while we are away.
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""
        failures = 0
        source = SourceConfig(0, _UNKNOWN, SOURCE_KEY, "quartier_json", {}, {})
        report = Report(source)
        async with Conveyor(self._bus) as conveyor:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    await self._connect(conveyor, report, stop)
                except MqttError as error:
                    if time.monotonic() - began > 30:
                        failures = 0
                    failures = min(failures + 1, 4)  # our own broker is back within seconds
                    log.warning("makers.retry", error=str(error))
                    await pause(stop, delay_s(failures))

    async def _connect(self, conveyor: Conveyor, report: Report, stop: asyncio.Event) -> None:
        topics = [f"{MAKER_TOPIC}/+"]

        async def deliver(delivery: Delivery) -> None:
            device = delivery.topic.rsplit("/", 1)[-1]
            message = RawMessage(
                municipality=await self._city_of(device, stop),
                source=SOURCE_KEY,
                kind="quartier_json",
                received_at=datetime.now(UTC),
                body=delivery.payload,
                topic=delivery.topic,
                headers={DEVICE_HEADER: device},
            )
            await mqtt.hand_over(delivery, message, conveyor, report)

        session = MqttSession(
            Broker(
                host=self._own.host,
                port=self._own.port,
                client_id=mqtt.client_id(SOURCE_KEY),
                username=self._own.username,
                password=self._own.password,
            ),
            topics,
            deliver,
            known_topics=report.cursor.get("topics", ()),
        )
        following = asyncio.create_task(mqtt.follow(session, topics, report, stop))
        connected = asyncio.create_task(session.connected.wait())
        try:
            await asyncio.wait({following, connected}, return_when=asyncio.FIRST_COMPLETED)
            if session.connected.is_set():
                self.ready.set()
            await following
        finally:
            connected.cancel()
            following.cancel()

    async def _city_of(self, device: str, stop: asyncio.Event) -> str:
        """The municipality of a maker's device; waits while the store is away, for nothing may be lost."""
        known = self._cities.get(device)
        if known is not None and time.monotonic() - known[0] < _REMEMBERED_S:
            return known[1]
        while not stop.is_set():
            try:
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(
                        "SELECT m.slug FROM twin_device d JOIN cities_municipality m ON m.id = d.municipality_id"
                        " WHERE d.source_key = %s AND d.external_id = %s",
                        [SOURCE_KEY, device],
                    )
                    row = await cursor.fetchone()
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("makers.store_away", error=str(error).strip() or type(error).__name__)
                await pause(stop, 1)
                continue
            city = row[0] if row else _UNKNOWN
            self._cities[device] = (time.monotonic(), city)
            if len(self._cities) > 100_000:
                self._cities.clear()
            return city
        raise MqttError("stopped")
