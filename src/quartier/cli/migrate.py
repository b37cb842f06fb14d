"""``quartier migrate``: the database brought up to date, and the catalogue of observed properties with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from quartier.cli.common import engines, run

# Two processes that start at the same moment take turns.
_LOCK = 0x5175_0002


@click.command()
@click.option("--quiet", is_flag=True, help="Say nothing where nothing had to be done.")
def migrate(*, quiet: bool) -> None:
    """Bring the database up to date. `quartier serve` does this by itself."""
    with engines(migrated=False):
        applied = bring_up_to_date()
    if applied or not quiet:
        click.echo(f"Database: {len(applied)} migrations applied." if applied else "Database: up to date.")


def bring_up_to_date() -> list[str]:
    """Apply missing migrations, make the next partitions, and update the catalogue; returns what was applied."""
    from django.db import connection  # noqa: PLC0415 (needs Django set up)
    from django.db.migrations.executor import MigrationExecutor  # noqa: PLC0415

    from quartier.cli.seed import seed_properties  # noqa: PLC0415

    with _alone():
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if plan:
            executor.migrate(executor.loader.graph.leaf_nodes(), plan)
            _after_migrations()
        run(_partitions)
        seed_properties()
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def _after_migrations() -> None:
    """What Django derives from the models: content types and permissions."""
    from django.core.management.sql import emit_post_migrate_signal  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    emit_post_migrate_signal(verbosity=0, interactive=False, db=connection.alias)


async def _partitions() -> None:
    from quartier.engines.pools import async_pool  # noqa: PLC0415
    from quartier.lorawan.store.frames import DAYS  # noqa: PLC0415
    from quartier.twin import partitions  # noqa: PLC0415

    now = datetime.now(UTC)
    async with async_pool(name="migrate", max_size=1) as pool, pool.connection() as connection:
        await partitions.create_ahead(connection, now=now)
        await DAYS.create_ahead(connection, now=now)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
