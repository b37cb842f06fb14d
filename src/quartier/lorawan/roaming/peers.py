"""Peers and agreements as plain values: what the radio process works with, read from the database by ``store``.

Inside NetID 000000, which every network may use, a DevAddr says nothing about whose device it is. So an agreement may
name sub-ranges of addresses, lists of EUIs, and keys to check a frame's MIC with before it leaves the house.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from quartier.lorawan.roaming.fields import Eui64, RatePolicy

SHARED_NET_IDS: Final = frozenset({"000000", "000001"})
"""Anybody may use these (TS002 1.0 §13), so they identify nobody."""


class PeerProtocol(StrEnum):
    """How a peer is spoken to. The last two are for servers without roaming: we are one gateway of theirs."""

    TS002_1_0 = "ts002-1.0"
    TS002_1_1 = "ts002-1.1"
    GWMP = "gwmp"
    STATION = "station"

    @property
    def version(self) -> str:
        """Of Backend Interfaces."""
        return "1.1" if self is PeerProtocol.TS002_1_1 else "1.0"

    @property
    def backend_interfaces(self) -> bool:
        """Whether it is Backend Interfaces at all."""
        return self in (PeerProtocol.TS002_1_0, PeerProtocol.TS002_1_1)


class Direction(StrEnum):
    """Whose gateways work for whom."""

    CARRY = "carry"
    """Our gateways for the peer's devices: we are the forwarding network."""
    CARRIED = "carried"
    """The peer's gateways for our devices: we are the serving and home network."""


class DataClass(StrEnum):
    """What of a frame is shared."""

    JOIN = "join"
    MAC = "mac"
    APPLICATION = "application"
    SIGNAL_QUALITY = "signal_quality"
    LOCATION = "location"


class GatewayChoice(StrEnum):
    """Which gateways take part."""

    PUBLIC = "public"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Range:
    """Values of ``bits`` bits (a DevAddr has 32, an EUI 64) with the same first ``length`` bits."""

    prefix: int
    length: int
    bits: int

    @classmethod
    def parse(cls, text: str, bits: int) -> Range:
        """From ``00e20000/16``, or one value without a length. Raises ValueError."""
        digits, _, tail = text.strip().partition("/")
        digits = digits.replace("-", "").replace(":", "").removeprefix("0x")
        if len(digits) != bits // 4:
            raise ValueError(f"{text!r}: {bits // 4} hexadecimal digits are expected")
        try:
            value = int(digits, 16)
            length = int(tail) if tail else bits
        except ValueError:
            raise ValueError(f"{text!r} is no range") from None
        if not 0 <= length <= bits:
            raise ValueError(f"{text!r}: the length is not between 0 and {bits}")
        if value & ((1 << bits - length) - 1):
            raise ValueError(f"{text!r}: bits are set behind the prefix")
        return cls(value, length, bits)

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int):
            return False
        shift = self.bits - self.length
        return value >> shift == self.prefix >> shift

    def __str__(self) -> str:
        digits = f"{self.prefix:0{self.bits // 4}x}"
        return digits if self.length == self.bits else f"{digits}/{self.length}"


