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
    from django.core.management import call_command
    from django.db import connection

    from tests.conftest import STORE_TABLES
    from tests.portal.data_scene import build

    with django_db_blocker.unblock():
        try:
            yield build()
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {STORE_TABLES}")
            call_command("flush", interactive=False, verbosity=0, allow_cascade=True)
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
