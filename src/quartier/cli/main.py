"""The command ``quartier``. Commands are loaded when they are called, so that help is quick and ``serve`` stays small.

Expected problems (a busy port, a wrong file, a missing right) end with one sentence and exit status 1. A traceback
means that the program is wrong, not its user.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Final

import click

from quartier import __version__
from quartier.config import ConfigError, config
from quartier.engines.postgres import EngineError

# Command: module in quartier.cli and name of the click command in it, with the line shown in the list of commands.
COMMANDS: Final = {
    "serve": ("serve:serve", "Run the installation: engines, web server, intake, worker."),
    "demo": ("demo:demo", "Run both cities with virtual sensors, to look around."),
    "doctor": ("doctor:doctor", "Check the installation and say what to do."),
    "migrate": ("migrate:migrate", "Bring the database up to date."),
    "load": ("load:load", "Load cities, existing data sets, readings or devices from files."),
    "replay": ("replay:replay", "Send kept raw messages through today's codecs and mappings."),
    "backup": ("backup:backup", "Save everything in one file."),
    "restore": ("backup:restore", "Put a backup in place."),
    "users": ("people:users", "People and their roles."),
    "tokens": ("people:tokens", "API tokens."),
    "sources": ("sources:sources", "Outside systems that are read."),
    "nats-config": ("nats_config:nats_config", "Print what a NATS server of your own needs."),
    "version": ("version:version", "Show the version."),
}


class _Commands(click.Group):
    """Loads a command's module when the command is called or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found = getattr(import_module(f"quartier.cli.{module}"), name)
        assert isinstance(found, click.Command)  # noqa: S101 (the table above says so)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False),
    envvar="QUARTIER_CONFIG",
    help="Settings file (TOML). Default: quartier.toml in the current folder, if there is one.",
)
@click.option("--data", type=click.Path(file_okay=False), help="Data folder; overrides the setting data.")
@click.version_option(__version__, "-V", "--version", message="Quartier %(version)s")
def cli(*, config_file: str | None, data: str | None) -> None:
    """Quartier, the open urban data platform.

    Settings are read from the environment (QUARTIER_…) and from a settings file; docs/operating.md lists them.
    """
    # Child processes read the same settings, so options become settings of the environment.
    if config_file is not None:
        os.environ["QUARTIER_CONFIG"] = config_file
    if data is not None:
        os.environ["QUARTIER_DATA"] = data
    config.cache_clear()


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; ends the process with an exit status."""
    try:
        status = cli.main(args=arguments, prog_name="quartier", standalone_mode=False)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (ConfigError, EngineError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
