"""What the pipeline must know of devices, kept in memory: where they stand, their codec, their mapping, their series.

Loaded on demand and forgotten whole when anything of it is changed (PostgreSQL notifies) or after a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.intake.mapping import PropertyFacts, Rule, compile_rule
from quartier.twin.properties import Limits, LimitsError
from quartier.twin.units import UnitError

log = structlog.get_logger(__name__)

CHANNEL = "quartier_changed"
_AGE_S = 60.0
_UNKNOWN_AGE_S = 2.0

DeviceKey = tuple[str, str, str]  # municipality slug, source key, external id
SeriesKey = tuple[int, int, str]  # thing id, property id, channel


@dataclass(frozen=True, slots=True)
class DeviceType:
    """Codec and compiled mapping of a device type. ``problem`` says why a mapping cannot be used."""

    id: int
    script: str
    rules: tuple[Rule, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment: at which thing from when to when."""

    thing_id: int
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A registered device."""

    id: int
    municipality_id: int
    active: bool
    device_type: DeviceType | None
    places: tuple[Place, ...]

    def thing_at(self, moment: datetime) -> int | None:
        """The thing that the device was at."""
        for place in self.places:
            if place.since <= moment and (place.until is None or moment < place.until):
                return place.thing_id
        return None


@dataclass(slots=True)
class SourceFacts:
    """What a source's parser needs."""

    id: int
    municipality_id: int
    kind: str
    settings: dict[str, Any]


