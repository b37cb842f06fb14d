"""The message bus: a NATS connection with the two streams that every process relies on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from quartier.config import config
from quartier.engines.nats import SESSION_HOURS

INBOX = "inbox"
OBSERVED = "observed"
_DAY_S = 86_400
# What the broker keeps for MQTT sessions whose clients are away; the oldest goes first.
MQTT_MESSAGES: Final = "$MQTT_msgs"
MQTT_BYTES: Final = 4 * 1024**3


@dataclass(slots=True)
class Bus:
    """An open connection: ``nc`` for plain subjects, ``js`` for streams."""

    nc: Client
    js: JetStreamContext

    async def close(self) -> None:
        """Send what is waiting and disconnect. Subscriptions end where they are; streams keep what was not taken."""
        if self.nc.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self.nc.flush(timeout=2)
        if not self.nc.is_closed:
            await self.nc.close()


async def _ensure_stream(js: JetStreamContext, wanted: StreamConfig) -> None:
    assert wanted.name is not None  # noqa: S101 (a stream without a name is a programming error)
    try:
        await js.stream_info(wanted.name)
    except NotFoundError:
        await js.add_stream(wanted)
    else:
        await js.update_stream(wanted)


async def connect(url: str = "", *, name: str = "quartier", reconnect: bool = True) -> Bus:
    """Connect (and keep reconnecting for ever) and make sure that the streams exist.

    A connection that reconnects sends what was waiting when it broke, at a time that nobody chose. Who must know what
    arrived asks for ``reconnect=False`` and opens a new one.
    """
    nc = await nats.connect(
        url or config().nats_url,
        name=name,
        allow_reconnect=reconnect,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,
        connect_timeout=5,
        pending_size=32 * 1024 * 1024,
    )
    js = nc.jetstream(timeout=10, publish_async_max_pending=4096)
    await _ensure_stream(
        js,
        StreamConfig(
            name=INBOX,
            subjects=[f"{INBOX}.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=config().inbox_days * _DAY_S,
            duplicate_window=120,
        ),
    )
    await _ensure_stream(
        js,
        StreamConfig(
            name=OBSERVED,
            subjects=[f"{OBSERVED}.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=2 * _DAY_S,
            max_bytes=2 * 1024**3,
            duplicate_window=120,
        ),
    )
    return Bus(nc, js)


async def bound_mqtt(bus: Bus) -> bool:
    """Limit what waits for MQTT sessions whose clients are away; False as long as no client ever connected.

    The server removes a message when every session has acknowledged it, and keeps none that no session wants. But one
    subscriber that stays away would fill the disk until its session is forgotten, and with it stop the inbox.
    """
    # As JSON and not in the client's own types, which would drop settings of newer servers.
    try:
        settings = (await _api(bus, f"STREAM.INFO.{MQTT_MESSAGES}"))["config"]
    except NotFoundError:
        return False
    wanted = {"max_bytes": MQTT_BYTES, "max_age": (SESSION_HOURS + 1) * 3600 * 10**9, "discard": "old"}
    if settings != settings | wanted:
        await _api(bus, f"STREAM.UPDATE.{MQTT_MESSAGES}", settings | wanted)
    return True


async def _api(bus: Bus, question: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of JetStream as it came. Raises nats' APIError."""
    payload = json.dumps(body).encode() if body is not None else b""
    answer: dict[str, Any] = json.loads(
        (await bus.nc.request(f"$JS.API.{question}", payload, timeout=5)).data
    )
    if error := answer.get("error"):
        # It raises the class that fits the code.
        APIError.from_error(error)
    return answer


class Unconfirmed(NamedTuple):
    """What a consumer has delivered and nobody has confirmed (position, body), and the number of its next delivery."""

    messages: list[tuple[int, bytes]]
    next_delivery: int


async def unconfirmed(
    bus: Bus, stream: str, consumer: str, *, known: Collection[int] = frozenset()
) -> Unconfirmed:
    """Look up in the stream what was on its way when a connection broke, apart from the positions ``known``.

    It would come again only after a while, and not at all once a consumer that confirms everything up to a message
    has confirmed a later one.
    """
    found: list[tuple[int, bytes]] = []
    try:
        info = await bus.js.consumer_info(stream, consumer)
    except NotFoundError:
        return Unconfirmed(found, 1)
    if info.ack_floor is None or info.delivered is None:
        return Unconfirmed(found, 1)
    for position in range(info.ack_floor.stream_seq + 1, info.delivered.stream_seq + 1):
        if position not in known:
            with contextlib.suppress(NotFoundError):  # it is older than the stream keeps
                found.append((position, (await bus.js.get_msg(stream, position)).data or b""))
    return Unconfirmed(found, info.delivered.consumer_seq + 1)
