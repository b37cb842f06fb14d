"""Two installations as they are run: two ``quartier serve radio`` with databases, buses, secrets and certificates of
their own, which know each other by Backend Interfaces over mTLS alone. Dortmund's gateway is a Basics Station,
Schwerte's a packet forwarder; each city's device is heard by the other city's gateway only."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psycopg
import pytest

from quartier.engines import nats
from quartier.engines.bus import INBOX, connect
from quartier.intake.inbox import decode
from quartier.lorawan.frames.modulation import DataRate
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.message import Up
from quartier.virtual.lora.air import Emission, Heard
from quartier.virtual.lora.device import Device, Otaa
from quartier.virtual.lora.forwarder import PacketForwarder
from quartier.virtual.lora.gateway import Hearing
from quartier.virtual.lora.station import Station
from tests.lorawan.network.scene import until
from tests.lorawan.roaming.certificates import Authority, Identity
from tests.patience import patient

pytestmark = pytest.mark.slow

NET_IDS = {"dortmund": "000000", "schwerte": "000001"}
DEV_ADDRS = {"dortmund": "00D00000/12", "schwerte": "02500000/12"}
JOIN_EUIS = {"dortmund": "025e00fffe0d0001", "schwerte": "025e00fffe0d0002"}
DEV_EUIS = {"dortmund": "025e00fffe0e0001", "schwerte": "025e00fffe0e0002"}
APP_KEYS = {"dortmund": "d0" * 16, "schwerte": "5c" * 16}
GATEWAYS = {"dortmund": "b827ebfffe00d001", "schwerte": "b827ebfffe005001"}
PROTOCOLS = {"dortmund": "station", "schwerte": "gwmp"}
CLASSES = {"dortmund": "A", "schwerte": "C"}
OTHER = {"dortmund": "schwerte", "schwerte": "dortmund"}
KEK = "0f" * 16
_LEDGER = (
    "SELECT encode(key, 'hex'), direction, kind, state, airtime_us, data_rate, size FROM lorawan_roamingframe"
    " WHERE we_carry = %s ORDER BY key"
)
_up = msgspec.json.Decoder(Up)


def _free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Installation:
    """One city's: where everything is, and the process."""

    city: str
    folder: Path
    identity: Identity
    authority: Authority
    database: str
    bus: str
    udp: int = field(default_factory=lambda: _free_port(socket.SOCK_DGRAM))
    station: int = field(default_factory=_free_port)
    roaming: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "radio.log"

    def environment(self) -> dict[str, str]:
        files = {"certificate": self.identity.certificate, "key": self.identity.key}
        files["authority"] = self.authority.certificate
        for name, text in files.items():
            (self.folder / f"{name}.pem").write_text(text)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("QUARTIER_")}
        tls = {name.upper(): str(self.folder / f"{name}.pem") for name in files}
        return (
            plain
            | {
                "QUARTIER_DATA": str(self.folder / "data"),
                "QUARTIER_SECRET_KEY": f"the secret of {self.city}",
                "QUARTIER_POSTGRES_URL": self.database,
                "QUARTIER_NATS_URL": self.bus,
                "QUARTIER_RADIO_NET_ID": NET_IDS[self.city],
                "QUARTIER_RADIO_DEV_ADDRS": DEV_ADDRS[self.city],
                "QUARTIER_RADIO_UDP_PORT": str(self.udp),
                "QUARTIER_STATION_PORT": str(self.station),
                "QUARTIER_STATION_URL": f"wss://127.0.0.1:{self.station}",
                "QUARTIER_ROAMING_PORT": str(self.roaming),
                "DJANGO_SETTINGS_MODULE": "quartier.settings",
                "PYTHONPATH": "src",
            }
            | {
                f"QUARTIER_{room}_{name}": path
                for room in ("STATION", "ROAMING")
                for name, path in tls.items()
            }
        )

    async def does(self, command: str, **given: Any) -> dict[str, Any]:
        """What an operator does here."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.lorawan.roaming.installation", command, json.dumps(given),
            env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, error = await asyncio.wait_for(process.communicate(), patient(120))
        assert process.returncode == 0, error.decode()
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])  # above it stands what was logged
        return answer

    async def seed(self, other: Installation) -> str:
        """Returns the token of its gateway, where that is a Station."""
        terms = {
            direction: {"dev_addrs": [DEV_ADDRS[whose].lower()], "join_euis": [JOIN_EUIS[whose]]}
            for direction, whose in (("carry", other.city), ("carried", self.city))
        }
        answer = await self.does(
            "seed",
            city=self.city,
            other=other.city,
            gateway=GATEWAYS[self.city],
            gateway_protocol=PROTOCOLS[self.city],
            device_class=CLASSES[self.city],
            dev_eui=DEV_EUIS[self.city],
            join_eui=JOIN_EUIS[self.city],
            app_key=APP_KEYS[self.city],
            secret={
                "certificate": self.identity.certificate,
                "key": self.identity.key,
                "ca": self.authority.certificate,
                "keks": {"grenze": KEK},
            },
            peer={
                "name": other.city.title(),
                "protocol": "ts002-1.1",
                "net_ids": [NET_IDS[other.city]],
                "join_euis": [JOIN_EUIS[other.city]],
                "url": f"https://127.0.0.1:{other.roaming}",
                "fingerprints": [other.identity.fingerprint],
                "kek_label": "grenze",
            },
            agreements=terms,
        )
        return str(answer["token"])

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "quartier", "serve", "radio"],
                env=self.environment(),
                stdout=output,
                stderr=output,
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(patient(30))

    def said(self, text: str) -> int:
        return self.log.read_text(errors="replace").count(text)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(query, parameters).fetchall()

    async def ups(self) -> list[Up]:
        """What its inbox has."""
        bus = await connect(self.bus, name="test")
        try:
            state = (await bus.js.stream_info(INBOX)).state
            return [
                _up.decode(decode((await bus.js.get_msg(INBOX, seq=seq)).data or b"").body)
                for seq in range(state.first_seq, state.last_seq + 1)
            ]
        finally:
            await bus.close()


@pytest.fixture
def cities(tmp_path: Path) -> Iterator[dict[str, Installation]]:
    """Both installations, not seeded and not started."""
    server = urlsplit(os.environ["QUARTIER_POSTGRES_URL"])
    authority = Authority("Grenze")
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(server.geturl(), autocommit=True))
        made = {}
        for city in NET_IDS:
            name = f"border_{city}"
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
            stack.callback(connection.execute, f'DROP DATABASE "{name}" WITH (FORCE)')
            folder = tmp_path / city
            (folder / "data").mkdir(parents=True)
            bus = nats.start(folder, mqtt_port=0, durable=False)
            stack.callback(bus.stop)
            url = server._replace(path=f"/{name}").geturl()
            made[city] = Installation(city, folder, authority.identity(city), authority, url, bus.url)
            stack.callback(made[city].stop)
        yield made


@dataclass
class Border:
    """The air at the border: each city's device, and the other city's gateway beside it."""

    devices: dict[str, Device]
    gateways: dict[str, Station | PacketForwarder] = field(default_factory=dict)
    heard: dict[str, list[tuple[str, Heard]]] = field(
        default_factory=lambda: {"dortmund": [], "schwerte": []}
    )
    window: str = "RX1"

    def send(self, city: str, emission: Emission) -> None:
        """The device of ``city`` sends; the other city's gateway hears it."""
        self.gateways[OTHER[city]].heard(
            Hearing(
                phy=emission.phy,
                frequency_hz=emission.frequency_hz,
                data_rate=EU868.data_rate(emission.data_rate),
                rssi_dbm=-95,
                snr_db=6.0,
                ended_at=time.monotonic(),
            )
        )

    def transmits(self, city: str) -> Any:
        """What the gateway of ``city`` sends reaches the other city's device, and nobody else."""

        def transmit(at: float, phy: bytes, frequency_hz: int, data_rate: DataRate, power_dbm: float) -> None:
            whose = OTHER[city]
            self.heard[whose].append((self.window, self.devices[whose].receive(phy, self.window)))

        return transmit


