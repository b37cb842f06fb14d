"""Class B: what device and network tell each other, and downlinks in ping slots."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.lorawan.domain import enqueue
from quartier.lorawan.frames import mac, ping_slots
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.gps_time import from_gps_ms, gps_ms
from quartier.lorawan.models import DeviceProfile
from quartier.lorawan.network import mac_layer, standing
from quartier.lorawan.sessions import Session
from quartier.lorawan.types import TransmitError, Window
from quartier.virtual.lora.device import Device
from tests.lorawan.network.scene import GATEWAY, OTHER, Scene, Sent, until
from tests.lorawan.network.test_downlinks import Start, payloads, put, put_for, settled, state_of
from tests.patience import patient

PING = Window(frequency_hz=869_525_000, data_rate=3, delay_s=None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the time that gateways need, and that a device needs for its windows."""
    monkeypatch.setattr(standing, "_PAUSE_S", 0.05)
    monkeypatch.setattr(standing, "_LEAD_MS", 100)
    monkeypatch.setattr(standing, "_BUSY_MS", -2000)


async def talk(scene: Scene, device: Device, **how: Any) -> tuple[Command, ...]:
    """An uplink; returns what the device was told."""
    before = len(scene.air.sent)
    assert (await scene.send(device.uplink(b"\x01", 1), **how)).accepted
    return tuple(command for sent in scene.air.sent[before:] if sent.heard for command in sent.heard.commands)


async def profile_of(scene: Scene, **values: Any) -> DeviceProfile:
    """One for class B."""
    wanted: dict[str, Any] = {"adr": False, "status_interval_s": 0, "class_b_timeout_s": 1}
    return await scene.profile_of("b", device_class="B", **wanted | values)


async def device_of(scene: Scene) -> Device:
    """A device of class B with its ping slots open, about once a second."""
    device = await scene.abp(profile=await profile_of(scene), device_class="B", data_rate=5)
    device.begin_class_b()
    assert await talk(scene, device) == (mac.PingSlotInfoAns(),)
    await talk(scene, device)
    assert mac_layer.is_class_b(session_of(scene, device))
    return device


def session_of(scene: Scene, device: Device) -> Session:
    session = scene.store.directory.devices[scene.eui_of(device)].session
    assert session is not None
    return session


def slot_of(device: Device, sent: Sent) -> int:
    """The ping slot of a downlink, which is one of the device's."""
    at = sent.transmission.gps_time_ms
    assert at is not None
    listens = device.ping_slot(at - 1)
    assert listens is not None
    assert listens[0] == at
    return at


async def test_a_downlink_goes_in_the_next_ping_slot_without_an_uplink(scene: Scene) -> None:
    device = await device_of(scene)
    before = gps_ms(datetime.now(UTC))
    downlink = await put(scene, device, b"lamp")
    await settled(scene, downlink, "sent")
    (sent,) = [one for one in scene.air.sent if one.transmission.gps_time_ms is not None]
    slot = slot_of(device, sent)
    assert before < slot <= gps_ms(datetime.now(UTC)), "it is told when the slot has come"
    assert sent.transmission.windows == (PING,)
    assert (sent.transmission.received_monotonic, dict(sent.transmission.context)) == (None, {})
    assert sent.heard is not None
    assert (sent.heard.payload, sent.heard.commands, sent.heard.pending) == (b"lamp", (), False)
    moment = from_gps_ms(slot).isoformat(timespec="milliseconds")
    assert (downlink.attempts, downlink.gateway, downlink.detail) == (1, GATEWAY.hex(), f"ping slot {moment}")
    (line,) = [one for one in scene.lines() if one.detail.get("downlink") == downlink.pk]
    assert line.detail == {"downlink": downlink.pk, "class": "B", "ping_slot": moment, "window": 0}
    assert (line.outcome, line.frequency_hz, line.data_rate) == ("ok", 869_525_000, 3)


async def test_what_waits_goes_in_one_slot_after_the_other(scene: Scene) -> None:
    device = await device_of(scene)
    first = await sync_to_async(enqueue)(SYSTEM, await scene.row(device), b"first", port=10)
    second = await put(scene, device, b"second")
    await settled(scene, second, "sent")
    assert await state_of(scene, first) == ("sent", "", 1)
    pings = [one for one in scene.air.sent if one.transmission.gps_time_ms is not None]
    assert [one.heard.pending for one in pings if one.heard] == [True, False]
    assert slot_of(device, pings[0]) < slot_of(device, pings[1])


