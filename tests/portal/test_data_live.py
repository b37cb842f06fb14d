"""Live events: who asked gets what is public, in order, once; nobody gets anything else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats import errors as nats_errors
from nats.js.errors import Error as JetStreamError
from starlette.applications import Starlette
from starlette.routing import Mount

from quartier.cities.models import Municipality
from quartier.engines import nats
from quartier.engines.bus import OBSERVED, Bus
from quartier.engines.bus import connect as connect_bus
from quartier.portal import live
from quartier.twin.models import Thing
from quartier.usage.models import Dataset

PUBLIC = frozenset({("dortmund", "a"), ("dortmund", "b"), ("schwerte", "c")})


async def catalogue() -> frozenset[live.Place]:
    return PUBLIC


class Page:
    """A page that follows live values: speaks ASGI to the application and reads server-sent events."""

    def __init__(self, app: Starlette, query: str, last_event_id: str | None = None) -> None:
        headers = [(b"last-event-id", last_event_id.encode())] if last_event_id is not None else []
        self._scope = {
            "type": "http", "method": "GET", "path": "/live/events", "raw_path": b"/live/events", "root_path": "",
            "query_string": query.encode(), "headers": headers, "scheme": "http", "http_version": "1.1",
            "server": ("testserver", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
        }  # fmt: skip
        self._app = app
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._left = asyncio.Event()
        self.headers: dict[bytes, bytes] = {}
        self._task: asyncio.Task[None] | None = None
        self._buffer = b""

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def open(self) -> int:
        self._task = asyncio.create_task(self._app(self._scope, self._receive, self._sent.put))  # type: ignore[arg-type]
        start = await asyncio.wait_for(self._sent.get(), 5)
        self.headers = dict(start["headers"])
        return int(start["status"])

    async def body(self) -> bytes:
        """The next part of the answer."""
        return bytes((await asyncio.wait_for(self._sent.get(), 5))["body"])

    async def event(self, *, comments: bool = False) -> dict[str, str]:
        """The next event (comments and the retry hint are passed over)."""
        while True:
            while b"\n\n" not in self._buffer:
                self._buffer += await self.body()
            block, self._buffer = self._buffer.split(b"\n\n", 1)
            if block.startswith(b":") and comments:
                return {"comment": block.decode()}
            found = dict(
                line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":")
            )
            if "event" in found:
                return found

    async def leave(self) -> None:
        self._left.set()
        if self._task is not None:
            await asyncio.wait_for(self._task, 5)


@asynccontextmanager
async def serving(bus: Bus, source: live.Catalogue = catalogue) -> AsyncIterator[tuple[Starlette, live.Hub]]:
    hub = live.Hub(bus, catalogue=source)
    app = Starlette(routes=[Mount("/live", routes=live.routes)])
    app.state.live = hub
    await hub.start()
    try:
        yield app, hub
    finally:
        await hub.close()


async def publish(bus: Bus, municipality: str, key: str, number: int) -> int:
    body = json.dumps({"municipality": municipality, "thing": key, "readings": [{"result": number}]}).encode()
    return (await bus.js.publish(f"{OBSERVED}.{municipality}.station.{key}", body)).seq


async def following(hub: live.Hub) -> None:
    """Wait until the hub's consumer exists."""
    await asyncio.wait_for(hub.following.wait(), 10)


def results(events: list[dict[str, str]]) -> list[tuple[str, int]]:
    bodies = [json.loads(event["data"]) for event in events]
    return [(body["thing"], body["readings"][0]["result"]) for body in bodies]


async def test_page_gets_only_the_things_it_asked_for(bus: Bus) -> None:
    async with serving(bus) as (app, hub):
        page = Page(app, "things=dortmund/a,schwerte/c")
        assert await page.open() == 200
        assert page.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert page.headers[b"cache-control"] == b"no-store"
        assert await page.body() == b"retry: 3000\n\n"
        await following(hub)
        for number, (municipality, key) in enumerate(
            [
                ("dortmund", "a"),
                ("dortmund", "b"),
                ("dortmund", "secret"),
                ("schwerte", "c"),
                ("dortmund", "a"),
            ]
        ):
            await publish(bus, municipality, key, number)
        events = [await page.event() for _ in range(3)]
        assert results(events) == [("a", 0), ("c", 3), ("a", 4)]
        assert [event["event"] for event in events] == ["readings"] * 3
        positions = [int(event["id"]) for event in events]
        assert [p - positions[0] for p in positions] == [0, 3, 4]
        await page.leave()


