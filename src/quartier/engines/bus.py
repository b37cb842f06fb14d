"""The message bus: a NATS connection with the two streams that every process relies on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from quartier.config import config

INBOX = "inbox"
OBSERVED = "observed"
_DAY_S = 86_400


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
