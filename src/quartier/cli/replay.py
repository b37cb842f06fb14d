"""``quartier replay``: history repaired from the raw messages that are kept."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from quartier.cli.common import actor, bar, engines, run
from quartier.config import config
from quartier.engines import installation
from quartier.engines.bus import connect
from quartier.engines.pools import async_pool

if TYPE_CHECKING:
    from quartier.intake.models import Replay


@click.command()
@click.option("--municipality", help="Only messages of this municipality.")
@click.option("--source", "source_key", help="Only messages of this source.")
@click.option(
    "--device",
    "external_ids",
    multiple=True,
    help="Only messages of this device; may be given several times.",
)
@click.option("--type", "device_type", help="Only messages of devices of this type.")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="Only messages from then on (UTC)."
)
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="Only messages before (UTC)."
)
def replay(**selection: Any) -> None:
    """Send kept raw messages through today's codecs and mappings.

    Readings that differ are corrected (the old ones are kept as revisions), missing ones are added, and those that a
    message does not give any more are taken away. Ctrl-C leaves the rest to the worker.
    """
    chosen = {name: _plain(value) for name, value in selection.items() if value}
    settings = config()
    alone = not settings.postgres_url and installation.running(settings.data) is None
    with engines(streams=True):
        from quartier.intake.domain import InputError, start_replay  # noqa: PLC0415 (needs Django set up)

        try:
            row = start_replay(actor(), chosen)
        except InputError as error:
            raise click.ClickException(str(error)) from None
        # A running installation has a worker that takes it; otherwise this process is the worker.
        ours = alone or not _taken(row)
        run(lambda: _follow(row, work=ours))
        row.refresh_from_db()
    if row.error:
        raise click.ClickException(row.error)
    click.echo(
        f"{row.done:,} messages: {row.corrected:,} readings corrected, {row.added:,} added, {row.removed:,} removed; "
        f"{row.refused:,} refused."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value.isoformat()}+00:00"
    return list(value) if isinstance(value, tuple) else value


def _taken(row: Replay, *, wait_s: float = 3) -> bool:
    """Whether a worker has begun with it."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        row.refresh_from_db()
        if row.started_at is not None:
            return True
        time.sleep(0.2)
    return False


async def _follow(row: Replay, *, work: bool) -> None:
    """Show progress until the replay is finished; ``work``: carry it out as well."""
    from quartier.intake.codecs.sandbox import CodecPool  # noqa: PLC0415 (needs Django set up)
    from quartier.intake.replay import Replayer  # noqa: PLC0415
    from quartier.twin.record import Recorder  # noqa: PLC0415

    stop = asyncio.Event()
    if not work:
        await _watch(row)
        return
    async with async_pool(name="replay", statement_timeout_ms=120_000) as pool:
        bus = await connect(name="replay")
        recorder, codecs = Recorder(pool), CodecPool(processes=1)
        await recorder.start()
        running = asyncio.create_task(Replayer(pool, bus, recorder, codecs).run(stop))
        watching = asyncio.create_task(_watch(row))
        try:
            done, _ = await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stop.set()
            watching.cancel()
            await asyncio.wait({running, watching}, timeout=10)
            await recorder.close()
            await codecs.close()
            await bus.close()


async def _watch(row: Replay) -> None:
    with bar(unit="messages") as progress:
        task = progress.add_task("Replaying", total=None, note="")
        while True:
            await row.arefresh_from_db()
            note = f"{row.corrected} corrected, {row.added} added"
            progress.update(task, completed=row.done, total=row.total or None, note=note)
            if row.finished_at is not None:
                return
            await asyncio.sleep(0.3)
