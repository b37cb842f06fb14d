"""Topics: how an address is written as one, and how NATS writes a topic as a subject.

A slash becomes a dot there, a dot two slashes (NATS' own rule); a space is not possible and is written ``%20``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from quartier.config import config
from quartier.interfaces.sensorthings.query.ast import Options, Resource
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import parse_options, parse_resource

LONGEST: Final = 4096
_TOPIC: Final = re.compile(
    r"(?:tokens/(?P<token>[0-9]{1,18})/)?(?:(?P<city>[a-z0-9][a-z0-9-]{0,59})/)?(?P<version>v1\.[01])/(?P<rest>.+)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's parts. ``token_id`` is that of a token's own topics; ``retain`` asks for retained messages."""

    text: str
    token_id: int | None
    city: str
    version: str
    path: str
    query: str
    retain: bool = False

    @property
    def base(self) -> str:
        """The address of the service, as the bodies of messages name it."""
        return f"{config().public_url}/sensorthings{f'/{self.city}' if self.city else ''}/{self.version}"

    def parsed(self) -> tuple[Resource, Options]:
        """The address as the reader of queries sees it. Raises QueryError."""
        if "#" in self.text or any(level == "+" for level in self.text.split("/")):
            raise QueryError("a topic without + and # is needed to say what is wanted", option="topic")
        return parse_resource(self.path), parse_options(self.query)


def parse(text: str) -> Topic | None:
    """The parts of a topic; None if it is none of ours."""
    found = _TOPIC.fullmatch(text) if len(text) <= LONGEST else None
    if found is None or (found["city"] or "") == "tokens":
        return None
    path, _, query = found["rest"].partition("?")
    topic = Topic(
        text,
        int(found["token"]) if found["token"] else None,
        found["city"] or "",
        found["version"],
        path,
        query,
    )
    # An option of ours, not of the query: retained messages are a matter of the broker.
    parts = query.split("&")
    if "$retain=true" in parts:
        return replace(topic, query="&".join(one for one in parts if one != "$retain=true"), retain=True)
    return topic


def topic_of(subject: str) -> str:
    """The topic that NATS made a subject of."""
    return "/".join("" if level == "/" else level.replace("//", ".") for level in subject.split("."))


def subject_of(topic: str) -> str:
    """The subject that NATS makes of a topic without wildcards."""
    return ".".join(level.replace(".", "//") or "/" for level in topic.split("/"))
