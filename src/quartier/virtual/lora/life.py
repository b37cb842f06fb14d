"""The life of a virtual device: it joins and backs off, measures, sends, listens when it must, and repeats what was not
acknowledged.

Its intervals, pauses and back-off shrink with the speed of the virtual cities. A frame's time on air and the receive
windows do not, because gateways and network servers live in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import Final

from quartier.lorawan.frames import mac
from quartier.lorawan.frames.modulation import Lora
from quartier.lorawan.frames.regions import EU868

from ..noise import mix, unit
from ..readings import values_at
from ..schedule import Clock
from .air import Emission, Heard, ListenWindow
from .device import NotPossible
from .ether import Ether
from .fleet import Fleet, Member
from .gateway import Gps
from .memory import Memory
from .radio import Flight

_JOIN_RATES: Final = (5, 5, 4, 3, 2, 0)
"""Data rates of one join attempt after the other: fast first, then further (TS001-1.0.4 §6.2.4)."""
_FIRST_WITHIN_S: Final = 30.0
_POWER_UP_S: Final = 2.0
"""In real time: gateways connect first."""
_BACK_OFF_S: Final = 10.0
_LONGEST_BACK_OFF_S: Final = 1800.0
_ACK_TRIES: Final = 4
_ACK_TIMEOUT_S: Final = (1.0, 3.0)
_CONFIRMED_EVERY: Final = 4
_CHECK_LINK_EVERY: Final = 24
_LATE_S: Final = 0.4
"""So much later than planned a virtual gateway may begin on a busy machine; the frame itself is not late."""
_SOON: Final = 3
LAMP_PORT: Final = 61
DIM: Final = 0x62
BY_ITSELF: Final = 255


class Life:
    """One device in the air. ``counts`` says what happened to it."""

    def __init__(
        self, member: Member, fleet: Fleet, ether: Ether, clock: Clock, memory: Memory, *, seed: int
    ) -> None:
        self.member = member
        self.counts: Counter[str] = Counter()
        self.received: list[tuple[int, bytes]] = []
        """Application payloads that came down, as (port, payload); the last hundred."""
        self._seed = mix(seed, memory.run)
        self.radio = member.radio(seed=self._seed)
        self.dimming: int | None = None
        """What a lamp was told, in percent; None while it decides by itself."""
        self._hurry = asyncio.Event()
        self._fleet = fleet
        self._ether = ether
        self._clock = clock
        self._memory = memory
        self._windows: tuple[tuple[ListenWindow, float], ...] = ()
        self._sending_until = 0.0
        self._quiet_until = 0.0
        self._incoming_until = 0.0
        self._open: dict[int, str] = {}
        self._heard: list[Heard] = []
        self._news = asyncio.Event()
        self._draws = 0
        # What a beacon tells; gateways in the air have the same.
        self._gps = Gps()
        self.radio.dev_nonce, self.radio.join_nonce = memory.nonces(member.device.dev_eui)

    # Listening

    def begins(self, flight: Flight) -> None:
        """A gateway begins to send: whether the device listens there and then."""
        window = self._listening(flight)
        if window is None:
            return
        self._open[flight.number] = window
        self._incoming_until = max(self._incoming_until, flight.end_s + _LATE_S)

    def ends(self, flight: Flight) -> None:
        """A frame has ended for which the device listened."""
        window = self._open.pop(flight.number, None)
        if window is None:
            return
        heard = self._ether.radio.heard_at(self.member.place, flight)
        if heard is None:
            self.counts["missed"] += 1
            return
        result = self.radio.receive(flight.phy, window, snr_db=heard.snr_db)
        self.counts[result.what] += 1
        if result.what == "ignored":
            return
        self._heard.append(result)
        self._news.set()
        if window == "RXB":
            self.counts["pings"] += 1
            if result.confirmed:
                # The network waits for it a few seconds (CLASS_B_RESP_TIMEOUT).
                self._hurry.set()
        if result.port:
            self.counts["payloads"] += 1
            self.received.append((result.port, result.payload))
            del self.received[:-100]
            self._obey(result.port, result.payload)

    def _listening(self, flight: Flight) -> str | None:
        rate = flight.data_rate
        # A window is open for a few symbols; a preamble has eight.
        tolerance_s = 0.005
        if isinstance(rate, Lora):
            tolerance_s = max(tolerance_s, 4.0 * (1 << rate.spreading_factor) / rate.bandwidth_hz)
        for window, opens_s in self._windows:
            fits = window.frequency_hz == flight.frequency_hz and EU868.data_rate(window.data_rate) == rate
            if fits and window.delay_s is not None and abs(flight.start_s - opens_s) <= tolerance_s:
                return window.name
        if flight.start_s < self._sending_until:
            return None
        for window in self.radio.windows():
            if (
                window.delay_s is None
                and window.frequency_hz == flight.frequency_hz
                and EU868.data_rate(window.data_rate) == rate
            ):
                return window.name
        ping = self.radio.ping_slot(round(self._gps.ms(flight.start_s - tolerance_s)))
        if ping is None:
            return None
        slot_ms, window = ping
        fits = window.frequency_hz == flight.frequency_hz and EU868.data_rate(window.data_rate) == rate
        return window.name if fits and self._gps.at(slot_ms) <= flight.start_s + tolerance_s else None

    def _obey(self, port: int, payload: bytes) -> None:
        """What an application asks for; lamps can be dimmed (``codecs/virtual-lamp.js``)."""
        if self.member.device_class == "A" or port != LAMP_PORT or len(payload) != 2 or payload[0] != DIM:
            return
        self.dimming = None if payload[1] == BY_ITSELF else min(100, payload[1])
        self._hurry.set()

    def _payload(self) -> bytes:
        device = self.member.device
        values = values_at(self._fleet.world, device, self._clock.virtual_s(time.time()))
        if self.dimming is not None:
            rated_w = float(self.member.thing.properties["rated_power_w"])
            power_w = rated_w * (0.08 + 0.92 * self.dimming / 100.0) if self.dimming else 0.4
            values |= {"dimming": float(self.dimming), "power": power_w}
        return device.device_type.format.pack(values, device.serial)

    # Living

    async def live(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(_POWER_UP_S)
        await self._wait(_FIRST_WITHIN_S * self._unit())
        number = 0
        while True:
            if self.radio.state is None:
                await self._join()
                number = 0
            await self._uplink(number)
            number += 1
            self._rejoin_when_lost()
            interval_s = self.member.device.expected_interval_s * (0.98 + 0.04 * self._unit())
            # A command is answered by a reading at once.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), interval_s / self._clock.speed)
            self._hurry.clear()

    async def _join(self) -> None:
        attempt = 0
        while self.radio.state is None:
            self.radio.data_rate = _JOIN_RATES[min(attempt, len(_JOIN_RATES) - 1)]
            await self._quiet()
            emission = self.radio.join()
            self._keep_nonces()
            self.counts["joins"] += 1
            await self._send(emission)
            if self.radio.state is None:
                back_off_s = min(_LONGEST_BACK_OFF_S, _BACK_OFF_S * 2.0**attempt)
                await self._wait(back_off_s * (0.5 + 0.5 * self._unit()))
                attempt += 1
        self._keep_nonces()
        self.radio.ask(mac.DeviceTimeReq())

    def _keep_nonces(self) -> None:
        if not self.member.abp:
            self._memory.remember(self.member.device.dev_eui, self.radio.dev_nonce, self.radio.join_nonce)

    async def _uplink(self, number: int) -> None:
        """A reading, and what the answer asks for at once."""
        device = self.member.device
        if number % _CHECK_LINK_EVERY == _CHECK_LINK_EVERY - 1:
            self.radio.ask(mac.LinkCheckReq())
        state = self.radio.state
        if self.member.device_class == "B" and state is not None and state.periodicity is None:
            self.radio.begin_class_b()
        confirmed = self.member.device_class == "C" and number % _CONFIRMED_EVERY == 0
        class_b = state is not None and state.class_b
        await self._say(self._payload(), device.device_type.f_port, confirmed=confirmed)
        for _ in range(_SOON):
            state = self.radio.state
            heard, self._heard = self._heard, []
            if state is None or not (
                any(one.pending or one.confirmed for one in heard)
                or state.sticky
                or state.answers
                or state.class_b != class_b
            ):
                break
            class_b = state.class_b
            await self._say(b"", None)

    async def _say(self, payload: bytes, port: int | None, *, confirmed: bool = False) -> None:
        await self._quiet()
        try:
            emission = self.radio.uplink(payload, port, confirmed=confirmed)
        except NotPossible:
            self.counts["too_long"] += 1
            return
        self.counts["uplinks"] += 1
        await self._send(emission)
        while self.radio.repetitions_left:
            await self._again()
        for _ in range(_ACK_TRIES - 1):
            state = self.radio.state
            if not confirmed or state is None or not state.waits_for_ack:
                break
            low, high = _ACK_TIMEOUT_S
            await asyncio.sleep(low + (high - low) * self._unit())
            await self._again()

    async def _again(self) -> None:
        await self._quiet()
        try:
            emission = self.radio.repeat()
        except NotPossible:
            return
        self.counts["repeats"] += 1
        await self._send(emission)

    def _rejoin_when_lost(self) -> None:
        """A device that has heard nothing for very long, at the slowest data rate, begins anew."""
        state = self.radio.state
        if state is None or self.member.abp:
            return
        if state.since_downlink > state.adr_ack_limit + 8 * state.adr_ack_delay:
            self.radio.state = None
            self.counts["lost"] += 1

    # Sending

    async def _send(self, emission: Emission) -> None:
        """Put a frame on the air and listen in its windows; returns when nothing more can come."""
        self._heard.clear()
        # Who sends does not hear; what was being received is lost.
        self.counts["missed"] += len(self._open)
        self._open.clear()
        self._sending_until = time.monotonic() + emission.airtime_s
        flight = await self._ether.send(self.member.place, emission)
        self._quiet_until = flight.end_s + emission.pause_s / self._clock.speed
        windows = [window for window in self.radio.windows() if window.delay_s is not None]
        self._windows = tuple((window, flight.end_s + (window.delay_s or 0)) for window in windows)
        last_s = max(opens_s for _, opens_s in self._windows) + _LATE_S
        while not self._heard:
            left_s = max(last_s, self._incoming_until) - time.monotonic()
            if left_s <= 0:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left_s)
            self._news.clear()
        self._windows = ()

    async def _quiet(self) -> None:
        """Until the duty cycle allows to send."""
        await asyncio.sleep(max(0.0, self._quiet_until - time.monotonic()))

    async def _wait(self, virtual_s: float) -> None:
        await asyncio.sleep(virtual_s / self._clock.speed)

    def _unit(self) -> float:
        self._draws += 1
        return unit(self._seed, self.member.device.seed, self._draws)
