"""What ``quartier doctor`` checks: each check says what it found, whether that is a problem, and what to do.

Nothing here changes anything, and every check stands alone, so that the first problem does not hide the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from quartier import __version__
from quartier.config import Config
from quartier.engines import installation, nats, postgres, sockets
from quartier.engines.bus import MQTT_BYTES, MQTT_MESSAGES
from quartier.engines.health import BEHIND_MESSAGES, Health, connect_once
from quartier.engines.postgres import EngineError
from quartier.engines.supervisor import require_free

_LEAST_FREE_BYTES = 2 * 1000**3
_LEAST_MEMORY_BYTES = 1000**3
_BROKER_S = 15.0
_CONFIGURE: Final = (
    "`quartier nats-config` prints what the server needs; docs/operating.md says how to use it."
)

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``advice`` says what to do; empty where all is well."""

    verdict: Verdict
    subject: str
    found: str
    advice: str = ""


def check(settings: Config) -> Iterator[Finding]:
    """Everything that can be said without asking the engines."""
    yield Finding("ok", "Quartier", f"{__version__} on Python {platform.python_version()}, {sys.executable}")
    yield from _folder(settings)
    yield _disk(settings)
    yield _memory()
    yield _postgres(settings)
    yield _nats(settings)
    yield from _ports(settings)
    yield _datagrams()
    yield from _public(settings)


def _folder(settings: Config) -> Iterator[Finding]:
    data = settings.data
    if not data.exists():
        yield Finding(
            "note", "Data folder", f"{data.resolve()} does not exist yet", "It is made by the first start."
        )
        return
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "problem",
            "Data folder",
            f"{data.resolve()} may not be written by this user",
            f"Start Quartier as the user it belongs to (`ls -ld {data}`), or give another folder in QUARTIER_DATA.",
        )
        return
    yield Finding("ok", "Data folder", str(data.resolve()))
    for name in ("secret-key", "nats-password", "engines.json"):
        path = data / name
        if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding("problem", name, "others on this machine may read it", f"chmod 600 {path}")
    note = data / "postgres-home"
    if note.exists():
        yield Finding(
            "note", "Database", f"lies in {note.read_text().strip()}, because root's folders are closed"
        )


def _disk(settings: Config) -> Finding:
    place = next(
        folder for folder in (settings.data.resolve(), *settings.data.resolve().parents) if folder.exists()
    )
    usage = shutil.disk_usage(place)
    found = f"{usage.free / 1000**3:.1f} of {usage.total / 1000**3:.1f} GB are free"
    if usage.free < _LEAST_FREE_BYTES:
        return Finding(
            "problem",
            "Disk",
            found,
            "Make room: PostgreSQL stops when the disk is full. See inbox_days, retention_months.",
        )
    return Finding("ok", "Disk", found)


def _memory() -> Finding:
    available = 0
    with open("/proc/meminfo") as file:  # noqa: PTH123 (not a file of ours)
        for line in file:
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    found = f"{available / 1000**3:.1f} GB are available"
    if available < _LEAST_MEMORY_BYTES:
        return Finding("problem", "Memory", found, "Quartier needs about 700 MB for itself.")
    return Finding("ok", "Memory", found)


def _postgres(settings: Config) -> Finding:
    if settings.postgres_url:
        return Finding("ok", "PostgreSQL", "named by the setting postgres_url")
    try:
        note = settings.data / "postgres-home"
        home = Path(note.read_text().strip()) if note.exists() else settings.data
        binaries = postgres.find(home / "postgres", settings.postgres)
    except EngineError as error:
        return Finding("problem", "PostgreSQL", "none can be started", str(error))
    return Finding(
        "ok", "PostgreSQL", f"{binaries.major} from {'PATH' if binaries.origin == 'path' else 'the wheel'}"
    )


def _nats(settings: Config) -> Finding:
    if settings.nats_url:
        return Finding("ok", "NATS", "named by the setting nats_url")
    try:
        program = nats.find()
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    except (EngineError, OSError, subprocess.SubprocessError) as error:
        return Finding("problem", "NATS", "it cannot be started", str(error))
    return Finding("ok", "NATS", said.stdout.strip().rpartition("v")[2])


