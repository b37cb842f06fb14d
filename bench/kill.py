"""Kill everything under load, then count: what was acknowledged to its sender is in the store exactly once.

A network server (paho-mqtt) publishes ChirpStack events to the installation's broker and remembers which of them were
acknowledged. Meanwhile the intake process, the worker, PostgreSQL and NATS are killed with SIGKILL, one after the
other, twice each.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from itertools import islice

import orjson
import paho.mqtt.client as mqtt
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from bench.load import SOURCE
from bench.served import recorded, served, wait
from quartier.virtual.load import chirpstack_events

DEVICES = 500
RATE_PER_S = 500
VICTIMS = ("quartier.cli.intake", "postgres", "nats-server", "quartier.cli.worker") * 2
PAUSE_S = 7.0

Event = tuple[str, str]  # DevEUI, time


def run() -> dict[str, float]:
    """What was sent, acknowledged, lost, doubled; and how often what was killed."""
    with served(DEVICES) as place:
        killed: Counter[str] = Counter()
        sending = threading.Event()
        killer = threading.Thread(target=_kill, args=(place.supervisor, sending, killed))
        sent, acknowledged = _send(place.broker, place.password, killer, sending)
        wait("the end of the work", _Settled(place.nats_url), 120)
        return {
            "sent": len(sent),
            "acknowledged": len(acknowledged),
            **_count(acknowledged, sent, place.nats_url),
        } | {
            f"killed_{victim.rsplit('.', 1)[-1].replace('-', '_')}": n for victim, n in sorted(killed.items())
        }


def _kill(supervisor: int, sending: threading.Event, killed: Counter[str]) -> None:
    sending.wait()
    for victim in VICTIMS:
        time.sleep(PAUSE_S)
        for process in psutil.Process(supervisor).children(recursive=False):
            try:
                if victim in " ".join(process.cmdline()):
                    process.kill()
                    killed[victim] += 1
                    break
            except psutil.NoSuchProcess:
                continue


def _send(
    port: int, password: str, killer: threading.Thread, sending: threading.Event
) -> tuple[set[Event], set[Event]]:
    """Publish until the killer is through, and some seconds more; returns what was sent and what was acknowledged."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="network-server", clean_session=False)
    client.username_pw_set(SOURCE, password)
    client.max_inflight_messages_set(400)
    client.max_queued_messages_set(0)
    client.reconnect_delay_set(1, 2)
    # Appended to by one thread each, and matched at the end: a lock that both held would meet paho's own.
    numbered: list[tuple[int, Event]] = []
    confirmed: list[int] = []

    def on_publish(_c: object, _u: object, number: int, _r: object, _p: object) -> None:
        confirmed.append(number)

    client.on_publish = on_publish
    client.connect("127.0.0.1", port, keepalive=10)
    client.loop_start()
    killer.start()
    sending.set()
    began = time.monotonic()
    after: float | None = None
    for n, (topic, body) in enumerate(islice(chirpstack_events(DEVICES), 200_000)):
        if not killer.is_alive():
            after = after or time.monotonic()
            if time.monotonic() - after > 10:
                break
        event = (topic.split("/")[3], orjson.loads(body)["time"])
        numbered.append((client.publish(topic, body, qos=1).mid, event))
        time.sleep(max(0.0, began + n / RATE_PER_S - time.monotonic()))
    deadline = time.monotonic() + 60
    while len(confirmed) < len(numbered) and time.monotonic() < deadline:
        time.sleep(0.2)
    client.disconnect()
    client.loop_stop()
    # Numbers are used again after 65,535 messages; the oldest message of a number was confirmed first.
    times = Counter(confirmed)
    acknowledged = set()
    for number, event in numbered:
        if times[number]:
            times[number] -= 1
            acknowledged.add(event)
    return {event for _, event in numbered}, acknowledged


class _Settled:
    """Whether all messages were worked off: none waits or is out with a consumer, and the store has not grown for three
    seconds. A message that was on its way when a process died is delivered again after the consumer's patience, so a
    store that rests says nothing by itself.
    """

    def __init__(self, nats_url: str) -> None:
        self._url = nats_url
        self._last = -1
        self._since = time.monotonic()

    def __call__(self) -> bool:
        from django.db import DatabaseError, connection

        try:
            count = recorded()
        except DatabaseError:
            connection.close()
            return False
        if count != self._last:
            self._last, self._since = count, time.monotonic()
        if time.monotonic() - self._since < 3:
            return False
        if asyncio.run(_open_messages(self._url)):
            self._since = time.monotonic()
            return False
        return True


async def _open_messages(nats_url: str) -> int:
    """Messages that no consumer of the broker or the inbox has acknowledged yet."""
    from quartier.engines.bus import INBOX, connect

    bus = await connect(nats_url, name="count")
    try:
        consumers = await bus.js.consumers_info("$MQTT_msgs") + await bus.js.consumers_info(INBOX)
        return sum((one.num_pending or 0) + (one.num_ack_pending or 0) for one in consumers)
    finally:
        await bus.close()


def _count(acknowledged: set[Event], sent: set[Event], nats_url: str) -> dict[str, float]:
    from django.db import connection

    stored: Counter[Event] = Counter()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.key, o.time, count(*) FROM twin_observation o JOIN twin_series s ON s.id = o.series_id"
            " JOIN twin_thing t ON t.id = s.thing_id WHERE s.derivation = '' GROUP BY 1, 2"
        )
        for key, moment, n in cursor.fetchall():
            stored[(key, moment.isoformat(timespec="microseconds"))] = n
        cursor.execute("SELECT count(*) FROM twin_observation")
        observations = cursor.fetchone()[0]
        cursor.execute("SELECT sum(n) FROM twin_state")
        counted = int(cursor.fetchone()[0])
        cursor.execute("SELECT count(*) FROM intake_refusedmessage")
        refused = cursor.fetchone()[0]
    published = _published(nats_url)
    return {
        "lost": len(acknowledged - stored.keys()),
        "incomplete": sum(1 for n in stored.values() if n != 10),
        "invented": len(stored.keys() - sent),
        "refused": refused,
        "observations": observations,
        "counted_otherwise": counted - observations,
        "published_missing": observations - len({(series, moment) for series, moment, _, _ in published}),
        # A reading whose flag was lifted or whose value was derived anew is published again, as another one.
        "published_twice": sum(n - 1 for n in published.values()),
    }


Reading = tuple[int, str, object, int]  # series, time, result, flags


def _published(nats_url: str) -> Counter[Reading]:
    from quartier.engines.bus import OBSERVED, connect

    async def read() -> Counter[Reading]:
        bus = await connect(nats_url, name="count")
        found: Counter[Reading] = Counter()
        total = (await bus.js.stream_info(OBSERVED)).state.messages
        subscription = await bus.js.subscribe(f"{OBSERVED}.>", ordered_consumer=True)
        for _ in range(total):
            message = await subscription.next_msg(timeout=10)
            for reading in orjson.loads(message.data)["readings"]:
                found[(reading["series"], reading["time"], reading["result"], reading["flags"])] += 1
        await bus.close()
        return found

    return asyncio.run(read())


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
