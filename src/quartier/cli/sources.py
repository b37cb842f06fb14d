"""``quartier sources``: outside systems that are read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quartier.cli.common import actor, console, engines, municipality, table

if TYPE_CHECKING:
    from quartier.sources.domain import ImportReport
    from quartier.sources.models import Source


@click.group()
def sources() -> None:
    """Outside systems that are read: network servers, brokers, webhooks. docs/connecting.md describes them."""


@sources.command("list")
def list_sources() -> None:
    """List all sources and how they are."""
    with engines():
        from quartier.sources.models import Source  # noqa: PLC0415 (needs Django set up)

        rows_shown = table("key", "municipality", "kind", "state", "received", "last message", "last error")
        for source in Source.objects.select_related("municipality"):
            last = f"{source.last_message_at:%Y-%m-%d %H:%M}" if source.last_message_at else "never"
            state = source.state if source.enabled else "off"
            error = source.last_error.splitlines()[0] if source.last_error else ""
            rows_shown.add_row(
                source.key, source.municipality.slug, source.kind, state, str(source.received), last, error
            )
    console.print(rows_shown)


def source_of(key: str) -> Source:
    """The source with a key. Raises ClickException that lists the known ones."""
    from quartier.sources.models import Source  # noqa: PLC0415

    found = Source.objects.select_related("municipality").filter(key=key).first()
    if found is None:
        known = ", ".join(Source.objects.values_list("key", flat=True))
        raise click.ClickException(
            f"There is no source {key!r}. {f'Known: {known}.' if known else 'There is none yet.'}"
        )
    return found


@sources.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def add(*, file: Path) -> None:
    """Add or change the source that the TOML FILE describes.

    The file names municipality, key, name and kind, and has the tables [settings] and [credentials]. Credentials are
    stored sealed; remove them from the file afterwards.
    """
    content = _read(file)
    with engines():
        from django.utils.translation import override  # noqa: PLC0415 (needs Django set up)

        from quartier.sources.domain import SettingError, save_source, webhook_url  # noqa: PLC0415
        from quartier.sources.kinds import KINDS  # noqa: PLC0415

        with override("en"):
            try:
                saved = save_source(
                    actor(),
                    municipality(content["municipality"]),
                    content["key"],
                    content["name"],
                    content["kind"],
                    content["settings"],
                    content["credentials"],
                    enabled=content["enabled"],
                )
            except SettingError as error:
                raise click.ClickException(f"{file}: {error}") from None
        source = saved.source
        click.echo(f"{source.key} is saved and {'enabled' if source.enabled else 'disabled'}.")
        if KINDS[source.kind].transport(source.settings) == "webhook":
            click.echo(f"Webhook: {webhook_url(source)}")
        for name, value in saved.generated.items():
            click.echo(f"{name} (shown only now): {value}")


def _read(file: Path) -> dict[str, Any]:
    """The description in a file, complete. Raises ClickException that names what is wrong."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.ClickException(f"{file}: {error}") from None
    wanted: dict[str, type] = {"municipality": str, "key": str, "name": str, "kind": str}
    optional: dict[str, Any] = {"settings": {}, "credentials": {}, "enabled": True}
    for name in content:
        if name not in {**wanted, **optional}:
            raise click.ClickException(f"{file}: {name} is unknown; known: {', '.join([*wanted, *optional])}")
    types = wanted | {name: type(value) for name, value in optional.items()}
    for name, kind in types.items():
        if name not in content and name in optional:
            content[name] = optional[name]
        elif not isinstance(content.get(name), kind):
            problem = "is missing" if name not in content else f"must be a {kind.__name__}"
            raise click.ClickException(f"{file}: {name} {problem}")
    return content


@sources.command()
@click.argument("key")
@click.option("--off/--on", default=True, help="Switch it off, or on again.")
def switch(*, key: str, off: bool) -> None:
    """Switch the source KEY off (or on). Its connection follows within seconds."""
    with engines():
        from quartier.sources.domain import set_enabled  # noqa: PLC0415 (needs Django set up)

        set_enabled(actor(), source_of(key), not off)
    click.echo(f"{key} is {'off' if off else 'on'}.")


@sources.command()
@click.argument("key")
@click.option("--type", "device_type", help="Key of the device type, where the list does not tell it.")
@click.option("--kind", default="station", show_default=True, help="Kind of the things that are created.")
@click.option("--check", is_flag=True, help="Only show what would be done.")
def devices(*, key: str, device_type: str | None, kind: str, check: bool) -> None:
    """Register the devices in the network server's own list of the source KEY."""
    with engines():
        from django.utils.translation import override  # noqa: PLC0415 (needs Django set up)

        from quartier.sources.domain import NetworkError, import_devices_from_network  # noqa: PLC0415
        from quartier.twin.models import DeviceType  # noqa: PLC0415

        chosen = None
        if device_type is not None:
            chosen = DeviceType.objects.filter(key=device_type).first()
            if chosen is None:
                raise click.ClickException(f"There is no device type {device_type!r}.")
        with override("en"):
            try:
                report = import_devices_from_network(
                    actor(), source_of(key), chosen, dry_run=check, default_kind=kind
                )
            except NetworkError as error:
                raise click.ClickException(str(error)) from None
            show_import(report, key)


def show_import(report: ImportReport, origin: str) -> None:
    """Say what an import of devices did. Raises ClickException where rows are wrong and nothing was written."""
    for error in report.errors[:20]:
        where = ", ".join(part for part in (f"line {error.line}" if error.line else "", error.column) if part)
        click.echo(
            f"  {origin}, {where}: {error.message}" if where else f"  {origin}: {error.message}", err=True
        )
    if len(report.errors) > 20:
        click.echo(f"  … and {len(report.errors) - 20} more.", err=True)
    if report.errors and not report.partial:
        raise click.ClickException(f"{len(report.errors)} problems; nothing was written.")
    verb = "would be" if report.dry_run else "were"
    click.echo(
        f"{report.rows} devices: {report.devices_created} {verb} added, {report.devices_changed} changed; "
        f"{report.things_created} things {verb} added."
    )
