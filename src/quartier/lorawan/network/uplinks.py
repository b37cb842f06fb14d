"""A new frame of one of our devices: counted, decrypted, put into the inbox, answered.

In this order: the counter is durable, then the message is in the inbox, then the device hears that it arrived.
Everything before the first wait happens at once, so that frames of one device never overtake each other in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from quartier.intake.conveyor import Conveyor
from quartier.lorawan import metrics
from quartier.lorawan.frames import clock_sync, mac
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.crypto import open_data
from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.frames.phy import Data
from quartier.lorawan.frames.regions import REGIONS, Region
from quartier.lorawan.message import HeardBy, Up, raw_message
from quartier.lorawan.network import adr, lines, mac_layer
from quartier.lorawan.network.collector import Frame
from quartier.lorawan.network.counters import Meaning
from quartier.lorawan.network.downlink import Planned, TooLong, class_a_windows, plan
from quartier.lorawan.network.identify import Match
from quartier.lorawan.network.outcome import Outcome
from quartier.lorawan.network.sender import PRIORITY_DATA, PRIORITY_MAC, PRIORITY_URGENT, Sender
from quartier.lorawan.sessions import Session
from quartier.lorawan.store import Item, Lost, Store
from quartier.lorawan.types import Discarded, Reception

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A frame in the clear, with what came of it."""

    session: Session
    counter: int
    data: Data
    receptions: Sequence[Reception]
    commands: Sequence[Command]
    service: bool
    planned: Planned | None
    notes: dict[str, Any]


