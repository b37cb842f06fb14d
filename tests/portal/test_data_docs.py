"""``docs/open-data.md`` says what the code does: parameters, limits, columns, flags, events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quartier.portal import downloads, live, selection
from quartier.portal.data_views import places
from quartier.twin.flags import Flag

DOC = (Path(__file__).resolve().parents[2] / "docs/open-data.md").read_text()


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {selection.MAXIMUM_PLACES} |",
        f"at most {selection.MAXIMUM_DAYS} days",
        f"at most {selection.MAXIMUM_SERIES_DAYS} series times days",
        f"begins {selection.DEFAULT_DAYS} days earlier",
        f"Row groups of {downloads._ROW_GROUP} rows",
        f"At most {places.MAXIMUM_FEATURES} features",
        f"(at most {live.MAXIMUM_THINGS} places)",
        f"up to {live.MAXIMUM_RESUMED} events",
        f"every {live.HEARTBEAT_S:.0f} seconds",
        f"serves {live.MAXIMUM_CLIENTS}",
    ],
)
def test_limits_are_those_of_the_code(sentence: str) -> None:
    assert sentence in re.sub(r"\s+", " ", DOC)


def test_every_column_and_flag_is_described() -> None:
    assert all(f"`{name}`" in DOC for name, *_rest in downloads._COLUMNS)
    assert all(f"| `{flag.name.lower()}` | {int(flag)} |" in DOC for flag in Flag if flag.name)


def test_events_are_called_as_they_are() -> None:
    assert 'addEventListener("readings"' in DOC
    assert b"event: readings\n" in live.frame(1, b"{}")
    assert b"event: gap\n" in live.gap(1)
