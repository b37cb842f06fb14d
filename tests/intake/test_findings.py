"""Flags become findings: runs are joined, ended by a day or a decision, and taken back when a flag is lifted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from quartier.engines.pools import Pool
from quartier.intake import findings
from quartier.twin.flags import Flag
from quartier.twin.record import Observation
from tests.world import World

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
RANGE, SPIKE, STUCK = int(Flag.RANGE), int(Flag.SPIKE), int(Flag.PERSISTENCE)


class Desk:
    """Notes readings and reads the findings: check, first and last hour, number, example, state."""

    def __init__(self, world: World, pool: Pool, series: dict[str, int]) -> None:
        self.city = world.municipality.pk
        self.pool = pool
        self.series = series

    def reading(
        self, hour: float, result: float | None, flags: int, slug: str = "air_temperature"
    ) -> Observation:
        return Observation(self.city, self.series[slug], NOON + timedelta(hours=hour), result, flags)

    async def note(self, *readings: Observation) -> None:
        async with self.pool.connection() as connection:
            await findings.note(connection, readings)

    async def withdraw(self, *readings: Observation, flag: Flag = Flag.SPIKE) -> None:
        async with self.pool.connection() as connection:
            await findings.withdraw(connection, [reading[:3] for reading in readings], flag)

    async def decide(self, state: str) -> None:
        async with self.pool.connection() as connection:
            await connection.execute("UPDATE intake_qualityfinding SET state = %s", [state])

    async def found(self, slug: str = "air_temperature") -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT check_name, first_time, last_time, n, example, state FROM intake_qualityfinding"
                " WHERE series_id = %s ORDER BY check_name, first_time, id",
                [self.series[slug]],
            )
            rows = await cursor.fetchall()
        hour = timedelta(hours=1)
        return [(row[0], (row[1] - NOON) / hour, (row[2] - NOON) / hour, *row[3:]) for row in rows]


@pytest.fixture
async def desk(world: World, pool: Pool) -> Desk:
    def make() -> dict[str, int]:
        return {slug: world.series(slug).pk for slug in ("air_temperature", "wind_speed")}

    return Desk(world, pool, await sync_to_async(make)())


async def test_flagged_readings_of_a_batch_are_one_finding_per_check(desk: Desk) -> None:
    await desk.note(
        desk.reading(2, 70, RANGE),
        desk.reading(0, 90, RANGE | STUCK),
        desk.reading(1, 20, 0),
        desk.reading(1, 21, int(Flag.TIME_REPLACED)),
        desk.reading(0, -1, RANGE, "wind_speed"),
    )
    assert await desk.found() == [
        ("persistence", 0, 0, 1, 90, "open"),
        ("range", 0, 2, 2, 70, "open"),
    ]
    assert await desk.found("wind_speed") == [("range", 0, 0, 1, -1, "open")]


async def test_nothing_flagged_is_nothing_found(desk: Desk) -> None:
    await desk.note()
    await desk.note(desk.reading(0, 20, 0), desk.reading(1, 20, int(Flag.CONFIRMED | Flag.DISMISSED)))
    assert await desk.found() == []


async def test_open_finding_is_extended_within_a_day(desk: Desk) -> None:
    await desk.note(desk.reading(0, 90, RANGE))
    await desk.note(desk.reading(24, 91, RANGE))
    await desk.note(desk.reading(30, 92, RANGE), desk.reading(31, 93, RANGE))
    assert await desk.found() == [("range", 0, 31, 4, 93, "open")]


async def test_late_readings_extend_it_backwards_and_fill_it(desk: Desk) -> None:
    await desk.note(desk.reading(0, 90, RANGE), desk.reading(10, 91, RANGE))
    await desk.note(desk.reading(-24, 80, RANGE))
    await desk.note(desk.reading(5, 85, RANGE))
    assert await desk.found() == [("range", -24, 10, 4, 85, "open")]


async def test_more_than_a_day_without_a_flag_ends_it(desk: Desk) -> None:
    await desk.note(desk.reading(0, 90, RANGE))
    await desk.note(desk.reading(24.1, 91, RANGE))
    await desk.note(desk.reading(-24.1, 89, RANGE))
    assert await desk.found() == [
        ("range", -24.1, -24.1, 1, 89, "open"),
        ("range", 0, 0, 1, 90, "open"),
        ("range", 24.1, 24.1, 1, 91, "open"),
    ]


@pytest.mark.parametrize("state", ["confirmed", "dismissed"])
async def test_decision_ends_it(state: str, desk: Desk) -> None:
    await desk.note(desk.reading(0, 90, RANGE))
    await desk.decide(state)
    await desk.note(desk.reading(1, 91, RANGE))
    await desk.note(desk.reading(2, 92, RANGE))
    assert await desk.found() == [("range", 0, 0, 1, 90, state), ("range", 1, 2, 2, 92, "open")]


async def test_checks_and_series_are_kept_apart(desk: Desk) -> None:
    await desk.note(desk.reading(0, 90, RANGE))
    await desk.note(desk.reading(1, 20, SPIKE))
    await desk.note(desk.reading(1, 99, RANGE, "wind_speed"))
    assert await desk.found() == [("range", 0, 0, 1, 90, "open"), ("spike", 1, 1, 1, 20, "open")]
    assert await desk.found("wind_speed") == [("range", 1, 1, 1, 99, "open")]


async def test_acquitted_jump_is_no_finding(desk: Desk) -> None:
    """A cold front: the next value confirmed the jump, its flag was lifted, and nothing is left to decide."""
    await desk.note(desk.reading(0, 12, SPIKE))
    await desk.withdraw(desk.reading(0, 12, 0))
    assert await desk.found() == []


async def test_acquitted_jump_leaves_the_others_of_its_run(desk: Desk) -> None:
    await desk.note(
        desk.reading(0, 12, SPIKE), desk.reading(1, 30, SPIKE), desk.reading(2, 13, SPIKE | RANGE)
    )
    await desk.withdraw(desk.reading(2, 13, 0))
    assert await desk.found() == [("range", 2, 2, 1, 13, "open"), ("spike", 0, 2, 2, 13, "open")]
    await desk.withdraw(desk.reading(0, 12, 0), desk.reading(1, 30, 0))
    assert await desk.found() == [("range", 2, 2, 1, 13, "open")]


async def test_only_open_findings_of_the_time_are_taken_back(desk: Desk) -> None:
    await desk.note(desk.reading(0, 12, SPIKE))
    await desk.withdraw(desk.reading(0.1, 12, 0), desk.reading(0, 12, 0, "wind_speed"))
    await desk.withdraw()
    assert await desk.found() == [("spike", 0, 0, 1, 12, "open")]
    await desk.decide("confirmed")
    await desk.withdraw(desk.reading(0, 12, 0))
    assert await desk.found() == [("spike", 0, 0, 1, 12, "confirmed")]
