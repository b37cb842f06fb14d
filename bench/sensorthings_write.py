"""Writing SensorThings by HTTP: single observations over many connections, and dataArray; every answer is durable."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from bench.installation import installation, percentile

SERIES = 400
CONNECTIONS = 64
SECONDS = 8.0
ARRAYS, ROWS_PER_ARRAY = 12, 50_000
START = datetime(2026, 7, 1, tzinfo=UTC)


def run() -> dict[str, float]:
    """Figures; fsync on; one web process, its client, and PostgreSQL on one machine."""
    with installation():
        token, series = _fill()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        environment = os.environ | {"QUARTIER_PORT": str(port), "QUARTIER_SENSORTHINGS_PER_MINUTE": "0"}
        server = subprocess.Popen([sys.executable, "-m", "quartier.cli.web"], env=environment)
        try:
            return asyncio.run(_measure(port, token, series))
        finally:
            server.terminate()
            server.wait(20)


def _fill() -> tuple[str, list[int]]:
    """A city with datastreams whose values are checked, and an operator's token."""
    from quartier.cities import tokens
    from quartier.cities.models import Municipality, Person, RoleAssignment
    from quartier.cities.rules import SCOPES
    from quartier.twin.models import ObservedProperty, Series, Thing
    from quartier.twin.properties import catalogue

    city = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    found = catalogue()["air_temperature"]
    observed = ObservedProperty.objects.create(
        slug=found.slug,
        iri=found.iri,
        name_de="T",
        name_en="T",
        unit="Cel",
        category="weather",
        limits=found.limits_json,
    )
    made = []
    for n in range(SERIES):
        thing = Thing.objects.create(
            municipality=city, key=f"t{n}", name=f"T {n}", kind="station", lon=7.5, lat=51.5
        )
        made.append(
            Series.objects.create(municipality=city, thing=thing, observed_property=observed, unit="Cel").pk
        )
    person = Person.objects.create_user("operator@example.org")
    RoleAssignment.objects.create(person=person, role="operator", municipality=city)
    return tokens.make(person, name="bench", scopes=list(SCOPES))[1], made


class _Connection:
    """A plain HTTP/1.1 client, lean enough not to be what is measured."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = (
            f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        )

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 26)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        head = f"POST /sensorthings/v1.1/{path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(answer[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def _measure(port: int, token: str, series: list[int]) -> dict[str, float]:
    await _until_up(port, token)
    waits: list[float] = []
    numbers = iter(range(1 << 30))

    async def single(until: float) -> None:
        one = _Connection(port, token)
        await one.open()
        while time.perf_counter() < until:
            n = next(numbers)
            moment = START + timedelta(seconds=30 * (n // SERIES))
            body = b'{"phenomenonTime":"%s","result":%.2f}' % (
                moment.isoformat().replace("+00:00", "Z").encode(),
                15 + n // SERIES % 5 / 10,
            )
            began = time.perf_counter()
            status, text = await one.post(f"Datastreams({series[n % SERIES]})/Observations", body)
            assert status == 201, text
            waits.append(time.perf_counter() - began)
        one.close()

    await asyncio.gather(*(single(time.perf_counter() + 2) for _ in range(CONNECTIONS)))
    waits.clear()
    began = time.perf_counter()
    await asyncio.gather(*(single(began + SECONDS) for _ in range(CONNECTIONS)))
    figures = {
        "post_observations_per_s": len(waits) / (time.perf_counter() - began),
        "post_p50_ms": percentile(waits, 50) * 1000,
        "post_p99_ms": percentile(waits, 99) * 1000,
    }
    bodies = [_array(series, n) for n in range(ARRAYS)]
    one, two = _Connection(port, token), _Connection(port, token)
    await one.open()
    await two.open()

    async def arrays(connection: _Connection, own: list[bytes]) -> None:
        for body in own:
            status, text = await connection.post("CreateObservations", body)
            assert status == 201, text
            assert text.count(b'"error"') == 0

    began = time.perf_counter()
    await asyncio.gather(arrays(one, bodies[::2]), arrays(two, bodies[1::2]))
    figures["array_observations_per_s"] = ARRAYS * ROWS_PER_ARRAY / (time.perf_counter() - began)
    return figures


def _array(series: list[int], number: int) -> bytes:
    """A body with rows of ten datastreams, a minute apart, as an import of history has them."""
    each = ROWS_PER_ARRAY // 10
    first = datetime(2025, 1, 1, tzinfo=UTC)
    times = [(first + timedelta(minutes=n)).isoformat().replace("+00:00", "Z") for n in range(each)]
    return json.dumps(
        [
            {
                "Datastream": {"@iot.id": one},
                "components": ["phenomenonTime", "result"],
                "dataArray@iot.count": each,
                "dataArray": [[moment, 15 + n % 7 / 10] for n, moment in enumerate(times)],
            }
            for one in series[number * 10 : number * 10 + 10]
        ]
    ).encode()


async def _until_up(port: int, token: str) -> None:
    for _ in range(300):
        one = _Connection(port, token)
        try:
            await one.open()
            status, _ = await one.post("Observations", b"{}")
            one.close()
            if status == 400:
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)
    raise RuntimeError("the web server did not come up")
