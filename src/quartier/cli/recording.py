"""Writes what the importers read: things and series by the ORM, observations by the recorder, with quality control.

Everything may be imported again: things are brought up to date, and an observation that is there stays as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import numpy as np

from quartier.cities.models import Municipality
from quartier.cli.importers import ImportedReading, ImportedThing
from quartier.engines.pools import Pool, async_pool
from quartier.intake import findings, quality
from quartier.intake.spatial import SPATIAL_LIMITS, spatial_check
from quartier.sources.domain.devices import Districts
from quartier.twin import rollups
from quartier.twin.flags import Flag, is_bad
from quartier.twin.models import ObservedProperty, Series, Thing
from quartier.twin.properties import Limits
from quartier.twin.record import Observation, Recorder
from quartier.twin.units import UnitError, converter

_BATCH_ROWS: Final = 8000
_BATCHES_IN_FLIGHT: Final = 3
# Charts that are not complete after this time become so while the worker goes on.
_ROLL_UP_S: Final = 120.0
# Readings this close together are of one moment for the neighbours' check.
_MOMENT: Final = timedelta(minutes=20)


@dataclass(slots=True)
class Counts:
    """What an import did. ``rate`` is in readings per second."""

    things_new: int = 0
    things_changed: int = 0
    readings: int = 0
    recorded: int = 0
    flagged: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Readings per second."""
        return self.readings / self.seconds if self.seconds else 0.0


def write_things(
    municipality: Municipality, things: Iterable[ImportedThing], counts: Counts, *, source: str
) -> dict[str, Thing]:
    """Create or update things; returns them by key. ``source`` says on their pages where they come from."""
    districts = Districts(municipality)
    existing = {thing.key: thing for thing in Thing.objects.filter(municipality=municipality)}
    found: dict[str, Thing] = {}
    for one in things:
        values = {
            "name": one.name,
            "kind": one.kind,
            "lon": one.longitude,
            "lat": one.latitude,
            "altitude_m": one.altitude_m,
            "street": one.street,
            "house_number": one.house_number,
            "postcode": one.postcode,
            "district": districts.at(one.longitude, one.latitude),
            "properties": {**one.properties, "source": source},
        }
        thing = existing.get(one.key)
        if thing is None:
            thing = Thing.objects.create(municipality=municipality, key=one.key, **values)
            counts.things_new += 1
        elif any(getattr(thing, name) != value for name, value in values.items()):
            for name, value in values.items():
                setattr(thing, name, value)
            thing.save()
            counts.things_changed += 1
        found[one.key] = thing
    return found


class SeriesOf:
    """Finds (and makes) the series of a thing and a property, with the conversion to the unit it is kept in."""

    def __init__(self, municipality: Municipality, things: dict[str, Thing]) -> None:
        self._municipality = municipality
        self._things = things
        self._properties = {row.slug: row for row in ObservedProperty.objects.all()}
        self._series: dict[tuple[str, str], Series] = {}
        self._keys: dict[int, tuple[str, str]] = {}
        self.limits: dict[int, Limits] = {}

    def find(self, thing_key: str, slug: str) -> Series | None:
        """The series; None for an unknown thing or property."""
        key = (thing_key, slug)
        series = self._series.get(key)
        if series is None:
            thing, observed = self._things.get(thing_key), self._properties.get(slug)
            if thing is None or observed is None:
                return None
            series, _new = Series.objects.get_or_create(
                thing=thing,
                observed_property=observed,
                channel="",
                defaults={
                    "municipality": self._municipality,
                    "unit": observed.unit,
                    "result_type": observed.result_type,
                },
            )
            self._series[key] = series
            self._keys[series.pk] = key
            self.limits[series.pk] = Limits.from_json(
                observed.limits, unit=observed.unit, circular=observed.circular
            )
        return series

    def thing(self, series_id: int) -> Thing:
        """The thing of a series that was found before."""
        return self._things[self._keys[series_id][0]]

    def slug(self, series_id: int) -> str:
        """The property of a series that was found before."""
        return self._keys[series_id][1]


def observations(
    readings: Iterable[ImportedReading], series_of: SeriesOf, counts: Counts
) -> Iterator[Observation]:
    """Readings in the unit of their series, flagged by the checks of a single series.

    Readings must come in order of time within each series; others are checked as late ones.
    """
    states: dict[int, quality.SeriesState | None] = {}
    known: dict[tuple[str, str, str], tuple[int, int, float, float] | None] = {}
    for reading in readings:
        counts.readings += 1
        key = (reading.thing_key, reading.property_slug, reading.unit)
        if key not in known:
            known[key] = _target(series_of, *key)
        target = known[key]
        if target is None:
            what = f"{reading.thing_key} {reading.property_slug} in {reading.unit}"
            counts.skipped[what] = counts.skipped.get(what, 0) + 1
            continue
        municipality_id, series_id, factor, offset = target
        value = reading.value * factor + offset
        flags, states[series_id] = quality.check(
            states.get(series_id), reading.time.timestamp(), value, series_of.limits[series_id]
        )
        yield Observation(municipality_id, series_id, reading.time, value, flags)


