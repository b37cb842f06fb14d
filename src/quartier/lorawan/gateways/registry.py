"""Which gateways may speak, and what is known of each while it does.

The store answers the first question (:class:`Gateways`); the second is kept here in memory, bounded per gateway, and
given to pages as a snapshot. GWMP has no authentication, so whoever is not on the list is refused and counted.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from quartier.lorawan.gateways import metrics
from quartier.lorawan.gateways.gps import GpsClock
from quartier.lorawan.gateways.limits import Bucket, Limits, Sources
from quartier.lorawan.types import Discarded, Eui, TransmitError

if TYPE_CHECKING:
    from quartier.lorawan.gateways.links import Link

log = structlog.get_logger(__name__)

_MOST_CHANNELS: Final = 32
_MOST_TEXT: Final = 80
_RTT_SAMPLES: Final = 60
_RTT_ENOUGH: Final = 5
_NOISE_SAMPLES: Final = 60
_STRONG_DB: Final = 5  # above, receivers understate the ratio
_OFFLINE_AFTER_S: Final = 120


class GatewayProtocol(StrEnum):
    """What a gateway speaks."""

    GWMP = "gwmp"
    STATION = "station"
    MQTT = "mqtt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway as it is registered.

    ``networks`` are those it may come from (empty: any). ``credentials`` are SHA-256 of its tokens and of its client
    certificates in DER: two while one replaces the other. ``protocol`` None lets it speak any. Place in WGS 84; the
    gain is that of the antenna less the cable. ``beacon``: it sends the beacons of class B.
    """

    eui: Eui
    municipality: str = ""
    name: str = ""
    protocol: GatewayProtocol | None = None
    disabled: bool = False
    private: bool = False
    lon: float | None = None
    lat: float | None = None
    altitude_m: float | None = None
    antenna_gain_db: float = 0.0
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    credentials: tuple[bytes, ...] = field(default=(), repr=False)
    beacon: bool = False


class Gateways(Protocol):
    """The gateways of this installation. Called on the event loop for every datagram: a look-up in memory."""

    def get(self, eui: Eui) -> Gateway | None:
        """The gateway, or None where it is not known."""

    def signed_in(self, eui: Eui, credential: bytes) -> None:
        """A gateway came in with this credential (SHA-256), so that it has it; older ones may be dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something that was not taken, for the frame log."""

    reason: Discarded
    detail: str
    protocol: GatewayProtocol
    at: datetime
    gateway: Eui | None = None
    address: str = ""
    frequency_hz: int | None = None