def ranges(texts: Iterable[str], bits: int) -> tuple[Range, ...]:
    """All of them. Raises ValueError for the first that is none."""
    return tuple(Range.parse(text, bits) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Which devices an agreement is about. Every list that is given must fit what is known of the frame.

    ``tags`` are those of our own devices, so they only say something where we are carried.
    """

    dev_addrs: tuple[Range, ...] = ()
    dev_euis: tuple[Range, ...] = ()
    join_euis: tuple[Range, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def unlimited(self) -> bool:
        """Nothing is listed."""
        return not (self.dev_addrs or self.dev_euis or self.join_euis or self.tags)


@dataclass(frozen=True, slots=True)
class Rate:
    """Frames per hour of one device, with a bucket for bursts (TS002 ServiceProfile)."""

    per_hour: float
    bucket: int
    policy: RatePolicy = RatePolicy.DROP


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What two networks agreed in one direction; ``id`` is its row. Budgets of None are unlimited."""

    id: int
    direction: Direction
    devices: Devices = Devices()
    gateways: GatewayChoice = GatewayChoice.PUBLIC
    classes: frozenset[DataClass] = frozenset(DataClass)
    uplink_rate: Rate | None = None
    downlink_rate: Rate | None = None
    uplink_airtime_s_per_day: float | None = None
    downlink_airtime_s_per_day: float | None = None
    downlinks_per_day: int | None = None
    mic_filter: bool = False
    hand_over_keys: bool = False
    lifetime_s: int = 0
    """How long a carrier may remember a device; 0 is stateless roaming."""
    class_c: bool = True
    valid_from: datetime
    valid_until: datetime | None = None
    signed_here_at: datetime | None = None
    signed_there_at: datetime | None = None
    purpose: str = ""
    retention_days: int = 30

    def in_force(self, now: datetime) -> bool:
        """Signed by both sides and within its time."""
        return (
            self.signed_here_at is not None
            and self.signed_there_at is not None
            and self.valid_from <= now
            and (self.valid_until is None or now < self.valid_until)
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MicKey:
    """What checks whether a frame is of a peer's device: NwkSKey (1.0) or FNwkSIntKey (1.1, half of the MIC)."""

    dev_addr: int
    key: bytes
    version_1_1: bool = False
    dev_eui: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How a peer proves who it is. One of them must fit; with none set, nothing from the peer is believed."""

    fingerprints: frozenset[str] = frozenset()
    """SHA-256 of client certificates, lower-case hexadecimal."""
    subject: str = ""
    """Common name of a client certificate that ``authority`` signed."""
    authority: str = ""
    """PEM certificate of who signs the peer's certificates."""
    bearer_digest: str = ""
    """SHA-256 of the secret in its Authorization header, for peers behind a proxy that ends TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM texts for calling a peer; ``ca`` empty takes the system's authorities."""

    certificate: str = ""
    key: str = field(default="", repr=False)
    ca: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualGateway:
    """How we appear to a server without roaming: as this gateway."""

    eui: bytes
    host: str = ""
    port: int = 1700
    url: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A neighbouring network, or a join server."""

    key: str
    """Slug; also the key of its transmitter."""
    name: str
    id: int = 0
    net_ids: tuple[str, ...] = ()
    """Six hexadecimal digits each; the first is what we address it as."""
    nsid: Eui64 | None = None
    join_euis: tuple[Range, ...] = ()
    """Join requests with these go to it, or are asked about if it is a join server only."""
    protocol: PeerProtocol = PeerProtocol.TS002_1_0
    url: str = ""
    asynchronous: bool = False
    role_suffix: bool = False
    authorization: str = field(default="", repr=False)
    """Value of the Authorization header for calls to it."""
    tls: Tls = Tls()
    credentials: Credentials = Credentials()
    keks: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    kek_label: str = ""
    """With which of ``keks`` we wrap keys for it."""
    mic_keys: Mapping[int, tuple[MicKey, ...]] = field(default_factory=dict, repr=False)
    agreements: tuple[Agreement, ...] = ()
    gateway: VirtualGateway | None = None
    timeout_s: float = 5.0
    enabled: bool = True

    @property
    def net_id(self) -> str:
        """What we address it as; empty for a join server."""
        return self.net_ids[0] if self.net_ids else ""

    def may_call_itself(self, sender: str) -> bool:
        """Whether SenderID ``sender`` (canonical) is this peer: one of its NetIDs, or one of its JoinEUIs."""
        if sender in self.net_ids:
            return True
        return (
            len(sender) == 16 and _hexadecimal(sender) and any(int(sender, 16) in r for r in self.join_euis)
        )

    def agreement(self, direction: Direction, now: datetime) -> Agreement | None:
        """The agreement in force in that direction; of several the newest."""
        found = [a for a in self.agreements if a.direction is direction and a.in_force(now)]
        return max(found, key=lambda a: a.valid_from) if self.enabled and found else None


def _hexadecimal(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)
