"""Real engines for the tests: one PostgreSQL per test worker, and NATS where a test asks for it.

Engines are started before Django reads its settings, because the database's address is one of them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

_data = Path(tempfile.mkdtemp(prefix="quartier-test-"))
os.environ["QUARTIER_DATA"] = str(_data)
for _name in ("QUARTIER_CONFIG", "QUARTIER_BASE_URL", "QUARTIER_NATS_URL", "QUARTIER_OIDC_SERVER"):
    os.environ.pop(_name, None)

from quartier.engines import nats, postgres  # noqa: E402 (reads the environment set above)

_data.chmod(0o755)
_postgres = postgres.start(_data, durable=False)
os.environ["QUARTIER_POSTGRES_URL"] = _postgres.url()


def _stop() -> None:
    _postgres.stop()
    shutil.rmtree(_postgres.sockets, ignore_errors=True)
    shutil.rmtree(_data, ignore_errors=True)


atexit.register(_stop)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nats.Server]:
    """A NATS server with JetStream and MQTT on free ports."""
    server = nats.start(tmp_path_factory.mktemp("nats"), mqtt_port=0, durable=False)
    yield server
    server.stop()


@pytest.fixture
async def bus(nats_server: nats.Server) -> AsyncIterator[object]:
    """A connection to NATS with empty streams."""
    from quartier.engines import bus as engine

    connection = await engine.connect(nats_server.url, name="test")
    for stream in (engine.INBOX, engine.OBSERVED):
        await connection.js.purge_stream(stream)
    yield connection
    await connection.close()


STORE_TABLES = (
    "twin_observation, twin_revision, twin_state, twin_rollup_15min, twin_rollup_1h, twin_rollup_1d, "
    "twin_rollup_mark, twin_change"
)


@pytest.fixture
def store(transactional_db: None) -> Iterator[str]:
    """URL of the test database with an empty store of observations; for code that opens its own connections."""
    from django.db import connection

    yield _postgres.url(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {STORE_TABLES}")
