"""A network server without roaming gets its devices' frames from one gateway that is none.

Schwerte's server knows only gateways here; Dortmund plays one of them, by UDP or WebSocket.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.gateways.registry import GatewayProtocol
from quartier.lorawan.gateways.station import StationServer
from quartier.lorawan.gateways.udp import UdpServer
from quartier.lorawan.roaming.peers import Devices, Direction, Peer, PeerProtocol, VirtualGateway, ranges
from quartier.lorawan.types import Transmission, TransmitError, Window
from tests.lorawan.gateways.bench import TOKEN, Bench
from tests.lorawan.network.scene import JOIN_EUI, Scene, until
from tests.lorawan.roaming.scene import THEIR_SECOND, THEIRS, Border, agreement

VIRTUAL = bytes.fromhex("fe00000000000d0d")


class Second(Bench):
    """The gateway side of a network server that is not Quartier's roaming: its real servers for gateways."""

    def __init__(self, border: Border) -> None:
        super().__init__()
        self.network = border.schwerte.network
        border.schwerte.transmitters[""] = self.transmitter

    def receive(self, reception: Any) -> None:
        super().receive(reception)
        self.network.receive(reception)


@asynccontextmanager
async def connected(border: Border, protocol: PeerProtocol, **changes: Any) -> AsyncIterator[Second]:
    """Dortmund as a gateway of Schwerte's server."""
    second = Second(border)
    if protocol is PeerProtocol.GWMP:
        second.known.add(VIRTUAL)
        udp = UdpServer(second.registry, second.rates, second)
        gateway = VirtualGateway(eui=VIRTUAL, host="127.0.0.1", port=await udp.start("127.0.0.1", 0))
        close = udp.close
    else:
        second.known.add(VIRTUAL, protocol=GatewayProtocol.STATION)
        station = StationServer(second.registry, second.rates, second)
        application = web.Application()
        application.add_routes(station.routes())
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
        gateway = VirtualGateway(eui=VIRTUAL, url=url, token=TOKEN)
    peer = Peer(
        id=1,
        key="schwerte",
        name="Schwerte",
        protocol=protocol,
        gateway=gateway,
        agreements=(
            agreement(
                Direction.CARRY,
                **(
                    {
                        "devices": Devices(
                            dev_addrs=ranges(["00000000/7"], 32), join_euis=ranges([JOIN_EUI.hex()], 64)
                        )
                    }
                    | changes
                ),
            ),
        ),
    )
    await border.dortmund.roaming.use([peer])
    try:
        await until(lambda: border.dortmund.roaming.forwarding.links["schwerte"].connected)
        await until(lambda: (live := second.registry.live(VIRTUAL)) is not None and live.link is not None)
        yield second
    finally:
        await border.dortmund.roaming.use([])
        if protocol is PeerProtocol.GWMP:
            close()
        else:
            await runner.cleanup()


BOTH = pytest.mark.parametrize("protocol", [PeerProtocol.GWMP, PeerProtocol.STATION])


@BOTH
async def test_uplinks_go_there_and_downlinks_come_back(
    border: Border, scene: Scene, protocol: PeerProtocol
) -> None:
    async with connected(border, protocol):
        device = await scene.abp()
        emission = device.uplink(b"\x2a", 7, confirmed=True)
        border.dortmund.hear(emission, {THEIRS: 2.0, THEIR_SECOND: 8.5})
        await until(lambda: border.dortmund.sky.heard)
        await border.idle()
        (up,) = await scene.ups()
        # One gateway, with the best of what ours have heard.
        assert [(r.gateway, r.snr, r.rssi) for r in up.receptions] == [(VIRTUAL.hex(), 8.5, -100)]
        (sent,) = border.dortmund.sky.sent
        assert (sent.gateway, sent.windows[0].delay_s) == (THEIR_SECOND, 1.0)
        assert sent.windows[0].frequency_hz == emission.frequency_hz
        assert border.dortmund.sky.heard[0].acknowledged
        (line,) = [one for one in scene.lines() if one.direction == "down"]
        assert line.outcome == "ok"
    rows = await border.dortmund.rows(we_carry=True)
    assert [(r["direction"], r["state"]) for r in rows] == [("up", "confirmed"), ("down", "confirmed")]


