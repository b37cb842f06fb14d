"""What is measured at a thing: Datastream and MultiDatastream."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.model import visible
from quartier.interfaces.sensorthings.model.shared import (
    DESCRIPTION,
    ID,
    LICENSE_LINK,
    NAME,
    OBSERVED_AREA,
    PARTY_LINK,
    PROPERTIES,
    pairs,
)

OM = "http://www.opengis.net/def/observationType/OGC-OM/2.0/"

_SENSOR_OF_SERIES = (
    "{c}.id = coalesce({p}_d.sensor_id, CASE WHEN {p}.derivation = '' THEN"
    " (SELECT x.id FROM sensorthings_sensor x WHERE x.device_id = {p}.device_id) END,"
    " (SELECT x.id FROM sensorthings_sensor x WHERE x.municipality_id = {p}.municipality_id"
    " AND x.derivation = coalesce(nullif({p}.derivation, ''), 'imported')))"
)
_PERIOD = Property(
    "phenomenonTime",
    "period",
    "{a}_st.first_time",
    end="{a}_st.time",
    writable=False,
    words="From the counters.",
)

DATASTREAM = Entity(
    "Datastream",
    "Datastreams",
    "sensorthings_datastream",
    "twin_series {a}",
    (
        ID,
        Property(
            "name",
            "text",
            "coalesce(nullif({a}_d.name, ''), {a}_t.name || ': ' || {a}_p.name_de"
            " || CASE WHEN {a}.channel = '' THEN '' ELSE ' (' || {a}.channel || ')' END)",
            column="name",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "description",
            "text",
            "coalesce(nullif({a}_d.description, ''), nullif({a}_p.description_de, ''), {a}_p.name_de)",
            column="description",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "observationType",
            "text",
            "coalesce(nullif({a}_d.observation_type, ''), CASE {a}.result_type"
            f" WHEN 'number' THEN '{OM}OM_Measurement' WHEN 'bool' THEN '{OM}OM_TruthObservation'"
            f" ELSE '{OM}OM_Observation' END)",
            column="observation_type",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "unitOfMeasurement",
            "json",
            "coalesce({a}_d.unit, sensorthings_unit({a}.unit))",
            column="unit",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "observedArea",
            "geometry",
            OBSERVED_AREA.replace("{column}", "location"),
            box=OBSERVED_AREA.replace("{column}", "place"),
            writable=False,
        ),
        _PERIOD,
        Property("resultTime", "period", "{a}_st.first_time", end="{a}_st.time", writable=False),
        Property("properties", "json", "{a}_d.properties", column="properties"),
    ),
    (
        Link("Thing", "Thing", False, "{c}.id = {p}.thing_id", mandatory=True, same_thing=True),
        Link("Sensor", "Sensor", False, _SENSOR_OF_SERIES, column="sensor_id", mandatory=True),
        Link(
            "ObservedProperty", "ObservedProperty", False, "{c}.id = {p}.observed_property_id", mandatory=True
        ),
        Link("Observations", "Observation", True, "{c}_s.id = {p}.id", same_thing=True),
        Link(
            "Party",
            "Party",
            False,
            "{c}.id = {p}_d.party_id",
            column="party_id",
            shown="{p}_d.party_id IS NOT NULL",
        ),
        Link(
            "License",
            "License",
            False,
            "{c}.id = {p}_d.license_id",
            column="license_id",
            shown="{p}_d.license_id IS NOT NULL",
        ),
        pairs("Campaigns", "Campaign", "sensorthings_campaign_series", "series_id", "campaign_id"),
    ),
    visible.of_its_thing,
    joins=(
        ("t", "JOIN twin_thing {a}_t ON {a}_t.id = {a}.thing_id"),
        ("p", "JOIN twin_observedproperty {a}_p ON {a}_p.id = {a}.observed_property_id"),
        ("d", "LEFT JOIN sensorthings_datastream {a}_d ON {a}_d.series_id = {a}.id"),
        (
            "st",
            "LEFT JOIN twin_state {a}_st ON {a}_st.municipality_id = {a}.municipality_id"
            " AND {a}_st.series_id = {a}.id",
        ),
    ),
    condition="NOT EXISTS (SELECT 1 FROM sensorthings_datastream y WHERE y.series_id = {a}.id"
    " AND y.multi_id IS NOT NULL)",
    key=(("{a}.id", "integer"),),
    requirement="datamodel/datastream",
)

MULTI_DATASTREAM = Entity(
    "MultiDatastream",
    "MultiDatastreams",
    "sensorthings_multidatastream",
    "sensorthings_multidatastream {a}",
    (
        ID,
        NAME,
        DESCRIPTION,
        Property(
            "observationType",
            "text",
            f"'{OM}OM_ComplexObservation'::text",
            mandatory=True,
            writable=False,
            nullable=False,
        ),
        Property(
            "multiObservationDataTypes",
            "json",
            "{a}.observation_types",
            column="observation_types",
            mandatory=True,
            nullable=False,
        ),
        Property("unitOfMeasurements", "json", "{a}.units", column="units", mandatory=True, nullable=False),
        Property(
            "observedArea",
            "geometry",
            OBSERVED_AREA.replace("{column}", "location"),
            box=OBSERVED_AREA.replace("{column}", "place"),
            writable=False,
        ),
        _PERIOD,
        Property("resultTime", "period", "{a}_st.first_time", end="{a}_st.time", writable=False),
        PROPERTIES,
    ),
    (
        Link(
            "Thing",
            "Thing",
            False,
            "{c}.id = {p}.thing_id",
            column="thing_id",
            mandatory=True,
            same_thing=True,
        ),
        Link("Sensor", "Sensor", False, "{c}.id = {p}.sensor_id", column="sensor_id", mandatory=True),
        Link(
            "ObservedProperties",
            "ObservedProperty",
            True,
            "{c}.id IN (SELECT y.observed_property_id FROM sensorthings_datastream x"
            " JOIN twin_series y ON y.id = x.series_id WHERE x.multi_id = {p}.id)",
            mandatory=True,
        ),
        Link("Observations", "Observation", True, "{c}_d.multi_id = {p}.id", same_thing=True),
        PARTY_LINK,
        LICENSE_LINK,
        pairs(
            "Campaigns",
            "Campaign",
            "sensorthings_campaign_multi_datastreams",
            "multidatastream_id",
            "campaign_id",
        ),
    ),
    visible.of_its_thing,
    joins=(
        ("t", "JOIN twin_thing {a}_t ON {a}_t.id = {a}.thing_id"),
        # The first component's state stands for all of them.
        (
            "st",
            "LEFT JOIN sensorthings_datastream {a}_st_d ON {a}_st_d.multi_id = {a}.id AND {a}_st_d.position = 0"
            " LEFT JOIN twin_state {a}_st ON {a}_st.municipality_id = {a}.municipality_id"
            " AND {a}_st.series_id = {a}_st_d.series_id",
        ),
    ),
    requirement="multi-datastream",
)
