"""What ``/health`` and ``/metrics`` say of engines that run, that are behind, that are down."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request

from quartier import __version__
from quartier.config import config
from quartier.engines import health, nats
from quartier.engines.bus import Bus


def _set(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """Change settings by the environment, as an operator does."""
    for name, value in settings.items():
        monkeypatch.setenv(f"QUARTIER_{name.upper()}", value)
    config.cache_clear()


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    config.cache_clear()


@pytest.fixture
def installed(
    transactional_db: None, nats_server: nats.Server, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """The addresses of both engines, and routes that use them."""
    from django.db import connection

    url = str(os.environ["QUARTIER_POSTGRES_URL"]).replace(
        "/quartier?", f"/{connection.settings_dict['NAME']}?"
    )
    _set(monkeypatch, postgres_url=url, nats_url=nats_server.url)
    monkeypatch.setattr(health, "_cache", health._Cache())
    return url, nats_server.url


def _client(address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=health.routes), client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://quartier.example")


def _samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_well(installed: tuple[str, str], bus: Bus) -> None:
    for _ in range(3):
        await bus.js.publish("inbox.dortmund.element", b"raw")
    subscription = await bus.js.pull_subscribe("inbox.>", durable="intake", stream="inbox")
    await subscription.fetch(1)
    try:
        async with _client() as client:
            answer = await client.get("/health")
            body = answer.json()
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            assert body["status"] == "ok"
            assert body["version"] == __version__
            assert body["database"] == {
                "ok": True,
                "version": body["database"]["version"],
                "error": "",
                "missing": [],
                "newest_observation_age_s": None,
            }
            assert body["database"]["version"].startswith("18.")
            assert body["bus"]["version"].split(".")[0] == "2"
            assert body["bus"]["streams"]["inbox"]["messages"] == 3
            # One was delivered and is not acknowledged, two were never delivered.
            assert body["bus"]["streams"]["inbox"]["pending"] == {"intake": 3}
            assert body["intake_pending"] == 3

            found = _samples((await client.get("/metrics")).text)
    finally:
        await bus.js.delete_consumer("inbox", "intake")
    assert found["quartier_engine_up", (("engine", "postgresql"),)] == 1
    assert found["quartier_engine_up", (("engine", "nats"),)] == 1
    assert found["quartier_consumer_pending", (("consumer", "intake"), ("stream", "inbox"))] == 3
    versions = (
        ("nats", body["bus"]["version"]),
        ("postgresql", body["database"]["version"]),
        ("version", __version__),
    )
    assert found["quartier_info", versions] == 1


async def test_passwords_are_not_told(installed: tuple[str, str]) -> None:
    password = installed[1].split(":")[2].split("@")[0]
    async with _client() as client:
        assert password not in (await client.get("/health")).text


@pytest.mark.parametrize(
    ("client", "forwarded", "inside"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("::ffff:127.0.0.1", None, True),
        ("192.0.2.7", None, False),
        ("127.0.0.1", "192.0.2.7", False),
        ("127.0.0.1", "127.0.0.1, 192.0.2.7", False),
        ("127.0.0.1", "192.0.2.7, 10.1.2.3", True),
        ("127.0.0.1", "nonsense", False),
        ("10.1.2.3", None, True),
    ],
)
async def test_details_stay_in_the_house(
    installed: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    client: str,
    forwarded: str | None,
    inside: bool,
) -> None:
    _set(monkeypatch, metrics_networks="127.0.0.0/8, ::1/128, 10.0.0.0/8")
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    async with _client(client) as asking:
        answer = await asking.get("/health", headers=headers)
        metrics = await asking.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert (set(answer.json()) == {"status", "time"}) is not inside
    assert metrics.status_code == (200 if inside else 403)
    if not inside:
        assert metrics.text == "Not from this network; see the setting metrics_networks.\n"


def test_client_without_an_address_is_outside() -> None:
    request = Request({"type": "http", "headers": [], "client": None})
    assert not health.is_inside(request, "0.0.0.0/0")


async def test_engines_that_are_down(tmp_path: Path) -> None:
    found = await health.inspect(f"postgresql:///quartier?host={tmp_path}", "nats://127.0.0.1:9")
    assert (found.status, found.database.ok, found.bus.ok) == ("down", False, False)
    assert str(tmp_path) in found.database.error
    assert found.bus.error


async def test_missing_migration_is_named(installed: tuple[str, str]) -> None:
    with psycopg.connect(installed[0], autocommit=True) as connection:
        connection.execute("DELETE FROM django_migrations WHERE app = 'twin' AND name = '0001_initial'")
        try:
            async with _client() as client:
                answer = await client.get("/health")
        finally:
            connection.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('twin', '0001_initial', now())"
            )
    assert answer.status_code == 503
    assert answer.json()["status"] == "down"
    assert answer.json()["database"]["missing"] == ["twin.0001_initial"]


async def test_empty_database_lacks_every_migration(installed: tuple[str, str]) -> None:
    # The database "postgres" of the same server has no table of ours.
    empty = installed[0].replace(installed[0].split("/")[3].split("?")[0], "postgres", 1)
    found = await health.inspect(empty, installed[1])
    assert found.status == "down"
    assert set(found.database.missing) == health.expected_migrations()
    assert found.database.newest_observation_age_s is None


@pytest.mark.parametrize(("pending", "status"), [(0, "ok"), (100_000, "ok"), (100_001, "behind")])
def test_behind_when_the_inbox_fills(pending: int, status: str) -> None:
    stream = health.Stream(messages=pending, size_bytes=0, pending={"intake": pending, "other": 1})
    bus = health.Bus(ok=True, streams={"inbox": stream})
    assert health.Health(version="1", database=health.Database(ok=True), bus=bus).status == status


async def test_answer_is_kept_for_a_moment(
    installed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _client() as client:
        first = (await client.get("/health")).json()
        _set(monkeypatch, postgres_url="postgresql:///nowhere?host=/nowhere")
        assert (await client.get("/health")).json()["database"] == first["database"]
        monkeypatch.setattr(health._cache, "_until", 0.0)
        assert (await client.get("/health")).status_code == 503


def test_counters_of_all_processes_are_added_up(tmp_path: Path) -> None:
    """Two roles count in one folder; a third process (the web server) shows the sum."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": "src"}
    count = "from prometheus_client import Counter; Counter('quartier_beans_total', 'Beans').inc(%d)"
    for beans in (2, 5):
        subprocess.run([sys.executable, "-c", count % beans], env=environment, check=True)
    show = """
import asyncio
from starlette.requests import Request
from quartier.engines import health
class Cache:
    async def get(self):
        return health.Health(version="1", database=health.Database(ok=True), bus=health.Bus(ok=True))
health._cache = Cache()
request = Request({"type": "http", "headers": [], "client": ("127.0.0.1", 1)})
print(asyncio.run(health.metrics(request)).body.decode())
"""
    shown = subprocess.run(
        [sys.executable, "-c", show], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert _samples(shown)["quartier_beans_total", ()] == 7
