"""A backup is restored into an empty installation, and then everything is compared."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import zipfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.js.errors import NotFoundError
from psycopg.sql import SQL, Identifier

from quartier import __version__
from quartier.engines import backup as module
from quartier.engines import bus as engine
from quartier.engines import nats
from quartier.engines.backup import BackupError, backup, restore, verify
from quartier.engines.postgres import EngineError

if TYPE_CHECKING:
    from tests.world import World

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
async def filled(world: World, store: str, bus: engine.Bus) -> AsyncIterator[str]:
    """URL of a database with observations in three months, a frame log of three days, a correction and a sealed
    credential; a filled inbox."""
    from asgiref.sync import sync_to_async

    from quartier.engines.pools import async_pool
    from quartier.lorawan.store.frames import FrameLog, Heard, Line
    from quartier.sources.models import Source
    from quartier.twin.record import Observation, Recorder

    def make() -> int:
        source = Source(municipality=world.municipality, key="netz", name="Netz", kind="chirpstack")
        source.credentials = {"password": "correct horse"}
        source.save()
        return world.series("air_temperature").pk

    series = await sync_to_async(make)()
    rows = [
        Observation(world.municipality.pk, series, NOW - timedelta(hours=n), 20 + n % 7 / 10)
        for n in range(2000)
    ]
    async with async_pool(store) as pool:
        recorder = Recorder(pool)
        await recorder.start()
        await recorder.record(rows)
        frames = FrameLog(pool)
        for n in range(3):
            frames.add(
                Line(at=NOW - timedelta(days=n), municipality="musterstadt", direction="up", kind="join_request",
                     outcome="accepted", size=23, data_rate=5, frequency_hz=868_100_000, gateways=[Heard("00" * 8)])
            )  # fmt: skip
        await frames.write({"musterstadt": world.municipality.pk})
        await recorder.correct([rows[5]._replace(result=-1.5)], reason="codec")
        await recorder.close()
    for n in range(300):
        await bus.js.publish("inbox.musterstadt.netz", b"message %d " % n * 50)
    subscription = await bus.js.pull_subscribe("inbox.>", durable="intake", stream="inbox")
    for message in await subscription.fetch(7):
        await message.ack_sync()
    await bus.js.delete_msg("inbox", (await bus.js.stream_info("inbox")).state.first_seq + 20)
    yield store
    await bus.js.delete_consumer("inbox", "intake")


@pytest.fixture
def empty(store: str) -> Iterator[str]:
    """URL of an empty database on the same server."""
    with psycopg.connect(store, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS restored")
        connection.execute("CREATE DATABASE restored TEMPLATE template0")
        yield re.sub(r"/[^/?]+\?", "/restored?", store)
        connection.execute("DROP DATABASE restored WITH (FORCE)")


@pytest.fixture
def other_nats(tmp_path: Path) -> Iterator[nats.Server]:
    server = nats.start(tmp_path / "other", mqtt_port=0, durable=False)
    yield server
    server.stop()


@pytest.fixture
def servers(nats_server: nats.Server, other_nats: nats.Server) -> tuple[nats.Server, nats.Server]:
    return nats_server, other_nats


def _visible(folder: Path) -> dict[str, int]:
    """The files in a folder and who may read them."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}


def tables(url: str) -> dict[str, list[str]]:
    """Every table of a database: its rows as text, in an order of their own."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        names = connection.execute(
            "SELECT relname, CASE relkind WHEN 'S' THEN '(last_value, is_called)' ELSE 't' END"
            " FROM pg_class WHERE relkind IN ('r', 'p', 'S') AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        return {
            name: sorted(
                row[0]
                for row in connection.execute(
                    SQL("SELECT {}::text FROM {} t").format(SQL(whole), Identifier(name))
                )
            )
            for name, whole in names
        }


def shape(url: str) -> list[tuple[Any, ...]]:
    """Columns, constraints, indexes and partition bounds.

    Conditions of indexes are left out: the server writes them in other words when it has read them once more.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        ).fetchall()
        found += connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '' FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace"
        ).fetchall()
        found += connection.execute(
            "SELECT tablename, indexname, split_part(indexdef, ' WHERE ', 1), '', ''"
            " FROM pg_indexes WHERE schemaname = 'public'"
        ).fetchall()
        found += connection.execute(
            "SELECT relname, pg_get_expr(relpartbound, oid), '', '', '' FROM pg_class WHERE relispartition"
        ).fetchall()
        return sorted(tuple(str(item) for item in row) for row in found)


