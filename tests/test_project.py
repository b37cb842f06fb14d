"""The project's own files: what they say is so, and nothing in them belongs to one machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from quartier import __version__
from quartier.cli.main import COMMANDS, cli
from quartier.config import Config

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _own_files() -> list[Path]:
    """What git knows or would take: nothing that is built or installed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs/operating.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`)? ?\| (.+) \|$", text, re.MULTILINE)
    documented = {name: (default, meaning) for name, default, meaning in rows if name != "setting"}
    defaults = {}
    for one in fields(Config):
        default = one.default
        defaults[one.name] = str(default).lower() if isinstance(default, bool) else str(default)
    assert {name: default for name, (default, _) in documented.items()} == defaults
    for one in fields(Config):
        # The table may say more than the program, but begins alike.
        assert documented[one.name][1].replace("`", "").startswith(one.metadata["help"])


def _commands_in(text: str) -> list[list[str]]:
    """Invocations of ``quartier`` in code blocks and code spans."""
    code = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(
        r"`([^`\n]+)`", text
    )
    found = []
    for block in code:
        for line in block.splitlines():
            match = re.match(r"(?:\$ )?(?:\.venv/bin/)?quartier(?: +(.*))?$", line.split("#")[0].strip())
            if match and match.group(1):
                found.append(match.group(1).split())
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist(document: Path) -> None:
    context = click.Context(cli)
    for words in _commands_in(document.read_text()):
        if words[0] == "--config":
            words = words[2:]  # noqa: PLW2901
        for name in words[0].rstrip(",").split("|") if words else []:
            assert name in COMMANDS, f"{document.name}: quartier {' '.join(words)}"
            command = cli.get_command(context, name)
            rest = words[1:]
            if isinstance(command, click.Group) and rest:
                assert rest[0] in command.commands, f"{document.name}: quartier {' '.join(words)}"
                command = command.commands[rest[0]]
            assert command is not None
            known = {
                option for parameter in command.params for option in parameter.opts + parameter.secondary_opts
            }
            used = {word.split("=")[0] for word in rest if word.startswith("--")}
            assert used <= known | {"--help"}, f"{document.name}: quartier {' '.join(words)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_in_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"(?:^|`|&& |then )make ([a-z][\w-]*)", document.read_text(), re.MULTILINE))
    assert mentioned <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_rooms_import_only_downwards() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run(standalone_mode=True)",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Rooms import only from rooms below them KEPT" in done.stdout


def test_nothing_belongs_to_one_machine() -> None:
    """No path of a developer's machine, and no address of a package index."""
    bad = re.compile(
        "|".join(
            [
                r"/(?:root|Users)/\w",
                r"/home/(?!quartier\b)\w",
                "/wo" + r"rk/(?:main|shared)",
                r"(?:pypi|npmjs|files\.pythonhosted)\.org/(?:simple|packages)",
                r"registry\.npm" + r"js\.org",
                r"(?<!emit-)index-u" + "rl",
            ]
        )
    )
    for path in _own_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path.name == Path(__file__).name:
            continue
        found = bad.search(text)
        line = text[: found.start()].count("\n") + 1 if found else 0
        assert found is None, f"{path.relative_to(ROOT)}:{line}: {found.group(0) if found else ''}"


def test_locked_packages_come_from_whatever_registry_is_set() -> None:
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert len(locked) > 20
    assert [name for name, package in locked.items() if "resolved" in package] == []
    assert [name for name, package in locked.items() if name and "integrity" not in package] == []


def test_no_file_is_too_large_to_review() -> None:
    large = {
        str(path.relative_to(ROOT)): path.stat().st_size
        for path in _own_files()
        if path.stat().st_size > 1_000_000
    }
    assert large == {}


def test_pins_have_hashes_and_no_index() -> None:
    for name in ("runtime", "dev"):
        text = (ROOT / f"requirements/{name}.txt").read_text()
        pins = re.findall(r"^([\w.-]+(?:\[[\w,]+\])?)==([^\s;\\]+)", text, re.MULTILINE)
        assert len(pins) > 30
        blocks = re.split(r"\n(?=\S)", text)
        assert all("--hash=sha256:" in block for block in blocks if block.strip())
        assert not re.search(r"^-", text, re.MULTILINE)
        assert "://" not in text


def test_runtime_pins_are_among_those_for_developing() -> None:
    def pins(name: str) -> set[str]:
        return set(
            re.findall(r"^\S+==[^\s;\\]+", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE)
        )

    assert pins("runtime") <= pins("dev")


def test_every_dependency_is_pinned() -> None:
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()

    pinned = {
        plain(name)
        for name in re.findall(r"^(\S+)==", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE)
    }
    assert {plain(name) for name in _pyproject()["project"]["dependencies"]} <= pinned


def test_version_is_the_same_everywhere() -> None:
    description = yaml.safe_load((ROOT / "publiccode.yml").read_text())
    assert _pyproject()["project"]["version"] == __version__ == description["softwareVersion"]
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_publiccode_says_what_the_standard_asks_for() -> None:
    """publiccode.yml standard 0.4, mandatory keys and lengths of the core schema."""
    found = yaml.safe_load((ROOT / "publiccode.yml").read_text())
    assert found["publiccodeYmlVersion"] == "0.4"
    assert {"name", "url", "platforms", "developmentStatus", "softwareType", "releaseDate"} <= set(found)
    assert found["developmentStatus"] in {"concept", "development", "beta", "stable", "obsolete"}
    assert found["legal"]["license"] == _pyproject()["project"]["license"] == "EUPL-1.2"
    assert found["maintenance"]["type"] in {"internal", "contract", "community", "none"}
    assert found["maintenance"]["contacts"][0]["name"]
    assert isinstance(found["localisation"]["localisationReady"], bool)
    assert set(found["localisation"]["availableLanguages"]) == set(found["description"]) == {"de", "en"}
    for words in found["description"].values():
        assert len(words["shortDescription"]) <= 150
        assert 150 <= len(words["longDescription"]) <= 10_000
        assert words["features"]


def test_python_versions_agree() -> None:
    wanted = _pyproject()["project"]["requires-python"]
    assert wanted == ">=3.12"
    assert (ROOT / ".python-version").read_text().strip() == "3.13"
    finder = (ROOT / "tools/find-python").read_text()
    assert "sys.version_info < (3, 12)" in finder
    assert _pyproject()["tool"]["ruff"]["target-version"] == "py312"


def test_older_python_is_named_and_refused(tmp_path: Path) -> None:
    """Only an older Python on PATH: a clear message, and no half-made environment."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in\n  *platform*) echo 3.11.2 ;;\n  *) exit 1 ;;\nesac\n')
    old.chmod(0o755)
    broken = tmp_path / "python3.13"
    broken.write_text("#!/bin/sh\necho 'version 3.13 is not installed' >&2\nexit 127\n")
    broken.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "tools/find-python")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Quartier needs Python 3.12 or newer; found: ")
    assert "3.11.2" in done.stderr
    assert "PYTHON=" in done.stderr


def test_continuous_integration_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert "exec make test" in script.read_text()
    assert "make test" in (ROOT / "README.md").read_text()


def test_migrations_make_what_the_models_say(transactional_db: None) -> None:
    """Otherwise the next ``makemigrations`` would bring a change that nobody made."""
    from django.core.management import call_command

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
