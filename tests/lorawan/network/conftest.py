"""A network server on real engines, with a window of deduplication that does not keep tests waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from quartier.engines.bus import Bus
from quartier.engines.pools import Pool

if TYPE_CHECKING:
    from quartier.lorawan.models import DeviceProfile
    from tests.lorawan.network.scene import Scene
    from tests.world import World

WINDOW_S = 0.03


@pytest.fixture
def profile(world: World) -> DeviceProfile:
    """A plain device: 1.0.3, class A, without requests of its own."""
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import save_profile

    return save_profile(SYSTEM, "plain", name="Plain", adr=False, status_interval_s=0)


@pytest.fixture
def start(
    world: World, profile: DeviceProfile, pool: Pool, bus: Bus
) -> Callable[..., AbstractAsyncContextManager[Scene]]:
    """Starts network servers on the test's database."""

    @asynccontextmanager
    async def begin(before: Scene | None = None) -> AsyncIterator[Scene]:
        from quartier.intake.conveyor import Conveyor
        from quartier.lorawan.network import Network
        from quartier.lorawan.store import Store
        from tests.lorawan.network.scene import Air, Neighbour, Scene

        store = Store(pool)
        await store.start()
        air = before.air if before else Air()
        neighbour = Neighbour()
        stop = asyncio.Event()
        async with Conveyor(bus) as conveyor:
            network = Network(store, {"": air, "nachbar": air}, neighbour, conveyor, window_s=WINDOW_S)
            task = asyncio.create_task(network.run(stop))
            scene = Scene(world, store, network, bus, air, neighbour, profile)
            try:
                yield scene
            finally:
                stop.set()
                network.wake()
                await task
                await store.close()

    return begin


@pytest.fixture
async def scene(start: Callable[..., AbstractAsyncContextManager[Scene]]) -> AsyncIterator[Scene]:
    """A network server at work."""
    async with start() as running:
        yield running
