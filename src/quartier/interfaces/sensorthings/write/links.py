"""Connecting entities that are there: tables of pairs, foreign keys, and the links that mean more than a row."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from quartier.interfaces.sensorthings.facts import Entity, Link
from quartier.interfaces.sensorthings.model import target
from quartier.interfaces.sensorthings.write import measuring, places
from quartier.interfaces.sensorthings.write.body import Key, Ref
from quartier.interfaces.sensorthings.write.problems import BadField
from quartier.interfaces.sensorthings.write.work import Work

_BACK: Final = {
    ("Observation", "Objects"): "Subject",
    ("Observation", "Subjects"): "Object",
    ("Thing", "Locations"): "Things",
}


def back_of(entity: Entity, link: Link) -> Link | None:
    """The link of the target that leads back."""
    to = target(link)
    if (name := _BACK.get((entity.name, link.name))) is not None:
        return to.link_by_name[name]
    return next((one for one in to.links if one.target == entity.name), None)


async def connect(work: Work, entity: Entity, key: Key, link: Link, other: Ref) -> None:
    """Make ``other`` a target of a link to many. Both are there, and ``other`` is seen by the caller."""
    match entity.name, link.name:
        case ("Thing", "Locations"):
            await work.require_change(entity, key)
            await places.put(work, _number(key), [_number(other.key)])
        case ("Location", "Things"):
            await work.require_change(other.entity, other.key)
            await places.put(work, _number(other.key), [_number(key)])
        case ("ObservationGroup", "Observations"):
            await _group(work, _number(key), other.key)
        case ("Observation", "ObservationGroups"):
            await work.require_change(other.entity, other.key)
            await _group(work, _number(other.key), key)
        case _ if link.table is not None:
            await work.require_change(entity, key)
            table, own, others = link.table
            await work.run(
                f"INSERT INTO {table} ({own}, {others}) VALUES (%s, %s) ON CONFLICT DO NOTHING",  # noqa: S608
                [key, other.key],
            )
        case _:
            back = back_of(entity, link)
            if back is None or back.many:
                raise BadField(other.at, f"{link.name} of a {entity.name} cannot be set")
            await set_single(work, other.entity, other.key, back, Ref(entity, key, other.at))


async def _group(work: Work, group: int, observation: Key) -> None:
    series_id, moment = _moment(observation)
    await work.run(
        "INSERT INTO sensorthings_groupobservation (group_id, series_id, time) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        [group, series_id, moment],
    )


async def set_single(work: Work, entity: Entity, key: Key, link: Link, to: Ref | None) -> None:
    """Let a single link of an entity lead to ``to`` (seen by the caller), or nowhere."""
    await work.require_change(entity, key)
    if to is not None and link.name in ("Thing", "TaskingCapability"):
        await work.require_change(to.entity, to.key)
    work.stale = True
    at = to.at if to else link.name
    other = to.key if to else None
    match entity.name, link.name:
        case ("Datastream", "Thing"):
            await measuring.move(work, _number(key), thing=_number(other))
        case ("Datastream", "ObservedProperty"):
            await measuring.move(work, _number(key), observed_property=_number(other))
        case ("Datastream", _):
            await measuring.describe(work, _number(key), {link.column: other})
        case ("MultiDatastream", "Thing"):
            await measuring.move_multi(work, _number(key), _number(other))
        case ("Relation", _):
            series_id, moment = _moment(other) if other is not None else (None, None)
            name = link.name.lower()
            await work.update(
                entity.table, _number(key), {f"{name}_series_id": series_id, f"{name}_time": moment}
            )
        case ("Thing", "Party"):
            await work.run(
                "INSERT INTO sensorthings_thingdetails (thing_id, party_id) VALUES (%s, %s)"
                " ON CONFLICT (thing_id) DO UPDATE SET party_id = excluded.party_id",
                [key, other],
            )
        case _ if link.column:
            await work.update(entity.table, _number(key), {link.column: other})
        case _:
            raise BadField(at, f"the {link.name} of an {entity.name} cannot be changed")


def _number(key: Key | None) -> int:
    assert isinstance(key, int)  # noqa: S101
    return key


def _moment(key: Key) -> tuple[int, datetime]:
    assert isinstance(key, tuple)  # noqa: S101
    return key
