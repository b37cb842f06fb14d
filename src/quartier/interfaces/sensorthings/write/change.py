"""Changing what is there: PATCH (merge), PUT (replace) and JSON Patch, which is a merge of what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import jsonpatch
import jsonpointer
import orjson

from quartier.interfaces.sensorthings.facts import Entity
from quartier.interfaces.sensorthings.model import BY_NAME
from quartier.interfaces.sensorthings.write import links, measuring, observe, places, tasks, values
from quartier.interfaces.sensorthings.write.body import Draft, Key, Purpose, Ref
from quartier.interfaces.sensorthings.write.problems import BadField, below
from quartier.interfaces.sensorthings.write.work import Work, address, columns_of
from quartier.twin.record import Observation

_MOST_OPERATIONS: Final = 200
_LARGEST: Final = 256 * 1024


async def change(work: Work, entity: Entity, key: Key, draft: Draft, purpose: Purpose) -> None:
    """Write a draft over an entity that the caller sees. Raises Refusal and NotAllowed."""
    place = await work.require_change(entity, key)
    posted = dict(draft.values)
    if purpose == "replace":
        emptied = (
            one.name
            for one in entity.properties
            if one.writable and (one.nullable or one.name == "properties")
        )
        posted = dict.fromkeys(emptied) | posted
    if isinstance(key, tuple):
        await _observation(work, key, draft, posted, purpose)
    else:
        await _values(work, entity, key, draft, posted)
        await _follow(work, entity, key, draft)
        await work.audit(
            "sensorthings.change", address(entity, key), place, changed=sorted({*posted, *draft.links})
        )
    if entity.name in ("Thing", "Datastream", "MultiDatastream", "ObservedProperty"):
        work.stale = True


async def _values(work: Work, entity: Entity, key: int, draft: Draft, posted: dict[str, Any]) -> None:
    match entity.name:
        case "Thing":
            columns = columns_of(entity, posted, ("properties",))
            if "properties" in posted:
                at = draft.place("properties")
                columns |= await places.changed_properties(work, key, posted["properties"], at)
            await work.update(entity.table, key, columns | {"updated_at": work.now})
        case "ObservedProperty":
            await measuring.change_property(work, key, posted)
        case "Datastream":
            if columns := columns_of(entity, posted):
                await measuring.describe(work, key, columns)
        case "MultiDatastream":
            await _multi(work, entity, key, draft, posted)
        case "Party":
            columns = columns_of(entity, posted)
            if "authId" in draft.extra:
                raise BadField(draft.place("authId"), "cannot be changed")
            await work.update(entity.table, key, columns)
        case "Task":
            raise BadField(draft.at, "a Task cannot be changed; delete it, or give another one")
        case _:
            if entity.name == "TaskingCapability":
                tasks.check_capability(posted, draft.place("taskingParameters"))
            await work.update(entity.table, key, columns_of(entity, posted))
            if entity.name == "Location" and {"location", "encodingType"} & posted.keys():
                things = await work.all(
                    "SELECT thing_id FROM sensorthings_thinglocation WHERE location_id = %s", [key]
                )
                await places.follow(work, [row[0] for row in things])


async def _multi(work: Work, entity: Entity, key: int, draft: Draft, posted: Mapping[str, Any]) -> None:
    await work.update(entity.table, key, columns_of(entity, posted))
    rows = await work.all(
        "SELECT d.series_id, m.observation_types, m.units FROM sensorthings_datastream d"
        " JOIN sensorthings_multidatastream m ON m.id = d.multi_id WHERE m.id = %s ORDER BY d.position",
        [key],
    )
    measuring.check_lengths(draft, len(rows), len(rows[0][1]), len(rows[0][2]))
    if "unitOfMeasurements" in posted or "multiObservationDataTypes" in posted:
        for n, (series_id, types, units) in enumerate(rows):
            await measuring.describe(work, series_id, {"observation_type": types[n], "unit": units[n]})


async def _follow(work: Work, entity: Entity, key: int, draft: Draft) -> None:
    for link in entity.links:
        if link.name not in draft.links:
            continue
        targets = [one for one in draft.links[link.name] if isinstance(one, Ref)]
        for one in targets:
            await work.see(one)
        if not link.many:
            await links.set_single(work, entity, key, link, targets[0] if targets else None)
        elif (entity.name, link.name) == ("Thing", "Locations"):
            if targets:
                await places.put(work, key, [one.key for one in targets if isinstance(one.key, int)])
        elif (entity.name, link.name) == ("MultiDatastream", "ObservedProperties"):
            raise BadField(draft.place(link.name), "the components of a MultiDatastream cannot be changed")
        else:
            for one in targets:
                await links.connect(work, entity, key, link, one)


async def _observation(
    work: Work, key: tuple[int, datetime], draft: Draft, posted: dict[str, Any], purpose: Purpose
) -> None:
    """Another result is a correction; the time is the key and stays."""
    series_id, moment = key
    row = await work.row("SELECT multi_id FROM sensorthings_datastream WHERE series_id = %s", [series_id])
    multi = row[0] if row else None
    owner = ("Datastream", series_id) if multi is None else ("MultiDatastream", multi)
    stream = await work.stream(BY_NAME[owner[0]], owner[1], owner[0])
    parts = {one.id: one for one in stream.parts}
    found = await work.all(
        "SELECT series_id, result, flags, value, details FROM twin_observation WHERE municipality_id = %s"
        " AND series_id = ANY(%s) AND time = %s",
        [stream.municipality_id, list(parts), moment],
    )
    old = {one[0]: one for one in found}
    start, end = posted.get("phenomenonTime") or (moment, None)
    if start != moment:
        raise BadField(
            draft.place("phenomenonTime"),
            "cannot be moved, it is part of the id: delete this and post another one",
        )
    details = dict(old[series_id][4] or {}) if purpose == "merge" and series_id in old else {}
    if "phenomenonTime" in posted:
        details.pop("phenomenonTimeEnd", None)
    for name in ("resultTime", "validTime", "resultQuality", "parameters"):
        if name in posted:
            details.pop(name, None)
    given = {name: value for name, value in posted.items() if name != "resultTime" or name in draft.values}
    details |= observe.details_of(given, start, end) or {}
    for name, targets in draft.links.items():
        if name == "FeatureOfInterest" and targets and isinstance(to := targets[0], Ref):
            await work.see(to)
            details["featureOfInterest"] = to.key
            if isinstance(to.key, int):
                work.features.add((to.key, series_id))
        elif (name, [one.key for one in targets if isinstance(one, Ref)]) != (owner[0], [owner[1]]):
            raise BadField(draft.place(name), "cannot be changed; post another Observation")
    if "result" in posted:
        rows = observe.rows_of(
            stream, {"phenomenonTime": (moment, None), "result": posted["result"]}, draft.at
        )
    else:
        rows = [
            Observation(stream.municipality_id, one[0], moment, one[1], one[2], None, one[3]) for one in found
        ]
    work.rows += [row._replace(details=details) if row.series_id == series_id else row for row in rows]
    work.checks += [parts[row.series_id] for row in rows]


# -- JSON Patch


def patched(current: dict[str, Any], operations: Any) -> dict[str, Any]:
    """What JSON Patch (RFC 6902) makes of an entity, as a merge: changed properties, null where one was removed."""
    if not isinstance(operations, list):
        raise BadField("", f"expected a list of JSON Patch operations, found {values.kind_of(operations)}")
    if len(operations) > _MOST_OPERATIONS:
        raise BadField("", f"at most {_MOST_OPERATIONS} operations at once")
    document: Any = orjson.loads(orjson.dumps(current))
    for n, one in enumerate(operations):
        document = _applied(document, one, below("", n))
    if not isinstance(document, dict):
        raise BadField("", "the entity itself cannot be replaced by something else")
    changed = {
        name: value for name, value in document.items() if name not in current or current[name] != value
    }
    return changed | {name: None for name in current if name not in document}


def _applied(document: Any, one: Any, at: str) -> Any:
    if not isinstance(one, dict):
        raise BadField(at, f"expected an operation, found {values.kind_of(one)}")
    try:
        document = jsonpatch.JsonPatch([one]).apply(document, in_place=True)
    except jsonpatch.JsonPatchTestFailed:
        raise BadField(at, f"test failed: {str(one.get('path'))[:100]} has another value") from None
    except (
        jsonpatch.JsonPatchException,
        jsonpointer.JsonPointerException,
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        IndexError,
    ) as error:
        raise BadField(at, f"cannot be carried out: {str(error)[:150]}") from None
    # Copies of copies double with every operation, and moving a value into itself makes a ring.
    try:
        size = len(orjson.dumps(document))
    except (TypeError, ValueError, RecursionError):
        raise BadField(at, "makes something that cannot be kept") from None
    if size > _LARGEST:
        raise BadField(at, f"makes the entity larger than {_LARGEST} bytes")
    return document
