"""Downlinks that need no uplink: devices of class B and C, and multicast groups of class C.

One frame per device at a time, by the gateway that heard it best the last time; where that one refuses, by the next
best one that is known, of whichever network. A device of class B is sent it in its next ping slot: the frame is made
when the slot is near, so that until then an uplink's windows may carry the message instead. A group's frame is sent by
every gateway that its members need, one after the other: they would be heard over each other otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import structlog

from quartier.lorawan.frames.crypto import seal_data
from quartier.lorawan.frames.gps_time import from_gps_ms, gps_ms
from quartier.lorawan.frames.phy import Data, FrameType
from quartier.lorawan.frames.regions import EU868, REGIONS
from quartier.lorawan.network import mac_layer
from quartier.lorawan.network.downlink import Planned, TooLong, class_b_windows, class_c_windows, plan
from quartier.lorawan.network.sender import PRIORITY_DATA, PRIORITY_URGENT, Sender
from quartier.lorawan.sessions import Device, Place, Session
from quartier.lorawan.store import Item, Lost, Store
from quartier.lorawan.store.downlinks import Group
from quartier.lorawan.types import TransmitError, TransmitResult, Window

log = structlog.get_logger(__name__)

_PAUSE_S: Final = 1.0
_MOST_AT_ONCE: Final = 200
# After this no other gateway is asked any more; gateways that refuse do so at once.
_WITHIN_S: Final = 30.0
# A gateway has a frame for a ping slot so early, but not earlier, because its queue is short. Wider than the pause.
_LEAD_MS: Final = 1200
_REACH_MS: Final = 3500
# How long after an uplink's second window has opened the device may still be busy with it.
_BUSY_MS: Final = 1500
# Before it is asked again whether a gateway has GPS time.
_NO_GPS_S: Final = 300.0
# Certainly not sent then, and the next ping slot may be free.
_NEXT_SLOT: Final = frozenset(
    {
        TransmitError.TOO_LATE,
        TransmitError.COLLISION_PACKET,
        TransmitError.COLLISION_BEACON,
        TransmitError.DUTY_CYCLE,
        TransmitError.QUEUE_FULL,
    }
)


class Standing:
    """Sends what devices of class B and C, and groups of class C, wait for."""

    def __init__(self, store: Store, sender: Sender) -> None:
        self._store = store
        self._sender = sender
        self._wake = asyncio.Event()
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        # When a device's confirmed downlink counts as not acknowledged, or may be tried again.
        self._patience: dict[int, float] = {}
        # The ping slot (GPS time) that a device was last sent something in.
        self._used: dict[int, int] = {}
        self._by_id: dict[int, Device] = {}

    def wake(self) -> None:
        """Something may be new in the queue."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""
        try:
            while not stop.is_set():
                self._begin()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _PAUSE_S)
                self._wake.clear()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self) -> None:
        queue = self._store.queue
        for device_id in queue.device_ids():
            device = self._device(device_id)
            if device is None or device.session is None or not device.active:
                continue
            if not mac_layer.listens(device.session):
                continue
            self._give_up(device)
            if self._patience.get(device_id, 0) > time.monotonic() or queue.busy(device_id) is not None:
                continue
            waiting = queue.waiting(device_id)
            class_b = not mac_layer.is_class_c(device.session)
            if not waiting or not _places_of(device, class_b=class_b):
                continue
            slot = None
            if class_b:
                slot = self._slot(device, device.session)
                if slot - _now_ms() > _REACH_MS or _is_over(waiting[0], from_gps_ms(slot)):
                    continue
            self._spawn(("device", device_id), self._send(device, device.session, waiting, slot))
        for group in queue.groups.values():
            items = queue.waiting_for_group(group.id)
            if items and group.active:
                self._spawn(("group", group.id), self._send_group(group, items[0]))

    def _spawn(self, key: tuple[str, int], work: Any) -> None:
        if key in self._tasks or len(self._tasks) >= _MOST_AT_ONCE:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks[key] = task

        def done(ended: asyncio.Task[None]) -> None:
            del self._tasks[key]
            self._wake.set()
            if not ended.cancelled() and (error := ended.exception()) is not None:
                log.error("lorawan.standing_failed", error=repr(error))

        task.add_done_callback(done)

    def _device(self, device_id: int) -> Device | None:
        device = self._by_id.get(device_id)
        if device is None or self._store.directory.devices.get(device.eui) is not device:
            # Few devices have something waiting; whose id is not known yet is looked for once.
            device = next((one for one in self._store.directory if one.id == device_id), None)
            if device is not None:
                self._by_id[device_id] = device
        return device

    def _give_up(self, device: Device) -> None:
        item = self._store.queue.busy(device.id)
        if item is not None and item.waiting and self._patience.get(device.id, 0) <= time.monotonic():
            self._sender.unanswered(item)

    def _slot(self, device: Device, session: Session, *, after_ms: int = 0) -> int:
        """The next ping slot (GPS time) for which there is time, and in which the device is not busy otherwise."""
        earliest = max(_now_ms() + _LEAD_MS, after_ms, self._used.get(device.id, 0))
        if session.seen_at is not None:
            windows_ms = (session.mac.rx1_delay_s + 1) * 1000 + _BUSY_MS
            earliest = max(earliest, gps_ms(session.seen_at) + windows_ms)
        return mac_layer.next_ping_slot_ms(session, earliest)

    async def _send(
        self, device: Device, session: Session, waiting: Sequence[Item], slot: int | None
    ) -> None:
        """Send the first of what waits: in the ping slot, or at once (class C)."""
        queue, item = self._store.queue, waiting[0]
        region = REGIONS[device.profile.region]
        windows = class_c_windows(session) if slot is None else class_b_windows(session)
        try:
            # A ping carries no MAC commands (TS001-1.0.4 §9.3.1).
            planned = plan(session, region, windows, item=item, more=slot is not None and len(waiting) > 1)
        except TooLong as error:
            queue.tell(item, "failed", reason="too_long", detail=str(error))
            return
        places, taken = _places_of(device, class_b=slot is not None), session.counters[1:]
        queue.take(item)
        try:
            await self._store.counters.save(session, item=(item.id, planned.counter))
        except Lost:
            item.busy = False
            await self._store.refresh(session)
            return
        if item.id in self._store.counters.refused_items:
            self._store.counters.refused_items.discard(item.id)
            queue.withdraw(item)
            return
        until = time.monotonic() + _WITHIN_S
        while True:
            result, (gateway, peer) = await self._by_the_best(
                device, session, item, planned, places=places, taken=taken, slot=slot
            )
            if slot is None or result.error not in _NEXT_SLOT:
                break
            later = self._slot(device, session, after_ms=slot)
            wait_s = (later - _now_ms()) / 1000
            if time.monotonic() + wait_s > until or _is_over(item, from_gps_ms(later)):
                break
            if session.counters[1:] != taken or not mac_layer.is_class_b(session):
                break
            slot = later
            await asyncio.sleep(max(0.0, wait_s - _REACH_MS / 1000))
        self._patience[device.id] = time.monotonic() + self._patience_s(device, item, result, slot)
        where = ""
        if slot is not None:
            where = f"ping slot {from_gps_ms(slot).isoformat(timespec='milliseconds')}"
            if result.ok:
                self._used[device.id] = slot
                # A packet forwarder confirms when it has queued the frame, which is sent now.
                await asyncio.sleep(max(0.0, (slot - _now_ms()) / 1000))
        self._sender.conclude(item, result, gateway=gateway, peer=peer, where=where)

    @staticmethod
    def _patience_s(device: Device, item: Item, result: TransmitResult, slot: int | None) -> float:
        """How long to wait before something else is done for a device."""
        if result.ok and not item.confirmed:
            return 0
        if slot is None:
            return device.profile.class_c_timeout_s
        if result.error is TransmitError.GPS_UNLOCKED:
            return _NO_GPS_S
        return device.profile.class_b_timeout_s + max(0.0, (slot - _now_ms()) / 1000)

    async def _by_the_best(
        self,
        device: Device,
        session: Session,
        item: Item,
        planned: Planned,
        *,
        places: Sequence[Place],
        taken: tuple[int, int],
        slot: int | None = None,
    ) -> tuple[TransmitResult, Place]:
        """Send by the best gateway that does not refuse; what became of it, and where.

        Each try is a line of the frame log.
        """
        began = time.monotonic()
        told: tuple[TransmitResult, Place] | None = None
        for place in places:
            gateway, peer = place
            result = await self._sender.now(
                planned.phy,
                planned.windows,
                gateway=gateway,
                peer=peer,
                device=device,
                priority=PRIORITY_URGENT if item.priority > 0 else PRIORITY_DATA,
                gps_time_ms=slot,
            )
            self._sender.note(
                planned.phy,
                planned.windows,
                result,
                REGIONS[device.profile.region],
                municipality=device.municipality,
                gateway=gateway,
                peer=peer,
                device=device,
                dev_addr=session.dev_addr,
                counter=planned.counter,
                port=planned.port,
                detail={"downlink": item.id} | ({"class": "C"} if slot is None else _ping(slot)),
            )
            # That one gateway could never do it says less than why another one could not do it now.
            if told is None or result.error is not TransmitError.GPS_UNLOCKED:
                told = result, place
            if _is_final(result) or place == places[-1] or time.monotonic() > began + _WITHIN_S:
                break
            if _is_over(item):
                break
            if session.counters[1:] != taken:
                # The device may have heard a later frame, and takes no older one after it.
                break
        assert told is not None  # noqa: S101 (nobody is sent for without a place)
        return told

    async def _send_group(self, group: Group, item: Item) -> None:
        queue = self._store.queue
        region = EU868
        room = region.max_payload(group.data_rate)
        if len(item.payload) > room:
            queue.tell(item, "failed", reason="too_long", detail=str(TooLong(room)))
            return
        places = self._places(group)
        if not places:
            queue.tell(item, "failed", reason="no_gateway", detail="none of the members was heard yet")
            return
        queue.take(item)
        try:
            counter = await queue.take_group_counter(item)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("lorawan.group_retry", error=str(error).strip())
            item.busy = False
            await asyncio.sleep(_PAUSE_S)
            return
        if counter is None:
            queue.withdraw(item)
            return
        frame = Data(FrameType.UNCONFIRMED_DOWN, group.dev_addr, 0, port=item.port, payload=item.payload)
        phy = seal_data(group.keys, frame, counter)
        windows = (Window(frequency_hz=group.frequency_hz, data_rate=group.data_rate, delay_s=None),)
        tried: dict[Place, TransmitResult] = {}
        for candidates in places:
            for place in candidates:
                if place not in tried:
                    tried[place] = result = await self._sender.now(
                        phy, windows, gateway=place[0], peer=place[1], device=None, priority=PRIORITY_URGENT
                    )
                    self._sender.note(
                        phy,
                        windows,
                        result,
                        region,
                        municipality=group.municipality,
                        gateway=place[0],
                        peer=place[1],
                        dev_addr=group.dev_addr,
                        counter=counter,
                        port=item.port,
                        detail={"downlink": item.id, "group": group.id},
                    )
                if _is_final(tried[place]):
                    break
        self._conclude_group(item, tried)

    def _places(self, group: Group) -> list[list[Place]]:
        """By member: who can send to it, the best one first. Each list once."""
        found: dict[tuple[Place, ...], None] = {}
        for eui in group.members:
            device = self._store.directory.devices.get(eui)
            if device is not None and (places := _places_of(device)):
                found[tuple(places)] = None
        return [list(one) for one in found]

    def _conclude_group(self, item: Item, tried: dict[Place, TransmitResult]) -> None:
        sent = [place for place, result in tried.items() if result.ok]
        detail = f"{len(sent)} of {len(tried)} gateways"
        if sent:
            self._store.queue.tell(
                item,
                "sent",
                detail=detail,
                gateway=sent[0][0].hex(),
                peer=sent[0][1],
                sent_at=tried[sent[-1]].at,
            )
        else:
            # The counter is used up, and members may have heard a frame that was not confirmed: not again.
            last = list(tried.values())[-1]
            error = last.error or TransmitError.NO_CONFIRMATION
            self._store.queue.tell(item, "failed", reason=str(error), detail=detail)


def _places_of(device: Device, *, class_b: bool = False) -> list[Place]:
    """Who can send to it, the best one first; of our own network alone where it may not roam any more.

    Peers cannot be told of a ping slot.
    """
    places = device.session.places if device.session is not None else []
    return [place for place in places if not place[1] or (device.may_roam and not class_b)]


def _now_ms() -> int:
    return gps_ms(datetime.now(UTC))


def _ping(slot: int) -> dict[str, Any]:
    """For the frame log: which ping slot it was, in UTC."""
    return {"class": "B", "ping_slot": from_gps_ms(slot).isoformat(timespec="milliseconds")}


def _is_over(item: Item, at: datetime | None = None) -> bool:
    """Nobody wants it any more, now or at a later time."""
    return item.expires_at is not None and (at or datetime.now(UTC)) >= item.expires_at


def _is_final(result: TransmitResult) -> bool:
    """Sent, or nobody knows: after silence a second gateway could send over the first."""
    return result.ok or result.error is TransmitError.NO_CONFIRMATION
