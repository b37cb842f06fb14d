"""The part of ELEMENT IoT's REST interface that we read (docs.element-iot.com: pagination, streaming, folders).

A device's JSON carries its radio keys. They are skipped while reading: only the fields named here ever become Python
objects. Packets and readings have no such fields in what was recorded; should one appear, it is taken out as well.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from quartier.sources.connect.http import Server, ServerError

PAGE_ITEMS: Final = 100
_MAXIMUM_LINE_BYTES: Final = 1024 * 1024
_MAXIMUM_DEVICES: Final = 100_000
# A JSON member whose name speaks of a secret, and its value: text, number or null.
# Words in the name of a JSON member that speak of a secret.
_SECRET: Final = re.compile("key|secret|password|token", re.IGNORECASE)
_SECRET_BYTES: Final = re.compile(rb"key|secret|password|token", re.IGNORECASE)

Use = Literal["packets", "readings"]


class _Options(msgspec.Struct):
    device_eui: str | None = None


class _Interface(msgspec.Struct):
    opts: _Options | None = None


class _Point(msgspec.Struct):
    coordinates: list[float] = []


class _Tag(msgspec.Struct):
    slug: str = ""


class _Interval(msgspec.Struct):
    days: float = 0
    secs: float = 0
    microsecs: float = 0


class _Statistics(msgspec.Struct):
    packet_interval: _Interval | None = None


_Text = str | int | float | bool | None


class _Profile(msgspec.Struct):
    """The fields that Dortmund's utility keeps of a sensor. Other fields of a profile are skipped."""

    hersteller: _Text = None
    geratetyp: _Text = None
    seriennummer: _Text = None
    strasse: _Text = None
    hausnummer: _Text = None
    plz: _Text = None
    installationsdatum: _Text = None


class ElementDevice(msgspec.Struct):
    """What we take of a device; everything else, its keys first of all, is skipped."""

    id: str
    name: str = ""
    slug: str = ""
    inserted_at: str = ""
    location: _Point | None = None
    interfaces: list[_Interface] | None = None
    tags: list[_Tag] | None = None
    fields: dict[str, _Profile | None] | None = None
    stats: _Statistics | None = None

    @property
    def dev_eui(self) -> str:
        """The DevEUI in lower case, or empty."""
        for interface in self.interfaces or []:
            if interface.opts and interface.opts.device_eui:
                return interface.opts.device_eui.lower()
        return ""

    @property
    def external_id(self) -> str:
        """What messages of this device are known by."""
        return self.dev_eui or self.id

    def profile(self, name: str) -> str:
        """A field of the device's profiles (``strasse``, ``seriennummer``) as text; empty where it has none."""
        for values in (self.fields or {}).values():
            found = getattr(values, name, None)
            if found is not None:
                return str(found).strip()
        return ""


class _One(msgspec.Struct):
    body: ElementDevice


class _Documents(msgspec.Struct):
    body: list[msgspec.Raw]
    retrieve_after_id: str | None = None


class _Head(msgspec.Struct):
    id: str | None = None
    device_id: str | None = None
    inserted_at: datetime | None = None
    error: str | None = None


_device = msgspec.json.Decoder(ElementDevice)
_one = msgspec.json.Decoder(_One)
_any = msgspec.json.Decoder()
_documents = msgspec.json.Decoder(_Documents)
_head = msgspec.json.Decoder(_Head)


class Document(NamedTuple):
    """A packet or reading as it came, with what is needed to go on after it. ``id`` is empty for a broken line."""

    body: bytes
    id: str = ""
    device_id: str = ""
    inserted_at: datetime | None = None


class Page(NamedTuple):
    """A page of documents; ``next_id`` is where the next one begins (None: this was the last)."""

    documents: list[Document]
    next_id: str | None


def scrub(body: bytes) -> bytes:
    """``body`` without the values of members that are named like secrets. Broken JSON is cut before such a name."""
    found = _SECRET_BYTES.search(body)
    if found is None:
        return body
    try:
        return msgspec.json.encode(_scrubbed(_any.decode(body)))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return body[: found.start()]


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: None if _SECRET.search(name) else _scrubbed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_scrubbed(inner) for inner in value]
    return value


