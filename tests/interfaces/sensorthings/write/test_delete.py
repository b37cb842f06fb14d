"""Deleting, and what goes along (18-088 table 25)."""

from __future__ import annotations

from typing import Any

import pytest

from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.write.conftest import Town, Writing, datastream, location, rows, thing

pytestmark = pytest.mark.django_db(transaction=True)
HOURS = [{"phenomenonTime": f"2026-07-01T{hour:02}:00:00Z", "result": float(hour)} for hour in range(24)]


async def made_thing(sta: Writing, **more: Any) -> tuple[str, str]:
    """A Thing and its Datastream with a day of observations."""
    path = await sta.post("Things", thing(Datastreams=[datastream(Observations=HOURS, **more)]))
    return path, f"Datastreams({(await sta.values(f'{path}/Datastreams'))[0]['@iot.id']})"


async def gone(sta: Writing, path: str) -> None:
    answer = await sta.send("DELETE", path)
    assert answer.status_code == 200, answer.text
    assert (await sta.get(path)).status_code == 404


async def test_thing_takes_its_datastreams_along(sta: Writing, pool: Pool) -> None:
    path, stream = await made_thing(sta)
    await gone(sta, path)
    assert (await sta.get(stream)).status_code == 404
    for table in (
        "twin_series",
        "twin_observation",
        "twin_state",
        "sensorthings_datastream",
    ):
        assert await rows(pool, f"SELECT count(*) FROM {table}") == [(0,)]
    # Locations, Sensors and ObservedProperties stay; places that the thing had are no history any more.
    assert await sta.json("Locations?$filter=name eq 'Platz'&$top=0&$count=true") == {
        "@iot.count": 1,
        "value": [],
    }
    assert await sta.json("Sensors/$count") == 1
    assert await rows(pool, "SELECT action, target FROM cities_auditentry ORDER BY id DESC LIMIT 1") == [
        ("sensorthings.delete", path)
    ]


async def test_sensor_and_property_take_their_datastreams_along(sta: Writing, pool: Pool) -> None:
    for link in ("Sensor", "ObservedProperty"):
        _, stream = await made_thing(sta)
        found = await sta.json(f"{stream}/{link}")
        await gone(sta, found["@iot.selfLink"].split("/v1.1/")[1])
        assert (await sta.get(stream)).status_code == 404
    assert await rows(pool, "SELECT count(*) FROM twin_observation") == [(0,)]


async def test_catalogue_and_devices_stay(sta: Writing, town: Town) -> None:
    path = f"ObservedProperties({town.world.properties['air_temperature'].pk})"
    message = await sta.no("DELETE", path, None, 403)
    assert (
        message == "missing right devices:write for the property air_temperature, which comes with Quartier"
    )
    await sta.no("PATCH", path, {"name": "Hitze"}, 403)


async def test_location_takes_its_history_along(sta: Writing) -> None:
    path = await sta.post("Things", thing(Datastreams=[]))
    [place] = await sta.values(f"{path}/Locations")
    await sta.post(f"{path}/Locations", location(7.5, 51.5, "Neu"))
    await gone(sta, f"Locations({place['@iot.id']})")
    history = await sta.values(f"{path}/HistoricalLocations?$expand=Locations")
    assert [[one["name"] for one in entry["Locations"]] for entry in history] == [["Neu"]]


async def test_feature_takes_its_observations_along(sta: Writing) -> None:
    _, stream = await made_thing(sta)
    feature = {"name": "See", "description": "", "encodingType": "application/geo+json",
               "feature": {"type": "Point", "coordinates": [7.5, 51.5]}}  # fmt: skip
    path = await sta.post("FeaturesOfInterest", feature)
    await sta.post(f"{path}/Observations", {"result": 1.0, "Datastream": {"@iot.id": int(stream[12:-1])}})
    assert await sta.json(f"{stream}/Observations/$count") == 25
    await gone(sta, path)
    assert await sta.json(f"{stream}/Observations/$count") == 24
    own = (await sta.values(f"{stream}/Observations?$top=1&$expand=FeatureOfInterest"))[0][
        "FeatureOfInterest"
    ]
    assert "goes with it" in await sta.no("DELETE", f"FeaturesOfInterest({own['@iot.id']})", None, 409)


async def test_observations_by_filter(sta: Writing, pool: Pool) -> None:
    _, stream = await made_thing(sta)
    await gone(
        sta,
        (await sta.values(f"{stream}/Observations?$filter=result eq 0"))[0]["@iot.selfLink"].split("/v1.1/")[
            1
        ],
    )
    answer = await sta.send("DELETE", f"{stream}/Observations?$filter=result lt 10")
    assert (answer.status_code, answer.json()) == (200, {"deleted": 9})
    found = await sta.json(f"{stream}?$expand=Observations($count=true;$orderby=phenomenonTime;$top=1)")
    assert (found["Observations@iot.count"], found["Observations"][0]["result"]) == (14, 10)
    assert found["phenomenonTime"] == "2026-07-01T10:00:00Z/2026-07-01T23:00:00Z"
    assert await rows(pool, "SELECT count(*), min(reason) FROM twin_revision") == [
        (10, "SensorThings: deleted")
    ]
    answer = await sta.send(
        "DELETE", "Observations?$filter=Datastream/name eq 'Lufttemperatur' and result gt 20"
    )
    assert answer.json() == {"deleted": 3}
    answer = await sta.send("DELETE", f"{stream}/Observations")
    assert answer.json() == {"deleted": 11}
    assert await sta.json(f"{stream}/Observations/$count") == 0
    assert "only $filter" in await sta.no("DELETE", f"{stream}/Observations?$top=3")
    assert "$filter, character" in await sta.no("DELETE", f"{stream}/Observations?$filter=result lt")


async def test_things_by_filter(sta: Writing) -> None:
    for name in ("a", "b", "c"):
        await sta.post("Things", {"name": name, "description": "weg" if name < "c" else "bleibt"})
    answer = await sta.send("DELETE", "Things?$filter=description eq 'weg'")
    assert answer.json() == {"deleted": 2}
    assert [one["name"] for one in await sta.values("Things?$orderby=name")] == ["Markt", "c"]


async def test_multi_datastream_goes_with_its_parts(sta: Writing, town: Town, pool: Pool) -> None:
    from tests.interfaces.sensorthings.write.conftest import CELSIUS, OM, sensor

    ids = [town.world.properties[name].pk for name in ("air_temperature", "dew_point")]
    body = {
        "name": "M", "description": "", "multiObservationDataTypes": [f"{OM}OM_Measurement"] * 2,
        "unitOfMeasurements": [CELSIUS] * 2, "ObservedProperties": [{"@iot.id": id_} for id_ in ids],
        "Sensor": sensor(), "Thing": {"@iot.id": town.world.thing.pk},
        "Observations": [{"phenomenonTime": "2026-07-01T12:00:00Z", "result": [1.0, 2.0]},
                         {"phenomenonTime": "2026-07-01T13:00:00Z", "result": [3.0, 4.0]}],
    }  # fmt: skip
    path = await sta.post("MultiDatastreams", body)
    [first, _] = await sta.values(f"{path}/Observations?$orderby=phenomenonTime")
    await gone(sta, f"Observations('{first['@iot.id']}')")
    assert await rows(pool, "SELECT result FROM twin_observation ORDER BY series_id") == [(3.0,), (4.0,)]
    await gone(sta, path)
    assert await rows(pool, "SELECT count(*) FROM twin_series") == [(0,)]
    assert await rows(pool, "SELECT count(*) FROM twin_observation") == [(0,)]
