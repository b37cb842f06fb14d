"""An endpoint that writes, on a database of each test's own, with an operator, a steward, a maker and their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from psycopg.rows import TupleRow

from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.conftest import Client

if TYPE_CHECKING:
    from quartier.cities.models import Municipality, Person
    from tests.world import World

BASE = "http://test/sensorthings/v1.1"
OM = "http://www.opengis.net/def/observationType/OGC-OM/2.0/"
CELSIUS = {
    "name": "Grad Celsius",
    "symbol": "°C",
    "definition": "http://www.opengis.net/def/uom/UCUM/0/Cel",
}


def point(lon: float = 7.46, lat: float = 51.51) -> dict[str, Any]:
    """GeoJSON of a point."""
    return {"type": "Point", "coordinates": [lon, lat]}


def location(lon: float = 7.46, lat: float = 51.51, name: str = "Platz") -> dict[str, Any]:
    """The body of a Location."""
    return {
        "name": name,
        "description": "",
        "encodingType": "application/geo+json",
        "location": point(lon, lat),
    }


def sensor() -> dict[str, Any]:
    """The body of a Sensor."""
    return {
        "name": "SHT35",
        "description": "Fühler",
        "encodingType": "application/pdf",
        "metadata": "https://example.org/sht35.pdf",
    }


def datastream(**more: Any) -> dict[str, Any]:
    """The body of a Datastream with everything inline but its Thing."""
    return {
        "name": "Lufttemperatur",
        "description": "Stundenwerte",
        "observationType": f"{OM}OM_Measurement",
        "unitOfMeasurement": CELSIUS,
        "Sensor": sensor(),
        "ObservedProperty": {
            "name": "Temperatur der Luft",
            "definition": "https://example.org/air-temperature",
            "description": "in zwei Metern",
        },
    } | more


def thing(**more: Any) -> dict[str, Any]:
    """The body of a Thing with a Location and a Datastream."""
    return {
        "name": "Messstelle Süd",
        "description": "am Tor",
        "properties": {"owner": "Stadt"},
        "Locations": [location()],
        "Datastreams": [datastream()],
    } | more


@dataclass(slots=True)
class Writing(Client):
    """A client that writes, with the token of one person."""

    http: httpx.AsyncClient
    token: str = ""
    root: str = "/sensorthings/v1.1"
    sent: list[str] = field(default_factory=list)

    def by(self, token: str, root: str = "/sensorthings/v1.1") -> Writing:
        """The same endpoint with another token."""
        return Writing(self.http, token, root)

    async def send(self, method: str, path: str, body: Any = None, **named: Any) -> httpx.Response:
        """The answer to a request; never a server error."""
        headers = dict(named.pop("headers", {}))
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        if body is not None:
            named["json"] = body
        answer = await self.http.request(method, f"{self.root}/{path}", headers=headers, **named)
        assert answer.status_code < 500, answer.text
        return answer

    async def post(self, path: str, body: Any, **named: Any) -> str:
        """Create; returns the path of what was made, such as ``Things(1)``."""
        answer = await self.send("POST", path, body, **named)
        assert answer.status_code == 201, answer.text
        return answer.headers["location"].split("/v1.1/")[1]

    async def change(self, method: str, path: str, body: Any, **named: Any) -> None:
        """PATCH or PUT."""
        answer = await self.send(method, path, body, **named)
        assert answer.status_code == 200, answer.text

    async def no(self, method: str, path: str, body: Any = None, status: int = 400, **named: Any) -> str:
        """The message of a request that is refused."""
        answer = await self.send(method, path, body, **named)
        assert answer.status_code == status, answer.text
        message: str = answer.json()["message"]
        return message

    async def get(self, path: str, **named: Any) -> httpx.Response:
        """As the token's person reads."""
        return await self.send("GET", path, **named)


@dataclass(frozen=True, slots=True)
class Town:
    """Two cities and their people."""

    world: World
    other: Municipality
    maker: Person
    operator_token: str
    steward_token: str
    maker_token: str
    reader_token: str


@pytest.fixture
def town(world: World) -> Town:
    """Musterstadt and Nebenstadt; an operator, a steward, a maker and a member of staff of Musterstadt."""
    from quartier.cities import tokens
    from quartier.cities.models import Municipality, Person, RoleAssignment
    from quartier.cities.rules import SCOPES

    other = Municipality.objects.create(
        slug="nebenstadt", name="Nebenstadt", lon=8.5, lat=51.5, west=8.4, south=51.4, east=8.6, north=51.6
    )
    people, made = {}, {}
    for role in ("operator", "steward", "maker", "staff"):
        people[role] = Person.objects.create_user(f"{role}@example.org", name=role)
        RoleAssignment.objects.create(person=people[role], role=role, municipality=world.municipality)
        made[role] = tokens.make(people[role], name="test", scopes=list(SCOPES))[1]
    return Town(
        world, other, people["maker"], made["operator"], made["steward"], made["maker"], made["staff"]
    )


@pytest.fixture
async def sta(store: str, town: Town, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writing]:
    """The endpoint, for the operator."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.limits import RateLimit
    from quartier.interfaces.sensorthings.read import Reader, read_pool
    from quartier.interfaces.sensorthings.visibility import Observers
    from quartier.interfaces.sensorthings.write.http import writing

    monkeypatch.setattr(api, "observers", Observers())
    monkeypatch.setattr(api, "_limit", RateLimit(0))
    app = Starlette(routes=[Mount("/sensorthings", routes=api.routes)])
    app.state.pool = pool
    async with read_pool(store, max_size=3) as opened:
        app.state.sensorthings = Reader(opened)
        async with writing(app.state):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                yield Writing(http, town.operator_token)


async def rows(pool: Pool, sql: str, *parameters: Any) -> list[TupleRow]:
    """What the store holds."""
    async with pool.connection() as connection:
        return await (await connection.execute(sql, parameters)).fetchall()
