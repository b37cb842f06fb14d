"""Joining (TS001-1.0.4 §6.2, LoRaWAN 1.1 §6.2): the join server, and how a session begins.

A nonce is used up durably before an answer is sent. The new session waits beside the old one until the device speaks
in it, because a device that did not hear the answer goes on with what it had.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.frames.crypto import SessionKeys, join_fits, seal_join_accept
from quartier.lorawan.frames.keys import derive_1_0, derive_1_1, js_enc_key, js_int_key
from quartier.lorawan.frames.netid import Prefix
from quartier.lorawan.frames.phy import JoinAccept, JoinRequest, RejoinRequest
from quartier.lorawan.frames.regions import REGIONS, Region
from quartier.lorawan.sessions import Device, Directory, Profile, Session, initial_state
from quartier.lorawan.store import Joined, JoinFacts, Store
from quartier.lorawan.types import Discarded, Window

_RANDOM_NONCES: Final = frozenset({"1.0.0", "1.0.1", "1.0.2", "1.0.3"})
_LAST_JOIN_NONCE: Final = 0xFF_FFFF
_DRAWS: Final = 16


class JoinRefused(Exception):
    """A join that is not answered, and why."""

    def __init__(self, reason: Discarded, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A join that was accepted: the encrypted answer, the session that is pending, the windows of the answer."""

    phy: bytes
    session: Session
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The DevAddrs that this network gives out: all of its NetID, or some blocks of them."""

    net_id: int
    blocks: tuple[Prefix, ...]

    @classmethod
    def of(cls, net_id: int, blocks: Sequence[Prefix] = ()) -> Addresses:
        """Blocks have to be the NetID's own. Raises FrameError, ValueError."""
        whole = Prefix.of(net_id)
        for block in blocks:
            if block.length < whole.length or not whole.covers(block.dev_addr):
                raise ValueError(f"{block} does not belong to NetID {net_id:06X} ({whole})")
        return cls(net_id, tuple(blocks) or (whole,))

    def draw(self, directory: Directory) -> int:
        """An address, random and used by as few devices as possible."""
        chance = random.SystemRandom()
        drawn: list[int] = []
        for _ in range(_DRAWS):
            block = chance.choices(self.blocks, weights=[one.size for one in self.blocks])[0]
            address = block.address(chance.randrange(block.size))
            if not directory.sharing(address):
                return address
            drawn.append(address)
        return min(drawn, key=directory.sharing)


