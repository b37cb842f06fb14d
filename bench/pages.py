"""Server time of home and station pages with 2 and with 20 million observations: the same pages, more history.

Ninety-one stations measure eleven things every ten minutes: two million observations are two weeks, twenty million are
twenty weeks. The web process is the one that ``quartier serve`` runs; times are taken by a client on the same machine.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from bench import reads
from bench.installation import installation, percentile
from bench.served import free_port, healthy, wait

STATIONS = 91
PROPERTIES = (
    "air_temperature", "relative_humidity", "air_pressure", "wind_speed", "wind_direction", "precipitation",
    "solar_irradiance", "black_globe_temperature", "dew_point", "utci", "pet",
)  # fmt: skip
SIZES = (2_000_000, 20_000_000)
STEP = timedelta(minutes=10)
REQUESTS = 100


def run() -> dict[str, float]:
    """Milliseconds, median and 95th percentile, per page and size; and the ratio of the medians."""
    figures: dict[str, float] = {}
    with installation(streams=True):
        series = _make_city()
        end = datetime.now(UTC).replace(second=0, microsecond=0)
        port = free_port()
        done = 0
        for size in SIZES:
            reads.fill(done // series, size // series, end=end, step=STEP, fine=True)
            done = size
            million = size // 1_000_000
            for name, times in _measure(port).items():
                figures[f"{name}_p50_at_{million}M_ms"] = percentile(times, 50) * 1000
                figures[f"{name}_p95_at_{million}M_ms"] = percentile(times, 95) * 1000
    for name in ("home", "station", "station_year", "list"):
        small, large = (figures[f"{name}_p50_at_{size // 1_000_000}M_ms"] for size in SIZES)
        figures[f"{name}_ratio"] = large / small
    return figures


def _make_city() -> int:
    from quartier.cities.models import Municipality
    from quartier.cli.seed import seed_municipality, seed_properties, shipped_file
    from quartier.twin.models import ObservedProperty, Series, Thing

    seed_properties()
    seed_municipality(shipped_file("dortmund"))
    city = Municipality.objects.get(slug="dortmund")
    found = {p.slug: p for p in ObservedProperty.objects.filter(slug__in=PROPERTIES)}
    assert len(found) == len(PROPERTIES)
    things = Thing.objects.bulk_create(
        Thing(
            municipality=city,
            key=f"s{n}",
            name=f"Station {n}",
            kind="station",
            lon=7.40 + 0.01 * (n % 10),
            lat=51.45 + 0.01 * (n // 10),
        )
        for n in range(STATIONS)
    )
    return len(
        Series.objects.bulk_create(
            Series(municipality=city, thing=thing, observed_property=one, unit=one.unit)
            for thing in things
            for one in found.values()
        )
    )


def _measure(port: int) -> dict[str, list[float]]:
    web = subprocess.Popen(
        [sys.executable, "-m", "quartier.cli.web"], env={**os.environ, "QUARTIER_PORT": str(port)}
    )
    try:
        wait("the start of the web server", lambda: healthy(port), 60)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        return {
            "home": _times(connection, lambda n: "/"),
            "list": _times(connection, lambda n: "/orte/"),
            "station": _times(connection, lambda n: f"/orte/dortmund/s{n % STATIONS}/"),
            "station_year": _times(connection, lambda n: f"/orte/dortmund/s{n % STATIONS}/?zeitraum=jahr"),
        }
    finally:
        web.terminate()
        web.wait(20)


def _times(connection: http.client.HTTPConnection, path: object) -> list[float]:
    assert callable(path)
    times = []
    for n in range(REQUESTS + 5):
        began = time.perf_counter()
        connection.request("GET", path(n))
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body[:500]
        times.append(time.perf_counter() - began)
    return times[5:]