async def messages(bus: engine.Bus) -> list[tuple[int, str, bytes, str]]:
    """The inbox: position, subject, content and time of every message."""
    state = (await bus.js.stream_info("inbox")).state
    found = []
    for position in range(state.first_seq, state.last_seq + 1):
        try:
            message = await bus.js.get_msg("inbox", position)
        except NotFoundError:
            continue
        found.append((position, str(message.subject), message.data or b"", str(message.time)))
    return found


async def test_everything_comes_back(
    filled: str,
    empty: str,
    bus: engine.Bus,
    servers: tuple[nats.Server, nats.Server],
    tmp_path: Path,
) -> None:
    nats_server, other_nats = servers
    file = tmp_path / "quartier.backup"
    steps: dict[str, tuple[int, int | None]] = {}

    def progress(what: str, done: int, total: int | None) -> None:
        assert done >= steps.get(what, (0, None))[0]
        steps[what] = (done, total)

    made = await asyncio.to_thread(backup, file, filled, nats_server.url, secret="the key", progress=progress)
    assert _visible(tmp_path) == {"quartier.backup": 0o600}
    assert await asyncio.to_thread(verify, file) == made
    assert (made.quartier, made.postgresql, made.has_secret) == (__version__, 18, True)

    found, secret = await asyncio.to_thread(restore, file, empty, other_nats.url, progress=progress)
    assert (found, secret) == (made, "the key")
    before, after = tables(filled), tables(empty)
    assert len(before["twin_observation"]) == 2000
    assert len(before["twin_revision"]) == 1
    assert after == before
    assert shape(empty) == shape(filled)

    second = await engine.connect(other_nats.url)
    try:
        kept = await messages(bus)
        assert len(kept) == 299
        assert await messages(second) == kept
        consumer = await second.js.consumer_info("inbox", "intake")
        original = await bus.js.consumer_info("inbox", "intake")
        assert consumer.num_pending == original.num_pending == 292
        assert consumer.ack_floor is not None
        assert original.ack_floor is not None
        assert consumer.ack_floor.stream_seq == original.ack_floor.stream_seq
        # The next message gets the next position.
        ack = await second.js.publish("inbox.musterstadt.netz", b"new")
        assert ack.seq == kept[-1][0] + 1
    finally:
        await second.close()
    assert steps["Checking the file"][0] == steps["Checking the file"][1]
    assert steps["Restoring the database"] == (made.files["database.dump"]["bytes"],) * 2
    assert {"Saving the inbox", "Saving the database", "Restoring the inbox"} <= set(steps)


async def test_restored_twice_is_the_same(
    filled: str, empty: str, nats_server: nats.Server, other_nats: nats.Server, tmp_path: Path
) -> None:
    """A second restore refuses, and with ``force`` replaces."""
    file = tmp_path / "quartier.backup"
    await asyncio.to_thread(backup, file, filled, nats_server.url)
    await asyncio.to_thread(restore, file, empty, other_nats.url)
    with pytest.raises(BackupError, match=r"not empty \(there are rows in cities_municipality\).*--force"):
        await asyncio.to_thread(restore, file, empty, other_nats.url)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("TRUNCATE twin_observation, twin_state")
        connection.execute("CREATE TABLE newer (n integer)")
    _manifest, secret = await asyncio.to_thread(restore, file, empty, other_nats.url, force=True)
    assert secret == ""
    assert tables(empty) == tables(filled)


async def test_filled_inbox_is_not_replaced_unasked(
    filled: str, empty: str, nats_server: nats.Server, other_nats: nats.Server, tmp_path: Path
) -> None:
    file = tmp_path / "quartier.backup"
    await asyncio.to_thread(backup, file, filled, nats_server.url)
    other = await engine.connect(other_nats.url)
    await other.js.publish("inbox.a.b", b"mine")
    try:
        with pytest.raises(BackupError, match="inbox of this installation is not empty"):
            await asyncio.to_thread(restore, file, empty, other_nats.url)
        assert [content for _, _, content, _ in await messages(other)] == [b"mine"]
    finally:
        await other.close()


