"""The UDP server with virtual packet forwarders, and with datagrams that no forwarder would send."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from structlog.testing import capture_logs

from quartier.lorawan.frames.modulation import Fsk, Lora, LrFhss
from quartier.lorawan.gateways import metrics
from quartier.lorawan.gateways.registry import GatewayProtocol
from quartier.lorawan.gateways.udp import UdpServer
from quartier.lorawan.types import TransmitError
from quartier.virtual.lora.forwarder import PacketForwarder
from tests.lorawan.gateways.bench import EUI, OTHER, RX1, UPLINK, Bench, answer, hearing, until
from tests.lorawan.gateways.test_gwmp import LORA, push
from tests.patience import patient


class Udp(Bench):
    """With a UDP server."""

    port = 0

    def __init__(self, **limits: float) -> None:
        super().__init__(**limits)
        self.server = UdpServer(self.registry, self.rates, self)
        self._forwarders: list[PacketForwarder] = []

    async def start(self) -> None:
        self.port = await self.server.start("127.0.0.1", 0)

    async def forwarder(self, eui: bytes = EUI, **options: Any) -> PacketForwarder:
        """A forwarder whose route is open."""
        forwarder = PacketForwarder(eui, self.on_air, **options)
        self._forwarders.append(forwarder)
        await forwarder.start("127.0.0.1", self.port)
        await until(lambda: (live := self.registry.live(eui)) is not None and live.link is not None)
        return forwarder

    async def close(self) -> None:
        for forwarder in self._forwarders:
            await forwarder.close()
        self.server.close()


@pytest.fixture
async def udp() -> AsyncIterator[Udp]:
    bench = Udp()
    await bench.start()
    yield bench
    await bench.close()


class Raw:
    """A socket that sends anything."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.connect(("127.0.0.1", port))
        self._socket.setblocking(False)

    def send(self, datagram: bytes) -> None:
        self._socket.send(datagram)

    async def receive(self) -> bytes:
        async with asyncio.timeout(patient(5)):
            return await asyncio.get_running_loop().sock_recv(self._socket, 2000)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def raw(udp: Udp) -> Iterator[Raw]:
    one = Raw(udp.port)
    yield one
    one.close()


async def test_receptions_and_acknowledgements(udp: Udp) -> None:
    udp.known.add(lon=7.46, lat=51.51, private=True)
    forwarder = await udp.forwarder()
    loud = hearing()
    forwarder.heard(loud, hearing(frequency_hz=868_800_000, data_rate=Fsk(50_000), channel=9))
    await until(lambda: len(udp.receptions) == 2 and forwarder.counts.acknowledged)
    first, second = udp.receptions
    assert (first.gateway, first.phy, first.frequency_hz, first.data_rate) == (EUI, UPLINK, 868_100_000, 5)
    assert (first.rssi_dbm, first.snr_db, first.channel) == (-87, 7.5, 2)
    assert (first.lon, first.lat, first.private, first.peer) == (7.46, 51.51, True, "")
    assert first.context == {"tmst": forwarder.counter_us(loud.ended_at)}
    assert (second.frequency_hz, second.data_rate) == (868_800_000, 7)
    assert udp.refusals == []


