"""A virtual ELEMENT IoT server: the part of its REST interface that clients of a city use, for reading.

Routes, parameters and answers follow the vendor's public documentation (docs.element-iot.com: authentication,
pagination, rate limiting, packets, folders) and recorded answers of a real server. Where neither says anything (the
texts of errors) the form is that of the documented ones. Every answer is computed when asked for.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .element_json import Documents, Folder
from .messages import READING_DELAY_US, position_of
from .radio import Radio
from .schedule import Order, Schedule, Transmission
from .world import Device

DEFAULT_KEY = "virtual-dortmund"
DEFAULT_LIMIT = 10
DEFAULT_TIMEOUT_MS = 30_000
RATE_BUCKET_MS = 10_000
STREAM_LINES_PER_CHUNK = 50
STREAM_WINDOW = 500
DIRECTIONS = {"asc": False, "ascending": False, "desc": True, "descending": True}

type Kind = Literal["packets", "readings"]


class ApiError(Exception):
    """A request that gets an error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Query:
    """The understood parameters of a request for packets or readings; times in microseconds, bounds excluded."""

    limit: int
    order: Order
    descending: bool
    after_us: int | None
    before_us: int | None
    retrieve_after: str | None
    timeout_ms: int
    packet_type: str | None


@dataclass(slots=True)
class RateLimit:
    """The bucket of one API key: so many requests per ten seconds."""

    requests: int
    monotonic_s: Callable[[], float]
    remaining: int = 0
    ends_s: float = field(default=0.0)

    def take(self) -> tuple[bool, dict[str, str]]:
        """Whether one more request is allowed, and the headers that every answer carries."""
        now_s = self.monotonic_s()
        if now_s >= self.ends_s:
            self.ends_s = now_s + RATE_BUCKET_MS / 1000
            self.remaining = self.requests
        allowed = self.remaining > 0
        self.remaining -= allowed
        return allowed, {
            "x-ratelimit-limit": f"{self.requests}/{RATE_BUCKET_MS}ms",
            "x-ratelimit-reset": str(max(0, round((self.ends_s - now_s) * 1000))),
            "x-ratelimit-remaining": str(self.remaining),
        }


def parse_time_us(name: str, text: str) -> int:
    """Microseconds from any of the documented forms: epoch seconds, ISO 8601 basic or extended, or a date.

    A time without offset is UTC. Raises ApiError 400.
    """
    try:
        if text.isdigit() and len(text) != 8:
            return int(text) * 1_000_000
        # A plus sign in a URL that was not escaped arrives as a blank.
        moment = datetime.fromisoformat(text.replace(" +", "+").replace(" ", "+"))
    except ValueError:
        raise ApiError(400, f"{name} is not a valid date") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole_s = int(moment.replace(microsecond=0).timestamp())
    return whole_s * 1_000_000 + moment.microsecond


def _integer(name: str, text: str | None, default: int, low: int, high: int) -> int:
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ApiError(400, f"{name} must be an integer") from None
    if not low <= value <= high:
        raise ApiError(400, f"{name} must be between {low} and {high}")
    return value


def parse_query(request: Request, kind: Kind) -> Query:
    """The parameters of a request for packets or readings. Raises ApiError 400."""
    given = request.query_params
    own_time = "transceived_at" if kind == "packets" else "measured_at"
    # Packets come in the order of their transmission, everything else in the order of insertion (pagination page).
    sort = given.get("sort", own_time if kind == "packets" else "inserted_at")
    if sort not in (own_time, "inserted_at"):
        raise ApiError(400, f"sort must be {own_time} or inserted_at")
    direction = given.get("sort_direction", "descending")
    if direction not in DIRECTIONS:
        raise ApiError(400, "sort_direction must be ascending or descending")
    after, before = given.get("after"), given.get("before")
    return Query(
        limit=_integer("limit", given.get("limit"), DEFAULT_LIMIT, 1, 100),
        order="sent" if sort == own_time else "arrived",
        descending=DIRECTIONS[direction],
        after_us=None if after is None else parse_time_us("after", after),
        before_us=None if before is None else parse_time_us("before", before),
        retrieve_after=given.get("retrieve_after"),
        timeout_ms=_integer("timeout", given.get("timeout"), DEFAULT_TIMEOUT_MS, 250, 180_000),
        packet_type=given.get("packet_type"),
    )


