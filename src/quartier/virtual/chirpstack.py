"""Schwerte's devices as a ChirpStack v4 server tells of them: JSON events by MQTT.

Topics and fields are those of ChirpStack's MQTT integration. Events are published at least once (QoS 1), in the order
of their arrival; after a broken connection the publisher goes on where it stopped, up to an hour back.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiomqtt
import orjson

from .messages import from_us, message_id, payload_of, reported_time, uuid_of
from .noise import key_of, mix
from .radio import GATEWAYS, Frame, Radio
from .readings import values_at
from .schedule import Schedule, Transmission
from .world import Device

logger = logging.getLogger(__name__)

TENANT = "Virtuelles Schwerte"
APPLICATION_OF_TYPE = {
    "virtual-climate": "Klima",
    "virtual-weather": "Klima",
    "virtual-globe": "Klima",
    "virtual-level": "Pegel",
    "virtual-parking": "Parken",
    "virtual-carpark": "Parken",
    "virtual-waste": "Container",
    "virtual-soil": "Bäume",
    "virtual-lamp": "Straßenbeleuchtung",
    "virtual-counter": "Zählung",
}
CATCH_UP_US = 3_600_000_000
STEP_S = 0.25
IN_FLIGHT = 10  # aiomqtt warns beyond
STATUS_EVERY = 48  # a device answers a status request every so many frames


@dataclass(frozen=True, slots=True)
class Event:
    """One message to publish."""

    topic: str
    payload: bytes


class Events:
    """Builds ChirpStack's events from transmissions."""

    def __init__(self, schedule: Schedule, radio: Radio) -> None:
        self.schedule = schedule
        self.world = schedule.world
        self.radio = radio
        self._info = {device.index: self._device_info(device) for device in schedule.devices}
        self._sites = {gateway.number: gateway for gateway in GATEWAYS}

    def _id(self, name: str) -> str:
        return uuid_of(self.world.seed, 701, key_of(name))

    def _device_info(self, device: Device) -> dict[str, Any]:
        thing = self.world.thing_of(device)
        application = f"Schwerte {APPLICATION_OF_TYPE[device.type]}"
        return {
            "tenantId": self._id("tenant"),
            "tenantName": TENANT,
            "applicationId": self._id(application),
            "applicationName": application,
            "deviceProfileId": self._id(f"profile {device.type}"),
            "deviceProfileName": device.device_type.name,
            "deviceName": device.name,
            "devEui": device.dev_eui,
            "deviceClassEnabled": "CLASS_A",
            "tags": {"thing": thing.key, "simulated": "true"},
        }

    def application_ids(self) -> dict[str, str]:
        """The identifiers of the applications by their names."""
        return {info["applicationName"]: info["applicationId"] for info in self._info.values()}

    def topic(self, device: Device, event: str) -> str:
        """The MQTT topic of an event of a device."""
        return (
            f"application/{self._info[device.index]['applicationId']}/device/{device.dev_eui}/event/{event}"
        )

    def _address(self, device: Device) -> str:
        return f"{0x0059_0000 + mix(device.seed, 702) % 0x10000:08x}"

    def up(self, transmission: Transmission) -> Event:
        """An uplink. A garbled one is cut off in the middle of its JSON."""
        device = transmission.device
        if transmission.damage == "garbled":
            whole = orjson.dumps(self._up(transmission, b""))
            return Event(self.topic(device, "up"), whole[: len(whole) * 2 // 3])
        content = self._up(transmission, payload_of(self.world, transmission))
        return Event(self.topic(device, "up"), orjson.dumps(content))

    def _up(self, transmission: Transmission, payload: bytes) -> dict[str, Any]:
        device = transmission.device
        frame = self.radio.frame(device, transmission.frame_count, transmission.sent_us, len(payload))
        return {
            "deduplicationId": message_id(self.world.seed, transmission, reading=False),
            "time": rfc3339(reported_time(transmission)),
            "deviceInfo": self._info[device.index],
            "devAddr": self._address(device),
            "adr": True,
            "dr": frame.data_rate,
            "fCnt": transmission.frame_count,
            "fPort": device.device_type.f_port,
            "confirmed": False,
            "data": base64.b64encode(payload).decode(),
            "rxInfo": self._rx_info(frame, transmission),
            "txInfo": {
                "frequency": frame.frequency_hz,
                "modulation": {
                    "lora": {
                        "bandwidth": 125000,
                        "spreadingFactor": frame.spreading_factor,
                        "codeRate": "CR_4_5",
                    }
                },
            },
        }

    def _rx_info(self, frame: Frame, transmission: Transmission) -> list[dict[str, Any]]:
        return [
            {
                "gatewayId": reception.gateway.hex_id,
                "uplinkId": mix(transmission.sent_us, reception.gateway.number, transmission.copy)
                & 0xFFFF_FFFF,
                "nsTime": rfc3339(from_us(transmission.arrived_us)),
                "rssi": reception.rssi_dbm,
                "snr": reception.snr_db,
                "channel": frame.channel,
                "location": {
                    "latitude": reception.gateway.lat,
                    "longitude": reception.gateway.lon,
                    "altitude": reception.gateway.altitude_m,
                },
                "context": base64.b64encode(reception.counter_us.to_bytes(4, "big")).decode(),
                "metadata": {"region_common_name": "EU868", "region_config_id": "eu868"},
                "crcStatus": "CRC_OK",
            }
            for reception in frame.receptions
        ]

    def join(self, device: Device, time_us: int) -> Event:
        """The device joined the network."""
        content = {
            "deduplicationId": uuid_of(self.world.seed, 703, device.index, time_us),
            "time": rfc3339(from_us(time_us)),
            "deviceInfo": self._info[device.index],
            "devAddr": self._address(device),
        }
        return Event(self.topic(device, "join"), orjson.dumps(content))

    def status(self, transmission: Transmission) -> Event:
        """The device answered a status request: battery and link margin."""
        device = transmission.device
        values = values_at(self.world, device, transmission.virtual_s)
        battery = values.get("battery")
        # Devices that know only their voltage let the radio module guess the percentage.
        percent = (
            None if battery is None else float(battery) if battery > 4 else (float(battery) - 2.5) / 0.0065
        )
        content = {
            "deduplicationId": uuid_of(self.world.seed, 704, device.index, transmission.frame_count),
            "time": rfc3339(from_us(transmission.sent_us)),
            "deviceInfo": self._info[device.index],
            "margin": int(mix(device.seed, 705, transmission.frame_count) % 18) - 3,
            "externalPowerSource": percent is None,
            "batteryLevelUnavailable": percent is None,
            "batteryLevel": 0.0 if percent is None else round(min(100.0, max(0.0, percent)), 2),
        }
        return Event(self.topic(device, "status"), orjson.dumps(content))

    def events_of(self, transmission: Transmission) -> list[Event]:
        """What is published when a transmission arrives."""
        found = [self.up(transmission)]
        if transmission.frame_count % STATUS_EVERY == 0 and transmission.copy == 0:
            found.append(self.status(transmission))
        return found


def rfc3339(moment: datetime) -> str:
    """A time as ChirpStack writes it: microseconds and a numeric offset."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class Publisher:
    """Publishes the events of all devices as they arrive, until told to stop.

    At first it publishes what a client needs to show something at once: a join and the newest message of every
    device, and ``history_s`` seconds of the past where asked for.
    """

    def __init__(
        self,
        events: Events,
        *,
        host: str,
        port: int,
        username: str | None = None,
        password: str | None = None,
        history_s: float = 0.0,
    ) -> None:
        self.events = events
        self.schedule = events.schedule
        self.published = 0
        self._host = host
        self._port = port
        self._username = username
        self._password = password
        self._history_s = history_s
        # Everything that arrived before this time has been published.
        self._position_us = 0
        self._greeted = False

    def _greeting(self, now_us: int) -> list[Event]:
        found: list[Event] = []
        for device in self.schedule.devices:
            last = self.schedule.last_sent(device, now_us)
            if last is None:
                continue
            found.append(self.events.join(device, max(self.schedule.begin_us, last.sent_us - 5_000_000)))
            if self._history_s <= 0.0:
                found.append(self.events.up(last))
        return found

    def _due(self, since_us: int, until_us: int) -> list[Event]:
        found: list[Event] = []
        for transmission in self.schedule.window(since_us, until_us, "arrived"):
            found.extend(self.events.events_of(transmission))
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop`` is set; reconnects with growing pauses."""
        pause_s = 0.5
        while not stop.is_set():
            try:
                async with aiomqtt.Client(
                    self._host,
                    self._port,
                    username=self._username,
                    password=self._password,
                    protocol=aiomqtt.ProtocolVersion.V311,
                    timeout=10.0,
                    keepalive=30,
                ) as client:
                    pause_s = 0.5
                    await self._publish(client, stop)
            except aiomqtt.MqttError as error:
                logger.warning("MQTT broker not reachable, next try in %.1f s: %s", pause_s, error)
                await _wait(stop, pause_s)
                pause_s = min(30.0, pause_s * 2.0)

    async def _publish(self, client: aiomqtt.Client, stop: asyncio.Event) -> None:
        if not self._greeted:
            now_us = self.schedule.clock.now_us()
            await self._send(client, self._greeting(now_us))
            self._position_us = now_us - int(self._history_s * 1e6)
            self._greeted = True
        while not stop.is_set():
            now_us = self.schedule.clock.now_us()
            oldest_us = now_us - max(CATCH_UP_US, int(self._history_s * 1e6))
            since_us = max(self._position_us, oldest_us)
            # A piece at a time, so that an hour to catch up with is never in memory at once.
            until_us = min(now_us, since_us + 600_000_000)
            await self._send(client, self._due(since_us, until_us))
            self._position_us = until_us
            if until_us == now_us:
                await _wait(stop, STEP_S)

    async def _send(self, client: aiomqtt.Client, events: list[Event]) -> None:
        for first in range(0, len(events), IN_FLIGHT):
            part = events[first : first + IN_FLIGHT]
            await asyncio.gather(*(client.publish(event.topic, event.payload, qos=1) for event in part))
            self.published += len(part)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but wake up when told to stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
