"""From a network server's MQTT message to the visitor's page, and how many messages a served installation sustains.

A second process publishes ChirpStack events of ten readings with QoS 1, as a network server does, at a steady rate; a
visitor's page follows ``/live/events``. The publisher shares the two cores with everything else.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from itertools import islice

import orjson
import psutil

from bench.installation import percentile
from bench.load import CITY, SOURCE
from bench.served import Served, recorded, served
from quartier.interfaces.sensorthings.mqtt.outlet import packet
from quartier.virtual.load import chirpstack_events

DEVICES, READINGS = 1000, 10
_ROLES = (
    "quartier.cli.web",
    "quartier.cli.intake",
    "quartier.cli.worker",
    "quartier.intake.codecs",
    "nats-server",
    "postgres",
)
PAGE_RATE_PER_S, PAGE_S = 300, 30
SUSTAINED_RATE_PER_S, SUSTAINED_S = 2000, 40


def run() -> dict[str, float]:
    """Milliseconds from making a message to its event on a page; messages per second committed while they were sent."""
    with served(DEVICES) as place:
        return {**_latency(place), **_sustained(place, skip=PAGE_RATE_PER_S * PAGE_S)}


def _latency(place: Served) -> dict[str, float]:
    delays_ms: list[float] = []
    ready, stop = threading.Event(), threading.Event()
    page = threading.Thread(target=_follow, args=(place.web, delays_ms, ready, stop))
    page.start()
    ready.wait(20)
    sent = _publish(place, PAGE_RATE_PER_S, PAGE_S)
    _until_recorded(READINGS * sent, 60)
    time.sleep(1)
    stop.set()
    page.join(20)
    return {
        "page_messages_sent": sent,
        "page_events_seen": len(delays_ms),
        "page_delay_p50_ms": percentile(delays_ms, 50),
        "page_delay_p95_ms": percentile(delays_ms, 95),
        "page_delay_max_ms": max(delays_ms),
    }


def _sustained(place: Served, *, skip: int) -> dict[str, float]:
    before, used = recorded(), _cpu_s(place.supervisor)
    began = time.monotonic()
    sent = _publish(place, SUSTAINED_RATE_PER_S, SUSTAINED_S, skip=skip)
    sending_s = time.monotonic() - began
    while_sending = recorded() - before
    _until_recorded(before + READINGS * sent, 120)
    all_s = time.monotonic() - began
    spent = {role: after - used.get(role, 0) for role, after in _cpu_s(place.supervisor).items()}
    return {
        "mqtt_messages_sent": sent,
        "mqtt_sent_per_s": sent / sending_s,
        "mqtt_committed_while_sending_per_s": while_sending / READINGS / sending_s,
        "mqtt_committed_per_s": (recorded() - before) / READINGS / all_s,
        "mqtt_lag_after_sending_s": all_s - sending_s,
        "mqtt_lost": sent - (recorded() - before) / READINGS,
        **{f"mqtt_cpu_us_per_message_{role}": 1e6 * seconds / sent for role, seconds in spent.items()},
    }


def _cpu_s(supervisor: int) -> dict[str, float]:
    """Processor time used so far by each kind of process, which does not depend on what else the machine does."""
    used: dict[str, float] = {}
    for process in psutil.Process(supervisor).children(recursive=True):
        try:
            words, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:
            continue
        role = next((name for name in _ROLES if name in words), "other")
        role = role.rsplit(".", 1)[-1].replace("-", "_") if role != "quartier.intake.codecs" else "codecs"
        # Backends of PostgreSQL that have ended are counted with the postmaster.
        used[role] = used.get(role, 0) + times.user + times.system
        if role == "postgres":
            used[role] += times.children_user + times.children_system
    return used


def _until_recorded(observations: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while recorded() < observations and time.monotonic() < deadline:
        time.sleep(0.1)


def _follow(port: int, delays_ms: list[float], ready: threading.Event, stop: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", f"/live/events?municipality={CITY}", headers={"Accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    ready.set()
    while not stop.is_set():
        try:
            line = answer.readline()
        except TimeoutError:
            continue
        now = datetime.now(UTC)
        if line.startswith(b"data: ") and b'"readings"' in line:
            readings = orjson.loads(line[6:])["readings"]
            if len(readings) == READINGS:  # not what was derived from them
                made = datetime.fromisoformat(readings[0]["time"])
                delays_ms.append((now - made).total_seconds() * 1000)
    connection.close()


def _publish(place: Served, rate_per_s: int, seconds: int, *, skip: int = 0) -> int:
    """Let another process publish; returns how many messages the broker acknowledged.

    ``skip`` leaves out what was sent before: a frame counter that is seen again within minutes is a copy.
    """
    done = subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-m",
            "bench.live",
            *(str(place.broker), place.password, str(rate_per_s), str(seconds), str(skip)),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds * 3 + 60,
    )
    acknowledged: int = json.loads(done.stdout)
    return acknowledged


def _network_server(port: int, password: str, rate_per_s: int, seconds: int, skip: int) -> int:
    """Publish at a steady rate with at most a thousand messages unacknowledged; returns how many were acknowledged.

    Packets are put together here (MQTT 3.1.1, sections 3.1 to 3.4): a client library would take a fifth of what the
    two cores have, and what is measured is the installation and not the publisher.
    """
    total, at_once = rate_per_s * seconds, max(1, rate_per_s // 100)
    events = islice(chirpstack_events(DEVICES), skip, skip + total)
    with socket.create_connection(("127.0.0.1", port)) as link:
        names = b"".join(map(_text, ("network-server", SOURCE, password)))
        link.sendall(packet(0x10, _text("MQTT") + b"\x04\xc2\x00\x00" + names))
        assert link.recv(4) == b"\x20\x02\x00\x00", "the broker refused us"
        began, sent, got = time.monotonic(), 0, 0
        deadline = began + seconds * 3 + 30
        while got < 4 * total and time.monotonic() < deadline:
            pause_s = began + sent / rate_per_s - time.monotonic() if sent < total else 0.5
            # An acknowledgement has four bytes, and nothing else comes.
            if select.select([link], [], [], max(0.0, pause_s))[0]:
                got += len(link.recv(65_536))
            if sent < total and sent - got // 4 < 1000 and time.monotonic() >= began + sent / rate_per_s:
                batch = [
                    packet(0x32, _text(topic) + ((sent + n) % 65_535 + 1).to_bytes(2) + body)
                    for n, (topic, body) in enumerate(islice(events, at_once))
                ]
                link.sendall(b"".join(batch))
                sent += len(batch)
    return got // 4


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2) + raw


if __name__ == "__main__":
    print(_network_server(int(sys.argv[1]), sys.argv[2], *(int(word) for word in sys.argv[3:6])))
