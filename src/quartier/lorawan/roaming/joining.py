"""Our join server for others' network servers, and what we say of our devices to networks that may carry them.

A device whose keys lie with us but that lives in another network says so by its tag ``home_net_id``. Session keys leave
only wrapped, and the application's key only to who asks for it itself: the network server gets a SessionKeyID.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quartier.lorawan.frames import FrameError
from quartier.lorawan.frames.crypto import SessionKeys, join_fits, seal_join_accept
from quartier.lorawan.frames.keys import derive_1_0, derive_1_1, js_int_key
from quartier.lorawan.frames.modulation import DataRate, Fsk, Lora
from quartier.lorawan.frames.phy import FrameType, JoinAccept, JoinRequest, parse
from quartier.lorawan.frames.regions import REGIONS
from quartier.lorawan.roaming.client import Ourselves
from quartier.lorawan.roaming.clock import now
from quartier.lorawan.roaming.envelope import EnvelopeError, sealed_for
from quartier.lorawan.roaming.fields import Activation, Frame, Hex, NetId, Region, ResultCode
from quartier.lorawan.roaming.messages import (
    Answer,
    AppSKeyReq,
    HomeNSReq,
    JoinReq,
    MessageError,
    ProfileReq,
    answer_to,
)
from quartier.lorawan.roaming.objects import DeviceProfile
from quartier.lorawan.roaming.peers import Agreement, DataClass, Direction, Peer
from quartier.lorawan.roaming.policy import Facts, covers
from quartier.lorawan.sessions import Device, Profile
from quartier.lorawan.store import JoinFacts, Store

HOME_TAG: Final = "home_net_id"
SESSION_S: Final = 10 * 365 * 86_400
"""Lifetime of a session: until the next join."""
_RANDOM_NONCES: Final = frozenset({"1.0.0", "1.0.1", "1.0.2", "1.0.3"})


class Joining:
    """The join server's and the home network's answers."""

    def __init__(self, store: Store, ourselves: Ourselves) -> None:
        self._store = store
        self._ourselves = ourselves

    async def home(self, peer: Peer, request: HomeNSReq) -> Answer:
        """Which network is a device's home (§12.2.1, step 4)."""
        device = self._device(bytes(request.dev_eui))
        if device is None:
            return answer_to(request, ResultCode.UNKNOWN_DEV_EUI)
        home = device.tags.get(HOME_TAG)
        if home is None and await self._carried(peer, device) is None:
            return answer_to(request, ResultCode.NO_ROAMING_AGREEMENT)
        net_id = home or self._ourselves.net_id
        return answer_to(
            request,
            ResultCode.SUCCESS,
            home_net_id=NetId.parse(net_id),
            home_nsid=self._ourselves.nsid if home is None else None,
        )

    async def profile(self, peer: Peer, request: ProfileReq) -> Answer:
        """What a device can do, and that it is activated by passive roaming (§12.2.1, step 6)."""
        device = self._device(bytes(request.dev_eui))
        if device is None:
            return answer_to(request, ResultCode.UNKNOWN_DEV_EUI)
        agreement = await self._carried(peer, device)
        if agreement is None:
            code = ResultCode.NO_ROAMING_AGREEMENT
            if peer.agreement(Direction.CARRIED, now()) is not None:
                code = ResultCode.DEV_ROAMING_DISALLOWED
            return answer_to(request, code)
        if DataClass.JOIN not in agreement.classes:
            return answer_to(request, ResultCode.ROAMING_ACT_DISALLOWED)
        return answer_to(
            request,
            ResultCode.SUCCESS,
            device_profile=_profile(device.profile),
            device_profile_at=now().replace(microsecond=0).isoformat().replace("+00:00", "Z"),
            activation=Activation.PASSIVE,
        )

    async def join(self, peer: Peer, request: JoinReq) -> Answer:
        """A join request that another network server received from a device whose keys we hold (§8).

        Raises MessageError for a message, psycopg and secret errors for a database that cannot be used.
        """
        device, facts = await self._held(peer, request, bytes(request.dev_eui))
        try:
            frame = parse(bytes(request.phy))
        except FrameError as error:
            raise MessageError(ResultCode.FRAME_SIZE_ERROR, str(error), field="PHYPayload") from None
        if not isinstance(frame, JoinRequest) or frame.dev_eui != device.eui:
            raise MessageError(
                ResultCode.MALFORMED_MESSAGE, "no join-request of this device", field="PHYPayload"
            )
        if frame.join_eui != facts.join_eui or not join_fits(facts.nwk_key, frame):
            return answer_to(request, ResultCode.MIC_FAILED)
        if len(request.dl_settings) != 1:
            raise MessageError(ResultCode.MALFORMED_MESSAGE, "one byte is expected", field="DLSettings")
        random = device.profile.mac_version in _RANDOM_NONCES
        if not random and frame.dev_nonce <= facts.last_dev_nonce:
            return answer_to(request, ResultCode.JOIN_REQ_FAILED, "DevNonce was used before")
        accept = self._accept(peer, request, facts)
        keys = _derive(facts, accept.join_nonce, accept.net_id, frame.dev_nonce, opt_neg=accept.opt_neg)
        try:
            envelopes = {name: sealed_for(peer, key) for name, key in _network_keys(keys).items()}
        except EnvelopeError as error:
            return answer_to(request, ResultCode.JOIN_REQ_FAILED, str(error))
        if not await self._store.joins.use(
            device,
            join_nonce=accept.join_nonce,
            dev_nonce=frame.dev_nonce,
            join_eui=facts.join_eui,
            random=random,
        ):
            return answer_to(request, ResultCode.JOIN_REQ_FAILED, "DevNonce was used before")
        phy = seal_join_accept(
            js_int_key(facts.nwk_key, device.eui) if accept.opt_neg else facts.nwk_key,
            facts.nwk_key,
            accept,
            join_eui=facts.join_eui,
            nonce=frame.dev_nonce,
        )
        answer = answer_to(
            request,
            ResultCode.SUCCESS,
            phy=Frame(phy),
            lifetime_s=SESSION_S,
            session_key_id=_session_key_id(accept, frame.dev_nonce),
        )
        return msgspec.structs.replace(answer, **envelopes)

    async def application_key(self, peer: Peer, request: AppSKeyReq) -> Answer:
        """The application's key of a session, for the application server itself. Raises as :meth:`join`."""
        _, facts = await self._held(peer, request, bytes(request.dev_eui))
        identity = bytes(request.session_key_id)
        if len(identity) != 9:
            return answer_to(request, ResultCode.UNKNOWN_DEV_EUI, "SessionKeyID is not one of ours")
        join_nonce, net_id = int.from_bytes(identity[:3]), int.from_bytes(identity[3:6])
        if not 0 < join_nonce <= facts.join_nonce or f"{net_id:06x}" not in peer.net_ids:
            return answer_to(request, ResultCode.UNKNOWN_DEV_EUI, "SessionKeyID is not one of ours")
        keys = _derive(facts, join_nonce, net_id, int.from_bytes(identity[6:8]), opt_neg=bool(identity[8]))
        try:
            envelope = sealed_for(peer, keys.app_s_key)
        except EnvelopeError as error:
            return answer_to(request, ResultCode.OTHER, str(error))
        return answer_to(
            request,
            ResultCode.SUCCESS,
            dev_eui=request.dev_eui,
            app_s_key=envelope,
            session_key_id=request.session_key_id,
        )

    def _device(self, dev_eui: bytes) -> Device | None:
        device = self._store.directory.devices.get(dev_eui)
        return device if device is not None and device.active else None

    async def _carried(self, peer: Peer, device: Device) -> Agreement | None:
        """The agreement under which ``peer`` may carry one of our devices."""
        agreement = peer.agreement(Direction.CARRIED, now())
        if agreement is None or not device.may_roam:
            return None
        facts = await self._store.joins.facts(device)
        frame = Facts(
            kind=DataClass.JOIN,
            type=FrameType.JOIN_REQUEST,
            dev_eui=device.eui,
            dev_addr=device.session.dev_addr if device.session is not None else None,
            join_eui=facts.join_eui if facts is not None else None,
        )
        return agreement if covers(agreement, frame, device.tags) else None

    async def _held(
        self, peer: Peer, request: JoinReq | AppSKeyReq, dev_eui: bytes
    ) -> tuple[Device, JoinFacts]:
        """A device whose keys we hold and whose home is ``peer``'s network. Raises MessageError."""
        device = self._device(dev_eui)
        facts = await self._store.joins.facts(device) if device is not None else None
        if device is None or facts is None:
            raise MessageError(ResultCode.UNKNOWN_DEV_EUI, "not known here", field="DevEUI")
        if device.tags.get(HOME_TAG, "").lower() not in peer.net_ids:
            raise MessageError(
                ResultCode.ACTIVATION_DISALLOWED, "its home is another network", field="DevEUI"
            )
        if len(request.receiver) == 16 and bytes.fromhex(request.receiver) != facts.join_eui:
            raise MessageError(
                ResultCode.UNKNOWN_RECEIVER, "another JoinEUI answers for it", field="ReceiverID"
            )
        return device, facts

    @staticmethod
    def _accept(peer: Peer, request: JoinReq, facts: JoinFacts) -> JoinAccept:
        settings = request.dl_settings[0]
        net_id = request.sender if request.sender in peer.net_ids else peer.net_id
        return JoinAccept(
            join_nonce=facts.join_nonce + 1,
            net_id=int(net_id, 16),
            dev_addr=int.from_bytes(request.dev_addr),
            rx1_data_rate_offset=settings >> 4 & 7,
            rx2_data_rate=settings & 15,
            opt_neg=settings >= 0x80,
            rx_delay_s=request.rx_delay_s,
            channel_list=bytes(request.cf_list) if request.cf_list else None,
        )


