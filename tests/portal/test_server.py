"""What stands around every answer: headers, limits, static files."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from django.urls import reverse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from quartier.asgi import LARGER_REQUESTS_BYTES
from quartier.lorawan.gateways.cups_messages import LARGEST_UPDATE
from quartier.portal import assets, server
from quartier.portal.server import Around, Assets, Connected, LowerCaseHeaders


def client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver")


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def own_policy(_request: Request) -> Response:
    return PlainTextResponse("x", headers={"Content-Security-Policy": "default-src 'self'"})


def test_policy_allows_nothing_inline_and_nobody_else() -> None:
    policy = dict(
        part.strip().split(" ", 1) for part in server.content_security_policy().split(";") if part.strip()
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in " ".join(policy.values())


def test_policy_opens_for_the_base_map_and_the_sign_in_only() -> None:
    policy = server.content_security_policy(
        map_style="https://tiles.example/styles/a.json", sign_in="https://login.example:8443/realms/x"
    )
    assert "connect-src 'self' https://tiles.example;" in policy
    assert "img-src 'self' data: blob: https://tiles.example;" in policy
    assert "form-action 'self' https://login.example:8443;" in policy
    assert "script-src 'self';" in policy


@pytest.mark.parametrize("address", ["", "javascript:alert(1)", "/styles/own.json", "nonsense; script-src *"])
def test_odd_addresses_open_nothing(address: str) -> None:
    assert (
        server.content_security_policy(map_style=address, sign_in=address) == server.content_security_policy()
    )


@pytest.mark.parametrize("https", [True, False])
async def test_headers_are_added_and_a_views_own_value_wins(https: bool) -> None:
    app = Starlette(
        routes=[Route("/", echo), Route("/own", own_policy)],
        middleware=[Middleware(Around, https=https)],
    )
    async with client(app) as http:
        plain = await http.get("/")
        own = await http.get("/own")
        missing = await http.get("/missing")
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert plain.headers["referrer-policy"] == "same-origin"
    assert ("strict-transport-security" in plain.headers) == https
    assert own.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert "content-security-policy" in missing.headers


async def _django_like(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"Content-Type", b"text/plain"), (b"X-Content-Type-Options", b"nosniff")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x"})


async def test_header_names_of_django_are_understood() -> None:
    app = Starlette(routes=[Mount("/", LowerCaseHeaders(_django_like))], middleware=[Middleware(Around)])
    async with client(app) as http:
        response = await http.get("/")
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize(("size", "status"), [(0, 200), (999, 200), (1000, 200), (1001, 413), (100_000, 413)])
@pytest.mark.parametrize("stated", [True, False])
async def test_request_is_limited_whether_it_states_its_length_or_not(
    size: int, status: int, stated: bool
) -> None:
    app = Starlette(
        routes=[Route("/", echo, methods=["POST"])], middleware=[Middleware(Around, maximum=1000)]
    )

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 300):
            yield b"x" * min(300, size - start)

    async with client(app) as http:
        response = await http.post("/", content=b"x" * size if stated else pieces())
    assert response.status_code == status
    if status == 200:
        assert response.text == str(size)
    else:
        assert "at most 1000 bytes" in response.text


@pytest.mark.parametrize(("path", "status"), [("/", 413), ("/large/", 200)])
async def test_addresses_for_large_files_take_more(path: str, status: int) -> None:
    app = Starlette(
        routes=[Route("/", echo, methods=["POST"]), Route("/large/", echo, methods=["POST"])],
        middleware=[Middleware(Around, maximum=1000, larger={"/large/": 3000})],
    )
    async with client(app) as http:
        assert (await http.post(path, content=b"x" * 3000)).status_code == status
        refused = await http.post("/large/", content=b"x" * 3001)
    assert (refused.status_code, refused.text) == (
        413,
        "Request too large: at most 3000 bytes are taken.\n",
    )


def test_large_files_are_taken_where_updates_are_uploaded() -> None:
    assert list(LARGER_REQUESTS_BYTES) == [reverse("desk:radio-update-new")]
    assert LARGER_REQUESTS_BYTES[reverse("desk:radio-update-new")] > LARGEST_UPDATE


async def test_sensorthings_is_refused_in_its_own_form() -> None:
    app = Starlette(middleware=[Middleware(Around, maximum=1000)])
    async with client(app) as http:
        response = await http.post("/sensorthings/v1.1/Things", content=b"x" * 2000)
    assert (response.status_code, response.json()) == (
        413,
        {"code": 413, "type": "error", "message": "Request too large: at most 1000 bytes are taken"},
    )


async def test_false_length_does_not_pass() -> None:
    app = Starlette(
        routes=[Route("/", echo, methods=["POST"])], middleware=[Middleware(Around, maximum=1000)]
    )
    async with client(app) as http:
        response = await http.post("/", content=b"x" * 2000, headers={"Content-Length": "abc"})
    assert response.status_code == 413


async def test_rooms_on_the_bus_are_closed_while_it_is_away() -> None:
    app = Starlette(routes=[Mount("/api", routes=[Route("/x", echo)], middleware=[Middleware(Connected)])])
    app.state.bus = None
    async with client(app) as http:
        away = await http.get("/api/x")
        app.state.bus = object()
        back = await http.get("/api/x")
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert away.json()["error"] == "unavailable"
    assert back.status_code == 200


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    (tmp_path / "build/assets").mkdir(parents=True)
    (tmp_path / "build/assets/main-abc.js").write_text("let a = 1;")
    (tmp_path / "build/assets/main-abc.js.gz").write_bytes(gzip.compress(b"let a = 1;"))
    (tmp_path / "build/assets/font.woff2").write_bytes(b"wOF2")
    (tmp_path / "mark.svg").write_text("<svg/>")
    (tmp_path.parent / "secret.txt").write_text("secret")
    monkeypatch.setattr(server, "STATIC", tmp_path)
    files = Assets()
    files.all_directories = [tmp_path]
    return Starlette(routes=[Mount("/static", files)])


async def test_built_files_are_cached_for_ever_and_sent_packed(static: Starlette) -> None:
    async with client(static) as http:
        packed = await http.get("/static/build/assets/main-abc.js", headers={"Accept-Encoding": "gzip"})
        plain = await http.get("/static/build/assets/main-abc.js", headers={"Accept-Encoding": "identity"})
        font = await http.get("/static/build/assets/font.woff2")
        same = await http.get(
            "/static/build/assets/main-abc.js",
            headers={"If-None-Match": plain.headers["etag"], "Accept-Encoding": "identity"},
        )
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text == "let a = 1;"
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["content-type"].startswith("text/javascript")
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert font.headers["content-type"] == "font/woff2"
    assert same.status_code == 304


async def test_plain_files_are_cached_for_ever_only_with_their_digest(static: Starlette) -> None:
    async with client(static) as http:
        bare = await http.get("/static/mark.svg")
        named = await http.get("/static/mark.svg?v=123")
    assert bare.headers["cache-control"] == "public, max-age=300"
    assert "immutable" in named.headers["cache-control"]


@pytest.mark.parametrize(
    "path", ["../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "build", "none.js", "%00", "x" * 300]
)
async def test_nothing_outside_is_served(static: Starlette, path: str) -> None:
    async with client(static) as http:
        response = await http.get(f"/static/{path}")
    assert response.status_code == 404


def test_real_assets_hold_the_portal_the_admin_and_the_sign_in() -> None:
    files = Assets()
    for path in ("portal/mark.svg", "admin/css/base.css", "account/js/account.js"):
        found, _stat = files.lookup_path(path)
        assert Path(found).is_file(), path
    assert assets.STATIC in files.all_directories


async def test_whole_application_answers_without_the_bus() -> None:
    from quartier.asgi import application

    async with client(application) as http:
        base_map = await http.get("/karte/grundkarte.json", headers={"Accept-Encoding": "gzip"})
        live = await http.get("/live/events")
        api = await http.post("/api/observations", json={})
        large = await http.post("/feedback/", content=b"x" * (6 * 1024 * 1024 + 1))
        static_file = await http.get("/static/portal/mark.svg")
    assert base_map.status_code == 200
    assert base_map.headers["content-encoding"] == "gzip"
    assert base_map.headers.get_list("x-content-type-options") == ["nosniff"]
    assert (live.status_code, api.status_code) == (503, 503)
    assert large.status_code == 413
    assert static_file.headers["content-security-policy"] == server.content_security_policy()


async def long_text(_request: Request) -> Response:
    return PlainTextResponse("x" * 2000)


async def events(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n" + b":" * 2000

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def pieces_of_text(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"y" * 500

    return StreamingResponse(pieces(), media_type="text/plain", headers={"Vary": "Cookie"})


@pytest.mark.parametrize(
    ("path", "accepted", "encoding", "vary", "text"),
    [
        ("/short", "gzip, br", None, None, "0"),
        ("/long", "gzip, br", "gzip", "Accept-Encoding", "x" * 2000),
        ("/long", "br", None, "Accept-Encoding", "x" * 2000),
        ("/pieces", "gzip", "gzip", "Cookie, Accept-Encoding", "y" * 1500),
        ("/pieces", "identity", None, "Cookie, Accept-Encoding", "y" * 1500),
        ("/events", "gzip", None, None, "data: 1\n\ndata: 2\n\n" + ":" * 2000),
    ],
)
async def test_long_answers_are_compressed_for_whoever_can_read_that(
    path: str, accepted: str, encoding: str | None, vary: str | None, text: str
) -> None:
    app = Starlette(
        routes=[
            Route("/short", echo),
            Route("/long", long_text),
            Route("/pieces", pieces_of_text),
            Route("/events", events),
        ],
        middleware=[Middleware(Around)],
    )
    async with client(app) as http:
        response = await http.get(path, headers={"Accept-Encoding": accepted})
    found = (response.headers.get("content-encoding"), response.headers.get("vary"), response.text)
    assert found == (encoding, vary, text)
    assert response.headers["x-content-type-options"] == "nosniff"
