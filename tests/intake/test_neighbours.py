"""The periodic check against the stations around, with a real store: an outlier is found, told once, and acquitted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.models import Municipality
from quartier.engines.pools import Pool
from quartier.intake.neighbours import check_neighbours
from quartier.twin import correct
from quartier.twin.flags import Flag
from quartier.twin.models import Thing
from quartier.twin.record import Observation, Recorder
from tests.world import World

OUTLIER = 5
SPATIAL = int(Flag.SPATIAL)


@dataclass(slots=True)
class Network:
    """Twelve stations, the last two of them in the neighbouring city, and the minute up to which they reported."""

    pool: Pool
    recorder: Recorder
    series: list[tuple[int, int]]
    start: datetime

    async def report(self, minute: float, *, outlier: float, flags: int = 0) -> None:
        """20 °C with small differences everywhere, and ``outlier`` at one station."""
        await self.recorder.record(
            [
                Observation(
                    city,
                    series,
                    self.start + timedelta(minutes=minute),
                    outlier if n == OUTLIER else 20 + n % 3 / 10,
                    flags if n == OUTLIER else 0,
                )
                for n, (city, series) in enumerate(self.series)
            ]
        )

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query)).fetchall()

    async def flagged(self) -> list[tuple[int, float]]:
        """Station and minute of every observation with the flag."""
        numbers = {series: n for n, (_, series) in enumerate(self.series)}
        rows = await self.fetch(
            f"SELECT series_id, time FROM twin_observation WHERE flags & {SPATIAL} <> 0 ORDER BY time, 1"
        )
        return [(numbers[series], (time - self.start) / timedelta(minutes=1)) for series, time in rows]

    async def findings(self) -> list[tuple[Any, ...]]:
        return await self.fetch(
            "SELECT series_id, n, example, state, detail FROM intake_qualityfinding WHERE check_name = 'spatial'"
            " ORDER BY id"
        )


def make_stations(world: World) -> list[tuple[int, int]]:
    neighbour = Municipality.objects.create(
        slug="nachbarstadt",
        name="Nachbarstadt",
        lon=7.5,
        lat=51.4,
        west=7.4,
        south=51.3,
        east=7.6,
        north=51.5,
    )
    made = []
    for n in range(12):
        city = neighbour if n >= 10 else world.municipality
        thing = Thing.objects.create(
            municipality=city,
            key=f"s{n}",
            name=f"S {n}",
            kind="station",
            lon=7.45 + n % 4 * 0.01,  # about 700 m apart
            lat=51.50 + n // 4 * 0.007,
            altitude_m=100,
        )
        series = world.series("air_temperature", thing=thing)
        series.municipality = city
        series.save()
        made.append((city.pk, series.pk))
    return made


@pytest.fixture
async def network(world: World, pool: Pool) -> AsyncIterator[Network]:
    recorder = Recorder(pool)
    await recorder.start()
    series = await sync_to_async(make_stations)(world)
    yield Network(pool, recorder, series, datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=15))
    await recorder.close()


async def test_outlier_is_flagged_with_what_the_others_measured(network: Network) -> None:
    await network.report(0, outlier=29)
    async with network.pool.connection() as connection:
        await connection.execute("TRUNCATE twin_rollup_mark, twin_change")
    assert await check_neighbours(network.pool) == 1
    assert await network.flagged() == [(OUTLIER, 0)]
    city, series = network.series[OUTLIER]
    ((found, n, example, state, detail),) = await network.findings()
    assert (found, n, example, state) == (series, 1, 29.0, "open")
    assert detail == {"expected": pytest.approx(20.1), "neighbours": 11}
    assert await network.fetch("SELECT municipality_id FROM intake_qualityfinding") == [(city,)]
    assert await network.fetch("SELECT flags FROM twin_state WHERE flags <> 0") == [(SPATIAL,)]
    assert await network.fetch("SELECT series_ids FROM twin_rollup_mark") == [([series],)]
    assert await network.fetch("SELECT series_ids, flags FROM twin_change") == [([series], [SPATIAL])]


async def test_second_run_tells_nothing_new(network: Network) -> None:
    await network.report(0, outlier=29)
    assert await check_neighbours(network.pool) == 1
    async with network.pool.connection() as connection:
        await connection.execute("TRUNCATE twin_rollup_mark, twin_change")
    assert await check_neighbours(network.pool) == 0
    assert await network.flagged() == [(OUTLIER, 0)]
    assert [row[1] for row in await network.findings()] == [1]
    assert await network.fetch("SELECT 1 FROM twin_change UNION ALL SELECT 1 FROM twin_rollup_mark") == []


async def test_each_reading_of_a_run_is_flagged_and_counted(network: Network) -> None:
    for minute, outlier in ((0, 29), (5, 30), (10, 28.5)):
        await network.report(minute, outlier=outlier)
        assert await check_neighbours(network.pool) == 1
    assert await network.flagged() == [(OUTLIER, 0), (OUTLIER, 5), (OUTLIER, 10)]
    assert [row[1:4] for row in await network.findings()] == [(3, 28.5, "open")]


async def test_good_reading_after_it_is_not_flagged(network: Network) -> None:
    await network.report(0, outlier=29)
    await check_neighbours(network.pool)
    await network.report(5, outlier=20.3)
    assert await check_neighbours(network.pool) == 0
    assert await network.flagged() == [(OUTLIER, 0)], "what was wrong stays wrong"


async def test_reading_that_fits_after_all_is_acquitted(network: Network) -> None:
    """The others' readings of this moment came late, and it was warm everywhere."""
    await network.report(0, outlier=29)
    await check_neighbours(network.pool)
    warm = [
        Observation(city, series, network.start + timedelta(minutes=1), 28.8 + n % 3 / 10)
        for n, (city, series) in enumerate(network.series)
        if n != OUTLIER
    ]
    await network.recorder.record(warm)
    assert await check_neighbours(network.pool) == 0
    assert await network.flagged() == []
    assert await network.fetch("SELECT DISTINCT flags FROM twin_state") == [(0,)]


