"""The HTTP side: the service document, addresses of parts, conditional requests, streams, other methods."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from quartier.interfaces.sensorthings.model import ENTITIES
from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db
BASE = "http://test/sensorthings/v1.1"


async def test_service_document(client: Client) -> None:
    for address in (
        "/sensorthings/v1.1",
        "/sensorthings/v1.1/",
        "/sensorthings/v1.0",
        "/sensorthings/musterstadt/v1.1",
    ):
        body = (await client.http.get(address)).json()
        root = f"http://test{address.rstrip('/')}"
        assert body["value"] == [{"name": one.set, "url": f"{root}/{one.set}"} for one in ENTITIES]
        assert (
            "http://www.opengis.net/spec/iot_sensing/1.1/req/request-data"
            in body["serverSettings"]["conformance"]
        )


async def test_addresses_of_parts(client: Client, city: City) -> None:
    thing = f"Things({city.market.pk})"
    assert await client.json(f"{thing}/name") == {"name": "Markt"}
    assert (await client.get(f"{thing}/name/$value")).text == "Markt"
    assert await client.json(f"{thing}/properties/owner") == {"owner": {"name": "Stadt", "since": 1990}}
    assert await client.json(f"{thing}/properties/tags[1]") == {"tags": "b"}
    assert (await client.get(f"{thing}/properties/owner/since/$value")).text == "1990"
    assert (await client.get(f"{thing}/properties/nothing")).status_code == 204
    assert (await client.get(f"{thing}/id/$value")).text == str(city.market.pk)
    assert await client.json(f"{thing}/Datastreams/$ref") == {
        "value": [
            {"@iot.selfLink": f"{BASE}/Datastreams({city.temperature.pk})"},
            {"@iot.selfLink": f"{BASE}/Datastreams({city.humidity.pk})"},
        ]
    }
    assert (await client.get(f"{thing}/Datastreams/$count")).text == "2"
    number = city.temperature.pk
    deep = f"{thing}/Datastreams({number})/Observations('{number}.1772366400000000')/Datastream"
    assert await client.json(f"{deep}/Thing/name") == {"name": "Markt"}
    assert await client.json(f"{deep}/Thing/$ref") == {"@iot.selfLink": f"{BASE}/{thing}"}
    assert (await client.json(f"{deep}/Sensor"))["metadata"] == "https://example.org/t1000"
    for path in (
        "Nothings",
        "Things(4711)",
        "Things(4711)/Datastreams",
        "Things(4711)/Datastreams/$count",
        "Things('x')",
        "Things(-1)",
        "Things(99999999999999999999)",
        "Things/name",
        f"{thing}/nothing",
        f"{thing}/Datastreams({city.other.pk})",
        f"{thing}/name/x",
        f"{thing}/name(1)",
        f"Datastreams({city.temperature.pk})/Thing(1)",
        "Observations(1)",
        "Observations('1.x')",
        f"Observations('{city.temperature.pk}.1')",
    ):
        answer = await client.get(path)
        assert (path, answer.status_code) in {(path, 404), (path, 400)}, answer.text
    for path in (f"{thing}/$value", f"{thing}/$count", f"{thing}/name/$ref", f"{thing}/name?$top=1"):
        await client.refused(path)


async def test_whoever_looks_for_the_beginning_is_told(client: Client) -> None:
    for address in ("/sensorthings/", "/sensorthings/musterstadt", "/sensorthings/v2.0/Things"):
        answer = await client.http.get(address)
        assert (answer.status_code, answer.json()["message"]) == (
            404,
            "the service begins at http://test/sensorthings/v1.1",
        )


async def test_conditional_requests(client: Client) -> None:
    first = await client.get("Things")
    tag = first.headers["etag"]
    for known in (tag, f'"x", {tag}', "*", tag.removeprefix("W/")):
        again = await client.get("Things", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await client.get("Things", headers={"if-none-match": '"other"'})).status_code == 200
    head = await client.http.head("/sensorthings/v1.1/Things")
    assert (head.status_code, head.headers["etag"]) == (200, tag)


async def test_other_methods_and_other_origins(client: Client) -> None:
    answer = await client.http.options("/sensorthings/v1.1/Things")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
    assert (await client.get("Things")).headers["access-control-allow-origin"] == "*"


async def test_a_stream_is_the_same_list(client: Client, city: City) -> None:
    page = await client.json("Observations?$count=true&$orderby=result%20desc&$top=1000")
    streamed = await client.json("Observations?$count=true&$orderby=result%20desc&$top=1000000")
    assert streamed == page
    # Something wrong in the middle of the way is told before the first byte.
    assert await client.refused("Things(4711)/Datastreams?$top=20000", 404)


async def test_the_newest_is_seen_at_once(client: Client, city: City, database: str) -> None:
    """Plans and extents are remembered; data never are."""
    from datetime import timedelta

    from quartier.engines.pools import async_pool
    from quartier.twin import correct
    from quartier.twin.record import Observation, Recorder
    from tests.interfaces.sensorthings.conftest import START

    path = "Observations?$top=1&$orderby=phenomenonTime%20desc&$select=result"
    assert (await client.values(path)) == [{"result": 24.5}]
    place, at = city.world.municipality.pk, START + timedelta(days=400)
    async with async_pool(database) as pool:
        recorder = Recorder(pool)
        await recorder.start()
        await recorder.record([Observation(place, city.other.pk, at, 99.0)])
        assert (await client.values(path)) == [{"result": 99}]
        await recorder.close()
        async with pool.connection() as connection:
            await correct.remove(connection, [(place, city.other.pk, at)], reason="test")
    assert (await client.values(path)) == [{"result": 24.5}]


@pytest.mark.filterwarnings("ignore:furl.pathstr:DeprecationWarning")
async def test_frost_client_reads_from_a_real_server(city: City, database: str) -> None:
    """The client that FROST's makers publish, over a real socket."""
    found = await asyncio.to_thread(_with_frost_client, database)
    assert found == {
        "things": ["Markt", "Parkhaus 'Süd'"],
        "results": [10 + n / 2 for n in range(30)],
        "owner": "Stadt",
        "place": [7.5, 51.5, 90],
        "sensor": "Fühler 1",
        "newest": 24.5,
    }


