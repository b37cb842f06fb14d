"""Which topics somebody wants. The broker tells nobody who subscribes, so it is asked.

Who is connected is seen in the list of connections of the account (any quality of service); persistent sessions whose
client is away at the moment are seen as consumers of the broker's own stream. Both are asked on the bus that every
process has; no further account and no monitoring port is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from typing import Any, Final

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.js.errors import Error as JetStreamError

from quartier.engines.bus import Bus
from quartier.interfaces.sensorthings.mqtt import topics

_CONNECTIONS: Final = "$SYS.REQ.ACCOUNT.PING.CONNZ"
_ADVISORIES: Final = "$JS.EVENT.ADVISORY.CONSUMER.*.$MQTT_msgs.>"
_STREAM: Final = "$MQTT_msgs"
_STORED: Final = "$MQTT.msgs."
_PAGE: Final = 1024
# Even where no advisory came: one may have been lost with a connection.
_CONSUMERS_EVERY_S: Final = 15.0
_ANSWER_S: Final = 2.0
# More servers than one answer at the same moment or not at all.
_QUIET_S: Final = 0.05


class Wanted:
    """Asks for the topics that are wanted."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kept: set[str] = set()
        self._kept_at_s = 0.0
        self._changed = True

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[Wanted]:
        """While entered, changes of persistent sessions are noticed at once."""

        async def changed(_: Msg) -> None:
            self._changed = True

        subscription = await self._bus.nc.subscribe(_ADVISORIES, cb=changed)
        try:
            yield self
        finally:
            if not self._bus.nc.is_closed:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()

    async def now(self) -> set[str]:
        """All topics of ours that are subscribed to. Raises nats.errors.Error where it cannot be found out."""
        found = await self._connected()
        if self._changed or time.monotonic() - self._kept_at_s > _CONSUMERS_EVERY_S:
            self._changed = False
            try:
                self._kept = await self._sessions()
            except BaseException:
                self._changed = True
                raise
            self._kept_at_s = time.monotonic()
        return found | self._kept

    async def _connected(self) -> set[str]:
        found: set[str] = set()
        offset = 0
        while True:
            answers = await self._ask({"subscriptions": True, "limit": _PAGE, "offset": offset})
            for answer in answers:
                for connection in answer["data"].get("connections") or ():
                    if "mqtt_client" in connection:
                        found |= _ours(connection.get("subscriptions_list") or ())
            offset += _PAGE
            if all(answer["data"].get("total", 0) <= offset for answer in answers):
                return found

    async def _ask(self, question: dict[str, Any]) -> list[Any]:
        """The answers of all servers."""
        nc = self._bus.nc
        subscription = await nc.subscribe(inbox := nc.new_inbox())
        answers: list[Any] = []
        try:
            await nc.publish(_CONNECTIONS, orjson.dumps(question), reply=inbox)
            alone = not nc.discovered_servers
            with contextlib.suppress(nats.errors.TimeoutError):
                while True:
                    wait_s = _QUIET_S if answers else _ANSWER_S
                    answers.append(orjson.loads((await subscription.next_msg(timeout=wait_s)).data))
                    if alone:
                        break
        finally:
            await subscription.unsubscribe()
        if not answers:
            raise nats.errors.TimeoutError
        return answers

    async def _sessions(self) -> set[str]:
        found: set[str] = set()
        offset = 0
        while True:
            try:
                consumers = await self._bus.js.consumers_info(_STREAM, offset)
            except JetStreamError:
                return found  # before the first MQTT client there is no such stream
            for consumer in consumers:
                subject = consumer.config.filter_subject or ""
                if subject.startswith(_STORED):
                    found |= _ours([subject.removeprefix(_STORED)])
            if not consumers:
                return found
            offset += len(consumers)
            await asyncio.sleep(0)


def _ours(subjects: Iterable[str]) -> set[str]:
    return {topic for subject in subjects if "//" in subject and (topic := _topic_of(subject))}


@lru_cache(maxsize=100_000)
def _topic_of(subject: str) -> str:
    """The topic of a subject; empty if it is none of ours."""
    topic = topics.topic_of(subject)
    return topic if topics.parse(topic) is not None else ""
