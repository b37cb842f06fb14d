"""How a connector is doing: kept in memory, written to the source's row now and then.

A row per message would cost more than the message; a row every two seconds is what a person can see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from quartier.sources import metrics


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A source as its connector sees it. The credentials do not show up in its text form."""

    id: int
    municipality: str
    key: str
    kind: str
    settings: dict[str, Any]
    credentials: dict[str, str] = field(repr=False)


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` without the secrets, shortened for a line on a page."""
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, "•••")
    return text[:500]


class Report:
    """Health of one source. Connectors call the methods; the supervisor writes what changed."""

    def __init__(self, source: SourceConfig, cursor: dict[str, Any] | None = None) -> None:
        self.source = source
        self.cursor: dict[str, Any] = cursor or {}
        self.state = "new"
        self.failures = 0
        self.last_error = ""
        self.last_error_at: datetime | None = None
        self.last_message_at: datetime | None = None
        self.received = 0
        self.changed = asyncio.Event()
        self._received_since_start = 0

    def connected(self) -> None:
        """The other side answers."""
        if self.state != "ok":
            self.state = "ok"
            self.changed.set()
            metrics.CONNECTED.labels(self.source.key).set(1)

    def arrived(self, at: datetime | None = None) -> None:
        """A message is in the inbox."""
        self.received += 1
        self._received_since_start += 1
        self.last_message_at = at or datetime.now(UTC)
        self.changed.set()
        metrics.RECEIVED.labels(self.source.kind).inc()

    def moved(self) -> None:
        """The cursor has a new position."""
        self.changed.set()

    def failed(self, error: str) -> None:
        """The connection failed; the supervisor will try again."""
        self.state = "waiting"
        self.failures += 1
        self.note(error)
        metrics.CONNECTED.labels(self.source.key).set(0)

    def note(self, error: str) -> None:
        """Something went wrong that does not end the connection (a line that could not be read)."""
        self.last_error = redact(error, self.source.credentials.values())
        self.last_error_at = datetime.now(UTC)
        self.changed.set()

    def take_progress(self) -> int:
        """Messages since this was last asked."""
        taken, self._received_since_start = self._received_since_start, 0
        return taken


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but wake up when told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
