"""Two networks on two real databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest

from quartier.engines.bus import Bus
from quartier.engines.pools import Pool, async_pool

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

    from quartier.lorawan.models import DeviceProfile
    from tests.lorawan.network.scene import Scene
    from tests.lorawan.roaming.certificates import Authority
    from tests.lorawan.roaming.scene import Border, City
    from tests.world import World

SECOND = "quartier_second"
_PEER = """
    INSERT INTO lorawan_lorapeer (id, key, name, protocol, net_ids, nsid, join_euis, url, asynchronous, role_suffix,
        timeout_s, fingerprints, subject, authority, bearer_digest, sealed, kek_label, gateway, enabled, contact,
        created_at, updated_at)
    VALUES (1, 'peer', 'Peer', 'ts002-1.0', '[]', '', '[]', '', false, false, 5, '[]', '', '', '', '', '', '{}', true,
            '', now(), now())
"""
_AGREEMENT = """
    INSERT INTO lorawan_roamingagreement (id, peer_id, direction, dev_addrs, dev_euis, join_euis, tags, gateways,
        classes, uplink_bucket, uplink_policy, downlink_bucket, downlink_policy, mic_filter, hand_over_keys, lifetime_s,
        class_c, valid_from, purpose, retention_days, signed_here_by, signed_there_by, created_at)
    VALUES (%s, 1, %s, '[]', '[]', '[]', '{}', 'public', '[]', 10, 'Drop', 10, 'Drop', false, false, 0, true, now(), '',
            30, '', '', now())
"""
TABLES = "lorawan_roamingframe, lorawan_roamingday, lorawan_roamingagreement, lorawan_lorapeer"


@pytest.fixture(scope="session")
def second_database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """URL of a second database with the same tables."""
    from django.core.management import call_command
    from django.db import connections

    with django_db_blocker.unblock():
        settings = dict(connections["default"].settings_dict)
        base = f"postgresql://{settings['USER']}@/{{}}?host={quote(settings['HOST'], safe='')}"
        name = f"{SECOND}_{settings['NAME']}"
        with psycopg.connect(base.format("postgres"), autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            server.execute(f'CREATE DATABASE "{name}"')
        connections.databases[SECOND] = settings | {"NAME": name, "OPTIONS": {}}
        call_command("migrate", database=SECOND, verbosity=0)
        connections[SECOND].close()
        del connections[SECOND]
        del connections.databases[SECOND]
    yield base.format(name)
    with psycopg.connect(base.format("postgres"), autocommit=True) as server:
        server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def know_peer(pool: Pool) -> None:
    """The rows that ledger entries belong to: one peer, and an agreement in each direction."""
    async with pool.connection() as connection:
        await connection.execute(_PEER)
        for identity, direction in ((1, "carry"), (2, "carried")):
            await connection.execute(_AGREEMENT, (identity, direction))


@pytest.fixture
async def ledger_pool(pool: Pool) -> Pool:
    """The test's database, with a peer to keep a ledger of."""
    await know_peer(pool)
    return pool


@pytest.fixture
async def other_pool(second_database: str) -> AsyncIterator[Pool]:
    """The second database, with a peer to keep a ledger of."""
    async with async_pool(second_database) as opened:
        await know_peer(opened)
        yield opened
        async with opened.connection() as connection:
            await connection.execute(f"TRUNCATE {TABLES} CASCADE")


@pytest.fixture
def profile(world: World) -> DeviceProfile:
    """A plain device: 1.0.3, class A, without requests of its own."""
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import save_profile

    return save_profile(SYSTEM, "plain", name="Plain", adr=False, status_interval_s=0)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Signs for both cities."""
    from tests.lorawan.roaming.certificates import Authority

    return Authority()


@pytest.fixture
async def border(  # noqa: PLR0917 (fixtures)
    profile: DeviceProfile,
    ledger_pool: Pool,
    other_pool: Pool,
    bus: Bus,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Border]:
    """Dortmund and Schwerte, not connected yet."""
    from tests.lorawan.roaming.scene import Border, city

    async with AsyncExitStack() as stack:
        cities = [
            await stack.enter_async_context(
                city(
                    name,
                    pool,
                    bus,
                    identity=authority.identity(f"{name}.example"),
                    authority=authority,
                    folder=tmp_path_factory.mktemp(name),
                )
            )
            for name, pool in (("dortmund", other_pool), ("schwerte", ledger_pool))
        ]
        yield Border(cities[0], cities[1], authority)


@pytest.fixture
async def alone(
    profile: DeviceProfile,
    ledger_pool: Pool,
    bus: Bus,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[City]:
    """One network without TLS, for peers that are no Quartier."""
    from tests.lorawan.roaming.scene import city

    async with city(
        "schwerte",
        ledger_pool,
        bus,
        identity=authority.identity("schwerte.example"),
        authority=authority,
        folder=tmp_path_factory.mktemp("schwerte"),
        tls=False,
    ) as running:
        yield running


@pytest.fixture
def scene_alone(alone: City, world: World, profile: DeviceProfile, bus: Bus) -> Scene:
    """That network as the network tests know it."""
    from tests.lorawan.network.scene import Air, Neighbour, Scene

    air = Air()
    alone.sky.devices = air.devices
    return Scene(world, alone.store, alone.network, bus, air, Neighbour(), profile)


@pytest.fixture
def scene(border: Border, world: World, profile: DeviceProfile, bus: Bus) -> Scene:
    """Schwerte as the network tests know it: registers devices, and puts them into both cities' air."""
    from tests.lorawan.network.scene import Air, Neighbour, Scene

    air = Air()
    border.dortmund.sky.devices = border.schwerte.sky.devices = air.devices
    schwerte = border.schwerte
    return Scene(world, schwerte.store, schwerte.network, bus, air, Neighbour(), profile)
