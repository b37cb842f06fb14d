"""Range, spike and persistence of one series, as values arrive in and out of order."""

from __future__ import annotations

import math
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.intake.quality import SeriesState, check, rebuild
from quartier.twin.flags import Flag
from quartier.twin.properties import Limits, catalogue

TEMPERATURE = catalogue()["air_temperature"].limits
STEP_S = 300.0


def run(values: list[tuple[float, float]], limits: Limits = TEMPERATURE) -> list[int]:
    """Flags of each value, with acquittals applied to the value they concern."""
    state: SeriesState | None = None
    flags: dict[float, int] = {}
    order = []
    for time_s, value in values:
        found, state = check(state, time_s, value, limits)
        flags[time_s] = found
        order.append(time_s)
        if state is not None and state.acquitted_s is not None:
            flags[state.acquitted_s] &= ~Flag.SPIKE
    return [flags[time_s] for time_s in order]


def every_five_minutes(*values: float) -> list[tuple[float, float]]:
    return [(i * STEP_S, value) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (20.0, 0),
        (-40.0, 0),
        (60.0, 0),
        (60.1, Flag.RANGE),
        (-327.68, Flag.RANGE),
        (math.nan, Flag.RANGE),
        (math.inf, Flag.RANGE),
        (-math.inf, Flag.RANGE),
    ],
)
def test_range(value: float, expected: int) -> None:
    assert check(None, 0.0, value, TEMPERATURE)[0] == expected
    assert (
        check(SeriesState(-STEP_S, value if expected == 0 else 0.0), 0.0, value, TEMPERATURE)[0] == expected
    )


def test_value_out_of_range_is_no_neighbour_of_the_next() -> None:
    assert run(every_five_minutes(20.0, 99.0, 20.1)) == [0, Flag.RANGE, 0]


def test_spike_is_flagged_and_the_return_is_not() -> None:
    assert run(every_five_minutes(20.0, 20.2, 31.0, 20.3, 20.1)) == [0, 0, Flag.SPIKE, 0, 0]


def test_dip_is_flagged() -> None:
    assert run(every_five_minutes(20.0, 8.0, 20.3)) == [0, Flag.SPIKE, 0]


def test_new_level_is_flagged_first_and_then_acquitted() -> None:
    # A cold front: 27 °C, then 19 °C for good.
    state: SeriesState | None = None
    seen = []
    for time_s, value in every_five_minutes(27.0, 27.1, 19.4, 19.0, 18.8):
        flags, state = check(state, time_s, value, TEMPERATURE)
        assert state is not None
        seen.append((flags, state.acquitted_s))
    assert seen == [(0, None), (0, None), (Flag.SPIKE, None), (0, 2 * STEP_S), (0, None)]


def test_spikes_to_both_sides_are_all_flagged() -> None:
    assert run(every_five_minutes(20.0, 40.0, -5.0, 41.0, 20.2)) == [0, *[Flag.SPIKE] * 3, 0]


def test_step_may_be_larger_after_a_pause() -> None:
    assert run([(0.0, 12.0), (STEP_S, 22.0)])[1] == Flag.SPIKE
    assert run([(0.0, 12.0), (3600.0, 22.0)])[1] == 0


def test_late_value_between_its_neighbours_is_accepted() -> None:
    assert run([(0.0, 20.0), (600.0, 20.4), (300.0, 20.2)]) == [0, 0, 0]


def test_late_spike_is_found_between_its_neighbours() -> None:
    assert run([(0.0, 20.0), (600.0, 20.4), (300.0, 35.0)]) == [0, 0, Flag.SPIKE]


def test_late_value_out_of_range_is_flagged() -> None:
    assert run([(0.0, 20.0), (600.0, 20.4), (300.0, 99.0)]) == [0, 0, Flag.RANGE]


def test_late_value_before_all_memory_is_checked_for_range_only() -> None:
    values = [(10_000.0 + i * STEP_S, 20.0 + i / 10) for i in range(20)]
    assert run([*values, (0.0, 45.0)])[-1] == 0


def test_same_time_twice_is_not_a_spike() -> None:
    assert run([(0.0, 20.0), (0.0, 45.0)]) == [0, 0]


def test_late_value_before_a_pending_spike_does_not_hide_the_new_level() -> None:
    times = [(0.0, 27.0), (600.0, 19.0), (300.0, 26.9), (900.0, 18.9)]
    assert run(times) == [0, 0, 0, 0]


def test_stuck_sensor_is_flagged_after_three_hours() -> None:
    flags = run([(i * STEP_S, 12.5) for i in range(40)])
    assert flags == [0] * 36 + [Flag.PERSISTENCE] * 4


def test_persistence_ends_with_the_next_change() -> None:
    values = [(i * STEP_S, 12.5) for i in range(40)] + [(40 * STEP_S, 12.6), (41 * STEP_S, 12.6)]
    assert run(values)[-3:] == [Flag.PERSISTENCE, 0, 0]


