"""The virtual end device against a network that these tests play themselves, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import crypto, keys, mac, phy
from quartier.lorawan.frames.commands import Command, serialise
from quartier.lorawan.frames.phy import Data, FrameType
from quartier.lorawan.frames.regions import EU868, Channel
from quartier.virtual.lora.air import Emission, Heard, ListenWindow
from quartier.virtual.lora.device import Abp, Device, NotPossible, Otaa
from quartier.virtual.lora.device_state import State

APP_KEY, NWK_KEY = b"\xa1" * 16, b"\xb2" * 16
OLD = Otaa(dev_eui=bytes(range(8)), join_eui=bytes(range(8, 16)), app_key=APP_KEY)
NEW = replace(OLD, nwk_key=NWK_KEY)
SESSION = crypto.session_1_0(b"\1" * 16, b"\2" * 16)
SESSION_1_1 = crypto.SessionKeys(b"\1" * 16, b"\2" * 16, b"\3" * 16, b"\4" * 16, lorawan_1_1=True)
ACCEPT = phy.JoinAccept(join_nonce=7, net_id=0x000013, dev_addr=0x26011111)
MORE = (867_100_000, 867_300_000)


def abp(
    session: crypto.SessionKeys = SESSION, *, version: tuple[int, int, int] = (1, 0, 3), **options: object
) -> Device:
    return Device(Abp(dev_addr=0x01020304, session=session), version=version, **options)  # type: ignore[arg-type]


def state_of(device: Device) -> State:
    assert device.state is not None
    return device.state


def answer(device: Device, accept: phy.JoinAccept) -> bytes:
    """The join accept of a network to the device's last request."""
    identity = device.identity
    assert isinstance(identity, Otaa)
    root = identity.nwk_key or identity.app_key
    signing = keys.js_int_key(root, identity.dev_eui) if accept.opt_neg else root
    return crypto.seal_join_accept(signing, root, accept, join_eui=identity.join_eui, nonce=device.dev_nonce)


def joined(identity: Otaa = OLD, accept: phy.JoinAccept = ACCEPT, **options: object) -> Device:
    device = Device(identity, **options)  # type: ignore[arg-type]
    device.join()
    assert device.receive(answer(device, accept)) == Heard(what="joined")
    return device


def down(
    device: Device,
    counter: int,
    *commands: Command,
    port: int | None = None,
    payload: bytes = b"",
    flags: int = 0,
    confirmed: bool = False,
    confirmed_counter: int = 0,
) -> bytes:
    """A downlink to the device; commands go into the options."""
    state = state_of(device)
    kind = FrameType.CONFIRMED_DOWN if confirmed else FrameType.UNCONFIRMED_DOWN
    frame = Data(kind, state.dev_addr, 0, flags, serialise(commands), port, payload)
    return crypto.seal_data(state.keys, frame, counter, confirmed_counter=confirmed_counter)


def read(device: Device, emission: Emission, counter: int, *, confirmed_counter: int = 0) -> Data:
    """The uplink in the clear; its MIC has to fit."""
    session = state_of(device).keys
    assert crypto.uplink_fits(
        session,
        emission.phy,
        counter,
        confirmed_counter=confirmed_counter,
        data_rate=emission.data_rate,
        channel=emission.channel,
    )
    frame = phy.parse(emission.phy)
    assert isinstance(frame, Data)
    return crypto.open_data(session, frame, counter)


def said(device: Device) -> tuple[Command, ...]:
    """The commands of the device's next uplink."""
    counter = state_of(device).next_up
    return mac.parse(read(device, device.uplink(), counter).options, uplink=True).commands


# Joining