class ElementServer:
    """Answers the requests of clients from a schedule."""

    def __init__(
        self,
        schedule: Schedule,
        radio: Radio,
        *,
        api_key: str = DEFAULT_KEY,
        requests_per_10_s: int = 50,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.schedule = schedule
        self.world = schedule.world
        self.documents = Documents(schedule, radio)
        self._api_key = api_key.encode()
        self._monotonic_s = monotonic_s
        self._rate_limit = RateLimit(requests_per_10_s, monotonic_s)
        self._by_slug = {device.name.lower(): device for device in schedule.devices}
        self._by_id = {self.documents.id_of(device): device for device in schedule.devices}
        self._by_name = {device.name: device for device in schedule.devices}
        self._by_eui = {device.dev_eui: device for device in schedule.devices}

    def app(self) -> Starlette:
        """The server as an ASGI application; all routes lie under ``/api/v1``."""
        base = "/api/v1"
        routes = [
            Route(f"{base}/tags", self._guarded(self._tags)),
            Route(f"{base}/tags/{{tag}}", self._guarded(self._tag)),
            Route(f"{base}/tags/{{tag}}/devices", self._guarded(self._devices)),
            Route(f"{base}/devices", self._guarded(self._devices)),
            Route(f"{base}/devices/{{device}}", self._guarded(self._device)),
            Route(f"{base}/devices/by-name/{{name}}", self._guarded(self._devices_by)),
            Route(f"{base}/devices/by-eui/{{eui}}", self._guarded(self._devices_by)),
        ]
        for owner in ("tags/{tag}", "devices/{device}", "devices/by-name/{name}", "devices/by-eui/{eui}"):
            routes += [
                Route(f"{base}/{owner}/{{kind:str}}/stream", self._guarded(self._stream)),
                Route(f"{base}/{owner}/{{kind:str}}", self._guarded(self._page)),
            ]
        return Starlette(routes=routes, exception_handlers={404: self._unknown_route})

    def _guarded(
        self, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler in the checks that come first: API key, then rate limit."""

        async def guarded(request: Request) -> Response:
            headers: dict[str, str] = {}
            try:
                key = request.query_params.get("auth", "")
                if not hmac.compare_digest(key.encode(), self._api_key):
                    raise ApiError(401, "Unauthorized")
                allowed, headers = self._rate_limit.take()
                if not allowed:
                    raise ApiError(429, "Too Many Requests")
                response = await handler(request)
            except ApiError as error:
                response = error_answer(error.status, str(error))
            response.headers.update(headers)
            return response

        return guarded

    async def _unknown_route(self, request: Request, exc: Exception) -> Response:
        return error_answer(404, "Not Found")

    # -- folders and devices ------------------------------------------------------------------------------------

    def _folder(self, request: Request) -> Folder:
        wanted = request.path_params["tag"]
        for folder in self.documents.folders.values():
            if wanted in (folder.slug, folder.id):
                return folder
        raise ApiError(404, "Not Found")

    def _one_device(self, request: Request) -> Device:
        given = request.path_params
        found: Device | None
        if "name" in given:
            found = self._by_name.get(given["name"])
        elif "eui" in given:
            found = self._by_eui.get(given["eui"].lower())
        else:
            found = self._by_slug.get(given["device"]) or self._by_id.get(given["device"])
        if found is None:
            raise ApiError(404, "Not Found")
        return found

    async def _tags(self, request: Request) -> Response:
        folders = sorted(self.documents.folders.values(), key=lambda folder: folder.inserted_at)
        return list_page(request, folders, lambda folder: folder.id, self.documents.folder)

    async def _tag(self, request: Request) -> Response:
        return answer(
            {"body": self.documents.folder(self._folder(request), detailed=True), "ok": True, "status": 200}
        )

    async def _devices(self, request: Request) -> Response:
        if "tag" in request.path_params:
            devices = self.documents.devices_in(self._folder(request))
        else:
            devices = list(self.schedule.devices)
        devices.sort(key=lambda device: (self.documents.inserted_at(device), device.index))
        detailed = request.query_params.get("with_profile") == "true"
        return list_page(
            request,
            devices,
            self.documents.id_of,
            lambda device: self.documents.device(device, detailed=detailed),
        )

    async def _devices_by(self, request: Request) -> Response:
        return list_page(
            request,
            [self._one_device(request)],
            self.documents.id_of,
            lambda device: self.documents.device(device, detailed=False),
        )

    async def _device(self, request: Request) -> Response:
        device = self._one_device(request)
        return answer({"body": self.documents.device(device, detailed=True), "ok": True, "status": 200})

    # -- packets and readings -----------------------------------------------------------------------------------

    def _kind(self, request: Request) -> Kind:
        kind = request.path_params["kind"]
        if kind == "packets":
            return "packets"
        if kind == "readings":
            return "readings"
        raise ApiError(404, "Not Found")

    def _owner_devices(self, request: Request) -> Sequence[Device]:
        if "tag" in request.path_params:
            return self.documents.devices_in(self._folder(request))
        return [self._one_device(request)]

    def documents_of(self, kind: Kind, devices: Sequence[Device], query: Query) -> Iterator[dict[str, Any]]:
        """The matching documents in the wanted order; computed as far as the caller reads. Raises ApiError 400."""
        start: tuple[int, int, int] | None = None
        if query.retrieve_after is not None:
            position = position_of(self.world.seed, query.retrieve_after)
            if position is None:
                raise ApiError(400, "retrieve_after is not the id of an item")
            start = position.key(query.order)
        if query.packet_type not in (None, "up"):
            return iter(())
        return self._generate(kind, devices, query, start)

    def _generate(
        self, kind: Kind, devices: Sequence[Device], query: Query, start: tuple[int, int, int] | None
    ) -> Iterator[dict[str, Any]]:
        for item in self._transmissions(kind, devices, query, start):
            document = self.documents.packet(item) if kind == "packets" else self.documents.reading(item)
            if document is not None:
                yield document

    def _transmissions(
        self, kind: Kind, devices: Sequence[Device], query: Query, start: tuple[int, int, int] | None
    ) -> Iterator[Transmission]:
        delay_us = READING_DELAY_US if kind == "readings" else 0
        now_us = self.schedule.clock.now_us()
        low_us, high_us = self.schedule.begin_us, now_us + 1
        # Both bounds speak of the time of insertion; what was inserted before was also sent before.
        after_us = None if query.after_us is None else query.after_us - delay_us
        before_us = None if query.before_us is None else query.before_us - delay_us
        if before_us is not None:
            high_us = min(high_us, before_us)
        if after_us is not None and query.order == "arrived":
            low_us = max(low_us, after_us + 1)
        elif after_us is not None:
            low_us = max(low_us, after_us + 1 - self.schedule.longest_delay_us)
        if start is not None and query.descending:
            high_us = min(high_us, start[0] + 1)
        elif start is not None:
            low_us = max(low_us, start[0])
        for since_us, until_us in self._windows(devices, low_us, high_us, query):
            items = self.schedule.window(since_us, until_us, query.order, devices)
            for item in reversed(items) if query.descending else items:
                if item.arrived_us + delay_us > now_us:
                    continue
                if after_us is not None and item.arrived_us <= after_us:
                    continue
                if before_us is not None and item.arrived_us >= before_us:
                    continue
                key = item.key(query.order)
                if start is None or (key < start if query.descending else key > start):
                    yield item

    def _windows(
        self, devices: Sequence[Device], low_us: int, high_us: int, query: Query
    ) -> Iterator[tuple[int, int]]:
        """Time windows that hold about one page each, in the wanted direction."""
        start_us = int(self.schedule.clock.started_s * 1e6)
        edge_us = high_us if query.descending else low_us
        while low_us < high_us and (edge_us > low_us if query.descending else edge_us < high_us):
            # Just before the edge when going back, just after it when going forward.
            probe_s = (edge_us - 1 if query.descending else edge_us) / 1e6
            rate = max(1e-6, self.schedule.messages_per_s(probe_s, devices))
            span_us = int(1e6 * (query.limit + 10) / rate)
            if query.descending:
                until_us, edge_us = edge_us, max(low_us, edge_us - span_us)
                if edge_us < start_us < until_us:
                    edge_us = start_us
                yield edge_us, until_us
            else:
                since_us, edge_us = edge_us, min(high_us, edge_us + span_us)
                if since_us < start_us < edge_us:
                    edge_us = start_us
                yield since_us, edge_us

    async def _page(self, request: Request) -> Response:
        kind = self._kind(request)
        devices = self._owner_devices(request)
        query = parse_query(request, kind)
        body: list[dict[str, Any]] = []
        more = False
        for document in self.documents_of(kind, devices, query):
            if len(body) == query.limit:
                more = True
                break
            body.append(document)
        content: dict[str, Any] = {"body": body, "ok": True}
        if more:
            content["retrieve_after_id"] = body[-1]["id"]
        return answer(content | {"status": 200})

    async def _stream(self, request: Request) -> Response:
        kind = self._kind(request)
        query = replace(parse_query(request, kind), limit=STREAM_WINDOW)
        documents = self.documents_of(kind, self._owner_devices(request), query)
        return StreamingResponse(self._lines(documents, query.timeout_ms), media_type="application/x-ndjson")

    async def _lines(self, documents: Iterator[dict[str, Any]], timeout_ms: int) -> AsyncIterator[bytes]:
        """Newline-delimited JSON; ends with an error line when it takes longer than allowed.

        Other requests and the MQTT side get their turn after every chunk.
        """
        ends_s = self._monotonic_s() + timeout_ms / 1000
        lines: list[bytes] = []
        for document in documents:
            lines.append(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
            if len(lines) < STREAM_LINES_PER_CHUNK:
                continue
            yield b"".join(lines)
            lines = []
            await asyncio.sleep(0)
            if self._monotonic_s() > ends_s:
                message = (
                    "Database timeout. Try allowing more time by using the timeout query param "
                    f"(in milliseconds). Current timeout: {timeout_ms}."
                )
                yield orjson.dumps({"error": message, "ok": False}, option=orjson.OPT_APPEND_NEWLINE)
                return
        if lines:
            yield b"".join(lines)


def answer(content: dict[str, Any], status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")


def error_answer(status: int, message: str) -> Response:
    """An error in the server's form."""
    return answer({"error": message, "ok": False, "status": status}, status)


def list_page[T](
    request: Request, items: list[T], identify: Callable[[T], str], show: Callable[[T], dict[str, Any]]
) -> Response:
    """A page of a list that is small enough to be held; ``items`` come in ascending order of insertion."""
    given = request.query_params
    limit = _integer("limit", given.get("limit"), DEFAULT_LIMIT, 1, 100)
    direction = given.get("sort_direction", "descending")
    if direction not in DIRECTIONS:
        raise ApiError(400, "sort_direction must be ascending or descending")
    if DIRECTIONS[direction]:
        items = items[::-1]
    first = 0
    after = given.get("retrieve_after")
    if after is not None:
        identifiers = [identify(item) for item in items]
        if after not in identifiers:
            raise ApiError(400, "retrieve_after is not the id of an item")
        first = identifiers.index(after) + 1
    chosen = items[first : first + limit]
    content: dict[str, Any] = {"body": [show(item) for item in chosen], "ok": True}
    if first + limit < len(items):
        content["retrieve_after_id"] = identify(chosen[-1])
    return answer(content | {"status": 200})
