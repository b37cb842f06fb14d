"""How the twin is seen: rows that nobody posted, places over time, several results at once, details, quality."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.interfaces.sensorthings.conftest import START, City, Client, endpoint

pytestmark = pytest.mark.django_db


async def _record(url: str, rows: list[Any]) -> None:
    from quartier.engines.pools import async_pool
    from quartier.twin.record import Recorder

    async with async_pool(url) as pool:
        recorder = Recorder(pool)
        await recorder.start()
        await recorder.record(rows)
        await recorder.close()


@pytest.fixture(scope="module")
def further(city: City, database: str) -> dict[str, Any]:
    """A station that moved, a MultiDatastream, booleans, words, what is computed, a feature of its own."""
    from django.db import connection

    from quartier.interfaces.sensorthings import models
    from quartier.twin.models import ObservedProperty, Series, Thing
    from quartier.twin.record import Observation

    world = city.world
    place = world.municipality.pk
    # bulk_create passes signals by.
    Thing.objects.bulk_create(
        [Thing(municipality=world.municipality, key="m", name="Wandernd", kind="station", lon=7.1, lat=51.1)]
    )
    moved = Thing.objects.get(key="m")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sensorthings_historicallocation SET time = %s WHERE thing_id = %s",
            [START - timedelta(days=1), moved.pk],
        )
        cursor.execute("UPDATE twin_thing SET lon = 7.2, name = 'Gewandert' WHERE id = %s", [moved.pk])
        cursor.execute(
            "UPDATE sensorthings_historicallocation SET time = %s WHERE thing_id = %s AND time > %s",
            [START + timedelta(minutes=1), moved.pk, START],
        )
    series = world.series("air_temperature", thing=moved)
    computed = world.series("dew_point", thing=moved)
    Series.objects.filter(pk=computed.pk).update(derivation="dew_point")
    flag = ObservedProperty.objects.filter(result_type="bool")[0]
    switch = world.series(flag.slug, thing=moved)
    words = Series.objects.create(
        municipality=world.municipality,
        thing=moved,
        observed_property=world.properties["relative_humidity"],
        channel="w",
        unit="1",
        result_type="text",
    )
    sensor = models.Sensor.objects.create(
        municipality=world.municipality,
        name="Kombi",
        description="",
        encoding_type="text/plain",
        metadata="x",
    )
    multi = models.MultiDatastream.objects.create(
        municipality=world.municipality, thing=moved, sensor=sensor, name="Wind", units=[{}, {}]
    )
    components = []
    for position, slug in enumerate(("wind_speed", "wind_direction")):
        one = world.series(slug, thing=moved)
        models.Datastream.objects.create(series=one, multi=multi, position=position)
        components.append(one)
    feature = models.FeatureOfInterest.objects.create(
        municipality=world.municipality,
        name="Bach",
        feature={"type": "LineString", "coordinates": [[7, 51], [8, 51]]},
    )
    models.FeatureSeries.objects.create(feature=feature, series=series)
    minute = timedelta(minutes=1)
    named = {"featureOfInterest": feature.pk, "resultQuality": {"sigma": 2}}
    rows = [
        Observation(place, series.pk, START, 1.0),
        Observation(place, series.pk, START + 2 * minute, 2.0),
        Observation(place, series.pk, START + 3 * minute, 3.0, flags=5, details=named),
        Observation(place, switch.pk, START, 1.0),
        Observation(place, words.pk, START, None, value="trüb"),
        Observation(place, words.pk, START + minute, None, value={"a": [1, None]}),
        Observation(place, components[0].pk, START, 3.5),
        Observation(place, components[1].pk, START, 270.0),
        Observation(place, components[0].pk, START + minute, 4.0),
    ]
    asyncio.run(_record(database, rows))
    return {"moved": moved, "series": series, "computed": computed, "switch": switch, "words": words,
            "multi": multi, "components": components, "feature": feature}  # fmt: skip


@pytest.fixture
async def client(database: str, further: dict[str, Any]) -> AsyncIterator[Client]:
    """A client that sees all of it."""
    async with endpoint(database) as made:
        yield made


async def test_places_over_time(client: Client, further: dict[str, Any]) -> None:
    thing = f"Things({further['moved'].pk})"
    assert [one["location"] for one in await client.values(f"{thing}/Locations")] == [
        {"type": "Point", "coordinates": [7.2, 51.1]}
    ]
    history = await client.values(f"{thing}/HistoricalLocations?$expand=Locations($select=name,location)")
    assert [(one["time"], one["Locations"][0]["location"]["coordinates"]) for one in history] == [
        ("2026-02-28T12:00:00Z", [7.1, 51.1]),
        ("2026-03-01T12:01:00Z", [7.2, 51.1]),
    ]
    path = f"Datastreams({further['series'].pk})/Observations?$select=result&$expand=FeatureOfInterest"
    assert [one["FeatureOfInterest"]["feature"]["coordinates"] for one in await client.values(path)] == [
        [7.1, 51.1],
        [7.2, 51.1],
        [[7, 51], [8, 51]],
    ]
    features = {one["FeatureOfInterest"]["@iot.id"]: one["result"] for one in await client.values(path)}
    for number, result in features.items():
        condition = f"result eq {result} and Datastream/id eq {further['series'].pk}"
        own = await client.values(
            f"FeaturesOfInterest({number})/Observations?$select=result&$filter={condition}"
        )
        assert own == [{"result": result}]
    own = await client.values(
        f"FeaturesOfInterest({further['feature'].pk})/Observations?$select=result,resultQuality"
    )
    quality = {"flags": ["range", "spike"], "plausible": False, "reported": {"sigma": 2}}
    assert own == [{"result": 3, "resultQuality": quality}]


async def test_several_results_at_once(client: Client, further: dict[str, Any]) -> None:
    multi, (speed, direction) = further["multi"].pk, further["components"]
    path = f"MultiDatastreams({multi})"
    body = await client.json(f"{path}/Observations?$count=true&$select=id,result,MultiDatastream,Datastream")
    first = f"{speed.pk}.1772366400000000"
    base = f"http://test/sensorthings/v1.1/Observations('{first}')"
    assert body["@iot.count"] == 2
    assert body["value"][0] == {
        "@iot.id": first,
        "result": [3.5, 270],
        "MultiDatastream@iot.navigationLink": f"{base}/MultiDatastream",
    }
    assert body["value"][1]["result"] == [4, None]
    assert await client.ids(f"Observations('{first}')/MultiDatastream/Observations") == await client.ids(
        f"{path}/Observations"
    )
    assert await client.json(f"Observations('{first}')/MultiDatastream/name") == {"name": "Wind"}
    assert (await client.json(path))["phenomenonTime"] == "2026-03-01T12:00:00Z/2026-03-01T12:01:00Z"
    # Its components are no datastreams, and only the first one's observations stand for rows.
    for component in (speed, direction):
        assert (await client.get(f"Datastreams({component.pk})")).status_code == 404
        assert (await client.get(f"Datastreams({component.pk})/Observations")).status_code == 404
        assert component.pk not in await client.ids("Datastreams?$top=100")
    assert (await client.get(f"Observations('{direction.pk}.1772366400000000')")).status_code == 404
    assert (await client.get(f"Observations('{first}')/Datastream")).status_code == 404
    names = [one["properties"]["key"] for one in await client.values(f"{path}/ObservedProperties")]
    assert sorted(names) == ["wind_direction", "wind_speed"]
    expanded = await client.values(
        "MultiDatastreams?$expand=Sensor($select=name),Observations($top=1;$count=true)"
    )
    assert expanded[0]["Sensor"] == {"name": "Kombi"}
    assert expanded[0]["Observations"][0]["result"] == [3.5, 270]


async def test_results_of_every_kind(client: Client, further: dict[str, Any]) -> None:
    switch, words = further["switch"].pk, further["words"].pk
    assert [one["result"] for one in await client.values(f"Datastreams({switch})/Observations")] == [True]
    assert [one["result"] for one in await client.values(f"Datastreams({words})/Observations")] == [
        "trüb",
        {"a": [1, None]},
    ]
    for condition, count in (
        ("result eq 'trüb'", 1),
        ("result gt 'a'", 1),
        ("result/a[0] eq 1", 1),
        ("result gt 0", 0),
    ):
        assert (
            condition,
            len(await client.ids(f"Datastreams({words})/Observations?$filter={condition}")),
        ) == (
            condition,
            count,
        )
    assert len(await client.ids(f"Datastreams({switch})/Observations?$filter=result eq true")) == 1
    kinds = [
        one["observationType"].rpartition("_")[2]
        for one in await client.values(f"Datastreams?$filter=id in ({switch},{words})")
    ]
    assert kinds == ["TruthObservation", "Observation"]
    ordered = await client.pages("Observations?$orderby=result desc&$top=9&$select=id")
    whole = await client.ids("Observations?$orderby=result desc&$top=1000")
    assert [one["@iot.id"] for page in ordered for one in page] == whole


async def test_sensors_that_nobody_posted(client: Client, further: dict[str, Any], city: City) -> None:
    async def sensor(series: int) -> tuple[str, Any]:
        found = await client.json(f"Datastreams({series})/Sensor")
        assert series in await client.ids(f"Sensors({found['@iot.id']})/Datastreams?$top=100")
        return found["name"], found["metadata"]

    assert await sensor(city.temperature.pk) == ("Fühler 1", "https://example.org/t1000")
    assert await sensor(further["computed"].pk) == ("Berechnung dew_point", "dew_point")
    assert await sensor(city.humidity.pk) == ("Importierte Werte", "imported")