@BOTH
async def test_device_joins_through_it(border: Border, scene: Scene, protocol: PeerProtocol) -> None:
    async with connected(border, protocol):
        device = await scene.otaa()
        border.dortmund.hear(device.join(), [THEIRS])
        await until(lambda: device.state is not None, seconds=15)
        assert border.dortmund.sky.sent[0].windows[0].delay_s == 5.0
        await border.idle()


async def test_refusal_of_our_gateway_reaches_the_server(border: Border, scene: Scene) -> None:
    async with connected(border, PeerProtocol.GWMP):
        border.dortmund.sky.failures = [TransmitError.COLLISION_PACKET] * 4
        device = await scene.abp()
        border.dortmund.hear(device.uplink(b"\x2a", 7, confirmed=True), [THEIRS])
        await until(lambda: [one for one in scene.lines() if one.direction == "down"])
        (line,) = [one for one in scene.lines() if one.direction == "down"]
        assert line.outcome == "collision_packet"
        await border.idle()


@BOTH
async def test_agreement_holds_for_virtual_gateways_too(
    border: Border, scene: Scene, protocol: PeerProtocol
) -> None:
    async with connected(border, protocol, devices=Devices(dev_addrs=ranges(["01000000/8"], 32))) as second:
        device = await scene.abp()
        border.dortmund.hear(device.uplink(b"\x2a", 7), [THEIRS])
        await border.idle()
        assert second.receptions == []
    assert await border.dortmund.rows(we_carry=True) == []


async def test_class_c_goes_out_at_once(border: Border, scene: Scene) -> None:
    from asgiref.sync import sync_to_async

    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import enqueue

    async with connected(border, PeerProtocol.GWMP):
        profile = await scene.profile_of("c", name="C", adr=False, status_interval_s=0, device_class="C")
        device = await scene.abp(profile=profile, device_class="C")
        border.dortmund.hear(device.uplink(b"\x01", 7), [THEIRS])
        await until(lambda: scene.store.directory.devices[scene.eui_of(device)].session.gateway is not None)  # type: ignore[union-attr]
        await border.idle()
        row = await scene.row(device)
        await sync_to_async(enqueue)(SYSTEM, row, port=9, payload=b"on")
        await scene.store.reload()
        border.schwerte.network.wake()
        await until(lambda: border.dortmund.sky.sent)
        (sent,) = border.dortmund.sky.sent
        assert (sent.windows[0].delay_s, sent.gateway, sent.context) == (None, THEIRS, {})
        await until(lambda: border.dortmund.sky.heard)
        assert border.dortmund.sky.heard[0].payload == b"on"
        await border.idle()


async def test_a_ping_slot_is_refused_rather_than_missed(border: Border, scene: Scene) -> None:
    async with connected(border, PeerProtocol.GWMP) as second:
        device = await scene.abp()
        border.dortmund.hear(device.uplink(b"\x2a", 7), [THEIRS])
        await until(lambda: second.receptions)
        live = second.registry.live(VIRTUAL)
        assert live is not None
        assert device.state is not None
        # Their server believes that this gateway has GPS time.
        live.gps.tell(gps_ms(datetime.now(UTC)), time.monotonic())
        phy = b"\x60" + device.state.dev_addr.to_bytes(4, "little") + bytes(7)
        window = Window(frequency_hz=869_525_000, data_rate=3, delay_s=None)
        at_ms = gps_ms(datetime.now(UTC)) + 3000
        frame = Transmission(id=9, gateway=VIRTUAL, phy=phy, windows=(window,), gps_time_ms=at_ms)
        result = await second.transmitter.transmit(frame)
        assert (result.ok, result.error) == (False, TransmitError.GPS_UNLOCKED)
        assert border.dortmund.sky.sent == []
        await border.idle()
