"""MAC commands: what a profile wants, what the network asks, what device and network then use."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from quartier.lorawan.frames import mac
from quartier.lorawan.frames.clock_sync import PORT, AppTimeAns, AppTimeReq
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.models import Session
from quartier.lorawan.network.adr import HISTORY
from quartier.virtual.lora.device import Device
from tests.lorawan.network.scene import GATEWAY, OTHER, Scene


async def talk(scene: Scene, device: Device, n: int = 1, **how: Any) -> list[Command]:
    """So many uplinks; returns what the device was told."""
    told: list[Command] = []
    for _ in range(n):
        before = len(scene.air.sent)
        assert (await scene.send(device.uplink(b"\x01", 1), **how)).accepted
        for sent in scene.air.sent[before:]:
            assert sent.heard is not None
            assert sent.heard.what == "data", sent.heard
            told += sent.heard.commands
    return told


# What a profile wants; what the network then asks for; what the device uses afterwards, by attribute of its state.
WISHES: list[tuple[dict[str, Any], list[Command], dict[str, Any]]] = [
    (
        {"rx1_delay_s": 5},
        [mac.RXTimingSetupReq(delay=5)],
        {"rx_delay_s": 5},
    ),
    (
        {"rx2_data_rate": 3, "rx1_dr_offset": 2, "rx2_frequency_hz": 868_500_000},
        [mac.RXParamSetupReq(rx1_data_rate_offset=2, rx2_data_rate=3, rx2_frequency_hz=868_500_000)],
        {"rx2_data_rate": 3, "rx1_data_rate_offset": 2, "rx2_frequency_hz": 868_500_000},
    ),
    (
        {"maximum_duty_cycle": 7},
        [mac.DutyCycleReq(exponent=7)],
        {"duty_cycle": 1 / 128},
    ),
    (
        {"extra_frequencies_hz": [867_100_000, 867_300_000]},
        [
            mac.NewChannelReq(channel=3, frequency_hz=867_100_000, min_data_rate=0, max_data_rate=5),
            mac.NewChannelReq(channel=4, frequency_hz=867_300_000, min_data_rate=0, max_data_rate=5),
        ],
        {"enabled": {0, 1, 2, 3, 4}},
    ),
    (
        {"downlink_frequencies_hz": {"0": 869_525_000}},
        [mac.DlChannelReq(channel=0, frequency_hz=869_525_000)],
        {"downlink_hz": {0: 869_525_000}},
    ),
    ({"status_interval_s": 3600}, [mac.DevStatusReq()], {}),
]


async def test_devices_are_told_what_their_profile_wants_and_only_until_they_answer(scene: Scene) -> None:
    for number, (wish, requests, state) in enumerate(WISHES):
        device = await scene.abp()
        profile = await scene.profile_of(f"wish-{number}", **{"adr": False, "status_interval_s": 0, **wish})
        # What an ABP device was made with is what its profile says, so it gets another one.
        row = await scene.row(device)
        row.profile = profile
        await row.asave()
        await scene.store.reload()
        assert await talk(scene, device) == requests, wish
        for name, value in state.items():
            assert getattr(device.state, name) == value, (wish, name)
        # The answers come with the next uplink; afterwards nothing is left to say.
        assert await talk(scene, device) == []
        assert await talk(scene, device) == []
        session = scene.store.directory.devices[scene.eui_of(device)].session
        assert session is not None
        assert session.mac.asked == {}
        windows = {w.name: (w.delay_s, w.frequency_hz, w.data_rate) for w in device.windows()}
        emission = device.uplink(b"\x01", 1, confirmed=True)
        await scene.send(emission)
        windows = {w.name: (w.delay_s, w.frequency_hz, w.data_rate) for w in device.windows()}
        used = [(w.delay_s, w.frequency_hz, w.data_rate) for w in scene.air.sent[-1].transmission.windows]
        assert used == [windows["RX1"], windows["RX2"]], wish
        kept = (await Session.objects.aget(device__dev_eui=row.dev_eui)).mac
        assert kept.get("asked", {}) == {}, wish


async def test_requests_are_repeated_while_downlinks_fail_but_not_for_ever(scene: Scene) -> None:
    profile = await scene.profile_of("slow", adr=False, status_interval_s=0, maximum_duty_cycle=3)
    device = await scene.abp(profile=profile)
    from quartier.lorawan.types import TransmitError

    scene.air.failures = [TransmitError.NO_CONFIRMATION] * 20
    await talk_to_nobody(scene, device, 12)
    asked = [line for line in scene.lines() if line.direction == "down"]
    assert len(asked) == 8
    assert {line.outcome for line in asked} == {"no_confirmation"}


async def talk_to_nobody(scene: Scene, device: Device, n: int) -> None:
    for _ in range(n):
        await scene.send(device.uplink(b"\x01", 1))


async def test_what_a_device_refuses_is_not_asked_again(scene: Scene) -> None:
    profile = await scene.profile_of(
        "strange", adr=False, status_interval_s=0, extra_frequencies_hz=[867_100_000]
    )
    device = await scene.abp(profile=profile)
    assert device.state is not None
    device.state.region = _Narrow()
    assert len(await talk(scene, device)) == 1
    assert await talk(scene, device, 3) == []
    session = scene.store.directory.devices[scene.eui_of(device)].session
    assert session is not None
    assert session.mac.refused == {"channel:3": [3, 867_100_000]}


class _Narrow:
    """A region without the wanted frequency."""

    def __getattr__(self, name: str) -> Any:
        from quartier.lorawan.frames.regions import EU868

        return (lambda _: None) if name == "sub_band" else getattr(EU868, name)


async def test_link_check_and_time(scene: Scene) -> None:
    device = await scene.abp(data_rate=0)
    device.ask(mac.LinkCheckReq())
    device.ask(mac.DeviceTimeReq())
    before = gps_ms(datetime.now(UTC))
    check, at = await talk(scene, device, by={GATEWAY: -10.0, OTHER: -4.5})
    assert check == mac.LinkCheckAns(margin_db=15, gateways=2)
    assert isinstance(at, mac.DeviceTimeAns)
    assert before - 5 <= at.gps_ms <= gps_ms(datetime.now(UTC)) + 5


async def test_battery_goes_into_the_next_messages(scene: Scene) -> None:
    profile = await scene.profile_of("battery", adr=False, status_interval_s=86_400)
    device = await scene.abp(profile=profile)
    assert await talk(scene, device) == [mac.DevStatusReq()]
    assert device.state is not None
    device.state.answers = [mac.DevStatusAns(battery=128, margin_db=-3)]
    assert await talk(scene, device) == []
    assert [up.battery for up in await scene.ups()] == [None, 50]
    session = scene.store.directory.devices[scene.eui_of(device)].session
    assert session is not None
    assert (session.mac.battery, session.mac.margin_db) == (128, -3)
    session.mac.status_asked_at = int(time.time()) - 90_000
    assert await talk(scene, device) == [mac.DevStatusReq()]


async def test_adr_makes_a_device_fast_and_quiet(scene: Scene) -> None:
    profile = await scene.profile_of("adr", adr=True, status_interval_s=0)
    device = await scene.joined(profile=profile)
    state = device.state
    assert state is not None
    # 10 dB at the best gateway: fast at once, quiet when twenty uplinks were heard.
    await talk(scene, device, 2, by={GATEWAY: 10.0, OTHER: -5.0})
    assert (state.data_rate, state.tx_power) == (5, 0)
    await talk(scene, device, HISTORY + 2, by={GATEWAY: 10.0})
    assert (state.data_rate, state.tx_power) == (5, 2)
    # It is moved behind a building: power comes back, the data rate is the device's own choice.
    await talk(scene, device, HISTORY + 2, by={GATEWAY: -6.0})
    assert (state.data_rate, state.tx_power) == (5, 0)


async def test_a_device_that_asks_whether_anybody_hears_it_is_answered(scene: Scene) -> None:
    device = await scene.abp()
    state = device.state
    assert state is not None
    state.since_downlink = state.adr_ack_limit - 1
    await talk(scene, device)
    (sent,) = scene.air.sent
    assert sent.heard is not None
    assert (sent.heard.what, sent.heard.commands, state.since_downlink) == ("data", (), 0)


async def test_sticky_answers_are_ended_by_a_downlink(scene: Scene) -> None:
    device = await scene.abp()
    # What an ABP device was made with is what its profile says; this one is to be changed.
    await scene.profile_of("plain", rx1_delay_s=3)
    await scene.store.reload()
    await talk(scene, device)
    state = device.state
    assert state is not None
    assert state.sticky == [mac.RXTimingSetupAns()]
    assert await talk(scene, device) == []
    before = len(scene.air.sent)
    await talk(scene, device)
    # The answer came again: the device waits for any downlink.
    assert len(scene.air.sent) == before + 1
    assert state.sticky == []
    await talk(scene, device, 2)
    assert len(scene.air.sent) == before + 1


async def test_commands_of_1_1(scene: Scene) -> None:
    profile = await scene.profile_of(
        "v11",
        mac_version="1.1.0",
        adr=False,
        status_interval_s=0,
        adr_ack_exponents=[7, 6],
        rejoin_exponents=[4, 10],
    )
    device = await scene.otaa(version="1.1.0", profile=profile)
    await scene.send(device.join())
    told = await talk(scene, device)
    assert told == [
        mac.RekeyConf(minor=1),
        mac.ADRParamSetupReq(limit_exponent=7, delay_exponent=6),
        mac.RejoinParamSetupReq(max_count=4, max_time=10),
    ]
    assert await talk(scene, device, 2) == []
    assert device.state is not None
    assert (device.state.adr_ack_limit, device.state.adr_ack_delay, device.state.announce) == (128, 64, [])
    reset = await scene.abp(version="1.1.0", profile=profile)
    assert (await talk(scene, reset))[0] == mac.ResetConf(minor=1)


async def test_clock_synchronisation_by_the_application(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    now_s = gps_ms(datetime.now(UTC)) // 1000
    question = AppTimeReq(device_time_s=now_s - 100, token=9, answer_required=False)
    await scene.send(device.uplink(question.serialise(), PORT))
    (sent,) = scene.air.sent
    assert sent.heard is not None
    assert sent.heard.port == PORT
    expected = [AppTimeAns(correction_s=100 + drift, token=9).serialise() for drift in (-1, 0, 1)]
    assert sent.heard.payload in expected
    assert await scene.inbox() == [], "no reading"
    right = AppTimeReq(device_time_s=gps_ms(datetime.now(UTC)) // 1000, token=1, answer_required=True)
    await scene.send(device.uplink(right.serialise(), PORT))
    assert len(scene.air.sent) == 2
    # Somebody who uses this port for something else is not disturbed.
    await scene.send(device.uplink(b"\xff\xff", PORT))
    assert [up.data for up in await scene.ups()] == [b"\xff\xff"]


async def test_many_answers_go_alone_where_they_do_not_fit(scene: Scene) -> None:
    device = await scene.abp(data_rate=5)
    for _ in range(5):
        device.ask(mac.LinkCheckReq())
        device.ask(mac.DeviceTimeReq())
    told = await talk(scene, device)
    assert [type(one).__name__ for one in told] == ["LinkCheckAns", "DeviceTimeAns"] * 5
    assert scene.air.sent[-1].heard is not None
    assert scene.air.sent[-1].heard.port == 0
