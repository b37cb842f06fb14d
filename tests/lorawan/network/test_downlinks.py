"""The downlink queue: what devices hear, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.lorawan.domain import LoraError, cancel_downlink, create_group, enqueue, enqueue_group
from quartier.lorawan.frames.keys import multicast_session
from quartier.lorawan.models import Downlink, LoraDevice, MulticastGroup
from quartier.lorawan.types import TransmitError
from quartier.virtual.lora.device import Device
from tests.lorawan.network.scene import GATEWAY, OTHER, THIRD, Scene, until

Start = Callable[..., AbstractAsyncContextManager[Scene]]


async def put(scene: Scene, device: Device, payload: bytes, *, port: int = 10, **how: Any) -> Downlink:
    """A downlink in the queue, as a department puts it there."""
    downlink = await sync_to_async(enqueue)(SYSTEM, await scene.row(device), payload, port=port, **how)
    await scene.store.reload()
    scene.network.wake()
    return downlink


async def state_of(scene: Scene, downlink: Downlink) -> tuple[str, str, int]:
    """State, reason and attempts as everybody can read them."""
    await scene.store.queue.write()
    await downlink.arefresh_from_db()
    return downlink.state, downlink.reason, downlink.attempts


async def settled(scene: Scene, downlink: Downlink, state: str) -> None:
    """Wait for what happens without an uplink."""
    for _ in range(2000):
        if (await state_of(scene, downlink))[0] == state:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(await state_of(scene, downlink))


async def speak(scene: Scene, device: Device, **how: Any) -> None:
    assert (await scene.send(device.uplink(b"\x01", 1, **how))).accepted


def payloads(scene: Scene) -> list[bytes]:
    """What devices have got."""
    return [sent.heard.payload for sent in scene.air.sent if sent.heard and sent.heard.payload]


async def test_waiting_downlinks_go_by_priority_one_per_uplink(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    first = await put(scene, device, b"first")
    second = await put(scene, device, b"second")
    urgent = await put(scene, device, b"urgent", priority=5)
    assert await state_of(scene, first) == ("queued", "", 0)
    for number, (downlink, payload) in enumerate(
        [(urgent, b"urgent"), (first, b"first"), (second, b"second")]
    ):
        await speak(scene, device)
        assert payloads(scene)[-1] == payload
        heard = scene.air.sent[-1].heard
        assert heard is not None
        assert heard.pending == (number < 2)
        assert await state_of(scene, downlink) == ("sent", "", 1)
        assert (downlink.downlink_counter, downlink.gateway) == (number, GATEWAY.hex())
        assert downlink.sent_at is not None
        assert downlink.done_at is not None
    assert [sent.transmission.priority for sent in scene.air.sent] == [2, 0, 0]
    await speak(scene, device)
    assert len(scene.air.sent) == 3


async def test_confirmed_downlinks_are_acknowledged(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    downlink = await put(scene, device, b"valve", confirmed=True)
    await speak(scene, device)
    assert await state_of(scene, downlink) == ("sent", "", 1)
    assert downlink.done_at is None
    await speak(scene, device)
    assert await state_of(scene, downlink) == ("acknowledged", "", 1)
    assert downlink.done_at is not None


async def test_confirmed_downlinks_that_nobody_acknowledges_are_repeated_and_given_up(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    downlink = await put(scene, device, b"valve", confirmed=True)
    deaf = scene.air.devices.pop(scene.eui_of(device))
    for attempt in (1, 2, 3):
        await speak(scene, deaf)
        assert (await state_of(scene, downlink))[::2] == ("sent", attempt)
    await speak(scene, deaf)
    assert await state_of(scene, downlink) == ("failed", "not_acknowledged", 3)
    counters = [one.transmission.phy[6:8] for one in scene.air.sent]
    assert len(counters) == len(set(counters)) == 3, "each repetition has a counter of its own"


async def test_the_true_result_reaches_the_queue(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    downlink = await put(scene, device, b"lamp")
    scene.air.failures = [TransmitError.NO_CONFIRMATION]
    await speak(scene, device)
    # Once more with the next uplink, and the reason stands there until then.
    assert await state_of(scene, downlink) == ("queued", "no_confirmation", 1)
    scene.air.failures = [TransmitError.DUTY_CYCLE]
    await speak(scene, device)
    assert await state_of(scene, downlink) == ("failed", "duty_cycle", 2)
    assert [line.outcome for line in scene.lines() if line.direction == "down"] == [
        "no_confirmation",
        "duty_cycle",
    ]
    await speak(scene, device)
    assert len(scene.air.sent) == 2
    retried = await put(scene, device, b"lamp")
    scene.air.failures = [TransmitError.NO_CONFIRMATION]
    await speak(scene, device)
    await speak(scene, device)
    assert await state_of(scene, retried) == ("sent", "", 2)


async def test_another_gateway_helps_out_where_one_refuses_in_time(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    downlink = await put(scene, device, b"lamp")
    scene.air.failures = [TransmitError.COLLISION_PACKET]
    await scene.send(device.uplink(b"\x01", 1), by={GATEWAY: 9.0, OTHER: 1.0})
    assert [sent.transmission.gateway for sent in scene.air.sent] == [GATEWAY, OTHER]
    assert len({sent.transmission.phy for sent in scene.air.sent}) == 1
    assert await state_of(scene, downlink) == ("sent", "", 1)
    assert downlink.gateway == OTHER.hex()


async def test_what_is_not_sent(scene: Scene) -> None:
    device = await scene.abp(data_rate=0)
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    expired = await put(scene, device, b"late", expires_at=soon)
    cancelled = await put(scene, device, b"no")
    long = await put(scene, device, bytes(60))
    short = await put(scene, device, b"yes")
    await sync_to_async(cancel_downlink)(SYSTEM, cancelled)
    await scene.store.reload()
    await until(lambda: datetime.now(UTC) > soon)
    await speak(scene, device)
    assert payloads(scene) == [b"yes"]
    assert await state_of(scene, expired) == ("failed", "expired", 0)
    assert await state_of(scene, cancelled) == ("cancelled", "", 0)
    assert await state_of(scene, long) == ("failed", "too_long", 0)
    assert long.detail == "at most 51 bytes fit at this data rate"
    assert await state_of(scene, short) == ("sent", "", 1)
    with pytest.raises(LoraError, match="state"):
        await sync_to_async(cancel_downlink)(SYSTEM, short)


async def test_a_downlink_withdrawn_at_the_last_moment_is_not_sent(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    downlink = await put(scene, device, b"no")
    # The radio has not heard of it yet.
    await sync_to_async(cancel_downlink)(SYSTEM, downlink)
    await speak(scene, device)
    assert scene.air.sent == []
    assert await state_of(scene, downlink) == ("cancelled", "", 0)


async def test_long_payloads_use_the_window_that_carries_them(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    await put(scene, device, bytes(range(200)))
    await speak(scene, device)
    (sent,) = scene.air.sent
    assert [window.data_rate for window in sent.transmission.windows] == [5]
    assert payloads(scene) == [bytes(range(200))]


async def test_class_c_hears_at_once(scene: Scene) -> None:
    profile = await scene.profile_of(
        "c", device_class="C", adr=False, status_interval_s=0, class_c_timeout_s=1
    )
    device = await scene.abp(profile=profile, device_class="C", data_rate=5)
    downlink = await put(scene, device, b"before")
    await scene.store.reload()
    await speak(scene, device)
    assert payloads(scene) == [b"before"], "nobody knows where it is before its first uplink"
    at_once = await put(scene, device, b"at once")
    await settled(scene, at_once, "sent")
    sent = scene.air.sent[-1]
    assert [(w.delay_s, w.frequency_hz, w.data_rate) for w in sent.transmission.windows] == [
        (None, 869_525_000, 0)
    ]
    assert (sent.transmission.gateway, sent.transmission.context) == (GATEWAY, {})
    confirmed = await put(scene, device, b"valve", confirmed=True)
    await settled(scene, confirmed, "sent")
    await speak(scene, device)
    assert await state_of(scene, confirmed) == ("acknowledged", "", 1)
    assert await state_of(scene, downlink) == ("sent", "", 1)


async def test_class_c_is_tried_again_and_given_up(scene: Scene) -> None:
    profile = await scene.profile_of(
        "c", device_class="C", adr=False, status_interval_s=0, class_c_timeout_s=1
    )
    device = await scene.abp(profile=profile, device_class="C", data_rate=5)
    await speak(scene, device)
    scene.air.failures = [TransmitError.GATEWAY_OFFLINE] * 2
    downlink = await put(scene, device, b"x")
    await settled(scene, downlink, "failed")
    assert await state_of(scene, downlink) == ("failed", "gateway_offline", 2)
    scene_eui = scene.eui_of(device).hex()
    scene.air.devices.clear()
    deaf = await put_for(scene, scene_eui, b"y")
    await settled(scene, deaf, "failed")
    assert await state_of(scene, deaf) == ("failed", "not_acknowledged", 3)


async def _class_c(scene: Scene) -> Device:
    profile = await scene.profile_of(
        "c", device_class="C", adr=False, status_interval_s=0, class_c_timeout_s=1
    )
    return await scene.abp(profile=profile, device_class="C", data_rate=5)


def _downs(scene: Scene) -> list[tuple[str, str, str]]:
    """Downlinks in the frame log: outcome, gateway, peer."""
    return [
        (one.outcome, gateway.eui, gateway.peer)
        for one in scene.lines()
        if one.direction == "down"
        for gateway in one.gateways
    ]


async def test_class_c_goes_by_the_next_best_gateway_of_either_network(scene: Scene) -> None:
    device = await _class_c(scene)
    emission = device.uplink(b"\x01", 1)
    scene.hear(emission.phy, data_rate=5, by={THIRD: 1.0, GATEWAY: 5.0})
    await scene.send(emission, by={OTHER: 3.0}, peer="nachbar")
    scene.air.failures = [TransmitError.DUTY_CYCLE, TransmitError.GATEWAY_OFFLINE]
    downlink = await put(scene, device, b"on")
    await settled(scene, downlink, "sent")
    assert (downlink.attempts, downlink.gateway, downlink.peer) == (1, THIRD.hex(), "")
    assert [one.transmission.gateway for one in scene.air.sent] == [GATEWAY, OTHER, THIRD]
    assert len({one.transmission.phy for one in scene.air.sent}) == 1, "one frame, one counter"
    assert payloads(scene) == [b"on"]
    assert _downs(scene) == [
        ("duty_cycle", GATEWAY.hex(), ""),
        ("gateway_offline", OTHER.hex(), "nachbar"),
        ("ok", THIRD.hex(), ""),
    ]


async def test_a_late_copy_says_who_else_can_send(scene: Scene) -> None:
    device = await _class_c(scene)
    emission = device.uplink(b"\x01", 1)
    await scene.send(emission, by={GATEWAY: 5.0})
    scene.hear(emission.phy, data_rate=5, by={OTHER: 9.0}, peer="nachbar")
    scene.air.failures = [TransmitError.TOO_LATE]
    downlink = await put(scene, device, b"on")
    await settled(scene, downlink, "sent")
    assert (downlink.gateway, downlink.peer) == (OTHER.hex(), "nachbar")
    # A device that may not roam any more is sent nothing by a neighbour.
    await LoraDevice.objects.filter(dev_eui=scene.eui_of(device).hex()).aupdate(
        may_roam=False, updated_at=datetime.now(UTC)
    )
    await scene.store.reload()
    scene.air.failures = [TransmitError.TOO_LATE] * 2
    downlink = await put(scene, device, b"off")
    await settled(scene, downlink, "failed")
    assert (downlink.gateway, downlink.peer) == (GATEWAY.hex(), "")


async def test_class_c_is_not_sent_again_after_silence(scene: Scene) -> None:
    device = await _class_c(scene)
    await scene.send(device.uplink(b"\x01", 1), by={GATEWAY: 5.0, OTHER: 3.0})
    scene.air.failures = [TransmitError.NO_CONFIRMATION] * 2
    downlink = await put(scene, device, b"on")
    await settled(scene, downlink, "failed")
    assert await state_of(scene, downlink) == ("failed", "no_confirmation", 2)
    assert [one.transmission.gateway for one in scene.air.sent] == [GATEWAY, GATEWAY]


async def test_class_c_fails_with_what_the_last_gateway_said(scene: Scene) -> None:
    device = await _class_c(scene)
    await scene.send(device.uplink(b"\x01", 1), by={GATEWAY: 5.0, OTHER: 3.0})
    scene.air.failures = [TransmitError.DUTY_CYCLE, TransmitError.GATEWAY_OFFLINE] * 2
    downlink = await put(scene, device, b"on")
    await settled(scene, downlink, "failed")
    assert await state_of(scene, downlink) == ("failed", "gateway_offline", 2)
    assert (downlink.gateway, payloads(scene)) == (OTHER.hex(), [])


async def test_class_c_is_not_handed_on_after_its_time(scene: Scene) -> None:
    device = await _class_c(scene)
    await scene.send(device.uplink(b"\x01", 1), by={GATEWAY: 5.0, OTHER: 3.0})
    scene.air.failures, scene.air.delay_s = [TransmitError.DUTY_CYCLE], 0.6
    row = await scene.row(device)
    downlink = await sync_to_async(enqueue)(
        SYSTEM, row, b"on", port=3, expires_at=datetime.now(UTC) + timedelta(seconds=0.5)
    )
    await scene.store.reload()
    scene.network.wake()
    await until(lambda: scene.air.sent)
    await settled(scene, downlink, "failed")
    assert [one.transmission.gateway for one in scene.air.sent] == [GATEWAY]


async def test_gateways_that_heard_earlier_come_after_those_of_now_and_survive_a_restart(
    scene: Scene, start: Start
) -> None:
    device = await _class_c(scene)
    await scene.send(device.uplink(b"\x01", 1), by={GATEWAY: 5.0, OTHER: 3.0})
    await scene.send(device.uplink(b"\x02", 1), by={THIRD: 1.0})
    async with start(scene) as again:
        session = again.store.directory.devices[scene.eui_of(device)].session
        assert session is not None
        assert session.places == [(THIRD, ""), (GATEWAY, ""), (OTHER, "")]
        again.air.failures = [TransmitError.GATEWAY_OFFLINE]
        downlink = await put(again, device, b"on")
        await settled(again, downlink, "sent")
        assert downlink.gateway == GATEWAY.hex()


async def test_a_group_is_reached_by_the_next_best_gateway_of_a_member(scene: Scene) -> None:
    devices = [await _class_c(scene), await _class_c(scene)]
    await scene.send(devices[0].uplink(b"\x01", 1), by={GATEWAY: 5.0, THIRD: 3.0})
    await scene.send(devices[1].uplink(b"\x01", 1), by={OTHER: 5.0, THIRD: 3.0})
    rows = [await scene.row(device) for device in devices]
    group = await sync_to_async(create_group)(
        SYSTEM, scene.world.municipality, "Leuchten", dev_addr="00fe0001", key=(b"m" * 16).hex(), devices=rows
    )
    scene.air.failures = [TransmitError.DUTY_CYCLE]
    downlink = await sync_to_async(enqueue_group)(SYSTEM, group, b"on", port=200)
    await scene.store.reload()
    scene.network.wake()
    await settled(scene, downlink, "sent")
    assert [one.transmission.gateway for one in scene.air.sent] == [GATEWAY, THIRD, OTHER]
    assert (downlink.detail, downlink.gateway) == ("2 of 3 gateways", THIRD.hex())


async def put_for(scene: Scene, dev_eui: str, payload: bytes) -> Downlink:
    row = await LoraDevice.objects.select_related("municipality").aget(dev_eui=dev_eui)
    downlink = await sync_to_async(enqueue)(SYSTEM, row, payload, port=3, confirmed=True)
    await scene.store.reload()
    scene.network.wake()
    return downlink


async def test_a_group_hears_one_frame_by_every_gateway_that_it_needs(scene: Scene) -> None:
    profile = await scene.profile_of("c", device_class="C", adr=False, status_interval_s=0)
    devices = [await scene.abp(profile=profile, device_class="C", data_rate=5) for _ in range(3)]
    for device, gateway in zip(devices, (GATEWAY, OTHER, OTHER), strict=True):
        await scene.send(device.uplink(b"\x01", 1), by=(gateway,))
    rows = [await scene.row(device) for device in devices]
    key = b"m" * 16
    group: MulticastGroup = await sync_to_async(create_group)(
        SYSTEM, scene.world.municipality, "Leuchten", dev_addr="00fe0001", key=key.hex(), devices=rows
    )
    for device in devices:
        device.join_group(0x00FE_0001, multicast_session(key, 0x00FE_0001))
    downlinks = [
        await sync_to_async(enqueue_group)(SYSTEM, group, payload, port=200) for payload in (b"one", b"two")
    ]
    await scene.store.reload()
    scene.network.wake()
    for downlink in downlinks:
        await settled(scene, downlink, "sent")
    assert downlinks[0].detail == "2 of 2 gateways"
    assert [one.transmission.gateway for one in scene.air.sent] == [GATEWAY, OTHER, GATEWAY, OTHER]
    assert len({one.transmission.phy for one in scene.air.sent}) == 2
    for device in devices:
        assert device.state is not None
        assert device.state.groups[0x00FE_0001].last_counter == 1
    assert [downlink.downlink_counter for downlink in downlinks] == [0, 1]
    await group.arefresh_from_db()
    assert group.downlink_counter == 2
