"""The gateways of this installation in memory, as ``gateways.registry.Gateways`` asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

import msgspec

from quartier.cities.secrets import unseal
from quartier.engines.pools import Pool
from quartier.lorawan.gateways.cups_messages import MOST_KEYS, Answer, Credentials, Report, Update, Wanted
from quartier.lorawan.gateways.registry import Gateway, GatewayProtocol
from quartier.lorawan.store import updates
from quartier.lorawan.types import Eui

_GATEWAYS: Final = """
SELECT g.eui, m.slug, g.name, g.protocol, g.disabled, g.private, g.lon, g.lat, g.altitude_m, g.antenna_gain_dbi,
       g.networks, g.credentials, g.id, g.beacon
FROM lorawan_gateway g JOIN cities_municipality m ON m.id = g.municipality_id
"""
_SIGNED_IN: Final = """
UPDATE lorawan_gateway SET credentials = jsonb_build_array(%(used)s::text),
       cups = cups || jsonb_build_object('signed_in_at', now())
WHERE eui = %(eui)s AND jsonb_array_length(credentials) > 1 AND credentials ->> -1 = %(used)s
"""
_SEEN: Final = """
UPDATE lorawan_gateway g SET last_seen_at = v.seen_at, status = v.status::jsonb
FROM unnest(%(eui)s::text[], %(seen_at)s::timestamptz[], %(status)s::text[]) AS v(eui, seen_at, status)
WHERE g.eui = v.eui
"""
_LONGEST_TOLD: Final = 127
_encoder = msgspec.json.Encoder()


class GatewayList:
    """Look-ups in memory; changes come with :meth:`reload`."""

    def __init__(self, pool: Pool, municipalities: Collection[str] = ()) -> None:
        self._pool = pool
        self._municipalities = municipalities
        self._gateways: dict[Eui, Gateway] = {}
        self._ids: dict[Eui, int] = {}
        self._signed_in: dict[Eui, bytes] = {}

    def __len__(self) -> int:
        return len(self._gateways)

    def get(self, eui: Eui) -> Gateway | None:
        """The gateway, or None where it is not known."""
        return self._gateways.get(eui)

    def protocols(self) -> set[GatewayProtocol]:
        """What the gateways that are not switched off speak."""
        return {
            protocol
            for one in self._gateways.values()
            if not one.disabled
            for protocol in ([one.protocol] if one.protocol else GatewayProtocol)
        }

    def id_of(self, eui: Eui) -> int | None:
        """Its row."""
        return self._ids.get(eui)

    def signed_in(self, eui: Eui, credential: bytes) -> None:
        """A gateway came in with this credential, so that it has it; the older ones are dropped with the next write.

        Only the newest drops the others: a gateway that still uses the old one has not got the new one yet.
        """
        gateway = self._gateways.get(eui)
        if gateway is not None and len(gateway.credentials) > 1 and gateway.credentials[-1] == credential:
            self._signed_in[eui] = credential

    async def wanted(self, eui: Eui, report: Report) -> Wanted | None:
        """What a Basics Station should have, for CUPS; None where nothing is kept for it. Raises psycopg errors."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT settings -> 'station', jsonb_array_length(credentials) FROM lorawan_gateway WHERE eui = %s",
                [eui.hex()],
            )
            row = await cursor.fetchone()
            update = await updates.wanted(
                connection,
                eui,
                model=_said(report.model),
                package=_said(report.package),
                station=_said(report.station),
                report=report,
            )
        if row is None or not row[0]:
            return Wanted(update=update) if update else None
        kept, credentials = row
        secrets = unseal(kept.get("sealed", ""))

        def of(name: str) -> Credentials | None:
            if not secrets.get(name):
                return None
            return Credentials.token(bytes.fromhex(secrets["trust"]), secrets[name])

        return Wanted(
            cups_uri=kept.get("cups_uri", ""),
            lns_uri=kept.get("lns_uri", ""),
            cups_credentials=of("cups_token"),
            lns_credentials=of("lns_token"),
            # The newest has not been used yet.
            lns_credentials_unused=credentials > 1,
            update=update,
        )

    async def answered(self, eui: Eui, report: Report, said: Answer) -> None:
        """Keep what a Station said of itself and what it was given, for pages. Raises psycopg errors."""
        moment = datetime.now(UTC)
        now, given = moment.isoformat(), said.given
        told: dict[str, Any] = {
            "asked_at": now,
            "station": _said(report.station),
            "model": _said(report.model),
            "package": _said(report.package),
            "cups_uri": _said(report.cups_uri),
            "lns_uri": _said(report.lns_uri),
            "keys": len(report.keys or ()),
            "key_checksums": list(report.keys or ())[:MOST_KEYS],
        }
        if given:
            told |= {"given": given, "given_at": now}
        if "lns_credentials" in given:
            told["credentials_given_at"] = now
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE lorawan_gateway SET cups = cups || %s::text::jsonb WHERE eui = %s",
                [_encoder.encode(told).decode(), eui.hex()],
            )
            await updates.note(connection, eui, package=_said(report.package), now=moment, given=said.update)

    def image(self, update: Update) -> AsyncIterator[bytes]:
        """The bytes of an update, piece by piece. Raises psycopg errors, ImageGone."""
        return updates.image(self._pool, update)

    async def delivered(self, eui: Eui, update: Update) -> None:
        """A Station has fetched all of an update. Raises psycopg errors."""
        await updates.delivered(self._pool, eui, update)

    async def reload(self) -> list[Eui]:
        """Bring memory up to date; returns the gateways that were changed or removed. Raises psycopg errors."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_GATEWAYS)
            rows = [
                row
                for row in await cursor.fetchall()
                if not self._municipalities or row[1] in self._municipalities
            ]
        new = {bytes.fromhex(row[0]): _gateway(row) for row in rows}
        changed = [eui for eui, gateway in self._gateways.items() if new.get(eui) != gateway]
        self._gateways = new
        self._ids = {bytes.fromhex(row[0]): row[12] for row in rows}
        return changed

    async def write(self, seen: Sequence[tuple[Eui, Any, dict[str, Any]]]) -> None:
        """Keep when gateways were last seen, with what is known of them (for pages), and drop replaced credentials."""
        signed_in, self._signed_in = self._signed_in, {}
        async with self._pool.connection() as connection:
            for eui, credential in signed_in.items():
                await connection.execute(_SIGNED_IN, {"eui": eui.hex(), "used": credential.hex()})
            if seen:
                await connection.execute(
                    _SEEN,
                    {
                        "eui": [eui.hex() for eui, _, _ in seen],
                        "seen_at": [at for _, at, _ in seen],
                        "status": [_encoder.encode(status).decode() for _, _, status in seen],
                    },
                )


def _said(text: str | None) -> str:
    """As a Station sent it; PostgreSQL keeps no NUL in a text."""
    return (text or "").replace("\0", "")[:_LONGEST_TOLD]


def _gateway(row: Sequence[Any]) -> Gateway:
    return Gateway(
        eui=bytes.fromhex(row[0]),
        municipality=row[1],
        name=row[2],
        protocol=GatewayProtocol(row[3]) if row[3] else None,
        disabled=row[4],
        private=row[5],
        lon=row[6],
        lat=row[7],
        altitude_m=row[8],
        antenna_gain_db=row[9],
        networks=_networks(row[10]),
        credentials=tuple(bytes.fromhex(one) for one in row[11]),
        beacon=row[13],
    )


def _networks(texts: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):  # checked when it was entered
            found.append(ip_network(text, strict=False))
    return tuple(found)