async def test_page_of_a_municipality_and_page_of_all_get_public_things_only(bus: Bus) -> None:
    async with serving(bus) as (app, hub):
        city, every = Page(app, "municipality=dortmund"), Page(app, "")
        assert [await city.open(), await every.open()] == [200, 200]
        await following(hub)
        for number, place in enumerate(
            [("dortmund", "secret"), ("schwerte", "c"), ("dortmund", "b"), ("elsewhere", "a")]
        ):
            await publish(bus, *place, number)
        assert results([await city.event()]) == [("b", 2)]
        assert results([await every.event(), await every.event()]) == [("c", 1), ("b", 2)]
        await city.leave()
        await every.leave()


async def test_page_that_comes_back_gets_what_it_missed_once(bus: Bus) -> None:
    first = await publish(bus, "dortmund", "a", 1)
    await publish(bus, "dortmund", "b", 2)
    await publish(bus, "dortmund", "secret", 3)
    await publish(bus, "dortmund", "a", 4)
    async with serving(bus) as (app, hub):
        page = Page(app, "municipality=dortmund", str(first))
        await page.open()
        await following(hub)
        await publish(bus, "dortmund", "a", 5)
        events = [await page.event() for _ in range(3)]
        assert results(events) == [("b", 2), ("a", 4), ("a", 5)]
        await page.leave()


