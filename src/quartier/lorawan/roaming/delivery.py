"""Others' downlinks by our gateways: what a forwarding network does with an XmitDataReq or a join-accept.

A downlink needs an uplink token: it proves that we carried for this device a moment ago, and says by which gateway. The
answer is what the gateway said, and nothing nicer.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec
import structlog

from quartier.lorawan.frames import FrameError
from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.clock import Radio, monotonic, now
from quartier.lorawan.roaming.fields import ResultCode, hz, mhz
from quartier.lorawan.roaming.ledger import Entry, Ledger, State, downlink_key
from quartier.lorawan.roaming.messages import (
    Answer,
    MessageError,
    PRStartAns,
    XmitDataAns,
    XmitDataReq,
    answer_to,
    whole_milliseconds,
)
from quartier.lorawan.roaming.meters import Meters
from quartier.lorawan.roaming.objects import Downlink
from quartier.lorawan.roaming.peers import Agreement, Direction, Peer
from quartier.lorawan.roaming.policy import Facts, Refused, Shared, Verdict, day_of, downlink, facts
from quartier.lorawan.roaming.tokens import CLASS_C_S, WINDOW_S, Grant, TokenError, Tokens
from quartier.lorawan.types import (
    Transmission,
    TransmitError,
    TransmitResult,
    Transmitter,
    Window,
)

log = structlog.get_logger(__name__)

JOIN_DELAY_S: Final = 5
MAX_TRIED: Final = 3
_AT_ONCE: Final = frozenset(
    {
        TransmitError.TOO_LATE,
        TransmitError.COLLISION_PACKET,
        TransmitError.COLLISION_BEACON,
        TransmitError.GATEWAY_OFFLINE,
        TransmitError.DUTY_CYCLE,
        TransmitError.QUEUE_FULL,
        TransmitError.NOT_ALLOWED,
    }
)
"""Refusals that come before anything was sent, so that the next gateway may try."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A downlink that is allowed, with the gateways that may send it, best first."""

    phy: bytes
    frame: Facts
    windows: tuple[Window, ...]
    grants: Sequence[Grant]
    class_c: bool
    verdict: Verdict
    airtime_s: float
    dev_eui: bytes | None = None
    high_priority: bool = False