class JoinServer:
    """Answers join and rejoin requests of our own devices."""

    def __init__(self, store: Store, addresses: Addresses) -> None:
        self._store = store
        self.addresses = addresses

    async def join(self, request: JoinRequest, *, frequency_hz: int, data_rate: int) -> Accepted:
        """A join request. Raises JoinRefused, psycopg errors, SecretError."""
        device = self._device(request.dev_eui)
        facts = await self._facts(device)
        if facts.join_eui != request.join_eui:
            raise JoinRefused(Discarded.UNKNOWN_DEVICE, "another JoinEUI")
        if not join_fits(facts.nwk_key, request):
            raise JoinRefused(Discarded.WRONG_MIC)
        version = device.profile.mac_version
        random_nonce = version in _RANDOM_NONCES
        if not random_nonce and request.dev_nonce <= facts.last_dev_nonce:
            raise JoinRefused(
                Discarded.DEV_NONCE_USED, f"{request.dev_nonce} is not above {facts.last_dev_nonce}"
            )
        accept, keys = self._accept(device.profile, facts, request.dev_nonce)
        joined = self._joined(
            device, accept, keys, facts, dev_nonce=request.dev_nonce, random_nonce=random_nonce
        )
        session = await self._begin(device, joined)
        phy = seal_join_accept(
            js_int_key(facts.nwk_key, device.eui) if accept.opt_neg else facts.nwk_key,
            facts.nwk_key,
            accept,
            join_eui=facts.join_eui,
            nonce=request.dev_nonce,
        )
        return Accepted(
            phy=phy, session=session, windows=join_windows(device.profile, frequency_hz, data_rate)
        )

    async def rejoin(self, request: RejoinRequest, *, frequency_hz: int, data_rate: int) -> Accepted:
        """A rejoin request of 1.1 (§6.2.4). Raises JoinRefused, psycopg errors, SecretError."""
        device = self._device(request.dev_eui)
        if not device.profile.lorawan_1_1:
            raise JoinRefused(Discarded.UNKNOWN_DEVICE, "the device's version knows no rejoin")
        facts = await self._facts(device)
        if request.rejoin_type == 1:
            if facts.join_eui != request.join_eui:
                raise JoinRefused(Discarded.UNKNOWN_DEVICE, "another JoinEUI")
            fits = join_fits(js_int_key(facts.nwk_key, device.eui), request)
            before = facts.rejoin_counter_1
        else:
            # In the session that the device is in; that may be the one it has just begun.
            fits = any(
                session is not None and join_fits(session.keys.s_nwk_s_int_key, request)
                for session in (device.pending, device.session)
            )
            before = facts.rejoin_counter_0
        if not fits:
            raise JoinRefused(Discarded.WRONG_MIC)
        if request.counter <= before:
            raise JoinRefused(Discarded.REPLAY, f"{request.counter} is not above {before}")
        accept, keys = self._accept(device.profile, facts, request.counter)
        joined = self._joined(
            device,
            accept,
            keys,
            facts,
            rejoin_counter_0=-1 if request.rejoin_type == 1 else request.counter,
            rejoin_counter_1=request.counter if request.rejoin_type == 1 else -1,
        )
        session = await self._begin(device, joined)
        phy = seal_join_accept(
            js_int_key(facts.nwk_key, device.eui),
            js_enc_key(facts.nwk_key, device.eui),
            accept,
            join_eui=facts.join_eui,
            nonce=request.counter,
            request_type=request.rejoin_type,
        )
        return Accepted(
            phy=phy, session=session, windows=join_windows(device.profile, frequency_hz, data_rate)
        )

    def _device(self, eui: bytes) -> Device:
        device = self._store.directory.devices.get(eui)
        if device is None or device.activation != "otaa":
            raise JoinRefused(Discarded.UNKNOWN_DEVICE)
        if not device.active:
            raise JoinRefused(Discarded.DEVICE_DISABLED)
        return device

    async def _facts(self, device: Device) -> JoinFacts:
        facts = await self._store.joins.facts(device)
        if facts is None:
            raise JoinRefused(Discarded.UNKNOWN_DEVICE, "no root keys")
        if facts.join_nonce >= _LAST_JOIN_NONCE:
            raise JoinRefused(
                Discarded.DEV_NONCE_USED, "all join nonces are used up: new root keys are needed"
            )
        return facts

    def _accept(self, profile: Profile, facts: JoinFacts, nonce: int) -> tuple[JoinAccept, SessionKeys]:
        region = REGIONS[profile.region]
        accept = JoinAccept(
            join_nonce=facts.join_nonce + 1,
            net_id=self.addresses.net_id,
            dev_addr=self.addresses.draw(self._store.directory),
            rx1_data_rate_offset=profile.rx1_dr_offset,
            rx2_data_rate=profile.rx2_data_rate,
            opt_neg=profile.lorawan_1_1,
            rx_delay_s=profile.rx1_delay_s,
            channel_list=region.pack_channel_list(profile.extra_frequencies_hz)
            if profile.extra_frequencies_hz
            else None,
        )
        if profile.lorawan_1_1:
            keys = derive_1_1(
                facts.nwk_key,
                facts.app_key,
                join_nonce=accept.join_nonce,
                join_eui=facts.join_eui,
                nonce=nonce,
            )
        else:
            keys = derive_1_0(
                facts.nwk_key, join_nonce=accept.join_nonce, net_id=accept.net_id, dev_nonce=nonce
            )
        return accept, keys

    @staticmethod
    def _joined(
        device: Device,
        accept: JoinAccept,
        keys: SessionKeys,
        facts: JoinFacts,
        *,
        dev_nonce: int = -1,
        random_nonce: bool = False,
        rejoin_counter_0: int = -1,
        rejoin_counter_1: int = -1,
    ) -> Joined:
        profile = device.profile
        return Joined(
            dev_addr=accept.dev_addr,
            version=profile.mac_version,
            keys=keys,
            mac=initial_state(profile, REGIONS[profile.region], profile.extra_frequencies_hz),
            join_nonce=accept.join_nonce,
            join_eui=facts.join_eui,
            dev_nonce=dev_nonce,
            random_nonce=random_nonce,
            rejoin_counter_0=rejoin_counter_0,
            rejoin_counter_1=rejoin_counter_1,
        )

    async def _begin(self, device: Device, joined: Joined) -> Session:
        session = await self._store.joins.begin(device, joined)
        if session is None:
            raise JoinRefused(
                Discarded.REPLAY if joined.dev_nonce < 0 else Discarded.DEV_NONCE_USED,
                "" if joined.dev_nonce < 0 else f"{joined.dev_nonce} was used before",
            )
        self._store.directory.put(session)
        return session


def join_windows(profile: Profile, frequency_hz: int, data_rate: int) -> tuple[Window, ...]:
    """The windows of a join accept, with the region's own parameters (TS001-1.0.4 §6.2.6)."""
    region: Region = REGIONS[profile.region]
    delay_s = region.join_accept_delay1_s
    return (
        Window(
            frequency_hz=region.rx1_frequency_hz(frequency_hz),
            data_rate=region.rx1_data_rate(data_rate, 0),
            delay_s=delay_s,
        ),
        Window(frequency_hz=region.rx2_frequency_hz, data_rate=region.rx2_data_rate, delay_s=delay_s + 1),
    )
