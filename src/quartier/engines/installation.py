"""Which engines this installation uses, and who may start them.

Whoever starts embedded engines on a data folder holds its lock and writes down their addresses, so that a
second process (one role more, a backup, ``quartier users``) uses the running ones instead of starting them
again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from quartier.config import Config, config
from quartier.engines import nats, postgres
from quartier.engines.postgres import EngineError

_ADDRESSES = "engines.json"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the engines of an installation are reached. Contains the password of NATS: never print it."""

    postgres_url: str
    nats_url: str
    mqtt_host: str = ""
    mqtt_port: int = 0

    def environment(self) -> dict[str, str]:
        """Settings for a process that is to use these engines."""
        found = {"QUARTIER_POSTGRES_URL": self.postgres_url}
        if self.nats_url:
            found["QUARTIER_NATS_URL"] = self.nats_url
        if self.mqtt_port:
            found |= {"QUARTIER_MQTT_HOST": self.mqtt_host, "QUARTIER_MQTT_PORT": str(self.mqtt_port)}
        return found

    def use(self) -> None:
        """Make this process use these engines; before anything reads the settings of Django."""
        os.environ.update(self.environment())
        config.cache_clear()


class Lock:
    """The right to start engines on a data folder; held by one process until it ends or releases it."""

    def __init__(self, data: Path) -> None:
        self._path = data / "lock"
        self._file: int | None = None

    def acquire(self) -> Self:
        """Take the lock. Raises EngineError that names the process which has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise EngineError(
                f"{error.filename}: {error.strerror}. The data folder belongs to another user; start Quartier as "
                "that user, or give another folder in QUARTIER_DATA."
            ) from None
        deadline = time.monotonic() + 0.3
        while not _try_lock(file):
            # Somebody who only looks (see locked) is gone in an instant.
            if time.monotonic() > deadline:
                holder = os.read(file, 300).decode(errors="replace").strip()
                os.close(file)
                raise EngineError(
                    f"{self._path.parent} is in use by {holder or 'another process'}. Stop that one first, "
                    "or give another folder in QUARTIER_DATA."
                )
            time.sleep(0.05)
        program = Path(sys.argv[0]).name.replace("__main__.py", "quartier")
        command = " ".join([program, *sys.argv[1:3]])
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} ({command})".encode())
        self._file = file
        return self

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def locked(data: Path) -> bool:
    """Whether a process holds the lock of ``data``."""
    try:
        file = os.open(data / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(file)
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def publish(data: Path, addresses: Addresses) -> None:
    """Write down the addresses of engines that this process has started."""
    path = data / _ADDRESSES
    beginning = path.with_suffix(".new")
    descriptor = os.open(beginning, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(addresses), file)
    beginning.rename(path)


def withdraw(data: Path) -> None:
    """The engines were stopped."""
    (data / _ADDRESSES).unlink(missing_ok=True)


def running(data: Path) -> Addresses | None:
    """The engines that a living process has started on ``data``."""
    if not locked(data):
        return None
    try:
        return Addresses(**json.loads((data / _ADDRESSES).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def engines(settings: Config, *, streams: bool = False) -> Iterator[Addresses]:
    """The engines for one command: those named by URL, those already running, or ones started for its time.

    ``streams``: NATS is needed as well. Raises EngineError.
    """
    if settings.postgres_url and (settings.nats_url or not streams):
        yield Addresses(settings.postgres_url, settings.nats_url, settings.mqtt_host, settings.mqtt_port)
        return
    found = running(settings.data)
    if found is not None and (found.nats_url or not streams):
        yield found
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(Lock(settings.data))
        postgres_url, nats_url, mqtt_port = settings.postgres_url, settings.nats_url, 0
        if not postgres_url:
            database = postgres.start(settings.data, prefer=settings.postgres)
            stack.callback(database.stop)
            postgres_url = database.url()
        if streams and not nats_url:
            # On a port of its own: a command of a minute is no broker for devices.
            server = nats.start(settings.data, mqtt_port=0)
            stack.callback(server.stop)
            nats_url, mqtt_port = server.url, server.mqtt_port
        addresses = Addresses(postgres_url, nats_url, "127.0.0.1", mqtt_port)
        publish(settings.data, addresses)
        stack.callback(withdraw, settings.data)
        yield addresses