def test_few_equal_values_far_apart_are_not_stuck() -> None:
    assert run([(0.0, 12.5), (86_400.0, 12.5), (172_800.0, 12.5)]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("slug", "value"),
    [
        ("precipitation", 0.0),
        ("solar_irradiance", 0.0),
        ("solar_irradiance", 3.0),
        ("relative_humidity", 100.0),
        ("wind_speed", 0.0),
        ("wind_direction", 0.0),
        ("lightning_strikes", 0.0),
        ("free_spaces", 0.0),
    ],
)
def test_natural_stillness_is_not_stuck(slug: str, value: float) -> None:
    limits = catalogue()[slug].limits
    assert run([(i * STEP_S, value) for i in range(12 * 16)], limits) == [0] * 12 * 16


def test_saturated_humidity_is_excused_for_two_days_only() -> None:
    limits = catalogue()["relative_humidity"].limits
    flags = run([(i * STEP_S, 100.0) for i in range(12 * 49)], limits)
    assert (flags[12 * 48 - 1], flags[12 * 48]) == (0, Flag.PERSISTENCE)


def test_wind_direction_wraps() -> None:
    limits = Limits(unit="deg", circular=True, minimum=0, maximum=360, max_step=30, persistence_s=3600.0)
    assert run(every_five_minutes(350.0, 8.0, 355.0), limits) == [0, 0, 0]
    assert run(every_five_minutes(350.0, 90.0, 352.0), limits) == [0, Flag.SPIKE, 0]
    assert run([(0.0, 355.0), (600.0, 5.0), (300.0, 0.0)], limits) == [0, 0, 0]
    stuck = Limits(unit="deg", circular=True, persistence_s=3600.0, persistence_delta=2.0)
    assert run([(i * STEP_S, (359.0 + i % 2 * 2) % 360) for i in range(14)], stuck)[-2:] == [
        Flag.PERSISTENCE,
        Flag.PERSISTENCE,
    ]


def test_rebuilt_state_goes_on_as_if_it_had_never_stopped() -> None:
    values = [(i * STEP_S, 12.5 if i > 3 else 12.0 + i / 10) for i in range(60)]
    state: SeriesState | None = None
    for time_s, value in values[:30]:
        _, state = check(state, time_s, value, TEMPERATURE)
    rebuilt = rebuild(values[:30], TEMPERATURE)
    for time_s, value in values[30:]:
        flags, state = check(state, time_s, value, TEMPERATURE)
        again, rebuilt = check(rebuilt, time_s, value, TEMPERATURE)
        assert again == flags
    assert flags == Flag.PERSISTENCE
    assert rebuild([], TEMPERATURE) is None
    assert rebuild([(0.0, 99.0)], TEMPERATURE) is None


@given(st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=200), st.floats(-10, 30))
def test_weather_that_changes_gently_is_never_a_spike(steps: list[float], start: float) -> None:
    values, value = [], start
    for i, step in enumerate(steps):
        value = min(max(value + step, -40.0), 60.0)
        values.append((i * STEP_S, value))
    assert all(not flags & Flag.SPIKE for flags in run(values))


@given(st.integers(1, 18), st.floats(4.6, 30.0), st.sampled_from([-1.0, 1.0]))
def test_single_outlier_is_always_found_and_alone(at: int, size: float, sign: float) -> None:
    values = [(i * STEP_S, 15.0 + (i % 3) / 100) for i in range(20)]
    values[at] = (at * STEP_S, 15.0 + sign * size)
    assert [i for i, flags in enumerate(run(values)) if flags & Flag.SPIKE] == [at]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40).map(lambda n: n * STEP_S), st.floats(allow_nan=True, allow_infinity=True)
        ),
        max_size=60,
    ),
    st.sampled_from(sorted(catalogue())),
)
def test_any_order_and_any_value_gives_known_flags_and_ordered_memory(
    values: list[tuple[float, float]], slug: str
) -> None:
    limits = catalogue()[slug].limits
    state: SeriesState | None = None
    for time_s, value in values:
        flags, state = check(state, time_s, value, limits)
        assert flags in (0, Flag.RANGE, Flag.SPIKE, Flag.PERSISTENCE)
        assert bool(flags & Flag.RANGE) == (not limits.minimum <= value <= limits.maximum)
    if state is not None:
        assert state.recent == sorted(state.recent)
        assert len(state.recent) <= 8
        assert state.time_s == state.recent[-1][0]


def test_a_check_is_cheap() -> None:
    # 20,000 readings a second must leave room for everything else; the bound is ten times what was measured.
    state = SeriesState(0.0, 15.0)
    times = iter(range(1, 10**9))
    best = min(
        timeit.repeat(lambda: check(state, next(times) * STEP_S, 15.0, TEMPERATURE), number=2000, repeat=20)
    )
    assert best / 2000 < 10e-6
