"""The picture of a finding: well-formed whatever the readings, gaps left open, flagged values marked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET  # our own output, no outside document

from hypothesis import given
from hypothesis import strategies as st

from quartier.desk.sparkline import draw
from quartier.twin.flags import Flag

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def _line(svg: str) -> str:
    found = re.search(r'class="desk-spark__line" d="([^"]*)"', svg)
    assert found is not None
    return found[1]


def test_nothing_to_draw_is_no_picture() -> None:
    assert draw([], START, START) == ""
    assert draw([(START, None, 0), (START, float("nan"), 0)], START, START) == ""


def test_line_runs_from_corner_to_corner() -> None:
    values = [(START + n * MINUTE, float(n), 0) for n in range(3)]
    assert _line(draw(values, START, START, width=104, height=28)) == "M4.0 24.0L52.0 14.0L100.0 4.0"


def test_pause_is_a_gap() -> None:
    values = [(START + n * MINUTE, 1.0, 0) for n in (0, 1, 2, 30, 31)]
    assert re.sub(r"[^ML]", "", _line(draw(values, START, START))) == "MLLML"


def test_flagged_values_are_marked_unless_dismissed() -> None:
    flags = [
        0,
        int(Flag.RANGE),
        int(Flag.RANGE | Flag.DISMISSED),
        int(Flag.CONFIRMED),
        int(Flag.TIME_REPLACED),
    ]
    values = [(START + n * MINUTE, 1.0, flag) for n, flag in enumerate(flags)]
    assert draw(values, START, START).count("desk-spark__flagged") == 2


@given(
    st.lists(
        st.tuples(
            st.floats(0, 4e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
            st.none() | st.floats(),
            st.integers(0, 255),
        ),
        max_size=30,
    )
)
def test_any_readings_give_a_well_formed_picture_inside_its_frame(
    values: list[tuple[datetime, float | None, int]],
) -> None:
    svg = draw(sorted(values, key=lambda value: value[0]), START, START + MINUTE)
    if svg:
        root = ET.fromstring(svg)  # noqa: S314
        assert root.get("role") == "img"
        numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", _line(svg))]
        assert all(0 <= x <= 224 for x in numbers[::2])
        assert all(0 <= y <= 56 for y in numbers[1::2])
