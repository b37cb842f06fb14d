"""What a NATS server has to be told, whether it was, and what it keeps for MQTT clients that are away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiomqtt
import pytest
from nats.js.api import RetentionPolicy

from quartier.config import Config
from quartier.engines import bus as engine
from quartier.engines import doctor, nats
from quartier.engines.doctor import Finding
from quartier.engines.health import connect_once
from quartier.engines.nkeys import Issuer
from tests.patience import patient


@pytest.fixture
def server(tmp_path: Path) -> Iterator[nats.Server]:
    started = nats.start(tmp_path / "own", mqtt_port=0, durable=False)
    yield started
    started.stop()


@pytest.fixture
def settings(tmp_path: Path, server: nats.Server) -> Config:
    return Config(data=tmp_path, nats_url=server.url, mqtt_port=server.mqtt_port)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[str]:
    """A server of somebody who only switched JetStream on."""
    port = nats._free_port()
    file = tmp_path / "bare.conf"
    file.write_text(
        json.dumps({"listen": f"127.0.0.1:{port}", "jetstream": {"store_dir": str(tmp_path / "js")}})
    )
    with subprocess.Popen([nats.find(), "-c", file], stderr=subprocess.DEVNULL) as process:
        yield f"nats://quartier:anything@127.0.0.1:{port}"
        process.terminate()


async def test_own_server_is_as_it_has_to_be(server: nats.Server, settings: Config) -> None:
    assert await doctor.broker(server.url, settings) == [
        Finding("ok", "Subject mappings", "are in effect"),
        Finding("ok", "Sign-in at the broker", "strangers are refused"),
        Finding("ok", "MQTT", f"answers at 127.0.0.1:{server.mqtt_port}"),
    ]


async def test_a_server_without_the_configuration_is_noticed(bare: str, settings: Config) -> None:
    async with asyncio.timeout(patient(10)):
        while True:
            try:
                connection = await connect_once(bare, name="test")
                break
            except ConnectionError:
                await asyncio.sleep(0.05)
    assert await nats.ineffective(connection) == list(nats._mappings())
    await connection.close()
    closed = nats._free_port()
    found = await doctor.broker(bare, replace(settings, nats_url=bare, mqtt_port=closed))
    assert [(one.verdict, one.subject, one.found) for one in found] == [
        ("problem", "Subject mappings", "16 are not in effect, such as v1//1.>"),
        ("problem", "Sign-in at the broker", "anybody is let in, and may do anything"),
        (
            "problem",
            "MQTT",
            f"nobody answers at 127.0.0.1:{closed} (Connect call failed ('127.0.0.1', {closed}))",
        ),
    ]
    assert all("quartier nats-config" in one.advice for one in found)


async def test_one_missing_mapping_is_named(
    tmp_path: Path, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nats._mappings()
    name = "tokens.*.*.v1//0.>"
    with monkeypatch.context() as patch:
        patch.setattr(nats, "_mappings", lambda: {one: to for one, to in whole.items() if one != name})
        server = nats.start(tmp_path / "other", mqtt_port=0, durable=False)
    try:
        found = await doctor.broker(server.url, settings)
    finally:
        server.stop()
    assert found[0].found == f"1 are not in effect, such as {name}"


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[tuple[str, int, int]]:
    """A server of somebody who used what the command prints: its address and its ports for MQTT and WebSocket."""
    port, mqtt_port, websocket_port = nats._free_port(), nats._free_port(), nats._free_port()
    url = f"nats://bus:secret@127.0.0.1:{port}"
    text = nats.configuration(url, Issuer.of(tmp_path).public_key, mqtt_port, websocket_port)
    assert "secret" not in text
    file = tmp_path / "nats.conf"
    file.write_text(text.replace("/var/lib/nats", str(tmp_path / "streams")))
    with subprocess.Popen(
        [nats.find(), "-a", "127.0.0.1", "-p", str(port), "-c", file],
        env=os.environ | {"QUARTIER_NATS_PASSWORD": "secret"},
        stderr=subprocess.DEVNULL,
    ) as process:
        yield url, mqtt_port, websocket_port
        process.terminate()


async def test_printed_configuration_is_one(configured: tuple[str, int, int], settings: Config) -> None:
    """A server that is started with what the command prints has nothing wrong with it."""
    url, mqtt_port, websocket_port = configured
    named = replace(settings, nats_url=url, mqtt_port=mqtt_port, mqtt_websocket_port=websocket_port)
    found: list[Finding] = []
    async with asyncio.timeout(patient(20)):
        while not found or found[0].subject == "Broker":
            found = await doctor.broker(url, named)
            await asyncio.sleep(0.05)
    assert [(one.verdict, one.subject) for one in found] == [
        ("ok", "Subject mappings"),
        ("ok", "Sign-in at the broker"),
        ("ok", "MQTT"),
        ("ok", "MQTT by WebSocket"),
    ]


async def test_what_waits_for_mqtt_clients_is_limited(
    server: nats.Server, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server forgets what everybody has; what waits for somebody who stays away is bounded."""
    password = unquote(urlsplit(server.url).password or "")

    def client(name: str, *, clean: bool) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            server.mqtt_port,
            username=nats.USER,
            password=password,
            identifier=name,
            clean_session=clean,
        )

    async def publish(n: int, topic: str = "x/1") -> None:
        async with client("publisher", clean=True) as publisher:
            for _ in range(n):
                await publisher.publish(topic, b"." * 1000, qos=1)

    connected = await engine.connect(server.url)
    try:
        assert await engine.bound_mqtt(connected) is False
        async with client("reader", clean=False) as reader:
            await reader.subscribe("x/#", qos=1)
            await publish(20)
            await publish(10, "nobody/1")
            messages = aiter(reader.messages)
            for _ in range(20):
                await anext(messages)
        async with asyncio.timeout(patient(10)):
            while (await connected.js.stream_info(engine.MQTT_MESSAGES)).state.messages:  # noqa: ASYNC110 (of others)
                await asyncio.sleep(0.05)

        await publish(50)
        info = await connected.js.stream_info(engine.MQTT_MESSAGES)
        assert (info.config.retention, info.state.messages) == (RetentionPolicy.INTEREST, 50)
        assert (await doctor.broker(server.url, settings))[1].verdict == "problem"

        monkeypatch.setattr(engine, "MQTT_BYTES", 20_000)
        monkeypatch.setattr(doctor, "MQTT_BYTES", 20_000)
        assert await engine.bound_mqtt(connected) is True
        await publish(50)
        info = await connected.js.stream_info(engine.MQTT_MESSAGES)
        assert 10 < info.state.messages < 20
        assert info.state.bytes <= 20_000
        assert (await doctor.broker(server.url, settings))[1].verdict == "ok"
        assert await engine.bound_mqtt(connected) is True
    finally:
        await connected.close()
