"""What a virtual end device knows of its session, and how it obeys MAC commands (TS001-1.0.4 §5, LoRaWAN 1.1 §5).

Kept apart from the device that frames and encrypts, because this is what a network changes from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from quartier.lorawan.frames import FrameError, mac
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.crypto import SessionKeys
from quartier.lorawan.frames.regions import Channel, Region

# Of regions with dwell times, which these devices do not have, and of class B, which few have: no answer.
_NOT_SUPPORTED: Final = (mac.TxParamSetupReq,)
_OF_CLASS_B: Final = (mac.PingSlotChannelReq, mac.BeaconFreqReq, mac.PingSlotInfoAns)


@dataclass(slots=True)
class Group:
    """A multicast group that the device listens to."""

    keys: SessionKeys
    last_counter: int | None = None


@dataclass(slots=True, kw_only=True)
class State:
    """A session's parameters; counters are the full 32 bits, ``None`` before the first downlink."""

    region: Region
    version: tuple[int, int, int]
    dev_addr: int
    keys: SessionKeys
    data_rate: int
    adr: bool = True
    tx_power: int = 0
    transmissions: int = 1
    rx_delay_s: int = 1
    rx1_data_rate_offset: int = 0
    rx2_data_rate: int = 0
    rx2_frequency_hz: int = 0
    duty_cycle: float = 1.0
    adr_ack_limit: int = 64
    adr_ack_delay: int = 32
    channels: dict[int, Channel] = field(default_factory=dict)
    enabled: set[int] = field(default_factory=set)
    downlink_hz: dict[int, int] = field(default_factory=dict)
    periodicity: int | None = None
    """Of its ping slots, every 2^periodicity seconds; None for a device without class B."""
    class_b: bool = False
    """Ping slots are open: the network knows how often."""
    ping_slot_frequency_hz: int = 0
    ping_slot_data_rate: int = 0
    beacon_frequency_hz: int = 0
    groups: dict[int, Group] = field(default_factory=dict)

    next_up: int = 0
    last_down: int | None = None
    """FCntDown of 1.0.x; NFCntDown of 1.1."""
    last_application_down: int | None = None
    """AFCntDown of 1.1."""
    since_downlink: int = 0
    acknowledge: int | None = None
    """Counter of the confirmed downlink that the next uplink acknowledges."""
    confirmed_up: int = 0
    """Counter of the last confirmed uplink."""
    waits_for_ack: bool = False

    answers: list[Command] = field(default_factory=list)
    sticky: list[Command] = field(default_factory=list)
    """Answers that are repeated until a downlink comes in a class A window."""
    announce: list[Command] = field(default_factory=list)
    """What 1.1 devices say in every uplink until it is confirmed: RekeyInd, ResetInd, DeviceModeInd."""

    def __post_init__(self) -> None:
        if not self.rx2_frequency_hz:
            self.rx2_frequency_hz = self.region.rx2_frequency_hz
        if not self.ping_slot_frequency_hz:
            self.ping_slot_frequency_hz = self.region.ping_slot_frequency_hz
            self.ping_slot_data_rate = self.region.ping_slot_data_rate
            self.beacon_frequency_hz = self.region.beacon_frequency_hz
        if not self.channels:
            self.channels = dict(enumerate(self.region.default_channels))
            self.enabled = set(self.channels)

    def usable(self, data_rate: int) -> list[int]:
        """Enabled channels on which a data rate is allowed, in their order."""
        return [
            index
            for index in sorted(self.enabled)
            if self.channels[index].min_data_rate <= data_rate <= self.channels[index].max_data_rate
        ]

    def set_channel_list(self, frequencies_hz: Sequence[int]) -> None:
        """The channels of a join accept's CFList: those after the default ones (RP002-1.0.4 §2.5.4)."""
        for number, frequency_hz in enumerate(frequencies_hz, start=len(self.region.default_channels)):
            self.channels[number] = Channel(frequency_hz, 0, 5)
            self.enabled.add(number)

    def back_off(self) -> bool:
        """After another uplink without any downlink: reach further, step by step. Whether ADRACKReq is to be set.

        TS001-1.0.4 §4.3.1.1: first full power, then slower, at last all default channels.
        """
        if not self.adr or self.since_downlink < self.adr_ack_limit:
            return False
        beyond = self.since_downlink - self.adr_ack_limit
        if beyond and beyond % self.adr_ack_delay == 0:
            if self.tx_power:
                self.tx_power = 0
            elif self.data_rate:
                self.data_rate -= 1
            else:
                self.transmissions = 1
                self.enabled |= set(range(len(self.region.default_channels)))
        return True

    def obey(self, commands: Sequence[Command], snr_db: float) -> None:
        """Does what a network asks, and remembers the answers for the next uplink."""
        at = 0
        while at < len(commands):
            command = commands[at]
            at += 1
            if isinstance(command, mac.LinkADRReq):
                block = [command]
                while at < len(commands) and isinstance(following := commands[at], mac.LinkADRReq):
                    block.append(following)
                    at += 1
                self.answers += [self._link_adr(block)] * len(block)
            elif isinstance(command, _OF_CLASS_B):
                if self.periodicity is not None:
                    self._obey_class_b(command)
            elif not isinstance(command, _NOT_SUPPORTED):
                self._obey(command, snr_db)

    def _obey(self, command: Command, snr_db: float) -> None:
        match command:
            case mac.DutyCycleReq():
                self.duty_cycle = command.ratio
                self._answer(mac.DutyCycleAns())
            case mac.RXParamSetupReq():
                self._answer(self._receive_parameters(command))
            case mac.DevStatusReq():
                margin_db = max(-32, min(31, round(snr_db)))
                self._answer(mac.DevStatusAns(battery=mac.BATTERY_UNKNOWN, margin_db=margin_db))
            case mac.NewChannelReq():
                self._answer(self._new_channel(command))
            case mac.RXTimingSetupReq():
                self.rx_delay_s = command.delay_s
                self._answer(mac.RXTimingSetupAns())
            case mac.DlChannelReq():
                self._answer(self._downlink_channel(command))
            case mac.ADRParamSetupReq():
                self.adr_ack_limit = 1 << command.limit_exponent
                self.adr_ack_delay = 1 << command.delay_exponent
                self._answer(mac.ADRParamSetupAns())
            case mac.RejoinParamSetupReq():
                # Counting uplinks is enough for these devices; they do not know the time.
                self._answer(mac.RejoinParamSetupAns(time_ok=False))
            case mac.RekeyConf():
                self._announced(mac.RekeyInd)
            case mac.ResetConf():
                self._announced(mac.ResetInd)
            case mac.DeviceModeConf():
                self._announced(mac.DeviceModeInd)

    def _obey_class_b(self, command: Command) -> None:
        match command:
            case mac.PingSlotInfoAns():
                self.class_b = True
            case mac.PingSlotChannelReq():
                answer = mac.PingSlotChannelAns(
                    frequency_ok=self._in_band(command.frequency_hz),
                    data_rate_ok=command.data_rate in self.region.downlink_data_rates,
                )
                if answer.ok:
                    self.ping_slot_frequency_hz = command.frequency_hz
                    self.ping_slot_data_rate = command.data_rate
                self._answer(answer)
            case mac.BeaconFreqReq():
                wanted = command.frequency_hz or self.region.beacon_frequency_hz
                answer_beacon = mac.BeaconFreqAns(frequency_ok=self._in_band(wanted))
                if answer_beacon.frequency_ok:
                    self.beacon_frequency_hz = wanted
                self._answer(answer_beacon)

    def _announced(self, kind: type[Command]) -> None:
        self.announce = [one for one in self.announce if not isinstance(one, kind)]

    def _answer(self, answer: Command) -> None:
        if isinstance(answer, mac.STICKY):
            self.sticky.append(answer)
        else:
            self.answers.append(answer)

    def _link_adr(self, block: Sequence[mac.LinkADRReq]) -> mac.LinkADRAns:
        """All of a block or nothing of it; the last one's data rate, power and repetitions count."""
        enabled, channels_ok = frozenset(self.enabled), True
        for command in block:
            try:
                enabled = self.region.enabled_channels(
                    command.channel_mask_control, command.channel_mask, self.channels
                )
            except FrameError:
                channels_ok = False
        last = block[-1]
        keeps = self.version >= (1, 0, 4)
        data_rate = self.data_rate if keeps and last.data_rate == mac.KEEP else last.data_rate
        tx_power = self.tx_power if keeps and last.tx_power == mac.KEEP else last.tx_power
        possible = any(
            self.channels[index].min_data_rate <= data_rate <= self.channels[index].max_data_rate
            for index in enabled
        )
        answer = mac.LinkADRAns(
            channel_mask_ok=channels_ok,
            data_rate_ok=possible and (self.adr or data_rate == self.data_rate),
            tx_power_ok=tx_power < self.region.tx_powers and (self.adr or tx_power == self.tx_power),
        )
        if answer.ok:
            self.enabled, self.data_rate, self.tx_power = set(enabled), data_rate, tx_power
            self.transmissions = last.transmissions or (self.transmissions if keeps else 1)
        return answer

    def _receive_parameters(self, command: mac.RXParamSetupReq) -> mac.RXParamSetupAns:
        answer = mac.RXParamSetupAns(
            channel_ok=self._in_band(command.rx2_frequency_hz),
            rx2_data_rate_ok=command.rx2_data_rate in self.region.downlink_data_rates,
            rx1_data_rate_offset_ok=command.rx1_data_rate_offset <= 5,
        )
        if answer.ok:
            self.rx2_frequency_hz, self.rx2_data_rate = command.rx2_frequency_hz, command.rx2_data_rate
            self.rx1_data_rate_offset = command.rx1_data_rate_offset
        return answer

    def _new_channel(self, command: mac.NewChannelReq) -> mac.NewChannelAns:
        index, default = command.channel, len(self.region.default_channels)
        known = self.region.data_rates
        free = default <= index < self.region.max_channels
        answer = mac.NewChannelAns(
            frequency_ok=free and (not command.frequency_hz or self._in_band(command.frequency_hz)),
            data_rates_ok=command.min_data_rate <= command.max_data_rate
            and command.min_data_rate in known
            and command.max_data_rate in known,
        )
        if answer.ok and command.frequency_hz:
            self.channels[index] = Channel(command.frequency_hz, command.min_data_rate, command.max_data_rate)
            self.enabled.add(index)
            self.downlink_hz.pop(index, None)
        elif answer.ok:
            self.channels.pop(index, None)
            self.enabled.discard(index)
            self.downlink_hz.pop(index, None)
        return answer

    def _downlink_channel(self, command: mac.DlChannelReq) -> mac.DlChannelAns:
        answer = mac.DlChannelAns(
            frequency_ok=self._in_band(command.frequency_hz),
            uplink_frequency_exists=command.channel in self.channels,
        )
        if answer.ok:
            self.downlink_hz[command.channel] = command.frequency_hz
        return answer

    def _in_band(self, frequency_hz: int) -> bool:
        return self.region.sub_band(frequency_hz) is not None
