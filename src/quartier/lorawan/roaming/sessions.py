"""What a forwarding network remembers of others' devices: stateful roaming, refusals for a while, homes of devices.

All of it is a cache with a bound and an end: losing it costs one more PRStartReq per device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.roaming.fields import TokenHex
from quartier.lorawan.roaming.peers import MicKey, Rate

MAX_SESSIONS: Final = 100_000


@dataclass(slots=True, kw_only=True)
class RoamingSession:
    """A device in stateful passive roaming (TS002 1.0 §11.3.1, step 7). ``until_s`` is monotonic."""

    peer: str
    dev_addr: int
    dev_eui: bytes
    until_s: float
    key: MicKey | None = None
    counter: int | None = None
    sender_token: TokenHex | None = None
    uplink_rate: Rate | None = None
    """What the serving network's ServiceProfile grants the device (§17.2)."""


class Expiring[K: Hashable, V]:
    """A bounded mapping whose values end. The clock is the caller's."""

    def __init__(self, bound: int = MAX_SESSIONS) -> None:
        self._bound = bound
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: K, value: V, until_s: float) -> None:
        """Remember until then; the oldest goes if there are too many."""
        self._values[key] = (until_s, value)
        self._values.move_to_end(key)
        while len(self._values) > self._bound:
            self._values.popitem(last=False)

    def get(self, key: K, now_s: float) -> V | None:
        """What is remembered, if it still holds."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[0] <= now_s:
            del self._values[key]
            return None
        return found[1]

    def pop(self, key: K) -> V | None:
        """Forget."""
        found = self._values.pop(key, None)
        return found[1] if found is not None else None

    def items(self, now_s: float) -> Iterator[tuple[K, V]]:
        """All that still hold."""
        for key, (until_s, value) in tuple(self._values.items()):
            if until_s > now_s:
                yield key, value


class RoamingSessions:
    """Stateful sessions by address; several devices of several peers may share one."""

    def __init__(self) -> None:
        self._by_device: Expiring[tuple[str, bytes], RoamingSession] = Expiring()
        self._by_addr: dict[int, set[tuple[str, bytes]]] = {}

    def put(self, session: RoamingSession) -> None:
        """Begin or extend."""
        identity = (session.peer, session.dev_eui)
        self.end(*identity)
        self._by_device.put(identity, session, session.until_s)
        self._by_addr.setdefault(session.dev_addr, set()).add(identity)

    def at(self, dev_addr: int, now_s: float) -> list[RoamingSession]:
        """Sessions with this address that still hold."""
        found = []
        for identity in tuple(self._by_addr.get(dev_addr, ())):
            session = self._by_device.get(identity, now_s)
            if session is None:
                self._unlist(dev_addr, identity)
            else:
                found.append(session)
        return found

    def end(self, peer: str, dev_eui: bytes) -> RoamingSession | None:
        """End a session; None if there was none."""
        session = self._by_device.pop((peer, dev_eui))
        if session is not None:
            self._unlist(session.dev_addr, (peer, dev_eui))
        return session

    def _unlist(self, dev_addr: int, identity: tuple[str, bytes]) -> None:
        listed = self._by_addr.get(dev_addr)
        if listed is not None:
            listed.discard(identity)
            if not listed:
                del self._by_addr[dev_addr]
