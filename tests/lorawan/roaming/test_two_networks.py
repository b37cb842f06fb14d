"""Two complete networks, and devices at the border between them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.lorawan.domain import enqueue
from quartier.lorawan.roaming.peers import PeerProtocol
from quartier.lorawan.types import Transmission, TransmitError, TransmitResult, Window
from tests.lorawan.network.scene import Scene, until
from tests.lorawan.roaming.scene import OURS, THEIR_SECOND, THEIRS, Border

MODES: list[Any] = [
    pytest.param({"protocol": PeerProtocol.TS002_1_0}, id="1.0"),
    pytest.param({"protocol": PeerProtocol.TS002_1_1, "role_suffix": True}, id="1.1"),
    pytest.param({"asynchronous": True}, id="asynchronous"),
]


@pytest.mark.parametrize("mode", MODES)
async def test_device_that_only_the_neighbour_hears(
    border: Border, scene: Scene, mode: dict[str, Any]
) -> None:
    await border.connect(**mode)
    device = await scene.abp()
    border.dortmund.hear(device.uplink(b"\x2a", 7, confirmed=True), {THEIRS: 3.0, THEIR_SECOND: 8.0})
    await until(lambda: border.dortmund.sky.heard)
    await border.idle()
    # Heard once, by both gateways; answered through the better one.
    (up,) = await scene.ups()
    assert (up.data, up.port, [(r.peer, r.snr) for r in up.receptions]) == (
        b"\x2a",
        7,
        [("dortmund", 8.0), ("dortmund", 3.0)],
    )
    (sent,) = border.dortmund.sky.sent
    assert (sent.gateway, sent.context, len(sent.windows)) == (THEIR_SECOND, {"tmst": 2}, 2)
    assert border.schwerte.sky.sent == []
    (heard,) = border.dortmund.sky.heard
    assert heard.acknowledged
    carried = await border.dortmund.rows(we_carry=True)
    ours = await border.schwerte.rows(we_carry=False)
    assert [(r["direction"], r["state"], r["kind"]) for r in carried] == [
        ("up", "confirmed", "application"),
        ("down", "confirmed", "mac"),
    ]
    assert [(r["key"], r["state"], r["airtime_us"]) for r in carried] == [
        (r["key"], r["state"], r["airtime_us"]) for r in ours
    ]
    assert carried[0]["classes"] == "application signal_quality location"
    assert ours[0]["dev_eui"] == scene.eui_of(device).hex()


@pytest.mark.parametrize("mode", MODES)
async def test_join_through_the_neighbour(border: Border, scene: Scene, mode: dict[str, Any]) -> None:
    await border.connect(**mode)
    device = await scene.otaa()
    border.dortmund.hear(device.join(), [THEIRS])
    await until(lambda: device.state is not None)
    await border.idle()
    (sent,) = border.dortmund.sky.sent
    assert [window.delay_s for window in sent.windows] == [5.0, 6.0]
    border.dortmund.hear(device.uplink(b"\x01", 1), [THEIRS])
    await until(lambda: len(border.dortmund.sky.sent) >= 1)
    await border.idle()
    assert [up.data for up in await scene.ups()] == [b"\x01"]
    rows = await border.dortmund.rows(we_carry=True)
    assert [(r["direction"], r["kind"], r["state"]) for r in rows] == [
        ("up", "join", "confirmed"),
        ("up", "application", "confirmed"),
        ("down", "join", "confirmed"),
    ]
    assert rows[0]["dev_eui"] == scene.eui_of(device).hex()
    # Whether the join-accept was sent, TS002 does not say; the carrier's statement does.
    ours = await border.schwerte.rows(we_carry=False)
    assert [(r["key"], r["state"]) for r in ours] == [
        (rows[0]["key"], "confirmed"),
        (rows[1]["key"], "confirmed"),
        (rows[2]["key"], "open"),
    ]


async def test_truth_about_a_downlink_comes_back(border: Border, scene: Scene) -> None:
    await border.connect()
    device = await scene.abp()
    border.dortmund.sky.failures = [TransmitError.DUTY_CYCLE]
    border.dortmund.hear(device.uplink(b"\x2a", 7, confirmed=True), [THEIRS])
    await until(lambda: border.dortmund.sky.sent)
    await border.idle()
    (line,) = [one for one in scene.lines() if one.direction == "down"]
    assert (line.outcome, border.dortmund.sky.heard) == ("duty_cycle", [])
    assert [(r["direction"], r["state"], r["result"]) for r in await border.dortmund.rows(we_carry=True)][
        1:
    ] == [("down", "failed", "duty_cycle")]
    assert [(r["direction"], r["state"], r["result"]) for r in await border.schwerte.rows(we_carry=False)][
        1:
    ] == [("down", "failed", "duty_cycle")]


async def test_next_gateway_of_the_neighbour_takes_over(border: Border, scene: Scene) -> None:
    await border.connect()
    device = await scene.abp()
    border.dortmund.sky.failures = [TransmitError.COLLISION_PACKET]
    border.dortmund.hear(device.uplink(b"\x2a", 7, confirmed=True), {THEIRS: 8.0, THEIR_SECOND: 3.0})
    await until(lambda: border.dortmund.sky.heard)
    assert [sent.gateway for sent in border.dortmund.sky.sent] == [THEIRS, THEIR_SECOND]


async def test_device_without_agreement_stays_at_home(border: Border, scene: Scene) -> None:
    await border.connect(agreed={"signed_there_at": None})
    device = await scene.abp()
    border.dortmund.hear(device.uplink(b"\x2a", 7), [THEIRS])
    await border.idle()
    assert await scene.ups() == []
    assert await border.dortmund.rows(we_carry=True) == []


async def test_private_gateway_is_left_out_unless_agreed(border: Border, scene: Scene) -> None:
    await border.connect()
    device = await scene.abp()
    border.dortmund.hear(device.uplink(b"\x2a", 7), [THEIRS], private=True)
    await border.idle()
    assert await scene.ups() == []


async def test_own_gateway_is_used_where_it_is_better(border: Border, scene: Scene) -> None:
    await border.connect()
    device = await scene.abp()
    emission = device.uplink(b"\x2a", 7, confirmed=True)
    border.schwerte.hear(emission, {OURS: 9.0})
    border.dortmund.hear(emission, {THEIRS: 1.0})
    await until(lambda: border.schwerte.sky.heard or border.dortmund.sky.heard)
    await border.idle()
    assert [sent.gateway for sent in border.schwerte.sky.sent] == [OURS]
    assert border.dortmund.sky.sent == []
    assert len(await scene.ups()) == 1


async def test_receptions_of_both_networks_are_one_event(border: Border, scene: Scene) -> None:
    await border.connect()
    device = await scene.abp()
    # Once Dortmund has heard the device, Schwerte waits for Dortmund.
    border.dortmund.hear(device.uplink(b"\x00", 7), {THEIRS: 1.0})
    await until(lambda: border.schwerte.roaming.exchanges.roams(0x00E2_0001))
    await border.idle()
    emission = device.uplink(b"\x2a", 7, confirmed=True)
    border.schwerte.hear(emission, {OURS: -3.0})
    border.dortmund.hear(emission, {THEIRS: 4.0, THEIR_SECOND: 9.0})
    await until(lambda: border.dortmund.sky.heard)
    await border.idle()
    _, up = await scene.ups()
    assert [(r.peer, r.snr) for r in up.receptions] == [("dortmund", 9.0), ("dortmund", 4.0), ("", -3.0)]
    assert [sent.gateway for sent in border.dortmund.sky.sent] == [THEIR_SECOND]
    assert border.schwerte.sky.sent == []


async def test_neighbour_s_refusal_leaves_the_downlink_to_our_own_gateway(
    border: Border, scene: Scene
) -> None:
    await border.connect()
    device = await scene.abp()
    border.dortmund.hear(device.uplink(b"\x00", 7), {THEIRS: 1.0})
    await until(lambda: border.schwerte.roaming.exchanges.roams(0x00E2_0001))
    await border.idle()
    emission = device.uplink(b"\x2a", 7, confirmed=True)
    border.dortmund.sky.failures = [TransmitError.TOO_LATE]
    border.schwerte.hear(emission, {OURS: -3.0})
    border.dortmund.hear(emission, {THEIRS: 4.0})
    await until(lambda: border.schwerte.sky.heard)
    assert [sent.gateway for sent in border.schwerte.sky.sent] == [OURS]


async def test_class_c_downlink_crosses_the_border(border: Border, scene: Scene) -> None:
    await border.connect()
    profile = await scene.profile_of("c", name="C", adr=False, status_interval_s=0, device_class="C")
    device = await scene.abp(profile=profile, device_class="C")
    border.dortmund.hear(device.uplink(b"\x01", 7), {THEIRS: 3.0, THEIR_SECOND: 8.0})
    await until(lambda: border.schwerte.roaming.exchanges.roams(0x00E2_0001))
    await border.idle()
    await sync_to_async(enqueue)(SYSTEM, await scene.row(device), b"on", port=9)
    await scene.store.reload()
    border.schwerte.network.wake()
    await until(lambda: border.dortmund.sky.heard)
    (sent,) = border.dortmund.sky.sent
    assert (sent.gateway, sent.windows[0].delay_s, sent.context) == (THEIR_SECOND, None, {})
    (heard,) = border.dortmund.sky.heard
    assert (heard.payload, heard.port) == (b"on", 9)
    await until(lambda: [one for one in scene.lines() if one.direction == "down"])
    rows = [await border.dortmund.rows(we_carry=True), await border.schwerte.rows(we_carry=False)]
    assert [[(r["direction"], r["state"]) for r in side] for side in rows] == [
        [("up", "confirmed"), ("down", "confirmed")]
    ] * 2
    assert rows[0][1]["key"] == rows[1][1]["key"]


async def test_a_ping_slot_does_not_cross_the_border(border: Border, scene: Scene) -> None:
    await border.connect()
    device = await scene.abp()
    border.dortmund.hear(device.uplink(b"\x2a", 7), [THEIRS])
    await until(lambda: scene.store.frames.waiting)
    window = Window(frequency_hz=869_525_000, data_rate=3, delay_s=None)
    frame = Transmission(id=9, gateway=THEIRS, phy=b"\x60" + bytes(11), windows=(window,), gps_time_ms=1)
    assert await border.schwerte.transmitters["dortmund"].transmit(frame) == TransmitResult(
        id=9,
        ok=False,
        error=TransmitError.NOT_ALLOWED,
        detail="TS002 has no words for a ping slot",
        gateway=THEIRS,
    )
    await border.idle()
    assert border.dortmund.sky.sent == []


async def test_class_c_downlink_crosses_the_border_where_our_own_gateway_refuses(
    border: Border, scene: Scene
) -> None:
    await border.connect()
    profile = await scene.profile_of("c", name="C", adr=False, status_interval_s=0, device_class="C")
    device = await scene.abp(profile=profile, device_class="C")
    emission = device.uplink(b"\x01", 7)
    border.schwerte.hear(emission, {OURS: 8.0})
    border.dortmund.hear(emission, {THEIRS: 3.0})
    await until(lambda: border.schwerte.roaming.exchanges.roams(0x00E2_0001))
    await border.idle()
    # The neighbour's copy was late; it says who else can send.
    session = scene.store.directory.devices[scene.eui_of(device)].session
    assert session is not None
    await until(lambda: [peer for _, peer in session.places] == ["", "dortmund"])
    border.schwerte.sky.failures = [TransmitError.DUTY_CYCLE]
    downlink = await sync_to_async(enqueue)(SYSTEM, await scene.row(device), b"on", port=9)
    await scene.store.reload()
    border.schwerte.network.wake()
    await until(lambda: border.dortmund.sky.heard)
    (sent,) = border.dortmund.sky.sent
    assert (sent.gateway, sent.windows[0].delay_s) == (THEIRS, None)
    await until(lambda: len([one for one in scene.lines() if one.direction == "down"]) == 2)
    assert [(one.outcome, one.gateways[0].peer) for one in scene.lines() if one.direction == "down"] == [
        ("duty_cycle", ""),
        ("ok", "dortmund"),
    ]
    await scene.store.queue.write()
    await downlink.arefresh_from_db()
    assert (downlink.state, downlink.peer) == ("sent", "dortmund")


async def test_lorawan_1_1_device_crosses_the_border(border: Border, scene: Scene) -> None:
    await border.connect()
    profile = await scene.profile_of("v11", name="1.1", adr=False, status_interval_s=0, mac_version="1.1.0")
    device = await scene.otaa(version="1.1.0", profile=profile)
    border.dortmund.hear(device.join(), [THEIRS])
    await until(lambda: device.state is not None)
    border.dortmund.hear(device.uplink(b"\x2a", 7, confirmed=True), [THEIRS])
    await until(lambda: any(heard.acknowledged for heard in border.dortmund.sky.heard))
    await border.idle()
    assert [up.data for up in await scene.ups()] == [b"\x2a"]


async def test_roaming_that_we_end_is_asked_for_again(border: Border, scene: Scene) -> None:
    await border.connect(agreed={"lifetime_s": 3600, "hand_over_keys": True})
    device = await scene.abp()
    border.dortmund.hear(device.uplink(b"\x01", 7), [THEIRS])
    await until(lambda: border.dortmund.roaming.forwarding.sessions.at(0x00E2_0001, time.monotonic()))
    await border.idle()
    (session,) = border.dortmund.roaming.forwarding.sessions.at(0x00E2_0001, time.monotonic())
    assert device.state is not None
    assert session.key is not None
    assert session.key.key == device.state.keys.f_nwk_s_int_key
    assert border.schwerte.roaming.serving is not None
    assert await border.schwerte.roaming.serving.stop(scene.eui_of(device)) == 1
    assert border.dortmund.roaming.forwarding.sessions.at(0x00E2_0001, time.monotonic()) == []
    border.dortmund.hear(device.uplink(b"\x02", 7), [THEIRS])
    await until(lambda: border.dortmund.roaming.forwarding.sessions.at(0x00E2_0001, time.monotonic()))
    await border.idle()
    assert [up.data for up in await scene.ups()] == [b"\x01", b"\x02"]
