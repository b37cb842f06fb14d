"""The command line as a whole: help, settings, and mistakes that end with one sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from quartier import __version__
from quartier.cli.main import COMMANDS, cli


def run(*arguments: str, cwd: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without the test's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUARTIER_")}
    environment |= {"PYTHONPATH": str(Path("src").resolve()), **settings}
    return subprocess.run(
        [sys.executable, "-m", "quartier", *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _all_commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", each) for sub, each in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), _all_commands())
def test_every_command_and_option_is_explained(name: str, command: click.Command) -> None:
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts}"
    assert command.get_help(click.Context(command))


def test_short_help_of_the_list_is_that_of_the_command() -> None:
    for name, command in _all_commands():
        if name in COMMANDS:
            assert command.help is not None
            first = command.help.splitlines()[0]
            words = set(COMMANDS[name][1].lower().rstrip(".").split())
            assert words & set(first.lower().rstrip(".").split()), (name, first)


def test_version() -> None:
    assert run("--version").stdout == f"Quartier {__version__}\n"
    assert run("version").stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "message"),
    [
        (["nonsense"], {}, 2, "No such command 'nonsense'"),
        (["serve", "kitchen"], {}, 2, "'kitchen' is not one of 'all', 'web', 'intake', 'worker', 'radio'"),
        (["serve"], {"QUARTIER_PORT": "many"}, 1, "Error: setting QUARTIER_PORT: 'many' is not a valid int"),
        (
            ["serve"],
            {"QUARTIER_LOG_FORMAT": "xml"},
            1,
            "Error: setting log_format: 'xml' is not one of text, json",
        ),
        (["--config", "missing.toml", "serve"], {}, 1, "Error: missing.toml: "),
        (
            ["serve"],
            {"QUARTIER_HOST": "192.0.2.1"},
            1,
            "192.0.2.1 is at an address that this machine does not have",
        ),
        (
            ["demo"],
            {"QUARTIER_POSTGRES_URL": "postgresql:///real"},
            1,
            "The demo keeps to engines of its own",
        ),
        (["restore", "missing"], {}, 1, "Error: There is no file missing."),
        (["restore", "--check", "missing"], {}, 1, "Error: There is no file missing."),
        (["load", "climate", "missing"], {}, 2, "'missing' does not exist"),
    ],
)
def test_mistakes_end_with_one_sentence(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], status: int, message: str
) -> None:
    done = run(*arguments, cwd=tmp_path, **settings)
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_busy_port_of_the_pages_names_the_setting(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("serve", "web", cwd=tmp_path, QUARTIER_PORT=str(port))
    expected = (
        f"Error: Port {port} of 127.0.0.1 is in use by another program. Give another one: QUARTIER_PORT=…\n"
    )
    assert (done.returncode, done.stderr) == (1, expected)


def test_unknown_setting_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "quartier.toml").write_text("prot = 8080\n")
    done = run("doctor", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "Error: quartier.toml: unknown setting 'prot'\n")