def test_joins_as_1_0_and_is_understood() -> None:
    device = Device(OLD, seed=1, data_rate=2)
    emission = device.join()
    request = phy.parse(emission.phy)
    assert isinstance(request, phy.JoinRequest)
    assert crypto.join_fits(APP_KEY, request)
    assert (request.join_eui, request.dev_eui, request.dev_nonce) == (
        OLD.join_eui,
        OLD.dev_eui,
        device.dev_nonce,
    )
    assert emission.frequency_hz in {channel.frequency_hz for channel in EU868.default_channels}
    assert device.windows() == (
        ListenWindow(name="RX1", delay_s=5, frequency_hz=emission.frequency_hz, data_rate=2),
        ListenWindow(name="RX2", delay_s=6, frequency_hz=869_525_000, data_rate=0),
    )
    accept = replace_accept(
        rx1_data_rate_offset=1, rx2_data_rate=3, rx_delay_s=5, channel_list=EU868.pack_channel_list(MORE)
    )
    assert device.receive(answer(device, accept)) == Heard(what="joined")
    state = state_of(device)
    assert state.dev_addr == ACCEPT.dev_addr
    assert state.keys == keys.derive_1_0(APP_KEY, join_nonce=7, net_id=0x13, dev_nonce=device.dev_nonce)
    assert state.channels == dict(enumerate((*EU868.default_channels, *(Channel(hz, 0, 5) for hz in MORE))))
    emission = device.uplink(b"hello", 3)
    assert read(device, emission, 0).payload == b"hello"
    assert device.windows() == (
        ListenWindow(name="RX1", delay_s=5, frequency_hz=emission.frequency_hz, data_rate=1),
        ListenWindow(name="RX2", delay_s=6, frequency_hz=869_525_000, data_rate=3),
    )


def replace_accept(**changes: object) -> phy.JoinAccept:
    values = {name: getattr(ACCEPT, name) for name in ACCEPT.__struct_fields__} | changes
    return phy.JoinAccept(**values)


def test_joins_as_1_1_and_says_so_until_it_is_confirmed() -> None:
    device = joined(NEW, replace_accept(opt_neg=True), version=(1, 1, 0), device_class="C")
    state = state_of(device)
    assert state.keys == keys.derive_1_1(
        NWK_KEY, APP_KEY, join_nonce=7, join_eui=NEW.join_eui, nonce=device.dev_nonce
    )
    announced = (mac.RekeyInd(minor=1), mac.DeviceModeInd(device_class=mac.DeviceClass.C))
    assert (said(device), said(device)) == (announced, announced)
    device.receive(down(device, 0, mac.RekeyConf(minor=1)))
    assert said(device) == announced[1:]
    device.receive(down(device, 1, mac.DeviceModeConf(device_class=2)))
    assert said(device) == ()


def test_1_1_device_gets_on_with_a_1_0_network() -> None:
    device = joined(NEW, version=(1, 1, 0))
    assert state_of(device).keys == keys.derive_1_0(
        NWK_KEY, join_nonce=7, net_id=0x13, dev_nonce=device.dev_nonce
    )
    assert said(device) == ()


def test_nonces_count_from_1_0_4_on() -> None:
    counting, drawing = Device(OLD, version=(1, 0, 4)), Device(OLD, version=(1, 0, 2))
    nonces = []
    for device in (counting, drawing):
        seen = []
        for _ in range(4):
            device.join()
            seen.append(device.dev_nonce)
        nonces.append(seen)
    assert nonces[0] == [1, 2, 3, 4]
    assert len(set(nonces[1])) == 4
    assert nonces[1] != nonces[0]