async def test_page_that_missed_too_much_is_told_so(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAXIMUM_RESUMED", 3)
    first = await publish(bus, "dortmund", "a", 0)
    for number in range(1, 6):
        await publish(bus, "dortmund", "a", number)
    async with serving(bus) as (app, hub):
        page = Page(app, "things=dortmund/a", str(first))
        await page.open()
        assert await page.event() == {"event": "gap", "data": '{"lost":5}'}
        await following(hub)
        await publish(bus, "dortmund", "a", 6)
        assert results([await page.event()]) == [("a", 6)]
        await page.leave()


async def test_position_that_the_stream_has_forgotten_is_a_gap(bus: Bus) -> None:
    first = await publish(bus, "dortmund", "a", 0)
    await publish(bus, "dortmund", "a", 1)
    await bus.js.purge_stream(OBSERVED)
    await publish(bus, "dortmund", "a", 2)
    async with serving(bus) as (app, _):
        behind, ahead = (
            Page(app, "things=dortmund/a", str(first)),
            Page(app, "things=dortmund/a", str(first + 10)),
        )
        await behind.open()
        await ahead.open()
        assert (await behind.event())["data"] == '{"lost":1}'
        assert (await ahead.event())["event"] == "gap"
        await behind.leave()
        await ahead.leave()


@pytest.mark.parametrize("header", ["", "x", "-1", "1e3", "９", "9" * 30])
async def test_last_event_id_that_is_no_position_is_passed_over(bus: Bus, header: str) -> None:
    async with serving(bus) as (app, hub):
        page = Page(app, "things=dortmund/a", header)
        assert await page.open() == 200
        await following(hub)
        await publish(bus, "dortmund", "a", 7)
        assert results([await page.event()]) == [("a", 7)]
        await page.leave()


async def test_slow_page_loses_the_oldest_and_is_told_so() -> None:
    client = live.Client()
    for position in range(1, live.QUEUE_LENGTH + 4):
        client.push(position, b"%d;" % position)
    text = client.take(0)
    assert text.startswith(b'event: gap\ndata: {"lost":3}\n\n4;5;')
    assert text.endswith(b"%d;" % (live.QUEUE_LENGTH + 3))
    assert client.take(0) == b""


@pytest.mark.parametrize(
    ("query", "status", "body"),
    [
        (
            "things=a",
            400,
            {"error": "invalid", "field": "things", "detail": "'a' is not <municipality>/<key>"},
        ),
        ("things=dortmund/secret", 404, {"error": "not_found", "field": "things", "detail": "there is no such thing"}),
        ("things=dortmund/nothing", 404, {"error": "not_found", "field": "things", "detail": "there is no such thing"}),
        (
            "municipality=*",
            404,
            {"error": "not_found", "field": "municipality", "detail": "there is no such municipality"},
        ),
        (
            "things=" + ",".join(["dortmund/a"] * 201),
            400,
            {"error": "invalid", "field": "things", "detail": "at most 200 things can be followed, not 201"},
        ),
    ],
)  # fmt: skip
async def test_wrong_address_names_the_parameter(
    bus: Bus, query: str, status: int, body: dict[str, str]
) -> None:
    async with serving(bus) as (app, _):
        page = Page(app, query)
        assert await page.open() == status
        assert json.loads(await page.body()) == body


async def test_one_page_too_many_is_asked_to_come_back(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAXIMUM_CLIENTS", 1)
    async with serving(bus) as (app, _):
        first, second, third = (Page(app, "things=dortmund/a") for _ in range(3))
        assert [await first.open(), await second.open()] == [200, 503]
        assert second.headers[b"retry-after"] == b"30"
        await first.leave()
        assert await third.open() == 200
        await third.leave()


async def test_silence_is_kept_alive_by_comments(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)
    async with serving(bus) as (app, _):
        page = Page(app, "things=dortmund/a")
        await page.open()
        assert await page.event(comments=True) == {"comment": ": still here"}
        await page.leave()


async def test_nobody_watches_then_nothing_is_consumed(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "IDLE_S", 0.5)
    for consumer in await bus.js.consumers_info(OBSERVED):
        await bus.js.delete_consumer(OBSERVED, consumer.name)
    async with serving(bus) as (app, hub):
        assert (await bus.js.stream_info(OBSERVED)).state.consumer_count == 0
        page = Page(app, "things=dortmund/a")
        await page.open()
        await following(hub)
        await page.leave()
        for _ in range(300):
            if (await bus.js.stream_info(OBSERVED)).state.consumer_count == 0:
                break
            await asyncio.sleep(0.05)
        assert (await bus.js.stream_info(OBSERVED)).state.consumer_count == 0


async def test_closing_ends_open_pages(bus: Bus) -> None:
    async with serving(bus) as (app, hub):
        page = Page(app, "things=dortmund/a")
        await page.open()
        await page.body()
        await hub.close()
        assert await page.body() == b""


async def test_events_continue_after_the_server_was_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nats-live")
    server = nats.start(folder, mqtt_port=0, durable=False)
    bus = await connect_bus(server.url, name="test-live")
    port, mqtt_port = int(server.url.rsplit(":", 1)[1]), server.mqtt_port
    try:
        async with serving(bus) as (app, hub):
            page = Page(app, "things=dortmund/a")
            await page.open()
            await following(hub)
            await publish(bus, "dortmund", "a", 1)
            assert results([await page.event()]) == [("a", 1)]
            server.process.kill()
            server.process.wait()
            server = restart(folder, port, mqtt_port)
            await publish_until_taken(bus, "dortmund", "a", 2)
            for _ in range(4):
                try:
                    event = await page.event()
                    break
                except TimeoutError:
                    continue
            assert results([event]) == [("a", 2)]
            await page.leave()
            assert hub.public == PUBLIC
    finally:
        await bus.nc.close()
        server.stop()


async def publish_until_taken(bus: Bus, municipality: str, key: str, number: int) -> None:
    """Publish again while the server is coming back."""
    for _ in range(10):
        try:
            await publish(Bus(bus.nc, bus.nc.jetstream(timeout=0.3)), municipality, key, number)
            return
        except (nats_errors.Error, JetStreamError):
            await asyncio.sleep(0.1)
    raise AssertionError("the server did not come back")


def restart(folder: Any, port: int, mqtt_port: int) -> nats.Server:
    """A server on the same streams and the same port, as the supervisor starts it."""
    original: Callable[[], int] = nats._free_port
    nats._free_port = lambda: port
    try:
        return nats.start(folder, mqtt_port=mqtt_port, durable=False)
    finally:
        nats._free_port = original


@pytest.fixture
def things(transactional_db: None) -> None:
    city = Municipality.objects.create(
        slug="dortmund", name="Dortmund", lon=7.46, lat=51.51, west=7.3, south=51.4, east=7.7, north=51.6
    )
    for key, kind, public in (("a", "station", True), ("b", "station", False), ("c", "tree", True)):
        Thing.objects.create(municipality=city, key=key, name=key, kind=kind, public=public)
    Dataset.objects.create(
        municipality=city, slug="trees", title_de="x", title_en="x", thing_kinds=["tree"], public=False
    )


async def test_public_things_leave_out_what_is_hidden(things: None) -> None:
    assert await live.public_things() == frozenset({("dortmund", "a")})


def test_line_ends_cannot_break_out_of_an_event() -> None:
    assert live.frame(7, b'{"a":\n1}') == b'id: 7\nevent: readings\ndata: {"a":\ndata: 1}\n\n'
