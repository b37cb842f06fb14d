"""What commands share: the engines for their time, Django, progress bars, and errors in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from quartier.config import config
from quartier.engines import installation
from quartier.engines.installation import Addresses

if TYPE_CHECKING:
    from quartier.cities.models import Municipality
    from quartier.cities.rules import Actor

# A pipe has no width; 80 columns would cut what another program wants to read.
console = Console(width=None if sys.stdout.isatty() else 220)
errors = Console(stderr=True)


def table(*columns: str) -> Table:
    """A plain table; long cells go on in the next line rather than being cut."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


@contextlib.contextmanager
def engines(*, streams: bool = False, migrated: bool = True) -> Iterator[Addresses]:
    """The engines of the installation and Django on them, for one command.

    Raises ClickException where the database was not brought up to date and ``migrated`` asks for it.
    """
    settings = config()
    with installation.engines(settings, streams=streams) as addresses:
        addresses.use()
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quartier.settings")
        import django  # noqa: PLC0415 (reads settings, which the line above completes)
        from django.db import connections  # noqa: PLC0415

        django.setup()
        try:
            if migrated:
                _require_migrations()
            yield addresses
        finally:
            for connection in connections.all(initialized_only=True):
                connection.close()
                if getattr(connection, "pool", None) is not None:
                    connection.close_pool()  # type: ignore[attr-defined]


def _require_migrations() -> None:
    from django.db import connection  # noqa: PLC0415
    from django.db.migrations.recorder import MigrationRecorder  # noqa: PLC0415

    from quartier.engines.health import expected_migrations  # noqa: PLC0415

    applied = {f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations()}
    if not applied:
        raise click.ClickException(
            "The database is empty. Run `quartier migrate` (or `quartier serve`) first."
        )
    missing = sorted(expected_migrations() - applied)
    if missing:
        raise click.ClickException(
            f"The database is older than this version ({missing[0]} is missing). Run `quartier migrate` first."
        )


def actor() -> Actor:
    """Who the audit log names for what is done by commands: the operating system's user."""
    from quartier.cities.rules import Actor  # noqa: PLC0415

    try:
        name = getpass.getuser()
    except OSError:
        name = str(os.getuid())
    return Actor(f"command line ({name})", superuser=True)


def municipality(slug: str) -> Municipality:
    """The municipality with a slug. Raises ClickException that lists the known ones."""
    from quartier.cities.models import Municipality  # noqa: PLC0415

    found = Municipality.objects.filter(slug=slug).first()
    if found is None:
        known = ", ".join(Municipality.objects.values_list("slug", flat=True))
        hint = f"Known: {known}." if known else "There is none yet; `quartier load cities` adds them."
        raise click.ClickException(f"There is no municipality {slug!r}. {hint}")
    return found


@contextlib.contextmanager
def bar(*, unit: str = "") -> Iterator[Progress]:
    """A progress bar on standard error; plain lines where that is no terminal."""
    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
    columns += [MofNCompleteColumn(), TextColumn(unit)] if unit else [TaskProgressColumn()]
    columns += [TimeElapsedColumn(), TextColumn("{task.fields[note]}")]
    with Progress(*columns, console=errors, transient=False, disable=not errors.is_terminal) as progress:
        yield progress


def run[T](work: Callable[[], Awaitable[T]]) -> T:
    """Run asynchronous work of a command to its end."""

    async def awaited() -> T:
        return await work()

    return asyncio.run(awaited())