def test_accepts_that_are_not_for_it_are_ignored() -> None:
    device = Device(OLD, version=(1, 0, 4))
    reasons = [device.receive(b"\x20" + bytes(16)).reason]
    device.join()
    right = answer(device, ACCEPT)
    reasons += [
        device.receive(b"\x20" + bytes(16)).reason,
        device.receive(answer(Device(replace(OLD, app_key=bytes(16))), ACCEPT)).reason,
    ]
    assert device.receive(right).what == "joined"
    reasons.append(device.receive(right).reason)
    device.join()
    reasons.append(device.receive(answer(device, ACCEPT)).reason)
    assert reasons == [
        "no join was asked for",
        "mic: the join accept does not fit the keys",
        "mic: the join accept does not fit the keys",
        "no join was asked for",
        "join_nonce: not above the last one",
    ]


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_rejoins(kind: int) -> None:
    device = joined(NEW, replace_accept(opt_neg=True), version=(1, 1, 0))
    before = state_of(device)
    for count in (0, 1):
        request = phy.parse(device.rejoin(kind, net_id=0x13).phy)
        assert isinstance(request, phy.RejoinRequest)
        js_int_key = keys.js_int_key(NWK_KEY, NEW.dev_eui)
        assert crypto.join_fits(js_int_key if kind == 1 else before.keys.s_nwk_s_int_key, request)
        assert request.counter == count
    assert [window.delay_s for window in device.windows()] == [5, 6]
    accept = replace_accept(join_nonce=8, dev_addr=0x26022222, opt_neg=True)
    sealed = crypto.seal_join_accept(
        js_int_key,
        keys.js_enc_key(NWK_KEY, NEW.dev_eui),
        accept,
        join_eui=NEW.join_eui,
        nonce=1,
        request_type=kind,
    )
    assert device.receive(sealed).what == "joined"
    assert state_of(device).dev_addr == 0x26022222
    assert state_of(device).keys == keys.derive_1_1(
        NWK_KEY, APP_KEY, join_nonce=8, join_eui=NEW.join_eui, nonce=1
    )


# Data


@pytest.mark.parametrize("session", [SESSION, SESSION_1_1], ids=["1.0", "1.1"])
def test_downlinks_are_taken_once_and_in_order(session: crypto.SessionKeys) -> None:
    device = abp(session)
    device.uplink(b"x", 1)
    first = down(device, 0, port=5, payload=b"on", flags=phy.PENDING)
    assert device.receive(first) == Heard(what="data", port=5, payload=b"on", pending=True)
    used = Heard(what="ignored", reason="wrong MIC, or a counter that was used")
    assert device.receive(first) == used
    assert (
        device.receive(down(device, 70_000, port=5, payload=b"far")) == used
    )  # further than 16 bits can say
    assert device.receive(down(device, 65_000, port=5, payload=b"far")).counter == 65_000
    assert device.receive(down(device, 66_000, port=5, payload=b"over")).counter == 66_000
    assert device.receive(first[:-1] + b"?") == used


def test_1_1_counts_network_and_application_downlinks_apart() -> None:
    device = abp(SESSION_1_1)
    device.uplink()
    assert device.receive(down(device, 0)).counter == 0
    assert device.receive(down(device, 0, port=1, payload=b"a")).payload == b"a"
    commands = serialise([mac.DevStatusReq()])
    assert device.receive(down(device, 1, port=0, payload=commands)).commands == (mac.DevStatusReq(),)


@pytest.mark.parametrize("session", [SESSION, SESSION_1_1], ids=["1.0", "1.1"])
def test_confirmed_both_ways(session: crypto.SessionKeys) -> None:
    device = abp(session)
    state_of(device).announce.clear()
    device.uplink()
    assert not device.receive(down(device, 8, flags=phy.ACK)).acknowledged
    emission = device.uplink(b"x", 1, confirmed=True)
    assert read(device, emission, 1).confirmed
    heard = device.receive(down(device, 9, flags=phy.ACK, confirmed=True, confirmed_counter=1))
    assert (heard.acknowledged, heard.confirmed) == (True, True)
    # A second acknowledgement, because the network heard a repetition: nothing waits for it any more.
    heard = device.receive(down(device, 10, flags=phy.ACK, confirmed_counter=1))
    assert (heard.what, heard.acknowledged) == ("data", False)
    assert read(device, device.uplink(), 2, confirmed_counter=9).ack
    assert read(device, device.repeat(), 2, confirmed_counter=9).ack
    assert not read(device, device.uplink(), 3).ack