async def test_failed_restore_leaves_the_old_database(
    filled: str, empty: str, nats_server: nats.Server, other_nats: nats.Server, tmp_path: Path
) -> None:
    """A dump that pg_restore cannot read, in a file whose checksums fit."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    await asyncio.to_thread(backup, good, filled, nats_server.url)
    _rewrite(good, bad, {"database.dump": lambda dump: dump[: len(dump) // 2]})
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 42 AS n")
    with pytest.raises(BackupError, match="the old one is back"):
        await asyncio.to_thread(restore, bad, empty, other_nats.url)
    assert tables(empty) == {"mine": ["(42)"]}


def _rewrite(source: Path, target: Path, changes: dict[str, Any], *, checksums: bool = True) -> None:
    """A copy of a backup with members changed, and with checksums that fit unless told otherwise."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        contents = {name: old.read(name) for name in old.namelist()}
        for name, change in changes.items():
            contents[name] = change(contents[name])
        manifest = json.loads(contents["manifest.json"])
        for name in manifest["files"] if checksums else ():
            manifest["files"][name] = {
                "bytes": len(contents[name]),
                "sha256": hashlib.sha256(contents[name]).hexdigest(),
            }
        contents["manifest.json"] = json.dumps(manifest).encode()
        for name, content in contents.items():
            new.writestr(name, content)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A backup of nothing, whole in form."""
    file = tmp_path / "small"
    manifest = module.Manifest(
        quartier="0.1", created_at="2026-01-01T00:00:00Z", postgresql=18, nats="2", migrations=[], streams={}
    )
    content = {"database.dump": b"PGDMP" + bytes(range(256)) * 20}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        files = {name: {"bytes": len(data), "sha256": ""} for name, data in content.items()}
        archive.writestr("manifest.json", json.dumps({**module._as_json(manifest), "files": files}))
    whole = tmp_path / "whole"
    _rewrite(file, whole, {})
    assert verify(whole).files["database.dump"]["bytes"] == 5125
    return whole


def test_flipped_byte_is_found(small: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    _rewrite(small, bad, {"database.dump": lambda data: data[:99] + b"!" + data[100:]}, checksums=False)
    with pytest.raises(BackupError, match=r"damaged: database\.dump is not what was written"):
        verify(bad)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_an_error_that_is_understood(small: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cut off anywhere, or with any byte changed: BackupError or (where nothing depends on the byte) the same."""
    whole = small.read_bytes()
    broken = tmp_path / "broken"
    if data.draw(st.booleans()):
        broken.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        broken.write_bytes(
            whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
        )
    try:
        found = verify(broken)
    except BackupError:
        return
    assert found.files == verify(small).files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2; this version reads format 1"),
        ({"migrations": ["twin.9999_later"]}, r"made by Quartier 0\.1, which is newer .*twin\.9999_later"),
        ({"surprise": 1}, "is not a whole backup"),
    ],
)
def test_manifest_of_another_kind(small: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    other = tmp_path / "other"
    _rewrite(
        small, other, {"manifest.json": lambda text: json.dumps({**json.loads(text), **change}).encode()}
    )
    with pytest.raises(BackupError, match=message):
        verify(other)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="There is no file"):
        verify(tmp_path / "nothing")


def test_no_backup_overwrites_another(tmp_path: Path, store: str, nats_server: nats.Server) -> None:
    file = tmp_path / "old"
    file.write_text("precious")
    with pytest.raises(BackupError, match="never overwrites"):
        backup(file, store, nats_server.url)
    assert file.read_text() == "precious"


def test_bus_that_is_down_leaves_no_file(tmp_path: Path, store: str) -> None:
    with pytest.raises(EngineError, match="NATS cannot be reached"):
        backup(tmp_path / "new", store, "nats://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_missing(tmp_path: Path, store: str, nats_server: nats.Server) -> None:
    with pytest.raises(BackupError, match="cannot be written: No such file or directory"):
        backup(tmp_path / "nowhere" / "new", store, nats_server.url)


def test_password_is_not_on_the_command_line() -> None:
    conninfo, environment = module._connection("postgresql://me:s3cret@db.example:5433/city?sslmode=require")
    assert "s3cret" not in conninfo
    assert environment["PGPASSWORD"] == "s3cret"
    assert psycopg.conninfo.conninfo_to_dict(conninfo) == {
        "user": "me",
        "host": "db.example",
        "port": "5433",
        "dbname": "city",
        "sslmode": "require",
    }
