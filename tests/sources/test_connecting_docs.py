"""What docs/connecting.md promises is true: its examples are taken, its tables are complete."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from quartier.sources import quartier_json
from quartier.sources.api import limits
from quartier.sources.domain import COLUMNS, KINDS
from quartier.sources.generic import NAMES
from tests.sources.messages import raw

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "connecting.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


SOURCES: list[dict[str, Any]] = [
    content for block in _blocks("toml") if "kind" in (content := tomllib.loads(block))
]


@pytest.mark.parametrize("source", SOURCES, ids=[source["name"] for source in SOURCES])
def test_examples_of_sources_can_be_saved(source: dict[str, Any]) -> None:
    kind = KINDS[source["kind"]]
    settings = kind.clean_settings(source.get("settings", {}))
    assert kind.clean_credentials(source.get("credentials", {}), settings) == source.get("credentials", {})


def test_every_kind_and_setting_is_described() -> None:
    assert [kind for kind in KINDS if f"`{kind}`" not in TEXT and f'"{kind}"' not in TEXT] == []
    settings = {setting.name for kind in KINDS.values() for setting in kind.settings} - {"mapping"}
    assert [name for name in sorted(settings) if f"`{name}`" not in TEXT] == []


def test_every_column_and_name_of_a_mapping_is_described() -> None:
    assert [column for column in COLUMNS if f"`{column}`" not in TEXT] == []
    assert [name for name in sorted(NAMES) if f"`{name}`" not in TEXT] == []
    (table,) = _blocks("csv")
    assert set(table.splitlines()[0].split(",")) <= set(COLUMNS)


def test_examples_of_messages_are_taken() -> None:
    bodies = [json.loads(block) for block in _blocks("json")]
    bodies += [json.loads(body) for body in re.findall(r"(?:-d|-m) '(.*?)'", TEXT)]
    assert len(bodies) == 5
    for body in bodies:
        assert quartier_json.parse(raw("quartier_json", body, headers={"device": "mein-garten"}), {})


def test_limits_are_the_real_ones() -> None:
    assert f"At most {limits.REQUESTS_PER_MINUTE} requests a minute" in TEXT
