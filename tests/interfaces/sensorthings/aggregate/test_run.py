"""``$apply`` against sums computed by hand, whether roll-ups are up to date or not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async

from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.aggregate.plan import make_plan
from quartier.interfaces.sensorthings.aggregate.run import Answer, aggregate
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import parse_options
from quartier.twin import correct, rollups
from quartier.twin.flags import Flag, is_bad
from quartier.twin.record import Observation, Recorder
from tests.world import World

BERLIN = ZoneInfo("Europe/Berlin")
# Four days around the night in which clocks go back: 25 October 2026 has 25 hours.
START = datetime(2026, 10, 23, 20, 3, tzinfo=UTC)
ALL = "$count as n,result with average as mean,result with sum as sum,result with min as low,result with max as high"


async def ask(pool: Pool, query: str, series: dict[int, Any], **more: Any) -> Answer:
    options = parse_options(query)
    assert options.apply is not None
    return await aggregate(pool, make_plan(options.apply, options.orderby), series, **more)


async def refresh_all(pool: Pool) -> None:
    async with pool.connection() as connection:
        while await rollups.refresh(connection):
            pass


async def make_series(world: World, slug: str = "air_temperature") -> int:
    made = await sync_to_async(world.series)(slug)
    return made.pk


def some(world: World, series: int, *, every_min: int = 13, days: int = 4) -> list[Observation]:
    """Values that are told apart, some of them flagged."""
    found = []
    for n in range(days * 1440 // every_min):
        flags = int(Flag.SPIKE) if n % 17 == 3 else int(Flag.RANGE | Flag.DISMISSED) if n % 19 == 4 else 0
        when = START + timedelta(minutes=every_min * n, microseconds=n)
        found.append(Observation(world.municipality.pk, series, when, 10 + (n * 7 % 23) / 4, flags))
    return found


def by_hand(
    observations: Iterable[Observation], start_of: Callable[[datetime], Any]
) -> dict[Any, tuple[Any, ...]]:
    """Start of the bucket to n, mean, sum, min, max, first, last."""
    groups: dict[Any, list[float]] = {}
    for one in sorted(observations, key=lambda o: o.time):
        if one.result is not None and not is_bad(one.flags):
            groups.setdefault(start_of(one.time), []).append(one.result)
    return {
        start: (len(g), math.fsum(g) / len(g), math.fsum(g), min(g), max(g), g[0], g[-1])
        for start, g in groups.items()
    }


def wall(zone: ZoneInfo, hours: int) -> Callable[[datetime], str]:
    """By the clock on the wall, in steps of some hours from midnight."""

    def start(moment: datetime) -> str:
        local = moment.astimezone(zone)
        return datetime(
            local.year, local.month, local.day, local.hour // hours * hours, tzinfo=zone
        ).isoformat()

    return start


def elapsed(zone: ZoneInfo, minutes: int) -> Callable[[datetime], str]:
    """In steps of up to an hour, where the hour that there is twice is two."""

    def start(moment: datetime) -> str:
        local = moment.astimezone(zone)
        back = timedelta(minutes=local.minute % minutes, seconds=local.second, microseconds=local.microsecond)
        return (moment - back).astimezone(zone).isoformat()

    return start


KOLKATA = ZoneInfo("Asia/Kolkata")
CASES = [
    ("P1D", "Europe/Berlin", wall(BERLIN, 24), "1d"),
    ("P1D", "Asia/Kolkata", wall(KOLKATA, 24), "15min"),  # half an hour beside UTC
    ("PT6H", "Europe/Berlin", wall(BERLIN, 6), "1h"),
    ("PT1H", "Europe/Berlin", elapsed(BERLIN, 60), "1h"),
    ("PT1H", "Asia/Kolkata", elapsed(KOLKATA, 60), "15min"),
    ("PT15M", "Europe/Berlin", elapsed(BERLIN, 15), "15min"),
    ("PT10M", "Europe/Berlin", elapsed(BERLIN, 10), None),  # no roll-up is that fine
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
async def test_buckets_are_exact(
    world: World, pool: Pool, case: tuple[str, str, Callable[[datetime], str], str | None]
) -> None:
    width, zone, start_of, granule = case
    series = await make_series(world)
    other = await make_series(world, "relative_humidity")
    recorder = Recorder(pool)
    await recorder.start()
    observations = some(world, series, every_min=3)
    await recorder.record(observations[::2])
    await recorder.record(some(world, other, every_min=31))
    await refresh_all(pool)
    # A few minutes before one midnight and after another.
    since, until = START + timedelta(minutes=110), START + timedelta(days=3, hours=3, microseconds=9)
    query = (
        f"$apply=filter(phenomenonTime gt {since.isoformat()} and {until.isoformat()} ge phenomenonTime)/groupby("
        f"(bucket(phenomenonTime,{width},'{zone}') as start),aggregate({ALL},"
        "result with first as f,result with last as l))"
    )

    async def check(kept: list[Observation]) -> Answer:
        inside = [one for one in kept if since < one.time <= until]
        answer = await ask(pool, query, {series: ()})
        assert answer.columns == [(name,) for name in ("start", "n", "mean", "sum", "low", "high", "f", "l")]
        wanted = by_hand(inside, start_of)
        assert [row[0] for row in answer.rows] == list(wanted)
        for row in answer.rows:
            assert row[1:] == pytest.approx(wanted[row[0]], rel=1e-12), row[0]
        return answer

    assert (await check(observations[::2])).rolled_up == granule
    # Now with hours whose roll-ups are out of date: late ones, and one taken away.
    late = observations[1:500:36]
    await recorder.record(late)
    async with pool.connection() as connection:
        await correct.remove(connection, [observations[800][:3]], reason="test")
    kept = [*observations[:800:2], *observations[802::2], *late]
    assert (await check(kept)).rolled_up == granule
    await refresh_all(pool)
    await check(kept)
    await recorder.close()


@pytest.fixture
async def filled(world: World, pool: Pool) -> tuple[int, int]:
    """Two series of four days, with roll-ups."""
    series, other = await make_series(world), await make_series(world, "relative_humidity")
    recorder = Recorder(pool)
    await recorder.start()
    await recorder.record(some(world, series))
    await recorder.record(some(world, other, every_min=31))
    await recorder.close()
    await refresh_all(pool)
    return series, other


async def test_groups_of_several_series(world: World, pool: Pool, filled: tuple[int, int]) -> None:
    series, other = filled
    query = (
        "$apply=groupby((Datastream/Thing/name,Datastream/id,bucket(phenomenonTime,P1D,'Europe/Berlin') as day),"
        "aggregate(result with max as high))&$orderby=Datastream/id desc,day"
    )
    answer = await ask(pool, query, {series: ("Markt", series), other: ("Markt", other)}, count=True, top=2)
    assert answer.rolled_up == "1d"
    assert answer.count == 10
    high = by_hand(some(world, other, every_min=31), wall(BERLIN, 24))
    days = list(high)[:2]
    assert list(answer.entities()) == [
        {"Datastream": {"Thing": {"name": "Markt"}, "@iot.id": other}, "day": day, "high": high[day][4]}
        for day in days
    ]
    together = await ask(pool, f"$apply=groupby((Datastream/Thing/name),aggregate({ALL}))", {
        series: ("Markt",), other: ("Markt",)
    })  # fmt: skip
    wanted = by_hand(some(world, series) + some(world, other, every_min=31), lambda _: "Markt")
    assert len(together.rows) == 1
    assert together.rows[0][1:] == pytest.approx(wanted["Markt"][:5])
    assert together.rolled_up is not None


async def test_what_rollups_cannot_say(world: World, pool: Pool, filled: tuple[int, int]) -> None:
    series, _ = filled
    query = "$apply=aggregate(result with stddev as s,result with countdistinct as d,phenomenonTime with max as last)"
    answer = await ask(pool, query, {series: ()})
    good = [one for one in some(world, series) if not is_bad(one.flags)]
    values = [one.result for one in good if one.result is not None]
    assert answer.rolled_up is None
    assert answer.rows == [
        (
            pytest.approx(statistics.stdev(values)),
            len(set(values)),
            max(one.time for one in good).isoformat().replace("+00:00", "Z"),
        )
    ]


async def test_how_often_was_it_what(world: World, pool: Pool) -> None:
    series = await make_series(world, "occupied")
    recorder = Recorder(pool)
    await recorder.start()
    city = world.municipality.pk
    await recorder.record(
        [Observation(city, series, START + timedelta(minutes=n), float(n % 3 == 0)) for n in range(10)]
    )
    await recorder.close()
    answer = await ask(pool, "$apply=groupby((result),aggregate($count as n))&$orderby=n desc", {series: ()})
    assert list(answer.entities()) == [{"result": False, "n": 6}, {"result": True, "n": 4}]
    newest = await ask(
        pool, "$apply=aggregate(result with last as l,result with average as share)", {series: ()}
    )
    assert newest.rows == [(True, pytest.approx(0.4))]


async def test_mean_of_directions(world: World, pool: Pool) -> None:
    series = await make_series(world, "wind_direction")
    recorder = Recorder(pool)
    await recorder.start()
    city = world.municipality.pk
    await recorder.record(
        [Observation(city, series, START + timedelta(minutes=n), d) for n, d in enumerate((350.0, 20.0))]
    )
    await recorder.close()
    await refresh_all(pool)
    answer = await ask(pool, "$apply=aggregate(result with average as mean)", {series: ()})
    assert answer.rows == [(pytest.approx(5.0),)]


async def test_nothing_there(world: World, pool: Pool) -> None:
    series = await make_series(world)
    one_row = await ask(pool, f"$apply=aggregate({ALL})", {series: ()}, count=True)
    assert (one_row.rows, one_row.count) == ([(0, None, None, None, None)], 1)
    none = await ask(
        pool, f"$apply=groupby((Datastream/id),aggregate({ALL}))", {series: (series,)}, count=True
    )
    assert b"".join(none.json()) == b'{"@iot.count":0,"value":[]}'
    recorder = Recorder(pool)
    await recorder.start()
    await recorder.record([Observation(world.municipality.pk, series, START, 1.0)])
    await recorder.close()
    before = await ask(pool, f"$apply=filter(phenomenonTime lt 2020-01-01)/aggregate({ALL})", {series: ()})
    assert before.rows == [(0, None, None, None, None)]


async def test_too_many_rows_are_refused_before_they_are_computed(world: World, pool: Pool) -> None:
    series = await make_series(world)
    recorder = Recorder(pool)
    await recorder.start()
    city = world.municipality.pk
    ends = [START - timedelta(days=60), START]
    await recorder.record([Observation(city, series, when, 1.0) for when in ends])
    await recorder.close()
    query = "$apply=groupby((bucket(phenomenonTime,PT1S)),aggregate($count as n))"
    with pytest.raises(QueryError, match="100000 are possible"):
        await ask(pool, query, {series: ()})
    answer = await ask(pool, query, {series: ()}, top=1, skip=1)
    assert list(answer.entities()) == [{"phenomenonTime": "2026-10-23T20:03:00Z", "n": 1}]


async def test_months_and_years(world: World, pool: Pool) -> None:
    series = await make_series(world)
    recorder = Recorder(pool)
    await recorder.start()
    city = world.municipality.pk
    times = [datetime(2025, 11, 30, 22, 59, tzinfo=UTC), datetime(2025, 11, 30, 23, 0, tzinfo=UTC),
             datetime(2026, 3, 31, 22, 0, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)]  # fmt: skip
    await recorder.record([Observation(city, series, when, float(n)) for n, when in enumerate(times)])
    await recorder.close()
    await refresh_all(pool)

    async def starts(width: str) -> list[tuple[Any, ...]]:
        query = f"$apply=groupby((bucket(phenomenonTime,{width},'Europe/Berlin') as start),aggregate($count as n))"
        return (await ask(pool, query, {series: ()})).rows

    assert await starts("P1M") == [
        ("2025-11-01T00:00:00+01:00", 1),
        ("2025-12-01T00:00:00+01:00", 1),
        ("2026-04-01T00:00:00+02:00", 1),
        ("2026-10-01T00:00:00+02:00", 1),
    ]
    assert await starts("P3M") == [
        ("2025-10-01T00:00:00+02:00", 2),
        ("2026-04-01T00:00:00+02:00", 1),
        ("2026-10-01T00:00:00+02:00", 1),
    ]
    assert await starts("P1Y") == [("2025-01-01T00:00:00+01:00", 2), ("2026-01-01T00:00:00+01:00", 2)]
    assert [row[0] for row in await starts("P1W")] == [
        "2025-11-24T00:00:00+01:00",
        "2025-12-01T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
        "2026-09-28T00:00:00+02:00",
    ]