def _derive(facts: JoinFacts, join_nonce: int, net_id: int, dev_nonce: int, *, opt_neg: bool) -> SessionKeys:
    if opt_neg:
        return derive_1_1(
            facts.nwk_key, facts.app_key, join_nonce=join_nonce, join_eui=facts.join_eui, nonce=dev_nonce
        )
    return derive_1_0(facts.nwk_key, join_nonce=join_nonce, net_id=net_id, dev_nonce=dev_nonce)


def _network_keys(keys: SessionKeys) -> dict[str, bytes]:
    if not keys.lorawan_1_1:
        return {"nwk_s_key": keys.f_nwk_s_int_key}
    return {
        "f_nwk_s_int_key": keys.f_nwk_s_int_key,
        "s_nwk_s_int_key": keys.s_nwk_s_int_key,
        "nwk_s_enc_key": keys.nwk_s_enc_key,
    }


def _session_key_id(accept: JoinAccept, dev_nonce: int) -> Hex:
    """What the application's key is derived from beside the root key, so that nothing has to be remembered."""
    return Hex(
        accept.join_nonce.to_bytes(3)
        + accept.net_id.to_bytes(3)
        + dev_nonce.to_bytes(2)
        + bytes([accept.opt_neg])
    )


def _bits_per_second(modulation: DataRate) -> float | None:
    """Raw LoRa or FSK bit rate, as DeviceProfile counts RXDataRate2 (table 17)."""
    if isinstance(modulation, Fsk):
        return modulation.bit_rate
    if isinstance(modulation, Lora):
        factor = modulation.spreading_factor
        return factor * modulation.bandwidth_hz / (1 << factor) * 4 / 5
    return None


def _profile(profile: Profile) -> DeviceProfile:
    region = REGIONS[profile.region]
    rate = _bits_per_second(region.data_rate(profile.rx2_data_rate))
    return DeviceProfile(
        device_profile_id=profile.key,
        supports_class_b=profile.device_class == "B",
        supports_class_c=profile.device_class == "C",
        class_c_timeout_s=profile.class_c_timeout_s if profile.device_class == "C" else None,
        mac_version=profile.mac_version,
        profile_rx1_delay_s=profile.rx1_delay_s,
        rx1_dr_offset=profile.rx1_dr_offset,
        rx2_data_rate_bps=round(rate) if rate is not None else None,
        rx2_profile_mhz=profile.rx2_frequency_hz / 1_000_000,
        max_eirp_dbm=round(profile.maximum_eirp_dbm or region.max_eirp_dbm),
        supports_join=True,
        region=Region(region.name),
        supports_32bit_f_cnt=True,
    )