@pytest.mark.parametrize("flag", [Flag.RANGE, Flag.SPIKE, Flag.PERSISTENCE, Flag.CONFIRMED])
async def test_what_is_known_to_be_wrong_is_not_compared(flag: Flag, network: Network) -> None:
    await network.report(0, outlier=29, flags=int(flag))
    assert await check_neighbours(network.pool) == 0
    assert await network.flagged() == []


async def test_detail_belongs_to_the_run_it_was_found_in(network: Network) -> None:
    """An older open finding of the station keeps what its own neighbours measured."""
    city, series = network.series[OUTLIER]
    async with network.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO intake_qualityfinding (municipality_id, series_id, check_name, first_time, last_time, n,"
            " detail, state) VALUES (%s, %s, 'spatial', %s, %s, 1, '{\"expected\": 3}', 'open')",
            [city, series, network.start - timedelta(days=9), network.start - timedelta(days=8)],
        )
    await network.report(0, outlier=29)
    await check_neighbours(network.pool)
    assert [row[4]["expected"] for row in await network.findings()] == [3, pytest.approx(20.1)]


async def test_old_readings_are_left_alone(network: Network) -> None:
    await network.report(-10, outlier=29)  # 25 minutes ago
    assert await check_neighbours(network.pool) == 0


async def test_too_few_neighbours_say_nothing(network: Network) -> None:
    await network.report(0, outlier=29)
    few = [n for n in range(12) if n not in (OUTLIER, 0, 1, 2, 3)]
    async with network.pool.connection() as connection:
        for n in few:
            city, series = network.series[n]
            await correct.remove(connection, [(city, series, network.start)], reason="test")
    assert await check_neighbours(network.pool) == 0


async def test_empty_store(network: Network) -> None:
    assert await check_neighbours(network.pool) == 0
