"""STAplus 1.0 (22-022r1): Party, License, Campaign, ObservationGroup, Relation."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.model import visible
from quartier.interfaces.sensorthings.model.shared import (
    ID,
    LICENSE_LINK,
    NAME,
    OPTIONAL_DESCRIPTION,
    PARTY_LINK,
    PROPERTIES,
    optional_text,
    pairs,
)

PARTY = Entity(
    "Party",
    "Parties",
    "sensorthings_party",
    "sensorthings_party {a}",
    (
        ID,
        OPTIONAL_DESCRIPTION,
        Property("role", "text", "{a}.role", column="role", mandatory=True, nullable=False),
        optional_text("displayName", "display_name"),
        PROPERTIES,
    ),
    (
        Link(
            "Things",
            "Thing",
            True,
            "{c}.id IN (SELECT x.thing_id FROM sensorthings_thingdetails x WHERE x.party_id = {p}.id)",
        ),
        Link("Datastreams", "Datastream", True, "{c}_d.party_id = {p}.id"),
        Link("MultiDatastreams", "MultiDatastream", True, "{c}.party_id = {p}.id"),
        Link("Campaigns", "Campaign", True, "{c}.party_id = {p}.id"),
        Link("ObservationGroups", "ObservationGroup", True, "{c}.party_id = {p}.id"),
    ),
    visible.everybody,
    municipality="",
    requirement="staplus/party",
    words="authId is written, and shown to nobody.",
)

LICENSE = Entity(
    "License",
    "Licenses",
    "sensorthings_license",
    "sensorthings_license {a}",
    (
        ID,
        NAME,
        OPTIONAL_DESCRIPTION,
        Property("definition", "text", "{a}.definition", column="definition", mandatory=True, nullable=False),
        optional_text("logo", "logo"),
        optional_text("attributionText", "attribution_text"),
        PROPERTIES,
    ),
    (
        Link("Datastreams", "Datastream", True, "{c}_d.license_id = {p}.id"),
        Link("MultiDatastreams", "MultiDatastream", True, "{c}.license_id = {p}.id"),
        Link("Campaigns", "Campaign", True, "{c}.license_id = {p}.id"),
        Link("ObservationGroups", "ObservationGroup", True, "{c}.license_id = {p}.id"),
    ),
    visible.everybody,
    municipality="",
    requirement="staplus/license",
)

CAMPAIGN = Entity(
    "Campaign",
    "Campaigns",
    "sensorthings_campaign",
    "sensorthings_campaign {a}",
    (
        ID,
        NAME,
        OPTIONAL_DESCRIPTION,
        optional_text("classification", "classification"),
        Property(
            "termsOfUse", "text", "{a}.terms_of_use", column="terms_of_use", mandatory=True, nullable=False
        ),
        optional_text("privacyPolicy", "privacy_policy"),
        Property("creationTime", "instant", "{a}.creation_time", column="creation_time", nullable=False),
        Property("startTime", "instant", "{a}.start_time", column="start_time"),
        Property("endTime", "instant", "{a}.end_time", column="end_time"),
        optional_text("url", "url"),
        PROPERTIES,
    ),
    (
        PARTY_LINK,
        LICENSE_LINK,
        pairs("Datastreams", "Datastream", "sensorthings_campaign_series", "campaign_id", "series_id"),
        pairs(
            "MultiDatastreams",
            "MultiDatastream",
            "sensorthings_campaign_multi_datastreams",
            "campaign_id",
            "multidatastream_id",
        ),
        pairs(
            "ObservationGroups",
            "ObservationGroup",
            "sensorthings_observationgroup_campaigns",
            "campaign_id",
            "observationgroup_id",
        ),
    ),
    visible.everybody,
    municipality="{a}.municipality_id",
    requirement="staplus/campaign",
)

OBSERVATION_GROUP = Entity(
    "ObservationGroup",
    "ObservationGroups",
    "sensorthings_observationgroup",
    "sensorthings_observationgroup {a}",
    (
        ID,
        NAME,
        OPTIONAL_DESCRIPTION,
        optional_text("purpose", "purpose"),
        optional_text("termsOfUse", "terms_of_use"),
        optional_text("privacyPolicy", "privacy_policy"),
        Property("creationTime", "instant", "{a}.creation_time", column="creation_time", nullable=False),
        Property("endTime", "instant", "{a}.end_time", column="end_time"),
        Property("dataQuality", "json", "{a}.data_quality", column="data_quality"),
        PROPERTIES,
    ),
    (
        PARTY_LINK,
        LICENSE_LINK,
        pairs(
            "Campaigns",
            "Campaign",
            "sensorthings_observationgroup_campaigns",
            "observationgroup_id",
            "campaign_id",
        ),
        Link(
            "Observations",
            "Observation",
            True,
            "({c}.series_id, {c}.time) IN (SELECT x.series_id, x.time FROM sensorthings_groupobservation x"
            " WHERE x.group_id = {p}.id)",
        ),
        pairs(
            "Relations",
            "Relation",
            "sensorthings_relation_groups",
            "observationgroup_id",
            "relation_id",
        ),
    ),
    visible.everybody,
    municipality="{a}.municipality_id",
    requirement="staplus/observation-group",
)

RELATION = Entity(
    "Relation",
    "Relations",
    "sensorthings_relation",
    "sensorthings_relation {a}",
    (
        ID,
        Property("role", "text", "{a}.role", column="role", mandatory=True, nullable=False),
        OPTIONAL_DESCRIPTION,
        optional_text("externalObject", "external_object"),
        PROPERTIES,
    ),
    (
        Link(
            "Subject",
            "Observation",
            False,
            "({c}.series_id = {p}.subject_series_id AND {c}.time = {p}.subject_time)",
            mandatory=True,
        ),
        Link(
            "Object",
            "Observation",
            False,
            "({c}.series_id = {p}.object_series_id AND {c}.time = {p}.object_time)",
        ),
        pairs(
            "ObservationGroups",
            "ObservationGroup",
            "sensorthings_relation_groups",
            "relation_id",
            "observationgroup_id",
        ),
    ),
    visible.relation,
    municipality="",
    requirement="staplus/relation",
)
