"""Asking a peer: one connection pool, time limits, one repetition, and a pause for peers that do not answer.

Whether the answer comes in the HTTP response or as a request of the peer's own makes no difference here: whichever
comes first is taken, so that a peer whose mode is configured wrongly works all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Any, Final

import aiohttp
import structlog

from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.fields import Eui64, TokenHex
from quartier.lorawan.roaming.messages import (
    MAX_BODY_BYTES,
    REQUESTS,
    Answer,
    MessageError,
    read,
    write,
)
from quartier.lorawan.roaming.peers import Peer
from quartier.lorawan.roaming.pending import Pending, TooMany
from quartier.lorawan.roaming.tls import client_context

log = structlog.get_logger(__name__)

FAILURES_BEFORE_PAUSE: Final = 5
MAX_PAUSE_S: Final = 60.0
MAX_CONNECTIONS: Final = 512
"""A PRStartReq is open for as long as the other side collects receptions: at 300 a second that is a hundred at once."""


class Role(StrEnum):
    """What the receiver of a message is meant to be; the end of its URL where the peer wants that."""

    FNS = "fns"
    SNS = "sns"
    HNS = "hns"
    JS = "js"


class CallFailure(StrEnum):
    """Why there is no answer; counted under these names."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    HTTP = "http"
    MALFORMED = "malformed"
    PAUSED = "paused"
    BUSY = "busy"


