"""Deleting, with what the standard says goes along (18-088 table 25), and what the models of other rooms say.

Rows that refer to a deleted one go or let go as their models say (``on_delete``), read from Django's model metadata, so
that rooms which refer to things and series need not be known here. Observations have no foreign keys: they are taken
away with their series, and single ones by :mod:`quartier.twin.correct`, which keeps them among the revisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.db import models

from quartier.interfaces.sensorthings.answers import Refusal
from quartier.interfaces.sensorthings.facts import Entity
from quartier.interfaces.sensorthings.model import BY_NAME
from quartier.interfaces.sensorthings.write import measuring
from quartier.interfaces.sensorthings.write.body import Key
from quartier.interfaces.sensorthings.write.problems import Conflict
from quartier.interfaces.sensorthings.write.work import Work, address, model_of
from quartier.twin import correct

_DEEPEST: Final = 12
# A series with more observations is emptied in pieces first: by DELETE of its Observations with a $filter.
MOST_WITH_A_SERIES: Final = 5_000_000
MOST_AT_ONCE: Final = 200_000
_PIECE: Final = 20_000
_STORES: Final = (
    "twin_observation",
    "twin_state",
    "twin_rollup_15min",
    "twin_rollup_1h",
    "twin_rollup_1d",
)
REASON: Final = "SensorThings: deleted"


async def delete(work: Work, entity: Entity, keys: Sequence[Key]) -> None:
    """Delete entities that the caller sees. Raises Refusal and NotAllowed."""
    if not keys:
        return
    if entity.id_is_text:
        await _observations(work, entity, keys)
        return
    for key in keys:
        place = await work.require_change(entity, key)
        await _prepare(work, entity, key)
        await work.audit("sensorthings.delete", address(entity, key), place)
    numbers = [key for key in keys if isinstance(key, int)]
    table = "twin_series" if entity.name == "Datastream" else entity.table
    await cascade(work, table, numbers)
    work.stale = True


async def _prepare(work: Work, entity: Entity, key: Key) -> None:
    """What goes along by the standard, and what must not go at all."""
    match entity.name:
        case "Sensor":
            row = await work.row("SELECT device_id, derivation FROM sensorthings_sensor WHERE id = %s", [key])
            if row is not None and (row[0] is not None or row[1]):
                raise Conflict("this Sensor is a device of the city, or a computation, and is removed there")
            await _with_owners(
                work, "SELECT series_id FROM sensorthings_datastream WHERE sensor_id = %s", key
            )
            multi = await work.all("SELECT id FROM sensorthings_multidatastream WHERE sensor_id = %s", [key])
            await _multi(work, [row[0] for row in multi])
        case "ObservedProperty":
            await measuring.own_property(work, int(str(key)))
            multi = await work.all(
                "SELECT DISTINCT d.multi_id FROM sensorthings_datastream d JOIN twin_series s ON s.id = d.series_id"
                " WHERE s.observed_property_id = %s AND d.multi_id IS NOT NULL",
                [key],
            )
            await _multi(work, [row[0] for row in multi])
            await _with_owners(work, "SELECT id FROM twin_series WHERE observed_property_id = %s", key)
        case "MultiDatastream":
            await _multi(work, [int(str(key))])
        case "Location":
            # 18-088 table 25: its HistoricalLocations go with it.
            rows = await work.all(
                "SELECT historical_location_id FROM sensorthings_historicallocationlocation WHERE location_id = %s",
                [key],
            )
            await cascade(work, "sensorthings_historicallocation", [row[0] for row in rows])
        case "FeatureOfInterest":
            await _feature(work, int(str(key)))
        case "Actuator":
            rows = await work.all(
                "SELECT id FROM sensorthings_taskingcapability WHERE actuator_id = %s", [key]
            )
            await cascade(work, "sensorthings_taskingcapability", [row[0] for row in rows])


async def _with_owners(work: Work, sql: str, key: Key) -> None:
    """Delete the Datastreams that go along; each of them has to be the caller's to delete."""
    ids = [row[0] for row in await work.all(sql, [key])]
    for one in ids:
        await work.require_change(BY_NAME["Datastream"], one)
    await cascade(work, "twin_series", ids)


async def _multi(work: Work, keys: list[int]) -> None:
    for key in keys:
        await work.require_change(BY_NAME["MultiDatastream"], key)
    rows = await work.all("SELECT series_id FROM sensorthings_datastream WHERE multi_id = ANY(%s)", [keys])
    await cascade(work, "twin_series", [row[0] for row in rows])
    await cascade(work, "sensorthings_multidatastream", keys)


async def _feature(work: Work, key: int) -> None:
    row = await work.row("SELECT location_id FROM sensorthings_featureofinterest WHERE id = %s", [key])
    if row is not None and row[0] is not None:
        raise Conflict(f"this is the feature of Locations({row[0]}) and goes with it")
    rows = await work.all(
        "SELECT o.municipality_id, o.series_id, o.time FROM sensorthings_featureseries f"
        " JOIN twin_series s ON s.id = f.series_id JOIN twin_observation o ON o.municipality_id = s.municipality_id"
        " AND o.series_id = s.id WHERE f.feature_id = %s AND (o.details->>'featureOfInterest')::bigint = %s LIMIT %s",
        [key, key, MOST_AT_ONCE + 1],
    )
    if len(rows) > MOST_AT_ONCE:
        raise Conflict("too many Observations belong to it; delete them first, with a $filter")
    await _take_away(work, [(row[0], row[1], row[2]) for row in rows])


