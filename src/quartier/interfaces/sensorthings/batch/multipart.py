"""A batch as multipart/mixed (18-088 clause 10.6, RFC 2046)."""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus
from typing import Final

from quartier.interfaces.sensorthings.answers import Refusal
from quartier.interfaces.sensorthings.batch.items import METHODS, MOST_REQUESTS, Done, Item
from quartier.interfaces.sensorthings.write.problems import BadField
from quartier.interfaces.sensorthings.write.service import Answer, json_of

_BOUNDARY: Final = re.compile(r"boundary=(?:\"([^\"]{1,200})\"|([^\s;\"]{1,200}))", re.IGNORECASE)
_REQUEST_LINE: Final = re.compile(r"([A-Z]{3,7}) (\S{1,8000})(?: HTTP/\d(?:\.\d)?)?")


def read(content_type: str, text: bytes) -> list[Item]:
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
    if method not in METHODS:
        raise BadField(at, f"expected one of {', '.join(METHODS)}, found {method}")
    inner, body = _headed(rest)
    id_ = headers.get("content-id") or inner.get("content-id") or f"_{number}"
    parsed = None
    if method not in ("GET", "DELETE"):
        try:
            parsed = json_of(body)
        except Refusal as error:
            raise BadField(at, error.message) from None
    return Item(id_.strip("<>"), method, url, inner, parsed, group, at=at)


def write(done: list[Done]) -> Answer:
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
