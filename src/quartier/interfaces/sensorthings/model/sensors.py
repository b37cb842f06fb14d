"""How and what is measured: Sensor and ObservedProperty."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.model import visible
from quartier.interfaces.sensorthings.model.shared import ID, PROPERTIES
from quartier.interfaces.sensorthings.model.visible import SENSOR_SERIES

SENSOR = Entity(
    "Sensor",
    "Sensors",
    "sensorthings_sensor",
    "sensorthings_sensor {a}",
    (
        ID,
        Property(
            "name",
            "text",
            "coalesce(nullif({a}.name, ''), {a}_v.name, CASE {a}.derivation WHEN 'imported' THEN 'Importierte Werte'"
            " ELSE 'Berechnung ' || {a}.derivation END)",
            column="name",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "description",
            "text",
            "coalesce(nullif({a}.description, ''), nullif(trim({a}_k.vendor || ' ' || {a}_k.model), ''),"
            " nullif({a}_k.description, ''), {a}_v.name, CASE {a}.derivation WHEN 'imported'"
            " THEN 'Werte ohne bekanntes Gerät' ELSE 'Aus anderen Messreihen desselben Ortes berechnet' END)",
            column="description",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "encodingType",
            "text",
            "coalesce(nullif({a}.encoding_type, ''), CASE WHEN {a}_k.datasheet <> '' THEN 'text/html'"
            " ELSE 'text/plain' END)",
            column="encoding_type",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "metadata",
            "json",
            "coalesce({a}.metadata, to_jsonb(nullif({a}_k.datasheet, '')),"
            " to_jsonb(nullif(trim({a}_k.vendor || ' ' || {a}_k.model), '')), to_jsonb({a}.derivation))",
            column="metadata",
            mandatory=True,
            nullable=False,
        ),
        PROPERTIES,
    ),
    (
        Link("Datastreams", "Datastream", True, f"{{c}}.id IN ({SENSOR_SERIES.replace('{s}', '{p}')})"),
        Link("MultiDatastreams", "MultiDatastream", True, "{c}.sensor_id = {p}.id"),
    ),
    visible.sensor,
    joins=(
        ("v", "LEFT JOIN twin_device {a}_v ON {a}_v.id = {a}.device_id"),
        (
            "k",
            "LEFT JOIN twin_device {a}_kv ON {a}_kv.id = {a}.device_id"
            " LEFT JOIN twin_devicetype {a}_k ON {a}_k.id = {a}_kv.device_type_id",
        ),
    ),
    requirement="datamodel/sensor",
)

OBSERVED_PROPERTY = Entity(
    "ObservedProperty",
    "ObservedProperties",
    "twin_observedproperty",
    "twin_observedproperty {a}",
    (
        ID,
        Property("name", "text", "{a}.name_de", column="name_de", mandatory=True, nullable=False),
        Property(
            "definition",
            "text",
            "coalesce(nullif({a}_x.definition, ''), {a}.iri)",
            column="iri",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "description",
            "text",
            "coalesce(nullif({a}_x.description, ''), nullif({a}.description_de, ''), {a}.name_de)",
            column="description_de",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "properties",
            "json",
            "(coalesce({a}_x.properties, '{}') || jsonb_strip_nulls(jsonb_build_object('key', {a}.slug,"
            " 'unit', {a}.unit, 'name_en', nullif({a}.name_en, ''), 'description_en', nullif({a}.description_en, ''),"
            " 'category', nullif({a}.category, ''))))",
            nullable=False,
            words="Besides what was posted: key, unit (UCUM), name and description in English, category; read only.",
        ),
    ),
    (
        Link("Datastreams", "Datastream", True, "{c}.observed_property_id = {p}.id"),
        Link(
            "MultiDatastreams",
            "MultiDatastream",
            True,
            "{c}.id IN (SELECT x.multi_id FROM sensorthings_datastream x JOIN twin_series y ON y.id = x.series_id"
            " WHERE y.observed_property_id = {p}.id)",
        ),
    ),
    visible.everybody,
    joins=(("x", "LEFT JOIN sensorthings_propertydetails {a}_x ON {a}_x.observed_property_id = {a}.id"),),
    municipality="",
    requirement="datamodel/observed-property",
)
