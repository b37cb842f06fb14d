"""Downlinks that need no uplink: devices of class C, and multicast groups of them.

One frame per device at a time, by the gateway that heard it best the last time; where that one refuses, by the next
best one that is known, of whichever network. A group's frame is sent by every gateway that its members need, one after
the other: they would be heard over each other otherwise.
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
from quartier.lorawan.frames.phy import Data, FrameType
from quartier.lorawan.frames.regions import EU868, REGIONS
from quartier.lorawan.network import mac_layer
from quartier.lorawan.network.downlink import Planned, TooLong, class_c_windows, plan
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


class Standing:
    """Sends what devices and groups of class C wait for."""

    def __init__(self, store: Store, sender: Sender) -> None:
        self._store = store
        self._sender = sender
        self._wake = asyncio.Event()
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        # When a device's confirmed downlink counts as not acknowledged, or may be tried again.
        self._patience: dict[int, float] = {}
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
            if not mac_layer.is_class_c(device.session):
                continue
            self._give_up(device)
            if self._patience.get(device_id, 0) > time.monotonic() or queue.busy(device_id) is not None:
                continue
            waiting = queue.waiting(device_id)
            if waiting and _places_of(device):
                self._spawn(("device", device_id), self._send(device, device.session, waiting[0]))
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
                log.error("lorawan.class_c_failed", error=repr(error))

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

    async def _send(self, device: Device, session: Session, item: Item) -> None:
        queue = self._store.queue
        region = REGIONS[device.profile.region]
        try:
            planned = plan(session, region, class_c_windows(session), item=item)
        except TooLong as error:
            queue.tell(item, "failed", reason="too_long", detail=str(error))
            return
        places, taken = _places_of(device), session.counters[1:]
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
        result, (gateway, peer) = await self._by_the_best(
            device, session, item, planned, places=places, taken=taken
        )
        self._patience[device.id] = time.monotonic() + (
            device.profile.class_c_timeout_s if item.confirmed or not result.ok else 0
        )
        self._sender.conclude(item, result, gateway=gateway, peer=peer)

    async def _by_the_best(
        self,
        device: Device,
        session: Session,
        item: Item,
        planned: Planned,
        *,
        places: Sequence[Place],
        taken: tuple[int, int],
    ) -> tuple[TransmitResult, Place]:
        """Send by the best gateway that does not refuse; what became of it, and where.

        Each try is a line of the frame log.
        """
        began = time.monotonic()
        for place in places:
            gateway, peer = place
            result = await self._sender.now(
                planned.phy,
                planned.windows,
                gateway=gateway,
                peer=peer,
                device=device,
                priority=PRIORITY_URGENT if item.priority > 0 else PRIORITY_DATA,
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
                detail={"downlink": item.id, "class": "C"},
            )
            if _is_final(result) or place == places[-1] or time.monotonic() > began + _WITHIN_S:
                break
            if item.expires_at is not None and datetime.now(UTC) >= item.expires_at:
                break
            if session.counters[1:] != taken:
                # The device may have heard a later frame, and takes no older one after it.
                break
        return result, place

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


def _places_of(device: Device) -> list[Place]:
    """Who can send to it, the best one first; of our own network alone where it may not roam any more."""
    places = device.session.places if device.session is not None else []
    return [place for place in places if not place[1] or device.may_roam]


def _is_final(result: TransmitResult) -> bool:
    """Sent, or nobody knows: after silence a second gateway could send over the first."""
    return result.ok or result.error is TransmitError.NO_CONFIRMATION