def test_frames_of_others_are_ignored() -> None:
    device = abp()
    other = Device(Abp(dev_addr=0x01020305, session=SESSION))
    reasons = [
        device.receive(down(other, 0)).reason,
        device.receive(other.uplink().phy).reason,
        device.receive(b"").reason,
        Device(OLD).receive(down(other, 0)).reason,
    ]
    assert reasons == ["another address", "no downlink", "frame: empty", "no session"]


def test_repetitions_keep_the_counter_and_change_the_channel() -> None:
    device = abp(SESSION_1_1, seed=3)
    state_of(device).transmissions = 3
    emissions = [device.uplink(b"x", 1)]
    while device.repetitions_left:
        emissions.append(device.repeat())
    assert len(emissions) == 3
    for emission in emissions:
        assert read(device, emission, 0).payload == b"x"
    assert len({device.repeat().channel for _ in range(20)}) == 3
    device.uplink(b"y", 1)
    device.receive(down(device, 0))
    assert device.repetitions_left == 0


def test_what_is_not_possible_is_said() -> None:
    refused = []
    attempts: tuple[Callable[[], object], ...] = (
        lambda: abp().uplink(bytes(52), 1),
        lambda: Device(OLD).uplink(),
        lambda: abp().join(),
        lambda: abp().repeat(),
        lambda: joined().rejoin(0),
        lambda: joined(NEW, version=(1, 1, 0)).rejoin(0),
        lambda: abp(data_rate=6).uplink(),
    )
    for attempt in attempts:
        with pytest.raises(NotPossible) as raised:
            attempt()
        refused.append(str(raised.value))
    assert refused == [
        "52 bytes, but DR0 carries 51",
        "the device has not joined yet",
        "an ABP device does not join",
        "there is nothing to repeat",
        "only a device in a 1.1 session asks to rejoin",
        "only a device in a 1.1 session asks to rejoin",
        "no enabled channel allows the data rate",
    ]


def test_duty_cycles_silence_the_device() -> None:
    device = abp(data_rate=5)
    emission = device.uplink(bytes(10), 1)
    assert emission.airtime_s == pytest.approx(0.061696)
    assert emission.pause_s == pytest.approx(0.061696 * 99)
    assert emission.power_dbm == 16
    device.receive(down(device, 0, mac.DutyCycleReq(exponent=10)))
    assert device.uplink(bytes(9), 1).pause_s == pytest.approx(0.061696 * 1023)


# Commands