async def test_a_device_that_falls_back_is_answered_after_its_uplinks(scene: Scene) -> None:
    device = await device_of(scene)
    device.end_class_b()
    await talk(scene, device)
    assert session_of(scene, device).mac.class_b_since == 0
    downlink = await put(scene, device, b"lamp")
    await talk(scene, device)
    assert await state_of(scene, downlink) == ("sent", "", 1)
    assert scene.air.sent[-1].transmission.gps_time_ms is None
    assert payloads(scene) == [b"lamp"]


async def test_class_b_survives_a_restart(scene: Scene, start: Start) -> None:
    device = await device_of(scene)
    since = session_of(scene, device).mac.class_b_since
    async with start(scene) as again:
        state = session_of(again, device).mac
        assert (state.class_b_since, state.ping_slot_periodicity) == (since, 0)
        downlink = await put(again, device, b"lamp")
        await settled(again, downlink, "sent")
        slot_of(device, again.air.sent[-1])


async def test_the_next_slot_where_the_gateway_has_no_time_in_this_one(scene: Scene) -> None:
    device = await device_of(scene)
    await talk(scene, device, by={GATEWAY: 9.0, OTHER: -3.0})
    scene.air.failures = [TransmitError.COLLISION_PACKET, TransmitError.GPS_UNLOCKED]
    downlink = await put(scene, device, b"lamp")
    await settled(scene, downlink, "sent")
    assert await state_of(scene, downlink) == ("sent", "", 1)
    pings = [one for one in scene.air.sent if one.transmission.gps_time_ms is not None]
    assert [one.transmission.gateway for one in pings] == [GATEWAY, OTHER, GATEWAY]
    assert slot_of(device, pings[0]) == slot_of(device, pings[1]) < slot_of(device, pings[2])
    assert len({one.transmission.phy for one in pings}) == 1, "one frame, one counter"


async def test_nothing_is_sent_in_a_slot_after_its_time(scene: Scene) -> None:
    device = await device_of(scene)
    device.begin_class_b(periodicity=7)
    await talk(scene, device)
    await talk(scene, device)
    session = session_of(scene, device)

    def ahead_ms() -> int:
        now = gps_ms(datetime.now(UTC))
        return mac_layer.next_ping_slot_ms(session, now) - now

    await until(lambda: ahead_ms() > 2000)
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    downlink = await put(scene, device, b"lamp", expires_at=soon)
    await settled(scene, downlink, "failed")
    assert await state_of(scene, downlink) == ("failed", "expired", 0)
    assert [one for one in scene.air.sent if one.transmission.gps_time_ms] == []


async def test_gateways_with_gps_time_come_first(scene: Scene) -> None:
    device = await device_of(scene)
    await talk(scene, device, by={GATEWAY: 9.0, OTHER: -3.0}, gps=[OTHER])
    downlink = await put(scene, device, b"lamp")
    await settled(scene, downlink, "sent")
    assert downlink.gateway == OTHER.hex()
    assert [one.transmission.gateway for one in scene.air.sent if one.transmission.gps_time_ms] == [OTHER]


async def test_without_any_gps_time_it_waits_for_an_uplink_and_says_so(scene: Scene) -> None:
    device = await device_of(scene)
    scene.air.failures = [TransmitError.GPS_UNLOCKED]
    downlink = await put(scene, device, b"lamp")
    async with asyncio.timeout(patient(10)):
        while (await state_of(scene, downlink))[1] == "":  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.01)
    assert await state_of(scene, downlink) == ("queued", "gps_unlocked", 1)
    await talk(scene, device)
    assert await state_of(scene, downlink) == ("sent", "", 2)
    assert scene.air.sent[-1].transmission.gps_time_ms is None


async def test_a_device_that_only_a_neighbour_hears_is_answered_after_its_uplinks(scene: Scene) -> None:
    device = await device_of(scene)
    session = session_of(scene, device)
    session.gateway = None
    await talk(scene, device, peer="nachbar")
    assert (mac_layer.is_class_b(session), session.places) == (True, [(GATEWAY, "nachbar")])
    downlink = await put(scene, device, b"lamp")
    await talk(scene, device, peer="nachbar")
    assert await state_of(scene, downlink) == ("sent", "", 1)
    assert (downlink.peer, scene.air.sent[-1].transmission.gps_time_ms) == ("nachbar", None)


