"""Runs the connectors: one task per enabled source that we read ourselves, started again when it fails.

The sources' rows are read every few seconds, so that a change on the desk takes effect without a restart. PostgreSQL
may be away: running connectors go on, and what they report is written when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import structlog
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from quartier.cities.secrets import SecretError, unseal
from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.intake.conveyor import Conveyor
from quartier.sources import metrics
from quartier.sources.connect import element, mqtt
from quartier.sources.connect.mqtt_session import MqttError
from quartier.sources.connect.report import Report, SourceConfig, pause, redact
from quartier.sources.kinds import KINDS

log = structlog.get_logger(__name__)

_RELOAD_S: Final = 3.0
_WRITE_S: Final = 2.0
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 300.0
# A connection that lasted so long was a good one: the next failure begins with the short delay again.
_GOOD_AFTER_S: Final = 30.0
_STORE_ERRORS = (psycopg.Error, PoolTimeout, OSError)


@dataclass(slots=True)
class _Running:
    source: SourceConfig
    fingerprint: tuple[Any, ...]
    report: Report
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    written_received: int = 0
    write_at: float = 0.0


def delay_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1 s to 5 min, scattered so that not all come at once."""
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures - 1, 20)) * random.uniform(0.7, 1.0)  # noqa: S311


class Connectors:
    """Supervises the connectors of an installation."""

    def __init__(self, pool: Pool, bus: Bus, *, own_broker: mqtt.OwnBroker | None = None) -> None:
        self._pool = pool
        self._bus = bus
        self._own = own_broker or mqtt.own_broker()
        self._running: dict[int, _Running] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""
        async with Conveyor(self._bus) as conveyor:
            writing = asyncio.create_task(self._write_health())
            try:
                while not stop.is_set():
                    try:
                        await self._reload(conveyor)
                    except _STORE_ERRORS as error:
                        log.warning("sources.store_away", error=str(error).strip() or type(error).__name__)
                    await pause(stop, _RELOAD_S)
            finally:
                await asyncio.gather(*(self._end(one) for one in list(self._running.values())))
                writing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writing
                with contextlib.suppress(*_STORE_ERRORS):
                    await self._write_changed()

    async def _reload(self, conveyor: Conveyor) -> None:
        wanted = await self._load()
        for id_, running in list(self._running.items()):
            row = wanted.get(id_)
            if row is not None and row[0] == running.fingerprint:
                continue
            await self._end(running)
            with contextlib.suppress(*_STORE_ERRORS):
                await self._write(running)
            del self._running[id_]
            if row is None:
                await self._forget(running.source)
        for id_, (fingerprint, source, cursor, received) in wanted.items():
            if id_ not in self._running:
                report = Report(source, cursor)
                report.received = received
                running = _Running(source, fingerprint, report)
                running.written_received = received
                self._running[id_] = running
                running.task = asyncio.create_task(self._keep_running(running, conveyor))

    async def _load(self) -> dict[int, tuple[tuple[Any, ...], SourceConfig, dict[str, Any], int]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT s.id, m.slug, s.key, s.kind, s.settings, s.sealed_credentials, s.cursor, s.received"
                " FROM sources_source s JOIN cities_municipality m ON m.id = s.municipality_id"
                " WHERE s.enabled ORDER BY s.id"
            )
            rows = await cursor.fetchall()
        found: dict[int, tuple[tuple[Any, ...], SourceConfig, dict[str, Any], int]] = {}
        for id_, municipality, key, kind, settings, sealed, position, received in rows:
            known = KINDS.get(kind)
            if known is None or known.transport(settings) == "webhook":
                continue
            try:
                credentials = unseal(sealed)
            except SecretError as error:
                await self._note_sealed(id_, str(error))
                continue
            source = SourceConfig(id_, municipality, key, kind, settings, credentials)
            found[id_] = ((municipality, key, kind, settings, sealed), source, position, received)
        return found

    async def _note_sealed(self, id_: int, error: str) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE sources_source SET state = 'waiting', last_error = %s, last_error_at = now()"
                " WHERE id = %s AND last_error <> %s",
                [error, id_, error],
            )

    async def _keep_running(self, running: _Running, conveyor: Conveyor) -> None:
        """Run a connector; when it fails, wait and run it again."""
        source, report = running.source, running.report
        start = _STARTERS[KINDS[source.kind].transport(source.settings)]
        while not running.stop.is_set():
            began = time.monotonic()
            try:
                await start(source, conveyor, report, running.stop, self._own)
                if running.stop.is_set():
                    return
                error = "the connector ended"
            except Exception as problem:
                # Whatever a foreign system does to us ends here, and is tried again. An unforeseen error may carry
                # anything in its text, so its type must do.
                foreseen = type(problem).__module__.startswith("quartier.")
                error = str(problem) if foreseen else type(problem).__name__
                if not foreseen:
                    log.error("source.unforeseen", source=source.key, error=type(problem).__name__)
            if report.take_progress() or time.monotonic() - began > _GOOD_AFTER_S:
                report.failures = 0
            report.failed(error)
            seconds = delay_s(report.failures)
            log.warning(
                "source.failed",
                source=source.key,
                error=redact(error, source.credentials.values()),
                again_in_s=round(seconds, 1),
            )
            await pause(running.stop, seconds)

    async def _end(self, running: _Running) -> None:
        running.stop.set()
        if running.task is None:
            return
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await asyncio.wait_for(running.task, 5)
        metrics.CONNECTED.labels(running.source.key).set(0)

    async def _forget(self, source: SourceConfig) -> None:
        """A source that is switched off for good leaves no session behind that its broker would go on filling."""
        if KINDS[source.kind].transport(source.settings) != "mqtt":
            return
        with contextlib.suppress(*_STORE_ERRORS):
            async with self._pool.connection() as connection:
                # First the door has to know that nobody listens any more.
                await connection.execute(
                    "UPDATE sources_source SET cursor = cursor - 'topics' WHERE id = %s AND NOT enabled",
                    [source.id],
                )
        try:
            await asyncio.wait_for(mqtt.forget(source, self._own), 10)
        except (MqttError, TimeoutError) as error:
            log.warning(
                "source.session_left",
                source=source.key,
                error=redact(str(error) or type(error).__name__, source.credentials.values()),
            )

    async def _write_health(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_S / 10)
            try:
                await self._write_changed(time.monotonic())
            except _STORE_ERRORS as error:
                log.debug("sources.health_not_written", error=type(error).__name__)

    async def _write_changed(self, due: float = float("inf")) -> None:
        for running in list(self._running.values()):
            if running.report.changed.is_set() and running.write_at <= due:
                running.write_at = time.monotonic() + _WRITE_S
                await self._write(running)

    async def _write(self, running: _Running) -> None:
        report = running.report
        report.changed.clear()
        received = report.received
        try:
            async with self._pool.connection() as connection:
                await connection.execute(
                    "UPDATE sources_source SET"
                    " state_since = CASE WHEN state = %(state)s THEN state_since ELSE now() END,"
                    " state = CASE WHEN enabled THEN %(state)s ELSE 'off' END, failures = %(failures)s,"
                    " last_error = CASE WHEN %(error_at)s::timestamptz IS NULL THEN last_error ELSE %(error)s END,"
                    " last_error_at = coalesce(%(error_at)s, last_error_at),"
                    " last_message_at = coalesce(%(message_at)s, last_message_at), received = received + %(more)s,"
                    # Somebody may have changed the source meanwhile; then our position means nothing any more.
                    " cursor = CASE WHEN settings = %(settings)s THEN %(cursor)s ELSE cursor END"
                    " WHERE id = %(id)s",
                    {
                        "id": running.source.id,
                        "state": report.state,
                        "failures": report.failures,
                        "error": report.last_error,
                        "error_at": report.last_error_at,
                        "message_at": report.last_message_at,
                        "more": received - running.written_received,
                        "settings": Jsonb(running.source.settings),
                        "cursor": Jsonb(report.cursor),
                    },
                )
        except BaseException:
            report.changed.set()
            raise
        running.written_received = received


async def _run_element(
    source: SourceConfig, conveyor: Conveyor, report: Report, stop: asyncio.Event, _: mqtt.OwnBroker
) -> None:
    await element.run(source, conveyor, report, stop)


_Starter = Callable[
    [SourceConfig, Conveyor, Report, asyncio.Event, mqtt.OwnBroker], Coroutine[Any, Any, None]
]
_STARTERS: Final[dict[str, _Starter]] = {"http": _run_element, "mqtt": mqtt.run}