SET_ADR = mac.LinkADRReq(data_rate=5, tx_power=3, channel_mask=0b011, channel_mask_control=0, transmissions=2)
ADR_OK = mac.LinkADRAns(channel_mask_ok=True, data_rate_ok=True, tx_power_ok=True)
OBEYED: list[tuple[str, list[Command], list[Command], dict[str, object]]] = [
    ("adr", [SET_ADR], [ADR_OK], {"data_rate": 5, "tx_power": 3, "enabled": {0, 1}, "transmissions": 2}),
    (
        "adr power too low",
        [replace(SET_ADR, tx_power=8)],
        [replace(ADR_OK, tx_power_ok=False)],
        {"data_rate": 0, "tx_power": 0, "enabled": {0, 1, 2}, "transmissions": 1},
    ),
    (
        "adr data rate of no channel",
        [replace(SET_ADR, data_rate=6)],
        [replace(ADR_OK, data_rate_ok=False)],
        {"data_rate": 0, "tx_power": 0},
    ),
    (
        "adr unknown channel",
        [replace(SET_ADR, channel_mask=0b1000)],
        [replace(ADR_OK, channel_mask_ok=False)],
        {"data_rate": 0, "enabled": {0, 1, 2}},
    ),
    (
        "adr block: all or nothing, the last counts",
        [SET_ADR, replace(SET_ADR, data_rate=4, channel_mask=0b101)],
        [ADR_OK, ADR_OK],
        {"data_rate": 4, "enabled": {0, 2}},
    ),
    (
        "adr block with a mistake",
        [replace(SET_ADR, channel_mask=0), SET_ADR, mac.DevStatusReq()],
        [*[replace(ADR_OK, channel_mask_ok=False)] * 2, mac.DevStatusAns(battery=255, margin_db=-7)],
        {"data_rate": 0, "enabled": {0, 1, 2}},
    ),
    ("duty cycle", [mac.DutyCycleReq(exponent=4)], [mac.DutyCycleAns()], {"duty_cycle": 1 / 16}),
    (
        "receive parameters",
        [mac.RXParamSetupReq(rx2_frequency_hz=868_500_000, rx2_data_rate=3, rx1_data_rate_offset=2)],
        [mac.RXParamSetupAns(channel_ok=True, rx2_data_rate_ok=True, rx1_data_rate_offset_ok=True)],
        {"rx2_frequency_hz": 868_500_000, "rx2_data_rate": 3, "rx1_data_rate_offset": 2},
    ),
    (
        "receive parameters that cannot be",
        [mac.RXParamSetupReq(rx2_frequency_hz=915_000_000, rx2_data_rate=8, rx1_data_rate_offset=6)],
        [mac.RXParamSetupAns(channel_ok=False, rx2_data_rate_ok=False, rx1_data_rate_offset_ok=False)],
        {"rx2_frequency_hz": 869_525_000, "rx2_data_rate": 0, "rx1_data_rate_offset": 0},
    ),
    ("status", [mac.DevStatusReq()], [mac.DevStatusAns(battery=255, margin_db=-7)], {}),
    (
        "new channel",
        [mac.NewChannelReq(channel=3, frequency_hz=867_100_000, min_data_rate=0, max_data_rate=5)],
        [mac.NewChannelAns(frequency_ok=True, data_rates_ok=True)],
        {"enabled": {0, 1, 2, 3}},
    ),
    (
        "default channels stay",
        [mac.NewChannelReq(channel=0, frequency_hz=0, min_data_rate=5, max_data_rate=0)],
        [mac.NewChannelAns(frequency_ok=False, data_rates_ok=False)],
        {"enabled": {0, 1, 2}},
    ),
    (
        "no channel where alarms are",
        [mac.NewChannelReq(channel=4, frequency_hz=868_650_000, min_data_rate=0, max_data_rate=15)],
        [mac.NewChannelAns(frequency_ok=False, data_rates_ok=False)],
        {"enabled": {0, 1, 2}},
    ),
    (
        "a channel comes and goes",
        [
            mac.NewChannelReq(channel=5, frequency_hz=867_100_000, min_data_rate=0, max_data_rate=5),
            mac.NewChannelReq(channel=5, frequency_hz=0, min_data_rate=0, max_data_rate=0),
        ],
        [mac.NewChannelAns(frequency_ok=True, data_rates_ok=True)] * 2,
        {"enabled": {0, 1, 2}},
    ),
    ("delay", [mac.RXTimingSetupReq(delay=0)], [mac.RXTimingSetupAns()], {"rx_delay_s": 1}),
    ("longer delay", [mac.RXTimingSetupReq(delay=5)], [mac.RXTimingSetupAns()], {"rx_delay_s": 5}),
    (
        "downlink channel",
        [mac.DlChannelReq(channel=1, frequency_hz=867_900_000)],
        [mac.DlChannelAns(frequency_ok=True, uplink_frequency_exists=True)],
        {"downlink_hz": {1: 867_900_000}},
    ),
    (
        "every downlink channel has its own answer",
        [
            mac.DlChannelReq(channel=0, frequency_hz=867_900_000),
            mac.DlChannelReq(channel=2, frequency_hz=867_700_000),
        ],
        [mac.DlChannelAns(frequency_ok=True, uplink_frequency_exists=True)] * 2,
        {"downlink_hz": {0: 867_900_000, 2: 867_700_000}},
    ),
    (
        "downlink channel without uplink channel",
        [mac.DlChannelReq(channel=9, frequency_hz=100_000_000)],
        [mac.DlChannelAns(frequency_ok=False, uplink_frequency_exists=False)],
        {"downlink_hz": {}},
    ),
    (
        "adr parameters",
        [mac.ADRParamSetupReq(limit_exponent=3, delay_exponent=2)],
        [mac.ADRParamSetupAns()],
        {"adr_ack_limit": 8, "adr_ack_delay": 4},
    ),
    (
        "rejoin parameters",
        [mac.RejoinParamSetupReq(max_count=3, max_time=2)],
        [mac.RejoinParamSetupAns(time_ok=False)],
        {},
    ),
    (
        "what Europe and class A do not know gets no answer",
        [
            mac.TxParamSetupReq(max_eirp=5, uplink_dwell_time=True, downlink_dwell_time=True),
            mac.PingSlotChannelReq(frequency_hz=869_525_000, data_rate=3),
        ],
        [],
        {},
    ),
]


