"""What the process ``intake`` runs of this room: the connectors, the makers' bridge, and the door of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from quartier.config import config
from quartier.engines.bus import Bus
from quartier.engines.nkeys import Issuer
from quartier.engines.pools import Pool
from quartier.sources.connect import mqtt
from quartier.sources.connectors import Connectors
from quartier.sources.makers_bridge import Bridge
from quartier.sources.mqtt_door import Door, Further, nothing_more


def tasks(
    pool: Pool,
    bus: Bus,
    stop: asyncio.Event,
    *,
    own_broker: mqtt.OwnBroker | None = None,
    issuer: Issuer | None = None,
    further: Further = nothing_more,
    kept: Sequence[asyncio.Event] = (),
) -> dict[str, Coroutine[Any, Any, None]]:
    """The tasks by name; each ends when ``stop`` is set.

    ``further`` are MQTT topics of other rooms; ``kept`` are set when those keep what is published there.
    """
    own = own_broker or mqtt.own_broker()
    bridge = Bridge(pool, bus, own_broker=own)
    door = Door(bus, issuer or Issuer.of(config().data), further)

    async def open_door() -> None:
        # Nobody is let in before messages are kept: a PUBACK without a subscriber would be an empty promise.
        for event in (bridge.ready, *kept):
            waiting = {asyncio.create_task(event.wait()), asyncio.create_task(stop.wait())}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in waiting:
                one.cancel()
        if not stop.is_set():
            await door.run(stop)

    return {
        "connectors": Connectors(pool, bus, own_broker=own).run(stop),
        "makers": bridge.run(stop),
        "door": open_door(),
    }