class Delivery:
    """Sends peers' downlinks. ``transmitters`` as in Network: ours under the empty key, peers under theirs."""

    def __init__(
        self,
        *,
        transmitters: Mapping[str, Transmitter],
        tokens: Tokens,
        meters: Meters,
        ledger: Ledger,
        radio: Radio,
    ) -> None:
        self._transmitters = transmitters
        self._tokens = tokens
        self._meters = meters
        self._ledger = ledger
        self._radio = radio
        self._ids = itertools.count(1)

    async def xmit(self, peer: Peer, request: XmitDataReq) -> Answer:
        """Answer an XmitDataReq that carries a downlink, after it was sent or could not be (§11.3.2, steps 7 to 9).

        Raises MessageError for one that cannot be taken.
        """
        metadata = request.downlink
        if metadata is None or request.phy is None:
            raise MessageError(
                ResultCode.MALFORMED_MESSAGE,
                "passive roaming carries PHYPayload with DLMetaData",
                field="PHYPayload" if request.phy is None else "DLMetaData",
            )
        if metadata.class_mode == "B":
            raise MessageError(ResultCode.XMIT_FAILED, "class B is not offered", field="DLMetaData.ClassMode")
        class_c = metadata.class_mode == "C"
        agreement = peer.agreement(Direction.CARRY, now())
        job = self._job(agreement, bytes(request.phy), _windows(metadata, class_c=class_c, delay_s=1))
        if agreement is None or not job.verdict.ok:
            metrics.REFUSED.labels(peer.key, f"downlink_{job.verdict.refused}").inc()
            return answer_to(request, job.verdict.result, f"not agreed: {job.verdict.refused}")
        job = replace(
            job,
            grants=self._grants(peer, metadata, _device(job.frame), class_c=class_c),
            dev_eui=bytes(metadata.dev_eui) if metadata.dev_eui is not None else None,
            high_priority=metadata.high_priority,
        )
        result = await self._send(peer, agreement, job, request.transaction_id)
        if not result.ok:
            reason = str(result.error or TransmitError.NO_CONFIRMATION)
            return answer_to(request, ResultCode.XMIT_FAILED, f"{reason}: {result.detail}".rstrip(": "))
        used = job.windows[result.window or 0]
        second = metadata.rx1_frequency_mhz is None or (result.window or 0) > 0
        frequency = mhz(used.frequency_hz)
        answer = answer_to(request, ResultCode.SUCCESS)
        if isinstance(answer, XmitDataAns):
            if second:
                answer.rx2_frequency_mhz = frequency
            else:
                answer.rx1_frequency_mhz = frequency
        return answer

    async def join_accept(
        self, peer: Peer, agreement: Agreement, answer: PRStartAns, shared: Sequence[Shared]
    ) -> TransmitResult | None:
        """Send the join-accept of a PRStartAns by the gateways that heard the request; None where it may not go."""
        if answer.phy is None:
            return None
        metadata = answer.downlink or Downlink()
        first = shared[0].reception
        if metadata.rx1_frequency_mhz is None and metadata.rx2_frequency_mhz is None:
            # Nothing was said, so the region's windows for joins hold (RP002 §2.4.7).
            region = self._radio.region
            metadata = Downlink(
                rx1_frequency_mhz=mhz(first.frequency_hz),
                rx1_data_rate=first.data_rate,
                rx2_frequency_mhz=mhz(region.rx2_frequency_hz),
                rx2_data_rate=region.rx2_data_rate,
            )
        windows = _windows(metadata, class_c=False, delay_s=JOIN_DELAY_S)
        return await self._through(
            peer, agreement, bytes(answer.phy), windows, shared, transaction=answer.transaction_id
        )

    async def by_gateway(
        self, peer: Peer, phy: bytes, windows: tuple[Window, ...], shared: Sequence[Shared]
    ) -> TransmitResult:
        """Send what a peer's server told its virtual gateway to send, by the gateways that heard ``shared``."""
        agreement = peer.agreement(Direction.CARRY, now())
        if agreement is None:
            return _refused(Refused.NO_AGREEMENT)
        transaction = next(self._ids) & 0xFFFF_FFFF
        return await self._through(peer, agreement, phy, windows, shared, transaction=transaction)

    async def _through(
        self,
        peer: Peer,
        agreement: Agreement,
        phy: bytes,
        windows: tuple[Window, ...],
        shared: Sequence[Shared],
        *,
        transaction: int,
    ) -> TransmitResult:
        """Send by gateways that are known without a token."""
        at = now().timestamp()
        grants = [
            Grant(
                gateway=s.reception.gateway,
                device=b"",
                at=at,
                received_monotonic=s.reception.received_monotonic,
                frequency_hz=s.reception.frequency_hz,
                data_rate=s.reception.data_rate,
                snr_db=s.reception.snr_db,
                peer=s.reception.peer,
                context=s.reception.context,
            )
            for s in shared
        ]
        try:
            job = self._job(agreement, phy, windows, grants=grants)
        except MessageError as error:
            log.info("downlink of a peer cannot be sent", peer=peer.key, reason=str(error))
            return _refused(Refused.KIND, str(error))
        if not job.verdict.ok:
            metrics.REFUSED.labels(peer.key, f"downlink_{job.verdict.refused}").inc()
            return _refused(job.verdict.refused)
        return await self._send(peer, agreement, job, transaction)

    def _job(
        self,
        agreement: Agreement | None,
        phy: bytes,
        windows: tuple[Window, ...],
        *,
        grants: Sequence[Grant] = (),
    ) -> _Job:
        """What is to be sent, and whether it may. Raises MessageError for what is no downlink."""
        try:
            frame = facts(phy)
        except FrameError as error:
            raise MessageError(ResultCode.FRAME_SIZE_ERROR, str(error), field="PHYPayload") from None
        if frame is None:
            raise MessageError(ResultCode.MALFORMED_MESSAGE, "no downlink", field="PHYPayload")
        class_c = windows[0].delay_s is None
        airtime_s = max(self._radio.airtime_s(w.data_rate, len(phy), downlink=True) for w in windows)
        if agreement is None:
            verdict = Verdict(Refused.NO_AGREEMENT)
        else:
            usage = self._meters.usage(agreement, _device(frame), day=day_of(now()), now_s=monotonic())
            verdict = downlink(agreement, frame, class_c=class_c, airtime_s=airtime_s, usage=usage)
        return _Job(
            phy=phy,
            frame=frame,
            windows=windows,
            grants=grants,
            class_c=class_c,
            verdict=verdict,
            airtime_s=airtime_s,
        )

    def _grants(self, peer: Peer, metadata: Downlink, device: bytes, *, class_c: bool) -> Sequence[Grant]:
        """What the tokens in a request allow, best reception first. Raises MessageError if none is good."""
        tokens = [gateway.token for gateway in metadata.gateways or () if gateway.token]
        if not tokens and metadata.fns_token:
            tokens = [metadata.fns_token]
        grants: list[Grant] = []
        refusal = "no uplink token"
        at = now().timestamp()
        for token in tokens:
            try:
                grants.append(
                    self._tokens.open(
                        bytes(token),
                        receiver=peer.key,
                        # A multicast address never sends, so a class C frame may come with a member's token.
                        device=None if class_c else device,
                        now=at,
                        window_s=CLASS_C_S if class_c else WINDOW_S,
                    )
                )
            except TokenError as error:
                metrics.REFUSED.labels(peer.key, f"token_{error.reason}").inc()
                refusal = str(error)
        if not grants:
            raise MessageError(ResultCode.XMIT_FAILED, f"not_allowed: {refusal}", field="DLMetaData.GWInfo")
        grants.sort(key=lambda grant: grant.snr_db, reverse=True)
        return grants

    async def _send(self, peer: Peer, agreement: Agreement, job: _Job, transaction: int) -> TransmitResult:
        at = now()
        day = day_of(at)
        device = _device(job.frame)
        self._meters.charge_downlink(agreement, device, day=day, now_s=monotonic(), airtime_s=job.airtime_s)
        entry = self._entry(peer, agreement, job, transaction, at)
        self._ledger.note(entry)
        result = TransmitResult(id=0, ok=False, error=TransmitError.GATEWAY_OFFLINE)
        for grant in job.grants[:MAX_TRIED]:
            transmitter = self._transmitters.get(grant.peer)
            if transmitter is None:
                continue
            result = await transmitter.transmit(
                Transmission(
                    id=next(self._ids),
                    gateway=grant.gateway,
                    phy=job.phy,
                    windows=job.windows,
                    context={} if job.class_c else grant.context,
                    received_monotonic=None if job.class_c else grant.received_monotonic,
                    device=job.dev_eui,
                    priority=1 if job.high_priority else 0,
                )
            )
            # Once a gateway has it, nobody tries again (§11.3.2, step 8): the frame may be on the air.
            if result.ok or result.error not in _AT_ONCE:
                break
        if result.ok:
            metrics.CARRIED.labels(peer.key, "carry", "down").inc()
            used = job.windows[result.window or 0]
            airtime_s = self._radio.airtime_s(used.data_rate, len(job.phy), downlink=True)
            self._ledger.note(
                msgspec.structs.replace(
                    entry,
                    state=State.CONFIRMED,
                    data_rate=used.data_rate,
                    airtime_us=round(airtime_s * 1e6),
                )
            )
        else:
            self._meters.refund_downlink(agreement, day=day, airtime_s=job.airtime_s)
            metrics.REFUSED.labels(peer.key, f"transmit_{result.error}").inc()
            self._ledger.note(
                msgspec.structs.replace(entry, state=State.FAILED, result=str(result.error or "failed"))
            )
        return result

    def _entry(self, peer: Peer, agreement: Agreement, job: _Job, transaction: int, at: datetime) -> Entry:
        return Entry(
            peer=peer.id,
            agreement=agreement.id,
            we_carry=True,
            direction="down",
            key=downlink_key(job.phy, transaction),
            at=whole_milliseconds(at),
            kind=job.frame.kind,
            dev_addr=job.frame.dev_addr,
            dev_eui=job.dev_eui.hex() if job.dev_eui else "",
            port=job.frame.port,
            size=len(job.phy),
            data_rate=job.windows[0].data_rate,
            airtime_us=round(job.airtime_s * 1e6),
            classes=job.frame.kind,
            marked=job.verdict.marked,
            state=State.OPEN,
        )


