"""Every entity type of SensorThings 1.1 (18-088), STAplus 1.0 (22-022r1) and Tasking (17-079r1): one table of facts.

The compiler, creation, the OpenAPI description and the documentation all read it. The SQL says how each fact is seen in
the twin; nothing here depends on a request.
"""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Entity, Link
from quartier.interfaces.sensorthings.model.datastreams import DATASTREAM, MULTI_DATASTREAM
from quartier.interfaces.sensorthings.model.observations import FEATURE_OF_INTEREST, OBSERVATION
from quartier.interfaces.sensorthings.model.places import HISTORICAL_LOCATION, LOCATION, THING
from quartier.interfaces.sensorthings.model.sensors import OBSERVED_PROPERTY, SENSOR
from quartier.interfaces.sensorthings.model.staplus import (
    CAMPAIGN,
    LICENSE,
    OBSERVATION_GROUP,
    PARTY,
    RELATION,
)
from quartier.interfaces.sensorthings.model.tasking import ACTUATOR, TASK, TASKING_CAPABILITY

ENTITIES: tuple[Entity, ...] = (
    THING,
    LOCATION,
    HISTORICAL_LOCATION,
    DATASTREAM,
    MULTI_DATASTREAM,
    SENSOR,
    OBSERVED_PROPERTY,
    OBSERVATION,
    FEATURE_OF_INTEREST,
    PARTY,
    LICENSE,
    CAMPAIGN,
    OBSERVATION_GROUP,
    RELATION,
    ACTUATOR,
    TASKING_CAPABILITY,
    TASK,
)
BY_NAME: dict[str, Entity] = {one.name: one for one in ENTITIES}
BY_SET: dict[str, Entity] = {one.set: one for one in ENTITIES}


def target(link: Link) -> Entity:
    """The entity type that a link leads to."""
    return BY_NAME[link.target]


def asked_link(entity: Entity, name: str) -> Link | None:
    """The link that a query calls ``name``: a single one may be called by the set of its target, too.

    The SensorThings plugin of Grafana expands ``Things`` of a HistoricalLocation and reads ``Thing``.
    """
    if (found := entity.find_link(name)) is not None:
        return found
    return next((one for one in entity.links if not one.many and target(one).set == name), None)


__all__ = ["BY_NAME", "BY_SET", "DATASTREAM", "ENTITIES", "OBSERVATION", "asked_link", "target"]
