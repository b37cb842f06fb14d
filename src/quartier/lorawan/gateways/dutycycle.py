"""How long each gateway has been on the air, per sub-band: a transmission that does not fit is refused beforehand.

ETSI EN 300 220 counts over any hour. A Basics Station counts on its own, differently, and drops what does not fit
without a word (its ``s2e.c``: after each emission its band is blocked for airtime / duty cycle), so for Stations both
are mirrored. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.frames.regions import Region, SubBand
from quartier.lorawan.types import Eui

HOUR_S: Final = 3600.0
CEILINGS: Final = (0.7, 0.85, 1.0)
"""How much of a sub-band's hour frames of priority 0, 1, 2 and above may fill: answers that devices wait for (joins,
acknowledgements) still find room when a queue of ordinary downlinks has used up its share."""


@dataclass(eq=False, slots=True)
class Booking:
    """An emission that was counted."""

    band: SubBand
    start: float
    airtime_s: float
    rate: float


class Account:
    """The emissions of one gateway. ``blocking`` adds a Station's own rule."""

    def __init__(self, region: Region, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self._region = region
        self._booked: dict[SubBand, deque[Booking]] = {band: deque() for band in region.sub_bands}

    def fits(self, frequency_hz: int, airtime_s: float, start: float, priority: int = 0) -> bool:
        """Whether an emission is within the duty cycle; outside of all sub-bands nothing is."""
        band = self._region.sub_band(frequency_hz)
        if band is None:
            return False
        booked = self._forget(band, start)
        ceiling = CEILINGS[max(0, min(priority, len(CEILINGS) - 1))]
        if sum(one.airtime_s for one in booked) + airtime_s > HOUR_S * band.duty_cycle * ceiling:
            return False
        return not self.blocking or self._station_would(frequency_hz, airtime_s, start)

    def book(self, frequency_hz: int, airtime_s: float, start: float) -> Booking:
        """Count an emission. Raises ValueError outside of the region's sub-bands."""
        band = self._region.sub_band(frequency_hz)
        if band is None:
            raise ValueError(f"{frequency_hz} Hz is in no sub-band of {self._region.name}")
        booking = Booking(band, start, airtime_s, _station_rate(frequency_hz))
        self._forget(band, start).append(booking)
        return booking

    def release(self, booking: Booking) -> None:
        """What was booked was not sent after all."""
        booked = self._booked[booking.band]
        if booking in booked:
            booked.remove(booking)

    def used(self, now: float) -> dict[str, float]:
        """Share of each sub-band's allowance that the last hour used, by its name."""
        return {
            band.name: round(
                sum(one.airtime_s for one in self._forget(band, now)) / (HOUR_S * band.duty_cycle), 4
            )
            for band in self._booked
        }

    def _forget(self, band: SubBand, now: float) -> deque[Booking]:
        # An hour at 10 % holds at most some thousand of the shortest frames, so this needs no other bound.
        booked = self._booked[band]
        while booked and booked[0].start + booked[0].airtime_s < now - HOUR_S:
            booked.popleft()
        return booked

    def _station_would(self, frequency_hz: int, airtime_s: float, start: float) -> bool:
        rate = _station_rate(frequency_hz)
        free_again = start + airtime_s * rate
        for booked in self._booked.values():
            for one in booked:
                if one.rate != rate:
                    continue
                if one.start <= start:
                    if start < one.start + one.airtime_s * rate:
                        return False
                elif one.start < free_again:
                    return False
        return True


def _station_rate(frequency_hz: int) -> float:
    """The three bands of a Station, which are not those of ETSI: all of 863–868 MHz is one of 0.1 %."""
    if 869_400_000 <= frequency_hz <= 869_650_000:
        return 10
    if 868_000_000 <= frequency_hz <= 868_600_000 or 869_700_000 <= frequency_hz <= 870_000_000:
        return 100
    return 1000


class DutyCycles:
    """The accounts of all gateways."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._accounts: dict[Eui, Account] = {}

    def account(self, gateway: Eui, *, blocking: bool) -> Account:
        """A gateway's account; it stays the same when the gateway connects by another protocol."""
        account = self._accounts.get(gateway)
        if account is None:
            account = self._accounts[gateway] = Account(self._region)
        account.blocking = blocking
        return account

    def used(self, gateway: Eui, now: float) -> Mapping[str, float]:
        """See Account.used; empty for a gateway that has not sent."""
        account = self._accounts.get(gateway)
        return account.used(now) if account else {}
