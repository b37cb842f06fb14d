"""``quartier doctor``: what is well, what is not, and what to do."""

from __future__ import annotations

from typing import Final

import click
from rich.markup import escape

from quartier.cli.common import console, engines, run
from quartier.config import config
from quartier.engines import installation
from quartier.engines.doctor import Finding, broker, check, judge

_MARKS: Final = {"ok": "[green]ok[/]     ", "note": "[blue]note[/]   ", "problem": "[red]problem[/]"}


@click.command()
@click.option("--start", is_flag=True, help="Start the embedded engines to ask them, if they do not run.")
def doctor(*, start: bool) -> int:
    """Check the installation and say what to do. The exit status is 1 if there is a problem."""
    settings = config()
    problems = 0
    for finding in check(settings):
        problems += _show(finding)
    if (
        not (settings.postgres_url and settings.nats_url)
        and not installation.running(settings.data)
        and not start
    ):
        console.print("The engines do not run; `quartier doctor --start` starts them and looks inside.")
    else:
        with engines(streams=True, migrated=False) as addresses:
            from quartier.engines.health import inspect  # noqa: PLC0415 (needs Django set up)

            health = run(lambda: inspect(addresses.postgres_url, addresses.nats_url))
            found = list(judge(health))
            if health.bus.ok:
                found += run(lambda: broker(addresses.nats_url, settings))
        for finding in found:
            problems += _show(finding)
    if problems:
        console.print(f"{problems} {'problem' if problems == 1 else 'problems'}.")
    return 1 if problems else 0


def _show(finding: Finding) -> bool:
    """Print a line; returns whether it is a problem."""
    console.print(
        f"{_MARKS[finding.verdict]} {escape(finding.subject)}: {escape(finding.found)}", soft_wrap=True
    )
    if finding.advice:
        console.print(f"        → {escape(finding.advice)}", soft_wrap=True)
    return finding.verdict == "problem"
