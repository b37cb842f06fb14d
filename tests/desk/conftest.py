"""The scene of the desk's tests."""

from __future__ import annotations

import pytest

from tests.desk.scene import Scene, build


@pytest.fixture
def scene(db: None) -> Scene:
    """Both cities with devices, refusals, findings and people."""
    return build()
