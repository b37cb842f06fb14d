"""Our downlinks by a peer's gateways: the ``Transmitter`` of one peer.

Data goes as XmitDataReq, and its answer is the truth about it. A join-accept goes home with the PRStartAns that is
still open; TS002 has no answer to that.
"""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from quartier.lorawan.frames.phy import FrameType
from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.client import CallError, CallFailure, Client, Role
from quartier.lorawan.roaming.clock import Radio, now
from quartier.lorawan.roaming.exchanges import CONTEXT, Exchange, Exchanges
from quartier.lorawan.roaming.fields import Eui64, Frame, ResultCode, mhz
from quartier.lorawan.roaming.ledger import Entry, Ledger, State, downlink_key
from quartier.lorawan.roaming.messages import Answer, XmitDataAns, whole_milliseconds
from quartier.lorawan.roaming.objects import Downlink, Gateway
from quartier.lorawan.roaming.peers import Agreement, Direction
from quartier.lorawan.roaming.policy import facts
from quartier.lorawan.types import Transmission, TransmitError, TransmitResult, Window

log = structlog.get_logger(__name__)

MARGIN_S: Final = 2.0
"""After the last window has opened, for the peer to tell us about it."""


class PeerTransmitter:
    """Sends by the gateways of one peer; implements ``Transmitter``."""

    def __init__(self, client: Client, exchanges: Exchanges, ledger: Ledger, radio: Radio) -> None:
        self.client = client
        self._exchanges = exchanges
        self._ledger = ledger
        self._radio = radio

    async def transmit(self, transmission: Transmission) -> TransmitResult:
        """Returns what the peer's gateway said. Never raises."""
        exchange = self._exchanges.get(transmission.context.get(CONTEXT))
        if transmission.phy[0] >> 5 == FrameType.JOIN_ACCEPT:
            return self._join_accept(transmission, exchange)
        if transmission.gps_time_ms is not None:
            # DLMetaData cannot say when (table 22).
            return _failed(transmission, TransmitError.NOT_ALLOWED, "TS002 has no words for a ping slot")
        agreement = self.client.peer.agreement(Direction.CARRIED, now())
        if agreement is None:
            return _failed(transmission, TransmitError.NOT_ALLOWED, "no agreement is in force")
        metadata = windows_metadata(transmission.windows)
        metadata.dev_eui = (
            Eui64(transmission.device) if transmission.device and agreement.lifetime_s else None
        )
        metadata.high_priority = transmission.priority > 0
        if exchange is not None:
            metadata.fns_token = exchange.fns_token
            metadata.gateways = exchange.answering(transmission.gateway)
        else:
            last = self._exchanges.last(self.client.peer.key, transmission.gateway)
            if last is None or metadata.class_mode != "C":
                return _failed(
                    transmission, TransmitError.TOO_LATE, "no uplink that this could answer is known"
                )
            metadata.fns_token = last.fns_token
            metadata.gateways = [Gateway(id=last.id, token=last.token)]
        return await self._xmit(transmission, agreement, metadata, exchange)

    def _join_accept(self, transmission: Transmission, exchange: Exchange | None) -> TransmitResult:
        if exchange is None or exchange.accept.done():
            return _failed(transmission, TransmitError.TOO_LATE, "the request was answered already")
        exchange.chosen = transmission.gateway
        exchange.accept.set_result((transmission.phy, transmission.windows))
        return TransmitResult(
            id=transmission.id,
            ok=True,
            detail="went with PRStartAns, which TS002 does not confirm",
            gateway=transmission.gateway,
        )

    async def _xmit(
        self,
        transmission: Transmission,
        agreement: Agreement,
        metadata: Downlink,
        exchange: Exchange | None,
    ) -> TransmitResult:
        entry = self._entry(transmission, agreement)
        sent: list[Entry] = []

        def noted(transaction: int) -> None:
            sent.append(msgspec.structs.replace(entry, key=downlink_key(transmission.phy, transaction)))
            self._ledger.note(sent[0])

        delays = [w.delay_s for w in transmission.windows if w.delay_s is not None]
        try:
            answer = await self.client.ask(
                "XmitDataReq",
                role=Role.FNS,
                timeout_s=max(self.client.peer.timeout_s, max(delays, default=0) + MARGIN_S),
                receiver_token=exchange.sender_token if exchange is not None else None,
                on_transaction=noted,
                phy=Frame(transmission.phy),
                downlink=metadata,
            )
        except CallError as error:
            return _failed(transmission, _error_of(error), str(error))
        result = self._result(transmission, metadata, answer)
        if sent:
            self._ledger.note(self._settled(sent[0], result, transmission))
        if result.ok:
            metrics.CARRIED.labels(self.client.peer.key, "carried", "down").inc()
        return result

    def _result(self, transmission: Transmission, metadata: Downlink, answer: Answer) -> TransmitResult:
        if answer.result.code is not ResultCode.SUCCESS:
            word, _, detail = answer.result.description.partition(":")
            error = TransmitError.PEER
            if answer.result.code is ResultCode.XMIT_FAILED and word in TransmitError:
                error = TransmitError(word)
            return _failed(
                transmission, error, f"{answer.result.code.value}: {detail.strip() or word}".rstrip(": ")
            )
        window = 0
        second = isinstance(answer, XmitDataAns) and answer.rx2_frequency_mhz is not None
        if second and metadata.rx1_frequency_mhz is not None and len(transmission.windows) > 1:
            window = 1
        used = transmission.windows[window]
        return TransmitResult(
            id=transmission.id,
            ok=True,
            window=window,
            gateway=transmission.gateway,
            at=now(),
            airtime_s=self._radio.airtime_s(used.data_rate, len(transmission.phy), downlink=True),
        )

    def _settled(self, entry: Entry, result: TransmitResult, transmission: Transmission) -> Entry:
        if not result.ok:
            return msgspec.structs.replace(entry, state=State.FAILED, result=str(result.error or "failed"))
        used = transmission.windows[result.window or 0]
        return msgspec.structs.replace(
            entry,
            state=State.CONFIRMED,
            data_rate=used.data_rate,
            airtime_us=round(result.airtime_s * 1e6),
        )

    def _entry(self, transmission: Transmission, agreement: Agreement) -> Entry:
        frame = facts(transmission.phy)
        first = transmission.windows[0]
        airtime_s = self._radio.airtime_s(first.data_rate, len(transmission.phy), downlink=True)
        return Entry(
            peer=self.client.peer.id,
            agreement=agreement.id,
            we_carry=False,
            direction="down",
            key=b"",
            at=whole_milliseconds(now()),
            kind=frame.kind if frame is not None else "",
            dev_addr=frame.dev_addr if frame is not None else None,
            dev_eui=transmission.device.hex() if transmission.device else "",
            port=frame.port if frame is not None else None,
            size=len(transmission.phy),
            data_rate=first.data_rate,
            airtime_us=round(airtime_s * 1e6),
            classes=frame.kind if frame is not None else "",
            state=State.OPEN,
        )


