"""The server of Basics Stations with virtual Stations, and with clients that no Station would be."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.frames.modulation import Lora
from quartier.lorawan.gateways.registry import GatewayProtocol
from quartier.lorawan.gateways.station import StationServer
from quartier.lorawan.types import Reception, Transmission, TransmitError, TransmitResult
from quartier.virtual.lora.station import Station
from tests.lorawan.gateways.bench import (
    ALWAYS,
    DOWNLINK,
    EUI,
    OTHER,
    RX1,
    RX2,
    SF7,
    TOKEN,
    UPLINK,
    Bench,
    answer,
    hearing,
    until,
)
from tests.lorawan.gateways.test_station_messages import DATA
from tests.lorawan.gateways.test_transmit import SF7_S
from tests.patience import patient


class Lns(Bench):
    """With a server for Stations."""

    url = ""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.server = StationServer(self.registry, self.rates, self, **options)
        self._stations: list[Station] = []
        self._runner: web.AppRunner | None = None

    async def start(self, ssl: Any = None) -> None:
        application = web.Application()
        application.add_routes(self.server.routes())
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=ssl)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"{'wss' if ssl else 'ws'}://127.0.0.1:{port}"

    def station(self, eui: bytes = EUI, **options: Any) -> Station:
        """A Station that begins to connect."""
        with_defaults: dict[str, Any] = {"token": TOKEN, "first_backoff_s": 0.05} | options
        station = Station(eui, self.on_air, **with_defaults)
        self._stations.append(station)
        station.start(self.url)
        return station

    async def connected(self, **options: Any) -> Station:
        """A Station that is connected and configured."""
        station = self.station(**options)
        async with asyncio.timeout(10):
            await station.configured.wait()
        return station

    async def close(self) -> None:
        for station in self._stations:
            await station.close()
        await self.server.close()
        if self._runner is not None:
            await self._runner.cleanup()


async def uplink(lns: Lns, station: Station) -> Reception:
    """The reception of an uplink that ended just now."""
    before = len(lns.receptions)
    station.heard(hearing())
    await until(lambda: len(lns.receptions) > before)
    return lns.receptions[-1]


async def test_discovery_configuration_and_receptions(lns: Lns) -> None:
    lns.known.add(lon=7.46, lat=51.51)
    station = await lns.connected()
    assert station.config is not None
    assert station.config["region"] == "EU863"
    heard = hearing()
    station.heard(heard)
    await until(lambda: lns.receptions)
    (one,) = lns.receptions
    assert (one.gateway, one.phy, one.frequency_hz, one.data_rate) == (EUI, UPLINK, 868_100_000, 5)
    assert (one.rssi_dbm, one.snr_db, one.lon, one.lat) == (-87, 7.5, 7.46, 51.51)
    assert (one.gps_time_ms, one.fine_time_ns) == (None, None)
    assert one.context == {"xtime": station.xtime(heard.ended_at), "rctx": 0}
    (shown,) = lns.registry.snapshot()
    assert (shown.protocol, shown.online, shown.version, shown.model) == (
        GatewayProtocol.STATION,
        True,
        "2.0.6(virtual/quartier)",
        "virtual",
    )
    assert lns.known.sign_ins == [(EUI, hashlib.sha256(TOKEN.encode()).digest())] * 2
    assert lns.refusals == []


async def test_the_way_is_measured(lns: Lns) -> None:
    await lns.connected()
    live = lns.registry.live(EUI)
    assert live is not None
    await until(lambda: live._rtt_s)
    assert 0 <= live._rtt_s[0] < 1


@pytest.mark.parametrize(
    ("options", "changes", "reason", "detail"),
    [
        ({"token": "wrong"}, {}, "unauthorised", "wrong token or certificate"),
        ({"token": ""}, {}, "unauthorised", "neither token nor certificate"),
        ({}, {"credentials": ()}, "unauthorised", "no token or certificate is registered"),
        ({}, {"disabled": True}, "gateway_disabled", ""),
        ({"eui": OTHER}, {}, "unknown_gateway", ""),
    ],
)
async def test_stations_that_may_not(
    lns: Lns, options: dict[str, Any], changes: dict[str, Any], reason: str, detail: str
) -> None:
    lns.known.add(**changes)
    station = lns.station(**options)
    await until(lambda: station.refused)
    assert (lns.refusals[0].reason, lns.refusals[0].detail) == (reason, detail)
    assert station.refused == (f"{reason}: {detail}" if detail else reason)
    assert station.config is None
    # Without discovery neither.
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(f"{lns.url}/router/{options.get('eui', EUI).hex()}")


async def test_rx1_with_confirmation(lns: Lns) -> None:
    station = await lns.connected()
    heard = hearing()
    station.heard(heard)
    await until(lambda: lns.receptions)
    result = await lns.transmitter.transmit(answer(lns.receptions[0], number=7))
    assert replace(result, at=None) == TransmitResult(id=7, ok=True, window=0, gateway=EUI, airtime_s=SF7_S)
    (sent,) = lns.sent
    assert (sent.phy, sent.frequency_hz, sent.data_rate, sent.power_dbm) == (DOWNLINK, 868_100_000, SF7, 16)
    assert sent.at == pytest.approx(heard.ended_at + 1, abs=3e-6)
    # Only what was used is counted.
    assert sum(one > 0 for one in lns.transmitter.duty_cycle(EUI).values()) == 1


async def test_a_station_takes_rx2_where_its_own_account_forbids_rx1(lns: Lns) -> None:
    station = await lns.connected()
    station._free_at[100] = time.monotonic() + 60
    result = await lns.transmitter.transmit(answer(await uplink(lns, station)))
    assert (result.ok, result.window) == (True, 1)
    assert (lns.sent[0].frequency_hz, lns.sent[0].data_rate) == (869_525_000, Lora(12, 125_000))
    used = lns.transmitter.duty_cycle(EUI)
    assert [name for name, share in used.items() if share] == [lns.rates.region.sub_bands[4].name]


async def test_a_silent_drop_is_no_confirmation(lns: Lns) -> None:
    station = await lns.connected()
    station._free_at[100] = station._free_at[10] = time.monotonic() + 60
    started = time.monotonic()
    result = await lns.transmitter.transmit(answer(await uplink(lns, station), RX1))
    assert (result.ok, result.error) == (False, TransmitError.NO_CONFIRMATION)
    assert 1.4 < time.monotonic() - started < patient(3)
    assert station.dropped.reasons == ["duty_cycle"]
    assert lns.sent == []


async def test_the_servers_account_foresees_what_a_station_would_drop(lns: Lns) -> None:
    station = await lns.connected()
    first = await lns.transmitter.transmit(answer(await uplink(lns, station), RX1))
    second = await lns.transmitter.transmit(answer(await uplink(lns, station), RX1))
    assert (first.ok, second.ok, second.error) == (True, False, TransmitError.DUTY_CYCLE)
    assert station.dropped.reasons == []


async def test_class_c_and_multicast(lns: Lns) -> None:
    await lns.connected()
    # A multicast has no device.
    result = await lns.transmitter.transmit(Transmission(id=1, gateway=EUI, phy=DOWNLINK, windows=(ALWAYS,)))
    assert (result.ok, result.window) == (True, 0)
    assert (lns.sent[0].frequency_hz, lns.sent[0].power_dbm) == (869_525_000, 27)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"windows": (replace(RX1, delay_s=1.5),)}, "a Station cannot wait 1.5 s"),
        ({"windows": (replace(RX1, delay_s=16),)}, "a Station cannot wait 16 s"),
        ({"context": {"tmst": 5}}, "the reception has no xtime of this Station"),
    ],
)
async def test_what_a_station_cannot_do(lns: Lns, changes: dict[str, Any], detail: str) -> None:
    station = await lns.connected()
    result = await lns.transmitter.transmit(answer(await uplink(lns, station), **changes))
    assert (result.error, result.detail) == (TransmitError.NOT_ALLOWED, detail)


async def test_windows_further_apart_are_tried_one_by_one(lns: Lns) -> None:
    station = await lns.connected()
    result = await lns.transmitter.transmit(answer(await uplink(lns, station), RX1, replace(RX2, delay_s=4)))
    assert (result.ok, result.window) == (True, 0)


async def test_time_is_answered_and_offered() -> None:
    lns = Lns(offer_time=True)
    await lns.start()
    lns.known.add()
    station = await lns.connected()
    station.ask_time()
    await until(lambda: station.times)
    (answered,) = station.times
    assert abs(answered["gpstime"] / 1000 - gps_ms(datetime.now(UTC))) < 5000
    assert abs(answered["txtime"] / 1e6 - time.monotonic()) < 5
    heard = hearing()
    station.heard(heard)
    station.heard(hearing())
    await until(lambda: len(station.times) == 2 and len(lns.receptions) == 2)
    offered = station.times[1]
    assert offered["xtime"] == station.xtime(heard.ended_at)
    assert abs(offered["gpstime"] / 1000 - gps_ms(datetime.now(UTC))) < 5000
    await lns.close()


async def raw(lns: Lns, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
    """A connection that a program of ours makes in place of a Station."""
    return await session.ws_connect(
        f"{lns.url}/router/{EUI.hex()}", headers={"Authorization": f"Bearer {TOKEN}"}
    )


async def test_odd_messages_are_counted_and_the_connection_stays(lns: Lns) -> None:
    async with aiohttp.ClientSession() as session, await raw(lns, session) as socket:
        await socket.send_str("{")
        await socket.send_str(json.dumps({"msgtype": "alarm"}))
        await socket.send_bytes(b"\0\1")
        await socket.send_str(json.dumps({"msgtype": "dntxed", "diid": 5}))
        await socket.send_str(json.dumps(DATA | {"DR": 15}))
        await socket.send_str(json.dumps(DATA | {"Freq": 915_000_000}))
        await socket.send_str(json.dumps(DATA))
        await until(lambda: lns.receptions)
        assert not socket.closed
    assert lns.reasons() == ["malformed", *["unsupported"] * 5]
    assert [one.detail for one in lns.refusals[1:4]] == [
        "message 'alarm'",
        "binary message",
        "dntxed that nobody waits for",
    ]


async def test_nonsense_without_end_is_disconnected(lns: Lns) -> None:
    async with aiohttp.ClientSession() as session, await raw(lns, session) as socket:
        for _ in range(150):
            await socket.send_str("{")
        async with asyncio.timeout(10):
            assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    assert lns.registry.snapshot()[0].refused == {"malformed": 100}


async def test_too_large_messages_are_refused(lns: Lns) -> None:
    async with aiohttp.ClientSession() as session, await raw(lns, session) as socket:
        await socket.send_str(json.dumps(DATA | {"FRMPayload": "00" * 20_000}))
        async with asyncio.timeout(10):
            message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
    await until(lambda: lns.refusals)
    assert lns.reasons() == ["too_large"]
    assert lns.receptions == []


async def test_a_second_connection_replaces_the_first(lns: Lns) -> None:
    async with aiohttp.ClientSession() as session:
        first = await raw(lns, session)
        second = await raw(lns, session)
        async with asyncio.timeout(10):
            message = await first.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        await second.send_str(json.dumps(DATA))
        await until(lambda: lns.receptions)
        live = lns.registry.live(EUI)
        assert live is not None
        assert live.link is lns.server
        await second.close()
        await until(lambda: live.link is None)
    result = await lns.transmitter.transmit(answer(lns.receptions[0]))
    assert result.error is TransmitError.GATEWAY_OFFLINE


async def test_a_station_without_configuration_gets_no_frames(lns: Lns) -> None:
    async with aiohttp.ClientSession() as session, await raw(lns, session) as socket:
        await socket.send_str(json.dumps(DATA))
        await until(lambda: lns.receptions)
        result = await lns.transmitter.transmit(answer(lns.receptions[0]))
    assert (result.error, result.detail) == (
        TransmitError.GATEWAY_OFFLINE,
        "the Station is not connected",
    )


async def test_a_broken_connection_fails_what_waits_and_the_station_comes_back(lns: Lns) -> None:
    station = await lns.connected()
    reception = await uplink(lns, station)
    waiting = asyncio.create_task(lns.transmitter.transmit(answer(reception)))
    await asyncio.sleep(0.05)
    before = station._socket
    assert before is not None
    await before.close()
    result = await waiting
    assert (result.error, result.detail) == (TransmitError.NO_CONFIRMATION, "the connection broke")
    await until(lambda: station._socket is not before and station.configured.is_set())
    assert (await uplink(lns, station)).phy == UPLINK


async def test_a_removed_gateway_is_disconnected(lns: Lns) -> None:
    station = await lns.connected()
    del lns.known.gateways[EUI]
    lns.registry.forget([EUI])
    await until(lambda: station.refused)
    assert station.refused == "unknown_gateway"
    assert lns.registry.snapshot() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"credentials": (b"another",)}, "unauthorised"), ({"disabled": True}, "gateway_disabled")],
)
async def test_what_was_revoked_ends_with_the_next_message(
    lns: Lns, changes: dict[str, Any], reason: str
) -> None:
    async with aiohttp.ClientSession() as session, await raw(lns, session) as socket:
        lns.known.add(**changes)
        await socket.send_str(json.dumps(DATA))
        async with asyncio.timeout(10):
            message = await socket.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert (lns.reasons(), lns.receptions) == ([reason], [])
