"""Reading devices and sessions into memory: all at the start, later those that changed.

Rows come through a cursor of the server's, a few thousand at a time, so that a large installation needs no more memory
while it starts than afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from quartier.cities.secrets import SecretError
from quartier.lorawan.keyring import SESSION, Keyring
from quartier.lorawan.sessions import Device, Directory, Profile, Session, tags_of, unpack_keys
from quartier.lorawan.types import Eui

log = structlog.get_logger(__name__)

Connection = AsyncConnection[TupleRow]

_ROWS: Final = 5000

_PROFILES: Final = """
SELECT id, key, mac_version, region, device_class, adr, adr_margin_db, rx1_delay_s, rx1_dr_offset, rx2_data_rate,
       rx2_frequency_hz, abp_frequencies_hz, extra_frequencies_hz, maximum_eirp_dbm, uplink_dwell_time,
       downlink_dwell_time, maximum_duty_cycle, status_interval_s, class_c_timeout_s,
       downlink_frequencies_hz, adr_ack_exponents, rejoin_exponents, ping_slot_periodicity, ping_slot_data_rate,
       ping_slot_frequency_hz, beacon_frequency_hz, class_b_timeout_s
FROM lorawan_deviceprofile
"""
_DEVICES: Final = """
SELECT d.id, d.dev_eui, d.municipality_id, d.profile_id, d.activation, d.active, d.counter_reset, d.may_roam,
       nullif(d.tags, '{}')
FROM lorawan_loradevice d
"""
_SESSIONS: Final = """
SELECT s.id, d.dev_eui, s.dev_addr, s.mac_version, s.sealed_keys, s.pending, s.uplink_counter, s.delivered_counter,
       s.network_downlink_counter, s.application_downlink_counter, s.mac::text, s.gateway, s.peer, s.last_uplink_at,
       s.others
FROM lorawan_session s JOIN lorawan_loradevice d ON d.id = s.device_id
"""


async def data_key(connection: Connection) -> Keyring:
    """The installation's keyring; made on first use. Raises SecretError."""
    cursor = await connection.execute("SELECT sealed FROM lorawan_datakey WHERE id = 1")
    row = await cursor.fetchone()
    if row is None:
        await connection.execute(
            "INSERT INTO lorawan_datakey (id, sealed) VALUES (1, %s) ON CONFLICT DO NOTHING", [Keyring.make()]
        )
        cursor = await connection.execute("SELECT sealed FROM lorawan_datakey WHERE id = 1")
        row = await cursor.fetchone()
    assert row is not None  # noqa: S101 (it was just made)
    return Keyring.of(row[0])


async def profiles(connection: Connection) -> dict[int, Profile]:
    """All device profiles by id."""
    cursor = await connection.execute(_PROFILES)
    return {
        row[0]: Profile(
            id=row[0],
            key=row[1],
            mac_version=row[2],
            region=row[3],
            device_class=row[4],
            adr=row[5],
            adr_margin_db=row[6],
            rx1_delay_s=row[7],
            rx1_dr_offset=row[8],
            rx2_data_rate=row[9],
            rx2_frequency_hz=row[10],
            abp_frequencies_hz=tuple(row[11]),
            extra_frequencies_hz=tuple(row[12]),
            maximum_eirp_dbm=row[13],
            uplink_dwell_time=row[14],
            downlink_dwell_time=row[15],
            maximum_duty_cycle=row[16],
            status_interval_s=row[17],
            class_c_timeout_s=row[18],
            downlink_frequencies_hz={int(index): hertz for index, hertz in row[19].items()},
            adr_ack_exponents=(row[20][0], row[20][1]) if row[20] else None,
            rejoin_exponents=(row[21][0], row[21][1]) if row[21] else None,
            ping_slot_periodicity=row[22],
            ping_slot_data_rate=row[23],
            ping_slot_frequency_hz=row[24],
            beacon_frequency_hz=row[25],
            class_b_timeout_s=row[26],
        )
        for row in await cursor.fetchall()
    }


async def municipalities(connection: Connection) -> dict[int, str]:
    """Slugs by id."""
    cursor = await connection.execute("SELECT id, slug FROM cities_municipality")
    return dict(await cursor.fetchall())


def chosen(slugs: Mapping[int, str], wanted: Collection[str]) -> list[int]:
    """Ids of the municipalities whose network this is; of all where none is named."""
    return [id_ for id_, slug in slugs.items() if not wanted or slug in wanted]


async def devices(
    connection: Connection,
    directory: Directory,
    known: Mapping[int, Profile],
    slugs: Mapping[int, str],
    *,
    ours: Collection[int],
    where: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> list[Eui]:
    """Bring devices up to date, all of them or those of the condition ``where``; returns their EUIs.

    Those of municipalities that are not ``ours`` are left out, or go where they were.
    """
    found: list[Eui] = []
    async with connection.transaction(), connection.cursor("lora_devices", binary=True) as cursor:
        cursor.itersize = _ROWS
        await cursor.execute(_DEVICES + where, parameters)
        async for row in cursor:
            eui = bytes.fromhex(row[1])
            device = directory.devices.get(eui)
            if row[2] not in ours:
                if device is not None:
                    directory.remove(eui)
                continue
            profile = known.get(row[3])
            if profile is None:
                continue  # made a moment ago; the next look finds it
            if device is None or device.id != row[0]:
                device = Device(id=row[0], eui=eui, municipality=slugs[row[2]], profile=profile)
                directory.add(device)
            device.municipality, device.profile = slugs[row[2]], profile
            device.activation = "otaa" if row[4] == "otaa" else "abp"
            device.active, device.counter_reset, device.may_roam = row[5], row[6], row[7]
            device.tags = tags_of(row[8])
            found.append(eui)
    return found


async def sessions(
    connection: Connection,
    directory: Directory,
    keyring: Keyring,
    *,
    where: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> set[int]:
    """Take in sessions that are not known yet; returns the ids of all that were read."""
    found: set[int] = set()
    async with connection.transaction(), connection.cursor("lora_sessions", binary=True) as cursor:
        cursor.itersize = _ROWS
        await cursor.execute(_SESSIONS + where, parameters)
        async for row in cursor:
            eui = bytes.fromhex(row[1])
            device = directory.devices.get(eui)
            if device is None:
                continue
            found.add(row[0])
            if any(one is not None and one.id == row[0] for one in (device.session, device.pending)):
                # What is in memory is ahead of the row, or is found out to be behind when it is saved.
                continue
            try:
                keys = unpack_keys(keyring.open(row[4], SESSION, eui))
            except SecretError as error:
                log.error("lorawan.session_unreadable", device=row[1], error=str(error))
                continue
            directory.put(
                Session(
                    id=row[0],
                    device=device,
                    dev_addr=row[2],
                    version=_interned(row[3]),
                    keys=keys,
                    pending=row[5],
                    up=row[6],
                    delivered=row[7],
                    network_down=row[8],
                    application_down=row[9],
                    mac=row[10],
                    gateway=row[11],
                    peer=_interned(row[12]),
                    others=[(bytes.fromhex(eui), _interned(peer)) for eui, peer in row[14] or ()],
                    seen_at=row[13],
                )
            )
    return found


_texts: dict[str, str] = {}


def _interned(text: str) -> str:
    # A handful of versions and peers, in a hundred thousand rows.
    return _texts.setdefault(text, text)
