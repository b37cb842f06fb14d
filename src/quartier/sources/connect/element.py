"""Reading ELEMENT IoT: folder after folder, in the order in which the server stored the packets.

The position is the last packet that is safe in the inbox. It lags a little behind, because two packets that a server
stores at the same moment may become visible in either order; what is asked for twice is recognised by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from quartier.intake.conveyor import Conveyor
from quartier.intake.inbox import MAXIMUM_BODY_BYTES, RawMessage
from quartier.sources.connect.element_client import PAGE_ITEMS, Document, ElementClient, Use
from quartier.sources.connect.http import ServerError
from quartier.sources.connect.report import Report, SourceConfig, pause
from quartier.sources.element import EUI_HEADER, NAME_HEADER
from quartier.sources.values import CUT_HEADER

log = structlog.get_logger(__name__)

_SETTLE: Final = timedelta(seconds=2)
_SURELY_SETTLED: Final = timedelta(seconds=60)
_FIRST_LOOK_BACK: Final = timedelta(hours=1)
_STREAM_IF_BEHIND: Final = timedelta(hours=1)
_DEVICES_EVERY_S: Final = 900.0
_DEVICES_AT_MOST_EVERY_S: Final = 60.0
_PAGES_IN_A_ROW: Final = 50
_BATCH: Final = 500
_REMEMBERED: Final = 20_000
_TOO_MANY_REQUESTS: Final = 429


@dataclass(slots=True)
class Position:
    """Where reading of a folder continues."""

    id: str
    inserted_at: datetime

    def as_json(self) -> dict[str, str]:
        """For the source's cursor."""
        return {"retrieve_after_id": self.id, "inserted_at": self.inserted_at.isoformat()}


class _Devices:
    """ELEMENT's ids of the devices, with the DevEUI and name that messages lack."""

    def __init__(self, client: ElementClient, tags: list[str]) -> None:
        self._client, self._tags = client, tags
        self._headers: dict[str, dict[str, str]] = {}
        self._loaded_at = float("-inf")

    async def refresh(self, *, at_most_every_s: float) -> None:
        """Ask for the list, unless that was done a moment ago. Raises ServerError."""
        now = asyncio.get_running_loop().time()
        if now - self._loaded_at < at_most_every_s:
            return
        self._loaded_at = now
        headers: dict[str, dict[str, str]] = {}
        for tag in self._tags:
            devices, _ = await self._client.devices(tag)
            for device in devices:
                known = {EUI_HEADER: device.dev_eui, NAME_HEADER: device.name[:200]}
                headers[device.id] = {name: value for name, value in known.items() if value}
        self._headers = headers

    async def headers_of(self, device_id: str) -> dict[str, str]:
        """The headers for a device's messages; a new device makes us ask again."""
        if device_id and device_id not in self._headers:
            await self.refresh(at_most_every_s=_DEVICES_AT_MOST_EVERY_S)
        return self._headers.get(device_id, {})


