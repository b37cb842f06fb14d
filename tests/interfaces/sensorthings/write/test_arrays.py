"""``CreateObservations`` (18-088 clause 12.2)."""

from __future__ import annotations

from typing import Any

import pytest

from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.write.conftest import (
    BASE,
    CELSIUS,
    OM,
    Town,
    Writing,
    datastream,
    point,
    rows,
    sensor,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def create(sta: Writing, body: Any, path: str = "CreateObservations") -> list[str]:
    answer = await sta.send("POST", path, body)
    assert answer.status_code == 201, answer.text
    found: list[str] = answer.json()
    return found


async def test_every_row_is_answered(sta: Writing, town: Town, pool: Pool) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    feature = {"name": "See", "description": "", "encodingType": "application/geo+json", "feature": point()}
    made = await sta.post("FeaturesOfInterest", feature)
    key, stream = int(made.split("(")[1][:-1]), {"@iot.id": int(path[12:-1])}
    found = await create(
        sta,
        [
            {
                "Datastream": stream,
                "components": ["phenomenonTime", "result", "FeatureOfInterest/id"],
                "dataArray@iot.count": 4,
                "dataArray": [
                    ["2010-12-23T10:20:00-07:00", 20, key],
                    ["2010-12-23T10:21:00-07:00", "x", key],
                    ["2010-12-23T10:22:00-07:00", 22, 999],
                    ["gestern", 20, key],
                ],
            },
            {
                "Datastream": stream,
                "components": ["result", "phenomenonTime"],
                "dataArray": [[1.5, "2026-07-01T12:00:00Z"], [2, "2026-07-01T12:01:00+02:00"], [3.5], 7, [None, None]],
            },
            {"Datastream": {"@iot.id": 99}, "components": ["result"], "dataArray": [[1]]},
            {
                "Datastream": stream,
                "components": ["phenomenonTime", "resultTime", "result", "parameters", "validTime", "resultQuality"],
                "dataArray": [["2026-07-02T00:00:00Z/2026-07-02T01:00:00Z", "2026-07-02T02:00:00Z", 5, {"a": 1},
                               "2026-07-02T00:00:00Z/2026-07-03T00:00:00Z", "gut"]],
            },
        ],
    )  # fmt: skip
    answers = [one == "error" for one in found]
    assert answers == [False, True, True, True, False, False, True, True, True, True, False]
    good = [one for one in found if one != "error"]
    assert all(one.startswith(f"{BASE}/Observations('") for one in good)
    read = [await sta.json(one.split("/v1.1/")[1]) for one in good]
    assert [(one["phenomenonTime"], one["result"]) for one in read] == [
        ("2010-12-23T17:20:00Z", 20),
        ("2026-07-01T12:00:00Z", 1.5),
        ("2026-07-01T10:01:00Z", 2),
        ("2026-07-02T00:00:00Z/2026-07-02T01:00:00Z", 5),
    ]
    assert (read[3]["resultTime"], read[3]["parameters"], read[3]["resultQuality"]) == (
        "2026-07-02T02:00:00Z",
        {"a": 1},
        "gut",
    )
    assert (await sta.json(good[0].split("/v1.1/")[1] + "/FeatureOfInterest"))["name"] == "See"
    assert await rows(pool, "SELECT n FROM twin_state") == [(4,)]


async def test_many_rows_in_pieces(sta: Writing, town: Town, pool: Pool) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    array = [[f"2026-07-{day:02}T{minute // 60:02}:{minute % 60:02}:00Z", 20 + minute / 1440]
             for day in range(1, 8) for minute in range(1440)]  # fmt: skip
    body = {
        "Datastream": {"@iot.id": int(path[12:-1])},
        "components": ["phenomenonTime", "result"],
        "dataArray": array,
    }
    found = await create(sta, body)
    assert len(set(found)) == len(array) == 10_080
    assert await rows(pool, "SELECT n FROM twin_state") == [(10_080,)]
    assert await create(sta, [body], "Observations") == found
    assert await rows(pool, "SELECT n, (SELECT count(*) FROM twin_revision) FROM twin_state") == [(10_080, 0)]
    array[5][1] = 0.0
    await create(sta, body)
    assert await rows(pool, "SELECT count(*) FROM twin_revision") == [(1,)]


async def test_rows_of_a_multi_datastream(sta: Writing, town: Town) -> None:
    ids = [town.world.properties[name].pk for name in ("air_temperature", "dew_point")]
    body = {
        "name": "M", "description": "", "multiObservationDataTypes": [f"{OM}OM_Measurement"] * 2,
        "unitOfMeasurements": [CELSIUS] * 2, "ObservedProperties": [{"@iot.id": id_} for id_ in ids],
        "Sensor": sensor(), "Thing": {"@iot.id": town.world.thing.pk},
    }  # fmt: skip
    path = await sta.post("MultiDatastreams", body)
    array = [
        ["2026-07-01T12:00:00Z", [1.5, 2.5]],
        ["2026-07-01T13:00:00Z", [1.5]],
        ["2026-07-01T14:00:00Z", [3.5, None]],
    ]
    found = await create(
        sta,
        {
            "MultiDatastream": {"@iot.id": int(path[17:-1])},
            "components": ["phenomenonTime", "result"],
            "dataArray": array,
        },
    )
    assert [one == "error" for one in found] == [False, True, False]
    assert [one["result"] for one in await sta.values(f"{path}/Observations?$orderby=phenomenonTime")] == [
        [1.5, 2.5],
        [3.5, None],
    ]


async def test_wrong_arrays(sta: Writing, town: Town) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    one = {"Datastream": {"@iot.id": int(path[12:-1])}, "components": ["result"], "dataArray": []}
    refused: list[tuple[Any, str]] = [
        (7, "expected a list of data arrays, found a number"),
        ([{}], "[0].Datastream: is missing"),
        ([one | {"Datastream": 7}], '[0].Datastream: expected {"@iot.id": …}'),
        ([one | {"components": ["result", "colour"]}], "[0].components[1]: expected one of phenomenonTime"),
        ([one | {"components": ["result", "result"]}], "[0].components: names something twice"),
        ([one | {"components": ["phenomenonTime"]}], "[0].components: lacks result"),
        ([one | {"dataArray": {}}], "[0].dataArray: expected a list, found an object"),
        ([one | {"dataArray": [1] * 600_000}], "at most 500000 observations at once, found 600000"),
    ]
    for body, message in refused:
        assert (await sta.no("POST", "CreateObservations", body)).startswith(message)
