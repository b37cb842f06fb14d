"""A replay by command: asked for with its selection, and mistakes that name what is wrong."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Quartier


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--municipality", "unna"], 1, "unknown: 'unna'"),
        (["--type", "nothing"], 1, "no device of this type is registered"),
        (["--since", "yesterday"], 2, "'yesterday' does not match"),
    ],
)
def test_mistakes_start_no_replay(
    quartier: Quartier, arguments: list[str], status: int, message: str
) -> None:
    from quartier.intake.models import Replay

    assert message in quartier("replay", *arguments, status=status)
    assert not Replay.objects.exists()


def test_empty_inbox_is_replayed_at_once(quartier: Quartier) -> None:
    from quartier.intake.models import Replay

    quartier("load", "cities")
    said = quartier("replay", "--municipality", "schwerte", "--since", "2026-05-01")
    assert said == "0 messages: 0 readings corrected, 0 added, 0 removed; 0 refused.\n"
    row = Replay.objects.get()
    assert row.selection == {"municipality": "schwerte", "since": "2026-05-01T00:00:00+00:00"}
    assert row.finished_at is not None
