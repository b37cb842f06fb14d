"""New observations as server-sent events (WHATWG HTML, section 9.2), from recording to the listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from starlette.applications import Starlette
from starlette.routing import Mount

from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.conftest import City, make_city
from tests.interfaces.sensorthings.mqtt.conftest import until
from tests.patience import patient

if TYPE_CHECKING:
    from quartier.twin.publish import Publisher

START = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(eq=False)
class Ear:
    """Somebody who listens."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: bytes = b""
    ended: bool = False

    def events(self) -> list[tuple[str, Any]]:
        """Id (empty if it has none) and data of the complete events."""
        found = []
        for block in self.text.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if "data" in fields:
                found.append((fields.get("id", ""), orjson.loads(fields["data"])))
        return found

    def results(self) -> list[Any]:
        return [data["result"] for _, data in self.events()]


@dataclass
class Place:
    """An application whose bus carries what is recorded."""

    app: Starlette
    city: City
    recorder: Any

    async def record(self, series: Any, *results: float, after_s: int = 0) -> None:
        from quartier.twin.record import Observation

        await self.recorder.record(
            [
                Observation(series.municipality_id, series.pk, START + timedelta(seconds=after_s + n), result)
                for n, result in enumerate(results)
            ]
        )

    @asynccontextmanager
    async def listening(self, path: str, query: str = "", **headers: str) -> AsyncIterator[Ear]:
        ear = Ear()
        gone = asyncio.Event()
        began = False

        async def receive() -> dict[str, Any]:
            nonlocal began
            if not began:
                began = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                ear.status = message["status"]
                ear.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                ear.text += message.get("body", b"")
                ear.ended = not message.get("more_body", False)

        given = {"accept": "text/event-stream", "host": "test", **headers}
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/sensorthings/v1.1/{path}",
            "raw_path": b"",
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "http_version": "1.1",
            "asgi": {"version": "3.0"},
        }
        task = asyncio.create_task(self.app(scope, receive, send))
        try:
            await until(lambda: ear.text or ear.ended or task.done())
            yield ear
        finally:
            gone.set()
            await asyncio.wait_for(task, patient(10))


@pytest.fixture
async def place(store: str, pool: Pool, bus: Bus, publisher: Callable[[], Publisher]) -> AsyncIterator[Place]:
    from quartier.interfaces.sensorthings import api, events, visibility
    from quartier.interfaces.sensorthings.read import Reader, read_pool
    from quartier.interfaces.sensorthings.visibility import Observers
    from quartier.sources.grants import Grants
    from quartier.twin.record import Recorder
    from tests.world import make_world

    api.observers = Observers()
    visibility.grants = Grants()
    app = Starlette(routes=[Mount("/sensorthings", routes=api.routes)])
    app.state.bus = bus
    city = await sync_to_async(lambda: make_city(make_world()))()
    stop = asyncio.Event()
    publishing = asyncio.create_task(publisher().run(stop, poll_s=0.02))
    recorder = Recorder(pool)
    await recorder.start()
    async with read_pool(store, max_size=3) as reading:
        app.state.sensorthings = Reader(reading)
        yield Place(app, city, recorder)
        await events.closed(app.state)
        stop.set()
        await recorder.close()
        await publishing


async def test_a_query_is_followed(place: Place) -> None:
    t = place.city.temperature
    async with place.listening(
        f"Datastreams({t.pk})/Observations", "$filter=result gt 20&$select=result,phenomenonTime"
    ) as ear:
        assert (ear.status, ear.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        await place.record(t, 19, 21, 22)
        await place.record(place.city.humidity, 50)
        await until(lambda: len(ear.events()) >= 2)
    assert [data for _, data in ear.events()] == [
        {"phenomenonTime": "2026-06-01T00:00:01Z", "result": 21},
        {"phenomenonTime": "2026-06-01T00:00:02Z", "result": 22},
    ]


async def test_whoever_comes_back_gets_what_he_missed(place: Place) -> None:
    t = place.city.temperature
    path = f"Datastreams({t.pk})/Observations"
    async with place.listening(path, "$select=result") as first:
        await place.record(t, 1)
        await until(first.events)
    (last, data), *_ = first.events()
    assert data == {"result": 1}
    await place.record(t, 2, 3, after_s=10)
    await place.record(place.city.humidity, 50)
    async with place.listening(path, "$select=result", last_event_id=last) as second:
        await until(lambda: len(second.events()) >= 2)
        await place.record(t, 4, after_s=20)
        await until(lambda: len(second.events()) >= 3)
    assert second.results() == [2, 3, 4]


async def test_what_is_not_open_is_not_heard(place: Place) -> None:
    async with place.listening("Observations", "$select=result") as ear:
        await place.record(place.city.secret, 1)
        await place.record(place.city.temperature, 2)
        await until(ear.events)
    assert ear.results() == [2]


@pytest.mark.parametrize(
    ("path", "query", "status", "message"),
    [
        ("Observations", "$top=5", 400, "$top: cannot be asked of what is still to come"),
        ("Things", "", 400, "path: only Observations are meant here"),
        ("", "", 400, "path: name the Observations that are meant"),
        ("Observations", "$filter=nonsense eq 1", 400, None),
        ("Nothing", "", 404, None),
    ],
)
async def test_mistakes_are_answered(
    place: Place, path: str, query: str, status: int, message: str | None
) -> None:
    async with place.listening(path, query) as ear:
        await until(lambda: ear.ended)
    assert ear.status == status
    if message is not None:
        assert orjson.loads(ear.text)["message"] == message


async def test_a_stream_ends_when_its_token_is_revoked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.utils import timezone

    from quartier.cities import tokens
    from quartier.cities.models import Person, Role, RoleAssignment, Token
    from quartier.interfaces.sensorthings import events

    def prepare() -> str:
        person = Person.objects.create_user("a@example.org")
        RoleAssignment.objects.create(
            person=person, municipality=place.city.world.municipality, role=Role.STAFF
        )
        return tokens.make(person, name="t", scopes=["things:read"])[1]

    monkeypatch.setattr(events, "LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    text = await sync_to_async(prepare)()
    async with place.listening("Observations", "$select=result", authorization=f"Bearer {text}") as ear:
        await place.record(place.city.secret, 1)
        await until(ear.events)
        assert ear.results() == [1]
        await sync_to_async(lambda: Token.objects.update(revoked_at=timezone.now()))()
        from quartier.interfaces.sensorthings import visibility

        visibility.grants._known.clear()  # it would be remembered for half a minute
        await until(lambda: ear.ended)