class Uplinks:
    """Works off data frames whose session is known."""

    def __init__(self, store: Store, sender: Sender, inbox: Conveyor) -> None:
        self._store = store
        self._sender = sender
        self._inbox = inbox
        self._accepted = metrics.FRAMES.labels("accepted")

    async def accept(self, frame: Frame, data: Data, match: Match, receptions: Sequence[Reception]) -> None:
        """A new frame (or the first after a reset); settles the frame's outcome and returns after the answer."""
        session = match.session
        activate = session.pending
        if activate:
            self._store.directory.activate(session)
        accepted = self._take(data, match, receptions)
        if not await self._save(frame, accepted, activate=activate):
            return
        if not await self._deliver(frame, accepted):
            return
        outcome = Outcome(
            accepted=True, device=session.device.eui, dev_addr=session.dev_addr, uplink_counter=match.counter
        )
        self._accepted.inc()
        self._note(frame, accepted, "reset" if match.meaning is Meaning.RESET else "accepted")
        frame.settle(outcome)
        await self._answer(accepted)

    async def again(self, frame: Frame, data: Data, match: Match, receptions: Sequence[Reception]) -> None:
        """A device repeats its last frame: it is taken once, but acknowledged again, because the device waits."""
        session = match.session
        clear = open_data(session.keys, data, match.counter)
        planned = None
        if data.confirmed:
            region = REGIONS[session.device.profile.region]
            best = receptions[0]
            windows = class_a_windows(
                session, region, frequency_hz=best.frequency_hz, data_rate=best.data_rate
            )
            planned = plan(session, region, windows, acknowledge=True)
        accepted = _Accepted(session, match.counter, clear, receptions, (), False, planned, {})
        if planned is not None and not await self._save(frame, accepted, activate=False):
            return
        # A process that died between counter and inbox has left this to us.
        if session.delivered < match.counter and not await self._deliver(frame, accepted):
            return
        metrics.FRAMES.labels(Discarded.RETRANSMISSION).inc()
        self._note(frame, accepted, Discarded.RETRANSMISSION)
        frame.settle(
            Outcome(
                accepted=True,
                reason=Discarded.RETRANSMISSION,
                device=session.device.eui,
                dev_addr=session.dev_addr,
                uplink_counter=match.counter,
            )
        )
        await self._answer(accepted)

    def _take(self, data: Data, match: Match, receptions: Sequence[Reception]) -> _Accepted:
        session, best = match.session, receptions[0]
        region = REGIONS[session.device.profile.region]
        if match.meaning is Meaning.RESET:
            # Downlink counters go on: a device takes larger ones, and none may be used twice.
            session.delivered, session.history = -1, b""
        session.up = match.counter
        session.seen_at = best.received_at
        session.history = adr.remember(session.history, match.counter, best.snr_db)
        clear = open_data(session.keys, data, match.counter)
        commands = mac.parse(clear.payload if clear.port == 0 else clear.options, uplink=True).commands
        uplink = mac_layer.Uplink(
            data_rate=best.data_rate,
            snr_db=best.snr_db,
            gateways=len(receptions),
            gps_ms=best.gps_time_ms if best.gps_time_ms is not None else gps_ms(best.received_at),
            adr=data.adr,
        )
        heard = mac_layer.hear(session, commands, uplink, region)
        mac_layer.note_class_b(session, open_=data.class_b, now_s=int(best.received_at.timestamp()))
        self._remember(session, receptions)
        self._acknowledged(session, data)
        service = self._clock_sync(clear, uplink.gps_ms)
        planned = self._plan(session, region, data, uplink, heard, service, best)
        return _Accepted(
            session, match.counter, clear, receptions, commands, service is not None, planned, heard.notes
        )

    @staticmethod
    def _remember(session: Session, receptions: Sequence[Reception]) -> None:
        """Who can send to the device; only to who listens by itself something is sent long after it spoke."""
        if mac_layer.is_class_b(session):
            # Who does not know GPS time finds no ping slot.
            receptions = [one for one in receptions if one.gps_time_ms is not None] or receptions
        if mac_layer.listens(session):
            session.remember_places((one.gateway, one.peer) for one in receptions)
        else:
            best = receptions[0]
            session.gateway, session.peer = best.gateway, best.peer

    def _acknowledged(self, session: Session, data: Data) -> None:
        item = self._store.queue.busy(session.device.id)
        if item is None or not item.confirmed or not item.waiting:
            return
        if data.ack:
            self._store.queue.tell(item, "acknowledged")
        else:
            self._sender.unanswered(item)

    @staticmethod
    def _clock_sync(clear: Data, received_gps_ms: int) -> bytes | None:
        """What to say on the port of clock synchronisation; empty for nothing, None for a frame of another kind."""
        if clear.port != clock_sync.PORT:
            return None
        parsed = clock_sync.parse(clear.payload, uplink=True)
        if not parsed.commands:
            return None
        answers = [
            answer
            for one in parsed.commands
            if isinstance(one, clock_sync.AppTimeReq)
            and (answer := clock_sync.answer(one, received_gps_ms // 1000)) is not None
        ]
        return mac.serialise(answers)

    def _plan(  # noqa: PLR0917
        self,
        session: Session,
        region: Region,
        data: Data,
        uplink: mac_layer.Uplink,
        heard: mac_layer.Heard,
        service: bytes | None,
        best: Reception,
    ) -> Planned | None:
        now_s = int(time.time())
        requests = mac_layer.requests(session, uplink, region, now_s=now_s)
        queue = self._store.queue
        device_id = session.device.id
        while True:
            waiting = list(queue.waiting(device_id)) if queue.busy(device_id) is None else []
            item = waiting[0] if waiting else None
            if service:
                item = Item(
                    id=0, device_id=device_id, group_id=None, port=clock_sync.PORT, payload=service,
                    confirmed=False, priority=1, expires_at=None,
                )  # fmt: skip
            if not (
                data.confirmed or data.adr_ack_request or heard.urgent or heard.answers or requests or item
            ):
                return None
            windows = class_a_windows(
                session, region, frequency_hz=best.frequency_hz, data_rate=best.data_rate
            )
            try:
                planned = plan(
                    session,
                    region,
                    windows,
                    acknowledge=data.confirmed,
                    answers=heard.answers,
                    requests=requests,
                    item=item,
                    more=len(waiting) > (0 if service else 1),
                )
            except TooLong as error:
                if item is None or not item.id:
                    service = None
                else:
                    queue.tell(item, "failed", reason="too_long", detail=str(error))
                continue
            mac_layer.asked(session, planned.requests, now_s=now_s)
            if planned.item is not None and planned.item.id:
                queue.take(planned.item)
            return planned

    async def _save(self, frame: Frame, accepted: _Accepted, *, activate: bool) -> bool:
        session, planned = accepted.session, accepted.planned
        item = planned.item if planned is not None and planned.item is not None and planned.item.id else None
        try:
            await self._store.counters.save(
                session,
                activate=activate,
                item=(item.id, planned.counter) if item is not None and planned is not None else None,
            )
        except Lost:
            if item is not None:
                item.busy = False
            await self._store.refresh(session)
            metrics.FRAMES.labels(Discarded.RETRANSMISSION).inc()
            frame.settle(Outcome(accepted=False, reason=Discarded.RETRANSMISSION, device=session.device.eui))
            return False
        return True

    async def _deliver(self, frame: Frame, accepted: _Accepted) -> bool:
        session, clear = accepted.session, accepted.data
        if clear.port and not accepted.service:
            device, best = session.device, accepted.receptions[0]
            up = Up(
                dev_eui=device.eui.hex(),
                dev_addr=f"{session.dev_addr:08x}",
                time=best.received_at,
                counter=accepted.counter,
                port=clear.port,
                data=clear.payload,
                confirmed=clear.confirmed,
                adr=clear.adr,
                data_rate=best.data_rate,
                frequency=best.frequency_hz,
                receptions=[_heard_by(one) for one in accepted.receptions],
                battery=_battery_percent(session),
                tags=dict(device.tags),
            )
            future = await self._inbox.send(
                raw_message(device.municipality, up),
                message_id=f"lorawan-{session.id}-{accepted.counter}-{clear.mic.hex()}",
            )
            try:
                await future
            except asyncio.CancelledError:
                frame.settle(Outcome(accepted=False))
                raise
            metrics.INBOX_SECONDS.observe(time.monotonic() - frame.last)
        session.delivered = max(session.delivered, accepted.counter)
        return True

    def _note(self, frame: Frame, accepted: _Accepted, outcome: str) -> None:
        session, data = accepted.session, accepted.data
        detail: dict[str, Any] = dict(accepted.notes)
        if accepted.commands:
            detail["commands"] = lines.names(accepted.commands)
        if data.ack:
            detail["ack"] = True
        if data.class_b:
            known = session.device.profile.device_class == "B"
            detail["class" if known else "unknown_class"] = "B"
        sharing = self._store.directory.sharing(session.dev_addr)
        if sharing > 1:
            detail["sharing_dev_addr"] = sharing
        for reception in accepted.receptions:
            if not reception.peer:
                self._store.frames.hour(reception.gateway).accepted += 1
        self._store.frames.add(
            lines.up(
                frame.phy,
                accepted.receptions,
                outcome,
                municipality=session.device.municipality,
                device=session.device,
                dev_addr=session.dev_addr,
                counter=accepted.counter,
                port=data.port,
                detail=detail,
            )
        )

    async def _answer(self, accepted: _Accepted) -> None:
        planned, session = accepted.planned, accepted.session
        if planned is None:
            return
        item = planned.item if planned.item is not None and planned.item.id else None
        if item is not None and item.id in self._store.counters.refused_items:
            self._store.counters.refused_items.discard(item.id)
            self._store.queue.withdraw(item)
            return
        priority = PRIORITY_MAC
        if item is not None:
            priority = PRIORITY_URGENT if item.priority > 0 else PRIORITY_DATA
            if accepted.data.confirmed:
                priority = max(priority, PRIORITY_MAC)
        result, used = await self._sender.answer(
            planned.phy, planned.windows, accepted.receptions, device=session.device, priority=priority
        )
        detail: dict[str, Any] = {}
        if accepted.data.confirmed:
            detail["ack"] = True
        if planned.requests:
            detail["commands"] = lines.names(one.command for one in planned.requests)
        if item is not None:
            detail["downlink"] = item.id
            self._sender.conclude(item, result, gateway=used.gateway, peer=used.peer)
        self._sender.note(
            planned.phy,
            planned.windows,
            result,
            REGIONS[session.device.profile.region],
            municipality=session.device.municipality,
            gateway=used.gateway,
            peer=used.peer,
            device=session.device,
            dev_addr=session.dev_addr,
            counter=planned.counter,
            port=planned.port,
            detail=detail,
        )


def _heard_by(reception: Reception) -> HeardBy:
    private = reception.private
    return HeardBy(
        gateway=reception.gateway.hex(),
        rssi=reception.rssi_dbm,
        snr=reception.snr_db,
        peer=reception.peer,
        lon=None if private else reception.lon,
        lat=None if private else reception.lat,
        fine_time_ns=reception.fine_time_ns,
    )


def _battery_percent(session: Session) -> int | None:
    if not session.mac.status_at or session.mac.battery in (None, mac.BATTERY_EXTERNAL, mac.BATTERY_UNKNOWN):
        return None
    return round((session.mac.battery - 1) / 253 * 100)
