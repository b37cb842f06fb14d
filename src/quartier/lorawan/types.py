"""What gateways, network server and roaming hand to each other.

Plain values that know no database and no protocol, so that a frame takes the same way whether a packet forwarder, a
Basics Station or a neighbouring network heard it. Frequencies in Hz, powers in dBm, times in UTC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec

Eui = bytes
"""Eight bytes, most significant first, as printed on a device."""


class Reception(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One frame as one gateway heard it. A msgspec struct, because every datagram makes one.

    ``context`` belongs to the gateway's protocol (a time stamp counter, Station's xtime and rctx): what it needs to
    transmit a given time after this reception. ``fine_time_ns`` is the gateway's GPS time of arrival within the second.
    ``private``: the gateway's owner does not want its place known.
    """

    gateway: Eui
    phy: bytes
    frequency_hz: int
    data_rate: int
    received_at: datetime
    received_monotonic: float
    rssi_dbm: float
    snr_db: float
    context: Mapping[str, Any] = msgspec.field(default_factory=dict)
    channel: int | None = None
    fine_time_ns: int | None = None
    gps_time_ms: int | None = None
    lon: float | None = None
    lat: float | None = None
    private: bool = False
    peer: str = ""
    """Key of the peer whose network heard it; empty for our own gateways."""
    token: str = ""
    """The peer's uplink token, which comes back with a downlink through this reception."""


class TransmitError(StrEnum):
    """Why a transmission did not happen. The first six are those of GWMP."""

    TOO_LATE = "too_late"
    TOO_EARLY = "too_early"
    COLLISION_PACKET = "collision_packet"
    COLLISION_BEACON = "collision_beacon"
    TX_FREQ = "tx_freq"
    TX_POWER = "tx_power"
    GPS_UNLOCKED = "gps_unlocked"
    DUTY_CYCLE = "duty_cycle"
    GATEWAY_OFFLINE = "gateway_offline"
    NO_CONFIRMATION = "no_confirmation"
    NOT_ALLOWED = "not_allowed"
    QUEUE_FULL = "queue_full"
    PEER = "peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One opportunity to transmit: ``delay_s`` after the reception, or at once where ``delay_s`` is None (class C)."""

    frequency_hz: int
    data_rate: int
    delay_s: float | None
    power_dbm: float | None = None
    """EIRP; None takes what the region allows on the frequency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmission:
    """A frame to be sent by one gateway, in the first of ``windows`` that is possible (RX1 before RX2).

    ``context`` is that of the reception that is answered; empty for class C. ``id`` comes back in the result.
    """

    id: int
    gateway: Eui
    phy: bytes
    windows: tuple[Window, ...]
    context: Mapping[str, Any] = field(default_factory=dict)
    received_monotonic: float | None = None
    device: Eui | None = None
    priority: int = 0
    gps_time_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmitResult:
    """What became of a transmission; ``window`` is the index of the one that was used."""

    id: int
    ok: bool
    error: TransmitError | None = None
    detail: str = ""
    window: int | None = None
    gateway: Eui | None = None
    at: datetime | None = None
    airtime_s: float = 0.0


class Transmitter(Protocol):
    """Sends frames by a gateway, or by a peer's network. The answer tells the truth: no confirmation is a failure."""

    def transmit(self, transmission: Transmission) -> Awaitable[TransmitResult]:
        """Returns when the gateway has confirmed or refused, or has said nothing in time. Never raises."""


class Receiver(Protocol):
    """Takes what gateways hear. Called on the event loop and must return quickly."""

    def receive(self, reception: Reception) -> None:
        """One reception; several of one frame arrive one after the other."""


class Discarded(StrEnum):
    """Why a frame or datagram was not taken; counted under these names and shown in the frame log."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNKNOWN_GATEWAY = "unknown_gateway"
    GATEWAY_DISABLED = "gateway_disabled"
    WRONG_NETWORK = "wrong_network"
    UNAUTHORISED = "unauthorised"
    UNSUPPORTED = "unsupported"
    RATE_LIMITED = "rate_limited"
    CRC = "crc"
    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_DEV_ADDR = "unknown_dev_addr"
    WRONG_MIC = "wrong_mic"
    REPLAY = "replay"
    RETRANSMISSION = "retransmission"
    DEV_NONCE_USED = "dev_nonce_used"
    COUNTER_GAP = "counter_gap"
    DEVICE_DISABLED = "device_disabled"
    NOT_AGREED = "not_agreed"
    BUDGET = "budget"
    PROPRIETARY = "proprietary"
