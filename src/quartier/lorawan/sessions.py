"""Devices and sessions as the radio keeps them in memory: a few hundred bytes each, found by EUI and by DevAddr.

Plain objects with slots: a hundred thousand of them are there from the start, and what most of them never need (the
state of their MAC layer) stays the text that the database gave until somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from quartier.lorawan.frames.crypto import SessionKeys, session_1_0
from quartier.lorawan.frames.regions import Region
from quartier.lorawan.types import Eui

FIRST_EXTRA_CHANNEL: Final = 3
MOST_PLACES: Final = 4
"""By how many gateways a device of class B or C is tried, the best one first."""
Place = tuple[Eui, str]
"""A gateway and the peer whose it is (empty: ours)."""
_NO_TAGS: Final[Mapping[str, str]] = {}


class Profile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What devices of one make have in common; see ``models.DeviceProfile``."""

    id: int
    key: str
    mac_version: str = "1.0.3"
    region: str = "EU868"
    device_class: str = "A"
    adr: bool = True
    adr_margin_db: float = 10
    rx1_delay_s: int = 1
    rx1_dr_offset: int = 0
    rx2_data_rate: int = 0
    rx2_frequency_hz: int = 869_525_000
    abp_frequencies_hz: tuple[int, ...] = ()
    extra_frequencies_hz: tuple[int, ...] = ()
    maximum_eirp_dbm: float | None = None
    uplink_dwell_time: bool = False
    downlink_dwell_time: bool = False
    maximum_duty_cycle: int = 0
    status_interval_s: int = 86_400
    class_c_timeout_s: int = 5
    ping_slot_periodicity: int = 7
    ping_slot_data_rate: int = 3
    ping_slot_frequency_hz: int = 869_525_000
    beacon_frequency_hz: int | None = None
    class_b_timeout_s: int = 8
    downlink_frequencies_hz: dict[int, int] = {}
    adr_ack_exponents: tuple[int, int] | None = None
    rejoin_exponents: tuple[int, int] | None = None

    @property
    def lorawan_1_1(self) -> bool:
        """Whether devices of this profile speak 1.1."""
        return self.mac_version.startswith("1.1")


class MacState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a device uses as far as it has confirmed it, and what it was asked and has not answered.

    Kept as JSON beside the counters. ``asked``, ``refused`` and ``tries`` are by the name of the request; the values
    are its parameters. Channels are Hz by index, without the region's default ones.
    """

    rx1_delay_s: int = 1
    rx1_dr_offset: int = 0
    rx2_data_rate: int = 0
    rx2_frequency_hz: int = 869_525_000
    channels: dict[int, int] = {}
    mask: int = 0b111
    downlink_hz: dict[int, int] = {}
    data_rate: int | None = None
    power: int = 0
    repetitions: int = 1
    duty_cycle: int = 0
    dwell_eirp: list[int] = []
    adr_parameters: list[int] = []
    rejoin: list[int] = []
    minor: int | None = None
    device_class: str = ""
    class_b_since: int = 0
    """Unix time since when its uplinks say that its ping slots are open; 0: they are not."""
    ping_slot_periodicity: int | None = None
    """As the device has said."""
    ping_slot_data_rate: int = 3
    ping_slot_frequency_hz: int = 869_525_000
    beacon_frequency_hz: int = 0
    """0 is the region's own."""
    asked: dict[str, list[int]] = {}
    tries: dict[str, int] = {}
    refused: dict[str, list[int]] = {}
    status_asked_at: int = 0
    battery: int | None = None
    margin_db: int | None = None
    status_at: int = 0
    confirmed_down: int | None = None
    """Counter of the last confirmed downlink; a 1.1 device's acknowledgement is signed with it."""


_mac_decoder = msgspec.json.Decoder(MacState)
_mac_encoder = msgspec.json.Encoder()


