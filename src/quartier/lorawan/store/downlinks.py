"""The downlink queue: what waits for which device, in memory as far as it is open, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from quartier.engines.pools import Pool
from quartier.lorawan.frames.crypto import SessionKeys
from quartier.lorawan.frames.keys import multicast_session
from quartier.lorawan.keyring import GROUP, Keyring
from quartier.lorawan.types import Eui

_REMEMBERED: Final = 10_000
_OPEN: Final = """
SELECT d.id, d.device_id, d.group_id, d.port, d.payload, d.confirmed, d.priority, d.expires_at, d.attempts
FROM lorawan_downlink d JOIN cities_municipality m ON m.id = d.municipality_id
WHERE d.state = 'queued' AND (%(all)s OR m.slug = ANY(%(municipalities)s))
ORDER BY d.priority DESC, d.id LIMIT 50000
"""
_INTERRUPTED: Final = """
UPDATE lorawan_downlink d SET state = 'failed', reason = 'interrupted', done_at = now()
FROM cities_municipality m
WHERE m.id = d.municipality_id AND (%(all)s OR m.slug = ANY(%(municipalities)s))
  AND (d.state = 'sending' OR d.state = 'sent' AND d.confirmed)
"""
_DONE: Final = """
UPDATE lorawan_downlink d SET state = v.state, reason = v.reason,
    detail = CASE WHEN v.state = 'acknowledged' AND v.detail = '' THEN d.detail ELSE left(v.detail, 300) END,
    gateway = CASE WHEN v.gateway <> '' THEN v.gateway ELSE d.gateway END,
    peer = CASE WHEN v.gateway <> '' THEN v.peer ELSE d.peer END,
    sent_at = coalesce(v.sent_at, d.sent_at),
    done_at = CASE WHEN v.state = 'queued' OR v.state = 'sent' AND d.confirmed THEN NULL ELSE now() END
FROM unnest(%(id)s::bigint[], %(state)s::text[], %(reason)s::text[], %(detail)s::text[], %(gateway)s::text[],
            %(peer)s::text[], %(sent_at)s::timestamptz[]) AS v(id, state, reason, detail, gateway, peer, sent_at)
WHERE d.id = v.id AND d.state IN ('queued', 'sending', 'sent')
"""
_GROUPS: Final = """
SELECT g.id, m.slug, g.dev_addr, g.sealed_keys, g.frequency_hz, g.data_rate, g.active,
       array(SELECT d.dev_eui FROM lorawan_multicastgroup_devices l JOIN lorawan_loradevice d ON d.id = l.loradevice_id
             WHERE l.multicastgroup_id = g.id AND d.active ORDER BY d.id)
