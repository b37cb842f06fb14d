"""Requests of a batch carried out: in their order, change sets together, references resolved."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from quartier.interfaces.sensorthings import api
from quartier.interfaces.sensorthings.answers import Refusal, refusal_of
from quartier.interfaces.sensorthings.batch.items import Done, Item
from quartier.interfaces.sensorthings.write.problems import BadField, below
from quartier.interfaces.sensorthings.write.service import QUICK, Answer, Asking, Writer
from quartier.interfaces.sensorthings.write.work import Who, transaction

LARGEST_ANSWER: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 128
_REFERENCE: Final = re.compile(r"/?\$([A-Za-z0-9._-]{1,100})(?=[/?(]|\Z)")


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
