"""``quartier backup`` and ``quartier restore``: everything in one file, and back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from quartier.cli.common import bar, engines
from quartier.config import config
from quartier.engines import installation
from quartier.engines.backup import BackupError, Manifest, Progress
from quartier.engines.backup import backup as save
from quartier.engines.backup import restore as put_back
from quartier.engines.backup import verify as check


@contextmanager
def _shown() -> Iterator[Progress]:
    """Progress as bars; BackupError as one sentence."""
    with bar() as progress:
        tasks: dict[str, int] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total, note="")
            progress.update(tasks[what], completed=done, total=total, note=_size(done))  # type: ignore[arg-type]

        try:
            yield show
        except BackupError as error:
            raise click.ClickException(str(error)) from None


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--with-secret",
    is_flag=True,
    help="Put the secret key into the file; whoever has it can open everything.",
)
def backup(*, file: Path, with_secret: bool) -> None:
    """Save the database and all raw messages in FILE. The installation may be running.

    Credentials of sources are sealed with the secret key of the installation. Keep that key elsewhere (it is the file
    secret-key in the data folder, or the setting secret_key), or save it with --with-secret.
    """
    with engines(streams=True) as addresses, _shown() as progress:
        secret = config().secret() if with_secret else ""
        manifest = save(file, addresses.postgres_url, addresses.nats_url, secret=secret, progress=progress)
    click.echo(f"{file}: {_size(file.stat().st_size)}. {_contents(manifest)}")


def _contents(manifest: Manifest) -> str:
    messages = sum(stream["state"]["messages"] for stream in manifest.streams.values())
    secret = "with" if manifest.has_secret else "without"
    return f"Quartier {manifest.quartier}, {manifest.created_at}, {messages} raw messages, {secret} the secret key."


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace what is in this installation.")
@click.option("--check", "only_check", is_flag=True, help="Only check that the file is whole.")
def restore(*, file: Path, force: bool, only_check: bool) -> None:
    """Put the backup in FILE in place. Quartier must not be running.

    The file is checked before anything is changed, and the old database is kept until the new one is complete.
    """
    if only_check:
        _setup_django()
        with _shown() as progress:
            manifest = check(file, progress=progress)
        click.echo(f"{file} is whole. {_contents(manifest)}")
        return
    settings = config()
    if installation.locked(settings.data):
        raise click.ClickException("Quartier is running on this data folder. Stop it first.")
    with engines(streams=True, migrated=False) as addresses:
        with _shown() as progress:
            manifest, secret = put_back(
                file, addresses.postgres_url, addresses.nats_url, force=force, progress=progress
            )
        from quartier.cli.migrate import bring_up_to_date  # noqa: PLC0415 (needs Django set up)

        applied = bring_up_to_date()
    click.echo(f"Restored: {_contents(manifest)}")
    if applied:
        click.echo(f"{len(applied)} migrations of this version were applied to it.")
    _keep_secret(settings.data / "secret-key", secret, settings.secret_key)


def _setup_django() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quartier.settings")
    import django  # noqa: PLC0415

    django.setup()


def _keep_secret(path: Path, secret: str, setting: str) -> None:
    """Put the secret key of the backup into the data folder, or say what is missing."""
    if not secret:
        click.echo(
            "The secret key is not in the backup. Credentials of sources open only with the key under which they were "
            "saved: put it into the setting secret_key, or enter the credentials again."
        )
        return
    if setting:
        if setting != secret:
            click.echo(
                "The setting secret_key differs from the key in the backup; take the old one to open credentials."
            )
        return
    beginning = path.with_suffix(".new")
    descriptor = os.open(beginning, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
    beginning.rename(path)
    click.echo(f"The secret key of the backup is now in {path}.")
