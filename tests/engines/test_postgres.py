"""PostgreSQL is found, started, stopped, and comes back after every way it can die."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from quartier.engines import postgres
from quartier.engines.postgres import Binaries, EngineError
from tests.patience import patient


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the system user can reach (pytest's own are closed to others)."""
    path = Path(tempfile.mkdtemp(prefix="quartier-postgres-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _program(folder: Path, version: str) -> Path:
    """A folder with programs that answer ``--version`` as PostgreSQL does."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version}"\n')
        program.chmod(0o755)
    return folder


def _major(server: postgres.Server) -> int:
    with psycopg.connect(server.url()) as connection:
        return connection.info.server_version // 10_000


def test_wheel_has_postgresql_18() -> None:
    newest = postgres.candidates("wheel")[0]
    assert (newest.major, newest.origin) == (18, "wheel")


@pytest.mark.parametrize(
    ("version", "prefer", "expected"),
    [
        ("15.4", "newest", (18, "wheel")),
        ("15.4", "path", (15, "path")),
        ("15.4", "wheel", (18, "wheel")),
        ("18.0 (Debian 18.0-1)", "newest", (18, "path")),
        ("19beta1", "newest", (19, "path")),
        ("20devel", "path", (20, "path")),
        ("14.11", "newest", (18, "wheel")),
    ],
)
def test_order_of_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, prefer: str, expected: tuple[int, str]
) -> None:
    monkeypatch.setenv("PATH", str(_program(tmp_path / "bin", version)))
    found = postgres.find(None, prefer)
    assert (found.major, found.origin) == expected


def test_too_old_on_path_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(_program(tmp_path / "bin", "14.11")))
    with pytest.raises(EngineError, match=r"version 15 or newer.*postgres=path leaves other places out"):
        postgres.find(None, "path")


def test_server_program_without_initdb_is_no_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = _program(tmp_path / "bin", "19.0")
    (programs / "initdb").unlink()
    monkeypatch.setenv("PATH", str(programs))
    assert postgres.find().origin == "wheel"


def test_unknown_preference_names_the_setting() -> None:
    with pytest.raises(EngineError, match="setting postgres: 'oldest' is not one of newest, path, wheel"):
        postgres.find(None, "oldest")


def test_existing_cluster_decides_the_major(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(_program(tmp_path / "bin", "15.4")))
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert postgres.find(tmp_path, "wheel") == Binaries(tmp_path / "bin", 15, "path")


def test_cluster_of_a_major_that_is_nowhere(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9\n")
    with pytest.raises(
        EngineError, match="made by PostgreSQL 9, which is neither on PATH nor in the installed wheel"
    ):
        postgres.find(tmp_path)


def test_lives_dies_and_lives_again(folder: Path) -> None:
    """One cluster through its life: created, stopped, killed, left behind; what was committed stays."""
    server = postgres.start(folder)
    try:
        assert _major(server) == 18
        assert server.binaries.origin == "wheel"
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n integer)")
            connection.execute("INSERT INTO kept VALUES (1)")
            fsync = connection.execute("SHOW fsync").fetchone()
            zone = connection.execute("SHOW timezone").fetchone()
            listens = connection.execute("SHOW listen_addresses").fetchone()
        assert (fsync, zone, listens) == (("on",), ("UTC",), ("",))
        assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
        server.stop()
        assert not server.alive()
        assert postgres._children(server.cluster) == []

        # Killed while a statement runs: the backend outlives the postmaster and holds its shared memory.
        server = postgres.start(folder)
        assert server.process is not None
        sleeper = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import psycopg; psycopg.connect({server.url()!r}).execute('SELECT pg_sleep(60)')",
            ],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("INSERT INTO kept VALUES (2)")
            while (
                connection.execute(
                    "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
                ).fetchone()
                is None
            ):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        server.process.kill()
        server.process.wait()
        begin = time.monotonic()
        server = postgres.start(folder)
        assert time.monotonic() - begin < patient(10)
        sleeper.wait(10)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            assert connection.execute("SELECT n FROM kept ORDER BY n").fetchall() == [(1,), (2,)]
            connection.execute("INSERT INTO kept VALUES (3)")

        # Our process died and left the server running: the next start takes its place.
        left_behind = server.process
        assert left_behind is not None
        server = postgres.start(folder)
        assert left_behind.wait(10) == 0
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (3,)
        server.stop()

        # A pid file that names a process of somebody else (here: ours) does not keep it from starting.
        pid_file = server.cluster / "postmaster.pid"
        pid_file.write_text(f"{os.getpid()}\n{server.cluster}\n")
        if os.geteuid() == 0:
            shutil.chown(pid_file, server.cluster.stat().st_uid)
        server = postgres.start(folder)
        assert server.alive()
    finally:
        server.stop()
        shutil.rmtree(server.sockets, ignore_errors=True)


def test_interrupted_creation_is_begun_again(folder: Path) -> None:
    half = folder / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = postgres.start(folder, durable=False)
    try:
        assert not half.exists()
        assert _major(server) == 18
    finally:
        server.stop()
        shutil.rmtree(server.sockets, ignore_errors=True)


def test_server_on_path_works_too(folder: Path) -> None:
    if not postgres.candidates("path"):
        pytest.skip("no `postgres` with `initdb` on PATH; the wheel's is covered by the other tests")
    expected = postgres.candidates("path")[0]
    server = postgres.start(folder, prefer="path", durable=False)
    try:
        assert server.binaries == expected
        assert _major(server) == expected.major
    finally:
        server.stop()
        shutil.rmtree(server.sockets, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_root_in_a_folder_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    data = tmp_path / "with a space" / "data"
    server = postgres.start(data, durable=False)
    home = Path((data / "postgres-home").read_text().strip())
    try:
        assert server.cluster == home / "postgres"
        assert home.parent == Path("/var/lib/quartier")
        assert server.cluster.stat().st_uid != 0
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept ()")
        server.stop()
        server = postgres.start(data, durable=False)
        assert server.cluster == home / "postgres"
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchone() == (True,)
    finally:
        server.stop()
        shutil.rmtree(server.sockets, ignore_errors=True)
        shutil.rmtree(home)
    with pytest.raises(EngineError, match=r"should be in .* which is missing"):
        postgres.start(data, durable=False)


def test_failure_shows_the_end_of_the_log(folder: Path) -> None:
    server = postgres.start(folder, durable=False)
    server.stop()
    (server.cluster / "postgresql.conf").write_text("nonsense_setting = 1\n")
    with pytest.raises(EngineError, match="nonsense_setting"):
        postgres.start(folder, durable=False)
    shutil.rmtree(server.sockets, ignore_errors=True)


def test_waiting_can_be_cancelled(folder: Path) -> None:
    server = postgres.start(folder, durable=False)
    server.stop()
    # A server that waits for an archive accepts no connection.
    (server.cluster / "recovery.signal").touch()
    (server.cluster / "postgresql.conf").write_text("restore_command = 'sleep 60'\n")
    begin = time.monotonic()
    with pytest.raises(EngineError, match="did not start"):
        postgres.start(folder, durable=False, cancelled=lambda: time.monotonic() - begin > 0.5)
    assert time.monotonic() - begin < patient(15)
    shutil.rmtree(server.sockets, ignore_errors=True)
