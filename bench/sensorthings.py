"""SensorThings by HTTP, as a client sees it: requests per second and milliseconds, with 20 million observations."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from bench.installation import installation, percentile

THINGS = 1_000
SERIES = 2_000
LOCATIONS = 100_000
OBSERVATIONS = 20_000_000
STEP = timedelta(minutes=15)
END = datetime(2026, 11, 1, tzinfo=UTC)
CONNECTIONS = 16
SECONDS = 8.0
REPEATS = 15

type Answer = tuple[int, bytes]


def run() -> dict[str, float]:
    """Figures; one web process, its client, and PostgreSQL on one machine; warm cache."""
    with installation() as place:
        fill(OBSERVATIONS // SERIES)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        environment = os.environ | {"QUARTIER_PORT": str(port), "QUARTIER_SENSORTHINGS_PER_MINUTE": "0"}
        server = subprocess.Popen([sys.executable, "-m", "quartier.cli.web"], env=environment)
        try:
            return asyncio.run(measure(port, place.postgres_url))
        finally:
            server.terminate()
            server.wait(20)


def fill(steps: int) -> None:
    """Things with two datastreams each, further locations, and ``steps`` observations per series backwards from END.

    Written by the store itself, because this measures reading; a month at a time, as they would have come.
    """
    from django.db import connection

    from quartier.cities.models import Municipality
    from quartier.twin import partitions
    from quartier.twin.models import ObservedProperty

    city = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    for number in range(SERIES // THINGS):
        ObservedProperty.objects.create(
            slug=f"p{number}",
            iri=f"https://example.org/{number}",
            name_de=f"P {number}",
            name_en=f"P {number}",
            unit="Cel",
            category="weather",
        )
    month, months = (END - steps * STEP), []
    while (month.year, month.month) <= (END.year, END.month):
        months.append((month.year, month.month))
        month = partitions.start(partitions.following((month.year, month.month)))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO twin_thing (municipality_id, key, name, kind, description, lon, lat, surface, street,"
            " house_number, postcode, public, simulated, properties, created_at, updated_at)"
            " SELECT %s, 't' || n, 'Station ' || n, 'station', '', 7 + random(), 51 + random(), '', '', '', '', true,"
            " false, '{}', now(), now() FROM generate_series(1, %s) n",
            [city.pk, THINGS],
        )
        cursor.execute(
            "INSERT INTO twin_series (municipality_id, thing_id, observed_property_id, channel, unit, result_type,"
            " derivation, created_at) SELECT t.municipality_id, t.id, p.id, '', p.unit, 'number', '', now()"
            " FROM twin_thing t CROSS JOIN twin_observedproperty p ORDER BY t.id, p.id"
        )
        cursor.execute(
            "INSERT INTO sensorthings_location"
            " (municipality_id, name, description, encoding_type, location, created_at)"
            " SELECT %s, 'Platz ' || n, '', 'application/geo+json', jsonb_build_object('type', 'Point', 'coordinates',"
            " jsonb_build_array(7 + random(), 51 + random())), now() FROM generate_series(1, %s) n",
            [city.pk, LOCATIONS - THINGS],
        )
        for one in months:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {partitions.name(one)} PARTITION OF twin_observation"
                " FOR VALUES FROM (%s) TO (%s)",
                [partitions.start(one), partitions.start(partitions.following(one))],
            )
        for step in range(0, steps, 1000):
            cursor.execute(
                "INSERT INTO twin_observation (municipality_id, series_id, time, result, origin)"
                " SELECT s.municipality_id, s.id, %s - n * %s::interval,"
                " round((15 + 10 * sin(n / 30.0))::numeric, 2), n"
                " FROM generate_series(%s::integer, %s) n CROSS JOIN twin_series s",
                [END, str(STEP), step + 1, min(step + 1000, steps)],
            )
        cursor.execute(
            "INSERT INTO twin_state SELECT municipality_id, id, %s, %s - %s * %s::interval, %s - %s::interval, 0, 15,"
            " NULL, now() FROM twin_series",
            [steps, END, steps, str(STEP), END, str(STEP)],
        )
        cursor.execute("VACUUM ANALYZE")


async def measure(port: int, url: str) -> dict[str, float]:
    """Ask the server on ``port``, whose database is at ``url``."""
    from psycopg import AsyncConnection

    async with await AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("SELECT min(series_id), max(series_id), min(n) FROM twin_state")
        row = await cursor.fetchone()
    assert row is not None
    first, last = int(row[0]), int(row[1])
    await _until_up(port)
    newest = "Datastreams({})/Observations?$top=100&$orderby=phenomenonTime%20desc"
    rates = await _rate(port, lambda n: newest.format(first + n * 7 % (last - first + 1)))
    figures = {"newest_100_requests_per_s": rates[0], "newest_100_p99_ms": rates[1]}
    skipped = min(9_900, int(row[2]) - 200)
    deep = f"Datastreams({first + 5})/Observations?$top=100&$orderby=phenomenonTime%20desc&$skip={skipped}"
    asked = {
        "newest_100": newest.format(first + 1),
        "count_of_all": "Observations?$top=0&$count=true",
        "count_of_one": f"Datastreams({first + 3})/Observations?$top=0&$count=true",
        "things_with_newest": "Things?$top=1000&$expand=Datastreams($expand=Observations($top=1;"
        "$orderby=phenomenonTime%20desc))",
        "within_geometry": "Locations?$filter="
        + quote("st_within(location,geography'POLYGON((7.5 51.5,7.6 51.5,7.55 51.6,7.5 51.5))')"),
        "within_distance": "Locations?$filter="
        + quote("geo.distance(location,geography'POINT(7.5 51.5)') lt 0.05"),
        "all_observations": "Observations",
        "newest_of_all": "Observations?$orderby=phenomenonTime%20desc",
    }
    for name, path in asked.items():
        figures[f"{name}_ms"] = await _median_ms(port, lambda _, path=path: path)  # type: ignore[misc]
    following = await _next_of(port, deep)
    figures["page_10000_deep_ms"] = await _median_ms(port, lambda _: following)
    following = await _next_of(port, "Observations?$skip=10000")
    figures["page_10000_deep_of_all_ms"] = await _median_ms(port, lambda _: following)
    return figures


class _Connection:
    """A plain HTTP/1.1 client, lean enough not to be what is measured."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 26)

    async def get(self, path: str) -> Answer:
        self._writer.write(
            f"GET /sensorthings/v1.1/{path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def _until_up(port: int) -> None:
    for _ in range(300):
        one = _Connection(port)
        try:
            await one.open()
            status, _ = await one.get("Things?$top=1")
            one.close()
            if status == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)
    raise RuntimeError("the web server did not come up")