# -- observations


async def _observations(work: Work, entity: Entity, keys: Sequence[Key]) -> None:
    found = [key for key in keys if isinstance(key, tuple)]
    places: dict[int, int | None] = {}
    for series_id, moment in found:
        if series_id not in places:
            places[series_id] = await work.require_change(entity, (series_id, moment))
    rows = await work.all(
        "SELECT s.municipality_id, c.id, k.time FROM unnest(%s::integer[], %s::timestamptz[]) AS k(series_id, time)"
        " JOIN twin_series s ON s.id = k.series_id LEFT JOIN sensorthings_datastream d ON d.series_id = s.id"
        # All components of a row of a MultiDatastream.
        " JOIN twin_series c ON c.id = s.id OR c.id IN"
        " (SELECT x.series_id FROM sensorthings_datastream x WHERE x.multi_id = d.multi_id)",
        [[key[0] for key in found], [key[1] for key in found]],
    )
    n = await _take_away(work, [(row[0], row[1], row[2]) for row in rows])
    first = next(iter(places.items()))
    target = address(entity, found[0]) if len(found) == 1 else f"{len(found)} Observations"
    await work.audit(
        "sensorthings.delete", target, first[1], observations=n, datastreams=sorted(places)[:100]
    )
    work.stale = True


async def _take_away(work: Work, keys: list[tuple[int, int, datetime]]) -> int:
    n = 0
    for start in range(0, len(keys), _PIECE):
        piece = keys[start : start + _PIECE]
        n += await correct.remove(work.connection, piece, reason=REASON)
        columns: list[Any] = [[key[1] for key in piece], [key[2] for key in piece]]
        await work.run(
            "DELETE FROM sensorthings_groupobservation g USING unnest(%s::integer[], %s::timestamptz[]) AS k(s, t)"
            " WHERE g.series_id = k.s AND g.time = k.t",
            columns,
        )
        relations = await work.all(
            "SELECT r.id FROM sensorthings_relation r JOIN unnest(%s::integer[], %s::timestamptz[]) AS k(s, t)"
            " ON r.subject_series_id = k.s AND r.subject_time = k.t"
            " OR r.object_series_id = k.s AND r.object_time = k.t",
            columns,
        )
        await cascade(work, "sensorthings_relation", [row[0] for row in relations])
    return n


# -- rows that refer to rows


async def cascade(work: Work, table: str, keys: Sequence[int], depth: int = 0) -> None:
    """Delete rows of a model with all that their models say goes along."""
    keys = list(keys)
    if not keys:
        return
    if depth > _DEEPEST:
        raise Refusal(409, "too much depends on this")
    model = model_of(table)
    for one in model._meta.get_fields(include_hidden=True):
        if not (one.auto_created and not one.concrete and (one.one_to_one or one.one_to_many)):
            continue
        other, column = one.related_model._meta, one.field.column
        if one.on_delete is models.CASCADE:
            rows = await work.all(
                f"SELECT {other.pk.column} FROM {other.db_table} WHERE {column} = ANY(%s)",  # noqa: S608
                [keys],
            )
            await cascade(work, other.db_table, [row[0] for row in rows], depth + 1)
        elif one.on_delete is models.SET_NULL:
            await work.run(
                f"UPDATE {other.db_table} SET {column} = NULL WHERE {column} = ANY(%s)",  # noqa: S608
                [keys],
            )
        elif one.on_delete is models.PROTECT and await work.row(
            f"SELECT 1 FROM {other.db_table} WHERE {column} = ANY(%s) LIMIT 1",  # noqa: S608
            [keys],
        ):
            raise Conflict(f"it is still used by a {other.verbose_name}")
    if table == "twin_series":
        await _stores(work, keys)
    await work.run(f"DELETE FROM {table} WHERE {model._meta.pk.column} = ANY(%s)", [keys])  # noqa: S608


async def _stores(work: Work, series: list[int]) -> None:
    """Take everything of series out of the store of observations."""
    places = await work.all("SELECT DISTINCT municipality_id FROM twin_series WHERE id = ANY(%s)", [series])
    ids = [row[0] for row in places]
    row = await work.row(
        "SELECT coalesce(sum(n), 0) FROM twin_state WHERE municipality_id = ANY(%s) AND series_id = ANY(%s)",
        [ids, series],
    )
    if row is not None and row[0] > MOST_WITH_A_SERIES:
        raise Conflict(f"{row[0]} Observations belong to it; delete older ones first, with a $filter")
    await work.run("SET LOCAL statement_timeout = '120s'")
    for table in _STORES:
        await work.run(
            f"DELETE FROM {table} WHERE municipality_id = ANY(%s) AND series_id = ANY(%s)",  # noqa: S608
            [ids, series],
        )
