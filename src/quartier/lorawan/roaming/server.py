"""Being asked: the HTTP side of Backend Interfaces.

Who a caller is comes from its certificate or its Authorization header and never from the body. A body that names
somebody else as its sender is refused, so that one peer cannot speak for another.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

import structlog
from aiohttp import web

from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.book import PeerBook
from quartier.lorawan.roaming.client import CallError, Client, Ourselves, Role
from quartier.lorawan.roaming.fields import ResultCode
from quartier.lorawan.roaming.messages import (
    MAX_BODY_BYTES,
    REQUESTS,
    Answer,
    Header,
    MessageError,
    answer_to,
    canonical_id,
    read,
    write,
)
from quartier.lorawan.roaming.peers import Peer
from quartier.lorawan.roaming.pending import Given, Pending

log = structlog.get_logger(__name__)

MAX_CONCURRENT_PER_PEER: Final = 512
READ_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 20.0
REQUESTS_PER_S: Final = 500.0
BURST: Final = 1000.0

Handler = Callable[[Peer, Header], Awaitable[Answer]]
Extension = Callable[[Peer, bytes], Awaitable[bytes]]


class _Load:
    """What a peer keeps us busy with; bounded, so that a flood of one hurts nobody else."""

    __slots__ = ("at_s", "running", "tokens")

    def __init__(self) -> None:
        self.running = 0
        self.tokens = BURST
        self.at_s = monotonic()

    def enter(self) -> bool:
        now_s = monotonic()
        self.tokens = min(BURST, self.tokens + (now_s - self.at_s) * REQUESTS_PER_S)
        self.at_s = now_s
        if self.tokens < 1 or self.running >= MAX_CONCURRENT_PER_PEER:
            return False
        self.tokens -= 1
        self.running += 1
        return True


class Server:
    """Takes requests and answers from peers. ``book`` and ``clients`` may be replaced while it runs."""

    def __init__(
        self,
        book: PeerBook,
        clients: dict[str, Client],
        *,
        ourselves: Ourselves,
        pending: Pending,
        handle: Handler,
        extensions: dict[str, Extension] | None = None,
    ) -> None:
        self.book = book
        self.clients = clients
        self._ourselves = ourselves
        self._pending = pending
        self._handle = handle
        self._extensions = extensions or {}
        self._given = Given()
        self._load: dict[str, _Load] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """To be served by aiohttp; every path may end in the role that the caller means."""
        application = web.Application(client_max_size=4 * MAX_BODY_BYTES)
        application.router.add_post("/", self._post)
        for role in Role:
            application.router.add_post(f"/{role.value}", self._post)
        application.router.add_post("/quartier/{extension}", self._extend)
        application.on_shutdown.append(self._finish)
        return application

    async def _finish(self, _: web.Application) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _post(self, request: web.Request) -> web.Response:
        peer = self._caller(request)
        if peer is None:
            metrics.REFUSED.labels("", "unknown_caller").inc()
            return web.Response(status=403, text="unknown caller")
        load = self._load.setdefault(peer.key, _Load())
        if not load.enter():
            metrics.REFUSED.labels(peer.key, "rate").inc()
            return web.Response(status=429, text="too many requests", headers={"Retry-After": "1"})
        try:
            body = await _body(request, MAX_BODY_BYTES)
            if body is None:
                metrics.REFUSED.labels(peer.key, "too_large").inc()
                return web.Response(status=413, text=f"a message has at most {MAX_BODY_BYTES} bytes")
            return await self._take(peer, body)
        finally:
            load.running -= 1

    async def _take(self, peer: Peer, body: bytes) -> web.Response:
        try:
            message = read(body)
        except MessageError as error:
            metrics.REFUSED.labels(peer.key, "malformed").inc()
            log.info("roaming message refused", peer=peer.key, reason=str(error))
            if error.header is None:
                return web.Response(status=400, text=str(error))
            if error.header.is_answer:
                return web.Response(status=400, text=str(error))
            if not peer.may_call_itself(error.header.sender):
                return self._impostor(peer, error.header)
            return _json(write(answer_to(error.header, error.result, str(error))))
        if isinstance(message, Answer):
            return self._answered(peer, message)
        # An application server's id is free text; it proves itself like any other peer.
        if not peer.may_call_itself(message.sender) and message.message_type != "AppSKeyReq":
            return self._impostor(peer, message)
        if not self._ours(message):
            metrics.REFUSED.labels(peer.key, "unknown_receiver").inc()
            return _json(
                write(answer_to(message, ResultCode.UNKNOWN_RECEIVER, f"we are not {message.receiver_id}"))
            )
        return await self._requested(peer, message, body)

    async def _requested(self, peer: Peer, message: Header, body: bytes) -> web.Response:
        before = self._given.before(peer.key, message.transaction_id, body)
        if before is not None:
            metrics.REFUSED.labels(peer.key, "repeated").inc()
        if peer.asynchronous:
            if before is None:
                self._spawn(self._later(peer, message))
            elif before.done() and not before.cancelled():
                self._spawn(self._again(peer, message, before.result()))
            return web.Response(status=200)
        if before is None:
            return _json(await self._work(peer, message))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return _json(await asyncio.shield(before))
        except (TimeoutError, asyncio.CancelledError):
            return web.Response(status=503, text="the answer is not known yet")

    async def _work(self, peer: Peer, message: Header) -> bytes:
        kind = message.message_type
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await self._handle(peer, message)
        except MessageError as error:
            answer = answer_to(message, error.result, str(error))
        except TimeoutError:
            answer = answer_to(message, ResultCode.OTHER, f"not done within {ANSWER_TIMEOUT_S:g} s")
        except Exception:
            # One frame that we cannot handle must not cost the peer the connection and the frames after it.
            log.exception("roaming request failed", peer=peer.key, type=kind)
            answer = answer_to(message, ResultCode.OTHER, "internal error")
        metrics.RECEIVED.labels(peer.key, kind, answer.result.code.value).inc()
        content = write(answer)
        self._given.give(peer.key, message.transaction_id, content)
        return content

    async def _later(self, peer: Peer, message: Header) -> None:
        await self._again(peer, message, await self._work(peer, message))

    async def _again(self, peer: Peer, message: Header, content: bytes) -> None:
        client = self.clients.get(peer.key)
        if client is None:
            return
        answer = read(content)
        if not isinstance(answer, Answer):
            return
        try:
            await client.answer(answer, _asking_role(message))
        except (CallError, TimeoutError) as error:
            metrics.REFUSED.labels(peer.key, "answer_not_delivered").inc()
            log.info("roaming answer not delivered", peer=peer.key, reason=str(error))

    def _answered(self, peer: Peer, answer: Answer) -> web.Response:
        if not peer.may_call_itself(answer.sender):
            return self._impostor(peer, answer)
        if not self._pending.resolve(peer.key, answer):
            metrics.REFUSED.labels(peer.key, "unexpected_answer").inc()
        return web.Response(status=200)

    def _impostor(self, peer: Peer, message: Header) -> web.Response:
        metrics.REFUSED.labels(peer.key, "sender").inc()
        log.warning("peer speaks for somebody else", peer=peer.key, sender=message.sender_id[:40])
        if message.message_type not in REQUESTS:
            return web.Response(status=403, text="SenderID is not yours")
        answer = answer_to(message, ResultCode.UNKNOWN_SENDER, "SenderID is not the one of this certificate")
        return _json(write(answer), status=403)

    def _ours(self, message: Header) -> bool:
        receiver = message.receiver
        if receiver == canonical_id(self._ourselves.net_id):
            return True
        # A join server answers for every JoinEUI of its devices; which ones those are is the handler's to say.
        return len(receiver) == 16 and message.message_type in (
            "JoinReq",
            "RejoinReq",
            "AppSKeyReq",
            "HomeNSReq",
        )

    async def _extend(self, request: web.Request) -> web.Response:
        peer = self._caller(request)
        if peer is None:
            metrics.REFUSED.labels("", "unknown_caller").inc()
            return web.Response(status=403, text="unknown caller")
        extension = self._extensions.get(request.match_info["extension"])
        if extension is None:
            return web.Response(status=404, text="no such extension")
        load = self._load.setdefault(peer.key, _Load())
        if not load.enter():
            metrics.REFUSED.labels(peer.key, "rate").inc()
            return web.Response(status=429, text="too many requests")
        try:
            body = await _body(request, 4 * MAX_BODY_BYTES)
            if body is None:
                return web.Response(status=413, text="too large")
            return _json(await extension(peer, body))
        except ValueError as error:
            return web.Response(status=400, text=str(error)[:500])
        finally:
            load.running -= 1

    def _caller(self, request: web.Request) -> Peer | None:
        certificate = b""
        transport = request.transport
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is not None:
            certificate = tls.getpeercert(binary_form=True) or b""
        return self.book.proven(
            certificate=certificate, authorization=request.headers.get("Authorization", "")[:1000]
        )

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _asking_role(request: Header) -> Role | None:
    """The role in which the sender of a request wants its answer."""
    if request.message_type == "PRStartReq":
        return Role.FNS
    if request.message_type == "XmitDataReq":
        return Role.SNS if getattr(request, "downlink", None) is not None else Role.FNS
    return None


async def _body(request: web.Request, limit: int) -> bytes | None:
    """The request's body, or None where it is larger than ``limit``."""
    content = b""
    async with asyncio.timeout(READ_TIMEOUT_S):
        while len(content) <= limit:
            part = await request.content.read(limit + 1 - len(content))
            if not part:
                return content
            content += part
    return None


def _json(content: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=content, content_type="application/json")