def windows_metadata(windows: tuple[Window, ...]) -> Downlink:
    """DLMetaData for our windows. One without a delay is class C, which listens on RX2 (table 22)."""
    first = windows[0]
    if first.delay_s is None:
        return Downlink(
            class_mode="C", rx2_frequency_mhz=mhz(first.frequency_hz), rx2_data_rate=first.data_rate
        )
    made = Downlink(
        class_mode="A",
        rx1_frequency_mhz=mhz(first.frequency_hz),
        rx1_data_rate=first.data_rate,
        rx1_delay_s=round(first.delay_s),
    )
    for second in windows[1:2]:
        # TS002 has no delay of its own for RX2: it opens a second after RX1.
        if second.delay_s == first.delay_s + 1:
            made.rx2_frequency_mhz = mhz(second.frequency_hz)
            made.rx2_data_rate = second.data_rate
    return made


def _error_of(error: CallError) -> TransmitError:
    if error.failure is CallFailure.TIMEOUT:
        return TransmitError.NO_CONFIRMATION
    if error.failure is CallFailure.BUSY:
        return TransmitError.QUEUE_FULL
    return TransmitError.PEER


def _failed(transmission: Transmission, error: TransmitError, detail: str) -> TransmitResult:
    return TransmitResult(
        id=transmission.id, ok=False, error=error, detail=detail[:300], gateway=transmission.gateway
    )