FROM lorawan_multicastgroup g JOIN cities_municipality m ON m.id = g.municipality_id
WHERE %(all)s OR m.slug = ANY(%(municipalities)s)
"""
_TAKE_GROUP_COUNTER: Final = """
WITH taken AS (
    UPDATE lorawan_multicastgroup SET downlink_counter = downlink_counter + 1 WHERE id = %(group)s AND active
    RETURNING downlink_counter - 1 AS counter
)
UPDATE lorawan_downlink d SET state = 'sending', attempts = d.attempts + 1, downlink_counter = taken.counter
FROM taken WHERE d.id = %(id)s AND d.state = 'queued' RETURNING taken.counter
"""


class Item(msgspec.Struct, kw_only=True):
    """One row of the queue that is open."""

    id: int
    device_id: int | None
    group_id: int | None
    port: int
    payload: bytes
    confirmed: bool
    priority: int
    expires_at: datetime | None
    attempts: int = 0
    busy: bool = False
    """On its way, or waiting for an acknowledgement."""
    waiting: bool = False
    """Sent, and the device has not said yet that it has it."""


class Group(NamedTuple):
    """A multicast group: its keys, and the devices that listen."""

    id: int
    municipality: str
    dev_addr: int
    keys: SessionKeys
    frequency_hz: int
    data_rate: int
    active: bool
    members: tuple[Eui, ...]


class _Told(NamedTuple):
    id: int
    state: str
    reason: str
    detail: str
    gateway: str
    peer: str
    sent_at: datetime | None


class Queue:
    """What waits, by device and by group. ``tell`` writes what became of an item."""

    def __init__(self, pool: Pool, municipalities: Collection[str] = ()) -> None:
        self._pool = pool
        self._whose = {"all": not municipalities, "municipalities": list(municipalities)}
        self._items: dict[int, Item] = {}
        self._by_device: dict[int, list[Item]] = {}
        self._by_group: dict[int, list[Item]] = {}
        self._told: list[_Told] = []
        self._writing: list[_Told] = []
        # What is done must not come back with a row that was read before that was written.
        self._done: dict[int, None] = {}
        self.groups: dict[int, Group] = {}

    async def interrupted(self) -> None:
        """At the start: what was on its way when a process died has an unknown end, and is not sent again."""
        async with self._pool.connection() as connection:
            await connection.execute(_INTERRUPTED, self._whose)

    async def reload(self, keyring: Keyring) -> list[Item]:
        """Bring memory up to date; returns the items that are new."""
        # What waits again after a failure still stands there as on its way.
        unwritten = {one.id for one in (*self._told, *self._writing)}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_OPEN, self._whose)
            rows = await cursor.fetchall()
            cursor = await connection.execute(_GROUPS, self._whose)
            groups = await cursor.fetchall()
        self.groups = {
            row[0]: Group(
                id=row[0],
                municipality=row[1],
                dev_addr=row[2],
                keys=multicast_session(keyring.open(row[3], GROUP, row[2].to_bytes(4)), row[2]),
                frequency_hz=row[4],
                data_rate=row[5],
                active=row[6],
                members=tuple(bytes.fromhex(eui) for eui in row[7]),
            )
            for row in groups
        }
        wanted = {row[0] for row in rows}
        for item in list(self._items.values()):
            if item.id not in wanted and item.id not in unwritten and not item.busy:
                self._forget(item)
        new: list[Item] = []
        for row in rows:
            if row[0] in self._items or row[0] in self._done:
                continue
            item = Item(
                id=row[0],
                device_id=row[1],
                group_id=row[2],
                port=row[3],
                payload=bytes(row[4]),
                confirmed=row[5],
                priority=row[6],
                expires_at=row[7],
                attempts=row[8],
            )
            new.append(item)
            self._items[item.id] = item
            self._list_of(item).append(item)
        for item in new:
            self._list_of(item).sort(key=lambda one: (-one.priority, one.id))
        return new

    def _list_of(self, item: Item) -> list[Item]:
        if item.device_id is not None:
            return self._by_device.setdefault(item.device_id, [])
        return self._by_group.setdefault(item.group_id or 0, [])

    def _forget(self, item: Item) -> None:
        self._items.pop(item.id, None)
        by, key = (
            (self._by_device, item.device_id)
            if item.device_id is not None
            else (self._by_group, item.group_id)
        )
        listed = by.get(key or 0)
        if listed and item in listed:
            listed.remove(item)
        if not listed:
            by.pop(key or 0, None)

    def waiting(self, device_id: int) -> Sequence[Item]:
        """What waits for a device, most urgent first. Items that have expired are told so and left out."""
        items = self._by_device.get(device_id)
        return self._fresh(items) if items else ()

    def waiting_for_group(self, group_id: int) -> Sequence[Item]:
        """What waits for a group."""
        items = self._by_group.get(group_id)
        return self._fresh(items) if items else ()

    def device_ids(self) -> Sequence[int]:
        """Devices for which something is open."""
        return list(self._by_device)

    def _fresh(self, items: Sequence[Item]) -> Sequence[Item]:
        now = datetime.now(UTC)
        fresh: list[Item] = []
        for item in list(items):
            if item.busy:
                continue
            if item.expires_at is not None and item.expires_at <= now:
                self.tell(item, "failed", reason="expired")
            else:
                fresh.append(item)
        return fresh

    def busy(self, device_id: int) -> Item | None:
        """The item of a device that is on its way, or waits for its acknowledgement."""
        return next((one for one in self._by_device.get(device_id, ()) if one.busy), None)

    def tell(
        self,
        item: Item,
        state: str,
        *,
        reason: str = "",
        detail: str = "",
        gateway: str = "",
        peer: str = "",
        sent_at: datetime | None = None,
    ) -> None:
        """Write what became of an item, soon; one that is done is forgotten."""
        item.waiting = state == "sent" and item.confirmed
        item.busy = item.waiting
        if state != "queued" and not item.waiting:
            self.withdraw(item)
        self._told.append(_Told(item.id, state, reason, detail, gateway, peer, sent_at))

    def take(self, item: Item) -> None:
        """An item goes out with the next commit of counters."""
        item.busy = True
        item.attempts += 1
        self._told = [one for one in self._told if one.id != item.id]

    def withdraw(self, item: Item) -> None:
        """Nothing more is to be done for an item."""
        item.busy = False
        self._forget(item)
        self._done[item.id] = None
        if len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]

    async def take_group_counter(self, item: Item) -> int | None:
        """A group's next counter for an item, durable; None where the item or the group is gone."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_TAKE_GROUP_COUNTER, {"group": item.group_id, "id": item.id})
            row = await cursor.fetchone()
        return None if row is None else int(row[0])

    async def write(self) -> None:
        """Write what was told until now. Raises psycopg errors; then it is written next time."""
        if not self._told:
            return
        # Of one item only the last state counts.
        told, self._told = self._told, []
        self._writing = told
        last: dict[int, _Told] = {}
        for one in told:
            before = last.get(one.id)
            last[one.id] = (
                one
                if before is None or one.gateway
                else one._replace(
                    gateway=before.gateway,
                    peer=before.peer,
                    sent_at=one.sent_at or before.sent_at,
                    # How it was sent stays known when the device says that it has it.
                    detail=one.detail or (before.detail if one.state == "acknowledged" else ""),
                )
            )
        columns: dict[str, list[Any]] = {
            name: [getattr(one, name) for one in last.values()] for name in _Told._fields
        }
        try:
            async with self._pool.connection() as connection:
                await connection.execute(_DONE, columns)
        except BaseException:
            self._told = [*told, *self._told]
            raise
        finally:
            self._writing = []
