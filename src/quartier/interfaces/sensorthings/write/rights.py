"""Who may write what.

``devices:write`` in a municipality allows everything there. A maker (``observations:write``) may do as much with things
of his own and what hangs on them; observations of other things need both rights, so that a steward, who cares for
devices, cannot make up readings.
"""

# ruff: noqa: S608 (SQL of constants)

from __future__ import annotations

from typing import Final

from quartier.cities.rules import Actor, NotAllowed
from quartier.interfaces.sensorthings.facts import Entity

WRITE: Final = "devices:write"
OBSERVE: Final = "observations:write"

# Per entity type: the municipality of entity %(id)s, and whether it belongs to things of person %(person)s only.
_OF_THING = "SELECT t.municipality_id, coalesce(t.owner_person_id = %(person)s, false) FROM "
_ALL_OWN = "coalesce(bool_and(coalesce(t.owner_person_id = %(person)s, false)), false)"
_SENSOR_THINGS = (
    "(SELECT y.thing_id FROM sensorthings_datastream x JOIN twin_series y ON y.id = x.series_id"
    " WHERE x.sensor_id = s.id UNION ALL SELECT m.thing_id FROM sensorthings_multidatastream m"
    " WHERE m.sensor_id = s.id)"
)
_LOCATION_THINGS = (
    "(SELECT thing_id FROM sensorthings_thinglocation WHERE location_id = {l} UNION ALL"
    " SELECT h.thing_id FROM sensorthings_historicallocationlocation x JOIN sensorthings_historicallocation h"
    " ON h.id = x.historical_location_id WHERE x.location_id = {l})"
)
OWNERS: Final[dict[str, str]] = {
    "Thing": _OF_THING + "twin_thing t WHERE t.id = %(id)s",
    "Datastream": _OF_THING + "twin_series s JOIN twin_thing t ON t.id = s.thing_id WHERE s.id = %(id)s",
    "MultiDatastream": _OF_THING
    + "sensorthings_multidatastream s JOIN twin_thing t ON t.id = s.thing_id WHERE s.id = %(id)s",
    "HistoricalLocation": _OF_THING
    + "sensorthings_historicallocation s JOIN twin_thing t ON t.id = s.thing_id WHERE s.id = %(id)s",
    "TaskingCapability": _OF_THING
    + "sensorthings_taskingcapability s JOIN twin_thing t ON t.id = s.thing_id WHERE s.id = %(id)s",
    "Task": _OF_THING + "sensorthings_task k JOIN sensorthings_taskingcapability s ON s.id = k.capability_id"
    " JOIN twin_thing t ON t.id = s.thing_id WHERE k.id = %(id)s",
    "Relation": _OF_THING + "sensorthings_relation r JOIN twin_series s ON s.id = r.subject_series_id"
    " JOIN twin_thing t ON t.id = s.thing_id WHERE r.id = %(id)s",
    "Location": f"SELECT l.municipality_id, (SELECT {_ALL_OWN} FROM twin_thing t"
    f" WHERE t.id IN {_LOCATION_THINGS.replace('{l}', 'l.id')}) FROM sensorthings_location l WHERE l.id = %(id)s",
    "Sensor": f"SELECT s.municipality_id, s.device_id IS NULL AND s.derivation = '' AND (SELECT {_ALL_OWN}"
    f" FROM twin_thing t WHERE t.id IN {_SENSOR_THINGS}) FROM sensorthings_sensor s WHERE s.id = %(id)s",
    "FeatureOfInterest": f"SELECT f.municipality_id, (SELECT {_ALL_OWN} FROM twin_thing t WHERE t.id IN"
    " (SELECT y.thing_id FROM sensorthings_featureseries x JOIN twin_series y ON y.id = x.series_id"
    f" WHERE x.feature_id = f.id UNION ALL {_LOCATION_THINGS.replace('{l}', 'f.location_id')[1:]})"
    " FROM sensorthings_featureofinterest f WHERE f.id = %(id)s",
    "Party": "SELECT municipality_id, coalesce(auth_id = 'person ' || %(person)s::text, false)"
    " FROM sensorthings_party WHERE id = %(id)s",
    "License": "SELECT NULL::smallint, false FROM sensorthings_license WHERE id = %(id)s",
    "Campaign": "SELECT municipality_id, false FROM sensorthings_campaign WHERE id = %(id)s",
    "ObservationGroup": "SELECT g.municipality_id, EXISTS (SELECT 1 FROM sensorthings_party p WHERE p.id = g.party_id"
    " AND p.auth_id = 'person ' || %(person)s::text) FROM sensorthings_observationgroup g WHERE g.id = %(id)s",
    "Actuator": "SELECT municipality_id, false FROM sensorthings_actuator WHERE id = %(id)s",
    # One catalogue for all cities: whoever changes an entry must be allowed to wherever it is measured.
    "ObservedProperty": "SELECT s.municipality_id, false FROM twin_observedproperty p"
    " LEFT JOIN (SELECT DISTINCT municipality_id, observed_property_id FROM twin_series) s"
    " ON s.observed_property_id = p.id WHERE p.id = %(id)s",
}

# What makers may make as well: parts of own things, and what says who measured.
_MAKERS: Final = frozenset(
    {
        "Thing",
        "Location",
        "HistoricalLocation",
        "Datastream",
        "MultiDatastream",
        "Sensor",
        "Observation",
        "FeatureOfInterest",
        "Party",
        "ObservationGroup",
        "Relation",
    }
)


def may_change(actor: Actor, municipality_id: int | None, *, own: bool) -> bool:
    """Whether the actor may change an entity of a municipality; ``own``: it belongs to things of his own."""
    if actor.may(WRITE, municipality_id):
        return True
    return own and actor.person_id is not None and actor.may(OBSERVE, municipality_id)


def require_create(actor: Actor, entity: Entity, municipality_id: int | None) -> None:
    """Raise NotAllowed unless the actor may make entities of this type there at all."""
    if actor.may(WRITE, municipality_id):
        return
    if entity.name in _MAKERS and actor.person_id is not None and actor.may(OBSERVE, municipality_id):
        return
    raise NotAllowed(WRITE)


def is_maker(actor: Actor, municipality_id: int | None) -> bool:
    """Whether the actor may write there what is his own only."""
    return not actor.may(WRITE, municipality_id)


def may_observe(actor: Actor, municipality_id: int, owner_person_id: int | None) -> bool:
    """Whether the actor may write observations of a thing."""
    if not actor.may(OBSERVE, municipality_id):
        return False
    own = actor.person_id is not None and owner_person_id == actor.person_id
    return own or actor.may(WRITE, municipality_id)
