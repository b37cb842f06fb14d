"""The process ``radio``, as it is started: real datagrams in, readings and downlinks out, and killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
from asgiref.sync import sync_to_async
from nats.aio.msg import Msg

from quartier.engines import nats
from quartier.engines.bus import INBOX, Bus
from quartier.intake.inbox import decode
from quartier.lorawan.frames.modulation import DataRate
from quartier.lorawan.frames.phy import Data, parse
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.message import Up
from quartier.virtual.lora.air import Emission, Heard
from quartier.virtual.lora.device import Abp, Device, Otaa
from quartier.virtual.lora.forwarder import PacketForwarder
from quartier.virtual.lora.gateway import Hearing
from tests.lorawan.network.scene import until
from tests.patience import patient

if TYPE_CHECKING:
    from tests.world import World

GATEWAYS = (bytes.fromhex("b827ebfffe000001"), bytes.fromhex("b827ebfffe000002"))
EUI, JOIN_EUI = bytes.fromhex("70b3d57ed0000001"), bytes.fromhex("70b3d57ed0001000")
_up = msgspec.json.Decoder(Up)


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Radio:
    """The process, and how to start it again."""

    environment: dict[str, str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "quartier.cli.radio"],
                env=self.environment,
                stdout=output,
                stderr=output,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(patient(20))

    def said(self, text: str) -> int:
        return self.log.read_text(errors="replace").count(text)


@pytest.fixture
def radio(store: str, nats_server: nats.Server, bus: Bus, tmp_path: Path) -> Iterator[Radio]:
    from quartier.config import config

    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUARTIER_")}
    environment |= {
        "QUARTIER_DATA": str(config().data),
        "QUARTIER_SECRET_KEY": config().secret(),
        "QUARTIER_POSTGRES_URL": store,
        "QUARTIER_NATS_URL": nats_server.url,
        "QUARTIER_RADIO_UDP_PORT": str(port),
        "PYTHONPATH": "src",
    }
    made = Radio(environment, port, tmp_path / "radio.log")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop(signal.SIGKILL)


@dataclass
class Sky:
    """Two packet forwarders, and one device that both hear."""

    forwarders: list[PacketForwarder] = field(default_factory=list)
    device: Device | None = None
    heard: list[Heard] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    def transmit(
        self, at: float, phy: bytes, frequency_hz: int, data_rate: DataRate, power_dbm: float
    ) -> None:
        self.sent.append(phy)
        if self.device is not None:
            self.heard.append(self.device.receive(phy, "RX1"))

    def send(self, emission: Emission) -> None:
        for forwarder in self.forwarders:
            forwarder.heard(
                Hearing(
                    phy=emission.phy,
                    frequency_hz=emission.frequency_hz,
                    data_rate=EU868.data_rate(emission.data_rate),
                    rssi_dbm=-95,
                    snr_db=6.0,
                    ended_at=time.monotonic(),
                )
            )


@contextlib.asynccontextmanager
async def sky(port: int) -> AsyncIterator[Sky]:
    made = Sky()
    made.forwarders = [
        PacketForwarder(eui, made.transmit, keepalive_s=0.3, statistics_s=1.0) for eui in GATEWAYS
    ]
    for forwarder in made.forwarders:
        await forwarder.start("127.0.0.1", port)
    try:
        yield made
    finally:
        for forwarder in made.forwarders:
            await forwarder.close()


def register(world: World, **device: Any) -> Any:
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan import domain

    for eui in GATEWAYS:
        domain.save_gateway(SYSTEM, world.municipality, eui.hex(), name=eui.hex())
    profile = domain.save_profile(SYSTEM, "plain", adr=False, status_interval_s=0)
    return domain.register_device(
        SYSTEM,
        world.municipality,
        domain.DeviceSettings(dev_eui=EUI.hex(), name="Ventil", profile=profile, **device),
    )


async def ups(bus: Bus) -> list[Up]:
    state = (await bus.js.stream_info(INBOX)).state
    return [
        _up.decode(decode((await bus.js.get_msg(INBOX, seq=seq)).data or b"").body)
        for seq in range(state.first_seq, state.last_seq + 1)
    ]


async def test_nothing_is_opened_and_little_is_used_before_a_gateway_is_registered(
    world: World, radio: Radio
) -> None:
    radio.start()
    assert radio.process is not None
    process = psutil.Process(radio.process.pid)
    await until(lambda: process.cpu_times().user > 0.05 and process.status() == "sleeping", seconds=20)
    await asyncio.sleep(1)
    assert process.memory_full_info().uss < 60e6
    assert process.net_connections("udp") == []
    assert radio.stop() == 0


@pytest.mark.timeout(180)
async def test_join_reading_downlink_and_log_through_the_real_process(
    world: World, radio: Radio, bus: Bus
) -> None:
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan import domain
    from quartier.lorawan.models import Downlink, Frame, GatewayHour

    told: list[dict[str, Any]] = []

    async def tell(message: Msg) -> None:
        told.extend(json.loads(message.data))

    await bus.nc.subscribe("lorawan.frames.musterstadt", cb=tell)
    key = b"k" * 16
    lora = await sync_to_async(register)(world, join_eui=JOIN_EUI.hex(), keys={"app_key": key.hex()})
    radio.start()
    await until(lambda: radio.said("radio.listens"), seconds=30)
    async with sky(radio.port) as air:
        device = air.device = Device(
            Otaa(dev_eui=EUI, join_eui=JOIN_EUI, app_key=key), data_rate=5, adr=False
        )
        await until(lambda: all(one.answered_at for one in air.forwarders))
        air.send(device.join())
        await until(lambda: device.state is not None, seconds=20)
        downlink = await sync_to_async(domain.enqueue)(SYSTEM, lora, b"open", port=5, confirmed=True)
        await asyncio.sleep(0.3)
        air.heard.clear()
        air.send(device.uplink(b"\x01\x02", 7, confirmed=True))
        await until(lambda: air.heard)
        assert (air.heard[0].payload, air.heard[0].port, air.heard[0].acknowledged) == (b"open", 5, True)
        air.send(device.uplink(b"\x03", 7))
        await until(lambda: len([line for line in told if line["outcome"] == "accepted"]) == 3, seconds=20)
        (first, second) = await ups(bus)
        assert (first.dev_eui, first.data, second.data) == (EUI.hex(), b"\x01\x02", b"\x03")
        assert sorted(one.gateway for one in first.receptions) == [one.hex() for one in GATEWAYS]
        # A device that is registered meanwhile is known at once.
        await sync_to_async(domain.set_active)(SYSTEM, lora, False)
        await asyncio.sleep(0.5)
        air.send(device.uplink(b"\x04", 7))
        await until(lambda: told[-1]["outcome"] == "device_disabled", seconds=20)
    assert radio.stop() == 0
    await downlink.arefresh_from_db()
    assert (downlink.state, downlink.attempts, downlink.reason) == (Downlink.State.ACKNOWLEDGED, 1, "")
    lines = [line async for line in Frame.objects.order_by("id").values_list("direction", "outcome")]
    assert lines == [
        ("up", "accepted"), ("down", "ok"), ("up", "accepted"), ("down", "ok"), ("up", "accepted"),
        ("up", "device_disabled"),
    ]  # fmt: skip
    assert [told_line["outcome"] for told_line in told] == [outcome for _, outcome in lines]
    hours = [row async for row in GatewayHour.objects.values_list("received", "accepted", "sent", "failed")]
    assert sorted(hours) == [(4, 3, 0, 0), (4, 3, 2, 0)], radio.log.read_text()


@pytest.mark.timeout(180)
async def test_second_process_waits_and_takes_over(world: World, radio: Radio, tmp_path: Path) -> None:
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan import domain
    from quartier.lorawan.models import Downlink

    named = {"dev_addr": "00e20001", "nwk_s_key": (b"n" * 16).hex(), "app_s_key": (b"a" * 16).hex()}
    lora = await sync_to_async(register)(world, activation="abp", keys=named)
    downlink = await sync_to_async(domain.enqueue)(SYSTEM, lora, b"open", port=5)
    radio.start()
    await until(lambda: radio.said("radio.listens"), seconds=30)
    # As the first would have it while a gateway transmits.
    await Downlink.objects.filter(id=downlink.id).aupdate(state=Downlink.State.SENDING)
    second = Radio(radio.environment, radio.port, tmp_path / "second.log")
    second.start()
    try:
        await until(lambda: second.said("radio.waits_for_another_process"), seconds=30)
        await downlink.arefresh_from_db()
        assert (downlink.state, downlink.reason) == (Downlink.State.SENDING, "")
        radio.stop(signal.SIGKILL)
        await until(lambda: second.said("radio.listens"), seconds=30)
    finally:
        assert second.stop() == 0
    await downlink.arefresh_from_db()
    assert (downlink.state, downlink.reason) == (Downlink.State.FAILED, "interrupted")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_under_load_it_takes_no_frame_twice_and_uses_no_counter_again(
    world: World, radio: Radio, bus: Bus
) -> None:
    from quartier.lorawan.frames.crypto import session_1_0
    from quartier.lorawan.models import Session

    keys = session_1_0(b"n" * 16, b"a" * 16)
    named = {"dev_addr": "00e20001", "nwk_s_key": (b"n" * 16).hex(), "app_s_key": (b"a" * 16).hex()}
    await sync_to_async(register)(world, activation="abp", keys=named)
    device = Device(Abp(dev_addr=0x00E2_0001, session=keys), data_rate=5, adr=False)
    assert device.state is not None
    answers: dict[int, set[bytes]] = {}
    for turn in range(6):
        radio.start()
        await until(lambda turn=turn: radio.said("radio.listens") == turn + 1, seconds=30)
        async with sky(radio.port) as air:
            await until(lambda air=air: all(one.answered_at for one in air.forwarders))
            deadline = time.monotonic() + 2.5 + 0.137 * turn
            while time.monotonic() < deadline:
                counter = device.state.next_up
                air.send(device.uplink(counter.to_bytes(4), 1, confirmed=True))
                await asyncio.sleep(0.03)
            radio.stop(signal.SIGKILL)
            for sent in air.sent:
                frame = parse(sent)
                assert isinstance(frame, Data)
                assert frame.ack
                answers.setdefault(frame.frame_counter, set()).add(sent)
    taken = [(up.counter, up.data) for up in await ups(bus)]
    assert len(taken) > 50
    assert len(answers) > 20
    assert taken == sorted(set(taken)), "a frame was taken twice, or a counter went back"
    assert all(data == counter.to_bytes(4) for counter, data in taken)
    # One frame may go out by two gateways; two frames never have the same counter.
    assert {counter: len(frames) for counter, frames in answers.items() if len(frames) > 1} == {}
    row = await Session.objects.aget()
    assert row.uplink_counter >= taken[-1][0]
    assert row.network_downlink_counter > max(answers)
