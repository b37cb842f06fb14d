"""One transmitter over all gateways: takes the first window that can still be met, and tells the truth about it.

A gateway that says nothing has not sent (a Basics Station drops silently what is late or exceeds its duty cycle), so
silence after the window and a margin is NO_CONFIRMATION.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from quartier.lorawan.frames import ping_slots
from quartier.lorawan.frames.airtime import beacon_s
from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.gateways import metrics
from quartier.lorawan.gateways.dutycycle import Account, Booking, DutyCycles
from quartier.lorawan.gateways.links import Confirmed, Link, LinkError, Opportunity, Order
from quartier.lorawan.gateways.rates import Rates
from quartier.lorawan.gateways.registry import Gateway, GatewayProtocol, Live, Registry
from quartier.lorawan.gateways.slots import Slot, Slots
from quartier.lorawan.types import Eui, Transmission, TransmitError, TransmitResult, Window

log = structlog.get_logger(__name__)

MARGIN_S: Final = 1.0
UNMEASURED_RTT_S: Final = 0.15
_MOST_PENDING: Final = 64
_PATIENCE_S: Final = 30.0
# After these the next window is worth a try; the frame was certainly not sent.
_NEXT_WINDOW: Final = frozenset(
    {
        TransmitError.TOO_LATE,
        TransmitError.TOO_EARLY,
        TransmitError.COLLISION_PACKET,
        TransmitError.COLLISION_BEACON,
        TransmitError.TX_FREQ,
        TransmitError.TX_POWER,
        TransmitError.DUTY_CYCLE,
    }
)


@dataclass(slots=True)
class _Ready:
    """An opportunity whose time and share of the duty cycle are reserved."""

    opportunity: Opportunity
    slot: Slot
    booking: Booking


@dataclass(frozen=True, slots=True)
class _Station:
    """Where a transmission goes."""

    gateway: Gateway
    live: Live
    link: Link
    account: Account
    slots: Slots


class GatewayTransmitter:
    """Implements Transmitter with the gateways of this installation.

    ``unlimited`` counts the duty cycle without refusing what exceeds it: for a laboratory without antennas.
    """

    def __init__(
        self, registry: Registry, rates: Rates, *, margin_s: float = MARGIN_S, unlimited: bool = False
    ) -> None:
        self._unlimited = unlimited
        self._registry = registry
        self._rates = rates
        self._margin_s = margin_s
        self._duty_cycles = DutyCycles(rates.region)
        self._slots: dict[Eui, Slots] = {}
        # The last beacon (GPS time) that is booked.
        self._beacons: dict[Eui, int] = {}
        self._pending: Counter[Eui] = Counter()

    def duty_cycle(self, gateway: Eui) -> Mapping[str, float]:
        """Share of each sub-band's allowance that a gateway has used in the last hour."""
        return self._duty_cycles.used(gateway, self._registry.clock())

    async def transmit(self, transmission: Transmission) -> TransmitResult:
        """Send, and say what became of it. Never raises.

        Priorities: 0 ordinary, 1 acknowledgements and commands, 2 joins and alarms; see ``dutycycle.CEILINGS``.
        """
        eui = transmission.gateway
        live = self._registry.live(eui)
        self._pending[eui] += 1
        try:
            confirmed = await self._send(transmission)
        except LinkError as error:
            if live is not None:
                live.failed[error.error] += 1
            self._count(live, error.error)
            return TransmitResult(
                id=transmission.id, ok=False, error=error.error, detail=error.detail, gateway=eui
            )
        except Exception:  # a promise of the protocol: a defect here must not end the network server
            log.exception("gateway.transmit_failed", gateway=eui.hex())
            self._count(live, TransmitError.NO_CONFIRMATION)
            return TransmitResult(
                id=transmission.id,
                ok=False,
                error=TransmitError.NO_CONFIRMATION,
                detail="internal error, see the log",
                gateway=eui,
            )
        finally:
            self._pending[eui] -= 1
            if not self._pending[eui]:
                del self._pending[eui]
        if live is not None:
            live.transmitted += 1
        self._count(live, "ok")
        used = confirmed.opportunity
        return TransmitResult(
            id=transmission.id,
            ok=True,
            detail=confirmed.detail,
            window=used.index,
            gateway=eui,
            at=datetime.now(UTC) + timedelta(seconds=used.due - self._registry.clock()),
            airtime_s=used.airtime_s,
        )

    def _count(self, live: Live | None, outcome: str) -> None:
        protocol = live.protocol if live is not None and live.protocol is not None else "none"
        metrics.TRANSMITTED.labels(protocol, outcome).inc()

    def _find(self, eui: Eui) -> _Station:
        gateway = self._registry.gateways.get(eui)
        if gateway is None:
            raise LinkError(TransmitError.NOT_ALLOWED, "unknown gateway")
        if gateway.disabled:
            raise LinkError(TransmitError.NOT_ALLOWED, "the gateway is disabled")
        live = self._registry.live(eui)
        if live is None or live.link is None or not live.online(self._registry.clock()):
            raise LinkError(TransmitError.GATEWAY_OFFLINE)
        if self._pending[eui] > _MOST_PENDING:
            raise LinkError(TransmitError.QUEUE_FULL, f"{_MOST_PENDING} frames are waiting")
        link = live.link
        slots = self._slots.get(eui)
        if slots is None:
            slots = self._slots[eui] = Slots()
        blocking = link.protocol is GatewayProtocol.STATION
        return _Station(gateway, live, link, self._duty_cycles.account(eui, blocking=blocking), slots)

    async def _send(self, transmission: Transmission) -> Confirmed:
        if not transmission.windows:
            raise LinkError(TransmitError.NOT_ALLOWED, "no window was given")
        station = self._find(transmission.gateway)
        windows = list(enumerate(transmission.windows))
        self._book_beacons(station)
        if transmission.gps_time_ms is not None:
            if not station.live.gps.holds(self._registry.clock()):
                raise LinkError(TransmitError.GPS_UNLOCKED, station.live.gps.why_not)
            groups = [windows[:1]]
        elif station.link.chooses:
            fixed = [one for one in windows if one[1].delay_s is not None]
            groups = [fixed] if fixed else []
            groups += [[one] for one in windows if one[1].delay_s is None]
        else:
            groups = [[one] for one in windows]
        failures: list[LinkError] = []
        for group in groups:
            try:
                return await self._try(transmission, station, group, failures)
            except LinkError as error:
                failures.append(error)
                if error.error not in _NEXT_WINDOW:
                    break
        last = failures[-1]
        detail = "; ".join(str(one) for one in failures) if len(failures) > 1 else last.detail
        raise LinkError(last.error, detail)

    async def _try(
        self,
        transmission: Transmission,
        station: _Station,
        group: list[tuple[int, Window]],
        failures: list[LinkError],
    ) -> Confirmed:
        ready: list[_Ready] = []
        refused: LinkError | None = None
        for index, window in group:
            try:
                if window.delay_s is None and transmission.gps_time_ms is None:
                    ready.append(await self._next_gap(transmission, station, index, window))
                else:
                    ready.append(self._at_its_time(transmission, station, index, window))
            except LinkError as error:
                if refused is not None:
                    failures.append(refused)
                refused = error
        if not ready:
            assert refused is not None  # noqa: S101 (a group is never empty)
            raise refused
        used: Opportunity | None = None
        sent = True
        try:
            confirmed = await self._hand_over(transmission, station, ready)
            used = confirmed.opportunity
        except LinkError as error:
            # Silence does not say that nothing was sent, so what was booked stays booked.
            sent = error.error is TransmitError.NO_CONFIRMATION
            raise
        finally:
            for position, one in enumerate(ready):
                if not (one.opportunity is used or (sent and used is None and position == 0)):
                    station.slots.release(one.slot)
                    station.account.release(one.booking)
        return confirmed

    async def _hand_over(
        self, transmission: Transmission, station: _Station, ready: list[_Ready]
    ) -> Confirmed:
        opportunities = tuple(one.opportunity for one in ready)
        now = self._registry.clock()
        deadline = max(one.due + one.airtime_s for one in opportunities) + self._margin_s
        if opportunities[0].delay_s is None and transmission.gps_time_ms is None:
            deadline += station.link.late_s
        order = Order(
            gateway=station.gateway,
            phy=transmission.phy,
            opportunities=opportunities,
            context=transmission.context,
            device=transmission.device,
            priority=transmission.priority,
            gps_time_ms=transmission.gps_time_ms,
            deadline=deadline,
        )
        try:
            async with asyncio.timeout(deadline - now):
                return await station.link.send(order)
        except TimeoutError:
            raise LinkError(TransmitError.NO_CONFIRMATION, "the gateway said nothing") from None
        except LinkError as error:
            if error.error is TransmitError.GPS_UNLOCKED:
                station.live.gps.lost("it has refused a frame for want of GPS time")
            raise

    def _book_beacons(self, station: _Station) -> None:
        """A gateway sends its beacons without being told: their time on the air is taken, this one's and the next's."""
        now = self._registry.clock()
        if not station.gateway.beacon or not station.live.gps.holds(now):
            return
        region = self._rates.region
        airtime_s = beacon_s(region.data_rate(region.beacon_data_rate), region.beacon_layout[2])
        this = ping_slots.beacon_ms(gps_ms(datetime.now(UTC)))
        for at in (this, this + ping_slots.BEACON_PERIOD_MS):
            if at > self._beacons.get(station.gateway.eui, 0):
                self._beacons[station.gateway.eui] = at
                due = station.live.gps.due(at, now)
                station.slots.reserve(due, airtime_s, now)
                station.account.book(region.beacon_frequency_hz, airtime_s, due)

    def _lead_s(self, station: _Station) -> float:
        return (station.live.rtt_s(0.9) or UNMEASURED_RTT_S) + station.link.guard_s

    def _at_its_time(
        self, transmission: Transmission, station: _Station, index: int, window: Window
    ) -> _Ready:
        now = self._registry.clock()
        if transmission.gps_time_ms is not None:
            due = station.live.gps.due(transmission.gps_time_ms, now)
        else:
            heard = now if transmission.received_monotonic is None else transmission.received_monotonic
            due = heard + (window.delay_s or 0)
        early_by = due - now - self._lead_s(station)
        if early_by < 0:
            raise LinkError(TransmitError.TOO_LATE, f"by {-early_by:.3f} s")
        opportunity = self._opportunity(transmission, index, window, due)
        self._check_duty_cycle(station, opportunity, transmission.priority)
        slot = station.slots.reserve(due, opportunity.airtime_s, now)
        if slot is None:
            raise LinkError(TransmitError.COLLISION_PACKET, "the gateway sends something else then")
        booking = station.account.book(opportunity.frequency_hz, opportunity.airtime_s, due)
        return _Ready(opportunity, slot, booking)

    async def _next_gap(
        self, transmission: Transmission, station: _Station, index: int, window: Window
    ) -> _Ready:
        """Wait for a free time of the gateway, giving way to answers that have to be sent at theirs.

        It sends as soon as it has the frame, so the way to it belongs to the time that is reserved.
        """
        patience_until = self._registry.clock() + _PATIENCE_S
        while True:
            now = self._registry.clock()
            lead_s = self._lead_s(station)
            airtime_s = self._airtime_s(transmission, window)
            slot = station.slots.reserve_next(now, lead_s + airtime_s, now)
            booking: Booking | None = None
            handed_over = False
            try:
                if slot.start > patience_until:
                    raise LinkError(TransmitError.QUEUE_FULL, f"no free time within {_PATIENCE_S:g} s")
                opportunity = self._opportunity(transmission, index, window, slot.start + lead_s)
                self._check_duty_cycle(station, opportunity, transmission.priority)
                booking = station.account.book(window.frequency_hz, airtime_s, opportunity.due)
                await asyncio.sleep(max(0.0, slot.start - now))
                if slot.held:
                    handed_over = True
                    slot.movable = False
                    return _Ready(opportunity, slot, booking)
            finally:
                if not handed_over:
                    station.slots.release(slot)
                    if booking is not None:
                        station.account.release(booking)

    def _airtime_s(self, transmission: Transmission, window: Window) -> float:
        airtime_s = self._rates.airtime_s(window.data_rate, len(transmission.phy))
        if airtime_s is None:
            raise LinkError(TransmitError.TX_FREQ, f"data rate {window.data_rate} cannot be sent")
        return airtime_s

    def _opportunity(self, transmission: Transmission, index: int, window: Window, due: float) -> Opportunity:
        most_dbm = self._rates.most_eirp_dbm(window.frequency_hz)
        if most_dbm is None:
            raise LinkError(TransmitError.TX_FREQ, f"{window.frequency_hz} Hz is not for sending")
        return Opportunity(
            index=index,
            frequency_hz=window.frequency_hz,
            data_rate=window.data_rate,
            delay_s=window.delay_s,
            due=due,
            airtime_s=self._airtime_s(transmission, window),
            eirp_dbm=most_dbm if window.power_dbm is None else min(window.power_dbm, most_dbm),
        )

    def _check_duty_cycle(self, station: _Station, opportunity: Opportunity, priority: int) -> None:
        if not self._unlimited and not station.account.fits(
            opportunity.frequency_hz, opportunity.airtime_s, opportunity.due, priority
        ):
            raise LinkError(TransmitError.DUTY_CYCLE, f"at {opportunity.frequency_hz / 1e6:g} MHz")