@asynccontextmanager
async def border(cities: dict[str, Installation], token: str) -> AsyncIterator[Border]:
    """Both gateways at work."""
    devices = {
        city: Device(
            Otaa(
                dev_eui=bytes.fromhex(DEV_EUIS[city]),
                join_eui=bytes.fromhex(JOIN_EUIS[city]),
                app_key=bytes.fromhex(APP_KEYS[city]),
            ),
            data_rate=5,
            adr=False,
            device_class=CLASSES[city],
        )
        for city in cities
    }
    made = Border(devices)
    trusts = ssl.create_default_context(cadata=cities["dortmund"].authority.certificate)
    trusts.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    station = Station(
        bytes.fromhex(GATEWAYS["dortmund"]), made.transmits("dortmund"), token=token, ssl=trusts,
        first_backoff_s=0.3,
    )  # fmt: skip
    forwarder = PacketForwarder(
        bytes.fromhex(GATEWAYS["schwerte"]), made.transmits("schwerte"), keepalive_s=0.5, statistics_s=5
    )
    made.gateways = {"dortmund": station, "schwerte": forwarder}
    station.start(f"wss://127.0.0.1:{cities['dortmund'].station}")
    await forwarder.start("127.0.0.1", cities["schwerte"].udp)
    try:
        await until(lambda: station.configured.is_set() and forwarder.answered_at, seconds=30)
        yield made
    finally:
        await station.close()
        await forwarder.close()


