"""What device and network tell each other by MAC commands (TS001-1.0.4 §5, LoRaWAN 1.1 §5).

The state of a session says what the device uses as far as it has confirmed it. What the device profile wants
differently is asked for, again with each downlink until it is answered, but not for ever; what a device refuses is
not asked again. New receive parameters hold from the answer on: the windows of the uplink that carries the answer are
the new ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from quartier.lorawan.frames import mac, ping_slots
from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.regions import Region
from quartier.lorawan.network import adr
from quartier.lorawan.sessions import FIRST_EXTRA_CHANNEL, MacState, Profile, Session, initial_state

_TRIES: Final = 8
_MINOR: Final = 1
_MOST_POWER_INDEX: Final = 7
_BEACON_ANSWER_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """What an answer may depend on. ``gps_ms`` is the time at the end of the reception."""

    data_rate: int
    snr_db: float
    gateways: int
    gps_ms: int
    adr: bool = False


@dataclass(slots=True)
class Heard:
    """What came of a device's commands. ``urgent``: it expects a downlink, whether or not there is something to say."""

    answers: list[Command] = field(default_factory=list)
    urgent: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """Something to ask for: ``name`` in the state, and the parameters to remember."""

    name: str
    command: Command
    values: list[int]


def channel_index(state: MacState, region: Region, frequency_hz: int) -> int | None:
    """The device's channel at a frequency; gateways are a little off."""
    for index, channel in enumerate(region.default_channels):
        if abs(channel.frequency_hz - frequency_hz) < 5000:
            return index
    for index, hertz in state.channels.items():
        if abs(hertz - frequency_hz) < 5000:
            return index
    return None


def is_class_c(session: Session) -> bool:
    """Whether the device listens all the time. A 1.1 device says so itself (DeviceModeInd)."""
    said = session.mac.device_class
    return (said or session.device.profile.device_class) == "C"


def is_class_b(session: Session) -> bool:
    """Whether the device opens ping slots now, and it is known where.

    While a PingSlotChannelReq is on its way, nobody knows which channel they are on (LoRaWAN 1.0.3 §14.3).
    """
    state = session.mac
    return (
        state.class_b_since > 0
        and session.device.profile.device_class == "B"
        and not is_class_c(session)
        and not ("ping_slot" in state.asked and state.tries.get("ping_slot", 0) < _TRIES)
    )


def listens(session: Session) -> bool:
    """Whether the device hears something without having spoken."""
    return is_class_c(session) or is_class_b(session)


def note_class_b(session: Session, *, open_: bool, now_s: int) -> None:
    """Remember whether an uplink says that ping slots are open (FCtrl, TS001-1.0.4 §9.2)."""
    state = session.mac
    # The bit is reserved for devices that have no class B.
    open_ = open_ and session.device.profile.device_class == "B"
    if open_ != bool(state.class_b_since):
        state.class_b_since = now_s if open_ else 0
        session.mac_changed = True


def next_ping_slot_ms(session: Session, after_ms: int) -> int:
    """When the device listens next, in GPS time. What it said of its periodicity counts more than the profile."""
    said = session.mac.ping_slot_periodicity
    periodicity = session.device.profile.ping_slot_periodicity if said is None else said
    return ping_slots.next_ms(after_ms, session.dev_addr, periodicity)


def hear(session: Session, commands: Sequence[Command], uplink: Uplink, region: Region) -> Heard:
    """Take in what a device says. The state is changed, and ``mac_changed`` set, where something was learnt."""
    heard = Heard()
    state = session.mac
    for command in commands:
        _hear_one(session, state, command, uplink, region, heard)
    return heard


