"""What is followed is what GET answers: every query, over all readings of the city, gives the same observations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.interfaces.sensorthings.conftest import START, Client

if TYPE_CHECKING:
    from tests.interfaces.sensorthings.conftest import City

pytestmark = pytest.mark.django_db
BASE = "http://test/sensorthings/v1.1"

QUERIES = [
    "Observations",
    "Datastreams({t})/Observations",
    "Datastreams({t})/Observations?$filter=result gt 15.5",
    "Datastreams({t})/Observations?$filter=20 le result and not (result eq 22 or result in (23,24))",
    "Datastreams({t})/Observations?$filter=phenomenonTime gt 2026-03-01T12:20:00Z",
    "Datastreams({o})/Observations?$select=result,parameters/cloud",
    "Datastreams({o})/Observations?$expand=Datastream($select=name;$expand=Thing($select=name))",
    "Observations?$filter=parameters/cloud eq 3",
    "Observations?$filter=Datastream/Thing/name eq 'Parkhaus ''Süd'''&$select=id,result",
    "Things({m})/Datastreams({t})/Observations?$filter=result lt 11",
    "Things({m})/Datastreams({o})/Observations",
    "Datastreams({s})/Observations",
    "Observations('{t}.1772366400000000')",
    "Datastreams({t})/Observations?$filter=result ne 12&$resultMetadata=none",
]


def _filled(query: str, city: City) -> str:
    return query.format(
        t=city.temperature.pk, o=city.other.pk, m=city.market.pk, s=city.secret.pk, h=city.humidity.pk
    )


async def _follow(city: City, database: str, query: str) -> list[Any]:
    from quartier.cities.rules import NOBODY
    from quartier.interfaces.sensorthings.compile.context import Eyes
    from quartier.interfaces.sensorthings.following.matcher import Matcher, Reading
    from quartier.interfaces.sensorthings.following.query import understand
    from quartier.interfaces.sensorthings.query.parse import parse_options, parse_resource
    from quartier.interfaces.sensorthings.read import Reader, read_pool
    from quartier.interfaces.sensorthings.visibility import Observers

    path, _, options = query.partition("?")
    eyes: Eyes = await Observers().eyes(NOBODY)
    async with read_pool(database) as pool:
        matcher = Matcher(Reader(pool))
        followed = understand(parse_resource(path), parse_options(options), eyes, BASE)
        matcher.add(followed)
        batch = [Reading(city.temperature.pk, START + timedelta(minutes=n), 10 + n / 2) for n in range(30)]
        batch += [Reading(one.pk, START, 1.0) for one in (city.humidity, city.other, city.secret)]
        found, failed = await matcher.matches(batch)
        assert failed == []
        matcher.remove(followed)
        assert await matcher.matches(batch) == ([], [])
    return [orjson.loads(one.body) for one in found]


@pytest.mark.parametrize("query", QUERIES)
async def test_followed_is_what_is_read(city: City, database: str, client: Client, query: str) -> None:
    filled = _filled(query, city)
    followed = await _follow(city, database, filled)
    if "Observations('" in filled:
        read = [await client.json(filled)]
    else:
        more = "&" if "?" in filled else "?"
        answer = await client.get(f"{filled}{more}$top=1000")
        read = answer.json()["value"] if answer.status_code == 200 else []
    key = lambda one: orjson.dumps(one, option=orjson.OPT_SORT_KEYS)  # noqa: E731
    assert sorted(followed, key=key) == sorted(read, key=key)