def document(raw: bytes) -> Document:
    """Read what we need of a document. Raises ServerError where the line is the server's error message."""
    body = scrub(raw)
    try:
        head = _head.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Document(body)
    if head.error is not None and head.id is None:
        raise ServerError(f"the stream ended: {head.error[:200]}")
    return Document(body, head.id or "", head.device_id or "", head.inserted_at)


class ElementClient:
    """Asks one ELEMENT server. Use as ``async with``."""

    def __init__(self, url: str, api_key: str, *, timeout_ms: int = 20_000) -> None:
        self._timeout_ms = timeout_ms
        # The server gives up after its own limit; only a server that does not answer at all outlives it.
        self._server = Server(
            url, key=("auth", api_key), secret=api_key, read_timeout_s=timeout_ms / 1000 + 10
        )

    async def __aenter__(self) -> ElementClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.__aexit__()

    async def devices(self, tag: str) -> tuple[list[ElementDevice], list[str]]:
        """All devices of a folder, and what is wrong with those that cannot be read. Raises ServerError."""
        path = f"tags/{quote(tag, safe='')}/devices"
        found: list[ElementDevice] = []
        problems: list[str] = []
        parameters: dict[str, Any] = {"limit": PAGE_ITEMS, "with_profile": "true"}
        while True:
            answer = await self._list(path, parameters)
            for raw in answer.body:
                try:
                    found.append(_device.decode(raw))
                except msgspec.DecodeError as error:
                    # msgspec says which field is wrong, never what is in it.
                    problems.append(f"{path}: {error}")
            if not answer.retrieve_after_id or not answer.body or len(found) > _MAXIMUM_DEVICES:
                return found, problems
            parameters["retrieve_after"] = answer.retrieve_after_id

    async def device(self, slug: str) -> ElementDevice:
        """One device with its profiles, which a list may lack. Raises ServerError."""
        path = f"devices/{quote(slug, safe='')}"
        try:
            return _one.decode(await self._server.get(path, {})).body
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ServerError(f"{path}: the answer cannot be read: {error}") from None

    async def _list(self, path: str, parameters: dict[str, Any]) -> _Documents:
        try:
            return _documents.decode(await self._server.get(path, parameters))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ServerError(f"{path}: the answer cannot be read: {error}") from None

    async def page(self, tag: str, use: Use, *, after_id: str = "", after: datetime | None = None) -> Page:
        """Up to 100 documents in the order of their insertion, after ``after_id`` or after a time.

        Raises ServerError.
        """
        path = f"tags/{quote(tag, safe='')}/{use}"
        parameters = self._parameters(use, after)
        parameters["limit"] = PAGE_ITEMS
        if after_id:
            parameters["retrieve_after"] = after_id
        answer = await self._list(path, parameters)
        return Page([document(bytes(raw)) for raw in answer.body], answer.retrieve_after_id)

    async def stream(self, tag: str, use: Use, *, after: datetime | None) -> AsyncGenerator[Document]:
        """All documents after a time in the order of their insertion, one by one.

        Raises ServerError, also after some documents (the server's time was over).
        """
        path = f"tags/{quote(tag, safe='')}/{use}/stream"
        async with self._server.ask(path, self._parameters(use, after)) as response:
            rest = b""
            async for part in response.aiter_bytes():
                *lines, rest = (rest + part).split(b"\n")
                if len(rest) > _MAXIMUM_LINE_BYTES:
                    raise ServerError(f"{path}: a line is longer than {_MAXIMUM_LINE_BYTES} bytes")
                for line in lines:
                    if line.strip():
                        yield document(line)
            if rest.strip():
                yield document(rest)

    def _parameters(self, use: Use, after: datetime | None) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "sort": "inserted_at",
            "sort_direction": "asc",
            "timeout": self._timeout_ms,
        }
        if use == "packets":
            parameters["packet_type"] = "up"
        if after is not None:
            parameters["after"] = after.isoformat().replace("+00:00", "Z")
        return parameters