def initial_state(
    profile: Profile, region: Region, frequencies_hz: Iterable[int] = (), *, abp: bool = False
) -> MacState:
    """The state after a join with these channels (CFList), or that of an ABP device as it was made.

    A device that joins is told the profile's receive parameters with the join accept.
    """
    extra = profile.abp_frequencies_hz if abp else tuple(frequencies_hz)
    channels = {FIRST_EXTRA_CHANNEL + number: hertz for number, hertz in enumerate(extra)}
    mask = (1 << len(region.default_channels)) - 1
    for index in channels:
        mask |= 1 << index
    return MacState(
        rx1_delay_s=profile.rx1_delay_s,
        rx1_dr_offset=profile.rx1_dr_offset,
        rx2_data_rate=profile.rx2_data_rate,
        # A join accept cannot say another frequency.
        rx2_frequency_hz=profile.rx2_frequency_hz if abp else region.rx2_frequency_hz,
        channels=channels,
        mask=mask,
        ping_slot_data_rate=profile.ping_slot_data_rate if abp else region.ping_slot_data_rate,
        ping_slot_frequency_hz=profile.ping_slot_frequency_hz if abp else region.ping_slot_frequency_hz,
        beacon_frequency_hz=(profile.beacon_frequency_hz or 0) if abp else 0,
    )