def _hear_one(  # noqa: PLR0917
    session: Session, state: MacState, command: Command, uplink: Uplink, region: Region, heard: Heard
) -> None:
    match command:
        case mac.LinkCheckReq():
            floor = adr.FLOOR_DB[min(uplink.data_rate, len(adr.FLOOR_DB) - 1)]
            margin = max(0, min(254, math.floor(uplink.snr_db - floor)))
            heard.answers.append(mac.LinkCheckAns(margin_db=margin, gateways=min(255, uplink.gateways)))
            return
        case mac.DeviceTimeReq():
            heard.answers.append(mac.device_time(uplink.gps_ms))
            return
        case mac.ResetInd():
            # An ABP device of 1.1 was reset: all that it was told is gone (LoRaWAN 1.1 §5.1).
            fresh = initial_state(session.device.profile, region, abp=True)
            for name in fresh.__struct_fields__:
                setattr(state, name, getattr(fresh, name))
            state.minor = min(command.minor, _MINOR)
            heard.answers.append(mac.ResetConf(minor=_MINOR))
        case mac.RekeyInd():
            state.minor = min(command.minor, _MINOR)
            heard.answers.append(mac.RekeyConf(minor=_MINOR))
        case mac.DeviceModeInd():
            state.device_class = "C" if command.device_class == mac.DeviceClass.C else "A"
            heard.answers.append(mac.DeviceModeConf(device_class=command.device_class))
        case mac.DevStatusAns():
            state.battery, state.margin_db, state.status_at = (
                command.battery,
                command.margin_db,
                int(time.time()),
            )
            _answered(state, "status")
            heard.notes["battery"] = command.battery
        case mac.LinkADRAns():
            _hear_adr(session, state, command, heard)
        case mac.DutyCycleAns():
            if (asked := _answered(state, "duty_cycle")) is not None:
                state.duty_cycle = asked[0]
        case mac.RXParamSetupAns():
            asked = _answered(state, "rx")
            if asked is None:
                heard.urgent = True
            elif command.ok:
                state.rx1_dr_offset, state.rx2_data_rate, state.rx2_frequency_hz = asked
            else:
                state.refused["rx"] = asked
        case mac.RXTimingSetupAns():
            asked = _answered(state, "rx_delay")
            if asked is None:
                heard.urgent = True
            else:
                state.rx1_delay_s = asked[0]
        case mac.NewChannelAns():
            name = next((one for one in state.asked if one.startswith("channel:")), "")
            asked = _answered(state, name)
            if asked is not None and command.ok:
                state.channels[asked[0]] = asked[1]
                state.mask |= 1 << asked[0]
            elif asked is not None:
                state.refused[name] = asked
        case mac.DlChannelAns():
            name = next((one for one in state.asked if one.startswith("downlink:")), "")
            asked = _answered(state, name)
            if asked is None:
                heard.urgent = True
            elif command.ok:
                state.downlink_hz[asked[0]] = asked[1]
            else:
                state.refused[name] = asked
        case mac.TxParamSetupAns():
            if (asked := _answered(state, "tx")) is not None:
                state.dwell_eirp = asked
        case mac.ADRParamSetupAns():
            if (asked := _answered(state, "adr_parameters")) is not None:
                state.adr_parameters = asked
        case mac.RejoinParamSetupAns():
            if (asked := _answered(state, "rejoin")) is not None:
                state.rejoin = asked
        case mac.BeaconTimingReq():
            heard.answers.append(_beacon_timing(state, uplink, region))
            return
        case mac.PingSlotInfoReq():
            if session.device.profile.device_class != "B":
                # Without an answer it stays in class A, which is all that is offered to it.
                return
            state.ping_slot_periodicity = command.periodicity
            heard.answers.append(mac.PingSlotInfoAns())
        case mac.PingSlotChannelAns():
            asked = _answered(state, "ping_slot")
            if asked is None:
                heard.urgent = True
            elif command.ok:
                state.ping_slot_data_rate, state.ping_slot_frequency_hz = asked
            else:
                state.refused["ping_slot"] = asked
        case mac.BeaconFreqAns():
            asked = _answered(state, "beacon")
            if asked is not None and command.frequency_ok:
                state.beacon_frequency_hz = asked[0]
            elif asked is not None:
                state.refused["beacon"] = asked
        case _:
            return
    session.mac_changed = True


