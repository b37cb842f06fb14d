"""Publishing finished messages: an MQTT connection with QoS 1, which knows when the broker has a message for good."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self

import aiomqtt

from quartier.engines.nats import OUTGOING
from quartier.interfaces.sensorthings.mqtt.metrics import SENT
from quartier.sources.connect.mqtt import OwnBroker, client_id

_PREFIX: Final = OUTGOING.replace(".", "/")
_AT_ONCE: Final = 500
_CONFIRM_S: Final = 30.0
_quiet = logging.getLogger("quartier.sensorthings.outlet")
_quiet.setLevel(logging.CRITICAL)


class Message(NamedTuple):
    """A body for a topic; ``retain`` lets the broker keep it for newcomers."""

    topic: str
    body: bytes
    retain: bool = False


class Outlet:
    """An open connection to the broker. Raises aiomqtt.MqttError where it breaks."""

    def __init__(self, broker: OwnBroker) -> None:
        self._client = aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=client_id("sensorthings-out"),
            clean_session=True,
            timeout=_CONFIRM_S,
            max_inflight_messages=_AT_ONCE,
            max_queued_outgoing_messages=0,
            logger=_quiet,
        )
        self._client.pending_calls_threshold = 2 * _AT_ONCE

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def send(self, messages: Iterable[Message]) -> None:
        """Publish in order; returns when the broker has all of them (PUBACK)."""
        waiting: list[Message] = list(messages)
        for start in range(0, len(waiting), _AT_ONCE):
            part = waiting[start : start + _AT_ONCE]
            # Tasks begin in the order in which they are made, and each publishes before it first waits.
            await asyncio.gather(
                *(
                    self._client.publish(f"{_PREFIX}/{one.topic}", one.body, qos=1, retain=one.retain)
                    for one in part
                )
            )
            SENT.inc(len(part))
