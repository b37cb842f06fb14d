"""SensorThings by MQTT: 500 subscribers with filters, 1,000 observations a second; how late and how completely."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import orjson

from bench.installation import installation, percentile

SUBSCRIBERS, SERIES = 500, 500
PER_S, SECONDS = 1000, 15
BATCHES_PER_S = 20


def run() -> dict[str, float]:
    """Figures; worker, door, recorder, subscribers and both engines on one machine. Every second reading matches."""
    with installation(streams=True) as place:
        ids = _register()
        worker = subprocess.Popen([sys.executable, "-m", "quartier.cli.worker"])
        try:
            assert place.nats is not None
            return asyncio.run(_measure(ids, place.nats.mqtt_port))
        finally:
            worker.terminate()
            worker.wait(20)


def _register() -> list[tuple[int, int]]:
    from quartier.cities.models import Municipality
    from quartier.twin.models import ObservedProperty, Series, Thing

    city = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    property_ = ObservedProperty.objects.create(
        slug="p", iri="https://example.org/p", name_de="P", name_en="P", unit="s", category="weather"
    )
    things = Thing.objects.bulk_create(
        Thing(municipality=city, key=f"t{n}", name=f"T{n}", kind="station", lon=7.5, lat=51.5)
        for n in range(SERIES)
    )
    made = Series.objects.bulk_create(
        Series(municipality=city, thing=thing, observed_property=property_, unit="s") for thing in things
    )
    return [(city.pk, one.pk) for one in made]


class _Subscriber:
    """As little of MQTT 3.1.1 as a subscriber needs, so that the clients do not eat what is measured."""

    def __init__(self, number: int, topic: str, delays_s: list[float], seen: set[tuple[int, str]]) -> None:
        self._number, self._topic, self._delays_s, self._seen = number, topic, delays_s, seen
        self.again = 0

    async def open(self, port: int) -> None:
        """Connect and subscribe with QoS 1."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        name = f"bench{self._number}".encode()
        head = b"\x00\x04MQTT\x04\x02\x00\x3c"
        self._send(0x10, head + struct.pack("!H", len(name)) + name)
        assert (await self._packet())[1] == b"\x00\x00", "the broker refused a subscriber"
        topic = self._topic.encode()
        self._send(0x82, b"\x00\x01" + struct.pack("!H", len(topic)) + topic + b"\x01")
        assert (await self._packet())[1][2] == 1, "the broker refused a subscription"

    async def listen(self) -> None:
        """Take messages until cancelled; a result is the time at which it was recorded."""
        while True:
            kind, body = await self._packet()
            if kind & 0xF0 != 0x30:
                continue
            at = 2 + int.from_bytes(body[:2])
            self._send(0x40, body[at : at + 2])
            found = orjson.loads(body[at + 2 :])
            self._delays_s.append(time.time() - found["result"])
            key = (self._number, found["@iot.id"])
            self.again += key in self._seen
            self._seen.add(key)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()

    def _send(self, kind: int, body: bytes) -> None:
        length, n = bytearray(), len(body)
        while True:
            n, rest = divmod(n, 128)
            length.append(rest | (0x80 if n else 0))
            if not n:
                break
        self._writer.write(bytes([kind]) + bytes(length) + body)

    async def _packet(self) -> tuple[int, bytes]:
        kind = (await self._reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            (byte,) = await self._reader.readexactly(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        return kind, await self._reader.readexactly(length)


async def _measure(ids: list[tuple[int, int]], port: int) -> dict[str, float]:
    from quartier.config import config
    from quartier.engines.bus import connect
    from quartier.engines.nkeys import Issuer
    from quartier.engines.pools import async_pool
    from quartier.interfaces.sensorthings.mqtt.rights import topics_of
    from quartier.sources.mqtt_door import Door
    from quartier.twin.record import Observation, Recorder

    stop = asyncio.Event()
    bus = await connect(name="bench")
    door = asyncio.create_task(Door(bus, Issuer.of(config().data), topics_of).run(stop))
    delays_s: list[float] = []
    seen: set[tuple[int, str]] = set()
    await asyncio.sleep(0.5)  # until the door is open
    clients = [
        _Subscriber(
            n,
            f"v1.1/Datastreams({ids[n % SERIES][1]})/Observations?$filter=result%20gt%20{n}&$select=id,result",
            delays_s,
            seen,
        )
        for n in range(SUBSCRIBERS)
    ]
    began = time.perf_counter()
    for start in range(0, SUBSCRIBERS, 20):
        await asyncio.gather(*(one.open(port) for one in clients[start : start + 20]))
    connected_s = time.perf_counter() - began
    listening = [asyncio.create_task(one.listen()) for one in clients]
    await asyncio.sleep(5)
    async with async_pool() as pool:
        recorder = Recorder(pool)
        await recorder.start()
        batch = PER_S // BATCHES_PER_S
        first = datetime.now(UTC)
        n, expected, waiting = 0, 0, []
        began = time.perf_counter()
        while n < PER_S * SECONDS:
            rows = []
            for _ in range(batch):
                place, series = ids[n % SERIES]
                matches = (n // SERIES) % 2 == 0
                expected += matches
                rows.append(
                    Observation(
                        place, series, first + timedelta(milliseconds=n), time.time() if matches else -1.0
                    )
                )
                n += 1
            waiting.append(asyncio.create_task(recorder.record(rows)))
            await asyncio.sleep(max(0.0, began + n / PER_S - time.perf_counter()))
        await asyncio.gather(*waiting)
        recorded_s = time.perf_counter() - began
        deadline = time.perf_counter() + 20
        while len(seen) < expected and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await recorder.close()
    for one in listening:
        one.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    await asyncio.gather(*(one.close() for one in clients))
    stop.set()
    await door
    await bus.close()
    return {
        "subscribers": SUBSCRIBERS,
        "subscribers_connected_s": connected_s,
        "recorded_per_s": n / recorded_s,
        "delivered_per_s": len(delays_s) / recorded_s,
        "delivery_p50_ms": percentile(delays_s, 50) * 1000,
        "delivery_p95_ms": percentile(delays_s, 95) * 1000,
        "delivery_p99_ms": percentile(delays_s, 99) * 1000,
        "lost": expected - len(seen),
        "repeated": sum(one.again for one in clients),
    }