async def test_status_and_keepalive_show_in_the_snapshot(udp: Udp) -> None:
    udp.known.add(municipality="dortmund", name="Dach")
    forwarder = await udp.forwarder(statistics_s=0.05)
    forwarder.heard(hearing(), hearing(snr_db=-5, rssi_dbm=-118))
    forwarder.heard(hearing(intact=False))
    await until(lambda: udp.registry.snapshot()[0].status.get("received") == 3)
    (one,) = udp.registry.snapshot(udp.transmitter.duty_cycle)
    assert (one.eui, one.municipality, one.name) == (EUI, "dortmund", "Dach")
    assert (one.protocol, one.online, one.address) == (GatewayProtocol.GWMP, True, "127.0.0.1")
    assert one.status["received_ok"] == 2
    assert one.status["temperature_c"] == 24.5
    assert {hz: (count.intact, count.broken) for hz, count in one.channels.items()} == {868_100_000: (2, 1)}
    assert one.noise_floor_dbm == pytest.approx(-119.19, abs=0.01)
    assert one.connected_at is not None
    assert one.connected_at <= one.seen_at  # type: ignore[operator]
    assert udp.reasons() == ["crc"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"intact": False}, "crc"),
        ({"frequency_hz": 915_000_000}, "unsupported"),
        ({"data_rate": Lora(5, 125_000)}, "unsupported"),
        ({"data_rate": LrFhss("1/3", 137_000)}, "unsupported"),
        ({"phy": b""}, "malformed"),
    ],
)
async def test_receptions_that_are_not_taken(udp: Udp, changes: dict[str, Any], reason: str) -> None:
    udp.known.add()
    forwarder = await udp.forwarder()
    forwarder.heard(hearing(**changes), hearing())
    await until(lambda: udp.receptions and udp.refusals)
    assert (len(udp.receptions), udp.reasons()) == (1, [reason])
    assert (udp.refusals[0].gateway, udp.refusals[0].address) == (EUI, "127.0.0.1")


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"\2", "malformed"),
        (b"\1\0\0\0" + EUI + b"{}", "malformed"),
        (b"\2\0\0\3{}", "malformed"),
        (b"\2\0\0\0" + EUI + b"{", "malformed"),
        (b"\2\0\0\0" + OTHER + b"{}", "unknown_gateway"),
        (b"\2\0\0\2" + OTHER, "unknown_gateway"),
        (b"\2\0\0\5" + EUI, "unsupported"),
    ],
)
async def test_datagrams_that_are_not_taken(udp: Udp, raw: Raw, datagram: bytes, reason: str) -> None:
    udp.known.add()
    raw.send(datagram)
    await until(lambda: udp.refusals)
    assert udp.reasons() == [reason]
    assert udp.receptions == []


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"disabled": True}, "gateway_disabled", ""),
        ({"protocol": GatewayProtocol.STATION}, "gateway_disabled", "is registered for station"),
        ({"networks": (ip_network("192.0.2.0/24"),)}, "wrong_network", "127.0.0.1"),
    ],
)
async def test_gateways_that_may_not(
    udp: Udp, raw: Raw, changes: dict[str, Any], reason: str, detail: str
) -> None:
    udp.known.add(**changes)
    raw.send(b"\2\0\0\0" + EUI + push(LORA))
    await until(lambda: udp.refusals)
    assert [(one.reason.value, one.detail) for one in udp.refusals] == [(reason, detail)]
    assert udp.receptions == []


async def test_a_gateway_may_speak_from_its_networks_only(udp: Udp, raw: Raw) -> None:
    udp.known.add(networks=(ip_network("127.0.0.1/32"),))
    raw.send(b"\2\7\7\0" + EUI + push(LORA | {"freq": 868.1}))
    assert await raw.receive() == b"\2\7\7\1"
    stranger = Raw(udp.port, "127.0.0.2")
    for _ in range(2):
        stranger.send(b"\2\0\0\0" + EUI + push(LORA | {"freq": 868.1}))
    await until(lambda: len(udp.refusals) == 2)
    stranger.close()
    assert udp.reasons() == ["wrong_network"] * 2
    assert len(udp.receptions) == 1


async def test_a_changed_address_is_told(udp: Udp, raw: Raw) -> None:
    udp.known.add(name="Dach")
    elsewhere = Raw(udp.port, "127.0.0.2")
    with capture_logs() as logs:
        for one in (raw, elsewhere):
            one.send(b"\2\0\0\0" + EUI + b"{}")
            await one.receive()
    elsewhere.close()
    told = [entry for entry in logs if entry["event"] == "gateway.address_changed"]
    assert [(entry["gateway"], entry["before"], entry["now"]) for entry in told] == [
        (EUI.hex(), "127.0.0.1", "127.0.0.2")
    ]
    assert udp.registry.snapshot()[0].address_changes == 1


async def test_a_flood_of_one_gateway_leaves_the_others_alone() -> None:
    udp = Udp(gateway_per_s=10, refusals_told_per_s=5)
    await udp.start()
    udp.known.add()
    udp.known.add(OTHER)
    raw = Raw(udp.port)
    for _ in range(50):
        raw.send(b"\2\0\0\0" + EUI + push(LORA | {"freq": 868.1}))
    raw.send(b"\2\0\0\0" + OTHER + push(LORA | {"freq": 868.1}))
    await until(lambda: any(one.gateway == OTHER for one in udp.receptions))
    await udp.close()
    raw.close()
    heard = sum(one.gateway == EUI for one in udp.receptions)
    assert 20 <= heard < 50
    assert udp.registry.snapshot()[0].refused == {"rate_limited": 50 - heard}
    # The log hears of some refusals, the counters of all.
    assert 0 < len(udp.refusals) <= 50 - heard


