"""Downlinks that need no uplink: devices of class C, and multicast groups of them.

One frame per device at a time, by the gateway that heard it best the last time. A group's frame is sent by every
gateway that its members need, one after the other: they would be heard over each other otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

import psycopg
import structlog

from quartier.lorawan.frames.crypto import seal_data
from quartier.lorawan.frames.phy import Data, FrameType
from quartier.lorawan.frames.regions import EU868, REGIONS
from quartier.lorawan.network import mac_layer
from quartier.lorawan.network.downlink import TooLong, class_c_windows, plan
from quartier.lorawan.network.sender import PRIORITY_DATA, PRIORITY_URGENT, Sender
from quartier.lorawan.sessions import Device, Session
from quartier.lorawan.store import Item, Lost, Store
from quartier.lorawan.store.downlinks import Group
from quartier.lorawan.types import TransmitError, TransmitResult, Window

log = structlog.get_logger(__name__)

_PAUSE_S: Final = 1.0
_MOST_AT_ONCE: Final = 200


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
            if waiting and device.session.gateway is not None:
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
        gateway, peer = session.gateway or b"", session.peer
        result = await self._sender.now(
            planned.phy,
            planned.windows,
            gateway=gateway,
            peer=peer,
            device=device,
            priority=PRIORITY_URGENT if item.priority > 0 else PRIORITY_DATA,
        )
        self._patience[device.id] = time.monotonic() + (
            device.profile.class_c_timeout_s if item.confirmed or not result.ok else 0
        )
        self._sender.conclude(item, result, gateway=gateway, peer=peer)
        self._sender.note(
            planned.phy,
            planned.windows,
            result,
            region,
            municipality=device.municipality,
            gateway=gateway,
            peer=peer,
            device=device,
            dev_addr=session.dev_addr,
            counter=planned.counter,
            port=planned.port,
            detail={"downlink": item.id, "class": "C"},
        )

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
        results: list[TransmitResult] = []
        for gateway, peer in places:
            result = await self._sender.now(
                phy, windows, gateway=gateway, peer=peer, device=None, priority=PRIORITY_URGENT
            )
            results.append(result)
            self._sender.note(
                phy,
                windows,
                result,
                region,
                municipality=group.municipality,
                gateway=gateway,
                peer=peer,
                dev_addr=group.dev_addr,
                counter=counter,
                port=item.port,
                detail={"downlink": item.id, "group": group.id},
            )
        self._conclude_group(item, results, places[0])

    def _places(self, group: Group) -> list[tuple[bytes, str]]:
        found: dict[tuple[bytes, str], None] = {}
        for eui in group.members:
            device = self._store.directory.devices.get(eui)
            if device is not None and device.session is not None and device.session.gateway is not None:
                found[device.session.gateway, device.session.peer] = None
        return list(found)

    def _conclude_group(self, item: Item, results: list[TransmitResult], place: tuple[bytes, str]) -> None:
        sent = [one for one in results if one.ok]
        detail = f"{len(sent)} of {len(results)} gateways"
        if sent:
            self._store.queue.tell(
                item, "sent", detail=detail, gateway=place[0].hex(), peer=place[1], sent_at=sent[-1].at
            )
        else:
            # The counter is used up, and members may have heard a frame that was not confirmed: not again.
            error = results[-1].error or TransmitError.NO_CONFIRMATION
            self._store.queue.tell(item, "failed", reason=str(error), detail=detail)