def _device(frame: Facts) -> bytes:
    """What rates and tokens go by; a join-accept names no device."""
    return frame.dev_addr.to_bytes(4) if frame.dev_addr is not None else b""


def _refused(refused: Refused | None, detail: str = "") -> TransmitResult:
    return TransmitResult(
        id=0, ok=False, error=TransmitError.NOT_ALLOWED, detail=detail or f"not agreed: {refused}"
    )


def _windows(metadata: Downlink, *, class_c: bool, delay_s: int) -> tuple[Window, ...]:
    """The receive windows of DLMetaData. Raises MessageError where none is there (table 22)."""
    delay_s = metadata.rx1_delay_s or delay_s
    found: list[Window] = []
    for name, frequency_mhz, data_rate, window_delay_s in (
        ("DataRate1", metadata.rx1_frequency_mhz, metadata.rx1_data_rate, delay_s),
        ("DataRate2", metadata.rx2_frequency_mhz, metadata.rx2_data_rate, delay_s + 1),
    ):
        if frequency_mhz is None:
            continue
        if data_rate is None:
            raise MessageError(
                ResultCode.MALFORMED_MESSAGE,
                "missing, but its frequency is there",
                field=f"DLMetaData.{name}",
            )
        found.append(
            Window(
                frequency_hz=hz(frequency_mhz),
                data_rate=data_rate,
                delay_s=None if class_c else float(window_delay_s),
            )
        )
    if not found:
        raise MessageError(
            ResultCode.MALFORMED_MESSAGE, "DLFreq1 or DLFreq2 has to be there", field="DLMetaData.DLFreq1"
        )
    # A device of class C listens on RX2 all the time; RX1 is only open after an uplink.
    return tuple(found[-1:]) if class_c else tuple(found)