async def test_strangers_do_not_use_up_the_rate_of_a_gateway_behind_the_same_address() -> None:
    udp = Udp(stranger_per_s=1, source_per_s=20)
    await udp.start()
    udp.known.add()
    raw = Raw(udp.port)
    for _ in range(100):
        raw.send(b"\2\0\0\0" + OTHER + b"{}")
        raw.send(b"nonsense")
    raw.send(b"\2\0\0\0" + EUI + push(LORA | {"freq": 868.1}))
    await until(lambda: udp.receptions)
    await udp.close()
    raw.close()
    assert set(udp.reasons()) == {"unknown_gateway", "malformed", "rate_limited"}


@pytest.mark.parametrize(("private", "place"), [(False, {"lat": 46.24, "lon": 3.2523}), (True, {})])
async def test_the_place_of_a_private_gateway_is_not_kept(
    udp: Udp, raw: Raw, private: bool, place: dict[str, float]
) -> None:
    udp.known.add(private=private)
    raw.send(b"\2\0\0\0" + EUI + b'{"stat":{"lati":46.24,"long":3.2523,"rxnb":2,"odd":[1],"rxok":true}}')
    await raw.receive()
    await until(lambda: udp.registry.snapshot()[0].status)
    assert udp.registry.snapshot()[0].status == {"received": 2} | place


async def test_a_removed_gateway_is_let_go(udp: Udp) -> None:
    udp.known.add()
    forwarder = await udp.forwarder(keepalive_s=0.02)
    del udp.known.gateways[EUI]
    udp.registry.forget([EUI])
    forwarder.heard(hearing())
    await until(lambda: udp.refusals)
    assert udp.registry.live(EUI) is None
    assert udp.receptions == []


async def test_tx_acks_of_somebody_else_are_refused(udp: Udp, raw: Raw) -> None:
    udp.known.add()
    raw.send(b"\2\0\0\2" + EUI)
    assert await raw.receive() == b"\2\0\0\4"
    raw.send(b"\2\0\0\0" + EUI + push(LORA | {"freq": 868.1}))
    await raw.receive()
    await until(lambda: udp.receptions)
    sending = asyncio.create_task(udp.transmitter.transmit(answer(udp.receptions[0], RX1)))
    response = await raw.receive()
    assert json.loads(response[4:])["txpk"]["tmst"] == (LORA["tmst"] + 1_000_000) % (1 << 32)
    forger = Raw(udp.port, "127.0.0.2")
    forger.send(b"\2" + response[1:3] + b"\5" + EUI)
    raw.send(b"\2" + bytes((response[1], response[2] ^ 1)) + b"\5" + EUI)
    raw.send(b"\2" + response[1:3] + b"\5" + EUI + b"{")
    await until(lambda: len(udp.refusals) == 3)
    assert not sending.done()
    raw.send(b"\2" + response[1:3] + b"\5" + EUI + b'{"txpk_ack":{"error":"TX_FREQ"}}')
    result = await sending
    forger.close()
    assert sorted(udp.reasons()) == ["malformed", "unsupported", "wrong_network"]
    assert (result.ok, result.error, result.detail) == (False, TransmitError.TX_FREQ, "TX_FREQ")


async def test_many_datagrams_at_once_are_all_taken(udp: Udp) -> None:
    udp.known.add(OTHER)
    raw = Raw(udp.port)
    for number in range(500):
        raw.send(b"\2" + number.to_bytes(2) + b"\0" + OTHER + push(LORA | {"freq": 868.1}))
        if number % 50 == 49:
            await asyncio.sleep(0)
    await until(lambda: len(udp.receptions) == 500)
    raw.close()


async def test_what_the_kernel_dropped_is_counted(udp: Udp, raw: Raw) -> None:
    udp.known.add()
    assert udp.server._transport is not None
    udp.server._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    before = metrics.DROPPED._value.get()
    datagram = b"\2\0\0\0" + EUI + push(LORA | {"freq": 868.1})
    for _ in range(100):
        raw.send(datagram)
    udp.server.count_dropped()
    dropped = metrics.DROPPED._value.get() - before
    assert 0 < dropped < 100
    await until(lambda: len(udp.receptions) == 100 - dropped)
    udp.server.count_dropped()
    assert metrics.DROPPED._value.get() - before == dropped
