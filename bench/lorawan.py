"""The network server under load: three gateways hear every frame of 2,000 devices by UDP; a start with 100,000.

The process ``radio`` is the real one. All devices have joined by OTAA through the gateways, all addresses are of NetID
000000 and so few that most are shared. There are so many gateways because one hears at most 160 frames a second, and
may send 1 % of the time. A frame counts from the last of its three datagrams until the inbox has it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from bench.installation import installation, percentile

DEVICES: Final = 2000
GATEWAYS: Final = 36
HEARD_BY: Final = 3
FRAMES_PER_S: Final = 1667
SECONDS: Final = 15
REGISTERED: Final = 100_000
_JOIN_EUI: Final = bytes.fromhex("70b3d57ed0000001")
_BLOCK: Final = "00E20000/22"  # 1,024 addresses for 2,000 devices
_JOINS_PER_S: Final = 150


def run() -> dict[str, float]:
    """Receptions per second, what was lost, how long it took; seconds and memory of a start with many devices."""
    with installation(streams=True) as made:
        keys = _register()
        port = _free_port()
        with _radio(made.folder, port) as radio:
            _wait_for(made.folder / "radio.log", "radio.listens", 30)
            figures = asyncio.run(_measure(port, keys, radio))
        _register_many()
        began = time.monotonic()
        with _radio(made.folder, port) as radio:
            line = _wait_for(made.folder / "radio.log", "radio.loaded", 60)
            figures["start_with_100000_devices_s"] = time.monotonic() - began
            used = radio.cpu_times()
            figures["of_that_cpu_s"] = used.user + used.system
            figures["of_that_loading_s"] = float(line.split("seconds=")[1].split()[0])
            time.sleep(2)
            figures["memory_with_100000_devices_mb"] = radio.memory_full_info().rss / 1e6
        return figures


def _free_port() -> int:
    import socket

    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _radio(folder: Path, port: int) -> Iterator[psutil.Process]:
    environment = os.environ | {
        "QUARTIER_RADIO_UDP_PORT": str(port),
        "QUARTIER_RADIO_DEV_ADDRS": _BLOCK,
        "MALLOC_ARENA_MAX": "2",
    }
    with (folder / "radio.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "quartier.cli.radio"], env=environment, stdout=output, stderr=output
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def _dropped(port: int) -> int:
    """Datagrams that the kernel threw away because nobody fetched them in time."""
    sockets = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(one[-1]) for one in sockets if one[1].endswith(f":{port:04X}"))


def _wait_for(log: Path, text: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            if text in line:
                return line
        time.sleep(0.02)
    raise TimeoutError(f"no {text} in the log:\n{log.read_text(errors='replace')[-2000:]}")


def _gateway(number: int) -> bytes:
    return bytes.fromhex("b827ebfffe0000") + bytes([number])


def _eui(number: int) -> bytes:
    return bytes.fromhex("70b3d57e") + number.to_bytes(4)


def _register() -> list[bytes]:
    """A city with gateways and devices; returns the devices' keys."""
    from quartier.cities.models import Municipality
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import DeviceSettings, register_device, save_gateway, save_profile

    city = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    for number in range(GATEWAYS):
        save_gateway(SYSTEM, city, _gateway(number).hex(), name=f"Gateway {number}")
    profile = save_profile(SYSTEM, "bench", name="Bench", adr=False, status_interval_s=0)
    keys = [os.urandom(16) for _ in range(DEVICES)]
    for number, key in enumerate(keys):
        settings = DeviceSettings(
            dev_eui=_eui(number).hex(),
            name=f"Gerät {number}",
            profile=profile,
            join_eui=_JOIN_EUI.hex(),
            keys={"app_key": key.hex()},
        )
        register_device(SYSTEM, city, settings, log=False)
    return keys


