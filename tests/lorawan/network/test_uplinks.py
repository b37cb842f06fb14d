"""Uplinks: what is taken, what is refused and why, and what the inbox gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from quartier.lorawan.frames import crypto
from quartier.lorawan.frames.phy import Data, FrameType
from quartier.lorawan.models import Session
from quartier.lorawan.network import Outcome
from quartier.lorawan.types import Discarded
from quartier.virtual.lora.device import Device
from tests.lorawan.network.scene import GATEWAY, OTHER, THIRD, Scene, until


def data_frame(device: Device, counter: int, *, payload: bytes = b"\x01", confirmed: bool = False) -> bytes:
    """A frame under any counter, signed with the device's keys."""
    assert device.state is not None
    kind = FrameType.CONFIRMED_UP if confirmed else FrameType.UNCONFIRMED_UP
    frame = Data(kind, device.state.dev_addr, 0, port=1, payload=payload)
    return crypto.seal_data(device.state.keys, frame, counter)


async def hear(scene: Scene, whole: bytes) -> Outcome:
    """A frame that was made by hand."""
    scene.hear(whole)
    outcome = await scene.network.outcome(whole)
    await scene.idle()
    return outcome


@pytest.fixture(autouse=True)
def repeat_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that repeats itself need not wait for windows that nobody opens."""
    monkeypatch.setattr("quartier.lorawan.network.collector._SAME_DATA_S", 0.05)


async def test_uplink_reaches_the_inbox_decrypted(scene: Scene) -> None:
    for version in ("1.0.0", "1.0.3", "1.0.4", "1.1.0"):
        profile = await scene.profile_of(f"v{version}", mac_version=version, adr=False, status_interval_s=0)
        device = await scene.abp(data_rate=3, version=version, profile=profile)
        emission = device.uplink(b"\x01\x02\x03", 10)
        outcome = await scene.send(emission, by={GATEWAY: -3.0, OTHER: 4.5})
        eui = scene.eui_of(device)
        assert (outcome.accepted, outcome.uplink_counter, outcome.device) == (True, 0, eui), version
        message = (await scene.inbox())[-1]
        assert (message.municipality, message.source, message.kind) == ("musterstadt", "lorawan", "lorawan")
        up = (await scene.ups())[-1]
        assert (up.dev_eui, up.counter, up.port, up.data) == (eui.hex(), 0, 10, b"\x01\x02\x03")
        assert (up.data_rate, up.frequency) == (3, emission.frequency_hz)
        heard = [(one.gateway, one.snr) for one in up.receptions]
        assert heard == [(OTHER.hex(), 4.5), (GATEWAY.hex(), -3.0)]
        row = await Session.objects.aget(device__dev_eui=up.dev_eui)
        assert (row.uplink_counter, bytes(row.gateway or b"")) == (0, OTHER)
    assert len(await scene.inbox()) == 4


# Version, last counter, counter of the frame, why it is refused.
COUNTERS: list[tuple[str, int, int, Discarded | None]] = [
    ("1.0.3", -1, 0, None),
    ("1.0.3", 41, 42, None),
    ("1.0.3", 0xFFFF, 0x1_0000, None),
    ("1.0.3", 0x7_FFFE, 0x8_0001, None),
    ("1.0.3", 10, 10 + 16_384, None),
    ("1.0.3", 10, 10 + 16_385, Discarded.COUNTER_GAP),
    ("1.0.4", 10, 10 + 16_385, None),
    ("1.0.4", 10, 10 + 0x1_0001, Discarded.WRONG_MIC),
    ("1.0.3", 42, 41, Discarded.REPLAY),
    ("1.0.3", 42, 0, Discarded.REPLAY),
    ("1.0.3", 0x1_0002, 0xFFFF, Discarded.REPLAY),
    ("1.0.3", 42, 42, Discarded.RETRANSMISSION),
    ("1.0.3", 0x5_0000, 3, Discarded.WRONG_MIC),
]


async def test_counters(scene: Scene) -> None:
    profiles = {
        version: await scene.profile_of(f"v{version}", mac_version=version, adr=False, status_interval_s=0)
        for version in ("1.0.3", "1.0.4")
    }
    passed: list[int] = []
    for version, last, counter, expected in COUNTERS:
        case = (version, last, counter)
        device = await scene.abp(version=version, profile=profiles[version], counters={"up": last})
        outcome = await hear(scene, data_frame(device, counter))
        assert outcome.reason is expected, case
        assert outcome.accepted == (expected in (None, Discarded.RETRANSMISSION)), case
        # Nothing that was refused, and nothing twice, is passed on.
        passed += [] if expected else [counter]
        assert [up.counter for up in await scene.ups()] == passed, case
        row = await Session.objects.aget(device__dev_eui=scene.eui_of(device).hex())
        assert row.uplink_counter == (last if expected else counter), case
        assert scene.lines()[-1].outcome == (expected or "accepted"), case


async def test_reset_only_where_it_is_allowed(scene: Scene) -> None:
    careless = await scene.abp(counter_reset=True, counters={"up": 500, "network_down": 77})
    strict = await scene.abp(counters={"up": 500})
    outcome = await hear(scene, data_frame(careless, 0, confirmed=True))
    assert (outcome.accepted, outcome.uplink_counter) == (True, 0)
    assert (await hear(scene, data_frame(careless, 1))).accepted
    assert (await hear(scene, data_frame(strict, 0))).reason is Discarded.REPLAY
    row = await Session.objects.aget(device__dev_eui=scene.eui_of(careless).hex())
    # No downlink counter is used twice, although the device counts from zero.
    assert (row.uplink_counter, row.network_downlink_counter) == (1, 78)
    assert [line.outcome for line in scene.lines()] == ["reset", "ok", "accepted", "replay"]


async def test_devices_on_one_address_are_told_apart(scene: Scene) -> None:
    devices = [await scene.abp(dev_addr=0x00E2_7D66) for _ in range(5)]
    for number, device in enumerate(devices):
        outcome = await hear(scene, data_frame(device, 7, payload=bytes([number])))
        assert outcome.device == scene.eui_of(device)
    assert [(up.dev_eui, up.data) for up in await scene.ups()] == [
        (scene.eui_of(device).hex(), bytes([number])) for number, device in enumerate(devices)
    ]
    assert scene.lines()[0].detail == {"sharing_dev_addr": 5}


async def test_strangers_are_offered_to_the_neighbour_once(scene: Scene) -> None:
    ours = await scene.abp()
    stranger = Device(ours.identity, seed=9)
    assert stranger.state is not None
    stranger.state.keys = crypto.session_1_0(b"n" * 16, b"a" * 16)
    same_address = stranger.uplink(b"\x01", 1)
    outcome = await scene.send(same_address, by=(GATEWAY, OTHER, THIRD))
    assert outcome == Outcome(accepted=False, reason=Discarded.WRONG_MIC, dev_addr=stranger.state.dev_addr)
    assert [len(some) for some in scene.neighbour.offered] == [3]
    scene.neighbour.takes = True
    elsewhere = Device(ours.identity, seed=9)
    assert elsewhere.state is not None
    elsewhere.state.dev_addr = 0x0100_0000
    outcome = await scene.send(elsewhere.uplink(b"\x01", 1))
    assert outcome == Outcome(accepted=False, forwarded=True, dev_addr=0x0100_0000)
    assert [line.outcome for line in scene.lines()] == ["wrong_mic", "forwarded"]
    assert await scene.inbox() == []


async def test_receptions_of_both_networks_are_one_event(scene: Scene) -> None:
    device = await scene.abp()
    emission = device.uplink(b"\x05", 1, confirmed=True)
    scene.hear(emission.phy, frequency_hz=emission.frequency_hz, by={GATEWAY: -4.0})
    scene.hear(
        emission.phy, frequency_hz=emission.frequency_hz, by={OTHER: 3.0}, peer="nachbar", token="token"
    )
    assert (await scene.network.outcome(emission.phy)).accepted
    await scene.idle()
    (up,) = await scene.ups()
    assert [(one.gateway, one.peer) for one in up.receptions] == [
        (OTHER.hex(), "nachbar"),
        (GATEWAY.hex(), ""),
    ]
    (sent,) = scene.air.sent
    assert sent.transmission.gateway == OTHER
    assert sent.transmission.context == {"tmst": 1, "token": "token"}
    assert sent.heard is not None
    assert sent.heard.acknowledged


async def test_devices_that_are_off_or_may_not_roam(scene: Scene) -> None:
    off = await scene.abp(active=False)
    home = await scene.abp(may_roam=False)
    assert (await scene.send(off.uplink(b"\x01", 1))).reason is Discarded.DEVICE_DISABLED
    assert (await scene.send(home.uplink(b"\x01", 1), peer="nachbar")).reason is Discarded.NOT_AGREED
    emission = home.uplink(b"\x02", 1)
    scene.hear(emission.phy, frequency_hz=emission.frequency_hz, by={OTHER: 9.0}, peer="nachbar")
    assert (await scene.send(emission)).accepted
    (up,) = await scene.ups()
    assert [one.gateway for one in up.receptions] == [GATEWAY.hex()]
    assert scene.neighbour.offered == []


async def test_acknowledgement_comes_after_the_inbox_and_again_for_a_repetition(scene: Scene) -> None:
    device = await scene.abp()
    emission = device.uplink(b"\x01", 1, confirmed=True)
    await scene.send(emission)
    assert len(await scene.inbox()) == 1
    assert scene.air.sent[0].heard is not None
    assert scene.air.sent[0].heard.acknowledged
    # The answer was lost on its way: the device repeats, on another channel.
    device.state.waits_for_ack = True  # type: ignore[union-attr]
    await asyncio.sleep(0.06)
    outcome = await scene.send(device.repeat())
    assert (outcome.accepted, outcome.reason) == (True, Discarded.RETRANSMISSION)
    assert [sent.heard and sent.heard.acknowledged for sent in scene.air.sent] == [True, True]
    assert [sent.heard and sent.heard.counter for sent in scene.air.sent] == [0, 1]
    assert len(await scene.inbox()) == 1


async def test_no_acknowledgement_while_the_inbox_is_away(scene: Scene) -> None:
    device = await scene.abp()
    real = scene.bus.nc.publish

    async def nothing(*_: object, **__: object) -> None:
        """NATS is away: what is published does not arrive."""

    scene.bus.nc.publish = nothing  # type: ignore[method-assign]
    emission = device.uplink(b"\x01", 1, confirmed=True)
    scene.hear(emission.phy, frequency_hz=emission.frequency_hz)
    row = Session.objects.filter(device__dev_eui=scene.eui_of(device).hex(), uplink_counter=0)
    for _ in range(200):
        if await row.aexists():
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert scene.air.sent == []
    scene.bus.nc.publish = real  # type: ignore[method-assign]
    # The conveyor sends again what was not confirmed.
    await until(lambda: len(scene.air.sent) == 1, seconds=20)
    assert len(await scene.inbox()) == 1


async def test_a_frame_between_counter_and_inbox_is_delivered_by_its_repetition(
    scene: Scene, start: Callable[..., AbstractAsyncContextManager[Scene]]
) -> None:
    device = await scene.abp()
    emission = device.uplink(b"\x2a", 1, confirmed=True)
    # As a process leaves it that was killed after the commit of the counter.
    await Session.objects.filter(device__dev_eui=scene.eui_of(device).hex()).aupdate(uplink_counter=0)
    async with start(scene) as after:
        outcome = await after.send(emission)
        assert (outcome.accepted, outcome.reason) == (True, Discarded.RETRANSMISSION)
        assert [(up.counter, up.data) for up in await after.ups()] == [(0, b"\x2a")]
        await asyncio.sleep(0.06)
        await after.send(device.repeat())
        assert len(await after.inbox()) == 1


async def test_two_processes_on_the_same_devices_take_a_frame_once(
    scene: Scene, start: Callable[..., AbstractAsyncContextManager[Scene]]
) -> None:
    device = await scene.abp()
    async with start(scene) as second:
        for number in range(4):
            emission = device.uplink(bytes([number]), 1, confirmed=True)
            outcomes = await asyncio.gather(scene.send(emission), second.send(emission))
            assert sorted(outcome.accepted for outcome in outcomes) == [False, True], number
    assert [up.data for up in await scene.ups()] == [bytes([number]) for number in range(4)]
    counters = [sent.heard.counter for sent in scene.air.sent if sent.heard]
    assert counters == sorted(set(counters)), "a downlink counter was used twice"


BAD = [
    (b"\x40", Discarded.MALFORMED),
    (b"\x41" + bytes(20), Discarded.MALFORMED),
    (b"\x40" + bytes(7) + b"\x0f", Discarded.MALFORMED),
    (b"\x60" + bytes(20), Discarded.MALFORMED),
    (b"\x20" + bytes(16), Discarded.MALFORMED),
    (b"\xe0anything", Discarded.PROPRIETARY),
    (b"\x40" + bytes(255), Discarded.MALFORMED),
]


async def test_bad_frames_are_told_and_harm_nobody(scene: Scene) -> None:
    for whole, reason in BAD:
        assert (await hear(scene, whole)).reason is reason
        line = scene.lines()[-1]
        assert (line.outcome, line.size) == (reason, len(whole))
    assert len(scene.lines()) == len(BAD)


async def test_what_waits_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quartier.lorawan.network.network._MOST_TASKS", 0)
    scene.hear(b"\x40" + bytes(20))
    assert scene.network.open_frames == 0
    assert (await scene.network.outcome(b"\x40" + bytes(20))) == Outcome(accepted=False)


async def test_frame_log_is_written_with_sums_per_gateway(scene: Scene) -> None:
    from asgiref.sync import sync_to_async

    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import save_gateway
    from quartier.lorawan.models import Frame, GatewayHour

    await sync_to_async(save_gateway)(SYSTEM, scene.world.municipality, GATEWAY.hex(), name="Turm")
    await scene.store.reload()
    device = await scene.abp()
    await scene.send(device.uplink(b"\x01", 1, confirmed=True))
    await hear(scene, bytes(30))
    live = scene.store.frames.take_live()
    assert set(live) == {"musterstadt"}
    assert [one["outcome"] for one in msgspec.json.decode(live["musterstadt"])] == [
        "accepted",
        "ok",
        "malformed",
    ]
    assert await scene.store.frames.write(scene.store.municipality_ids) == 3
    await scene.store.frames.write_hours(scene.store.gateways.id_of)
    rows = [
        row async for row in Frame.objects.order_by("id").values("direction", "kind", "outcome", "dev_eui")
    ]
    eui = scene.eui_of(device).hex()
    assert rows == [
        {"direction": "up", "kind": "confirmed_up", "outcome": "accepted", "dev_eui": eui},
        {"direction": "down", "kind": "unconfirmed_down", "outcome": "ok", "dev_eui": eui},
        {"direction": "up", "kind": "join_request", "outcome": "malformed", "dev_eui": ""},
    ]
    hour = await GatewayHour.objects.aget()
    assert (hour.received, hour.accepted, hour.sent, hour.failed) == (2, 1, 1, 0)
