"""Charts: whatever comes in, a well-formed picture comes out, and it shows what came in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from quartier.portal import axes, charts
from quartier.portal.charts import Label, Line, Point
from quartier.portal.numbers import number

SVG = "{http://www.w3.org/2000/svg}"
START = datetime(2026, 7, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
LABEL = Label("k", "Lufttemperatur", "In der Woche zwischen 9 und 14 °C", "°C")

anything = st.lists(st.none() | st.floats(), max_size=40)


def parse(svg: str) -> ElementTree.Element:
    """The picture as an XML tree; raises where it is not well-formed."""
    return ElementTree.fromstring(svg)  # noqa: S314 (we wrote it)


def texts(tree: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in tree.iter(f"{SVG}text")]


def line(values: list[float | None], *, step: timedelta = timedelta(hours=1)) -> Line:
    return Line("a", [Point(START + i * step, v) for i, v in enumerate(values)], step * 1.5)


def has_no_inline_style_or_script(tree: ElementTree.Element) -> bool:
    return not any(
        node.tag in {f"{SVG}style", f"{SVG}script"}
        or any(name == "style" or name.startswith("on") for name in node.attrib)
        for node in tree.iter()
    )


@given(anything, anything, st.text(max_size=40), st.booleans())
def test_line_chart_of_any_values_is_well_formed(
    first: list[float | None], second: list[float | None], title: str, from_zero: bool
) -> None:
    low = Line("b", [Point(START + i * WEEK / 40, v, v, 1e300) for i, v in enumerate(second)], WEEK)
    svg = charts.line_chart(
        [line(first), low], START, START + WEEK, Label("k", title, title, title), from_zero=from_zero
    )
    tree = parse(svg)
    assert has_no_inline_style_or_script(tree)
    assert tree.attrib["role"] == "img"
    assert "nan" not in svg.split("</desc>")[1]


@given(anything, st.text(max_size=40))
def test_small_pictures_of_any_values_are_well_formed(values: list[float | None], title: str) -> None:
    numbers = [v for v in values if v is not None]
    pictures = [
        charts.sparkline(values, title=title),
        charts.sparkline(values, title=title, bars=True),
        charts.histogram(numbers, Label("k", title, title)),
        charts.bar_chart(
            [Point(START + i * timedelta(hours=1), v) for i, v in enumerate(values)],
            timedelta(hours=1),
            START,
            START + WEEK,
            Label("k", title, title),
        ),
        *(charts.share_bar(v, min(numbers), max(numbers)) for v in numbers),
    ]
    for picture in pictures:
        assert has_no_inline_style_or_script(parse(picture))


@given(
    st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9000)),
)
def test_time_ticks_are_few_ordered_and_inside(since: datetime, span: timedelta) -> None:
    ticks = axes.time_ticks(since, since + span)
    places = [tick.label_at for tick in ticks]
    assert places == sorted(places)
    assert len(ticks) <= 20
    assert all(0 <= tick.label_at <= 1 for tick in ticks if tick.label)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20), st.booleans())
def test_scale_holds_its_values(values: list[float], from_zero: bool) -> None:
    found = axes.scale(values, from_zero=from_zero)
    assert found.low < found.high
    assert 2 <= len(found.ticks) <= 9
    clamped = [axes.clamp(v) for v in values]
    slack = (found.high - found.low) * 1e-6
    assert all(found.low - slack <= v <= found.high + slack for v in clamped)


def test_scale_has_round_ticks() -> None:
    assert axes.scale([9.3, 14.2]) == axes.Scale(8.0, 16.0, (8.0, 10.0, 12.0, 14.0, 16.0), 0)
    assert axes.scale([0.1, 0.72], from_zero=True).ticks == pytest.approx((0.0, 0.2, 0.4, 0.6, 0.8))
    assert axes.scale([21.0, 21.0]).ticks[0] < 21.0 < axes.scale([21.0, 21.0]).ticks[-1]


def test_day_of_clock_change_in_spring_has_no_third_hour_tick() -> None:
    # 29 March 2026: at 02:00 the clocks go to 03:00, the day has 23 hours.
    since = datetime(2026, 3, 28, 23, tzinfo=UTC)
    with translation.override("de"):
        ticks = axes.time_ticks(since, since + timedelta(hours=23))
    assert [tick.label for tick in ticks] == [
        "So", "3:00", "6:00", "9:00", "12:00", "15:00", "18:00", "21:00", "Mo",
    ]  # fmt: skip
    # Three o'clock is two hours after midnight, six o'clock five.
    assert [round(tick.at * 23) for tick in ticks] == [0, 2, 5, 8, 11, 14, 17, 20, 23]


def test_week_with_clock_change_in_autumn_has_a_day_of_25_hours() -> None:
    since = datetime(2026, 10, 22, 22, tzinfo=UTC)
    with translation.override("en"):
        ticks = axes.time_ticks(since, datetime(2026, 10, 26, 23, tzinfo=UTC))
    assert [tick.label for tick in ticks[:4]] == ["Fr 23", "Sa 24", "Su 25", "Mo 26"]
    hours = [round(tick.at * 97) for tick in ticks]
    assert hours == [0, 24, 48, 73, 97]


def test_gap_breaks_the_line() -> None:
    values: list[float | None] = [1.0, 2.0, None, 3.0, 4.0]
    tree = parse(charts.line_chart([line(values)], START, START + WEEK, LABEL))
    assert len(list(tree.iter(f"{SVG}polyline"))) == 2
    points = [
        Point(START, 1.0),
        Point(START + timedelta(hours=1), 2.0),
        Point(START + timedelta(hours=9), 3.0),
    ]
    tree = parse(charts.line_chart([Line("a", points, timedelta(hours=2))], START, START + WEEK, LABEL))
    assert len(list(tree.iter(f"{SVG}polyline"))) == 2


def test_band_is_drawn_from_smallest_to_largest() -> None:
    points = [Point(START + i * timedelta(hours=1), 10.0, 0.0, 20.0) for i in range(3)]
    tree = parse(charts.line_chart([Line("a", points, WEEK)], START, START + timedelta(hours=2), LABEL))
    (band,) = tree.iter(f"{SVG}polygon")
    top, bottom = 24, 234
    assert band.attrib["points"] == (
        f"0.0,{top}.0 500.0,{top}.0 1000.0,{top}.0 1000.0,{bottom}.0 500.0,{bottom}.0 0.0,{bottom}.0"
    )


def test_flagged_moments_carry_a_mark_by_shape() -> None:
    points = [Point(START + i * timedelta(hours=1), 1.0 * i, flagged=i == 1) for i in range(3)]
    tree = parse(charts.line_chart([Line("a", points, WEEK)], START, START + WEEK, LABEL))
    assert [n.attrib["class"] for n in tree.iter(f"{SVG}path")] == ["q-chart-flag"]


def test_second_line_differs_by_dash_and_not_by_colour_alone() -> None:
    tree = parse(charts.line_chart([line([1.0, 2.0]), line([2.0, 3.0])], START, START + WEEK, LABEL))
    assert ["stroke-dasharray" in n.attrib for n in tree.iter(f"{SVG}polyline")] == [False, True]


def test_title_and_description_are_named_and_escaped() -> None:
    label = Label("k1", 'a <b> & "c"', "d\x00e")
    tree = parse(charts.line_chart([], START, START + WEEK, label))
    assert tree.attrib["aria-labelledby"] == "k1-t k1-d"
    assert [(n.attrib["id"], n.text) for n in tree[:2]] == [("k1-t", 'a <b> & "c"'), ("k1-d", "de")]


def test_labels_follow_the_language() -> None:
    values: list[float | None] = [1000.5, 1001.5]
    with translation.override("de"):
        german = texts(parse(charts.line_chart([line(values)], START, START + WEEK, LABEL)))
    with translation.override("en"):
        english = texts(parse(charts.line_chart([line(values)], START, START + WEEK, LABEL)))
    assert german[:5] == ["1000,50", "1000,75", "1001,00", "1001,25", "1001,50 °C"]
    assert english[:5] == ["1000.50", "1000.75", "1001.00", "1001.25", "1001.50 °C"]
    assert "Do 2." in german
    assert "Th 2" in english


def test_histogram_counts_every_value_once() -> None:
    x, counts = charts.classes([1.0, 1.0, 2.0, 7.9, 8.0])
    assert sum(counts) == 5
    assert x.ticks == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    assert counts == [2, 1, 0, 0, 0, 0, 2]


@pytest.mark.parametrize(
    ("value", "decimals", "german", "english"),
    [
        (12345.67, 1, "12\u202f345,7", "12\u202f345.7"),
        (-3.04, 1, "−3,0", "−3.0"),
        (-0.04, 1, "0,0", "0.0"),
        (None, 1, "–", "–"),
        (float("nan"), 0, "–", "–"),
        (1e20, 0, "1.00e+20", "1.00e+20"),
    ],
)
def test_numbers_follow_the_language(value: float | None, decimals: int, german: str, english: str) -> None:
    with translation.override("de"):
        assert number(value, decimals) == german
    with translation.override("en"):
        assert number(value, decimals) == english