class Refused(Exception):
    """A gateway or its message is not taken."""

    def __init__(self, reason: Discarded, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class ChannelCounts:
    """Frames heard on one frequency: intact, and with a wrong checksum."""

    intact: int = 0
    broken: int = 0


@dataclass(slots=True)
class Live:
    """What is known of a gateway while this process runs."""

    eui: Eui
    bucket: Bucket
    protocol: GatewayProtocol | None = None
    link: Link | None = None
    address: str = ""
    address_changes: int = 0
    address_changed_at: datetime | None = None
    connected_at: datetime | None = None
    seen_at: datetime | None = None
    seen_monotonic: float = 0.0
    version: str = ""
    model: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    channels: dict[int, ChannelCounts] = field(default_factory=dict)
    transmitted: int = 0
    failed: Counter[TransmitError] = field(default_factory=Counter)
    refused: Counter[Discarded] = field(default_factory=Counter)
    gps: GpsClock = field(default_factory=GpsClock)
    _rtt_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RTT_SAMPLES))
    _sorted_rtt: list[float] | None = None
    _noise_dbm: deque[float] = field(default_factory=lambda: deque(maxlen=_NOISE_SAMPLES))

    def heard(self, frequency_hz: int, rssi_dbm: float, snr_db: float, *, intact: bool = True) -> None:
        """Count a frame. What is received is signal and noise together, so a weak frame tells the noise, too."""
        channel = self.channels.get(frequency_hz)
        if channel is None:
            if len(self.channels) >= _MOST_CHANNELS:
                return
            channel = self.channels[frequency_hz] = ChannelCounts()
        if intact:
            channel.intact += 1
            if snr_db < _STRONG_DB:
                self._noise_dbm.append(rssi_dbm - 10 * math.log10(1 + 10 ** (snr_db / 10)))
        else:
            channel.broken += 1

    def measured_rtt(self, seconds: float) -> None:
        """Remember how long question and answer took."""
        if 0 <= seconds < 30:
            self._rtt_s.append(seconds)
            self._sorted_rtt = None

    def rtt_s(self, quantile: float = 0.9) -> float | None:
        """A quantile of the round-trip times; None while they are too few."""
        if len(self._rtt_s) < _RTT_ENOUGH:
            return None
        if self._sorted_rtt is None:
            self._sorted_rtt = sorted(self._rtt_s)
        return self._sorted_rtt[min(len(self._rtt_s) - 1, int(quantile * len(self._rtt_s)))]

    def noise_floor_dbm(self) -> float | None:
        """The median of what weak frames told; None where there were none."""
        return sorted(self._noise_dbm)[len(self._noise_dbm) // 2] if self._noise_dbm else None

    def online(self, now: float) -> bool:
        """Whether something can be sent to it."""
        return self.link is not None and now - self.seen_monotonic < _OFFLINE_AFTER_S

    def describe(
        self, *, version: str = "", model: str = "", status: Mapping[str, Any] | None = None
    ) -> None:
        """Keep what the gateway says of itself."""
        self.version = version[:_MOST_TEXT] or self.version
        self.model = model[:_MOST_TEXT] or self.model
        self.status.update(status or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One gateway at one moment, for pages. ``duty_cycle`` is the share of each sub-band's allowance that is used."""

    eui: Eui
    municipality: str
    name: str
    protocol: GatewayProtocol | None
    online: bool
    address: str
    address_changes: int
    address_changed_at: datetime | None
    connected_at: datetime | None
    seen_at: datetime | None
    version: str
    model: str
    status: Mapping[str, Any]
    rtt_median_s: float | None
    rtt_90_s: float | None
    channels: Mapping[int, ChannelCounts]
    noise_floor_dbm: float | None
    transmitted: int
    failed: Mapping[TransmitError, int]
    refused: Mapping[Discarded, int]
    duty_cycle: Mapping[str, float]
    gps: bool | None = None
    """Whether it has GPS time; None where it has not been heard of for long."""


class Registry:
    """Admits gateways and keeps what is known of those that speak."""

    def __init__(
        self,
        gateways: Gateways,
        *,
        limits: Limits | None = None,
        on_refusal: Callable[[Refusal], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gateways = gateways
        self.limits = limits or Limits()
        self.clock = clock
        self._on_refusal = on_refusal
        self._live: dict[Eui, Live] = {}
        self._sources = Sources(self.limits.source_per_s)
        self._strangers = Sources(self.limits.stranger_per_s)
        self._telling = Bucket(self.limits.refusals_told_per_s, 2 * self.limits.refusals_told_per_s)
        self._warning = Bucket(1, 10)

    def live(self, eui: Eui) -> Live | None:
        """What is known of a gateway that was admitted once."""
        return self._live.get(eui)

    def admit(self, eui: Eui, protocol: GatewayProtocol, host: str, now: float) -> tuple[Gateway, Live]:
        """Let something of a gateway in, from the address ``host``, at the monotonic time ``now``. Raises Refused.

        ``host`` is empty where somebody else, such as a broker, knows where the gateway is.
        """
        gateway = self.gateways.get(eui)
        if gateway is None:
            self.stranger(host, now)
            raise Refused(Discarded.UNKNOWN_GATEWAY)
        if host and not self._sources.take(host, now):
            raise Refused(Discarded.RATE_LIMITED, "source address")
        if gateway.disabled:
            raise Refused(Discarded.GATEWAY_DISABLED)
        if gateway.protocol is not None and gateway.protocol is not protocol:
            raise Refused(Discarded.GATEWAY_DISABLED, f"is registered for {gateway.protocol}")
        live = self._live.get(eui)
        if live is None:
            per_s = self.limits.gateway_per_s
            live = self._live[eui] = Live(eui, Bucket(per_s, 2 * per_s))
        if gateway.networks and host and host != live.address:
            # An address that passed once is not looked up again: networks change seldom, see forget().
            _check_network(gateway, host)
        if not live.bucket.take(now):
            raise Refused(Discarded.RATE_LIMITED, "gateway")
        if host and host != live.address:
            self._moved(gateway, live, protocol, host)
        live.protocol = protocol
        live.seen_monotonic = now
        return gateway, live

    def stranger(self, host: str, now: float) -> None:
        """Count somebody who is no gateway of ours. Raises Refused where an address is too busy."""
        if not self._strangers.take(host, now):
            raise Refused(Discarded.RATE_LIMITED, "stranger")

    def _moved(self, gateway: Gateway, live: Live, protocol: GatewayProtocol, host: str) -> None:
        before, live.address = live.address, host
        if not before or live.protocol is not protocol:
            return
        live.address_changes += 1
        live.address_changed_at = datetime.now(UTC)
        metrics.MOVED.labels(protocol).inc()
        if self._warning.take(self.clock()):
            log.warning(
                "gateway.address_changed",
                gateway=gateway.eui.hex(),
                name=gateway.name,
                protocol=protocol,
                before=before,
                now=host,
            )

    def refuse(
        self,
        refused: Refused,
        protocol: GatewayProtocol,
        *,
        gateway: Eui | None = None,
        address: str = "",
        frequency_hz: int | None = None,
    ) -> None:
        """Count a refusal and tell the frame log; in a flood the log hears of some."""
        metrics.REFUSED.labels(protocol, refused.reason).inc()
        live = self._live.get(gateway) if gateway is not None else None
        if live is not None:
            live.refused[refused.reason] += 1
        if self._on_refusal is None or not self._telling.take(self.clock()):
            return
        self._on_refusal(
            Refusal(
                reason=refused.reason,
                detail=refused.detail,
                protocol=protocol,
                at=datetime.now(UTC),
                gateway=gateway,
                address=address,
                frequency_hz=frequency_hz,
            )
        )

    def sign_in(self, gateway: Gateway, token: str, certificate: bytes | None) -> bytes:
        """Check a token or a client certificate (DER); which credential it is. Raises Refused."""
        shown = [hashlib.sha256(value).digest() for value in (token.encode(), certificate) if value]
        if not gateway.credentials:
            raise Refused(Discarded.UNAUTHORISED, "no token or certificate is registered")
        if not shown:
            raise Refused(Discarded.UNAUTHORISED, "neither token nor certificate")
        for digest in shown:
            for known in gateway.credentials:
                if hmac.compare_digest(digest, known):
                    self.gateways.signed_in(gateway.eui, known)
                    return known
        raise Refused(Discarded.UNAUTHORISED, "wrong token or certificate")

    def forget(self, euis: Sequence[Eui]) -> None:
        """Gateways were removed or changed: their addresses are checked again, removed ones are let go."""
        for eui in euis:
            live = self._live.get(eui)
            if live is None:
                continue
            live.address = ""
            if self.gateways.get(eui) is None:
                if live.link is not None:
                    live.link.drop(eui)
                del self._live[eui]

    def snapshot(self, duty_cycle: Callable[[Eui], Mapping[str, float]] | None = None) -> list[Snapshot]:
        """All gateways that were heard since the start."""
        now = self.clock()
        return [self._describe(live, now, duty_cycle) for live in self._live.values()]

    def count_connected(self) -> None:
        """Bring the gauge of connected gateways up to date."""
        now = self.clock()
        counts = Counter(live.protocol for live in self._live.values() if live.online(now))
        for protocol in GatewayProtocol:
            metrics.CONNECTED.labels(protocol).set(counts[protocol])

    def _describe(
        self, live: Live, now: float, duty_cycle: Callable[[Eui], Mapping[str, float]] | None
    ) -> Snapshot:
        gateway = self.gateways.get(live.eui)
        return Snapshot(
            eui=live.eui,
            municipality=gateway.municipality if gateway else "",
            name=gateway.name if gateway else "",
            protocol=live.protocol,
            online=live.online(now),
            address=live.address,
            address_changes=live.address_changes,
            address_changed_at=live.address_changed_at,
            connected_at=live.connected_at,
            seen_at=live.seen_at,
            version=live.version,
            model=live.model,
            status=dict(live.status),
            rtt_median_s=live.rtt_s(0.5),
            rtt_90_s=live.rtt_s(0.9),
            channels={hz: ChannelCounts(one.intact, one.broken) for hz, one in live.channels.items()},
            noise_floor_dbm=live.noise_floor_dbm(),
            transmitted=live.transmitted,
            failed=dict(live.failed),
            refused=dict(live.refused),
            duty_cycle=duty_cycle(live.eui) if duty_cycle else {},
            gps=live.gps.holds(now) or live.gps.told,
        )


def _check_network(gateway: Gateway, host: str) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        raise Refused(Discarded.WRONG_NETWORK, "unreadable address") from None
    mapped = getattr(address, "ipv4_mapped", None)
    if not any((mapped or address) in network for network in gateway.networks):
        raise Refused(Discarded.WRONG_NETWORK, host)