def _with_frost_client(url: str) -> dict[str, Any]:
    import frost_sta_client as frost
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.read import Reader, read_pool

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    up, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        app = Starlette(routes=[Mount("/sensorthings", routes=api.routes)])
        async with read_pool(url, max_size=3) as pool:
            app.state.sensorthings = Reader(pool)
            server = Server(
                app,
                address="127.0.0.1",
                port=port,
                interface=Interfaces.ASGI,
                http=HTTPModes.http1,
                log_enabled=False,
            )
            serving = asyncio.create_task(server.serve())
            while not stop.is_set():
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    up.set()
                except OSError:
                    pass
                await asyncio.sleep(0.05)
            server.stop()  # type: ignore[no-untyped-call]
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert up.wait(60)
        service = frost.SensorThingsService(f"http://127.0.0.1:{port}/sensorthings/v1.1")
        things = service.things().query().orderby("name", "asc").list()
        names = [one.name for one in things]
        market = next(
            iter(service.things().query().filter("name eq 'Markt'").expand("Locations,Datastreams").list())
        )
        series = service.datastreams().find(market.datastreams.entities[0].id)
        # Pages of seven: the client follows the links.
        results = [one.result for one in series.get_observations().query().top(7).list()]
        newest = next(iter(series.get_observations().query().orderby("phenomenonTime", "desc").top(1).list()))
        measures = f"Datastreams/id eq {series.id}"
        return {
            "things": names,
            "results": results,
            "owner": market.properties["owner"]["name"],
            "place": market.locations.entities[0].location["coordinates"],
            "sensor": next(iter(service.sensors().query().filter(measures).list())).name,
            "newest": newest.result,
        }
    finally:
        stop.set()
        thread.join(30)