@dataclass(slots=True)
class Catalogue:
    """The cache. All methods take the connection of the batch that asks."""

    devices: dict[DeviceKey, DeviceFacts] = field(default_factory=dict)
    unknown: dict[DeviceKey, float] = field(default_factory=dict)
    types: dict[int, DeviceType] = field(default_factory=dict)
    sources: dict[str, SourceFacts | None] = field(default_factory=dict)
    series: dict[SeriesKey, int] = field(default_factory=dict)
    municipalities: dict[str, int] = field(default_factory=dict)
    properties: dict[int, PropertyFacts] = field(default_factory=dict)
    limits: dict[int, Limits] = field(default_factory=dict)
    plain_rules: tuple[Rule, ...] = ()
    loaded_at: float = 0.0
    stale: bool = False

    def forget(self) -> None:
        """The next batch loads anew what it needs. The batch that is on its way keeps what it has."""
        self.stale = True

    def _clear(self) -> None:
        self.devices.clear()
        self.unknown.clear()
        self.types.clear()
        self.sources.clear()
        self.series.clear()
        self.municipalities.clear()
        self.properties.clear()
        self.limits.clear()
        self.plain_rules = ()
        self.loaded_at = 0.0

    async def refresh(self, connection: AsyncConnection[TupleRow]) -> None:
        """Load what is small (properties, municipalities, sources); at most once a minute. Begins a batch."""
        now = time.monotonic()
        if self.loaded_at and not self.stale and now - self.loaded_at < _AGE_S:
            return
        self.stale = False
        self._clear()
        cursor = await connection.execute(
            "SELECT id, slug, unit, result_type, limits, circular FROM twin_observedproperty"
        )
        for id_, slug, unit, result_type, limits, circular in await cursor.fetchall():
            self.properties[id_] = PropertyFacts(id_, slug, unit, result_type)
            self.limits[id_] = _limits(slug, limits, unit=unit, circular=circular)
        self.plain_rules = tuple(
            compile_rule(facts.slug, "observation", facts, "", "") for facts in self.properties.values()
        )
        cursor = await connection.execute("SELECT id, slug FROM cities_municipality")
        self.municipalities = {slug: id_ for id_, slug in await cursor.fetchall()}
        cursor = await connection.execute(
            "SELECT id, municipality_id, key, kind, settings FROM sources_source"
        )
        self.sources = {
            key: SourceFacts(id_, municipality_id, kind, settings)
            for id_, municipality_id, key, kind, settings in await cursor.fetchall()
        }
        self.loaded_at = now

    async def learn_devices(self, connection: AsyncConnection[TupleRow], keys: Iterable[DeviceKey]) -> None:
        """Load the devices of ``keys`` that are not known yet."""
        now = time.monotonic()
        wanted = [
            k for k in set(keys) if k not in self.devices and now - self.unknown.get(k, -9e9) > _UNKNOWN_AGE_S
        ]
        if not wanted:
            return
        cursor = await connection.execute(
            "SELECT m.slug, d.source_key, d.external_id, d.id, d.municipality_id, d.active, d.device_type_id,"
            " (SELECT coalesce(array_agg(ARRAY[p.thing_id::text, p.since::text, p.until::text]"
            "  ORDER BY p.since DESC), '{}')"
            "  FROM twin_deployment p WHERE p.device_id = d.id)"
            " FROM unnest(%s::text[], %s::text[], %s::text[]) AS k(municipality, source, external)"
            " JOIN cities_municipality m ON m.slug = k.municipality"
            " JOIN twin_device d ON (d.municipality_id, d.source_key, d.external_id) = (m.id, k.source, k.external)",
            [[k[0] for k in wanted], [k[1] for k in wanted], [k[2] for k in wanted]],
        )
        rows = await cursor.fetchall()
        await self._learn_types(
            connection, {row[6] for row in rows if row[6] is not None} - self.types.keys()
        )
        for municipality, source, external, id_, municipality_id, active, type_id, places in rows:
            self.devices[(municipality, source, external)] = DeviceFacts(
                id_,
                municipality_id,
                active,
                self.types.get(type_id),
                tuple(
                    Place(int(thing), _parse(since), _parse(until) if until else None)
                    for thing, since, until in places
                ),
            )
        for key in wanted:
            if key not in self.devices:
                self.unknown[key] = now
        if len(self.unknown) > 50_000:
            self.unknown.clear()

    async def _learn_types(self, connection: AsyncConnection[TupleRow], ids: set[int]) -> None:
        if not ids:
            return
        cursor = await connection.execute(
            "SELECT t.id, coalesce((SELECT c.script FROM intake_codec c WHERE c.device_type_id = t.id AND c.active"
            " ORDER BY c.version DESC LIMIT 1), '') FROM twin_devicetype t WHERE t.id = ANY(%s)",
            [list(ids)],
        )
        scripts: dict[int, str] = dict(await cursor.fetchall())
        cursor = await connection.execute(
            "SELECT device_type_id, path, role, observed_property_id, unit, channel FROM intake_fieldmapping"
            " WHERE device_type_id = ANY(%s) AND role <> 'ignore' ORDER BY id",
            [list(ids)],
        )
        rules: dict[int, list[Rule]] = {id_: [] for id_ in ids}
        problems: dict[int, str] = {}
        for type_id, path, role, property_id, unit, channel in await cursor.fetchall():
            try:
                rules[type_id].append(
                    compile_rule(path, role, self.properties.get(property_id), unit, channel)
                )
            except (UnitError, ValueError) as error:
                problems[type_id] = f"mapping of {path}: {error}"
        for id_ in ids:
            self.types[id_] = DeviceType(id_, scripts.get(id_, ""), tuple(rules[id_]), problems.get(id_, ""))

    async def learn_series(
        self, connection: AsyncConnection[TupleRow], wanted: dict[SeriesKey, tuple[int, int]]
    ) -> None:
        """Find or make the series of ``wanted``: key to (municipality id, device id)."""
        missing = {key: owner for key, owner in wanted.items() if key not in self.series}
        if not missing:
            return
        keys = list(missing)
        facts = [self.properties[k[1]] for k in keys]
        parameters = {
            "thing": [k[0] for k in keys],
            "property": [k[1] for k in keys],
            "channel": [k[2] for k in keys],
            "municipality": [missing[k][0] for k in keys],
            "device": [missing[k][1] for k in keys],
            "unit": [f.unit for f in facts],
            "type": [f.result_type for f in facts],
        }
        await connection.execute(
            "INSERT INTO twin_series (municipality_id, thing_id, observed_property_id, device_id, channel, unit,"
            " result_type, derivation, created_at)"
            " SELECT t.municipality_id, k.thing, k.property, k.device, k.channel, k.unit, k.type, '', now()"
            " FROM unnest(%(thing)s::bigint[], %(property)s::bigint[], %(channel)s::text[],"
            " %(municipality)s::smallint[], %(device)s::bigint[], %(unit)s::text[], %(type)s::text[])"
            " AS k(thing, property, channel, municipality, device, unit, type) JOIN twin_thing t ON t.id = k.thing"
            " ORDER BY k.thing, k.property, k.channel"
            " ON CONFLICT (thing_id, observed_property_id, channel) DO UPDATE SET device_id = excluded.device_id"
            " WHERE twin_series.device_id IS DISTINCT FROM excluded.device_id AND twin_series.derivation = ''",
            parameters,
        )
        cursor = await connection.execute(
            "SELECT s.thing_id, s.observed_property_id, s.channel, s.id FROM twin_series s"
            " JOIN unnest(%(thing)s::bigint[], %(property)s::bigint[], %(channel)s::text[])"
            " AS k(thing, property, channel) ON (s.thing_id, s.observed_property_id, s.channel)"
            " = (k.thing, k.property, k.channel)",
            parameters,
        )
        for thing_id, property_id, channel, series_id in await cursor.fetchall():
            self.series[(thing_id, property_id, channel)] = series_id


def _limits(slug: str, limits: dict[str, Any], *, unit: str, circular: bool) -> Limits:
    try:
        return Limits.from_json(limits, unit=unit, circular=circular)
    except LimitsError as error:
        # One property with a slip in its limits goes unchecked; the others must not stand still for it.
        log.error("catalogue.bad_limits", property=slug, error=str(error))
        return Limits(unit=unit, circular=circular)


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def listen(
    pool: AsyncConnectionPool[AsyncConnection[TupleRow]], catalogue: Catalogue, stop: asyncio.Event
) -> None:
    """Forget the catalogue whenever somebody changed a device, codec, mapping or source."""
    while not stop.is_set():
        try:
            async with pool.connection() as connection:
                try:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    catalogue.forget()  # what was notified while nobody listened is unknown
                    while not stop.is_set():
                        async for _ in connection.notifies(timeout=1.0, stop_after=1):
                            catalogue.forget()
                finally:
                    with contextlib.suppress(psycopg.Error):
                        await connection.execute(f"UNLISTEN {CHANNEL}")
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("catalogue.retry", error=str(error).strip())
            await asyncio.sleep(1)
