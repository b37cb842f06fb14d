"""Things and where they are: Thing, Location, HistoricalLocation."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.model import visible
from quartier.interfaces.sensorthings.model.shared import DESCRIPTION, ENCODING, ID, NAME, PROPERTIES, pairs

THING = Entity(
    "Thing",
    "Things",
    "twin_thing",
    "twin_thing {a}",
    (
        ID,
        NAME,
        DESCRIPTION,
        Property(
            "properties",
            "json",
            "({a}.properties || jsonb_strip_nulls(jsonb_build_object('municipality', {a}_m.slug, 'kind', {a}.kind,"
            " 'key', {a}.key, 'address', nullif(trim({a}.street || ' ' || {a}.house_number), ''),"
            " 'district', {a}_b.name, 'simulated', {a}.simulated)))",
            column="properties",
            nullable=False,
            words="Besides what was posted: municipality, kind, key, address, district and simulated, read only.",
        ),
    ),
    (
        pairs("Locations", "Location", "sensorthings_thinglocation", "thing_id", "location_id"),
        Link("HistoricalLocations", "HistoricalLocation", True, "{c}.thing_id = {p}.id", same_thing=True),
        Link("Datastreams", "Datastream", True, "{c}.thing_id = {p}.id", same_thing=True),
        Link("MultiDatastreams", "MultiDatastream", True, "{c}.thing_id = {p}.id", same_thing=True),
        Link("TaskingCapabilities", "TaskingCapability", True, "{c}.thing_id = {p}.id"),
        Link(
            "Party",
            "Party",
            False,
            "{c}.id = {p}_x.party_id",
            table=("sensorthings_thingdetails", "thing_id", "party_id"),
            shown="{p}_x.party_id IS NOT NULL",
        ),
    ),
    visible.thing_itself,
    joins=(
        ("m", "JOIN cities_municipality {a}_m ON {a}_m.id = {a}.municipality_id"),
        ("b", "LEFT JOIN cities_district {a}_b ON {a}_b.id = {a}.district_id"),
        ("x", "LEFT JOIN sensorthings_thingdetails {a}_x ON {a}_x.thing_id = {a}.id"),
    ),
    requirement="datamodel/thing",
)

LOCATION = Entity(
    "Location",
    "Locations",
    "sensorthings_location",
    "sensorthings_location {a}",
    (
        ID,
        NAME,
        DESCRIPTION,
        ENCODING,
        Property(
            "location",
            "geometry",
            "{a}.location",
            box="{a}.place",
            column="location",
            mandatory=True,
            nullable=False,
        ),
        PROPERTIES,
    ),
    (
        pairs("Things", "Thing", "sensorthings_thinglocation", "location_id", "thing_id"),
        pairs(
            "HistoricalLocations",
            "HistoricalLocation",
            "sensorthings_historicallocationlocation",
            "location_id",
            "historical_location_id",
        ),
    ),
    lambda a, sees: visible.location(f"{a}.id", sees),
    requirement="datamodel/location",
)

HISTORICAL_LOCATION = Entity(
    "HistoricalLocation",
    "HistoricalLocations",
    "sensorthings_historicallocation",
    "sensorthings_historicallocation {a}",
    (ID, Property("time", "instant", "{a}.time", column="time", mandatory=True, nullable=False)),
    (
        Link("Thing", "Thing", False, "{c}.id = {p}.thing_id", column="thing_id", mandatory=True),
        pairs(
            "Locations",
            "Location",
            "sensorthings_historicallocationlocation",
            "historical_location_id",
            "location_id",
        ),
    ),
    visible.of_its_thing,
    joins=(("t", "JOIN twin_thing {a}_t ON {a}_t.id = {a}.thing_id"),),
    municipality="{a}_t.municipality_id",
    requirement="datamodel/historical-location",
)
