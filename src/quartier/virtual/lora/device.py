"""A virtual LoRaWAN end device with real session state: it joins, encrypts, counts, repeats, listens and obeys.

It knows the frames and nothing of time or space: a radio asks it for an emission, carries that to the gateways, and
gives it what it hears in a window. Versions 1.0.0 to 1.0.4 and 1.1, OTAA and ABP, classes A, B and C, multicast.
Whoever listens for a device of class B knows GPS time, as the device would from beacons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quartier.lorawan.frames import FrameError, crypto, keys, mac, phy, ping_slots
from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.counters import newest
from quartier.lorawan.frames.phy import Data, FrameType
from quartier.lorawan.frames.regions import EU868, Channel, Region

from ..noise import mix
from .air import Emission, Heard, ListenWindow
from .device_state import Group, State


class NotPossible(Exception):
    """The device cannot send that now; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Otaa:
    """What is printed on a device that joins. A 1.1 device has a ``nwk_key`` too."""

    dev_eui: bytes
    join_eui: bytes
    app_key: bytes
    nwk_key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abp:
    """A device that was given its session when it was made."""

    dev_addr: int
    session: crypto.SessionKeys


class Device:
    """One device. ``seed`` decides what is left to chance: channels and, before 1.0.4, nonces.

    ``periodicity`` is that of the ping slots, for class B.
    """

    def __init__(
        self,
        identity: Otaa | Abp,
        *,
        version: tuple[int, int, int] = (1, 0, 3),
        region: Region = EU868,
        seed: int = 0,
        data_rate: int = 0,
        adr: bool = True,
        device_class: str = "A",
        periodicity: int = 0,
    ) -> None:
        self.identity = identity
        self.version = version
        self.region = region
        self.data_rate = data_rate
        self.adr = adr
        self.device_class = device_class
        self.periodicity = periodicity
        self.state: State | None = None
        self.dev_nonce = 0
        self.join_nonce: int | None = None
        self.rejoin_counters = [0, 0]
        """RJcount0 (types 0 and 2) and RJcount1."""
        self._seed = seed
        self._draws = 0
        self._request: tuple[int, int] | None = None  # JoinReqType and nonce that may still be answered
        self._last: Emission | None = None
        self._frame: Data | None = None
        self._counter = 0
        self._acknowledges = 0
        self._sent = 0
        self._wishes: list[Command] = []
        if isinstance(identity, Abp):
            self.state = self._session(identity.dev_addr, identity.session)
            if identity.session.lorawan_1_1:
                self.state.announce.append(mac.ResetInd(minor=1))

    # Sending

    def join(self) -> Emission:
        """A join request."""
        identity = self._otaa()
        if self.version >= (1, 0, 4):
            self.dev_nonce += 1
        else:
            self.dev_nonce = self._draw() & 0xFFFF
        self._request = crypto.JOIN_REQUEST, self.dev_nonce
        key = identity.app_key if identity.nwk_key is None else identity.nwk_key
        request = phy.JoinRequest(identity.join_eui, identity.dev_eui, self.dev_nonce)
        channels = dict(enumerate(self.region.default_channels))
        return self._emit(crypto.seal_request(key, request), self.data_rate, channels, self._choose(channels))

    def rejoin(self, kind: int, net_id: int = 0) -> Emission:
        """A rejoin request of a 1.1 device: 0 and 2 to the network of its session, 1 to the join server."""
        identity, state = self._otaa(), self._active()
        if identity.nwk_key is None or not state.keys.lorawan_1_1:
            raise NotPossible("only a device in a 1.1 session asks to rejoin")
        to_join_server = kind == 1
        counter = self.rejoin_counters[to_join_server]
        self.rejoin_counters[to_join_server] += 1
        self._request = kind, counter
        request = phy.RejoinRequest(
            kind,
            None if to_join_server else net_id,
            identity.join_eui if to_join_server else None,
            identity.dev_eui,
            counter,
        )
        key = state.keys.s_nwk_s_int_key
        if to_join_server:
            key = keys.js_int_key(identity.nwk_key, identity.dev_eui)
        channels = self._usable(state)
        return self._emit(
            crypto.seal_request(key, request), state.data_rate, channels, self._choose(channels)
        )

    def ask(self, command: mac.LinkCheckReq | mac.DeviceTimeReq | mac.BeaconTimingReq) -> None:
        """Says something with the next uplink that the network answers."""
        self._wishes.append(command)

    def begin_class_b(self, periodicity: int | None = None) -> None:
        """Says with its next uplinks how often it will listen; once the network has answered, its ping slots are open.

        TS001-1.0.4 §12.1: for another ``periodicity`` it goes back to class A first.
        """
        state = self._active()
        state.periodicity = self.periodicity if periodicity is None else periodicity
        state.class_b = False

    def end_class_b(self) -> None:
        """Goes back to class A, as after two hours without a beacon."""
        state = self._active()
        state.periodicity, state.class_b = None, False

    def uplink(self, payload: bytes = b"", port: int | None = None, *, confirmed: bool = False) -> Emission:
        """A new data frame, with what there is to answer. Raises NotPossible for a payload that does not fit."""
        state = self._active()
        self._sent = 0
        if state.adr:
            state.since_downlink += 1
        ask_for_answer = state.back_off()
        room = self.region.max_payload(state.data_rate)
        if len(payload) > room:
            raise NotPossible(f"{len(payload)} bytes, but DR{state.data_rate} carries {room}")
        flags = (phy.ADR if state.adr else 0) | (phy.ADR_ACK_REQUEST if ask_for_answer else 0)
        if state.acknowledge is not None:
            flags |= phy.ACK
        if state.class_b:
            flags |= phy.PENDING
        self._acknowledges = state.acknowledge or 0
        self._counter, state.next_up = state.next_up, state.next_up + 1
        self._frame = Data(
            FrameType.CONFIRMED_UP if confirmed else FrameType.UNCONFIRMED_UP,
            state.dev_addr,
            self._counter & 0xFFFF,
            flags,
            self._options(state, min(phy.MAX_OPTIONS, room - len(payload))) if port != 0 else b"",
            port,
            payload,
        )
        state.waits_for_ack = confirmed
        if confirmed:
            state.confirmed_up = self._counter
        state.acknowledge = None
        state.answers.clear()
        self._wishes.clear()
        return self._send_data(state)

    def repeat(self) -> Emission:
        """The last data frame again, same counter, on a channel of chance (NbTrans, or a missing acknowledgement)."""
        return self._send_data(self._active())

    @property
    def repetitions_left(self) -> int:
        """How often the last frame is still to be repeated for NbTrans, unless something is heard."""
        return 0 if self.state is None or not self._sent else max(0, self.state.transmissions - self._sent)

    def _options(self, state: State, room: int) -> bytes:
        packed = b""
        wishes = list(self._wishes)
        if state.periodicity is not None and not state.class_b:
            wishes.append(mac.PingSlotInfoReq(periodicity=state.periodicity))
        for command in (*state.announce, *state.sticky, *state.answers, *wishes):
            more = command.serialise()
            if len(packed) + len(more) > room:
                break  # the network asks again for what is missing
            packed += more
        return packed

    def _send_data(self, state: State) -> Emission:
        if self._frame is None:
            raise NotPossible("there is nothing to repeat")
        self._request = None
        channels = self._usable(state)
        index = self._choose(channels)
        sealed = crypto.seal_data(
            state.keys,
            self._frame,
            self._counter,
            confirmed_counter=self._acknowledges,
            data_rate=state.data_rate,
            channel=index,
        )
        self._sent += 1
        return self._emit(sealed, state.data_rate, channels, index)

    # Listening

    def windows(self) -> tuple[ListenWindow, ...]:
        """Where the device listens after its last emission, and all the time (class C)."""
        last, state = self._last, self.state
        found: list[ListenWindow] = []
        if last is not None:
            joining = self._request is not None
            delay_s = self.region.join_accept_delay1_s if joining or state is None else state.rx_delay_s
            offset = 0 if state is None or joining else state.rx1_data_rate_offset
            moved = None if state is None or joining else state.downlink_hz.get(last.channel)
            found = [
                ListenWindow(
                    name="RX1",
                    delay_s=delay_s,
                    frequency_hz=moved or self.region.rx1_frequency_hz(last.frequency_hz),
                    data_rate=self.region.rx1_data_rate(last.data_rate, offset),
                ),
                ListenWindow(
                    name="RX2",
                    delay_s=delay_s + 1,
                    frequency_hz=self.region.rx2_frequency_hz if state is None else state.rx2_frequency_hz,
                    data_rate=self.region.rx2_data_rate if state is None else state.rx2_data_rate,
                ),
            ]
        if self.device_class == "C" and state is not None:
            found.append(
                ListenWindow(
                    name="RXC",
                    delay_s=None,
                    frequency_hz=state.rx2_frequency_hz,
                    data_rate=state.rx2_data_rate,
                )
            )
        return tuple(found)

    def ping_slot(self, after_ms: int) -> tuple[int, ListenWindow] | None:
        """Its first ping slot after a GPS time: when (GPS time in ms) and where; None while they are not open."""
        state = self.state
        if state is None or not state.class_b or state.periodicity is None:
            return None
        return ping_slots.next_ms(after_ms, state.dev_addr, state.periodicity), ListenWindow(
            name="RXB",
            delay_s=None,
            frequency_hz=state.ping_slot_frequency_hz,
            data_rate=state.ping_slot_data_rate,
        )

    def receive(self, whole: bytes, window: str = "RX1", *, snr_db: float = 0.0) -> Heard:
        """Takes a frame that was heard in a window. What is not for this device is ignored, with the reason."""
        try:
            frame = phy.parse(whole)
            if isinstance(frame, phy.EncryptedJoinAccept):
                return self._joined(frame)
            if not isinstance(frame, Data) or frame.uplink:
                return Heard(what="ignored", reason="no downlink")
            return self._data(frame, whole, window, snr_db)
        except FrameError as error:
            return Heard(what="ignored", reason=str(error))

    def join_group(self, address: int, group_keys: crypto.SessionKeys) -> None:
        """Listens to a multicast group from now on (class C)."""
        self._active().groups[address] = Group(group_keys)

    def _joined(self, frame: phy.EncryptedJoinAccept) -> Heard:
        if self._request is None:
            return Heard(what="ignored", reason="no join was asked for")
        identity = self._otaa()
        request_type, nonce = self._request
        root = identity.app_key if identity.nwk_key is None else identity.nwk_key
        rejoin = request_type != crypto.JOIN_REQUEST
        accept = crypto.open_join_accept(
            root,
            keys.js_enc_key(root, identity.dev_eui) if rejoin else root,
            frame,
            join_eui=identity.join_eui,
            nonce=nonce,
            request_type=request_type,
            js_int_key=None if identity.nwk_key is None else keys.js_int_key(root, identity.dev_eui),
        )
        if self.version >= (1, 0, 4) and self.join_nonce is not None and accept.join_nonce <= self.join_nonce:
            return Heard(what="ignored", reason="join_nonce: not above the last one")
        if accept.opt_neg and identity.nwk_key is not None:
            session = keys.derive_1_1(
                root, identity.app_key, join_nonce=accept.join_nonce, join_eui=identity.join_eui, nonce=nonce
            )
        else:
            session = keys.derive_1_0(
                root, join_nonce=accept.join_nonce, net_id=accept.net_id, dev_nonce=nonce
            )
        self.join_nonce, self._request, self._frame = accept.join_nonce, None, None
        self.rejoin_counters[0] = 0
        state = self._session(accept.dev_addr, session)
        state.rx_delay_s = accept.rx_delay_s
        state.rx1_data_rate_offset, state.rx2_data_rate = accept.rx1_data_rate_offset, accept.rx2_data_rate
        if accept.channel_list is not None:
            state.set_channel_list(self.region.parse_channel_list(accept.channel_list).frequencies_hz)
        if session.lorawan_1_1:
            state.announce.append(mac.RekeyInd(minor=1))
            if self.device_class == "C":
                state.announce.append(mac.DeviceModeInd(device_class=mac.DeviceClass.C))
        self.state = state
        return Heard(what="joined")

    def _data(self, frame: Data, whole: bytes, window: str, snr_db: float) -> Heard:
        state = self.state
        if state is None:
            return Heard(what="ignored", reason="no session")
        if frame.dev_addr in state.groups:
            return self._multicast(state.groups[frame.dev_addr], frame, whole)
        if frame.dev_addr != state.dev_addr:
            return Heard(what="ignored", reason="another address")
        application = state.keys.lorawan_1_1 and bool(frame.port)
        if window == "RXB" and (frame.options or frame.port == 0):
            return Heard(what="ignored", reason="a ping carries no commands")  # TS001-1.0.4 §9.3.1
        last = state.last_application_down if application else state.last_down
        counter = newest(None if last is None else last + 1, frame.frame_counter)
        if not crypto.downlink_fits(state.keys, whole, counter, confirmed_counter=state.confirmed_up):
            return Heard(what="ignored", reason="wrong MIC, or a counter that was used")
        clear = crypto.open_data(state.keys, frame, counter)
        if application:
            state.last_application_down = counter
        else:
            state.last_down = counter
        state.since_downlink = 0
        self._sent = 0
        if window not in ("RXB", "RXC"):
            state.sticky.clear()
        acknowledged = frame.ack and state.waits_for_ack
        if acknowledged:
            state.waits_for_ack = False
        if frame.confirmed:
            state.acknowledge = counter
        commands = mac.parse(clear.payload if frame.port == 0 else clear.options, uplink=False).commands
        state.obey(commands, snr_db)
        return Heard(
            what="data",
            port=frame.port,
            payload=clear.payload if frame.port else b"",
            acknowledged=acknowledged,
            confirmed=frame.confirmed,
            pending=frame.pending,
            counter=counter,
            commands=commands,
        )

    def _multicast(self, group: Group, frame: Data, whole: bytes) -> Heard:
        counter = newest(None if group.last_counter is None else group.last_counter + 1, frame.frame_counter)
        if not crypto.downlink_fits(group.keys, whole, counter):
            return Heard(what="ignored", reason="wrong MIC, or a counter that was used")
        if frame.confirmed or frame.options or not frame.port:  # TS001-1.0.4 §11.1: only application data
            return Heard(what="ignored", reason="not allowed in multicast")
        group.last_counter = counter
        clear = crypto.open_data(group.keys, frame, counter)
        return Heard(what="data", port=frame.port, payload=clear.payload, multicast=True, counter=counter)

    # Helpers

    def _session(self, dev_addr: int, session: crypto.SessionKeys) -> State:
        return State(
            region=self.region,
            version=self.version,
            dev_addr=dev_addr,
            keys=session,
            data_rate=self.data_rate,
            adr=self.adr,
            adr_ack_limit=self.region.adr_ack_limit,
            adr_ack_delay=self.region.adr_ack_delay,
            rx_delay_s=self.region.receive_delay1_s,
            rx2_data_rate=self.region.rx2_data_rate,
        )

    def _otaa(self) -> Otaa:
        if isinstance(self.identity, Abp):
            raise NotPossible("an ABP device does not join")
        return self.identity

    def _active(self) -> State:
        if self.state is None:
            raise NotPossible("the device has not joined yet")
        return self.state

    def _draw(self) -> int:
        self._draws += 1
        return mix(self._seed, self._draws)

    def _usable(self, state: State) -> dict[int, Channel]:
        return {index: state.channels[index] for index in state.usable(state.data_rate)}

    def _choose(self, channels: Mapping[int, Channel]) -> int:
        if not channels:
            raise NotPossible("no enabled channel allows the data rate")
        return list(channels)[self._draw() % len(channels)]

    def _emit(self, whole: bytes, data_rate: int, channels: Mapping[int, Channel], index: int) -> Emission:
        frequency_hz = channels[index].frequency_hz
        band = self.region.sub_band(frequency_hz)
        if band is None:
            raise NotPossible(f"nothing may be sent on {frequency_hz} Hz")
        state = self.state
        airtime_s = time_on_air_s(self.region.data_rate(data_rate), len(whole))
        duty_cycle = min(band.duty_cycle, 1.0 if state is None else state.duty_cycle)
        self._last = Emission(
            phy=whole,
            frequency_hz=frequency_hz,
            data_rate=data_rate,
            channel=index,
            power_dbm=min(band.eirp_dbm, self.region.tx_power_dbm(0 if state is None else state.tx_power)),
            airtime_s=airtime_s,
            pause_s=airtime_s * (1 / duty_cycle - 1),
        )
        return self._last