def _ports(settings: Config) -> Iterator[Finding]:
    if installation.locked(settings.data):
        yield Finding(
            "ok", "Ports", f"{settings.port} (pages), {settings.mqtt_port} (MQTT): Quartier is running"
        )
        return
    wanted = [("pages", settings.host, settings.port, "port")]
    if not settings.nats_url:
        wanted.append(("MQTT", settings.mqtt_host, settings.mqtt_port, "mqtt_port"))
        if settings.mqtt_websocket_port:
            wanted.append(
                (
                    "MQTT by WebSocket",
                    settings.mqtt_host,
                    settings.mqtt_websocket_port,
                    "mqtt_websocket_port",
                )
            )
    for what, host, port, setting in wanted:
        try:
            require_free(host, port, setting)
        except EngineError as error:
            problem, _, advice = str(error).partition(". ")
            yield Finding("problem", f"Port for {what}", problem, advice)
        else:
            yield Finding("ok", f"Port for {what}", f"{port} is free")


def _datagrams() -> Finding:
    """What matters as soon as many packet forwarders send."""
    granted, needed = sockets.grantable(), sockets.RECEIVE_BYTES
    milliseconds = 1000 * granted // needed
    found = (
        f"the receive buffer holds {milliseconds} ms of {sockets.MOST_DATAGRAMS_PER_S:,} datagrams a second"
    )
    if granted >= needed:
        return Finding("ok", "UDP", found)
    return Finding(
        "note",
        "UDP",
        f"{found}, because net.core.rmem_max is {sockets.limit() or 'small'}",
        f"With many packet forwarders: `sysctl -w net.core.rmem_max={needed // 2}`, and a line in /etc/sysctl.d.",
    )


def _public(settings: Config) -> Iterator[Finding]:
    """What matters as soon as others visit."""
    if not settings.base_url:
        yield Finding(
            "note",
            "Address",
            settings.public_url,
            "Set base_url when the installation is visited by that name.",
        )
        return
    if settings.debug:
        yield Finding(
            "problem", "Debugging", "is on, and shows visitors what is inside", "Set debug = false."
        )
    if not settings.base_url.startswith("https://"):
        yield Finding(
            "problem",
            "Address",
            settings.base_url,
            "Passwords travel in the open: put a proxy with TLS in front.",
        )
    else:
        yield Finding("ok", "Address", settings.base_url)
    if not settings.email_url:
        yield Finding(
            "note",
            "E-mail",
            "is written to the data folder",
            "Set email_url, or nobody can confirm an address.",
        )


def judge(health: Health) -> Iterator[Finding]:
    """What the engines answered, in the same words."""
    database, bus = health.database, health.bus
    if not database.ok:
        yield Finding(
            "problem",
            "Database",
            f"does not answer: {database.error}",
            "See postgres.log in the data folder.",
        )
    elif database.missing:
        yield Finding(
            "problem",
            "Database",
            f"PostgreSQL {database.version}; {len(database.missing)} migrations are missing",
            "Run `quartier migrate`.",
        )
    else:
        yield Finding("ok", "Database", f"PostgreSQL {database.version}, up to date")
    if not bus.ok:
        yield Finding("problem", "Bus", f"does not answer: {bus.error}", "See nats.log in the data folder.")
    else:
        sizes = ", ".join(
            f"{name}: {stream.messages:,} messages, {stream.size_bytes / 1e6:,.0f} MB"
            for name, stream in bus.streams.items()
        )
        yield Finding("ok", "Bus", f"NATS {bus.version}; {sizes or 'no streams yet'}")
    if health.pending > BEHIND_MESSAGES:
        yield Finding(
            "problem",
            "Intake",
            f"is {health.pending:,} messages behind",
            "Is a role `intake` running? Start another one with `quartier serve intake`.",
        )
    elif bus.ok and health.pending:
        yield Finding("ok", "Intake", f"{health.pending:,} messages are waiting")
    age = database.newest_observation_age_s
    if database.ok and not database.missing:
        if age is None:
            yield Finding("note", "Observations", "none yet", "Connect a source; see docs/connecting.md.")
        elif age > 3600:
            yield Finding(
                "problem",
                "Observations",
                f"the newest was recorded {age / 3600:.1f} hours ago",
                "`quartier sources list` shows which source is silent.",
            )
        else:
            yield Finding("ok", "Observations", f"the newest was recorded {age:.0f} s ago")


