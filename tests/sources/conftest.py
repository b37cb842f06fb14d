"""People, cities and tokens for the tests of this room."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from quartier.engines.nats import Server as Nats
from quartier.sources.connect.mqtt import OwnBroker

if TYPE_CHECKING:
    from quartier.cities.models import Municipality, Person
    from quartier.cities.rules import Actor


@pytest.fixture
def own_broker(nats_server: Nats) -> OwnBroker:
    """The test server's MQTT listener, as the inner user reaches it."""
    return broker_of(nats_server)


def broker_of(server: Nats) -> OwnBroker:
    """A server's MQTT listener, as the inner user reaches it."""
    parts = urlsplit(server.url)
    return OwnBroker(
        "127.0.0.1", server.mqtt_port, unquote(parts.username or ""), unquote(parts.password or "")
    )


def start_again(server: Nats) -> subprocess.Popen[bytes]:
    """Start a killed server again on its ports, as the supervisor does."""
    with (server.folder / "nats.log").open("ab") as log:
        return subprocess.Popen(server.process.args, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture
def make_actor(db: None) -> Callable[..., Actor]:
    """Make a person with a role in a municipality (None: in all) and return the actor."""
    from quartier.cities.models import Person, RoleAssignment
    from quartier.cities.rules import NOBODY, actor_of

    def make(role: str | None, municipality: Municipality | None = None) -> Actor:
        if role is None:
            return NOBODY
        person = Person.objects.create_user(f"{role}-{Person.objects.count()}@example.org")
        if role != "citizen":
            RoleAssignment.objects.create(person=person, role=role, municipality=municipality)
        return actor_of(person)

    return make


@dataclass(slots=True)
class Maker:
    """A person with the role of a maker, and a token with the scope to send."""

    person: Person
    actor: Actor
    token: str


def make_maker(municipality: Municipality, *, scopes: tuple[str, ...] = ("observations:write",)) -> Maker:
    """A maker in ``municipality``."""
    from quartier.cities import tokens
    from quartier.cities.models import Person, RoleAssignment
    from quartier.cities.rules import actor_of

    person = Person.objects.create_user(f"maker-{Person.objects.count()}@example.org")
    RoleAssignment.objects.create(person=person, role="maker", municipality=municipality)
    _, text = tokens.make(person, name="test", scopes=list(scopes))
    return Maker(person, actor_of(person), text)


@dataclass(slots=True)
class Request:
    """A request that the fake server got."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(slots=True)
class FakeServer:
    """An HTTP server on a real socket; ``answer`` decides what it says: status, body, headers."""

    url: str
    answer: Callable[[Request], tuple[int, bytes, dict[str, str]]]
    requests: list[Request] = field(default_factory=list)


@pytest.fixture
def http_server() -> Iterator[FakeServer]:
    """A server that answers 404 until the test gives it something to say."""
    fake = FakeServer("", lambda request: (404, b'{"error": "Not Found", "ok": false}', {}))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            request = Request(
                unquote(parts.path),
                dict(parse_qsl(parts.query)),
                {name.lower(): value for name, value in self.headers.items()},
            )
            fake.requests.append(request)
            status, body, headers = fake.answer(request)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()