async def test_a_confirmed_ping_that_nobody_acknowledges_is_repeated(scene: Scene) -> None:
    device = await device_of(scene)
    eui = scene.eui_of(device).hex()
    scene.air.devices.clear()
    downlink = await put_for(scene, eui, b"y")
    await until(lambda: len([one for one in scene.air.sent if one.transmission.gps_time_ms]) == 2)
    pings = [one.transmission for one in scene.air.sent if one.transmission.gps_time_ms]
    assert len({one.phy for one in pings}) == 2, "each repetition has a counter of its own"
    await settled(scene, downlink, "sent")
    assert (await state_of(scene, downlink))[2] == 2


async def test_ping_slot_channel_and_beacon_are_asked_for(scene: Scene) -> None:
    profile = await profile_of(
        scene, ping_slot_data_rate=5, ping_slot_frequency_hz=868_500_000, beacon_frequency_hz=869_600_000
    )
    device = await scene.joined(profile=profile, device_class="B", data_rate=5)
    session = session_of(scene, device)
    device.begin_class_b()
    assert session.mac.asked == {"ping_slot": [5, 868_500_000], "beacon": [869_600_000]}
    # A device without class B leaves such questions open; this one answers with its next uplink.
    state = device.state
    assert state is not None
    assert await talk(scene, device) == (
        mac.PingSlotInfoAns(),
        mac.PingSlotChannelReq(frequency_hz=868_500_000, data_rate=5),
        mac.BeaconFreqReq(frequency_hz=869_600_000),
    )
    assert state.class_b
    assert not mac_layer.is_class_b(session), "nobody knows yet where it listens"
    assert await talk(scene, device) == ()
    assert mac_layer.is_class_b(session)
    assert (session.mac.asked, session.mac.refused) == ({}, {})
    used = session.mac
    assert [used.ping_slot_data_rate, used.ping_slot_frequency_hz] == [5, 868_500_000]
    assert used.beacon_frequency_hz == state.beacon_frequency_hz == 869_600_000
    downlink = await put(scene, device, b"lamp")
    await settled(scene, downlink, "sent")
    assert scene.air.sent[-1].transmission.windows == (
        Window(frequency_hz=868_500_000, data_rate=5, delay_s=None),
    )


async def test_what_a_device_refuses_is_not_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = await profile_of(scene, ping_slot_frequency_hz=868_500_000)
    device = await scene.joined(profile=profile, device_class="B", data_rate=5)
    state, session = device.state, session_of(scene, device)
    assert state is not None
    monkeypatch.setattr(type(state), "_in_band", lambda *_: False)
    device.begin_class_b()
    await talk(scene, device)
    assert await talk(scene, device) == ()
    assert session.mac.refused == {"ping_slot": [3, 868_500_000]}
    assert await talk(scene, device) == ()
    # It listens where it did before.
    assert mac_layer.is_class_b(session)
    assert (session.mac.ping_slot_data_rate, session.mac.ping_slot_frequency_hz) == (3, 869_525_000)


async def test_the_profile_says_how_often_a_device_listens_that_does_not_say_so(scene: Scene) -> None:
    profile = await profile_of(scene, ping_slot_periodicity=6)
    device = await scene.abp(profile=profile, device_class="B", data_rate=5)
    await talk(scene, device)
    session = session_of(scene, device)
    assert mac_layer.next_ping_slot_ms(session, 0) == ping_slots.next_ms(0, session.dev_addr, 6)
    device.begin_class_b(periodicity=2)
    await talk(scene, device)
    assert mac_layer.next_ping_slot_ms(session, 0) == ping_slots.next_ms(0, session.dev_addr, 2)


async def test_class_b_is_not_offered_to_devices_whose_profile_does_not_know_it(scene: Scene) -> None:
    device = await scene.abp(device_class="B", data_rate=5)
    device.begin_class_b()
    assert await talk(scene, device) == ()
    assert device.state is not None
    assert not device.state.class_b
    device.state.class_b = True
    await talk(scene, device)
    assert session_of(scene, device).mac.class_b_since == 0
    assert scene.lines()[-1].detail == {"unknown_class": "B"}


async def test_when_the_next_beacon_comes(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    device.ask(mac.BeaconTimingReq())
    before = gps_ms(datetime.now(UTC))
    (told,) = await talk(scene, device)
    after = gps_ms(datetime.now(UTC))
    assert isinstance(told, mac.BeaconTimingAns)
    assert told.channel == 0
    # RX1 opens a second after the uplink; 16 bytes take 46 ms at SF7.
    ends = range(before + 1046, after + 1047)
    assert told.delay in {ping_slots.until_beacon_ms(end) // 30 for end in ends}
