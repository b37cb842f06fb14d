"""The interface's answer as the page shows it: laid out, with links to go on with, and what is wrong in its place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit

from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from quartier.portal.sensorthings.ask import Answer, Question, base_url
from quartier.portal.sensorthings.programs import Shape

MAXIMUM_LINES: Final = 400
_FLAT_LIST: Final = re.compile(r"\[\n\s*([^\[\]{}]{1,300}?)\n\s*\]")
_ADDRESS: Final = re.compile(r"&quot;(https?://[^\s<>]+?/sensorthings/[^\s<>]*?)&quot;")


@dataclass(frozen=True, slots=True)
class Marked:
    """A text with the place where it went wrong."""

    option: str
    before: str
    at: str
    after: str
    character: int


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything about an answer that the template needs."""

    status: int
    ok: bool
    duration_ms: int
    size: int
    text: SafeString
    shape: Shape
    whole: bool
    entries: int | None = None
    count: int | None = None
    is_estimate: bool = False
    next_address: str = ""
    message: str = ""
    marked: Marked | None = None


def shown(request: HttpRequest, question: Question, answer: Answer) -> Shown:
    """The answer, ready for the page."""
    text = answer.body.decode("utf-8", "replace")
    if answer.media_type.endswith("json") and answer.complete:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if found is not None:
            return _json(request, question, answer, found)
    return _lines(answer, text, "text" if answer.complete else "list", whole=answer.complete)


def try_address(text: str, city: str = "") -> str:
    """The address of the page with a question; it opens where the form begins."""
    query = {"anfrage": text} | ({"stadt": city} if city else {})
    return f"{reverse('sensorthings')}?{urlencode(query)}#anfrage"


def _json(request: HttpRequest, question: Question, answer: Answer, found: Any) -> Shown:
    entries = found.get("value") if isinstance(found, dict) else None
    is_list = isinstance(entries, list)
    laid_out = _FLAT_LIST.sub(_on_one_line, json.dumps(found, indent=2, ensure_ascii=False))
    base = _lines(answer, laid_out, "list" if is_list else "entity", whole=True, host=_host(request))
    if answer.status >= 400:
        return _refusal(base, question, found)
    if not isinstance(found, dict):
        return base
    link = found.get("@iot.nextLink", "")
    return replace(
        base,
        entries=len(entries) if isinstance(entries, list) else None,
        count=found.get("@iot.count"),
        is_estimate=bool(found.get("@iot.countIsEstimate")),
        next_address=_of_address(link, _host(request)) if link else "",
    )


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r",\n\s*", ", ", found[1]) + "]"


def _lines(answer: Answer, text: str, shape: Shape, *, whole: bool, host: str = "") -> Shown:
    """The beginning of the text, with our own addresses as links."""
    lines = text.split("\n", MAXIMUM_LINES)
    if len(lines) > MAXIMUM_LINES:
        whole, lines = False, lines[:MAXIMUM_LINES]
    escaped = escape("\n".join(lines))
    if host:
        escaped = mark_safe(_ADDRESS.sub(lambda found: _linked(found[1], host), escaped))  # noqa: S308 (escaped)
    return Shown(
        status=answer.status,
        ok=answer.status < 400,
        duration_ms=max(1, round(answer.duration_ms)),
        size=len(answer.body),
        text=escaped,
        shape=shape,
        whole=whole,
    )


def _linked(escaped_address: str, host: str) -> str:
    """An address in the JSON as a link that asks it on this page."""
    address = escaped_address.replace("&amp;", "&").replace("&#x27;", "'")
    target = _of_address(address, host)
    if not target:
        return f"&quot;{escaped_address}&quot;"
    return format_html('"<a href="{}">{}</a>"', target, mark_safe(escaped_address))  # noqa: S308 (escaped already)


def _of_address(address: str, host: str) -> str:
    """The page with the question of an address of ours; empty for others'."""
    parts = urlsplit(address)
    if parts.netloc != host:
        return ""
    question = Question.of_address(parts.path, parts.query)
    return try_address(question.text, question.city)


def _host(request: HttpRequest) -> str:
    return urlsplit(base_url(request)).netloc


def _refusal(base: Shown, question: Question, found: Any) -> Shown:
    message = str(found.get("message", "")) if isinstance(found, dict) else ""
    option, character = found.get("option"), found.get("character")
    marked = None
    if isinstance(option, str) and isinstance(character, int):
        marked = _mark(option, character, _text_of(option, question))
    return replace(base, message=message, marked=marked)


def _text_of(option: str, question: Question) -> str:
    if option == "path":
        return unquote(question.path)
    names = {name.lower().lstrip("$"): value for name, value in question.options()}
    return names.get(option.lower().lstrip("$"), "")


def _mark(option: str, character: int, text: str) -> Marked:
    """The word at a place, or the end of the text."""
    start = min(max(character - 1, 0), len(text))
    word = re.compile(r"\w+|.", re.DOTALL).match(text, start)
    end = word.end() if word else start
    return Marked(option, text[:start], text[start:end], text[end:], character)
