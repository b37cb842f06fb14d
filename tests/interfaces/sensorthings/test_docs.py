"""The queries in the documentation work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db
TEXT = (Path(__file__).parents[3] / "docs" / "sensorthings.md").read_text(encoding="utf-8")
ADDRESSES = [
    re.sub(r"\n\s*", "", block)
    for block in re.findall(r"^```\n(/sensorthings/v1\.1/[^`]*\?[^`]*)```$", TEXT, re.MULTILINE)
]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_examples(client: Client, city: City, address: str) -> None:
    path = address.removeprefix("/sensorthings/v1.1/").replace(
        "Datastreams(7)", f"Datastreams({city.temperature.pk})"
    )
    found = await client.values(path)
    assert found or "now()" in path


def test_there_are_examples() -> None:
    assert len(ADDRESSES) == 2
