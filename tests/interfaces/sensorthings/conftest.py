"""A small city behind a SensorThings endpoint: two stations, their series, observations, and a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

if TYPE_CHECKING:
    from quartier.twin.models import Series, Thing
    from tests.world import World

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class City:
    """What the tests ask for by number."""

    world: World
    market: Thing
    park: Thing
    hidden: Thing
    temperature: Series
    humidity: Series
    other: Series
    secret: Series


def make_city(world: World) -> City:
    """Two public stations and one that is not."""
    from quartier.twin.models import Device, DeviceType, Series, Thing

    kind = DeviceType.objects.create(
        key="acme", vendor="Acme", model="T 1000", datasheet="https://example.org/t1000"
    )
    device = Device.objects.create(
        municipality=world.municipality, source_key="s", external_id="d1", name="Fühler 1", device_type=kind
    )
    market = world.thing
    market.properties = {"owner": {"name": "Stadt", "since": 1990}, "tags": ["a", "b"]}
    market.street, market.house_number = "Markt", "1"
    market.save()
    park = Thing.objects.create(
        municipality=world.municipality,
        key="park",
        name="Parkhaus 'Süd'",
        kind="car_park",
        lon=7.52,
        lat=51.52,
    )
    hidden = Thing.objects.create(
        municipality=world.municipality,
        key="h",
        name="Geheim",
        kind="station",
        lon=7.5,
        lat=51.5,
        public=False,
    )
    temperature, humidity = world.series("air_temperature"), world.series("relative_humidity")
    Series.objects.filter(pk=temperature.pk).update(device=device)
    return City(
        world,
        market,
        park,
        hidden,
        temperature,
        humidity,
        world.series("air_temperature", thing=park),
        world.series("air_temperature", thing=hidden),
    )


async def _record(url: str, made: City) -> None:
    """30 temperatures at the market, a minute apart (10.0, 10.5 …), and one of the others each."""
    from quartier.engines.pools import async_pool
    from quartier.twin.record import Observation, Recorder

    place = made.world.municipality.pk
    rows = [
        Observation(place, made.temperature.pk, START + timedelta(minutes=n), 10 + n / 2) for n in range(30)
    ]
    rows.append(Observation(place, made.humidity.pk, START, 55.0, flags=1))
    details = {
        "resultTime": "2026-03-01T12:00:05Z",
        "parameters": {"cloud": 3},
        "phenomenonTimeEnd": "2026-03-01T13:00:00Z",
        "validTime": "2026-03-01T12:00:00Z/2026-03-02T12:00:00Z",
    }
    rows.append(Observation(place, made.other.pk, START, 21.5, details=details))
    rows.append(Observation(place, made.secret.pk, START, 1.0))
    async with async_pool(url) as pool:
        recorder = Recorder(pool)
        await recorder.start()
        await recorder.record(rows)
        await recorder.close()


@pytest.fixture(scope="module")
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """URL of the test database, which the tests of a module share, for they only read; emptied behind them."""
    from django.db import connection

    from tests.clean import empty_tables

    with django_db_blocker.unblock():
        settings = connection.settings_dict
        yield f"postgresql://{settings['USER']}@/{settings['NAME']}?host={quote(settings['HOST'], safe='')}"
        empty_tables()


@pytest.fixture(scope="module")
def city(database: str) -> City:
    """The city with its observations."""
    from tests.world import make_world

    made = make_city(make_world())
    asyncio.run(_record(database, made))
    return made


class Client:
    """Asks the endpoint; every answer is checked to be no server error."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **named: Any) -> httpx.Response:
        """The answer to a path (behind the version) with its query."""
        answer = await self.http.get(f"/sensorthings/v1.1/{path}", **named)
        assert answer.status_code < 500, answer.text
        return answer

    async def json(self, path: str, **named: Any) -> Any:
        """The JSON of a good answer."""
        answer = await self.get(path, **named)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def values(self, path: str, **named: Any) -> list[Any]:
        """The entities of a list."""
        found: list[Any] = (await self.json(path, **named))["value"]
        return found

    async def ids(self, path: str, **named: Any) -> list[Any]:
        """The ids of a list."""
        return [one["@iot.id"] for one in await self.values(path, **named)]

    async def pages(self, path: str) -> list[list[Any]]:
        """All pages of a list, following its links."""
        pages = []
        address = f"http://test/sensorthings/v1.1/{path}"
        while address:
            answer = await self.http.get(address)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            pages.append(body["value"])
            address = body.get("@iot.nextLink")
            assert len(pages) < 100
        return pages

    async def refused(self, path: str, status: int = 400, **named: Any) -> str:
        """The message of an answer that says no."""
        answer = await self.get(path, **named)
        assert answer.status_code == status, answer.text
        body = answer.json()
        assert body["code"] == status
        message: str = body["message"]
        return message


@asynccontextmanager
async def endpoint(url: str) -> AsyncIterator[Client]:
    """The application on a database of its own."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.read import Reader, read_pool
    from quartier.interfaces.sensorthings.visibility import Observers

    api.observers = Observers()
    app = Starlette(routes=[Mount("/sensorthings", routes=api.routes)])
    async with read_pool(url, max_size=3) as opened:
        app.state.sensorthings = Reader(opened)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield Client(http)


@pytest.fixture
async def client(database: str, city: City) -> AsyncIterator[Client]:
    """A client of the endpoint, before the city."""
    async with endpoint(database) as made:
        yield made
