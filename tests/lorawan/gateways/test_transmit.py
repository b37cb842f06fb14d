"""Downlinks by virtual packet forwarders: windows, confirmations, duty cycle, class C."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from quartier.lorawan.frames.airtime import time_on_air_s
from quartier.lorawan.frames.modulation import Lora
from quartier.lorawan.gateways import transmit
from quartier.lorawan.gateways.links import Confirmed, Order
from quartier.lorawan.gateways.registry import GatewayProtocol
from quartier.lorawan.types import Reception, Transmission, TransmitError, TransmitResult, Window
from quartier.virtual.lora.forwarder import PacketForwarder
from tests.lorawan.gateways.bench import ALWAYS, DOWNLINK, EUI, OTHER, RX1, RX2, SF7, answer, hearing, until
from tests.lorawan.gateways.test_udp import Udp
from tests.patience import patient

SF7_S = time_on_air_s(SF7, len(DOWNLINK), crc=False)
SF12_S = time_on_air_s(Lora(12, 125_000), len(DOWNLINK), crc=False)


async def uplink(udp: Udp, forwarder: PacketForwarder) -> Reception:
    """The reception of an uplink that ended just now."""
    before = len(udp.receptions)
    forwarder.heard(hearing())
    await until(lambda: len(udp.receptions) > before)
    return udp.receptions[-1]


async def test_rx1_is_met_to_the_microsecond(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    heard = hearing()
    forwarder.heard(heard)
    await until(lambda: udp.receptions)
    result = await udp.transmitter.transmit(answer(udp.receptions[0], number=7))
    assert replace(result, at=None) == TransmitResult(id=7, ok=True, window=0, gateway=EUI, airtime_s=SF7_S)
    assert result.at is not None
    assert abs((result.at - udp.receptions[0].received_at).total_seconds() - 1) < 0.5
    await until(lambda: udp.sent)
    (sent,) = udp.sent
    assert (sent.phy, sent.frequency_hz, sent.data_rate) == (DOWNLINK, 868_100_000, SF7)
    assert sent.at == pytest.approx(heard.ended_at + 1, abs=3e-6)
    # 16.15 dBm EIRP are 16 dBm at an antenna without gain.
    assert sent.power_dbm == 16
    assert udp.registry.snapshot()[0].transmitted == 1


async def test_the_counter_may_wrap_between_uplink_and_answer(udp: Udp) -> None:
    forwarder = await udp.forwarder(counter_us=(1 << 32) - 500_000)
    heard = hearing()
    forwarder.heard(heard)
    await until(lambda: udp.receptions)
    assert udp.receptions[0].context["tmst"] > (1 << 32) - 600_000
    result = await udp.transmitter.transmit(answer(udp.receptions[0]))
    assert (result.ok, result.window) == (True, 0)
    await until(lambda: udp.sent)
    assert udp.sent[0].at == pytest.approx(heard.ended_at + 1, abs=3e-6)


async def test_the_antenna_gain_is_taken_off(udp: Udp) -> None:
    udp.known.add(antenna_gain_db=5.5)
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    strong = replace(RX2, data_rate=5, power_dbm=40)
    await udp.transmitter.transmit(answer(reception, strong))
    await until(lambda: udp.sent)
    # 27 dBm ERP in the strong sub-band are 29.15 dBm EIRP.
    assert udp.sent[0].power_dbm == 23


async def test_a_limited_power_is_told(udp: Udp) -> None:
    forwarder = await udp.forwarder(strongest_dbm=14)
    result = await udp.transmitter.transmit(answer(await uplink(udp, forwarder), RX1))
    assert (result.ok, result.detail) == (True, "TX_POWER: 14 dBm")


async def test_rx2_where_rx1_cannot_be_met_any_more(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    late = answer(reception, received_monotonic=time.monotonic() - 0.9)
    late = replace(late, context={"tmst": reception.context["tmst"] - 900_000})
    result = await udp.transmitter.transmit(late)
    assert (result.ok, result.window) == (True, 1)
    await until(lambda: udp.sent)
    assert (udp.sent[0].frequency_hz, udp.sent[0].data_rate) == (869_525_000, Lora(12, 125_000))


async def test_rx2_where_the_gateway_finds_rx1_too_late(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    # The server believes that there is time; the gateway's counter knows better.
    context = {"tmst": reception.context["tmst"] - 990_000}
    result = await udp.transmitter.transmit(replace(answer(reception), context=context))
    assert (result.ok, result.window) == (True, 1)


async def test_too_late_for_both(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    result = await udp.transmitter.transmit(answer(reception, received_monotonic=time.monotonic() - 3))
    assert (result.ok, result.error) == (False, TransmitError.TOO_LATE)
    assert result.detail.startswith("too_late: by ")
    assert result.detail.count("too_late") == 2
    assert udp.sent == []


async def test_two_answers_of_one_gateway_do_not_overlap(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    one, two = await uplink(udp, forwarder), await uplink(udp, forwarder)
    results = await asyncio.gather(
        udp.transmitter.transmit(answer(one, number=1)), udp.transmitter.transmit(answer(two, number=2))
    )
    assert [(result.id, result.ok, result.window) for result in results] == [(1, True, 0), (2, True, 1)]


async def test_silence_is_a_failure(udp: Udp) -> None:
    answers: list[bool] = [True]
    forwarder = await udp.forwarder(loses=lambda up: up and not answers)
    reception = await uplink(udp, forwarder)
    answers.clear()
    started = time.monotonic()
    result = await udp.transmitter.transmit(answer(reception, RX1))
    assert (result.ok, result.error) == (False, TransmitError.NO_CONFIRMATION)
    assert 1.4 < time.monotonic() - started < patient(3)
    # It may have been sent, so the duty cycle counts it.
    assert sum(udp.transmitter.duty_cycle(EUI).values()) > 0


@pytest.mark.parametrize(
    ("window", "error"),
    [
        (replace(RX1, frequency_hz=868_650_000), TransmitError.TX_FREQ),
        (replace(RX1, frequency_hz=915_000_000), TransmitError.TX_FREQ),
        (replace(RX1, data_rate=8), TransmitError.TX_FREQ),
        (replace(RX1, data_rate=99), TransmitError.TX_FREQ),
    ],
)
async def test_windows_that_are_not_for_sending(udp: Udp, window: Window, error: TransmitError) -> None:
    forwarder = await udp.forwarder()
    result = await udp.transmitter.transmit(answer(await uplink(udp, forwarder), window))
    assert (result.ok, result.error) == (False, error)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda udp: udp.known.gateways.clear(), TransmitError.NOT_ALLOWED),
        (lambda udp: udp.known.add(disabled=True), TransmitError.NOT_ALLOWED),
        (
            lambda udp: udp.registry.live(EUI).__setattr__("seen_monotonic", -1e6),
            TransmitError.GATEWAY_OFFLINE,
        ),
        (lambda udp: udp.server.drop(EUI), TransmitError.GATEWAY_OFFLINE),
    ],
)
async def test_gateways_that_cannot_send(
    udp: Udp, change: Callable[[Udp], object], error: TransmitError
) -> None:
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    change(udp)
    result = await udp.transmitter.transmit(answer(reception))
    assert (result.ok, result.error) == (False, error)


async def test_a_gateway_that_was_never_heard_is_offline(udp: Udp) -> None:
    udp.known.add(OTHER)
    result = await udp.transmitter.transmit(
        Transmission(id=1, gateway=OTHER, phy=DOWNLINK, windows=(ALWAYS,))
    )
    assert (result.ok, result.error) == (False, TransmitError.GATEWAY_OFFLINE)


async def test_a_reception_of_another_protocol_cannot_be_answered(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    result = await udp.transmitter.transmit(replace(answer(reception), context={"xtime": 1, "rctx": 0}))
    assert (result.error, result.detail) == (
        TransmitError.NOT_ALLOWED,
        "the reception has no time stamp of this gateway",
    )


async def test_what_exceeds_the_duty_cycle_is_refused_before_it_is_sent(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    await uplink(udp, forwarder)
    account = udp.transmitter._duty_cycles.account(EUI, blocking=False)
    account.book(868_100_000, 25.2, time.monotonic() - 100)
    ordinary = await udp.transmitter.transmit(answer(await uplink(udp, forwarder), RX1))
    assert (ordinary.ok, ordinary.error, ordinary.detail) == (
        False,
        TransmitError.DUTY_CYCLE,
        "at 868.1 MHz",
    )
    join = await udp.transmitter.transmit(answer(await uplink(udp, forwarder), RX1, priority=2))
    assert (join.ok, join.window) == (True, 0)
    other_band = await udp.transmitter.transmit(answer(await uplink(udp, forwarder)))
    assert (other_band.ok, other_band.window) == (True, 1)
    assert forwarder.counts.downlinks == 2


async def test_a_laboratory_may_exceed_the_duty_cycle(udp: Udp) -> None:
    udp.transmitter = transmit.GatewayTransmitter(udp.registry, udp.rates, unlimited=True)
    forwarder = await udp.forwarder()
    account = udp.transmitter._duty_cycles.account(EUI, blocking=False)
    account.book(868_100_000, 36, time.monotonic())
    result = await udp.transmitter.transmit(answer(await uplink(udp, forwarder), RX1))
    assert result.ok
    assert max(udp.transmitter.duty_cycle(EUI).values()) > 1


async def test_class_c_goes_out_at_once(udp: Udp) -> None:
    await udp.forwarder()
    started = time.monotonic()
    result = await udp.transmitter.transmit(Transmission(id=3, gateway=EUI, phy=DOWNLINK, windows=(ALWAYS,)))
    await until(lambda: udp.sent)
    assert (result.ok, result.window) == (True, 0)
    assert udp.sent[0].at - started < patient(1)
    assert (udp.sent[0].frequency_hz, udp.sent[0].data_rate) == (869_525_000, SF7)


async def test_class_c_frames_follow_one_another(udp: Udp) -> None:
    await udp.forwarder()
    results = await asyncio.gather(
        *(
            udp.transmitter.transmit(Transmission(id=number, gateway=EUI, phy=DOWNLINK, windows=(ALWAYS,)))
            for number in range(8)
        )
    )
    await until(lambda: len(udp.sent) == 8)
    assert [result.ok for result in results] == [True] * 8
    starts = sorted(one.at for one in udp.sent)
    assert all(after - before >= SF7_S for before, after in itertools.pairwise(starts))


async def test_class_c_gives_way_to_an_answer(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    slow = replace(ALWAYS, data_rate=2)
    always = [
        asyncio.create_task(
            udp.transmitter.transmit(Transmission(id=number, gateway=EUI, phy=DOWNLINK, windows=(slow,)))
        )
        for number in range(3)
    ]
    await asyncio.sleep(0)
    fixed = await udp.transmitter.transmit(answer(reception, RX1, number=9))
    results = await asyncio.gather(*always)
    assert (fixed.ok, fixed.window) == (True, 0)
    assert [result.ok for result in results] == [True] * 3
    await until(lambda: len(udp.sent) == 4)
    airtimes = [time_on_air_s(one.data_rate, len(DOWNLINK), crc=False) for one in udp.sent]
    times = sorted((one.at, one.at + air) for one, air in zip(udp.sent, airtimes, strict=True))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))


async def test_a_gateway_without_free_time_says_so(udp: Udp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transmit, "_PATIENCE_S", 0.5)
    await udp.forwarder()
    slow = replace(ALWAYS, data_rate=0)
    results = await asyncio.gather(
        *(
            udp.transmitter.transmit(Transmission(id=number, gateway=EUI, phy=DOWNLINK, windows=(slow,)))
            for number in range(3)
        )
    )
    assert [result.error for result in results] == [None, TransmitError.QUEUE_FULL, TransmitError.QUEUE_FULL]
    assert results[1].detail == "no free time within 0.5 s"


async def test_the_queue_of_a_gateway_is_bounded(udp: Udp) -> None:
    await udp.forwarder()
    frames = [
        asyncio.create_task(
            udp.transmitter.transmit(Transmission(id=number, gateway=EUI, phy=DOWNLINK, windows=(ALWAYS,)))
        )
        for number in range(70)
    ]
    await asyncio.sleep(0.1)
    full = [frame.result() for frame in frames if frame.done() and not frame.result().ok]
    for frame in frames:
        frame.cancel()
    await asyncio.gather(*frames, return_exceptions=True)
    assert [(result.error, result.detail) for result in full] == [
        (TransmitError.QUEUE_FULL, "64 frames are waiting")
    ] * 6
    # Who waited and was cancelled leaves no trace.
    assert sum(udp.transmitter.duty_cycle(EUI).values()) < 0.001


class Broken:
    """A link with a defect."""

    protocol = GatewayProtocol.GWMP
    chooses = False
    guard_s = 0.0
    late_s = 0.0

    async def send(self, order: Order) -> Confirmed:
        raise RuntimeError("a defect")

    def drop(self, eui: bytes) -> None:
        raise NotImplementedError


@pytest.mark.filterwarnings("ignore")
async def test_a_defect_is_a_failed_transmission(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    reception = await uplink(udp, forwarder)
    live = udp.registry.live(EUI)
    assert live is not None
    live.link = Broken()
    result = await udp.transmitter.transmit(answer(reception, RX1))
    assert (result.ok, result.error) == (False, TransmitError.NO_CONFIRMATION)


async def test_the_measured_way_decides_what_can_be_met(udp: Udp) -> None:
    forwarder = await udp.forwarder()
    live = udp.registry.live(EUI)
    assert live is not None
    for _ in range(5):
        live.measured_rtt(0.96)
    result = await udp.transmitter.transmit(answer(await uplink(udp, forwarder)))
    assert (result.ok, result.window) == (True, 1)
    assert live.rtt_s(0.9) == 0.96
    assert live.rtt_s(0.1) < 0.1  # type: ignore[operator]


async def test_closing_the_server_ends_waiting(udp: Udp) -> None:
    forwarder = await udp.forwarder(loses=lambda up: up and bool(udp.receptions))
    reception = await uplink(udp, forwarder)
    waiting = asyncio.create_task(udp.transmitter.transmit(answer(reception, RX1)))
    await asyncio.sleep(0.05)
    udp.server.close()
    result = await waiting
    assert (result.error, result.detail) == (TransmitError.GATEWAY_OFFLINE, "the server stops")
