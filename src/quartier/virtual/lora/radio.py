"""The shared medium: who sends when and where, and what of it a gateway or a device can hear.

It has no clock and no loop of its own. Whoever sends says so with the time; when a frame has ended, the medium is asked
who has heard it. Frames collide, the stronger one may survive; a gateway follows eight frames at once and is deaf while
it sends.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.frames.modulation import DataRate, Lora

from . import propagation
from .propagation import Place

CHANNELS_HZ: Final = (
    868_100_000, 868_300_000, 868_500_000, 867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000,
)  # fmt: skip
DEMODULATORS: Final = 8
_REMEMBERED_S: Final = 10.0
_NARROW_HZ: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One frame on the air. ``gateway`` is the number of the sending one, None for a device's frame."""

    number: int
    phy: bytes
    frequency_hz: int
    data_rate: DataRate
    start_s: float
    end_s: float
    eirp_dbm: float
    origin: Place
    gateway: int | None = None

    @property
    def up(self) -> bool:
        """A device sends. Gateways turn the polarity of what they send, so that they do not hear each other."""
        return self.gateway is None


@dataclass(frozen=True, slots=True)
class Heard:
    """How a frame arrived."""

    rssi_dbm: float
    snr_db: float
    channel: int


class Radio:
    """The air above both cities. ``seed`` decides shadows and fading; equal calls give equal answers."""

    def __init__(self, gateways: Sequence[Place], *, seed: int = 1) -> None:
        self.gateways = tuple(gateways)
        self.losses: Counter[str] = Counter()
        """Why receivers that were near enough did not hear a frame."""
        self._gateway_numbers = frozenset(place.number for place in self.gateways)
        self._seed = seed
        self._numbers = itertools.count(1)
        self._flights: deque[Flight] = deque()
        self._signals: dict[tuple[int, int], float] = {}

    # Sending

    def up(
        self, place: Place, phy: bytes, *, frequency_hz: int, data_rate: DataRate, eirp_dbm: float,
        start_s: float, airtime_s: float,
    ) -> Flight:  # fmt: skip
        """A device begins to send."""
        return self._begin(
            Flight(
                number=next(self._numbers),
                phy=phy,
                frequency_hz=frequency_hz,
                data_rate=data_rate,
                start_s=start_s,
                end_s=start_s + airtime_s,
                eirp_dbm=eirp_dbm,
                origin=place,
            )
        )

    def down(
        self, gateway: int, phy: bytes, *, frequency_hz: int, data_rate: DataRate, power_dbm: float,
        start_s: float, airtime_s: float,
    ) -> Flight:  # fmt: skip
        """A gateway begins to send; the antenna's gain is added to ``power_dbm``."""
        place = self.gateways[gateway]
        return self._begin(
            Flight(
                number=next(self._numbers),
                phy=phy,
                frequency_hz=frequency_hz,
                data_rate=data_rate,
                start_s=start_s,
                end_s=start_s + airtime_s,
                eirp_dbm=power_dbm + place.gain_dbi,
                origin=place,
                gateway=gateway,
            )
        )

    def _begin(self, flight: Flight) -> Flight:
        while self._flights and self._flights[0].end_s < flight.start_s - _REMEMBERED_S:
            self._flights.popleft()
        self._flights.append(flight)
        return flight

    # Hearing

    def heard_by_gateways(self, flight: Flight) -> list[tuple[int, Heard]]:
        """Which gateways heard a device's frame that has ended, by their numbers."""
        return [
            (number, heard)
            for number in range(len(self.gateways))
            if (heard := self._at_gateway(number, flight)) is not None
        ]

    def heard_at(self, place: Place, flight: Flight) -> Heard | None:
        """Whether a device at a place hears a gateway's frame that has ended. Its windows are its own business."""
        rssi_dbm = self.rssi_dbm(place, flight)
        if not self._strong_enough(rssi_dbm, flight):
            return None
        if self._disturbed(place, flight, rssi_dbm):
            self.losses["collision"] += 1
            return None
        return self._heard(rssi_dbm, flight, 0)

    def rssi_dbm(self, place: Place, flight: Flight) -> float:
        """How strong a frame arrives at a place."""
        link = flight.origin.number, place.number
        loss_db = self._signals.get(link)
        if loss_db is None:
            high, low = (
                (place, flight.origin) if place.number in self._gateway_numbers else (flight.origin, place)
            )
            loss_db = propagation.path_loss_db(high, low) - propagation.shadow_db(self._seed, high, low)
            self._signals[link] = loss_db
        fading_db = propagation.fading_db(self._seed, flight.number, flight.origin, place)
        # The gain of a sending antenna is in its EIRP already.
        return flight.eirp_dbm - loss_db + fading_db + place.gain_dbi

    def _at_gateway(self, number: int, flight: Flight) -> Heard | None:
        place = self.gateways[number]
        if flight.frequency_hz not in CHANNELS_HZ:
            return None
        rssi_dbm = self.rssi_dbm(place, flight)
        if not self._strong_enough(rssi_dbm, flight):
            return None
        reason = ""
        if any(other.gateway == number and _overlap(other, flight) for other in self._flights):
            reason = "deaf"
        elif self._demodulators_taken(number, flight) >= DEMODULATORS:
            reason = "demodulators"
        elif self._disturbed(place, flight, rssi_dbm):
            reason = "collision"
        if reason:
            self.losses[reason] += 1
            return None
        return self._heard(rssi_dbm, flight, CHANNELS_HZ.index(flight.frequency_hz))

    @staticmethod
    def _strong_enough(rssi_dbm: float, flight: Flight) -> bool:
        snr = propagation.snr_db(rssi_dbm, flight.data_rate)
        return snr >= propagation.least_snr_db(flight.data_rate)

    @staticmethod
    def _heard(rssi_dbm: float, flight: Flight, channel: int) -> Heard:
        snr = propagation.snr_db(rssi_dbm, flight.data_rate)
        return Heard(round(rssi_dbm, 1), propagation.told_snr_db(snr), channel)

    def _demodulators_taken(self, number: int, flight: Flight) -> int:
        """Frames that a gateway was following when this one began, whether it understood them or not."""
        place = self.gateways[number]
        return sum(
            other.up
            and other.number != flight.number
            and other.start_s <= flight.start_s < other.end_s
            and (other.start_s, other.number) < (flight.start_s, flight.number)
            and other.frequency_hz in CHANNELS_HZ
            and self._strong_enough(self.rssi_dbm(place, other), other)
            for other in self._flights
        )

    def _disturbed(self, place: Place, flight: Flight, rssi_dbm: float) -> bool:
        """Whether another frame covers this one at a place."""
        critical_s = flight.start_s + propagation.lock_s(flight.data_rate)
        for other in self._flights:
            if other.number == flight.number or other.origin.number == place.number:
                continue
            if other.end_s <= critical_s or other.start_s >= flight.end_s:
                continue
            if abs(other.frequency_hz - flight.frequency_hz) >= _NARROW_HZ:
                continue
            alike = other.up == flight.up and _same_factor(other.data_rate, flight.data_rate)
            least_db = propagation.SAME_FACTOR_DB if alike else propagation.OTHER_FACTOR_DB
            if rssi_dbm - self.rssi_dbm(place, other) < least_db:
                return True
        return False


def _overlap(one: Flight, other: Flight) -> bool:
    return one.start_s < other.end_s and other.start_s < one.end_s


def _same_factor(one: DataRate, other: DataRate) -> bool:
    if isinstance(one, Lora) and isinstance(other, Lora):
        return one == other
    return type(one) is type(other)