def _register_many() -> None:
    """As many devices as a large city has, with sessions, written past the rules for the sake of time."""
    from django.db import connection

    from quartier.lorawan.domain.changes import keyring
    from quartier.lorawan.keyring import SESSION

    ring = keyring()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO twin_device (municipality_id, source_key, external_id, name, active, properties, created_at)"
            " SELECT m.id, 'lorawan', lpad(to_hex(n + 1000000000), 16, 'a'), 'Gerät ' || n, true, '{}', now()"
            " FROM cities_municipality m, generate_series(1, %s) n",
            [REGISTERED - DEVICES],
        )
        cursor.execute(
            "INSERT INTO lorawan_loradevice (municipality_id, device_id, dev_eui, join_eui, name, description,"
            " profile_id, activation, tags, firmware, active, counter_reset, may_roam, created_at, updated_at)"
            " SELECT d.municipality_id, d.id, d.external_id, '70b3d57ed0000001', d.name, '', p.id, 'otaa', '{}', '',"
            " true, false, true, now(), now() FROM twin_device d, lorawan_deviceprofile p"
            " WHERE d.external_id LIKE 'aaaaaaaa%'"
        )
        cursor.execute("SELECT id, dev_eui FROM lorawan_loradevice WHERE dev_eui LIKE 'aaaaaaaa%'")
        rows = cursor.fetchall()
        with cursor.copy(
            "COPY lorawan_session (device_id, pending, dev_addr, mac_version, sealed_keys, uplink_counter,"
            " delivered_counter, network_downlink_counter, application_downlink_counter, mac, writer, peer, created_at)"
            " FROM STDIN"
        ) as copy:
            now = datetime.now(UTC)
            for id_, eui in rows:
                sealed = ring.seal(os.urandom(32), SESSION, bytes.fromhex(eui))
                mac = '{"rx1_delay_s": 5, "channels": {"3": 867100000}, "mask": 15}'
                address = 0x00E2_0000 + id_ % 50_000
                copy.write_row((id_, False, address, "1.0.3", sealed, 70_000, 70_000, 5, 0, mac, 0, "", now))


class _Forwarder(asyncio.DatagramProtocol):
    """The least of a packet forwarder: pushes, pulls, and confirms what it is to send at once."""

    def __init__(self, eui: bytes) -> None:
        self.eui = eui
        # Who listens, by the time on the gateway's counter.
        self.listening: dict[int, tuple[Any, asyncio.Event]] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport
        self.pull()

    def pull(self) -> None:
        self.send(b"\x02\x00\x01\x02" + self.eui)

    def send(self, datagram: bytes) -> None:
        assert self.transport is not None
        self.transport.sendto(datagram)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data[3] != 3:
            return
        self.send(b"\x02" + data[1:3] + b"\x05" + self.eui)
        txpk = json.loads(data[4:])["txpk"]
        for delay_us in (5_000_000, 6_000_000):
            found = self.listening.get((txpk["tmst"] - delay_us) & 0xFFFF_FFFF)
            if found and found[0].receive(base64.b64decode(txpk["data"])).what == "joined":
                found[1].set()


_counter_us = itertools.count(int(time.monotonic() * 1e6), 3)


def _push(gateway: bytes, emission: Any, snr_db: float, tmst: int = 0) -> bytes:
    from quartier.lorawan.frames.regions import EU868

    body = {
        "rxpk": [
            {
                "tmst": tmst,
                "chan": 0,
                "rfch": 0,
                "freq": emission.frequency_hz / 1e6,
                "stat": 1,
                "modu": "LORA",
                "datr": EU868.data_rate(emission.data_rate).name,
                "codr": "4/5",
                "rssi": -90,
                "lsnr": snr_db,
                "size": len(emission.phy),
                "data": base64.b64encode(emission.phy).decode(),
            }
        ]
    }
    return b"\x02\x00\x00\x00" + gateway + json.dumps(body).encode()


