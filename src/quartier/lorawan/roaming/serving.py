"""Others' gateways for our devices: the serving and home network (sNS, hNS) of passive roaming.

What a peer heard goes the same way as what our own gateways heard; the network server does not care. The answer says
what became of it, and brings keys only where that is agreed, and then wrapped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import msgspec
import structlog

from quartier.lorawan.frames import FrameError
from quartier.lorawan.network.outcome import Outcome
from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.client import CallError, Client, Role
from quartier.lorawan.roaming.clock import Radio, monotonic, now
from quartier.lorawan.roaming.envelope import EnvelopeError, sealed_for
from quartier.lorawan.roaming.exchanges import Exchange, Exchanges
from quartier.lorawan.roaming.fields import DevAddrHex, Eui64, Frame, ResultCode
from quartier.lorawan.roaming.heard import gateways_of, receptions_of
from quartier.lorawan.roaming.ledger import Entry, Ledger, State, downlink_key, uplink_key
from quartier.lorawan.roaming.messages import (
    Answer,
    Header,
    MessageError,
    PRStartAns,
    PRStartReq,
    PRStopReq,
    XmitDataReq,
    answer_to,
    whole_milliseconds,
)
from quartier.lorawan.roaming.meters import Meters
from quartier.lorawan.roaming.objects import KeyEnvelope, ServiceProfile, Uplink
from quartier.lorawan.roaming.peers import Agreement, DataClass, Direction, Peer
from quartier.lorawan.roaming.policy import UPLINK_TYPES, Facts, Refused, Verdict, day_of, facts, uplink
from quartier.lorawan.roaming.sessions import Expiring
from quartier.lorawan.roaming.transmitter import windows_metadata
from quartier.lorawan.sessions import Device, Directory
from quartier.lorawan.types import Discarded, Eui, Reception

log = structlog.get_logger(__name__)

OUTCOME_S: Final = 4.0
ACCEPT_S: Final = 1.5
DEFERRED_RATE_S: Final = 60

_RESULTS: Final[Mapping[Discarded, ResultCode]] = {
    Discarded.MALFORMED: ResultCode.MALFORMED_MESSAGE,
    Discarded.TOO_LARGE: ResultCode.FRAME_SIZE_ERROR,
    Discarded.UNKNOWN_DEVICE: ResultCode.UNKNOWN_DEV_EUI,
    Discarded.UNKNOWN_DEV_ADDR: ResultCode.UNKNOWN_DEV_ADDR,
    Discarded.WRONG_MIC: ResultCode.MIC_FAILED,
    Discarded.REPLAY: ResultCode.FRAME_REPLAYED,
    Discarded.COUNTER_GAP: ResultCode.FRAME_REPLAYED,
    Discarded.DEV_NONCE_USED: ResultCode.JOIN_REQ_FAILED,
    Discarded.DEVICE_DISABLED: ResultCode.ACTIVATION_DISALLOWED,
    Discarded.NOT_AGREED: ResultCode.NO_ROAMING_AGREEMENT,
    Discarded.BUDGET: ResultCode.DEFERRED,
    Discarded.RATE_LIMITED: ResultCode.DEFERRED,
}


class NetworkServer(Protocol):
    """What is needed of ``network.Network``."""

    def receive(self, reception: Reception) -> None:
        """One reception."""

    async def outcome(self, phy: bytes) -> Outcome:
        """What became of a frame."""

    def network_key(self, device: Eui) -> tuple[str, bytes] | None:
        """MAC version and NwkSKey or FNwkSIntKey."""


class Serving:
    """The serving and home roles. ``clients`` may be replaced while it runs."""

    def __init__(
        self,
        *,
        network: NetworkServer,
        devices: Directory,
        clients: Mapping[str, Client],
        exchanges: Exchanges,
        meters: Meters,
        ledger: Ledger,
        radio: Radio,
    ) -> None:
        self._network = network
        self._devices = devices
        self.clients = clients
        self._exchanges = exchanges
        self._meters = meters
        self._ledger = ledger
        self._radio = radio
        self.roaming: Expiring[tuple[str, bytes], bool] = Expiring()
        """Devices in stateful roaming, by peer and DevEUI."""

    async def start(self, peer: Peer, request: PRStartReq) -> Answer:
        """Answer a PRStartReq. Raises MessageError for one that cannot be taken."""
        phy, metadata = bytes(request.phy), request.uplink
        frame = _facts(phy)
        agreement, verdict = self._judge(peer, frame, metadata, len(phy))
        if agreement is None or not verdict.ok:
            return self._refusal(request, peer, frame, verdict)
        exchange, outcome = await self._take(peer, request, phy, metadata)
        if not (outcome.accepted or outcome.forwarded):
            return self._not_ours(request, peer, outcome)
        self._count(peer, agreement, frame, request, device=outcome.device, marked=verdict.marked)
        answer = answer_to(request, ResultCode.SUCCESS, lifetime_s=0)
        if outcome.forwarded or outcome.device is None:
            return answer
        changes: dict[str, object] = {}
        if agreement.lifetime_s and frame.kind is not DataClass.JOIN:
            changes |= self._stateful(peer, agreement, outcome)
        if outcome.join_accept is not None:
            changes |= await self._accept(peer, agreement, exchange, outcome)
        return msgspec.structs.replace(answer, **changes)

    async def uplink(self, peer: Peer, request: XmitDataReq) -> Answer:
        """Answer an XmitDataReq that carries an uplink of stateful roaming (§11.3.2). Raises MessageError."""
        metadata = request.uplink
        if request.phy is None or metadata is None:
            raise MessageError(
                ResultCode.MALFORMED_MESSAGE, "passive roaming carries the whole frame", field="PHYPayload"
            )
        phy = bytes(request.phy)
        frame = _facts(phy)
        agreement, verdict = self._judge(peer, frame, metadata, len(phy))
        if agreement is None or not verdict.ok:
            return self._refusal(request, peer, frame, verdict)
        _, outcome = await self._take(peer, request, phy, metadata)
        if not (outcome.accepted or outcome.forwarded):
            return self._not_ours(request, peer, outcome)
        self._count(peer, agreement, frame, request, device=outcome.device, marked=verdict.marked)
        return answer_to(request, ResultCode.SUCCESS)

    def stopped(self, peer: Peer, request: PRStopReq) -> bool:
        """The forwarding network ends roaming of a device; False where it was not roaming there."""
        return self.roaming.pop((peer.key, bytes(request.dev_eui))) is not None

    async def stop(self, device: Eui, *, lifetime_s: int | None = None) -> int:
        """End stateful roaming of one of our devices everywhere; how many peers confirmed it."""
        confirmed = 0
        found = self._devices.devices.get(device)
        session = found.session if found is not None else None
        for (key, dev_eui), _ in list(self.roaming.items(monotonic())):
            client = self.clients.get(key)
            if dev_eui != device or client is None:
                continue
            try:
                answer = await client.ask(
                    "PRStopReq",
                    role=Role.FNS,
                    attempts=3,
                    dev_eui=Eui64(device),
                    dev_addr=DevAddrHex(session.dev_addr.to_bytes(4)) if session is not None else None,
                    lifetime_s=lifetime_s,
                )
            except CallError:
                continue
            self.roaming.pop((key, dev_eui))
            confirmed += answer.result.code is ResultCode.SUCCESS
        return confirmed

    def _judge(
        self, peer: Peer, frame: Facts, metadata: Uplink, size: int
    ) -> tuple[Agreement | None, Verdict]:
        """Whether this peer may carry this frame for us, as far as can be said before its MIC is checked."""
        at = now()
        agreement = peer.agreement(Direction.CARRIED, at)
        airtime_s = self._radio.airtime_s(metadata.data_rate or 0, size)
        if agreement is None:
            return None, uplink(None, frame, airtime_s=airtime_s)
        device = frame.dev_addr.to_bytes(4) if frame.dev_addr is not None else frame.dev_eui
        usage = self._meters.usage(agreement, device, day=day_of(at), now_s=monotonic())
        ours = self._ours(frame)
        if ours:
            # Several devices may share the address; if one of them may roam, the MIC will say which one it is.
            verdicts = [
                uplink(
                    agreement,
                    replace(frame, dev_eui=one.eui),
                    airtime_s=airtime_s,
                    usage=usage,
                    tags=one.tags,
                )
                if one.may_roam
                else Verdict(Refused.DEVICE)
                for one in ours
            ]
            verdict = next((v for v in verdicts if v.ok), verdicts[0])
        else:
            verdict = uplink(agreement, frame, airtime_s=airtime_s, usage=usage)
        if verdict.ok:
            self._meters.charge_uplink(
                agreement, device, day=day_of(at), now_s=monotonic(), airtime_s=airtime_s
            )
        return agreement, verdict

    def _ours(self, frame: Facts) -> Sequence[Device]:
        """Our devices that the frame may be of."""
        if frame.dev_addr is not None:
            return [session.device for session in self._devices.sessions(frame.dev_addr)]
        device = self._devices.devices.get(frame.dev_eui) if frame.dev_eui is not None else None
        return [device] if device is not None else []

    async def _take(
        self, peer: Peer, request: PRStartReq | XmitDataReq, phy: bytes, metadata: Uplink
    ) -> tuple[Exchange, Outcome]:
        """Hand the frame to the network server as it was heard, and wait for what becomes of it."""
        heard = gateways_of(peer, metadata)
        exchange = self._exchanges.begin(
            peer.key,
            request.transaction_id,
            heard,
            fns_token=metadata.fns_token,
            sender_token=request.sender_token,
        )
        for reception in receptions_of(peer, phy, metadata, heard, exchange.id):
            self._network.receive(reception)
        try:
            async with asyncio.timeout(OUTCOME_S):
                return exchange, await self._network.outcome(phy)
        except TimeoutError:
            raise MessageError(
                ResultCode.OTHER, "what became of the frame is not known yet", header=request
            ) from None

    async def _accept(
        self, peer: Peer, agreement: Agreement, exchange: Exchange, outcome: Outcome
    ) -> dict[str, object]:
        """The join-accept with its windows, if our network server chose the peer's gateways to send it."""
        try:
            async with asyncio.timeout(ACCEPT_S):
                phy, windows = await exchange.accept
        except TimeoutError:
            return {}  # a gateway of our own is better placed and sends it
        metadata = windows_metadata(windows)
        metadata.fns_token = exchange.fns_token
        metadata.gateways = exchange.answering(exchange.chosen)
        self._ledger.note(
            self._entry(
                peer,
                agreement,
                direction="down",
                key=downlink_key(phy, exchange.transaction),
                at=whole_milliseconds(now()),
                kind=DataClass.JOIN,
                dev_eui=(outcome.device or b"").hex(),
                size=len(phy),
                data_rate=windows[0].data_rate,
                # TS002 has no word for whether a join-accept was sent; the carrier's ledger tells it later.
                state=State.OPEN,
            )
        )
        changes: dict[str, object] = {"phy": Frame(phy), "downlink": metadata}
        if agreement.lifetime_s:
            changes |= self._stateful(peer, agreement, outcome)
        return changes

    def _stateful(self, peer: Peer, agreement: Agreement, outcome: Outcome) -> dict[str, object]:
        """What a carrier needs to remember the device; keys only where agreed, and only wrapped."""
        device = outcome.device
        if device is None:
            return {}
        self.roaming.put((peer.key, device), True, monotonic() + agreement.lifetime_s)
        changes: dict[str, object] = {
            "lifetime_s": agreement.lifetime_s,
            "dev_eui": Eui64(device),
            "f_cnt_up": outcome.uplink_counter,
            "service_profile": _service_profile(agreement),
        }
        if outcome.dev_addr is not None:
            changes["dev_addr"] = DevAddrHex(outcome.dev_addr.to_bytes(4))
        if agreement.hand_over_keys:
            changes |= self._key(peer, device)
        return changes

    def _key(self, peer: Peer, device: Eui) -> dict[str, KeyEnvelope]:
        found = self._network.network_key(device)
        if found is None:
            return {}
        version, key = found
        try:
            envelope = sealed_for(peer, key)
        except EnvelopeError as error:
            log.warning("key is not handed over", peer=peer.key, reason=str(error))
            return {}
        return {"f_nwk_s_int_key" if version.startswith("1.1") else "nwk_s_key": envelope}

    def _count(
        self,
        peer: Peer,
        agreement: Agreement,
        frame: Facts,
        request: PRStartReq | XmitDataReq,
        *,
        device: Eui | None,
        marked: bool,
    ) -> None:
        phy, metadata = bytes(request.phy or b""), request.uplink or Uplink()
        if frame.dev_addr is not None:
            self._exchanges.roamed(frame.dev_addr)
        metrics.CARRIED.labels(peer.key, "carried", "up").inc()
        received_at = whole_milliseconds(metadata.received_at or now())
        self._ledger.note(
            self._entry(
                peer,
                agreement,
                direction="up",
                key=uplink_key(phy, received_at),
                at=received_at,
                kind=frame.kind,
                dev_addr=frame.dev_addr,
                dev_eui=(device or frame.dev_eui or b"").hex(),
                port=frame.port,
                size=len(phy),
                data_rate=metadata.data_rate or 0,
                gateways=max(1, len(metadata.gateways or ())),
                marked=marked,
                state=State.CONFIRMED,
            )
        )

    def _entry(self, peer: Peer, agreement: Agreement, **fields: Any) -> Entry:
        size, data_rate, direction = fields["size"], fields["data_rate"], fields["direction"]
        airtime_s = self._radio.airtime_s(data_rate, size, downlink=direction == "down")
        return Entry(
            peer=peer.id,
            agreement=agreement.id,
            we_carry=False,
            airtime_us=round(airtime_s * 1e6),
            classes=str(fields["kind"]),
            **fields,
        )

    def _refusal(self, request: Header, peer: Peer, frame: Facts, verdict: Verdict) -> Answer:
        metrics.REFUSED.labels(peer.key, f"uplink_{verdict.refused}").inc()
        code = verdict.result
        if code is ResultCode.DEV_ROAMING_DISALLOWED and frame.kind is DataClass.JOIN:
            code = ResultCode.ROAMING_ACT_DISALLOWED
        answer = answer_to(request, code, f"not agreed: {verdict.refused}")
        if code is ResultCode.DEFERRED and isinstance(answer, PRStartAns):
            answer.lifetime_s = DEFERRED_RATE_S if verdict.refused is Refused.RATE else _until_midnight_s()
        return answer

    def _not_ours(self, request: Header, peer: Peer, outcome: Outcome) -> Answer:
        reason = outcome.reason or Discarded.UNKNOWN_DEV_ADDR
        metrics.REFUSED.labels(peer.key, f"uplink_{reason}").inc()
        return answer_to(request, _RESULTS.get(reason, ResultCode.OTHER), reason.value)


