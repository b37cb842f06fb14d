"""``quartier serve``: everything, or one role, under supervision."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from quartier.config import config
from quartier.engines import logs
from quartier.engines.supervisor import Program, Supervisor, require_free

ROLES: Final = ("web", "intake", "worker", "radio")
# Libraries for arrays take a thread and its memory per core, for arrays of a few hundred numbers.
LEAN: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


@click.command()
@click.argument("role", type=click.Choice(["all", *ROLES]), default="all")
def serve(*, role: str) -> int:
    """Run the installation, or one ROLE of it, until Ctrl-C or SIGTERM.

    \b
    web      pages and machine interfaces
    intake   connections to outside systems, codecs, mapping, quality control
    worker   publication, roll-ups, derived series, replays, retention
    radio    LoRaWAN gateways, network server, roaming

    PostgreSQL and NATS are started with it unless the settings postgres_url and nats_url name servers, or another
    `quartier serve` on the same data folder runs them already. A role may run any number of times.
    """
    settings = config()
    logs.configure("supervisor", settings.log_format)
    return supervise(
        ROLES if role == "all" else (role,), ready=lambda: click.echo(f"Quartier: {settings.public_url}/")
    )


def python(*arguments: str) -> list[str]:
    """A command line for this Python."""
    return [sys.executable, *arguments]


def supervise(
    roles: Sequence[str],
    *,
    prepare: Sequence[Program] = (),
    others: Sequence[Program] = (),
    environment: Mapping[str, str] | None = None,
    ready: Callable[[], None] | None = None,
    log_folder: Path | None = None,
) -> int:
    """Prepare (without steps of the caller's: bring the database up to date), then run ``roles`` and ``others``.

    Returns the exit status when told to stop.
    """
    settings = config()
    if "web" in roles:
        require_free(settings.host, settings.port, "port")
    lean = {**LEAN, **(environment or {})}
    supervisor = Supervisor(
        settings,
        prepare=prepare
        or [
            Program(name="migrate", command=python("-m", "quartier", "migrate", "--quiet"), environment=lean)
        ],
        programs=[
            *(
                Program(name=role, command=python("-m", f"quartier.cli.{role}"), environment=lean)
                for role in roles
            ),
            *others,
        ],
        say=lambda text: click.echo(text, err=True),
        ready=ready if "web" in roles else None,
        logs=log_folder,
    )
    return supervisor.run()