class Device:
    """A registered device with its session, and the one that begins with its next uplink."""

    __slots__ = (
        "activation",
        "active",
        "counter_reset",
        "eui",
        "id",
        "may_roam",
        "municipality",
        "pending",
        "profile",
        "session",
        "tags",
    )

    def __init__(
        self,
        *,
        id: int,
        eui: Eui,
        municipality: str,
        profile: Profile,
        activation: str = "otaa",
        active: bool = True,
        counter_reset: bool = False,
        may_roam: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.id = id
        self.eui = eui
        self.municipality = municipality
        self.profile = profile
        self.activation = activation
        self.active = active
        self.counter_reset = counter_reset
        self.may_roam = may_roam
        self.tags: Mapping[str, str] = tags or _NO_TAGS
        self.session: Session | None = None
        self.pending: Session | None = None


class Session:
    """Keys and counters. What is durable of the counters stands in ``saved``; the others may be ahead of it.

    ``up`` is the last accepted uplink counter (-1: none), ``network_down`` and ``application_down`` the next ones to
    use.
    """

    __slots__ = (
        "_mac",
        "application_down",
        "delivered",
        "dev_addr",
        "device",
        "gateway",
        "history",
        "id",
        "keys",
        "mac_changed",
        "network_down",
        "others",
        "others_changed",
        "peer",
        "pending",
        "saved",
        "seen_at",
        "up",
        "version",
    )

    def __init__(
        self,
        *,
        id: int,
        device: Device,
        dev_addr: int,
        version: str,
        keys: SessionKeys,
        pending: bool = False,
        up: int = -1,
        delivered: int = -1,
        network_down: int = 0,
        application_down: int = 0,
        mac: str | MacState | None = None,
        gateway: Eui | None = None,
        peer: str = "",
        others: Sequence[Place] = (),
        seen_at: datetime | None = None,
    ) -> None:
        self.id = id
        self.device = device
        self.dev_addr = dev_addr
        self.version = version
        self.keys = keys
        self.pending = pending
        self.up = up
        self.delivered = delivered
        self.network_down = network_down
        self.application_down = application_down
        self.saved = (up, network_down, application_down)
        self._mac = None if mac == "{}" else mac
        self.mac_changed = False
        self.history = b""
        self.gateway = gateway
        self.peer = peer
        self.others = tuple(others)
        self.others_changed = False
        self.seen_at = seen_at

    @property
    def places(self) -> list[Place]:
        """Who can send to a device that listens by itself, the best one first; nobody before its first uplink."""
        if self.gateway is None:
            return []
        # While it spoke as class A, only the best one was kept, which may be one of the others.
        return list(dict.fromkeys([(self.gateway, self.peer), *self.others]))

    def remember_places(self, heard: Iterable[Place]) -> None:
        """Who heard it now, the best one first. Who heard it earlier comes after them."""
        places = tuple(dict.fromkeys([*heard, *self.places]))[:MOST_PLACES]
        self.others_changed = self.others_changed or places[1:] != self.others
        (self.gateway, self.peer), self.others = places[0], places[1:]

    def know_place(self, place: Place) -> None:
        """Somebody else heard its last frame, too late to be asked first."""
        places = self.places
        if place not in places and len(places) < MOST_PLACES:
            self.others, self.others_changed = (*self.others, place), True

    @property
    def mac(self) -> MacState:
        """The state of the MAC layer; whoever changes it sets ``mac_changed``."""
        if not isinstance(self._mac, MacState):
            self._mac = _mac_decoder.decode(self._mac) if self._mac else MacState()
        return self._mac

    def mac_json(self) -> str:
        """For the database."""
        return _mac_encoder.encode(self.mac).decode()

    @property
    def counters(self) -> tuple[int, int, int]:
        """What has to be durable before it counts."""
        return (self.up, self.network_down, self.application_down)

    @property
    def lorawan_1_1(self) -> bool:
        """Whether this session has separate keys and counters."""
        return self.keys.lorawan_1_1

    def take_down(self, *, application: bool) -> int:
        """The next downlink counter, which is used with this call. Only 1.1 counts the application's own."""
        if application and self.lorawan_1_1:
            self.application_down += 1
            return self.application_down - 1
        self.network_down += 1
        return self.network_down - 1


def pack_keys(keys: SessionKeys) -> bytes:
    """Session keys in the order in which they are sealed: two of a 1.0.x session, four of one of 1.1."""
    if keys.lorawan_1_1:
        return keys.f_nwk_s_int_key + keys.s_nwk_s_int_key + keys.nwk_s_enc_key + keys.app_s_key
    return keys.f_nwk_s_int_key + keys.app_s_key


def unpack_keys(packed: bytes) -> SessionKeys:
    """The inverse of :func:`pack_keys`."""
    if len(packed) == 32:
        return session_1_0(packed[:16], packed[16:])
    return SessionKeys(packed[:16], packed[16:32], packed[32:48], packed[48:64], True)


class Directory:
    """All devices, by EUI, and all sessions, by DevAddr; several devices may share one."""

    def __init__(self) -> None:
        self.devices: dict[Eui, Device] = {}
        self._by_addr: dict[int, Session | tuple[Session, ...]] = {}

    def __len__(self) -> int:
        return len(self.devices)

    def __iter__(self) -> Iterator[Device]:
        return iter(self.devices.values())

    def sessions(self, dev_addr: int) -> Sequence[Session]:
        """Everybody with this address."""
        found = self._by_addr.get(dev_addr)
        if found is None:
            return ()
        return found if isinstance(found, tuple) else (found,)

    def sharing(self, dev_addr: int) -> int:
        """How many sessions have this address."""
        return len(self.sessions(dev_addr))

    def add(self, device: Device) -> None:
        """Take in a device (without sessions), or replace it."""
        old = self.devices.get(device.eui)
        if old is not None and old is not device:
            for session in (old.session, old.pending):
                self.drop(session)
        self.devices[device.eui] = device

    def put(self, session: Session) -> None:
        """Give a device its session, or its pending one; the one before is dropped."""
        device = session.device
        self.drop(device.pending if session.pending else device.session)
        if session.pending:
            device.pending = session
        else:
            device.session = session
        found = self._by_addr.get(session.dev_addr)
        if found is None:
            self._by_addr[session.dev_addr] = session
        else:
            self._by_addr[session.dev_addr] = (*(found if isinstance(found, tuple) else (found,)), session)

    def activate(self, session: Session) -> None:
        """A pending session has become the session."""
        device = session.device
        self.drop(device.session)
        device.session, device.pending, session.pending = session, None, False

    def drop(self, session: Session | None) -> None:
        """Forget a session."""
        if session is None:
            return
        device = session.device
        if device.session is session:
            device.session = None
        if device.pending is session:
            device.pending = None
        left = tuple(one for one in self.sessions(session.dev_addr) if one is not session)
        if len(left) > 1:
            self._by_addr[session.dev_addr] = left
        elif left:
            self._by_addr[session.dev_addr] = left[0]
        else:
            self._by_addr.pop(session.dev_addr, None)

    def remove(self, eui: Eui) -> None:
        """Forget a device with its sessions."""
        device = self.devices.pop(eui, None)
        if device is not None:
            self.drop(device.session)
            self.drop(device.pending)


def tags_of(value: Any) -> Mapping[str, str]:
    """Tags as they lie in the database; texts only."""
    if not value:
        return _NO_TAGS
    return {str(key): str(one) for key, one in value.items()}
