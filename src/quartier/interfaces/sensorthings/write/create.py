"""Making entities, with what is nested in them: what an entity needs first, then itself, then what hangs on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from quartier.interfaces.sensorthings.facts import Entity, Link
from quartier.interfaces.sensorthings.model import BY_NAME, target
from quartier.interfaces.sensorthings.write import links, measuring, places, rights, tasks
from quartier.interfaces.sensorthings.write.answering import observation
from quartier.interfaces.sensorthings.write.body import Draft, Key, Ref
from quartier.interfaces.sensorthings.write.problems import BadField
from quartier.interfaces.sensorthings.write.work import Work, address, columns_of, model_of

type Given = Mapping[str, Key]
# Makes one entity whose single links are there; returns its key.
type Maker = Callable[[Work, Draft, Given, int | None], Awaitable[Key]]

# Belonging to these, an entity is theirs: only who may change them may add to them.
_OWNERS: Final = frozenset({"Thing", "TaskingCapability", "Subject"})
# What says where an entity is, before anything else of it is made.
_FIRST: Final = ("Thing", "TaskingCapability", "Subject", "Datastream", "MultiDatastream")
_GLOBAL: Final = frozenset({"ObservedProperty", "License"})


async def create(work: Work, draft: Draft, given: Given | None = None, place: int | None = None) -> Key:
    """Make what a draft says; returns its key. ``given`` are single links known already, ``place`` the municipality.

    Raises Refusal and NotAllowed; the transaction has to be given up then.
    """
    entity = draft.entity
    single = dict(given or {})
    place = await _place_of(work, entity, single, place)
    _hand_down(draft)
    for link in sorted(entity.links, key=lambda one: one.name not in _FIRST):
        if link.many or (found := draft.one(link.name)) is None:
            continue
        if link.name in single:
            if not isinstance(found, Ref) or found.key != single[link.name]:
                raise BadField(
                    draft.place(link.name), f"the path says {address(target(link), single[link.name])}"
                )
            continue
        single[link.name] = await _single(work, link, found, place)
        if link.name in _FIRST:
            place = await _place_of(work, entity, single, place)
    if entity.name == "Observation":
        made: Key = await observation(work, draft, single)
    else:
        place = await places.municipality(work, draft, place) if entity.name not in _GLOBAL else None
        rights.require_create(work.who.actor, entity, place)
        made = await _MAKERS.get(entity.name, _plain)(work, draft, single, place)
    work.made.add((entity.name, made))
    for link in entity.links:
        if link.many and (entity.name, link.name) not in _MADE_WITH_IT:
            for one in draft.links.get(link.name, ()):
                await _hang(work, (entity, made), link, one, place)
    return made


async def _place_of(work: Work, entity: Entity, single: Given, place: int | None) -> int | None:
    """The municipality of what an entity is to belong to; refuses what the caller may not add to."""
    for name in _FIRST:
        if name in single:
            to = BY_NAME[entity.link_by_name[name].target]
            owned = name in _OWNERS
            found = await (work.require_change if owned else work.municipality_of)(to, single[name])
            place = found if found is not None else place
    return place


def _hand_down(draft: Draft) -> None:
    """An inline ObservedProperty has no unit of its own: that of its Datastream is the best that is known."""
    if draft.entity.name == "Datastream" and isinstance(found := draft.one("ObservedProperty"), Draft):
        found.extra["unit"] = draft.values.get("unitOfMeasurement")


async def _single(work: Work, link: Link, found: Draft | Ref, place: int | None) -> Key:
    if isinstance(found, Draft):
        if found.entity.name == "ObservedProperty" and (
            known := await measuring.known_property(work, found, place)
        ):
            return known
        return await create(work, found, None, place)
    await work.see(found)
    return found.key


async def _plain(work: Work, draft: Draft, single: Given, place: int | None) -> int:
    """An entity whose table says all there is to it."""
    entity = draft.entity
    columns = columns_of(entity, draft.values)
    for link in entity.links:
        if link.column and link.name in single:
            columns[link.column] = single[link.name]
    if any(one.column == "municipality_id" for one in model_of(entity.table)._meta.concrete_fields):
        columns["municipality_id"] = place
    if entity.name == "Party":
        columns["auth_id"] = draft.extra.get("authId") if not rights.is_maker(work.who.actor, place) else None
        columns["auth_id"] = columns["auth_id"] or f"person {work.who.actor.person_id}"
    if entity.name == "TaskingCapability":
        tasks.check_capability(draft.values, draft.place("taskingParameters"))
    if entity.name == "Relation":
        for name in ("Subject", "Object"):
            if isinstance(key := single.get(name), tuple):
                columns |= {f"{name.lower()}_series_id": key[0], f"{name.lower()}_time": key[1]}
    return await work.insert(entity.table, columns)


async def _hang(
    work: Work, owner: tuple[Entity, Key], link: Link, one: Draft | Ref, place: int | None
) -> None:
    """Connect what was made with one target of a link to many; make the target where it is inline."""
    entity, made = owner
    if isinstance(one, Ref):
        await work.see(one)
        await links.connect(work, entity, made, link, one)
        return
    back = links.back_of(entity, link)
    if back is not None and not back.many:
        await create(work, one, {back.name: made}, place)
        return
    key = await create(work, one, None, place)
    await links.connect(work, entity, made, link, Ref(one.entity, key, one.at))


# Links that the maker of the entity follows itself.
_MADE_WITH_IT: Final = frozenset(
    {("Thing", "Locations"), ("MultiDatastream", "ObservedProperties"), ("HistoricalLocation", "Locations")}
)


async def _thing(work: Work, draft: Draft, single: Given, place: int | None) -> Key:
    key = await places.thing(work, draft, place)
    if party := single.get("Party"):
        await work.insert("sensorthings_thingdetails", {"thing_id": key, "party_id": party})
    work.made.add(("Thing", key))
    if found := draft.links.get("Locations"):
        await places.put(work, key, [await _located(work, one, place) for one in found])
    return key


async def _located(work: Work, one: Draft | Ref, place: int | None) -> int:
    if isinstance(one, Ref):
        await work.see(one)
        key = one.key
    else:
        key = await create(work, one, None, place)
    assert isinstance(key, int)  # noqa: S101
    return key


async def _historical_location(work: Work, draft: Draft, single: Given, place: int | None) -> Key:
    thing = single["Thing"]
    assert isinstance(thing, int)  # noqa: S101
    found = [await _located(work, one, place) for one in draft.links.get("Locations", ())]
    return await places.history(work, thing, found, draft.values.get("time") or work.now)


async def _multi_datastream(work: Work, draft: Draft, single: Given, place: int | None) -> Key:
    keys: list[Key] = []
    link = draft.entity.link_by_name["ObservedProperties"]
    units = draft.values.get("unitOfMeasurements") or []
    for n, one in enumerate(draft.links.get("ObservedProperties", ())):
        if isinstance(one, Draft) and n < len(units):
            one.extra["unit"] = units[n]
        keys.append(await _single(work, link, one, place))
    return await measuring.multi_datastream(work, draft, single, keys, place)


_MAKERS: Final[dict[str, Maker]] = {
    "Thing": _thing,
    "HistoricalLocation": _historical_location,
    "Datastream": measuring.datastream,
    "MultiDatastream": _multi_datastream,
    "ObservedProperty": measuring.observed_property,
    "Task": tasks.task,
}