async def _measure(port: int, keys: list[bytes], radio: psutil.Process) -> dict[str, float]:
    from quartier.virtual.lora.device import Device, Otaa

    loop = asyncio.get_running_loop()
    devices = {
        _eui(number): Device(
            Otaa(dev_eui=_eui(number), join_eui=_JOIN_EUI, app_key=key), seed=number, data_rate=5, adr=False
        )
        for number, key in enumerate(keys)
    }
    forwarders: list[_Forwarder] = []
    for number in range(GATEWAYS):
        _, forwarder = await loop.create_datagram_endpoint(
            lambda number=number: _Forwarder(_gateway(number)),  # type: ignore[misc]
            remote_addr=("127.0.0.1", port),
        )
        forwarders.append(forwarder)
    pulling = asyncio.create_task(_keep_pulling(forwarders))
    await asyncio.sleep(0.2)
    join_s = await _join_all(devices, forwarders)
    frames = [
        (eui, device.uplink(b"0123456789ab", 10))
        for _ in range(FRAMES_PER_S * SECONDS // DEVICES + 1)
        for eui, device in devices.items()
    ][: FRAMES_PER_S * SECONDS]
    figures = await _fire(frames, forwarders, radio, port)
    pulling.cancel()
    addresses = [device.state.dev_addr for device in devices.values() if device.state]
    return {
        "devices": DEVICES,
        "sharing_an_address": sum(addresses.count(one) > 1 for one in addresses),
        "joins_per_s": DEVICES / join_s,
        **figures,
    }


async def _keep_pulling(forwarders: list[_Forwarder]) -> None:
    while True:
        await asyncio.sleep(5)
        for forwarder in forwarders:
            forwarder.pull()


def _near(forwarders: list[_Forwarder], number: int) -> list[_Forwarder]:
    """The gateways that hear a device."""
    return [forwarders[(number * HEARD_BY + one) % GATEWAYS] for one in range(HEARD_BY)]


async def _join_all(devices: dict[bytes, Any], forwarders: list[_Forwarder]) -> float:
    began = time.monotonic()

    async def join(number: int) -> None:
        for _ in range(4):
            device = devices[_eui(number)]
            emission, event = device.join(), asyncio.Event()
            for index, forwarder in enumerate(_near(forwarders, number)):
                tmst = next(_counter_us) & 0xFFFF_FFFF
                forwarder.listening[tmst] = (device, event)
                best = number % HEARD_BY == index
                forwarder.send(_push(forwarder.eui, emission, 9.0 if best else 1.0, tmst))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), 8)
                return
        raise TimeoutError(f"device {number} could not join")

    async with asyncio.TaskGroup() as tasks:
        for number in range(DEVICES):
            tasks.create_task(join(number))
            await asyncio.sleep(1 / _JOINS_PER_S)
    return time.monotonic() - began


async def _fire(
    frames: list[tuple[bytes, Any]], forwarders: list[_Forwarder], radio: psutil.Process, port: int
) -> dict[str, float]:
    from quartier.engines.bus import INBOX, connect
    from quartier.intake.inbox import decode

    bus = await connect(name="bench")
    datagrams = [
        [(one, _push(one.eui, emission, 5.0)) for one in _near(forwarders, number % DEVICES)]
        for number, (_, emission) in enumerate(frames)
    ]
    first = (await bus.js.stream_info(INBOX)).state.last_seq
    sent_at: dict[tuple[str, int], float] = {}
    counters: dict[bytes, int] = {}
    cpu = radio.cpu_times()
    began = time.perf_counter()
    for number, ((eui, _), some) in enumerate(zip(frames, datagrams, strict=True)):
        ahead = began + number / FRAMES_PER_S - time.perf_counter()
        if ahead > 0.002:
            await asyncio.sleep(ahead)
        for forwarder, datagram in some:
            forwarder.send(datagram)
        counter = counters[eui] = counters.get(eui, -1) + 1
        sent_at[eui.hex(), counter] = time.time()
    seconds = time.perf_counter() - began
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (await bus.js.stream_info(INBOX)).state.last_seq - first >= len(frames):
            break
        await asyncio.sleep(0.1)
    after = radio.cpu_times()
    dropped = _dropped(port)
    delays: list[float] = []
    subscription = await bus.js.subscribe(f"{INBOX}.>", ordered_consumer=True)
    while len(delays) < len(frames):
        try:
            message = await subscription.next_msg(timeout=3)
        except TimeoutError:
            break
        up = msgspec.json.decode(decode(message.data).body)
        delays.append(message.metadata.timestamp.timestamp() - sent_at.pop((up["devEui"], up["fCnt"])))
    await bus.close()
    return {
        "receptions_per_s": HEARD_BY * len(frames) / seconds,
        "frames": len(frames),
        "lost": len(frames) - len(delays),
        "datagrams_that_the_kernel_dropped": dropped,
        "last_reception_to_inbox_p50_ms": 1000 * percentile(delays, 50),
        "last_reception_to_inbox_p99_ms": 1000 * percentile(delays, 99),
        "radio_cpu_per_frame_us": 1e6
        * (after.user + after.system - cpu.user - cpu.system)
        / max(1, len(delays)),
    }
