"""Around every answer: limits, security headers, and how static files are served.

The Content Security Policy is written here as ASGI middleware and not with django-csp, because it holds for the
machines' side and for static files as well, and because our policy needs neither nonces nor exceptions per page.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from django.apps import apps
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipResponder
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quartier.interfaces.sensorthings.answers import Refusal
from quartier.portal.assets import STATIC

# Not in every Python's table.
mimetypes.add_type("font/woff2", ".woff2")

_YEAR_S = 365 * 24 * 3600
_PACKED_FROM_BYTES = 1000
# Half the time of level 5 for a tenth more bytes: a hundred observations take 157 µs and 3.1 kB instead of 328 µs and
# 2.8 kB.
_LEVEL = 3
_LONGEST_NUMBER = 19


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and parts.netloc else ""


def content_security_policy(*, map_style: str = "", sign_in: str = "") -> str:
    """The policy for every page: nothing inline, nothing from elsewhere.

    The origin of another base map's style may be read from; the form of the sign-in may lead to the OpenID Connect
    issuer (browsers apply form-action to redirects, too).
    """
    tiles = _origin(map_style)
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        # KERN's icons and the QR code of the second factor are data addresses, map sprites are blobs.
        "img-src": f"'self' data: blob: {tiles}",
        "font-src": "'self'",
        "connect-src": f"'self' {tiles}",
        "worker-src": "'self'",
        "manifest-src": "'self'",
        "form-action": f"'self' {_origin(sign_in)}",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    return "; ".join(f"{name} {value.strip()}" for name, value in policy.items())


class _TooLarge(Exception):
    """The body of a request is larger than anything that we take."""


class Around:
    """What holds for every answer: a limit for bodies, compression, and headers that keep injected scripts out.

    One layer, because each layer is passed by every ``await`` of a request: three of them, two of which looked for
    headers one by one, were a fifth of what a small answer of SensorThings cost. Compressing is left to Starlette.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        maximum: int = 1 << 62,
        larger: Mapping[str, int] = MappingProxyType({}),
        https: bool = False,
        map_style: str = "",
        sign_in: str = "",
    ) -> None:
        self.app = app
        self.maximum = maximum
        self.larger = larger  # by path
        headers = {
            "content-security-policy": content_security_policy(map_style=map_style, sign_in=sign_in),
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "geolocation=(self), camera=(self), microphone=(), payment=(), usb=()",
        }
        if https:
            headers["strict-transport-security"] = f"max-age={_YEAR_S}"
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    @staticmethod
    def _refusal(scope: Scope, maximum: int) -> Response:
        words = f"Request too large: at most {maximum} bytes are taken"
        if scope.get("path", "").startswith("/sensorthings/"):
            return Refusal(413, words).response()
        return PlainTextResponse(f"{words}.\n", 413)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI demands."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated, in_pieces, packed = b"", False, False
        for name, value in scope["headers"]:
            if name == b"content-length":
                stated = value
            elif name == b"transfer-encoding":
                in_pieces = True
            elif name == b"accept-encoding":
                packed = packed or b"gzip" in value
        answer = _Answer(send, self.headers, packed=packed)
        maximum = self.larger.get(scope["path"], self.maximum)
        length = int(stated) if stated.isdigit() and len(stated) < _LONGEST_NUMBER else None
        if stated.isdigit() and (length is None or length > maximum):
            await self._refusal(scope, maximum)(scope, receive, answer.send)
            return
        if length is not None and not in_pieces:
            # The server gives no more than was stated (RFC 9112 section 6.3).
            await self.app(scope, receive, answer.send)
            return
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > maximum:
                raise _TooLarge
            return message

        try:
            await self.app(scope, counted, answer.send)
        except _TooLarge:
            if not answer.begun:
                await self._refusal(scope, maximum)(scope, receive, answer.send)


class _Answer:
    """One answer on its way out; a view's own headers win."""

    __slots__ = ("_headers", "_out", "_packed", "_packer", "begun")

    def __init__(self, out: Send, headers: list[tuple[bytes, bytes]], *, packed: bool) -> None:
        self.begun = False
        self._out = out
        self._headers = headers
        self._packed = packed
        self._packer: GZipResponder | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self._start(message)
        if self._packer is None:
            await self._out(message)
        else:
            await self._packer.send_with_compression(message)

    def _start(self, message: Message) -> None:
        """Complete the headers, and decide whether the body is worth compressing."""
        headers: list[tuple[bytes, bytes]] = [*message.get("headers", ())]
        own = dict(headers)
        headers += [pair for pair in self._headers if pair[0] not in own]
        message["headers"] = headers
        length = own.get(b"content-length")
        if length is not None and int(length) < _PACKED_FROM_BYTES:
            return
        if self._packed:
            self._packer = GZipResponder(_nothing, _PACKED_FROM_BYTES, _LEVEL)
            self._packer.send = self._out
        else:
            # A cache in between must not give this to somebody who would have got it compressed.
            MutableHeaders(raw=headers).add_vary_header("Accept-Encoding")


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands where Starlette's compression expects an application to call; we hand it the messages."""


class LowerCaseHeaders:
    """Writes header names as ASGI wants them; Django keeps its own spelling, which Starlette's middleware overlooks."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI demands."""

        async def lowered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name.lower(), value) for name, value in message["headers"]]
            await send(message)

        await self.app(scope, receive, lowered)


class Connected:
    """Answers 503 while the bus is away, so that the rooms behind it may rely on ``app.state.bus``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI demands."""
        if scope["type"] == "http" and getattr(scope["app"].state, "bus", None) is None:
            body = {
                "error": "unavailable",
                "field": "",
                "detail": "the message bus cannot be reached at the moment",
            }
            await JSONResponse(body, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        await self.app(scope, receive, send)


class Assets(StaticFiles):
    """Static files of all Django applications: the portal, the admin, the sign-in pages.

    What carries its content's digest in its address is cached for ever; text files were compressed by the build.
    """

    def __init__(self) -> None:
        super().__init__(directory=STATIC)
        folders = (Path(app.path) / "static" for app in apps.get_app_configs())
        self.all_directories = [folder for folder in folders if folder.is_dir()]

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The answer for one file."""
        request_headers = Headers(scope=scope)
        path = Path(full_path)
        for_ever = "/build/assets/" in path.as_posix() or scope["query_string"].startswith(b"v=")
        headers = {
            "Cache-Control": f"public, max-age={_YEAR_S}, immutable" if for_ever else "public, max-age=300",
            "Vary": "Accept-Encoding",
        }
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        packed = path.with_name(path.name + ".gz")
        if "gzip" in request_headers.get("accept-encoding", "") and packed.is_file():
            path, stat_result = packed, packed.stat()
            headers["Content-Encoding"] = "gzip"
        response = FileResponse(
            path, status_code=status_code, stat_result=stat_result, headers=headers, media_type=media_type
        )
        if self.is_not_modified(response.headers, request_headers):
            return NotModifiedResponse(response.headers)
        return response
