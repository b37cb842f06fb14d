"""Which entities a caller may see: everything follows from the things that he may see (``usage.rules``)."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import SeesThing

# Ids of the series that a sensor {s} measures.
SENSOR_SERIES = (
    "SELECT x.series_id FROM sensorthings_datastream x WHERE x.sensor_id = {s}.id"
    " UNION ALL SELECT x.id FROM twin_series x LEFT JOIN sensorthings_datastream y ON y.series_id = x.id"
    " WHERE y.sensor_id IS NULL AND x.derivation = '' AND x.device_id = {s}.device_id"
    " UNION ALL SELECT x.id FROM twin_series x LEFT JOIN sensorthings_datastream y ON y.series_id = x.id"
    " WHERE y.sensor_id IS NULL AND {s}.derivation <> '' AND x.municipality_id = {s}.municipality_id"
    " AND coalesce(nullif(x.derivation, ''), CASE WHEN x.device_id IS NULL THEN 'imported' END) = {s}.derivation"
)


def everybody(_: str, __: SeesThing) -> str:
    return ""


def thing_itself(a: str, sees: SeesThing) -> str:
    return sees(a)


def of_its_thing(a: str, sees: SeesThing) -> str:
    return sees(f"{a}_t")


def location(a: str, sees: SeesThing) -> str:
    """A place that belongs to things is seen with any of them; one that belongs to none is nobody's secret."""
    if not (condition := sees("vt")):
        return ""
    return (
        "(EXISTS (SELECT 1 FROM sensorthings_thinglocation vl JOIN twin_thing vt ON vt.id = vl.thing_id"
        f" WHERE vl.location_id = {a} AND {condition})"
        " OR EXISTS (SELECT 1 FROM sensorthings_historicallocationlocation vl"
        " JOIN sensorthings_historicallocation vh ON vh.id = vl.historical_location_id"
        f" JOIN twin_thing vt ON vt.id = vh.thing_id WHERE vl.location_id = {a} AND {condition})"
        f" OR NOT EXISTS (SELECT 1 FROM sensorthings_historicallocationlocation vl WHERE vl.location_id = {a})"
        f" AND NOT EXISTS (SELECT 1 FROM sensorthings_thinglocation vl WHERE vl.location_id = {a}))"
    )


def feature(a: str, sees: SeesThing) -> str:
    if not (condition := sees("vt")):
        return ""
    return (
        f"(CASE WHEN {a}.location_id IS NOT NULL THEN {location(f'{a}.location_id', sees)}"
        f" ELSE NOT EXISTS (SELECT 1 FROM sensorthings_featureseries vf WHERE vf.feature_id = {a}.id) END"
        " OR EXISTS (SELECT 1 FROM sensorthings_featureseries vf JOIN twin_series vs ON vs.id = vf.series_id"
        f" JOIN twin_thing vt ON vt.id = vs.thing_id WHERE vf.feature_id = {a}.id AND {condition}))"
    )


def sensor(a: str, sees: SeesThing) -> str:
    """A sensor is seen with any of its datastreams; a posted one without any by everybody."""
    if not (condition := sees("vt")):
        return ""
    return (
        f"(EXISTS (SELECT 1 FROM twin_series vs JOIN twin_thing vt ON vt.id = vs.thing_id"
        f" WHERE vs.id IN ({SENSOR_SERIES.replace('{s}', a)}) AND {condition})"
        f" OR EXISTS (SELECT 1 FROM sensorthings_multidatastream vm JOIN twin_thing vt ON vt.id = vm.thing_id"
        f" WHERE vm.sensor_id = {a}.id AND {condition})"
        f" OR ({a}.device_id IS NULL AND {a}.derivation = ''"
        f" AND NOT EXISTS (SELECT 1 FROM sensorthings_datastream vd WHERE vd.sensor_id = {a}.id)"
        f" AND NOT EXISTS (SELECT 1 FROM sensorthings_multidatastream vm WHERE vm.sensor_id = {a}.id)))"
    )


def actuator(a: str, sees: SeesThing) -> str:
    if not (condition := sees("vt")):
        return ""
    return (
        "(EXISTS (SELECT 1 FROM sensorthings_taskingcapability vc JOIN twin_thing vt ON vt.id = vc.thing_id"
        f" WHERE vc.actuator_id = {a}.id AND {condition}) OR ({a}.device_id IS NULL AND NOT EXISTS"
        f" (SELECT 1 FROM sensorthings_taskingcapability vc WHERE vc.actuator_id = {a}.id)))"
    )


def relation(a: str, sees: SeesThing) -> str:
    if not (condition := sees("vt")):
        return ""
    own = (
        "EXISTS (SELECT 1 FROM twin_series vs JOIN twin_thing vt ON vt.id = vs.thing_id"
        f" WHERE vs.id = {a}.{{}}_series_id AND {condition})"
    )
    return f"({own.format('subject')} AND ({a}.object_series_id IS NULL OR {own.format('object')}))"