def _beacon_timing(state: MacState, uplink: Uplink, region: Region) -> mac.BeaconTimingAns:
    """To the next beacon from the end of an answer that goes out in RX1 and says nothing else (1.0.2 §14.5)."""
    data_rate = region.data_rate(region.rx1_data_rate(uplink.data_rate, min(state.rx1_dr_offset, 5)))
    airtime_s = time_on_air_s(data_rate, _BEACON_ANSWER_BYTES, crc=False)
    ends_ms = uplink.gps_ms + round((state.rx1_delay_s + airtime_s) * 1000)
    return mac.BeaconTimingAns(delay=ping_slots.until_beacon_ms(ends_ms) // ping_slots.SLOT_MS, channel=0)


def _hear_adr(session: Session, state: MacState, command: mac.LinkADRAns, heard: Heard) -> None:
    asked = _answered(state, "adr")
    if asked is None:
        return
    if command.ok:
        state.data_rate, state.power, state.repetitions, state.mask = asked
        # What was heard before was sent otherwise.
        session.history = b""
        return
    # Nothing of it holds (TS001-1.0.4 §5.2); what was refused is the limit from now on.
    if not command.data_rate_ok:
        state.refused["data_rate"] = [asked[0]]
    if not command.tx_power_ok:
        state.refused["power"] = [asked[1]]
    if not command.channel_mask_ok:
        state.refused["mask"] = [asked[3]]
    heard.notes["adr_refused"] = True


def _answered(state: MacState, name: str) -> list[int] | None:
    state.tries.pop(name, None)
    return state.asked.pop(name, None)


def requests(session: Session, uplink: Uplink, region: Region, *, now_s: int) -> list[Request]:
    """What to ask the device for, most important first."""
    profile, state = session.device.profile, session.mac
    found: list[Request] = []

    def ask(name: str, command: Command, values: list[int]) -> None:
        if state.refused.get(name) == values:
            return
        if state.asked.get(name) == values and state.tries.get(name, 0) >= _TRIES:
            return
        found.append(Request(name, command, values))

    rx = [profile.rx1_dr_offset, profile.rx2_data_rate, profile.rx2_frequency_hz]
    if [state.rx1_dr_offset, state.rx2_data_rate, state.rx2_frequency_hz] != rx:
        ask(
            "rx",
            mac.RXParamSetupReq(rx1_data_rate_offset=rx[0], rx2_data_rate=rx[1], rx2_frequency_hz=rx[2]),
            rx,
        )
    if state.rx1_delay_s != profile.rx1_delay_s:
        delay = profile.rx1_delay_s
        ask("rx_delay", mac.RXTimingSetupReq(delay=delay), [delay])
    for number, hertz in enumerate(profile.extra_frequencies_hz):
        index = FIRST_EXTRA_CHANNEL + number
        if state.channels.get(index) != hertz:
            low, high = region.default_channels[0].min_data_rate, region.default_channels[0].max_data_rate
            ask(
                f"channel:{index}",
                mac.NewChannelReq(channel=index, frequency_hz=hertz, min_data_rate=low, max_data_rate=high),
                [index, hertz],
            )
    for index, hertz in profile.downlink_frequencies_hz.items():
        if state.downlink_hz.get(index) != hertz and profile.mac_version not in ("1.0.0", "1.0.1"):
            ask(f"downlink:{index}", mac.DlChannelReq(channel=index, frequency_hz=hertz), [index, hertz])
    if profile.maximum_eirp_dbm is not None or profile.uplink_dwell_time or profile.downlink_dwell_time:
        tx = [
            _eirp_index(
                profile.maximum_eirp_dbm if profile.maximum_eirp_dbm is not None else region.max_eirp_dbm
            ),
            int(profile.uplink_dwell_time),
            int(profile.downlink_dwell_time),
        ]
        if state.dwell_eirp != tx:
            ask(
                "tx",
                mac.TxParamSetupReq(
                    max_eirp=tx[0], uplink_dwell_time=bool(tx[1]), downlink_dwell_time=bool(tx[2])
                ),
                tx,
            )
    if state.duty_cycle != profile.maximum_duty_cycle:
        exponent = profile.maximum_duty_cycle
        ask("duty_cycle", mac.DutyCycleReq(exponent=exponent), [exponent])
    if session.lorawan_1_1:
        _requests_1_1(profile, state, ask)
    if profile.device_class == "B":
        _requests_class_b(profile, state, ask)
    _adr_request(session, uplink, region, ask)
    if profile.status_interval_s and now_s - state.status_asked_at >= profile.status_interval_s:
        ask("status", mac.DevStatusReq(), [])
    return found


def _requests_1_1(profile: Profile, state: MacState, ask: Any) -> None:
    if profile.adr_ack_exponents and state.adr_parameters != list(profile.adr_ack_exponents):
        limit, delay = profile.adr_ack_exponents
        ask(
            "adr_parameters",
            mac.ADRParamSetupReq(limit_exponent=limit, delay_exponent=delay),
            [limit, delay],
        )
    if profile.rejoin_exponents and state.rejoin != list(profile.rejoin_exponents):
        count, seconds = profile.rejoin_exponents
        ask("rejoin", mac.RejoinParamSetupReq(max_count=count, max_time=seconds), [count, seconds])


def _requests_class_b(profile: Profile, state: MacState, ask: Any) -> None:
    slot = [profile.ping_slot_data_rate, profile.ping_slot_frequency_hz]
    if [state.ping_slot_data_rate, state.ping_slot_frequency_hz] != slot:
        ask("ping_slot", mac.PingSlotChannelReq(data_rate=slot[0], frequency_hz=slot[1]), slot)
    beacon = profile.beacon_frequency_hz or 0
    if state.beacon_frequency_hz != beacon:
        ask("beacon", mac.BeaconFreqReq(frequency_hz=beacon), [beacon])


def _adr_request(session: Session, uplink: Uplink, region: Region, ask: Any) -> None:
    profile, state = session.device.profile, session.mac
    if not (profile.adr and uplink.adr):
        return
    now = adr.Setting(uplink.data_rate, state.power, state.repetitions)
    fastest = max(region.adr_data_rates)
    if "data_rate" in state.refused:
        fastest = min(fastest, max(now.data_rate, state.refused["data_rate"][0] - 1))
    weakest = min(_MOST_POWER_INDEX, region.tx_powers - 1)
    if "power" in state.refused:
        weakest = max(0, min(weakest, state.refused["power"][0] - 1))
    wanted = adr.decide(
        session.history, now, margin_db=profile.adr_margin_db, fastest=fastest, weakest=weakest
    )
    mask = (1 << len(region.default_channels)) - 1
    for index in state.channels:
        mask |= 1 << index
    if state.refused.get("mask") == [mask]:
        mask = state.mask
    if wanted == now and mask == state.mask:
        return
    values = [*wanted, mask]
    ask(
        "adr",
        mac.LinkADRReq(
            data_rate=wanted.data_rate,
            tx_power=wanted.power,
            channel_mask=mask,
            channel_mask_control=0,
            transmissions=wanted.repetitions,
        ),
        values,
    )


def asked(session: Session, sent: Iterable[Request], *, now_s: int) -> None:
    """Remember what goes out with a downlink."""
    state = session.mac
    for request in sent:
        same = state.asked.get(request.name) == request.values
        state.tries[request.name] = state.tries.get(request.name, 0) + 1 if same else 1
        state.asked[request.name] = request.values
        if request.name == "status":
            state.status_asked_at = now_s
        session.mac_changed = True


def _eirp_index(eirp_dbm: float) -> int:
    fitting = [
        n
        for n in range(16)
        if mac.TxParamSetupReq(max_eirp=n, uplink_dwell_time=False, downlink_dwell_time=False).max_eirp_dbm
        <= eirp_dbm
    ]
    return max(fitting, default=0)
