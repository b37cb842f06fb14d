"""``$apply`` through the endpoint: on whose observations, and what nobody may see in sums."""

from __future__ import annotations

import pytest

from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db


async def test_one_datastream(client: Client, city: City) -> None:
    found = await client.json(
        f"Datastreams({city.temperature.pk})/Observations"
        "?$apply=groupby((bucket(phenomenonTime,PT10M,'Europe/Berlin') as start),"
        "aggregate(result with average as mean,$count as n))&$count=true&$top=2"
    )
    assert found == {
        "@iot.count": 3,
        "value": [
            {"start": "2026-03-01T13:00:00+01:00", "mean": 12.25, "n": 10},
            {"start": "2026-03-01T13:10:00+01:00", "mean": 17.25, "n": 10},
        ],
    }


async def test_what_may_not_be_seen_is_in_no_sum(client: Client, city: City) -> None:
    found = await client.values(
        "Observations?$apply=groupby((Datastream/Thing/name,Datastream/id),aggregate($count as n))"
        "&$orderby=Datastream/id desc"
    )
    assert found == [  # neither the hidden station nor the flagged humidity
        {"Datastream": {"Thing": {"name": "Parkhaus 'Süd'"}, "@iot.id": city.other.pk}, "n": 1},
        {"Datastream": {"Thing": {"name": "Markt"}, "@iot.id": city.temperature.pk}, "n": 30},
    ]
    assert await client.refused(
        f"Datastreams({city.secret.pk})/Observations?$apply=aggregate($count as n)", 404
    )


async def test_conditions_of_every_kind(client: Client, city: City) -> None:
    query = (
        "Observations?$apply=filter(phenomenonTime ge 2026-03-01T12:10:00Z and "
        "Datastream/ObservedProperty/definition ne 'x' and Datastream/Thing/properties/owner/name eq 'Stadt' and "
        "(result gt 20 or result lt 16))/aggregate($count as n,result with min as low,result with max as high)"
    )
    assert await client.values(query) == [{"n": 11, "low": 15.0, "high": 24.5}]
    single = (
        f"Datastreams({city.temperature.pk})/Observations?$apply=filter(Datastream/Thing/name eq '{{}}')"
        "/aggregate($count as n)"
    )
    assert await client.values(single.format("Markt")) == [{"n": 30}]
    assert await client.values(single.format("x")) == [{"n": 0}]
    near = (
        "Observations?$apply=filter(st_within(FeatureOfInterest/feature,"
        "geography'POLYGON((7.51 51.51,7.53 51.51,7.53 51.53,7.51 51.53,7.51 51.51))'))/aggregate($count as n)"
    )
    assert await client.values(near) == [{"n": 1}]
    parameters = "Observations?$apply=filter(parameters/cloud eq 3)/aggregate(result with sum as s)"
    assert await client.values(parameters) == [{"s": 21.5}]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Things?$apply=aggregate($count as n)", "$apply: works on Observations, such as Datastreams(1)/Observations"),
        (
            "Observations?$apply=groupby((Datastream/Thing/Locations/name),aggregate($count as n))",
            "$apply, character 10: a group needs one value of each Datastream, and Locations are many",
        ),
        (
            "Observations?$apply=filter(Datastream/foo eq 1)/aggregate($count as n)",
            "$apply, character 8: Datastream has no",
        ),
        ("Observations?$apply=filter(foo eq 1)/aggregate($count as n)", "$apply, character 8: Observation has no"),
        ("Observations?$apply=aggregate($count as n)&$select=n", "$select: cannot be combined with $apply"),
    ],
)  # fmt: skip
async def test_refusals(client: Client, city: City, path: str, message: str) -> None:
    assert (await client.refused(path)).startswith(message)