def _facts(phy: bytes) -> Facts:
    try:
        frame = facts(phy)
    except FrameError as error:
        raise MessageError(ResultCode.FRAME_SIZE_ERROR, str(error), field="PHYPayload") from None
    if frame is None or frame.type not in UPLINK_TYPES:
        raise MessageError(ResultCode.MALFORMED_MESSAGE, "no uplink", field="PHYPayload")
    return frame


def _service_profile(agreement: Agreement) -> ServiceProfile:
    """The rates that the agreement grants (§17.2)."""
    up, down = agreement.uplink_rate, agreement.downlink_rate
    return ServiceProfile(
        service_profile_id=f"agreement-{agreement.id}",
        ul_rate_per_h=round(up.per_hour) if up else None,
        ul_bucket=up.bucket if up else None,
        ul_policy=up.policy if up else None,
        dl_rate_per_h=round(down.per_hour) if down else None,
        dl_bucket=down.bucket if down else None,
        dl_policy=down.policy if down else None,
        add_gateway_metadata=True,
        passive_allowed=True,
        handover_allowed=False,
        activation_allowed=DataClass.JOIN in agreement.classes,
        geolocation=DataClass.LOCATION in agreement.classes,
    )


def _until_midnight_s() -> int:
    return 86_400 - int(now().timestamp()) % 86_400