@pytest.mark.parametrize(
    ("asked", "answers", "state"), [row[1:] for row in OBEYED], ids=[row[0] for row in OBEYED]
)
@pytest.mark.parametrize("in_payload", [False, True], ids=["options", "port 0"])
def test_commands_are_obeyed_and_answered(
    asked: list[Command], answers: list[Command], state: dict[str, object], in_payload: bool
) -> None:
    device = abp()
    device.uplink()
    if in_payload:
        heard = device.receive(down(device, 0, port=0, payload=serialise(asked)), snr_db=-7.2)
    else:
        heard = device.receive(down(device, 0, *asked), snr_db=-7.2)
    assert (heard.what, heard.commands, heard.payload) == ("data", tuple(asked), b"")
    assert {name: getattr(state_of(device), name) for name in state} == state
    assert said(device) == tuple(answers)


def test_keep_is_a_value_only_from_1_0_4_on() -> None:
    keep = mac.LinkADRReq(
        data_rate=15, tx_power=15, channel_mask=0b111, channel_mask_control=0, transmissions=0
    )
    told = []
    for version in ((1, 0, 3), (1, 0, 4)):
        device = abp(version=version, data_rate=2)
        state_of(device).transmissions = 3
        device.uplink()
        device.receive(down(device, 0, keep))
        told.append((said(device), state_of(device).data_rate, state_of(device).transmissions))
    assert told == [((replace(ADR_OK, data_rate_ok=False, tx_power_ok=False),), 2, 3), ((ADR_OK,), 2, 3)]


def test_without_adr_the_device_keeps_its_data_rate() -> None:
    device = abp(adr=False)
    device.uplink()
    device.receive(down(device, 0, SET_ADR))
    assert said(device) == (replace(ADR_OK, data_rate_ok=False, tx_power_ok=False),)
    assert not read(device, device.uplink(), 2).adr


def test_sticky_answers_are_repeated_until_a_downlink_in_a_class_a_window() -> None:
    device = abp(device_class="C")
    device.uplink()
    device.receive(down(device, 0, mac.RXTimingSetupReq(delay=2), mac.DevStatusReq()))
    assert said(device) == (mac.RXTimingSetupAns(), mac.DevStatusAns(battery=255, margin_db=0))
    assert said(device) == (mac.RXTimingSetupAns(),)
    device.receive(down(device, 1), "RXC")
    assert said(device) == (mac.RXTimingSetupAns(),)
    device.receive(down(device, 2), "RX2")
    assert said(device) == ()


def test_answers_that_do_not_fit_are_left_out() -> None:
    device = abp()
    device.uplink()
    device.receive(down(device, 0, *[mac.DevStatusReq()] * 6))
    emission = device.uplink(bytes(46), 1)
    assert len(mac.parse(read(device, emission, 1).options, uplink=True).commands) == 1
    assert said(device) == ()


