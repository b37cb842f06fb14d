"""Datastreams, MultiDatastreams and ObservedProperties: series of the twin, with what was posted beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from psycopg.types.json import Jsonb

from quartier.cities.rules import NotAllowed
from quartier.interfaces.sensorthings.write import rights, values
from quartier.interfaces.sensorthings.write.body import Draft, Key
from quartier.interfaces.sensorthings.write.problems import BadField
from quartier.interfaces.sensorthings.write.streams import result_type
from quartier.interfaces.sensorthings.write.work import Work, adapted_to
from quartier.sources.domain.devices import slug_of
from quartier.twin.properties import catalogue

# Shown among the properties of an ObservedProperty, and kept in the twin's own columns.
_OWN_COLUMNS: Final = ("key", "unit", "name_en", "description_en", "category")
_IRI: Final = 300


async def datastream(work: Work, draft: Draft, single: Mapping[str, Key], place: int | None) -> int:
    """A new series, with what was posted of it."""
    posted = draft.values
    unit = await asyncio.to_thread(values.ucum, posted.get("unitOfMeasurement"))
    key = await _series(
        work,
        place,
        single,
        single["ObservedProperty"],
        channel=None,
        unit=unit,
        observation_type=posted["observationType"],
    )
    await work.insert(
        "sensorthings_datastream",
        {
            "series_id": key,
            "name": posted["name"],
            "description": posted["description"],
            "observation_type": posted["observationType"],
            "unit": posted.get("unitOfMeasurement"),
            "properties": posted.get("properties"),
            "sensor_id": single["Sensor"],
            "party_id": single.get("Party"),
            "license_id": single.get("License"),
        },
    )
    return key


async def _series(
    work: Work,
    place: int | None,
    single: Mapping[str, Key],
    observed_property: Key,
    *,
    channel: str | None,
    unit: str,
    observation_type: str,
) -> int:
    thing = single["Thing"]
    if channel is None:
        channel = await _free_channel(work, thing, observed_property)
    return await work.insert(
        "twin_series",
        {
            "municipality_id": place,
            "thing_id": thing,
            "observed_property_id": observed_property,
            "channel": channel,
            "unit": unit,
            "result_type": result_type(observation_type),
        },
    )


async def _free_channel(work: Work, thing: Key, observed_property: Key) -> str:
    """A channel tells several series of one property at one thing apart; the first one needs none."""
    await work.run("SELECT 1 FROM twin_thing WHERE id = %s FOR NO KEY UPDATE", [thing])
    rows = await work.all(
        "SELECT channel FROM twin_series WHERE thing_id = %s AND observed_property_id = %s",
        [thing, observed_property],
    )
    used = {row[0] for row in rows}
    return next(one for one in ("", *map(str, range(2, len(used) + 3))) if one not in used)


async def multi_datastream(
    work: Work, draft: Draft, single: Mapping[str, Key], properties: list[Key], place: int | None
) -> int:
    """A MultiDatastream and its components."""
    posted = draft.values
    types, units = posted["multiObservationDataTypes"], posted["unitOfMeasurements"]
    check_lengths(draft, len(properties), len(types), len(units))
    made = await work.insert(
        "sensorthings_multidatastream",
        {
            "municipality_id": place,
            "thing_id": single["Thing"],
            "sensor_id": single["Sensor"],
            "name": posted["name"],
            "description": posted["description"],
            "observation_types": types,
            "units": units,
            "properties": posted.get("properties"),
            "party_id": single.get("Party"),
            "license_id": single.get("License"),
        },
    )
    for n, (observed_property, type_, unit) in enumerate(zip(properties, types, units, strict=True)):
        key = await _series(
            work,
            place,
            single,
            observed_property,
            channel=f"md{made}.{n}",
            unit=await asyncio.to_thread(values.ucum, unit),
            observation_type=type_,
        )
        await work.insert(
            "sensorthings_datastream",
            {
                "series_id": key,
                "name": f"{posted['name']} ({n + 1})"[-300:],
                "observation_type": type_,
                "unit": unit,
                "sensor_id": single["Sensor"],
                "multi_id": made,
                "position": n,
            },
        )
    return made


def check_lengths(draft: Draft, properties: int, types: int, units: int) -> None:
    """18-088 clause 11.3: as many observation types and units as observed properties."""
    for name, n in (("multiObservationDataTypes", types), ("unitOfMeasurements", units)):
        if n != properties:
            raise BadField(
                draft.place(name), f"has {n} entries, and there are {properties} ObservedProperties"
            )


# -- changes


async def describe(work: Work, series_id: int, columns: Mapping[str, Any]) -> None:
    """Change what was posted of a series; a series that came from a device has no such row yet."""
    adapted = adapted_to("sensorthings_datastream", columns)
    exists = await work.row("SELECT 1 FROM sensorthings_datastream WHERE series_id = %s", [series_id])
    if exists:
        await work.update("sensorthings_datastream", series_id, columns)
    else:
        await work.insert("sensorthings_datastream", {"series_id": series_id, **columns})
    if "unit" in adapted or "observation_type" in adapted:
        await _follow_words(work, series_id, columns)


async def _follow_words(work: Work, series_id: int, columns: Mapping[str, Any]) -> None:
    row = await work.row("SELECT device_id, derivation FROM twin_series WHERE id = %s", [series_id])
    if row is None or row[0] is not None or row[1]:
        return  # its unit and type are those of the device or of the derivation
    if columns.get("unit"):
        unit = await asyncio.to_thread(values.ucum, columns["unit"])
        await work.run("UPDATE twin_series SET unit = %s WHERE id = %s", [unit, series_id])
    if columns.get("observation_type"):
        await work.run(
            "UPDATE twin_series SET result_type = %s WHERE id = %s",
            [result_type(columns["observation_type"]), series_id],
        )


async def move(
    work: Work, series_id: int, *, thing: int | None = None, observed_property: int | None = None
) -> None:
    """Another Thing or ObservedProperty for a Datastream."""
    row = await work.row(
        "SELECT s.thing_id, s.observed_property_id, s.municipality_id, t.municipality_id FROM twin_series s"
        " LEFT JOIN twin_thing t ON t.id = %s WHERE s.id = %s",
        [thing, series_id],
    )
    assert row is not None  # noqa: S101 (it was seen a moment ago)
    if thing is not None and row[2] != row[3]:
        raise BadField("Thing", "is in another municipality; a Datastream stays in its own")
    to, what = thing or row[0], observed_property or row[1]
    if (to, what) == (row[0], row[1]):
        return
    channel = await _free_channel(work, to, what)
    await work.run(
        "UPDATE twin_series SET thing_id = %s, observed_property_id = %s, channel = %s WHERE id = %s",
        [to, what, channel, series_id],
    )


async def move_multi(work: Work, key: int, thing: int) -> None:
    """Another Thing for a MultiDatastream and its components."""
    row = await work.row(
        "SELECT m.municipality_id = t.municipality_id FROM sensorthings_multidatastream m, twin_thing t"
        " WHERE m.id = %s AND t.id = %s",
        [key, thing],
    )
    if row is None or not row[0]:
        raise BadField("Thing", "is in another municipality; a MultiDatastream stays in its own")
    await work.update("sensorthings_multidatastream", key, {"thing_id": thing})
    await work.run(
        "UPDATE twin_series SET thing_id = %s WHERE id IN"
        " (SELECT series_id FROM sensorthings_datastream WHERE multi_id = %s)",
        [thing, key],
    )


# -- observed properties


async def known_property(work: Work, draft: Draft, place: int | None) -> int | None:
    """What makers measure is in the catalogue: an inline ObservedProperty of theirs is found by its definition."""
    if not rights.is_maker(work.who.actor, place):
        return None
    row = await work.row(
        "SELECT p.id FROM twin_observedproperty p LEFT JOIN sensorthings_propertydetails x"
        " ON x.observed_property_id = p.id WHERE coalesce(nullif(x.definition, ''), p.iri) = %s ORDER BY p.id LIMIT 1",
        [draft.values["definition"]],
    )
    if row is None:
        raise BadField(
            draft.place("definition"),
            "is not known here: link to one of the ObservedProperties, or ask the city to add yours",
        )
    return int(row[0])


async def observed_property(work: Work, draft: Draft, _: Mapping[str, Key], __: int | None) -> int:
    """A new ObservedProperty."""
    posted = draft.values
    more = dict(posted.get("properties") or {})
    name = posted["name"]
    unit = more.get("unit")
    if not isinstance(unit, str) or not await asyncio.to_thread(_is_unit, unit):
        unit = await asyncio.to_thread(values.ucum, draft.extra.get("unit"))
    await work.alone_with_names()
    base = slug_of(name)[:50] or "property"
    used = {
        row[0]
        for row in await work.all(
            "SELECT slug FROM twin_observedproperty WHERE slug LIKE %s", [base.replace("_", r"\_") + "%"]
        )
    }
    slug = next(one for one in (base, *(f"{base}-{n}" for n in range(2, len(used) + 3))) if one not in used)
    key = await work.insert(
        "twin_observedproperty",
        {
            "slug": slug,
            "iri": posted["definition"][:_IRI],
            "name_de": name,
            "name_en": _words(more, "name_en", 120) or name,
            "description_de": posted["description"],
            "description_en": _words(more, "description_en", values.LONGEST_TEXT),
            "unit": unit,
            "category": _words(more, "category", 40),
        },
    )
    rest = {name: value for name, value in more.items() if name not in _OWN_COLUMNS}
    if rest or len(posted["definition"]) > _IRI:
        await work.insert(
            "sensorthings_propertydetails",
            {
                "observed_property_id": key,
                "definition": posted["definition"] if len(posted["definition"]) > _IRI else "",
                "properties": rest or None,
            },
        )
    return key


def _is_unit(text: str) -> bool:
    return values.ucum({"symbol": text}) == text


def _words(more: dict[str, Any], name: str, longest: int) -> str:
    found = more.get(name)
    return found[:longest] if isinstance(found, str) else ""


async def change_property(work: Work, key: int, posted: Mapping[str, Any]) -> None:
    """Change an ObservedProperty; one that comes with Quartier stays as it is."""
    await own_property(work, key)
    columns: dict[str, Any] = {}
    if "name" in posted:
        columns["name_de"] = posted["name"]
    if "description" in posted:
        columns["description_de"] = posted["description"]
    if "definition" in posted:
        columns["iri"] = posted["definition"][:_IRI]
    details: dict[str, Any] = {}
    if "definition" in posted:
        details["definition"] = posted["definition"] if len(posted["definition"]) > _IRI else ""
    if "properties" in posted:
        more = posted["properties"] or {}
        columns |= {
            name: _words(more, name, 120)
            for name in ("name_en", "description_en", "category")
            if name in more
        }
        details["properties"] = {
            name: value for name, value in more.items() if name not in _OWN_COLUMNS
        } or None
    if "description" in posted:
        details["description"] = ""
    await work.update("twin_observedproperty", key, columns)
    if details:
        # Details that are not named stay as they are.
        await work.run(
            "INSERT INTO sensorthings_propertydetails AS x (observed_property_id, description, definition, properties)"
            " VALUES (%(key)s, '', %(definition)s, %(properties)s) ON CONFLICT (observed_property_id) DO UPDATE SET"
            " description = CASE WHEN %(described)s THEN '' ELSE x.description END,"
            " definition = CASE WHEN %(defined)s THEN excluded.definition ELSE x.definition END,"
            " properties = CASE WHEN %(more)s THEN excluded.properties ELSE x.properties END",
            {
                "key": key,
                "definition": details.get("definition", ""),
                "properties": Jsonb(details["properties"]) if details.get("properties") is not None else None,
                "described": "description" in details,
                "defined": "definition" in details,
                "more": "properties" in details,
            },
        )


async def own_property(work: Work, key: int) -> None:
    """Refuse to touch an entry of the catalogue that comes with Quartier."""
    row = await work.row("SELECT slug FROM twin_observedproperty WHERE id = %s", [key])
    if row is not None and row[0] in catalogue() and not work.who.actor.superuser:
        raise NotAllowed(f"{rights.WRITE} for the property {row[0]}, which comes with Quartier")