class CallError(Exception):
    """A peer gave no usable answer."""

    def __init__(self, failure: CallFailure, detail: str) -> None:
        self.failure = failure
        self.detail = detail
        super().__init__(f"{failure.value}: {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ourselves:
    """How we call ourselves to peers."""

    net_id: str
    nsid: Eui64 | None = None
    join_eui: str = ""


class Client:
    """Everything that is said to one peer."""

    def __init__(self, peer: Peer, ourselves: Ourselves, pending: Pending) -> None:
        self.peer = peer
        self._ourselves = ourselves
        self._pending = pending
        self._session: aiohttp.ClientSession | None = None
        self._failures = 0
        self._paused_until = 0.0

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        message_type: str,
        *,
        role: Role | None = None,
        receiver: str = "",
        sender: str = "",
        timeout_s: float | None = None,
        attempts: int = 1,
        sender_token: TokenHex | None = None,
        receiver_token: TokenHex | None = None,
        on_transaction: Callable[[int], None] | None = None,
        **fields: Any,
    ) -> Answer:
        """Send a request and return its answer, of whatever result. Raises CallError.

        ``fields`` are those of the message's type. Every attempt may take ``timeout_s``; attempts share their
        TransactionID, so that the peer can tell that they are the same. ``on_transaction`` hears it before anything is
        sent.
        """
        peer = self.peer
        if monotonic() < self._paused_until:
            metrics.SENT.labels(peer.key, message_type, CallFailure.PAUSED).inc()
            raise CallError(
                CallFailure.PAUSED, "the peer did not answer several times; it is left alone for a moment"
            )
        try:
            transaction, future = self._pending.open(peer.key, message_type.removesuffix("Req") + "Ans")
        except TooMany:
            metrics.SENT.labels(peer.key, message_type, CallFailure.BUSY).inc()
            raise CallError(CallFailure.BUSY, "too many requests are waiting for this peer") from None
        message = REQUESTS[message_type](
            protocol_version=peer.protocol.version,
            sender_id=sender or self._ourselves.net_id,
            receiver_id=receiver or peer.net_id,
            transaction_id=transaction,
            message_type=message_type,
            sender_nsid=self._ourselves.nsid,
            receiver_nsid=peer.nsid,
            sender_token=sender_token,
            receiver_token=receiver_token,
            **fields,
        )
        body = write(message)
        if on_transaction is not None:
            on_transaction(transaction)
        began = monotonic()
        try:
            for attempt in range(attempts):
                try:
                    answer = await self._once(body, role, future, timeout_s or peer.timeout_s)
                    break
                except CallError as error:
                    if attempt + 1 == attempts or error.failure is CallFailure.MALFORMED:
                        raise
        except CallError as error:
            self._failed()
            metrics.SENT.labels(peer.key, message_type, error.failure).inc()
            log.info("roaming request failed", peer=peer.key, type=message_type, reason=str(error))
            raise
        finally:
            self._pending.close(peer.key, transaction)
            if not future.done():
                future.cancel()
        self._failures = 0
        metrics.ANSWERED_SECONDS.labels(peer.key, message_type).observe(monotonic() - began)
        metrics.SENT.labels(peer.key, message_type, answer.result.code.value).inc()
        return answer

    async def answer(self, message: Answer, role: Role | None) -> None:
        """Deliver an answer as a request of our own (asynchronous mode). Raises CallError."""
        body = write(message)
        async with asyncio.timeout(self.peer.timeout_s):
            await self._post(body, role)

    async def post_extension(self, path: str, body: bytes, *, limit: int) -> bytes:
        """One of our own extensions, beside the peer's URL. Raises CallError."""
        try:
            async with asyncio.timeout(30):
                return await self._post(body, None, path=path, limit=limit)
        except TimeoutError:
            raise CallError(CallFailure.TIMEOUT, f"{path}: no answer within 30 s") from None

    async def _once(
        self, body: bytes, role: Role | None, future: asyncio.Future[Answer], timeout_s: float
    ) -> Answer:
        try:
            async with asyncio.timeout(timeout_s):
                post = asyncio.ensure_future(self._post(body, role))
                try:
                    # An asynchronous answer may be faster than the acknowledgement of the request.
                    await asyncio.wait((post, future), return_when=asyncio.FIRST_COMPLETED)
                    if future.done():
                        return future.result()
                    content = post.result()
                finally:
                    post.cancel()
                if content.strip():
                    return self._understand(content)
                return await asyncio.shield(future)
        except TimeoutError:
            raise CallError(CallFailure.TIMEOUT, f"no answer within {timeout_s:g} s") from None

    def _understand(self, content: bytes) -> Answer:
        try:
            message = read(content)
        except MessageError as error:
            raise CallError(CallFailure.MALFORMED, str(error)) from None
        if not isinstance(message, Answer):
            raise CallError(CallFailure.MALFORMED, f"{message.message_type} is no answer")
        return message

    async def _post(
        self, body: bytes, role: Role | None, *, path: str = "", limit: int = MAX_BODY_BYTES
    ) -> bytes:
        url = self.peer.url.rstrip("/") + (f"/{path}" if path else "")
        if role is not None and self.peer.role_suffix:
            url += f"/{role.value}"
        try:
            async with self._opened().post(url, data=body, headers=_headers(self.peer)) as response:
                content = await response.content.read(limit + 1)
                while len(content) <= limit and not response.content.at_eof():
                    content += await response.content.read(limit + 1 - len(content))
                if len(content) > limit:
                    raise CallError(CallFailure.MALFORMED, f"answer above {limit} bytes")
                if response.status >= 300 and not _is_answer(content):
                    raise CallError(CallFailure.HTTP, f"HTTP {response.status}")
                return content
        except (aiohttp.ClientError, OSError) as error:
            raise CallError(CallFailure.UNREACHABLE, f"{type(error).__name__}: {error}"[:300]) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = client_context(self.peer.tls) if self.peer.url.startswith("https:") else None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, ssl=tls if tls is not None else True, keepalive_timeout=60
                ),
                timeout=aiohttp.ClientTimeout(total=None, connect=5),
                auto_decompress=False,
            )
        return self._session

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES_BEFORE_PAUSE:
            pause = min(MAX_PAUSE_S, 2.0 ** (self._failures - FAILURES_BEFORE_PAUSE))
            self._paused_until = monotonic() + pause
            log.warning("peer is left alone", peer=self.peer.key, seconds=pause)


def _headers(peer: Peer) -> Mapping[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if peer.authorization:
        headers["Authorization"] = peer.authorization
    return headers


def _is_answer(content: bytes) -> bool:
    """Some servers send the answer that says what was wrong with an HTTP status of an error."""
    try:
        return isinstance(read(content), Answer)
    except MessageError:
        return False
