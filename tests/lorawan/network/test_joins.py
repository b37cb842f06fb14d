"""Joining: nonces, keys, the session that waits for its first uplink, rejoining."""

from __future__ import annotations

import asyncio

import pytest

from quartier.lorawan.frames import crypto
from quartier.lorawan.frames.netid import Prefix
from quartier.lorawan.frames.phy import JoinRequest, RejoinRequest
from quartier.lorawan.models import DevNonce, JoinState, Session
from quartier.lorawan.network import Outcome
from quartier.lorawan.network.join import Addresses
from quartier.lorawan.types import Discarded
from quartier.virtual.lora.device import Device, Otaa
from tests.lorawan.network.scene import GATEWAY, JOIN_EUI, OTHER, Scene

VERSIONS = ("1.0.0", "1.0.2", "1.0.3", "1.0.4", "1.1.0")


def request(device: Device, nonce: int, *, join_eui: bytes = JOIN_EUI, key: bytes | None = None) -> bytes:
    """A join request with a nonce of choice."""
    identity = device.identity
    assert isinstance(identity, Otaa)
    frame = JoinRequest(join_eui, identity.dev_eui, nonce)
    return crypto.seal_request(key or identity.nwk_key or identity.app_key, frame)


async def ask(scene: Scene, whole: bytes) -> Outcome:
    scene.hear(whole)
    outcome = await scene.network.outcome(whole)
    await scene.idle()
    return outcome


async def test_devices_of_every_version_join_speak_and_are_answered(scene: Scene) -> None:
    for version in VERSIONS:
        profile = await scene.profile_of(
            f"v{version}",
            mac_version=version,
            adr=False,
            status_interval_s=0,
            rx1_delay_s=5,
            rx2_data_rate=3,
            rx1_dr_offset=1,
            extra_frequencies_hz=[867_100_000, 867_300_000],
        )
        device = await scene.otaa(version=version, profile=profile)
        emission = device.join()
        outcome = await scene.send(emission, by={GATEWAY: 1.0, OTHER: 2.0})
        assert outcome.accepted, version
        sent = scene.air.sent[-1]
        assert sent.heard is not None
        assert (sent.heard.what, outcome.join_accept) == ("joined", sent.transmission.phy)
        assert [(w.delay_s, w.frequency_hz, w.data_rate) for w in sent.transmission.windows] == [
            (5, emission.frequency_hz, emission.data_rate),
            (6, 869_525_000, 0),
        ]
        assert (sent.transmission.gateway, sent.transmission.priority) == (OTHER, 2)
        state = device.state
        assert state is not None
        assert (state.rx_delay_s, state.rx2_data_rate, state.rx1_data_rate_offset) == (5, 3, 1)
        assert sorted(state.channels) == [0, 1, 2, 3, 4]
        assert Prefix.of(0).covers(state.dev_addr)
        eui = scene.eui_of(device).hex()
        row = await Session.objects.aget(device__dev_eui=eui)
        assert (row.pending, row.dev_addr) == (True, state.dev_addr)
        assert (await scene.send(device.uplink(version.encode(), 7, confirmed=True))).accepted
        answer = scene.air.sent[-1]
        assert answer.heard is not None
        assert answer.heard.acknowledged, version
        # RX1 five seconds after the uplink, one data rate slower where there is one.
        assert [w.delay_s for w in answer.transmission.windows] == [5, 6]
        assert answer.transmission.windows[1].data_rate == 3
        row = await Session.objects.aget(device__dev_eui=eui)
        assert (row.pending, row.uplink_counter) == (False, 0)
    assert [up.data.decode() for up in await scene.ups()] == list(VERSIONS)


async def test_nonces_of_old_versions_are_random_and_never_come_twice(scene: Scene) -> None:
    device = await scene.otaa(version="1.0.2")
    for nonce in (500, 3, 60_000, 4):
        assert (await ask(scene, request(device, nonce))).accepted
    scene.network._collector._frames.clear()  # as after a while
    for nonce in (3, 60_000):
        outcome = await ask(scene, request(device, nonce))
        assert (outcome.accepted, outcome.reason) == (False, Discarded.DEV_NONCE_USED)
    eui = scene.eui_of(device).hex()
    nonces = DevNonce.objects.filter(device__dev_eui=eui).values_list("nonce", flat=True)
    assert sorted([one async for one in nonces]) == [3, 4, 500, 60_000]
    # Refusals use nothing up, and leave the last pending session alone.
    assert (await JoinState.objects.aget(device__dev_eui=eui)).join_nonce == 4
    assert await Session.objects.filter(device__dev_eui=eui, pending=True).acount() == 1


async def test_nonces_of_new_versions_only_grow(scene: Scene) -> None:
    profile = await scene.profile_of("new", mac_version="1.0.4", status_interval_s=0)
    device = await scene.otaa(version="1.0.4", profile=profile)
    results = [(nonce, (await ask(scene, request(device, nonce))).reason) for nonce in (5, 4, 6, 3, 100, 0)]
    used = Discarded.DEV_NONCE_USED
    assert results == [(5, None), (4, used), (6, None), (3, used), (100, None), (0, used)]
    eui = scene.eui_of(device).hex()
    state = await JoinState.objects.aget(device__dev_eui=eui)
    assert (state.last_dev_nonce, state.join_nonce) == (100, 3)
    assert await DevNonce.objects.acount() == 0
    assert [line.outcome for line in scene.lines() if line.direction == "up"] == [
        "accepted", "dev_nonce_used", "accepted", "dev_nonce_used", "accepted", "dev_nonce_used",
    ]  # fmt: skip


