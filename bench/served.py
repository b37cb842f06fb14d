"""A whole installation as ``quartier serve`` runs it, with a ChirpStack source on its own broker, for benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.load import CITY, SOURCE, register


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait(what: str, done: Callable[[], object], seconds: float) -> None:
    """Until ``done``, or TimeoutError that says what did not happen."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.2)


def healthy(port: int) -> bool:
    """Whether the web server answers that all is well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Served:
    """A running installation: where its pages, its broker and its bus are, and the source's password."""

    supervisor: int
    web: int
    broker: int
    nats_url: str
    password: str


@contextlib.contextmanager
def served(n_devices: int) -> Iterator[Served]:
    """Start everything, register the devices of the load generator and their source, stop everything."""
    with tempfile.TemporaryDirectory(prefix="quartier-bench-", ignore_cleanup_errors=True) as name:
        data = Path(name)
        data.chmod(0o755)
        web, broker = free_port(), free_port()
        settings = {
            "QUARTIER_DATA": name,
            "QUARTIER_PORT": str(web),
            "QUARTIER_MQTT_PORT": str(broker),
        }
        for variable in [v for v in os.environ if v.startswith("QUARTIER_")]:
            del os.environ[variable]
        with (data / "serve.log").open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "quartier", "serve"],
                env={**os.environ, **settings},
                stdout=output,
                stderr=output,
            )
            try:
                wait("the start", lambda: healthy(web), 60)
                os.environ |= settings | {"DJANGO_SETTINGS_MODULE": "quartier.settings"}
                yield _with_source(data, server.pid, web, broker, n_devices)
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(30)


def _with_source(data: Path, supervisor: int, web: int, broker: int, n_devices: int) -> Served:
    from quartier.engines import installation

    found = installation.running(data)
    assert found is not None
    found.use()
    import django

    django.setup()
    from quartier.cities.models import Municipality
    from quartier.cities.rules import SYSTEM
    from quartier.sources.domain.saving import save_source
    from quartier.sources.models import Source

    register(n_devices)
    saved = save_source(
        SYSTEM,
        Municipality.objects.get(slug=CITY),
        SOURCE,
        "ChirpStack",
        "chirpstack",
        {"transport": "mqtt", "broker": "own"},
    )
    wait("the source's connection", lambda: Source.objects.get(key=SOURCE).state == "ok", 30)
    return Served(supervisor, web, broker, found.nats_url, saved.generated["broker_password"])


def recorded() -> int:
    """How many observations the store counts, without those that were derived."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(t.n), 0) FROM twin_state t JOIN twin_series s ON s.id = t.series_id"
            " WHERE s.derivation = ''"
        )
        return int(cursor.fetchone()[0])
