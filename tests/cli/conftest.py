"""The command line inside the test's process, on the test database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import pytest
from click.testing import CliRunner

from quartier.cli.main import cli
from quartier.config import config
from quartier.engines import nats
from quartier.engines.bus import Bus


class Quartier(Protocol):
    """Runs a command; returns its output. The exit status must be ``status``."""

    def __call__(self, *arguments: str, status: int = 0, typed: str = "") -> str:
        """Run ``quartier *arguments``; ``typed`` goes to standard input."""


@pytest.fixture
def quartier(
    store: str, nats_server: nats.Server, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Quartier]:
    for name in [name for name in os.environ if name.startswith("QUARTIER_")]:
        monkeypatch.setenv(name, os.environ[name])  # commands change it; this brings it back
    monkeypatch.setenv("QUARTIER_POSTGRES_URL", store)
    monkeypatch.setenv("QUARTIER_NATS_URL", nats_server.url)
    monkeypatch.setenv("QUARTIER_MQTT_PORT", str(nats_server.mqtt_port))
    monkeypatch.setenv("QUARTIER_MQTT_HOST", nats_server.mqtt_host)
    config.cache_clear()

    def run(*arguments: str, status: int = 0, typed: str = "") -> str:
        result = CliRunner().invoke(cli, arguments, input=typed, catch_exceptions=False, standalone_mode=True)
        assert result.exit_code == status, result.output
        return str(result.output)

    yield run
    config.cache_clear()
