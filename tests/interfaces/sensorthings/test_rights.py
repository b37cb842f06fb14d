"""What a caller may not see does not exist for him: in sets, by id, in counts, within expands and in filters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def tokens(city: City) -> dict[str, dict[str, str]]:
    """Headers of a member of staff who may read what is not public, and of one whose token may not."""
    from quartier.cities import tokens as made
    from quartier.cities.models import Municipality, Person, RoleAssignment

    elsewhere = Municipality.objects.create(
        slug="anderswo", name="Anderswo", lon=8, lat=51, west=7, south=50, east=9, north=52
    )
    person = Person.objects.create_user("staff@example.org", "x")
    for place in (city.world.municipality, elsewhere):
        RoleAssignment.objects.create(person=person, role="staff", municipality=place)
    found = {
        "reader": made.make(person, name="r", scopes=["things:read"])[1],
        "writer": made.make(person, name="w", scopes=["observations:write"])[1],
        "other": made.make(person, name="o", scopes=["things:read"], municipality=elsewhere)[1],
    }
    return {name: {"authorization": f"Bearer {text}"} for name, text in found.items()}


def _paths(city: City) -> list[str]:
    """Single entities that belong to the hidden thing."""
    from quartier.interfaces.sensorthings.models import FeatureOfInterest, HistoricalLocation, Location

    place = Location.objects.get(thing=city.hidden)
    return [
        f"Things({city.hidden.pk})",
        f"Things({city.hidden.pk})/name",
        f"Datastreams({city.secret.pk})",
        f"Datastreams({city.secret.pk})/Observations",
        f"Datastreams({city.secret.pk})/Observations/$count",
        f"Things({city.hidden.pk})/Datastreams",
        f"Observations('{city.secret.pk}.1772366400000000')",
        f"Observations('{city.secret.pk}.1772366400000000')/Datastream",
        f"Locations({place.pk})",
        f"Locations({place.pk})/Things",
        f"FeaturesOfInterest({FeatureOfInterest.objects.get(location=place).pk})",
        f"HistoricalLocations({HistoricalLocation.objects.get(thing=city.hidden).pk})",
    ]


async def test_what_is_hidden_is_not_there(client: Client, city: City, tokens: dict[str, Any]) -> None:
    from asgiref.sync import sync_to_async

    strangers: list[dict[str, str]] = [{}, tokens["writer"], tokens["other"]]
    for path in await sync_to_async(_paths)(city):
        for headers in strangers:
            answer = await client.get(path, headers=headers)
            assert (path, answer.status_code) == (path, 404), answer.text
        seen = await client.get(path, headers=tokens["reader"])
        assert (path, seen.status_code) == (path, 200), seen.text


async def test_sets_counts_expands_and_filters(client: Client, city: City, tokens: dict[str, Any]) -> None:
    async def numbers(headers: dict[str, str]) -> list[Any]:
        found: list[Any] = []
        for path in (
            "Things",
            "Datastreams",
            "Observations",
            "Locations",
            "FeaturesOfInterest",
            "HistoricalLocations",
        ):
            body = await client.json(f"{path}?$count=true&$top=1000", headers=headers)
            found.append((body["@iot.count"], len(body["value"])))
        key = "ObservedProperties?$filter=properties/key%20eq%20'air_temperature'"
        body = await client.json(
            f"{key}&$expand=Datastreams($count=true;$expand=Observations($count=true))", headers=headers
        )
        series = body["value"][0]["Datastreams"]
        found.append((body["value"][0]["Datastreams@iot.count"], len(series)))
        found.append([one["Observations@iot.count"] for one in series])
        found.append(
            len(await client.ids(f"{key}%20and%20Datastreams/Thing/name%20eq%20'Geheim'", headers=headers))
        )
        found.append(
            len(await client.ids("Sensors?$filter=Datastreams/Thing/name%20eq%20'Geheim'", headers=headers))
        )
        return found

    public = [(2, 2), (3, 3), (32, 32), (2, 2), (2, 2), (2, 2), (2, 2), [30, 1], 0, 0]
    assert await numbers({}) == public
    assert await numbers(tokens["writer"]) == public
    assert await numbers(tokens["other"]) == public
    everything = [(3, 3), (4, 4), (33, 33), (3, 3), (3, 3), (3, 3), (3, 3), [30, 1, 1], 1, 1]
    assert await numbers(tokens["reader"]) == everything


async def test_an_endpoint_per_city(client: Client, city: City, tokens: dict[str, Any]) -> None:
    own = await client.http.get("/sensorthings/musterstadt/v1.1/Things?$count=true")
    assert own.json()["@iot.count"] == 2
    assert own.json()["value"][0]["@iot.selfLink"].startswith(
        "http://test/sensorthings/musterstadt/v1.1/Things("
    )
    for path in ("Things", "Datastreams", "Observations", "Locations", "Sensors"):
        other = await client.http.get(f"/sensorthings/anderswo/v1.1/{path}?$count=true")
        assert other.json() == {"@iot.count": 0, "value": []}
    assert (await client.http.get(f"/sensorthings/anderswo/v1.1/Things({city.market.pk})")).status_code == 404
    nowhere = await client.http.get("/sensorthings/nowhere/v1.1/Things")
    assert nowhere.json() == {
        "code": 404,
        "type": "error",
        "message": "there is no municipality 'nowhere'; there are anderswo, musterstadt",
    }


async def test_tokens_that_cannot_be_used(client: Client, tokens: dict[str, Any]) -> None:
    for header in ("Bearer qt_0000000000_" + "A" * 43, "Bearer nonsense", "Basic !!", "Digest x"):
        answer = await client.get("Things", headers={"authorization": header})
        assert (answer.status_code, answer.json()["code"]) == (401, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    import base64

    password = tokens["reader"]["authorization"].removeprefix("Bearer ")
    basic = base64.b64encode(f"anybody:{password}".encode()).decode()
    body = await client.json("Things?$count=true&$top=0", headers={"authorization": f"Basic {basic}"})
    assert body["@iot.count"] == 3


async def test_too_many_requests(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.limits import RateLimit

    monkeypatch.setattr(api, "_limit", RateLimit(3))
    answers = [await client.get("Things?$top=1") for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"] == "20"
    assert answers[-1].json() == {
        "code": 429,
        "type": "error",
        "message": "at most 3 requests per minute; wait 20 s, or ask for more in one request ($expand, $top)",
    }
