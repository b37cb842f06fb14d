"""What a join needs and leaves behind. Nonces are taken by compare-and-set before an answer is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg

from quartier.engines.pools import Pool
from quartier.lorawan.frames.crypto import SessionKeys
from quartier.lorawan.keyring import ROOT, SESSION, Keyring
from quartier.lorawan.sessions import Device, MacState, Session, pack_keys

_FACTS: Final = """
SELECT d.sealed_keys, d.join_eui, coalesce(j.join_nonce, 0), coalesce(j.last_dev_nonce, -1),
       coalesce(j.rejoin_counter_0, -1), coalesce(j.rejoin_counter_1, -1)
FROM lorawan_loradevice d LEFT JOIN lorawan_joinstate j ON j.device_id = d.id WHERE d.id = %s
"""

# A nonce that was used, or a join nonce that somebody else has given out meanwhile, leaves all tables as they are.
_TAKE: Final = """
WITH state AS (
    INSERT INTO lorawan_joinstate AS j
        (device_id, last_dev_nonce, join_nonce, rejoin_counter_0, rejoin_counter_1, joined_at)
    SELECT %(device)s, %(dev_nonce)s, %(join_nonce)s, -1, -1, now()
    WHERE NOT %(random)s OR NOT EXISTS (
        SELECT FROM lorawan_devnonce n
        WHERE n.device_id = %(device)s AND n.join_eui = %(join_eui)s AND n.nonce = %(dev_nonce)s)
    ON CONFLICT (device_id) DO UPDATE
        SET last_dev_nonce = excluded.last_dev_nonce, join_nonce = excluded.join_nonce, joined_at = now()
        WHERE j.join_nonce < excluded.join_nonce AND (%(random)s OR j.last_dev_nonce < excluded.last_dev_nonce)
    RETURNING device_id
), kept AS (
    INSERT INTO lorawan_devnonce (device_id, join_eui, nonce)
    SELECT device_id, %(join_eui)s, %(dev_nonce)s FROM state WHERE %(random)s
)
"""
_TAKE_REJOIN: Final = """
WITH state AS (
    INSERT INTO lorawan_joinstate AS j
        (device_id, last_dev_nonce, join_nonce, rejoin_counter_0, rejoin_counter_1, joined_at)
    VALUES (%(device)s, -1, %(join_nonce)s, %(counter_0)s, %(counter_1)s, now())
    ON CONFLICT (device_id) DO UPDATE
        SET join_nonce = excluded.join_nonce, joined_at = now(),
            rejoin_counter_0 = greatest(j.rejoin_counter_0, excluded.rejoin_counter_0),
            rejoin_counter_1 = greatest(j.rejoin_counter_1, excluded.rejoin_counter_1)
        WHERE j.join_nonce < excluded.join_nonce
          AND (%(counter_0)s < 0 OR j.rejoin_counter_0 < %(counter_0)s)
          AND (%(counter_1)s < 0 OR j.rejoin_counter_1 < %(counter_1)s)
    RETURNING device_id
)
"""
_SESSION: Final = """
INSERT INTO lorawan_session AS s (device_id, pending, dev_addr, mac_version, sealed_keys, uplink_counter,
    delivered_counter, network_downlink_counter, application_downlink_counter, mac, writer, gateway, peer, created_at)
SELECT device_id, true, %(dev_addr)s, %(version)s, %(keys)s, -1, -1, 0, 0, %(mac)s::jsonb, 0, NULL, '', now() FROM state
ON CONFLICT (device_id, pending) DO NOTHING
RETURNING s.id
"""
_USE: Final = _TAKE + "SELECT device_id FROM state"  # noqa: S608 (a constant of this module)


@dataclass(frozen=True, slots=True)
class JoinFacts:
    """What a join request is answered from. ``nwk_key`` is the AppKey of a 1.0.x device."""

    nwk_key: bytes
    app_key: bytes
    join_eui: bytes
    join_nonce: int
    last_dev_nonce: int
    rejoin_counter_0: int
    rejoin_counter_1: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A session that is to begin. Of the nonce and the two rejoin counters one is given, the others are -1."""

    dev_addr: int
    version: str
    keys: SessionKeys
    mac: MacState
    join_nonce: int
    join_eui: bytes
    dev_nonce: int = -1
    random_nonce: bool = False
    rejoin_counter_0: int = -1
    rejoin_counter_1: int = -1


class Joins:
    """The tables of joining."""

    def __init__(self, pool: Pool, keyring: Keyring) -> None:
        self._pool = pool
        self._keyring = keyring

    async def facts(self, device: Device) -> JoinFacts | None:
        """Root keys and counters; None where the device has no keys. Raises SecretError, psycopg errors."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_FACTS, [device.id])
            row = await cursor.fetchone()
        if row is None or row[0] is None:
            return None
        keys = self._keyring.open(row[0], ROOT, device.eui)
        return JoinFacts(keys[:16], keys[16:32] or keys[:16], bytes.fromhex(row[1]), *row[2:])

    async def begin(self, device: Device, joined: Joined) -> Session | None:
        """Use the nonces and keep the new session, both durable; None where a nonce was used already.

        The session begins (and the one before ends) with its first uplink. Raises psycopg errors.
        """
        parameters = {
            "device": device.id,
            "dev_nonce": joined.dev_nonce,
            "join_nonce": joined.join_nonce,
            "random": joined.random_nonce,
            "join_eui": joined.join_eui.hex(),
            "counter_0": joined.rejoin_counter_0,
            "counter_1": joined.rejoin_counter_1,
            "dev_addr": joined.dev_addr,
            "version": joined.version,
            "keys": self._keyring.seal(pack_keys(joined.keys), SESSION, device.eui),
        }
        session = Session(
            id=0,
            device=device,
            dev_addr=joined.dev_addr,
            version=joined.version,
            keys=joined.keys,
            pending=True,
            mac=joined.mac,
        )
        parameters["mac"] = session.mac_json()
        statement = (_TAKE if joined.dev_nonce >= 0 else _TAKE_REJOIN) + _SESSION
        async with self._pool.connection() as connection, connection.transaction() as transaction:
            # A join accept that the device did not hear leaves a pending session behind.
            await connection.execute(
                "DELETE FROM lorawan_session WHERE device_id = %s AND pending", [device.id]
            )
            cursor = await connection.execute(statement, parameters)
            row = await cursor.fetchone()
            if row is None:
                raise psycopg.Rollback(transaction)
            session.id = row[0]
        return session if session.id else None

    async def use(
        self, device: Device, *, join_nonce: int, dev_nonce: int, join_eui: bytes, random: bool
    ) -> bool:
        """Use the nonces for a session in somebody else's network, durably; False where one was used already.

        Raises psycopg errors.
        """
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                _USE,
                {
                    "device": device.id,
                    "dev_nonce": dev_nonce,
                    "join_nonce": join_nonce,
                    "random": random,
                    "join_eui": join_eui.hex(),
                },
            )
            return await cursor.fetchone() is not None
