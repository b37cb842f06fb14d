"""Both virtual cities in one process, as the demo runs them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from quartier.engines import nats
from quartier.virtual.element_server import DEFAULT_KEY
from quartier.virtual.run import run
from tests.patience import patient
from tests.virtual.conftest import free_port
from tests.virtual.test_chirpstack import account, listening, received


async def test_run_brings_both_cities_to_life(nats_server: nats.Server) -> None:
    stop, port, known = asyncio.Event(), free_port(), account(nats_server)
    async with listening(nats_server) as client:
        task = asyncio.create_task(
            run(
                element_port=port,
                mqtt_host=known["host"],
                mqtt_port=known["port"],
                mqtt_username=known["username"],
                mqtt_password=known["password"],
                speed=60.0,
                seed=1,
                history_s=3600,
                stop=stop,
            )
        )
        messages = await received(client, patient(4.0))
        async with httpx.AsyncClient() as http:
            answer = await http.get(
                f"http://127.0.0.1:{port}/api/v1/tags/virtuelles-dortmund/packets",
                params={"auth": DEFAULT_KEY, "limit": "100", "sort": "inserted_at"},
            )
        stop.set()
        await asyncio.wait_for(task, 10.0)
    events = Counter(str(message.topic).rsplit("/", 1)[1] for message in messages)
    assert events["join"] == 71
    assert events["up"] > 80
    now_s = time.time()
    inserted = [packet["inserted_at"] for packet in answer.json()["body"]]
    assert len(inserted) == 100
    # At sixty times the speed, a hundred packets are the work of a few seconds.
    assert max(inserted) <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s + 1))
    assert min(inserted) > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s - 60))


async def test_run_says_that_the_port_is_taken(nats_server: nats.Server) -> None:
    known = account(nats_server)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises((OSError, RuntimeError)):
            await asyncio.wait_for(
                run(
                    element_port=taken.getsockname()[1],
                    mqtt_host=known["host"],
                    mqtt_port=known["port"],
                    mqtt_username=known["username"],
                    mqtt_password=known["password"],
                    stop=asyncio.Event(),
                ),
                10.0,
            )


def test_command_runs_until_it_is_terminated() -> None:
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "quartier.virtual",
            "--element-port",
            str(port),
            "--mqtt-port",
            str(free_port()),
        ],
        env={"PYTHONPATH": "src"},
        cwd=Path(__file__).resolve().parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 15.0
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/tags", params={"auth": DEFAULT_KEY})
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline, "the server did not come up"
                time.sleep(0.1)
        assert len(json.loads(answer.content)["body"]) == 10
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "213 devices at ELEMENT IoT" in messages
        assert "MQTT broker not reachable" in messages
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
