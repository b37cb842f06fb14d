"""Results and what they are about: Observation and FeatureOfInterest."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.model import visible
from quartier.interfaces.sensorthings.model.shared import DESCRIPTION, ENCODING, ID, NAME, PROPERTIES

_FEATURE_OF_OBSERVATION = (
    "coalesce(({o}.details->>'featureOfInterest')::bigint, sensorthings_feature({o}_s.thing_id, {o}.time))"
)
START_BARE = "left(to_json({a}.time AT TIME ZONE 'UTC')::text, -1) || 'Z'"
_ONE_RESULT = (
    "CASE WHEN {s}.result_type = 'number' AND {o}.value IS NULL THEN {o}.result::text"
    " WHEN {o}.value IS NOT NULL THEN {o}.value::text"
    " WHEN {s}.result_type IN ('bool', 'boolean') THEN CASE WHEN {o}.result = 0 THEN 'false' ELSE 'true' END"
    " ELSE {o}.result::text END"
)
_RESULT_JSON = (
    "CASE WHEN {a}_d.multi_id IS NULL THEN "
    + _ONE_RESULT.replace("{s}", "{a}_s").replace("{o}", "{a}")
    + " ELSE (SELECT '[' || string_agg(coalesce("
    + _ONE_RESULT.replace("{s}", "cs").replace("{o}", "co")
    + ", 'null'), ',' ORDER BY cd.position) || ']' FROM sensorthings_datastream cd"
    " JOIN twin_series cs ON cs.id = cd.series_id LEFT JOIN twin_observation co"
    " ON co.municipality_id = cs.municipality_id AND co.series_id = cs.id AND co.time = {a}.time"
    " WHERE cd.multi_id = {a}_d.multi_id) END"
)
_OBSERVATION_ID = "({a}.series_id || '.' || round(date_part('epoch', {a}.time) * 1000000)::bigint)"
_QUALITY = "sensorthings_quality({a}.flags, {a}.details->'resultQuality')"
_RESULT_TIME = (
    "CASE WHEN {a}.details ? 'resultTime' THEN ({a}.details->>'resultTime')::timestamptz ELSE {a}.time END"
)


# Almost all observations say nothing besides time and result.
_SAYS_MORE = "{a}.details IS NOT NULL OR {a}.flags <> 0"

OBSERVATION = Entity(
    "Observation",
    "Observations",
    "twin_observation",
    "twin_series {a}_s JOIN twin_observation {a}"
    " ON {a}.municipality_id = {a}_s.municipality_id AND {a}.series_id = {a}_s.id",
    (
        Property(
            "id", "id", _OBSERVATION_ID, f"'\"' || {_OBSERVATION_ID} || '\"'", writable=False, nullable=False
        ),
        Property(
            "phenomenonTime",
            "period",
            "{a}.time",
            START_BARE + " || CASE WHEN {a}.details IS NULL THEN '\"'"
            " ELSE coalesce('/' || ({a}.details->>'phenomenonTimeEnd'), '') || '\"' END",
            end="coalesce(({a}.details->>'phenomenonTimeEnd')::timestamptz, {a}.time)",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "result",
            "result",
            "{a}.result",
            _RESULT_JSON,
            other="{a}.value",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "resultTime",
            "instant",
            _RESULT_TIME,
            "CASE WHEN {a}.details ? 'resultTime' THEN coalesce(to_json({a}.details->>'resultTime')::text, 'null')"
            f" ELSE {START_BARE} || '\"' END",
            mandatory=True,
            shown_when_null=True,
        ),
        Property(
            "resultQuality",
            "json",
            _QUALITY,
            f"CASE WHEN {{a}}.flags = 0 AND {{a}}.details IS NULL THEN NULL ELSE ({_QUALITY})::text END",
            when=_SAYS_MORE,
        ),
        Property(
            "validTime",
            "period",
            "(split_part({a}.details->>'validTime', '/', 1))::timestamptz",
            "to_json({a}.details->>'validTime')::text",
            end="(split_part({a}.details->>'validTime', '/', 2))::timestamptz",
            when=_SAYS_MORE,
        ),
        Property("parameters", "json", "({a}.details->'parameters')", when=_SAYS_MORE),
    ),
    (
        Link(
            "Datastream",
            "Datastream",
            False,
            "{c}.id = {p}_s.id",
            shown="{p}_d.multi_id IS NULL",
            same_thing=True,
        ),
        Link(
            "MultiDatastream",
            "MultiDatastream",
            False,
            "{c}.id = {p}_d.multi_id",
            shown="{p}_d.multi_id IS NOT NULL",
            same_thing=True,
        ),
        Link(
            "FeatureOfInterest",
            "FeatureOfInterest",
            False,
            f"{{c}}.id = {_FEATURE_OF_OBSERVATION.replace('{o}', '{p}')}",
        ),
        Link(
            "ObservationGroups",
            "ObservationGroup",
            True,
            "{c}.id IN (SELECT x.group_id FROM sensorthings_groupobservation x"
            " WHERE x.series_id = {p}.series_id AND x.time = {p}.time)",
            rare=True,
        ),
        Link(
            "Objects",
            "Relation",
            True,
            "({c}.subject_series_id = {p}.series_id AND {c}.subject_time = {p}.time)",
            rare=True,
            words="Relations of which this observation is the subject.",
        ),
        Link(
            "Subjects",
            "Relation",
            True,
            "({c}.object_series_id = {p}.series_id AND {c}.object_time = {p}.time)",
            rare=True,
            words="Relations of which this observation is the object.",
        ),
    ),
    visible.of_its_thing,
    joins=(
        ("t", "JOIN twin_thing {a}_t ON {a}_t.id = {a}_s.thing_id"),
        ("d", "LEFT JOIN sensorthings_datastream {a}_d ON {a}_d.series_id = {a}_s.id"),
    ),
    # Of a MultiDatastream's components, the first one's observations stand for the rows.
    condition="NOT EXISTS (SELECT 1 FROM sensorthings_datastream y WHERE y.series_id = {a}_s.id AND y.position > 0)",
    municipality="{a}_s.municipality_id",
    key=(("{a}_s.id", "integer"), ("{a}.time", "timestamptz")),
    id_is_text=True,
    requirement="datamodel/observation",
)

FEATURE_OF_INTEREST = Entity(
    "FeatureOfInterest",
    "FeaturesOfInterest",
    "sensorthings_featureofinterest",
    "sensorthings_featureofinterest {a}",
    (
        ID,
        NAME,
        DESCRIPTION,
        ENCODING,
        Property(
            "feature",
            "geometry",
            "{a}.feature",
            box="{a}.place",
            column="feature",
            mandatory=True,
            nullable=False,
        ),
        PROPERTIES,
    ),
    (
        Link(
            "Observations",
            "Observation",
            True,
            "({c}_s.id IN (SELECT x.series_id FROM sensorthings_featureseries x WHERE x.feature_id = {p}.id"
            " UNION ALL SELECT x.id FROM sensorthings_historicallocationlocation z"
            " JOIN sensorthings_historicallocation y ON y.id = z.historical_location_id"
            " JOIN twin_series x ON x.thing_id = y.thing_id WHERE z.location_id = {p}.location_id)"
            f" AND {_FEATURE_OF_OBSERVATION.replace('{o}', '{c}')} = {{p}}.id)",
        ),
    ),
    visible.feature,
    requirement="datamodel/feature-of-interest",
)
