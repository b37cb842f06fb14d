"""The way from a connector into the inbox, for thousands of messages a second.

``Inbox.put`` asks and waits for one message at a time. A connector has hundreds in flight and must know of each when it
is durable, because only then may its sender be told. So messages are published with a numbered reply subject, the
stream's confirmations are matched by number, and what stays unconfirmed (NATS was restarted) is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from quartier.engines.bus import Bus
from quartier.intake.inbox import MAXIMUM_BODY_BYTES, RawMessage, TooLarge, encode, subject

log = structlog.get_logger(__name__)

_RESEND_AFTER_S = 5.0


class _Error(msgspec.Struct):
    code: int = 0
    description: str = ""


class _Confirmation(msgspec.Struct):
    """What a stream answers to a publication."""

    seq: int = 0
    error: _Error | None = None


_confirmations = msgspec.json.Decoder(_Confirmation)


@dataclass(slots=True)
class _Waiting:
    subject: str
    data: bytes
    headers: dict[str, str] | None
    future: asyncio.Future[int]
    sent_at: float


class Conveyor:
    """Puts messages into the inbox with many in flight. Use as ``async with Conveyor(bus) as conveyor``."""

    def __init__(self, bus: Bus, *, maximum_in_flight: int = 4096) -> None:
        self._bus = bus
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self._prefix = ""
        self._room = asyncio.Semaphore(maximum_in_flight)

    async def __aenter__(self) -> Conveyor:
        self._prefix = self._bus.nc.new_inbox()
        self._subscription = await self._bus.nc.subscribe(
            f"{self._prefix}.*", cb=self._on_reply, pending_bytes_limit=0, pending_msgs_limit=0
        )
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeper
        for waiting in list(self._waiting.values()):
            waiting.future.cancel()
        with contextlib.suppress(NatsError):
            await self._subscription.unsubscribe()

    @property
    def in_flight(self) -> int:
        """Messages that are not confirmed yet."""
        return len(self._waiting)

    async def send(self, message: RawMessage, *, message_id: str = "") -> asyncio.Future[int]:
        """Hand a message over; the future's result is its position, set when the stream has it on disk.

        Waits where too many are in flight. With ``message_id`` a repetition within the stream's window of two minutes
        is stored once. Raises TooLarge; a NATS failure is no error here: the message is sent again until it is stored.
        """
        if len(message.body) > MAXIMUM_BODY_BYTES:
            raise TooLarge(f"{len(message.body)} bytes; at most {MAXIMUM_BODY_BYTES} are taken")
        await self._room.acquire()
        self._number += 1
        number = self._number
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(
            subject(message),
            encode(message),
            {"Nats-Msg-Id": message_id} if message_id else None,
            future,
            time.monotonic(),
        )
        self._waiting[number] = waiting

        def forget(_: asyncio.Future[int]) -> None:
            del self._waiting[number]
            self._room.release()

        future.add_done_callback(forget)
        await self._publish(number, waiting)
        return future

    async def put(self, message: RawMessage, *, message_id: str = "", timeout_s: float = 10) -> int:
        """Store one message; returns its position. Raises TooLarge, or TimeoutError when the stream did not confirm."""
        future = await asyncio.wait_for(self.send(message, message_id=message_id), timeout_s)
        return await asyncio.wait_for(future, timeout_s)

    async def _publish(self, number: int, waiting: _Waiting) -> None:
        try:
            await self._bus.nc.publish(
                waiting.subject, waiting.data, reply=f"{self._prefix}.{number}", headers=waiting.headers
            )
        except NatsError as error:
            # Not connected and the buffer is full: the sweeper tries again.
            log.debug("inbox.not_reachable", error=type(error).__name__)

    async def _on_reply(self, reply: Msg) -> None:
        waiting = self._waiting.get(int(reply.subject.rsplit(".", 1)[1]))
        if waiting is None or waiting.future.done():
            return
        try:
            confirmation = _confirmations.decode(reply.data)
        except msgspec.MsgspecError:
            # "503 no responders": the stream is not up yet.
            return
        if confirmation.error is not None:
            log.warning("inbox.refused", error=confirmation.error.description)
            return
        waiting.future.set_result(confirmation.seq)

    async def _sweep(self) -> None:
        """Send again what got no confirmation, but only over a connection that stands."""
        while True:
            await asyncio.sleep(1)
            if not self._bus.nc.is_connected:
                continue
            due = time.monotonic() - _RESEND_AFTER_S
            for number, waiting in list(self._waiting.items()):
                if waiting.sent_at < due and not waiting.future.done():
                    waiting.sent_at = time.monotonic()
                    await self._publish(number, waiting)
