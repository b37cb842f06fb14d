"""Everything that the radio remembers, behind one door."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from quartier.engines.pools import Pool
from quartier.lorawan import metrics
from quartier.lorawan.keyring import Keyring
from quartier.lorawan.sessions import Directory, Profile, Session
from quartier.lorawan.store import load
from quartier.lorawan.store.counters import Counters
from quartier.lorawan.store.downlinks import Item, Queue
from quartier.lorawan.store.frames import FrameLog
from quartier.lorawan.store.gateways import GatewayList
from quartier.lorawan.store.joins import Joins
from quartier.lorawan.types import Eui

log = structlog.get_logger(__name__)

# Rows are stamped when their transaction writes them and seen when it commits.
_OVERLAP = timedelta(seconds=30)


class Store:
    """The radio's memory and tables. ``start`` loads everything; ``reload`` follows changes.

    With ``municipalities`` it is the network of those alone; others beside it are strangers.
    """

    def __init__(self, pool: Pool, municipalities: Collection[str] = ()) -> None:
        self.pool = pool
        self.directory = Directory()
        self.gateways = GatewayList(pool, municipalities)
        self.queue = Queue(pool, municipalities)
        self._wanted = municipalities
        self.frames = FrameLog(pool)
        # Tells the writes of this process from those of another.
        self.counters = Counters(pool, me=random.SystemRandom().getrandbits(62))
        self.profiles: dict[int, Profile] = {}
        self.municipalities: dict[int, str] = {}
        self.municipality_ids: dict[str, int] = {}
        self._ours: list[int] = []
        self._keyring: Keyring | None = None
        self._loaded_at = datetime(2000, 1, 1, tzinfo=UTC)

    @property
    def keyring(self) -> Keyring:
        """Opens radio keys; there after :meth:`start`."""
        assert self._keyring is not None, "the store was not started"  # noqa: S101
        return self._keyring

    @property
    def joins(self) -> Joins:
        """The tables of joining."""
        return Joins(self.pool, self.keyring)

    async def start(self) -> None:
        """Load everything and begin to write counters. Raises psycopg errors, SecretError."""
        began = datetime.now(UTC)
        async with self.pool.connection() as connection:
            self._keyring = await load.data_key(connection)
            self.profiles = await load.profiles(connection)
            self._know(await load.municipalities(connection))
            await load.devices(
                connection, self.directory, self.profiles, self.municipalities, ours=self._ours
            )
            await load.sessions(connection, self.directory, self._keyring)
        self._loaded_at = began
        await self.gateways.reload()
        await self.queue.interrupted()
        await self.queue.reload(self._keyring)
        metrics.DEVICES.set(len(self.directory))
        await self.counters.start()

    async def close(self) -> None:
        """Write what waits."""
        await self.counters.close()
        await self.queue.write()
        await self.frames.write(self.municipality_ids)
        await self.frames.write_hours(self.gateways.id_of)

    async def reload(self) -> tuple[list[Eui], list[Item]]:
        """Take in what was changed since; returns gateways that changed, and queue items that are new.

        Raises psycopg errors, SecretError.
        """
        began = datetime.now(UTC)
        async with self.pool.connection() as connection:
            profiles = await load.profiles(connection)
            self._know(await load.municipalities(connection))
            changed = {id_ for id_, profile in profiles.items() if self.profiles.get(id_, profile) != profile}
            self.profiles = profiles
            if changed:
                for device in self.directory:
                    if device.profile.id in changed:
                        device.profile = profiles[device.profile.id]
            await self._reload_devices(connection)
        self._loaded_at = began
        metrics.DEVICES.set(len(self.directory))
        gateways = await self.gateways.reload()
        return gateways, await self.queue.reload(self.keyring)

    async def _reload_devices(self, connection: load.Connection) -> None:
        changed = await load.devices(
            connection,
            self.directory,
            self.profiles,
            self.municipalities,
            ours=self._ours,
            where=" WHERE d.updated_at >= %(since)s",
            parameters={"since": self._loaded_at - _OVERLAP},
        )
        if changed:
            await self._reload_sessions(connection, changed)
        cursor = await connection.execute(
            "SELECT count(*) FROM lorawan_loradevice WHERE municipality_id = ANY(%s)", [self._ours]
        )
        row = await cursor.fetchone()
        if row is not None and row[0] != len(self.directory):
            await self._forget_removed(connection)

    async def _reload_sessions(self, connection: load.Connection, changed: Sequence[Eui]) -> None:
        known = [
            session
            for eui in changed
            for session in (self.directory.devices[eui].session, self.directory.devices[eui].pending)
            if session is not None
        ]
        found = await load.sessions(
            connection,
            self.directory,
            self.keyring,
            where=" WHERE d.dev_eui = ANY(%(euis)s)",
            parameters={"euis": [eui.hex() for eui in changed]},
        )
        for session in known:
            if session.id not in found:
                self.directory.drop(session)

    async def _forget_removed(self, connection: load.Connection) -> None:
        cursor = await connection.execute(
            "SELECT dev_eui FROM lorawan_loradevice WHERE municipality_id = ANY(%s)", [self._ours]
        )
        there = {bytes.fromhex(row[0]) for row in await cursor.fetchall()}
        for eui in [eui for eui in self.directory.devices if eui not in there]:
            self.directory.remove(eui)

    async def refresh(self, session: Session) -> None:
        """After a lost save: take over what the database has of a device's sessions. Raises psycopg errors."""
        device = session.device
        for one in (device.session, device.pending):
            self.directory.drop(one)
        async with self.pool.connection() as connection:
            await load.sessions(
                connection,
                self.directory,
                self.keyring,
                where=" WHERE d.id = %(id)s",
                parameters={"id": device.id},
            )

    def _know(self, municipalities: dict[int, str]) -> None:
        self.municipalities = municipalities
        self.municipality_ids = {slug: id_ for id_, slug in municipalities.items()}
        self._ours = load.chosen(municipalities, self._wanted)