def test_questions_of_the_device_are_asked_once() -> None:
    device = abp()
    device.ask(mac.LinkCheckReq())
    device.ask(mac.DeviceTimeReq())
    assert said(device) == (mac.LinkCheckReq(), mac.DeviceTimeReq())
    assert said(device) == ()
    told = (mac.LinkCheckAns(margin_db=3, gateways=2), mac.device_time(5000))
    assert device.receive(down(device, 0, *told)).commands == told


def test_an_unheard_device_reaches_further_step_by_step() -> None:
    """TS001-1.0.4 §4.3.1.1: ADRACKReq after 64 uplinks; then every 32 more power, slower, all channels."""
    device = abp(data_rate=2)
    state = state_of(device)
    state.tx_power, state.enabled, state.transmissions = 2, {1}, 3
    steps: list[tuple[int, tuple[bool, int, int, list[int], int]]] = []
    for number in range(1, 230):
        asks = read(device, device.uplink(), number - 1).adr_ack_request
        step = (asks, state.tx_power, state.data_rate, sorted(state.enabled), state.transmissions)
        if not steps or steps[-1][1] != step:
            steps.append((number, step))
    assert steps == [
        (1, (False, 2, 2, [1], 3)),
        (64, (True, 2, 2, [1], 3)),
        (96, (True, 0, 2, [1], 3)),
        (128, (True, 0, 1, [1], 3)),
        (160, (True, 0, 0, [1], 3)),
        (192, (True, 0, 0, [0, 1, 2], 1)),
    ]
    device.receive(down(device, 0))
    again = [read(device, device.uplink(), 229 + number).adr_ack_request for number in range(64)]
    assert again == [False] * 63 + [True]


# Class C


def test_class_c_listens_all_the_time() -> None:
    device = abp(device_class="C")
    always = ListenWindow(name="RXC", delay_s=None, frequency_hz=869_525_000, data_rate=0)
    assert device.windows() == (always,)
    device.uplink()
    assert [window.name for window in device.windows()] == ["RX1", "RX2", "RXC"]
    device.receive(
        down(
            device,
            0,
            mac.RXParamSetupReq(rx2_frequency_hz=868_500_000, rx2_data_rate=3, rx1_data_rate_offset=0),
        )
    )
    assert device.windows()[-1] == replace(always, frequency_hz=868_500_000, data_rate=3)


def test_moved_downlink_channel_moves_the_first_window() -> None:
    device = abp()
    device.uplink()
    device.receive(
        down(device, 0, *(mac.DlChannelReq(channel=index, frequency_hz=867_900_000) for index in range(3)))
    )
    device.uplink()
    assert [window.frequency_hz for window in device.windows()] == [867_900_000, 869_525_000]


def test_groups_have_keys_and_counters_of_their_own() -> None:
    device = abp(device_class="C")
    group = keys.multicast_session(b"\7" * 16, 0x0A0B0C0D)
    device.join_group(0x0A0B0C0D, group)

    def to_all(counter: int, port: int | None = 9, kind: FrameType = FrameType.UNCONFIRMED_DOWN) -> Heard:
        frame = Data(kind, 0x0A0B0C0D, 0, port=port, payload=b"all" if port is not None else b"")
        return device.receive(crypto.seal_data(group, frame, counter), "RXC")

    assert to_all(3) == Heard(what="data", port=9, payload=b"all", multicast=True, counter=3)
    assert to_all(3).reason == "wrong MIC, or a counter that was used"
    assert to_all(4, port=None).reason == "not allowed in multicast"
    assert to_all(4, kind=FrameType.CONFIRMED_DOWN).reason == "not allowed in multicast"
    assert to_all(4).counter == 4
    assert state_of(device).last_down is None


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_ignored(whole: bytes, joins: bool) -> None:
    device = Device(OLD) if joins else abp()
    if joins:
        device.join()
    assert device.receive(whole).what == "ignored"
