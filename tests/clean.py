"""Empties the database after a test that committed.

Django's own way truncates every table and makes content types and permissions anew: 0.2 to 0.4 s a test, for thousands
of tests. Most of them touch a handful of tables.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from django.db import connection
from psycopg import sql

_KEPT: Final = {"django_migrations", "django_content_type", "auth_permission", "django_site"}
"""Written by ``migrate``, and the same for all tests."""


@cache
def _full_tables() -> sql.Composable:
    """Asks which tables hold rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
        )
        names = [name for (name,) in cursor.fetchall() if name not in _KEPT]
    return sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {name} WHERE EXISTS (SELECT FROM {table})").format(
            name=sql.Literal(name), table=sql.Identifier(name)
        )
        for name in names
    )


def empty_tables() -> None:
    """Delete all rows that a test left."""
    with connection.cursor() as cursor:
        cursor.execute(_full_tables())
        full = [name for (name,) in cursor.fetchall()]
        if full:
            # No triggers: neither keys, whose rows go as well, nor those that keep the audit log from being deleted.
            cursor.execute("SET session_replication_role = replica")
            deletes = [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in full]
            cursor.execute(sql.SQL("; ").join(deletes))
            cursor.execute("SET session_replication_role = origin")
