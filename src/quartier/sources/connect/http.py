"""Asking other systems by HTTP, so that nothing they do can hang us and no credential leaves in a message.

Clients are made here only: with timeouts, without redirects (a redirect would carry a key to another host), and with a
limit to what is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from quartier.sources.connect.report import redact

MAXIMUM_ANSWER_BYTES = 32 * 1024 * 1024
_json = msgspec.json.Decoder()


class ServerError(Exception):
    """The other server cannot be reached, or answered with an error. Never contains an address with a key.

    ``status`` is that of the answer (0 without one), ``retry_after_s`` what the server asked to wait.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class _KeyInAddress(httpx.AsyncBaseTransport):
    """Adds the key to the address at the last moment: httpx logs addresses and puts them into its errors."""

    def __init__(self, inner: httpx.AsyncBaseTransport, name: str, key: str) -> None:
        self._inner = inner
        self._name, self._key = name, key

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        signed = httpx.Request(
            request.method,
            request.url.copy_merge_params({self._name: self._key}),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        return await self._inner.handle_async_request(signed)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Server:
    """One server that we ask. Use as ``async with``.

    ``key`` is name and value of a query parameter, ``headers`` may hold a token: neither ever stands in an error, even
    where the server repeats it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: dict[str, str] | None = None,
        key: tuple[str, str] | None = None,
        secret: str,
        read_timeout_s: float = 30,
    ) -> None:
        transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2), retries=0
        )
        if key is not None:
            transport = _KeyInAddress(transport, *key)
        self._secret = secret
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            transport=transport,
            headers={"User-Agent": "Quartier", "Accept": "application/json", **(headers or {})},
            timeout=httpx.Timeout(10, read=read_timeout_s),
            follow_redirects=False,
        )

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def ask(self, path: str, parameters: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """An opened answer with status 200, to be read piece by piece. Raises ServerError."""
        try:
            async with self._http.stream("GET", path, params=parameters) as response:
                if response.status_code != httpx.codes.OK:
                    raise await self._error(response, path)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = redact(str(error) or type(error).__name__, [self._secret])
            raise ServerError(f"{path}: {reason}") from None

    async def get(self, path: str, parameters: dict[str, Any]) -> bytes:
        """A whole answer. Raises ServerError."""
        async with self.ask(path, parameters) as response:
            return await _read(response, path, MAXIMUM_ANSWER_BYTES)

    async def _error(self, response: httpx.Response, path: str) -> ServerError:
        """What an error answer says, in a line."""
        try:
            content = _json.decode(await _read(response, path, 64 * 1024))
        except (ServerError, msgspec.DecodeError, RecursionError, UnicodeDecodeError, httpx.HTTPError):
            content = None
        said = content.get("error") or content.get("message") if isinstance(content, dict) else None
        text = f": {redact(said, [self._secret])[:200]}" if isinstance(said, str) else ""
        return ServerError(
            f"{path}: answer {response.status_code}{text}",
            status=response.status_code,
            retry_after_s=_retry_after(response.headers),
        )


async def _read(response: httpx.Response, path: str, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > limit:
            raise ServerError(f"{path}: the answer is longer than {limit} bytes", status=response.status_code)
        parts.append(part)
    return b"".join(parts)


def _retry_after(headers: httpx.Headers) -> float | None:
    for name, unit_s in (("retry-after", 1.0), ("x-ratelimit-reset", 0.001)):
        try:
            return min(300.0, max(0.0, float(headers[name]) * unit_s))
        except (KeyError, ValueError):
            continue
    return None
