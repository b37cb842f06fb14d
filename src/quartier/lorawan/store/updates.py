"""Updates of Basics Stations as CUPS gives them: chosen, counted, and read piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import AsyncConnection

from quartier.engines.pools import Pool
from quartier.lorawan.gateways.cups_messages import Report, Update
from quartier.lorawan.types import Eui
from quartier.lorawan.updates import OFFERED, PAUSE, Offer, choose

# The same order as domain.updates.offers.
_OFFERS: Final = """
SELECT u.id, u.package, u.size, u.packages, u.stations, u.signatures, d.attempts, d.begun_at, d.delivered_at
FROM lorawan_gateway g
JOIN lorawan_stationupdate u ON u.municipality_id IS NULL OR u.municipality_id = g.municipality_id
LEFT JOIN lorawan_stationdelivery d ON d.update_id = u.id AND d.gateway_id = g.id
WHERE g.eui = %s AND u.active AND u.model = %s AND (u.everywhere OR d.assigned)
ORDER BY coalesce(d.assigned, false) DESC, u.activated_at DESC, u.id DESC
"""
# Only the last one that was given: what ran before a later one is not lost.
_TOLD: Final = """
UPDATE lorawan_stationdelivery d
SET done_at = CASE WHEN u.package = %(package)s THEN coalesce(d.done_at, %(now)s) END,
    missed_at = CASE WHEN u.package = %(package)s THEN NULL ELSE %(now)s END
FROM lorawan_stationupdate u, lorawan_gateway g
WHERE u.id = d.update_id AND g.id = d.gateway_id AND g.eui = %(eui)s
  AND d.begun_at = (SELECT max(begun_at) FROM lorawan_stationdelivery WHERE gateway_id = g.id)
  AND (u.package = %(package)s AND d.done_at IS NULL
       OR u.package <> %(package)s AND d.delivered_at < %(now)s - %(pause)s)
"""
_BEGUN: Final = """
INSERT INTO lorawan_stationdelivery (update_id, gateway_id, assigned, attempts, begun_at)
SELECT u.id, g.id, false, 1, %(now)s
FROM lorawan_stationupdate u, lorawan_gateway g WHERE u.id = %(update)s AND g.eui = %(eui)s
ON CONFLICT (update_id, gateway_id) DO UPDATE
SET attempts = lorawan_stationdelivery.attempts + 1, begun_at = %(now)s, done_at = NULL
"""
_DELIVERED: Final = """
UPDATE lorawan_stationdelivery d SET delivered_at = %(now)s
FROM lorawan_gateway g WHERE g.id = d.gateway_id AND g.eui = %(eui)s AND d.update_id = %(update)s
"""


class ImageGone(LookupError):
    """An update was deleted while a Station fetched it."""


async def wanted(
    connection: AsyncConnection[Any], eui: Eui, *, model: str, package: str, station: str, report: Report
) -> Update | None:
    """The update that a Station is to be given now."""
    if not model:
        return None
    cursor = await connection.execute(_OFFERS, [eui.hex(), model])
    offers = [
        Offer(
            id=row[0],
            package=row[1],
            size=row[2],
            packages=row[3],
            stations=row[4],
            signatures={int(crc): bytes.fromhex(one) for crc, one in row[5].items()},
            attempts=row[6] or 0,
            begun_at=row[7],
            delivered_at=row[8],
        )
        for row in await cursor.fetchall()
    ]
    now = datetime.now(UTC)
    offer, state = choose(
        offers, package=package, station=station, keys=report.keys or (), asked_at=now, now=now
    )
    if offer is None or state not in OFFERED:
        return None
    return Update(offer.id, offer.package, offer.size, offer.signatures)


async def note(
    connection: AsyncConnection[Any], eui: Eui, *, package: str, now: datetime, given: Update | None
) -> None:
    """A Station told what it runs, and is about to be given ``given``, which counts even if it breaks off."""
    values = {"eui": eui.hex(), "package": package, "now": now}
    await connection.execute(_TOLD, values | {"pause": PAUSE})
    if given is not None:
        await connection.execute(_BEGUN, values | {"update": given.id})


async def delivered(pool: Pool, eui: Eui, update: Update) -> None:
    """A Station has fetched all of it."""
    async with pool.connection() as connection:
        await connection.execute(
            _DELIVERED, {"eui": eui.hex(), "update": update.id, "now": datetime.now(UTC)}
        )


async def image(pool: Pool, update: Update) -> AsyncIterator[bytes]:
    """The bytes, one piece in memory at a time; no connection is held while a slow Station reads. Raises ImageGone."""
    number, left = 0, update.size
    while left > 0:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT data FROM lorawan_stationupdatepart WHERE update_id = %s AND number = %s",
                [update.id, number],
            )
            row = await cursor.fetchone()
        if row is None:
            raise ImageGone(f"update {update.id}, part {number}")
        yield bytes(row[0])
        left -= len(row[0])
        number += 1