@pytest.mark.timeout(600)
async def test_border_devices_live_through_the_other_city(cities: dict[str, Installation]) -> None:
    dortmund, schwerte = cities["dortmund"], cities["schwerte"]
    token = await dortmund.seed(schwerte)
    await schwerte.seed(dortmund)
    for one in cities.values():
        one.start()
    for one in cities.values():
        await until(lambda one=one: one.said("radio.listens") >= 1, seconds=90)
    async with border(cities, token) as air:
        for city, device in air.devices.items():
            air.send(city, device.join())
            await until(lambda device=device: device.state is not None, seconds=20)
            state = device.state
            assert state is not None
            assert f"{state.dev_addr:08X}"[:3] == DEV_ADDRS[city][:3]
        # Class A: a downlink waits for the next uplink, and comes back through the neighbour's packet forwarder.
        valve = await dortmund.does(
            "send", dev_eui=DEV_EUIS["dortmund"], payload="6f70656e", port=5, confirmed=True
        )
        await asyncio.sleep(1)
        device = air.devices["dortmund"]
        air.send("dortmund", device.uplink(b"\x01\x02", 7, confirmed=True))
        await until(lambda: len(air.heard["dortmund"]) == 2, seconds=20)
        answer = air.heard["dortmund"][1][1]
        assert (answer.what, answer.payload, answer.port, answer.acknowledged) == ("data", b"open", 5, True)
        air.send("dortmund", device.uplink(b"\x03", 7))
        # Class C: known to be awake since its first uplink, it hears at once by the neighbour's Station.
        lamp = air.devices["schwerte"]
        air.send("schwerte", lamp.uplink(b"\x10", 8, confirmed=True))
        await until(lambda: len(air.heard["schwerte"]) == 2, seconds=20)
        assert air.heard["schwerte"][1][1].acknowledged
        await asyncio.sleep(3)  # until its receive windows are over
        air.window = "RXC"
        dimmed = await schwerte.does(
            "send", dev_eui=DEV_EUIS["schwerte"], payload="64696d", port=9, confirmed=False
        )
        await until(lambda: len(air.heard["schwerte"]) == 3, seconds=20)
        window, command = air.heard["schwerte"][2]
        assert (window, command.what, command.payload, command.port) == ("RXC", "data", b"dim", 9)

        def states() -> list[tuple[Any, ...]]:
            query = "SELECT state, reason, gateway FROM lorawan_downlink WHERE id = %s"
            return [*dortmund.rows(query, valve["id"]), *schwerte.rows(query, dimmed["id"])]

        await until(lambda: [row[0] for row in states()] == ["acknowledged", "sent"], seconds=20)

        def open_rows() -> int:
            query = "SELECT count(*) FROM lorawan_roamingframe WHERE state = 'open' AND we_carry"
            return sum(one.rows(query)[0][0] for one in cities.values())

        await until(lambda: open_rows() == 0, seconds=20)

    # Readings are in the inbox of the city that owns the device, and nowhere else.
    assert [(up.dev_eui, up.data, [r.peer for r in up.receptions]) for up in await dortmund.ups()] == [
        (DEV_EUIS["dortmund"], b"\x01\x02", ["schwerte"]),
        (DEV_EUIS["dortmund"], b"\x03", ["schwerte"]),
    ]
    assert [(up.dev_eui, up.data, [r.peer for r in up.receptions]) for up in await schwerte.ups()] == [
        (DEV_EUIS["schwerte"], b"\x10", ["dortmund"])
    ]

    # After each has asked the other for its statement, both ledgers say the same to the frame.
    await dortmund.does("compare")
    await schwerte.does("compare")
    expected = {"dortmund": 2 + 3, "schwerte": 3 + 2}
    for carrier, owner in ((dortmund, schwerte), (schwerte, dortmund)):
        carried, ours = carrier.rows(_LEDGER, True), owner.rows(_LEDGER, False)
        assert carried == ours
        assert {row[3] for row in carried} == {"confirmed"}
        assert len(carried) == expected[carrier.city]
    for one in cities.values():
        left = await one.does("compare")
        assert left == {f"{OTHER[one.city]} carry": [], f"{OTHER[one.city]} carried": []}
        assert one.said("Traceback") == 0, one.log.read_text()


@pytest.mark.timeout(300)
async def test_nobody_speaks_without_the_neighbours_certificate(cities: dict[str, Installation]) -> None:
    dortmund, schwerte = cities["dortmund"], cities["schwerte"]
    await dortmund.seed(schwerte)
    dortmund.start()
    await until(lambda: dortmund.said("radio.listens") >= 1, seconds=90)
    body = {
        "ProtocolVersion": "1.1", "SenderID": NET_IDS["schwerte"], "ReceiverID": NET_IDS["dortmund"],
        "TransactionID": 1, "MessageType": "HomeNSReq", "DevEUI": DEV_EUIS["dortmund"],
    }  # fmt: skip
    stranger = Authority("Somebody")
    url = f"https://127.0.0.1:{dortmund.roaming}/"

    async def ask(identity: Identity | None) -> int | str:
        context = ssl.create_default_context(cadata=dortmund.authority.certificate)
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        if identity is not None:
            pem = dortmund.folder / "client.pem"
            pem.write_text(identity.certificate + identity.key)
            context.load_cert_chain(pem)
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, json=body, ssl=context) as answer,
            ):
                return answer.status
        except (aiohttp.ClientError, ssl.SSLError) as error:
            return type(error).__name__

    assert await ask(schwerte.identity) == 200
    assert await ask(None) == 403
    # The right authority, but another certificate than the one that was agreed.
    assert await ask(dortmund.authority.identity("schwerte")) == 403
    assert await ask(stranger.identity("schwerte")) != 200