def _target(
    series_of: SeriesOf, thing_key: str, slug: str, unit: str
) -> tuple[int, int, float, float] | None:
    series = series_of.find(thing_key, slug)
    if series is None:
        return None
    try:
        factor, offset = converter(unit, series.unit)
    except UnitError:
        return None
    return series.municipality_id, series.pk, factor, offset


def check_neighbours(rows: Sequence[Observation], series_of: SeriesOf) -> list[Observation]:
    """The rows with the newest reading of every station compared with those of its neighbours."""
    newest: dict[int, int] = {}
    for index, row in enumerate(rows):
        if row.series_id not in newest or row.time > rows[newest[row.series_id]].time:
            newest[row.series_id] = index
    result = list(rows)
    for slug in SPATIAL_LIMITS:
        chosen = [
            i
            for i in newest.values()
            if series_of.slug(rows[i].series_id) == slug and not is_bad(rows[i].flags)
        ]
        if not chosen:
            continue
        moment = max(rows[i].time for i in chosen)
        chosen = [i for i in chosen if moment - rows[i].time <= _MOMENT]
        places = [series_of.thing(rows[i].series_id) for i in chosen]
        columns = np.array(
            [
                (
                    place.lat,
                    place.lon,
                    np.nan if place.altitude_m is None else place.altitude_m,
                    rows[i].result,
                )
                for place, i in zip(places, chosen, strict=True)
            ],
            dtype=float,
        )
        for index, found in zip(chosen, spatial_check(slug, *columns.T.tolist()), strict=True):
            if found.flagged:
                result[index] = rows[index]._replace(flags=rows[index].flags | int(Flag.SPATIAL))
    return result


async def record(
    rows: Iterable[Observation],
    counts: Counts,
    *,
    publish: bool,
    progress: Callable[[int], None] = lambda _rows: None,
) -> None:
    """Store observations in batches, a few of them under way at once, and list flagged ones as findings.

    ``publish``: followers (live pages, derived series) hear of them. Reading and checking the file goes on in a thread
    while the database writes.
    """
    begin = time.monotonic()
    iterator = iter(rows)

    def take() -> list[Observation]:
        return list(islice(iterator, _BATCH_ROWS))

    async with async_pool(name="load", max_size=3, statement_timeout_ms=300_000) as pool:
        recorder = Recorder(pool)
        await recorder.start()
        before = await _count(pool)
        under_way: list[asyncio.Task[bool]] = []
        try:
            while batch := await asyncio.to_thread(take):
                flagged = [row for row in batch if row.flags]
                if flagged:
                    await _note(pool, flagged, counts)
                under_way.append(asyncio.create_task(recorder.record(batch, publish=publish)))
                if len(under_way) >= _BATCHES_IN_FLIGHT:
                    await under_way.pop(0)
                progress(counts.readings)
            await asyncio.gather(*under_way)
            progress(counts.readings)
        finally:
            await recorder.close()
        counts.recorded = await _count(pool) - before
        counts.seconds = time.monotonic() - begin
        if counts.recorded:
            await _roll_up(pool)


async def _roll_up(pool: Pool) -> None:
    """Bring roll-ups up to date, so that charts show what was loaded when the command ends; the worker helps."""
    deadline = time.monotonic() + _ROLL_UP_S
    while time.monotonic() < deadline:
        async with pool.connection() as connection:
            if await rollups.refresh(connection):
                continue
            row = await (await connection.execute("SELECT EXISTS (SELECT FROM twin_rollup_mark)")).fetchone()
        if row is None or not row[0]:
            return
        await asyncio.sleep(0.1)


async def _count(pool: Pool) -> int:
    async with pool.connection() as connection:
        row = await (
            await connection.execute("SELECT coalesce(sum(n), 0)::bigint FROM twin_state")
        ).fetchone()
    return int(row[0]) if row else 0


async def _note(pool: Pool, flagged: Sequence[Observation], counts: Counts) -> None:
    """List flagged readings that are not in the store yet; a file that is loaded again finds nothing new."""
    columns: list[list[object]] = [
        [row.municipality_id for row in flagged],
        [row.series_id for row in flagged],
        [row.time for row in flagged],
    ]
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT series_id, time FROM twin_observation JOIN"
            " unnest(%s::smallint[], %s::integer[], %s::timestamptz[]) AS f(municipality_id, series_id, time)"
            " USING (municipality_id, series_id, time)",
            columns,
        )
        there: set[tuple[int, datetime]] = {(row[0], row[1]) for row in await cursor.fetchall()}
        new = [row for row in flagged if (row.series_id, row.time) not in there]
        counts.flagged += len(new)
        await findings.note(connection, new)
