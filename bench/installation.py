"""An installation of its own for a benchmark: engines with full durability, in a temporary folder, on loopback."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quartier.engines import nats, postgres


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the engines of the benchmark are."""

    folder: Path
    postgres_url: str
    nats: nats.Server | None

    @property
    def nats_url(self) -> str:
        """URL of the NATS server; only where it was asked for."""
        assert self.nats is not None
        return self.nats.url


@contextlib.contextmanager
def installation(*, streams: bool = False) -> Iterator[Installation]:
    """Engines with fsync on, and the schema. One per process, because Django reads its settings once."""
    with tempfile.TemporaryDirectory(prefix="quartier-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        for variable in [v for v in os.environ if v.startswith("QUARTIER_")]:
            del os.environ[variable]
        os.environ["QUARTIER_DATA"] = name
        os.environ["DJANGO_SETTINGS_MODULE"] = "quartier.settings"
        with contextlib.ExitStack() as stack:
            database = postgres.start(folder)
            stack.callback(database.stop)
            os.environ["QUARTIER_POSTGRES_URL"] = database.url()
            server = None
            if streams:
                server = nats.start(folder, mqtt_port=0)
                stack.callback(server.stop)
                os.environ["QUARTIER_NATS_URL"] = server.url
                os.environ["QUARTIER_MQTT_PORT"] = str(server.mqtt_port)
            import django
            from django.core.management import call_command

            django.setup()
            call_command("migrate", verbosity=0)
            yield Installation(folder, database.url(), server)


def percentile(values: list[float], percent: float) -> float:
    """The value below which ``percent`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
