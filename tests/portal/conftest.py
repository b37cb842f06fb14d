"""Fixtures of the data pages' tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # models cannot be imported before Django is set up
    from tests.portal.data_scene import DataScene


@pytest.fixture(scope="module")
def data(django_db_setup: None, django_db_blocker: Any) -> Iterator[DataScene]:
    """Two cities with readings, committed for one test file."""
    from django.db import connection

    from tests.clean import empty_tables
    from tests.portal.data_scene import build

    with django_db_blocker.unblock():
        try:
            yield build()
        finally:
            empty_tables()
            connection.close()


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing remembered from other tests: names of cities, choices, small pictures, the search index."""
    from django.core.cache import cache

    from quartier.portal import context

    context._kept = None
    cache.clear()
    yield
    context._kept = None
    cache.clear()