async def broker(url: str, settings: Config) -> list[Finding]:
    """Whether the NATS server at ``url`` does what its configuration has to say; one of our own always does."""
    try:
        async with asyncio.timeout(_BROKER_S):
            connection = await connect_once(url, name="quartier doctor")
            try:
                found = [_mappings(await nats.ineffective(connection))]
                if (store := await _store(connection)) is not None:
                    found.append(store)
            finally:
                await connection.close()
            if settings.nats_url:
                found.append(await _sign_in(url))
                found.append(await _answers("MQTT", settings.mqtt_host, settings.mqtt_port, "mqtt_port"))
                if port := settings.mqtt_websocket_port:
                    setting = "mqtt_websocket_port"
                    found.append(await _answers("MQTT by WebSocket", settings.mqtt_host, port, setting))
    except (NatsError, OSError, TimeoutError) as error:
        return [Finding("problem", "Broker", f"cannot be looked at: {error}", _CONFIGURE)]
    return found


def _mappings(missing: list[str]) -> Finding:
    if missing:
        return Finding(
            "problem",
            "Subject mappings",
            f"{len(missing)} are not in effect, such as {missing[0]}",
            f"SensorThings by MQTT does not work without them. {_CONFIGURE}",
        )
    return Finding("ok", "Subject mappings", "are in effect")


async def _store(connection: Client) -> Finding | None:
    """What waits for MQTT clients that are away."""
    try:
        info = await connection.jetstream(timeout=2).stream_info(MQTT_MESSAGES)
    except NotFoundError:
        return None
    waiting = f"{info.state.messages:,} messages, {info.state.bytes / 1e6:,.0f} MB, wait for clients"
    if not 0 < (info.config.max_bytes or -1) <= MQTT_BYTES:
        return Finding(
            "problem",
            "MQTT sessions",
            f"{waiting}, and nothing limits them",
            "The role `intake` sets the limit when it starts; its log says why it could not (mqtt_unbounded).",
        )
    return Finding("ok", "MQTT sessions", f"{waiting}; at most {MQTT_BYTES / 1024**3:.0f} GiB")


async def _sign_in(url: str) -> Finding:
    """Nobody may come in with a password that was made up.

    Said in the protocol itself (docs.nats.io, "Client Protocol"): the client library would try again and again.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
    try:
        if json.loads((await reader.readline()).partition(b" ")[2]).get("tls_required"):
            return Finding("note", "Sign-in at the broker", "was not tried, because the server wants TLS")
        stranger = {"user": "quartier-doctor", "pass": "wrong", "verbose": False, "pedantic": False}
        writer.write(b"CONNECT " + json.dumps(stranger).encode() + b"\r\nPING\r\n")
        said = await reader.readline()
    except ConnectionError:
        said = b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    if said.startswith(b"PONG"):
        return Finding(
            "problem", "Sign-in at the broker", "anybody is let in, and may do anything", _CONFIGURE
        )
    return Finding("ok", "Sign-in at the broker", "strangers are refused")


async def _answers(subject: str, host: str, port: int, setting: str) -> Finding:
    place = f"{host}:{port}"
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Finding(
            "problem",
            subject,
            f"nobody answers at {place} ({error.strerror})",
            f"Set mqtt_host and {setting}. {_CONFIGURE}",
        )
    writer.close()
    await writer.wait_closed()
    return Finding("ok", subject, f"answers at {place}")
