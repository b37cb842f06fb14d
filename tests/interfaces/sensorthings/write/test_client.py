"""The client that FROST's makers publish, writing to a server process of its own over a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from tests.interfaces.sensorthings.write.conftest import OM, Town

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:furl.pathstr:DeprecationWarning"),
]


@pytest.fixture
def server(store: str) -> Any:
    """The address of a web process on the test's database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = os.environ | {"QUARTIER_PORT": str(port), "QUARTIER_POSTGRES_URL": store}
    process = subprocess.Popen([sys.executable, "-m", "quartier.cli.web"], env=environment)
    address = f"http://127.0.0.1:{port}/sensorthings/v1.1"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{address}/Things", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_frost_client_creates_patches_queries_and_deletes(server: str, town: Town) -> None:
    import frost_sta_client as frost
    from geojson import Point  # type: ignore[import-untyped]
    from requests.auth import HTTPBasicAuth

    class Token(frost.AuthHandler):  # type: ignore[misc]
        def add_auth_header(self) -> HTTPBasicAuth:
            return HTTPBasicAuth("operator", town.operator_token)

    service = frost.SensorThingsService(server, auth_handler=Token())
    place = frost.Location(
        "Platz", "mit Brunnen", location=Point((7.46, 51.51)), encoding_type="application/geo+json"
    )
    thing = frost.Thing(
        name="Station", description="vom Client", properties={"owner": "Verein"}, locations=[place]
    )
    service.create(thing)
    found = service.things().find(thing.id)
    assert (found.name, found.properties["owner"], found.properties["municipality"]) == (
        "Station",
        "Verein",
        "musterstadt",
    )
    stream = frost.Datastream(
        name="Temperatur",
        description="zwei Meter",
        observation_type=f"{OM}OM_Measurement",
        unit_of_measurement=frost.UnitOfMeasurement(name="Grad", symbol="°C", definition="ucum:Cel"),
        thing=frost.Thing(id=thing.id),
        sensor=frost.Sensor(name="DHT22", description="billig", encoding_type="text/plain", metadata="dht22"),
        observed_property=frost.ObservedProperty(
            name="Luft", definition="https://example.org/air", description="Lufttemperatur"
        ),
    )
    service.create(stream)
    for hour in range(3):
        made = frost.Observation(
            phenomenon_time=f"2026-07-01T{hour:02}:00:00Z",
            result=20.0 + hour,
            datastream=frost.Datastream(id=stream.id),
        )
        service.create(made)
        assert made.id == f"{stream.id}.{1782864000000000 + hour * 3_600_000_000}"
    query = (
        service.datastreams()
        .find(stream.id)
        .get_observations()
        .query()
        .filter("result gt 20")
        .orderby("result", "asc")
    )
    assert [one.result for one in query.list()] == [21, 22]
    service.patch(thing, [{"op": "replace", "path": "/name", "value": "Umbenannt"}])
    found = service.things().find(thing.id)
    assert found.name == "Umbenannt"
    found.description = "ersetzt"
    service.update(found)
    assert service.things().find(thing.id).description == "ersetzt"
    service.delete(made)
    assert [one.result for one in service.observations().query().orderby("result", "asc").list()] == [20, 21]
    service.delete(stream)
    service.delete(found)
    assert service.things().query().count().list().count == 1
    with pytest.raises(Exception, match="404"):
        service.things().find(thing.id)
