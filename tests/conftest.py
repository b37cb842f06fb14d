"""Real engines for the tests: one PostgreSQL per test worker (``tests/plugin.py``), NATS where a test asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import settings

from quartier.engines import nats
from quartier.engines.bus import Bus
from quartier.engines.pools import Pool, async_pool

# How long an example takes says how busy the machine is; what must be quick is measured by a test of its own.
settings.register_profile("quartier", deadline=None)
settings.load_profile("quartier")


@pytest.fixture(scope="session", autouse=True)
def _clean_quickly() -> Iterator[None]:
    from django.test import TransactionTestCase

    from tests.clean import empty_tables

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty_tables())
        yield


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nats.Server]:
    """A NATS server with JetStream and MQTT on free ports, by WebSocket as well."""
    folder = tmp_path_factory.mktemp("nats")
    server = nats.start(folder, mqtt_port=0, websocket_port=nats._free_port(), durable=False)
    yield server
    server.stop()


@pytest.fixture
async def bus(nats_server: nats.Server) -> AsyncIterator[Bus]:
    """A connection to NATS with empty streams."""
    from quartier.engines import bus as engine

    connection = await engine.connect(nats_server.url, name="test")
    for stream in (engine.INBOX, engine.OBSERVED):
        await connection.js.purge_stream(stream)
        state = (await connection.js.stream_info(stream)).state
        assert state.messages == 0, f"{stream} is not empty"
    yield connection
    await connection.close()


if TYPE_CHECKING:  # models cannot be imported before Django is set up
    from quartier.twin.publish import Publisher
    from tests.world import World


@pytest.fixture
def publisher(pool: Pool, nats_server: nats.Server) -> Callable[[], Publisher]:
    """Makes publishers on the test's engines."""
    from quartier.engines import bus as engine
    from quartier.twin.publish import Publisher

    return lambda: Publisher(pool, lambda: engine.connect(nats_server.url, reconnect=False))


@pytest.fixture
def store(transactional_db: None) -> str:
    """URL of the test database with an empty store of observations; for code that opens its own connections."""
    from django.db import connection

    settings = connection.settings_dict
    return f"postgresql://{settings['USER']}@/{settings['NAME']}?host={quote(settings['HOST'], safe='')}"


@pytest.fixture
def world(store: str) -> World:
    """Musterstadt with one climate station, and all properties."""
    from tests.world import make_world

    return make_world()


@pytest.fixture
async def pool(store: str) -> AsyncIterator[Pool]:
    """A pool on the test database."""
    async with async_pool(store) as opened:
        yield opened
