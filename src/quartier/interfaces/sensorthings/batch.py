"""``POST /$batch``: many requests in one, as multipart/mixed (18-088 clause 10.6) or as JSON (OData 4.01, FROST).

Requests are carried out in their order, each with an answer of its own; those of a change set (or atomicity group)
happen together or not at all. A request may name what an earlier one made: ``$1`` in its address or as an ``@iot.id``.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from quartier.interfaces.sensorthings import api
from quartier.interfaces.sensorthings.answers import Refusal, refusal_of
from quartier.interfaces.sensorthings.write import values
from quartier.interfaces.sensorthings.write.problems import BadField, below
from quartier.interfaces.sensorthings.write.service import QUICK, Answer, Asking, Writer, json_of
from quartier.interfaces.sensorthings.write.work import Who, transaction

MOST_REQUESTS: Final = 5_000
LARGEST_ANSWER: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 128
# So many requests of a batch count as one against the limit of the caller.
_PER_COUNTED: Final = 20
_METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")
_BOUNDARY: Final = re.compile(r"boundary=(?:\"([^\"]{1,200})\"|([^\s;\"]{1,200}))", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"/?\$([A-Za-z0-9._-]{1,100})(?=[/?(]|\Z)")
_REQUEST_LINE: Final = re.compile(r"([A-Z]{3,7}) (\S{1,8000})(?: HTTP/\d(?:\.\d)?)?")


@dataclass(slots=True)
class Item:
    """One request of a batch; ``group`` is its change set."""

    id: str
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    group: str = ""
    depends_on: tuple[str, ...] = ()
    at: str = ""


@dataclass(slots=True)
class Done:
    """A request with its answer."""

    item: Item
    answer: Answer

    @property
    def good(self) -> bool:
        """Whether it was carried out."""
        return self.answer.status < 400


class Batch:
    """One batch being carried out."""

    def __init__(self, request: Request, writer: Writer, who: Who) -> None:
        self._request = request
        self._writer = writer
        self._who = who
        self._made: dict[str, str] = {}
        self._failed: set[str] = set()
        self._size = 0

    async def run(self, items: list[Item]) -> list[Done]:
        """All of them, in order."""
        done: list[Done] = []
        place = 0
        while place < len(items):
            item = items[place]
            end = place + 1
            if item.group:
                while end < len(items) and items[end].group == item.group:
                    end += 1
                done += await self._together(items[place:end])
            elif _is_quick(item):
                while end < len(items) and end - place < _AT_ONCE and _is_quick(items[end]):
                    end += 1
                done += await asyncio.gather(*(self._alone(one) for one in items[place:end]))
            else:
                done.append(await self._alone(item))
            place = end
        return done

    async def _alone(self, item: Item) -> Done:
        try:
            self._check_dependencies(item)
            if item.method == "GET":
                return self._noted(item, await self._read(item))
            return self._noted(item, await self._writer.answer(self._asking(item), self._who))
        except Exception as error:
            return self._noted(item, _refused(error))

    async def _together(self, items: list[Item]) -> list[Done]:
        answers: list[Answer] = []
        writer, who = self._writer, self._who
        before = dict(self._made)
        try:
            async with transaction(writer.pool, who, writer.intake, writer.streams) as work:
                for item in items:
                    self._check_dependencies(item, items)
                    if item.method == "GET":
                        raise Refusal(400, "a change set holds no GET")
                    answer_ = await writer.within(work, self._asking(item))
                    answers.append(answer_)
                    if answer_.made:
                        self._made[item.id] = answer_.made
        except Exception as error:
            self._made = before
            refused = _refused(error)
            guilty = min(len(answers), len(items) - 1)
            text = f"request {items[guilty].id} of the same change set failed, so nothing of it was done"
            other = _refused(Refusal(424, text))
            return [self._noted(item, refused if n == guilty else other) for n, item in enumerate(items)]
        return [self._noted(item, one) for item, one in zip(items, answers, strict=True)]

    def _noted(self, item: Item, answer_: Answer) -> Done:
        self._size += len(answer_.body)
        if self._size > LARGEST_ANSWER:
            answer_ = _refused(Refusal(413, "the answers of the batch are too large; ask for less"))
        if answer_.status >= 400:
            self._failed.add(item.id)
        elif answer_.made:
            self._made[item.id] = answer_.made
        return Done(item, answer_)

    def _check_dependencies(self, item: Item, group: list[Item] | None = None) -> None:
        inside = {one.id for one in group or ()} | {item.group}
        for one in item.depends_on:
            if one in self._failed and one not in inside:
                raise Refusal(424, f"request {one}, on which this depends, failed")

    # -- references

    def _asking(self, item: Item) -> Asking:
        path, query = self._address(item)
        return Asking(item.method, path, query, item.headers, self._resolved(item.body, ""))

    def _address(self, item: Item) -> tuple[str, bytes]:
        url, _, query = item.url.partition("?")
        url = _relative(url)
        if (found := _REFERENCE.match(url)) and found[1] != "batch":
            url = self._known(found[1], "url") + url[found.end() :]
        return unquote(url), query.encode()

    def _known(self, id_: str, at: str) -> str:
        if id_ in self._failed:
            raise Refusal(424, f"request {id_}, to which this refers, failed")
        made = self._made.get(id_)
        if made is None:
            raise BadField(at, f"${id_} refers to no earlier request that made something")
        return made

    def _resolved(self, value: Any, at: str) -> Any:
        """A body with the ids of what earlier requests made in place of references."""
        if isinstance(value, dict):
            found = {}
            for name, one in value.items():
                place = below(at, name)
                if name in ("@iot.id", "id") and isinstance(one, str) and one.startswith("$"):
                    found[name] = _key_in(self._known(one[1:], place))
                else:
                    found[name] = self._resolved(one, place) if isinstance(one, dict | list) else one
            return found
        if isinstance(value, list):
            return [
                self._resolved(one, below(at, n)) if isinstance(one, dict | list) else one
                for n, one in enumerate(value)
            ]
        return value

    # -- reading

    async def _read(self, item: Item) -> Answer:
        path, query = self._address(item)
        scope = dict(self._request.scope)
        wanted = (b"accept", b"prefer", b"content-type", b"content-length")
        kept = [pair for pair in scope["headers"] if pair[0] not in wanted]
        own = [
            (name.encode(), value.encode("latin-1", "replace"))
            for name, value in item.headers.items()
            if name in ("accept", "prefer", "if-none-match")
        ]
        scope |= {
            "method": "GET",
            "query_string": query,
            "headers": kept + own,
            "path_params": self._request.path_params | {"path": path},
        }
        response = await api.read(Request(scope))
        body = await _whole(response)
        headers = {
            name: response.headers[name] for name in ("etag", "content-type") if name in response.headers
        }
        return Answer(response.status_code, headers, body)


async def _whole(response: Response) -> bytes:
    if not isinstance(response, StreamingResponse):
        return bytes(response.body)
    pieces, size = [], 0
    async for piece in response.body_iterator:
        pieces.append(piece.encode() if isinstance(piece, str) else bytes(piece))
        size += len(pieces[-1])
        if size > LARGEST_ANSWER:
            raise Refusal(413, "the answer is too large for a batch; ask for it alone")
    return b"".join(pieces)


def _refused(error: Exception) -> Answer:
    found = refusal_of(error)
    body = orjson.dumps({"code": found.status, "type": "error", "message": found.message})
    return Answer(found.status, dict(found.headers), body)


def _is_quick(item: Item) -> bool:
    """A plain observation that depends on nothing in the batch: many of them share a commit."""
    return (
        item.method == "POST"
        and not item.group
        and not item.depends_on
        and "$" not in item.url
        and QUICK.fullmatch(_relative(item.url)) is not None
        and isinstance(item.body, dict)
        and not any(
            isinstance(one, dict) and str(one.get("@iot.id", "")).startswith("$")
            for one in item.body.values()
        )
    )


def _relative(url: str) -> str:
    """The path behind the version, of a relative or an absolute address."""
    for version in ("/v1.1/", "/v1.0/"):
        before, found, rest = url.partition(version)
        if found and (before.startswith(("/", "http://", "https://")) or not before):
            return rest
    return url.lstrip("/")


def _key_in(path: str) -> Any:
    text = path[path.index("(") + 1 : -1]
    return text.strip("'") if text.startswith("'") else int(text)


# -- JSON


def read_json(posted: Any) -> list[Item]:
    """The requests of a JSON batch. Raises BadField."""
    if not isinstance(posted, dict) or not isinstance(posted.get("requests"), list):
        raise BadField("requests", 'is missing: expected {"requests": […]}')
    requests = posted["requests"]
    if len(requests) > MOST_REQUESTS:
        raise Refusal(
            413, f"at most {MOST_REQUESTS} requests in a batch, found {len(requests)}; use CreateObservations"
        )
    items: list[Item] = []
    seen: set[str] = set()
    groups: list[str] = []
    for n, one in enumerate(requests):
        item = _item(one, below("requests", n))
        if item.id in seen:
            raise BadField(below(item.at, "id"), f"{item.id!r} is given twice")
        if item.group:
            if item.group in groups and groups[-1] != item.group:
                raise BadField(
                    below(item.at, "atomicityGroup"),
                    f"the requests of {item.group!r} do not follow each other",
                )
            if item.group not in groups:
                groups.append(item.group)
        elif groups and groups[-1]:
            groups.append("")
        for other in item.depends_on:
            if other not in seen and other not in groups:
                raise BadField(below(item.at, "dependsOn"), f"{other[:60]!r} is no earlier request")
        seen.add(item.id)
        items.append(item)
    return items


def _item(one: Any, at: str) -> Item:
    if not isinstance(one, dict):
        raise BadField(at, f"expected an object, found {values.kind_of(one)}")
    id_ = one.get("id")
    if isinstance(id_, int) and not isinstance(id_, bool):
        id_ = str(id_)
    if not isinstance(id_, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", id_):
        raise BadField(below(at, "id"), "expected 1 to 100 letters, digits, '.', '-' or '_'")
    method = one.get("method")
    if not isinstance(method, str) or method.upper() not in _METHODS:
        raise BadField(below(at, "method"), f"expected one of {', '.join(_METHODS)}")
    url = one.get("url")
    if not isinstance(url, str) or not url or len(url) > 8000:
        raise BadField(below(at, "url"), "expected an address")
    group = one.get("atomicityGroup") or ""
    depends = one.get("dependsOn") or []
    if not isinstance(group, str) or len(group) > 100:
        raise BadField(below(at, "atomicityGroup"), "expected a name")
    if (
        not isinstance(depends, list)
        or not all(isinstance(other, str) for other in depends)
        or len(depends) > 1000
    ):
        raise BadField(below(at, "dependsOn"), "expected a list of ids of requests")
    headers = one.get("headers") or {}
    if not isinstance(headers, dict):
        raise BadField(below(at, "headers"), f"expected an object, found {values.kind_of(headers)}")
    named = {str(name).lower(): str(value)[:1000] for name, value in headers.items()}
    return Item(id_, method.upper(), url, named, one.get("body"), group, tuple(depends), at)


def write_json(done: list[Done]) -> Answer:
    """The answer of a JSON batch."""
    responses = []
    for one in done:
        found: dict[str, Any] = {"id": one.item.id, "status": one.answer.status}
        if one.item.group:
            found["atomicityGroup"] = one.item.group
        if one.answer.headers:
            found["headers"] = one.answer.headers
        if (location := one.answer.headers.get("location")) is not None:
            found["location"] = location
        if one.answer.body:
            kind = one.answer.headers.get("content-type", "application/json")
            found["body"] = orjson.Fragment(one.answer.body) if "json" in kind else one.answer.body.decode()
        responses.append(found)
    return Answer(200, {"content-type": "application/json"}, orjson.dumps({"responses": responses}))


# -- multipart


def read_multipart(content_type: str, text: bytes) -> list[Item]:
    """The requests of a multipart batch. Raises Refusal."""
    items: list[Item] = []
    for n, (headers, content) in enumerate(_parts(content_type, text, "batch")):
        at = f"part {n + 1}"
        kind = headers.get("content-type", "")
        if kind.lower().startswith("multipart/"):
            group = f"change set {n + 1}"
            for m, (inner, request) in enumerate(_parts(kind, content, at)):
                items.append(_http(inner, request, f"{at}, request {m + 1}", f"{n + 1}.{m + 1}", group))
        else:
            items.append(_http(headers, content, at, f"{n + 1}", ""))
        if len(items) > MOST_REQUESTS:
            raise Refusal(413, f"at most {MOST_REQUESTS} requests in a batch; use CreateObservations")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise BadField(item.at, f"the Content-ID {item.id} is given twice")
        seen.add(item.id)
    return items


def _parts(content_type: str, text: bytes, at: str) -> list[tuple[dict[str, str], bytes]]:
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadField(at, "the Content-Type says no boundary")
    mark = b"--" + (found[1] or found[2]).encode()
    # A boundary stands at the beginning of a line (RFC 2046 section 5.1.1).
    pieces = (b"\r\n" + text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")).split(b"\r\n" + mark)
    if len(pieces) < 2:
        raise BadField(at, "the boundary occurs nowhere")
    if len(pieces) > MOST_REQUESTS + 2:
        raise Refusal(413, f"at most {MOST_REQUESTS} requests in a batch; use CreateObservations")
    parts = []
    closed = False
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            closed = True
            break
        parts.append(_headed(piece.partition(b"\r\n")[2]))
    if not closed:
        raise BadField(at, "ends without its closing boundary")
    return parts


def _headed(text: bytes) -> tuple[dict[str, str], bytes]:
    head, _, content = text.partition(b"\r\n\r\n") if not text.startswith(b"\r\n") else (b"", b"", text[2:])
    headers = {}
    for line in head.split(b"\r\n")[:100]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")[:1000]
    return headers, content


def _http(headers: dict[str, str], content: bytes, at: str, number: str, group: str) -> Item:
    line, _, rest = content.lstrip(b"\r\n").partition(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line.decode("utf-8", "replace").strip())
    if found is None:
        raise BadField(at, "expected a request line such as POST Observations HTTP/1.1")
    method, url = found.groups()
    if method not in _METHODS:
        raise BadField(at, f"expected one of {', '.join(_METHODS)}, found {method}")
    inner, body = _headed(rest)
    id_ = headers.get("content-id") or inner.get("content-id") or f"_{number}"
    parsed = None
    if method not in ("GET", "DELETE"):
        try:
            parsed = json_of(body)
        except Refusal as error:
            raise BadField(at, error.message) from None
    return Item(id_.strip("<>"), method, url, inner, parsed, group, at=at)


def write_multipart(done: list[Done]) -> Answer:
    """The answer of a multipart batch."""
    boundary = f"batch_{secrets.token_hex(12)}"
    pieces: list[bytes] = []
    place = 0
    while place < len(done):
        group = done[place].item.group
        end = place + 1
        while group and end < len(done) and done[end].item.group == group:
            end += 1
        pieces.append(f"--{boundary}\r\n".encode())
        if not group:
            pieces.append(_written(done[place]))
        elif all(one.good for one in done[place:end]):
            inner = f"changeset_{secrets.token_hex(12)}"
            pieces.append(f"Content-Type: multipart/mixed; boundary={inner}\r\n\r\n".encode())
            pieces += [f"--{inner}\r\n".encode() + _written(one) for one in done[place:end]]
            pieces.append(f"--{inner}--\r\n".encode())
        else:
            # One answer for a change set that failed: that of the request which failed.
            guilty = next(one for one in done[place:end] if one.answer.status != 424 or one is done[end - 1])
            pieces.append(_written(guilty))
        place = end
    pieces.append(f"--{boundary}--\r\n".encode())
    return Answer(200, {"content-type": f"multipart/mixed; boundary={boundary}"}, b"".join(pieces))


def _written(one: Done) -> bytes:
    status = one.answer.status
    head = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if not one.item.id.startswith("_"):
        head.append(f"Content-ID: {one.item.id}")
    lines = [*head, "", f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    headers = dict(one.answer.headers)
    if one.answer.body:
        headers.setdefault("content-type", "application/json")
        headers["content-length"] = str(len(one.answer.body))
    lines += [f"{name.title()}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, "", ""])).encode() + one.answer.body + b"\r\n"


# -- both


async def answer(request: Request, writer: Writer, who: Who, text: bytes) -> Answer:
    """Carry out a batch. Raises Refusal where it cannot be understood as a whole; then nothing was done."""
    content_type = request.headers.get("content-type", "")
    written: Callable[[list[Done]], Answer]
    if content_type.lower().startswith("multipart/"):
        items, written = read_multipart(content_type, text), write_multipart
    else:
        items, written = read_json(json_of(text)), write_json
    if cost := len(items) // _PER_COUNTED:
        await api.admitted(request, cost)
    done: Awaitable[list[Done]] = Batch(request, writer, who).run(items)
    return written(await done)