class Reader:
    """Reads the folders of one source."""

    def __init__(
        self, source: SourceConfig, client: ElementClient, conveyor: Conveyor, report: Report
    ) -> None:
        self._source, self._client, self._conveyor, self._report = source, client, conveyor, report
        self._use: Use = source.settings.get("use", "packets")
        self._devices = _Devices(client, source.settings["tags"])
        self._seen: dict[str, None] = {}
        self._stream = True

    async def run(self, stop: asyncio.Event) -> None:
        """Read until ``stop``. Raises ServerError when the server cannot be read."""
        while not stop.is_set():
            more = False
            try:
                await self._devices.refresh(at_most_every_s=_DEVICES_EVERY_S)
                for tag in self._source.settings["tags"]:
                    more |= await self._read(tag, stop)
                self._report.connected()
            except ServerError as error:
                if error.status != _TOO_MANY_REQUESTS:
                    raise
                await pause(stop, error.retry_after_s or 10)
                continue
            if not more:
                await pause(stop, self._source.settings.get("interval_s", 10))

    def _position(self, tag: str) -> Position | None:
        stored = self._report.cursor.get("tags", {}).get(tag)
        try:
            return Position(stored["retrieve_after_id"], datetime.fromisoformat(stored["inserted_at"]))
        except (KeyError, TypeError, ValueError):
            return None

    def _begin(self) -> datetime:
        since = self._source.settings.get("since")
        return datetime.fromisoformat(since) if since else datetime.now(UTC) - _FIRST_LOOK_BACK

    async def _read(self, tag: str, stop: asyncio.Event) -> bool:
        """Read what is new in a folder; whether there is more at once."""
        position = self._position(tag)
        after = position.inserted_at if position else self._begin()
        if self._stream and datetime.now(UTC) - after > _STREAM_IF_BEHIND:
            try:
                # What was stored in the very same moment as the last packet may not have been read yet.
                if position:
                    self._seen[position.id] = None
                await self._read_stream(tag, after - timedelta(milliseconds=1), stop)
            except ServerError as error:
                if error.status == _TOO_MANY_REQUESTS:
                    raise
                # Page by page is slower, but a page is never too much for the server's time limit.
                log.info("element.stream_ended", source=self._source.key, tag=tag, error=str(error))
                self._report.note(str(error))
                self._stream = False
            return True
        return await self._read_pages(tag, position, after, stop)

    async def _read_stream(self, tag: str, after: datetime, stop: asyncio.Event) -> None:
        async with aclosing(_batches(self._client.stream(tag, self._use, after=after))) as batches:
            async for documents in batches:
                await self._store(tag, documents)
                if stop.is_set():
                    return
        # Everything up to now is here: an empty folder must not be streamed for ever.
        if self._position(tag) is None or self._is_behind(tag):
            self._stream = False

    def _is_behind(self, tag: str) -> bool:
        position = self._position(tag)
        return position is not None and datetime.now(UTC) - position.inserted_at > _STREAM_IF_BEHIND

    async def _read_pages(
        self, tag: str, position: Position | None, after: datetime, stop: asyncio.Event
    ) -> bool:
        after_id = position.id if position else ""
        for _ in range(_PAGES_IN_A_ROW):
            try:
                page = await self._client.page(
                    tag, self._use, after_id=after_id, after=None if after_id else after
                )
            except ServerError as error:
                if not after_id or error.status not in (400, 404, 422):
                    raise
                # The packet that we stopped at was deleted there; its time still says where to go on.
                after_id = ""
                continue
            await self._store(tag, page.documents)
            if not page.next_id or not page.documents or len(page.documents) < PAGE_ITEMS:
                return False
            if stop.is_set():
                return False
            after_id = page.next_id
        return True

    async def _store(self, tag: str, documents: Iterable[Document]) -> None:
        """Put documents into the inbox, wait until all are durable, and move the position."""
        futures = []
        read: list[Position] = []
        for document in documents:
            if document.id:
                if document.inserted_at is not None:
                    read.append(Position(document.id, document.inserted_at))
                if document.id in self._seen:
                    continue
                self._seen[document.id] = None
            else:
                self._report.note(f"{tag}: a line that is no {self._use[:-1]}")
            message = await self._message(tag, document)
            future = await self._conveyor.send(message)
            future.add_done_callback(lambda done: None if done.cancelled() else self._report.arrived())
            futures.append(future)
        if futures:
            await asyncio.gather(*futures)
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._move(tag, read)

    def _move(self, tag: str, read: list[Position]) -> None:
        if not read:
            return
        newest = read[-1]
        settled = max(newest.inserted_at - _SETTLE, datetime.now(UTC) - _SURELY_SETTLED)
        position = next((one for one in reversed(read) if one.inserted_at <= settled), None)
        if position is None and len(read) >= PAGE_ITEMS:
            # So many at one moment: waiting for them to settle would mean to read this page for ever.
            position = newest
        before = self._position(tag)
        if position is None or (before is not None and position.inserted_at < before.inserted_at):
            return
        tags: dict[str, Any] = self._report.cursor.setdefault("tags", {})
        if tags.get(tag) != position.as_json():
            tags[tag] = position.as_json()
            self._report.moved()

    async def _message(self, tag: str, document: Document) -> RawMessage:
        headers = dict(await self._devices.headers_of(document.device_id))
        body = document.body
        if len(body) > MAXIMUM_BODY_BYTES:
            headers[CUT_HEADER] = str(len(body))
            body = body[:4096]
        return RawMessage(
            municipality=self._source.municipality,
            source=self._source.key,
            kind="element",
            received_at=datetime.now(UTC),
            body=body,
            topic=f"tags/{tag}/{self._use}",
            headers=headers,
        )


async def _batches(documents: AsyncGenerator[Document]) -> AsyncGenerator[list[Document]]:
    batch: list[Document] = []
    try:
        async with aclosing(documents):
            async for one in documents:
                batch.append(one)
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
    except ServerError:
        # What came before the error is good.
        if batch:
            yield batch
        raise
    if batch:
        yield batch


async def run(source: SourceConfig, conveyor: Conveyor, report: Report, stop: asyncio.Event) -> None:
    """Read a source until ``stop``. Raises ServerError."""
    async with ElementClient(
        source.settings["url"],
        source.credentials["api_key"],
        timeout_ms=source.settings.get("timeout_ms", 20_000),
    ) as client:
        await Reader(source, client, conveyor, report).run(stop)