async def _rate(port: int, path: Callable[[int], str]) -> tuple[float, float]:
    """Requests per second and the 99th percentile in milliseconds, over some connections."""
    waits: list[float] = []
    numbers = iter(range(1 << 30))

    async def ask(until: float) -> None:
        one = _Connection(port)
        await one.open()
        while time.perf_counter() < until:
            began = time.perf_counter()
            status, _ = await one.get(path(next(numbers)))
            assert status == 200
            waits.append(time.perf_counter() - began)
        one.close()

    await asyncio.gather(*(ask(time.perf_counter() + 1) for _ in range(CONNECTIONS)))
    waits.clear()
    began = time.perf_counter()
    await asyncio.gather(*(ask(began + SECONDS) for _ in range(CONNECTIONS)))
    return len(waits) / (time.perf_counter() - began), percentile(waits, 99) * 1000


async def _median_ms(port: int, path: Callable[[int], str]) -> float:
    one = _Connection(port)
    await one.open()
    times = []
    for number in range(REPEATS):
        began = time.perf_counter()
        status, body = await one.get(path(number))
        times.append(time.perf_counter() - began)
        assert status == 200, body
    one.close()
    return percentile(times, 50) * 1000


async def _next_of(port: int, path: str) -> str:
    import json

    one = _Connection(port)
    await one.open()
    _, body = await one.get(path)
    one.close()
    link: str = json.loads(body)["@iot.nextLink"]
    return link.partition("/v1.1/")[2]
