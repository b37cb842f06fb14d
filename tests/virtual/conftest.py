"""What the tests of the virtual cities share: fixed moments, real data where present, a server on a real port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from granian.constants import Interfaces
from granian.server.embed import Server

from quartier.virtual.schedule import Clock, Faults, Schedule
from quartier.virtual.world import Network, world

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
# Thursday, 4 June 2026, 10:00 UTC.
START_S = 1780567200.0


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Hand:
    """A clock hand that the test moves."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def schedule(
    network: Network,
    *,
    now_s: float = START_S + 900.0,
    speed: float = 1.0,
    faults: Faults | None = None,
    history_s: float = 6 * 3600.0,
    hand: Hand | None = None,
) -> Schedule:
    """A schedule of one network whose clock stands still, or follows ``hand``."""
    cities = world(1)
    clock = Clock(START_S, speed, hand or Hand(now_s))
    chosen = Faults() if faults is None else faults
    return Schedule(cities, cities.devices_in(network), clock, chosen, history_s)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a real port; gives its address."""
    port = free_port()
    server = Server(
        app, address="127.0.0.1", port=port, interface=Interfaces.ASGINL, websockets=False, log_enabled=False
    )
    task = asyncio.create_task(server.serve())
    for _ in range(200):
        await asyncio.sleep(0.02)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await task


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with real data; tests that need it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real data not present at {DATA}")
    return DATA
