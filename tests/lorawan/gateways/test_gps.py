"""GPS time of gateways: who has it, and what is sent at it (class B), by each protocol."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from quartier.lorawan.frames.airtime import beacon_s, time_on_air_s
from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.frames.modulation import Lora
from quartier.lorawan.frames.ping_slots import BEACON_PERIOD_MS
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.gateways import transmit
from quartier.lorawan.gateways.gps import GpsClock
from quartier.lorawan.gateways.registry import GatewayProtocol
from quartier.lorawan.gateways.slots import Slots
from quartier.lorawan.types import Transmission, TransmitError, TransmitResult, Window
from quartier.virtual.lora.forwarder import PacketForwarder
from quartier.virtual.lora.gateway import Gps
from tests.lorawan.gateways.bench import DOWNLINK, EUI, Bench, answer, hearing, until
from tests.lorawan.gateways.test_station import Lns
from tests.lorawan.gateways.test_udp import Udp

SF9 = Lora(9, 125_000)
PING = Window(frequency_hz=869_525_000, data_rate=3, delay_s=None)


def now_ms() -> int:
    return gps_ms(datetime.now(UTC))


def ping(at_ms: int) -> Transmission:
    """A frame for a ping slot."""
    return Transmission(id=3, gateway=EUI, phy=DOWNLINK, windows=(PING,), device=b"d" * 8, gps_time_ms=at_ms)


def test_what_a_gateway_tells() -> None:
    clock = GpsClock()
    assert (clock.holds(0), clock.told, clock.why_not) == (False, None, "it has not told GPS time yet")
    clock.tell_position(100)
    assert clock.holds(100 + 3600)
    assert not clock.holds(100 + 3601)
    assert (clock.told, clock.why_not) == (None, "it has not told GPS time for an hour")
    clock.tell(now_ms(), 4000)
    assert clock.holds(4000)
    clock.tell(None, 4001)
    assert (clock.holds(4001), clock.told, clock.why_not) == (
        False,
        False,
        "its last frame came without GPS time",
    )
    # A position that somebody has entered is no satellite receiver.
    clock.tell_position(4002)
    assert not clock.holds(4002)
    clock.tell(now_ms() + 18_000, 4003)
    assert (clock.told, clock.why_not) == (False, "its GPS time differs by 18 s from ours")


def test_times_are_compared_as_frames_arrive() -> None:
    clock, at = GpsClock(), now_ms()
    # The second frame was half a second longer on its way.
    clock.tell(at, 50.0)
    clock.tell(at, 50.5)
    assert clock.due(at + 2000, 51.0) == pytest.approx(52.0)
    # Clocks drift: what is older than an hour says nothing any more.
    assert clock.due(now_ms() + 2000, 3700.0) == pytest.approx(3702.0, abs=1)
    clock.lost("gone")
    clock.tell_position(51.0)
    assert clock.due(now_ms() + 2000, 60.0) == pytest.approx(62.0, abs=1)


def test_a_beacon_on_the_air() -> None:
    # RP002-1.0.4 §2.5.9: 17 bytes; TS001-1.0.4 §13.1: ten symbols of preamble, no header, no CRC.
    assert beacon_s(EU868.data_rate(EU868.beacon_data_rate), EU868.beacon_layout[2]) == pytest.approx(
        0.152576
    )


async def forwarder_with(udp: Udp, gps: Gps | None) -> PacketForwarder:
    """A forwarder that has heard something."""
    forwarder = await udp.forwarder(gps=gps)
    forwarder.heard(hearing())
    await until(lambda: udp.receptions)
    return forwarder


async def test_a_packet_forwarder_sends_at_a_gps_time(udp: Udp) -> None:
    gps = Gps()
    await forwarder_with(udp, gps)
    assert abs((udp.receptions[0].gps_time_ms or 0) - now_ms()) < 5000
    slot = now_ms() + 1500
    result = await udp.transmitter.transmit(ping(slot))
    assert (result.ok, result.window, result.error) == (True, 0, None)
    assert result.at is not None
    assert abs(gps_ms(result.at) - slot) < 5000
    await until(lambda: udp.sent)
    (sent,) = udp.sent
    assert (sent.phy, sent.frequency_hz, sent.data_rate) == (DOWNLINK, 869_525_000, SF9)
    assert gps.ms(sent.at) == pytest.approx(slot, abs=0.01)
    assert udp.registry.snapshot()[0].gps is True


async def test_a_packet_forwarder_without_gps_is_not_asked(udp: Udp) -> None:
    forwarder = await forwarder_with(udp, None)
    assert await udp.transmitter.transmit(ping(now_ms() + 1000)) == TransmitResult(
        id=3,
        ok=False,
        error=TransmitError.GPS_UNLOCKED,
        detail="its last frame came without GPS time",
        gateway=EUI,
    )
    assert (forwarder.counts.downlinks, udp.registry.snapshot()[0].gps) == (0, False)


async def test_a_gateway_that_has_lost_its_satellites_says_so_once(udp: Udp) -> None:
    forwarder = await forwarder_with(udp, Gps())
    forwarder.gps = None
    results = [await udp.transmitter.transmit(ping(now_ms() + 1000)) for _ in range(2)]
    assert [(one.error, one.detail) for one in results] == [
        (TransmitError.GPS_UNLOCKED, "GPS_UNLOCKED"),
        (TransmitError.GPS_UNLOCKED, "it has refused a frame for want of GPS time"),
    ]
    assert forwarder.counts.downlinks == 1


async def test_a_slot_that_cannot_be_met_is_not_tried(udp: Udp) -> None:
    forwarder = await forwarder_with(udp, Gps())
    result = await udp.transmitter.transmit(ping(now_ms() - 500))
    assert (result.ok, result.error) == (False, TransmitError.TOO_LATE)
    assert forwarder.counts.downlinks == 0


async def test_an_answer_and_a_ping_do_not_overlap(udp: Udp) -> None:
    await forwarder_with(udp, Gps())
    reception = udp.receptions[0]
    assert reception.gps_time_ms is not None
    windows = (Window(frequency_hz=868_100_000, data_rate=5, delay_s=5),)
    assert (await udp.transmitter.transmit(answer(reception, *windows))).ok
    # What a time after an uplink and a GPS time mean is compared by the same clock.
    result = await udp.transmitter.transmit(ping(reception.gps_time_ms + 5000))
    assert (result.ok, result.error) == (False, TransmitError.COLLISION_PACKET)
    result = await udp.transmitter.transmit(ping(reception.gps_time_ms + 5100))
    assert result.ok


async def test_a_station_sends_at_a_gps_time(lns: Lns) -> None:
    gps = Gps()
    station = await lns.connected(gps=gps)
    station.heard(hearing())
    await until(lambda: lns.receptions)
    slot = now_ms() + 1500
    result = await lns.transmitter.transmit(ping(slot))
    assert (result.ok, result.window) == (True, 0)
    (sent,) = lns.sent
    assert (sent.phy, sent.frequency_hz, sent.data_rate) == (DOWNLINK, 869_525_000, SF9)
    assert gps.ms(sent.at) == pytest.approx(slot, abs=0.01)


async def test_a_station_without_gps_is_not_asked(lns: Lns) -> None:
    station = await lns.connected()
    station.heard(hearing())
    await until(lambda: lns.receptions)
    result = await lns.transmitter.transmit(ping(now_ms() + 1000))
    assert (result.ok, result.error) == (False, TransmitError.GPS_UNLOCKED)
    assert station.dropped.reasons == []


async def test_a_station_is_told_to_send_beacons_when_that_is_switched_on(lns: Lns) -> None:
    station = await lns.connected()
    assert station.config is not None
    assert station.config["bcning"] is None
    lns.known.add(beacon=True)
    # It takes its configuration when it connects, so it has to do that again, even where it hears nothing.
    await until(lambda: (station.config or {}).get("bcning"))
    assert station.config["bcning"] == {"DR": 3, "layout": [2, 8, 17], "freqs": [869_525_000]}


@pytest.fixture
def beaconing(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A gateway that sends beacons; the next one comes in two seconds."""
    bench = Bench()
    bench.known.add(beacon=True)
    monkeypatch.setattr(transmit, "gps_ms", lambda _: BEACON_PERIOD_MS * 1000 - 2000)
    return bench


async def test_the_time_of_beacons_is_taken(beaconing: Bench) -> None:
    _, live = beaconing.registry.admit(EUI, GatewayProtocol.STATION, "", time.monotonic())
    live.gps.tell_position(time.monotonic())
    station = transmit._Station(
        beaconing.known.gateways[EUI],
        live,
        link=None,  # type: ignore[arg-type]  # nothing is sent
        account=beaconing.transmitter._duty_cycles.account(EUI, blocking=True),
        slots=Slots(),
    )
    now = time.monotonic()
    live.gps._ahead_s.append((now, (BEACON_PERIOD_MS * 1000 - 2000) / 1000 - now))
    for _ in range(2):
        beaconing.transmitter._book_beacons(station)
    assert len(station.slots) == 1, "the next one, once; the one before it is over"
    assert station.slots.reserve(now + 2.1, 0.1, now) is None
    assert station.slots.reserve(now + 2.2, 0.1, now) is not None
    # A Station closes its band for ten times the airtime, so that its beacon would be dropped.
    assert not station.account.fits(869_525_000, time_on_air_s(SF9, 51, crc=False), now + 1.5)
    assert station.account.fits(869_525_000, time_on_air_s(SF9, 51, crc=False), now + 4.0)