async def test_a_copy_that_a_slow_network_brings_is_no_second_join(scene: Scene) -> None:
    device = await scene.otaa()
    emission = device.join()
    first = await scene.send(emission)
    await asyncio.sleep(0.1)
    assert await scene.send(emission, by=(OTHER,)) == first
    assert [line.outcome for line in scene.lines()] == ["accepted", "ok"]
    assert (await JoinState.objects.aget()).join_nonce == 1


async def test_joins_that_are_not_answered(scene: Scene) -> None:
    device = await scene.otaa()
    off = await scene.otaa(active=False)
    home = await scene.otaa(may_roam=False)
    abp = await scene.abp()
    stranger = await scene.otaa(register=False)
    wrong_key = request(device, 1, key=b"x" * 16)
    abp_join = crypto.seal_request(b"k" * 16, JoinRequest(JOIN_EUI, scene.eui_of(abp), 1))
    for whole, reason, how in (
        (wrong_key, Discarded.WRONG_MIC, {}),
        (request(device, 2, join_eui=bytes(8)), Discarded.UNKNOWN_DEVICE, {}),
        (request(off, 1), Discarded.DEVICE_DISABLED, {}),
        (request(home, 1), Discarded.NOT_AGREED, {"peer": "nachbar"}),
        (abp_join, Discarded.UNKNOWN_DEVICE, {}),
        (request(stranger, 1), Discarded.UNKNOWN_DEVICE, {}),
    ):
        scene.hear(whole, **how)  # type: ignore[arg-type]
        assert (await scene.network.outcome(whole)).reason is reason, (whole, reason)
    await scene.idle()
    assert scene.air.sent == []
    # Only what is nobody's of ours is offered to the neighbour.
    assert [some[0].phy for some in scene.neighbour.offered] == [request(stranger, 1)]
    assert await JoinState.objects.acount() == 0


async def test_the_old_session_holds_until_the_device_speaks_in_the_new_one(scene: Scene) -> None:
    device = await scene.joined()
    old = device.state
    assert old is not None
    assert (await scene.send(device.join())).accepted
    new, device.state = device.state, old
    eui = scene.eui_of(device).hex()
    assert await Session.objects.filter(device__dev_eui=eui).acount() == 2
    # As if the join accept had been lost.
    assert (await scene.send(device.uplink(b"old", 1))).uplink_counter == 1
    device.state = new
    outcome = await scene.send(device.uplink(b"new", 1))
    assert (outcome.accepted, outcome.uplink_counter) == (True, 0)
    row = await Session.objects.aget(device__dev_eui=eui)
    assert (row.pending, row.dev_addr) == (False, new and new.dev_addr)
    device.state = old
    assert not (await scene.send(device.uplink(b"late", 1))).accepted
    assert [up.data for up in await scene.ups()] == [b"\x00", b"old", b"new"]


async def test_rejoins_of_1_1(scene: Scene) -> None:
    profile = await scene.profile_of("v11", mac_version="1.1.0", status_interval_s=0)
    device = await scene.joined(version="1.1.0", profile=profile)
    for kind in (0, 2, 1):
        before = device.state
        emission = device.rejoin(kind)
        outcome = await scene.send(emission)
        assert outcome.accepted, kind
        assert device.state is not None
        assert device.state is not before, kind
        assert (await scene.send(device.uplink(bytes([kind]), 1))).accepted, kind
    assert [up.data for up in await scene.ups()] == [b"\x00", b"\x00", b"\x02", b"\x01"]
    state = await JoinState.objects.aget()
    assert (state.join_nonce, state.rejoin_counter_0, state.rejoin_counter_1) == (4, -1, 0)
    identity = device.identity
    assert isinstance(identity, Otaa)
    for frame, key, reason in (
        (RejoinRequest(1, None, JOIN_EUI, identity.dev_eui, 9), b"x" * 16, Discarded.WRONG_MIC),
        (RejoinRequest(0, 0, None, identity.dev_eui, 9), b"x" * 16, Discarded.WRONG_MIC),
    ):
        assert (await ask(scene, crypto.seal_request(key, frame))).reason is reason
    # The same request under a counter that was used, as an attacker would repeat it.
    again = RejoinRequest(1, None, JOIN_EUI, identity.dev_eui, 0)
    from quartier.lorawan.frames.keys import js_int_key

    whole = crypto.seal_request(js_int_key(identity.nwk_key or b"", identity.dev_eui), again)
    scene.network._collector._frames.clear()
    assert (await ask(scene, whole)).reason is Discarded.REPLAY


async def test_a_join_is_answered_through_the_neighbour_that_heard_it_best(scene: Scene) -> None:
    device = await scene.otaa()
    emission = device.join()
    scene.hear(emission.phy, by={GATEWAY: -9.0}, frequency_hz=emission.frequency_hz)
    outcome = await scene.send(emission, by={OTHER: 4.0}, peer="nachbar", token="t")
    assert outcome.accepted
    (sent,) = scene.air.sent
    assert (sent.transmission.gateway, sent.transmission.context["token"]) == (OTHER, "t")


def test_addresses_come_from_the_blocks_of_the_network() -> None:
    from quartier.lorawan.sessions import Directory

    block = Prefix.parse("00E20000/15")
    addresses = Addresses.of(0, [block])
    drawn = {addresses.draw(Directory()) for _ in range(500)}
    assert len(drawn) > 490
    assert all(block.covers(one) for one in drawn)
    whole = Addresses.of(0x60_0000 | 0x12)
    assert all(Prefix.of(0x60_0012).covers(whole.draw(Directory())) for _ in range(100))
    for wrong in ("02000000/8", "00000000/6"):
        with pytest.raises(ValueError, match="does not belong to NetID 000000"):
            Addresses.of(0, [Prefix.parse(wrong)])
