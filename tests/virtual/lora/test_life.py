"""Devices of the fleet alone with the air: when they listen, send again, give up and remember."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from quartier.intake.codecs.calls import CodecError, Encoded
from quartier.intake.codecs.sandbox import CodecPool
from quartier.lorawan.frames.regions import EU868
from quartier.virtual.device_types import codec_source
from quartier.virtual.lora.ether import Ether
from quartier.virtual.lora.fleet import Member, fleet
from quartier.virtual.lora.gateway import Hearing
from quartier.virtual.lora.life import LAMP_PORT, Life
from quartier.virtual.lora.memory import Memory
from quartier.virtual.lora.plan import DEV_ADDRS, RadioPorts
from quartier.virtual.lora.radio import Radio
from quartier.virtual.lora.sites import sites
from quartier.virtual.schedule import Clock


class Ear:
    """A gateway that only listens."""

    def __init__(self) -> None:
        self.heard_frames: list[Hearing] = []
        self.twice = asyncio.Event()

    def heard(self, hearing: Hearing) -> None:
        self.heard_frames.append(hearing)
        if len(self.heard_frames) == 2:
            self.twice.set()


def member(what: str) -> Member:
    """The first of the fleet with that in its name."""
    return next(one for one in fleet(1).members if what in one.thing.name)


def alone(one: Member, *, speed: float, memory: Memory | None = None) -> tuple[Life, Ear]:
    """A device and the nearest gateway."""
    site = min(sites(), key=lambda site: site.place.distance_km(one.place))
    ether = Ether(Radio([site.place]))
    ear = Ear()
    ether.gateways[0] = ear
    life = Life(one, fleet(1), ether, Clock(time.time(), speed), memory or Memory(), seed=1)
    ether.listeners.append(life)
    return life, ear


def test_fleet_lives_in_both_cities() -> None:
    members = fleet(1).members
    assert Counter(one.device.municipality for one in members) == {"dortmund": 14, "schwerte": 11}
    assert Counter(one.version for one in members) == {"1.0.2": 2, "1.0.3": 11, "1.0.4": 8, "1.1.0": 4}
    assert Counter(one.device_class for one in members) == {"A": 20, "B": 1, "C": 4}
    assert sum(one.abp for one in members) == 2
    assert len({one.device.dev_eui for one in members}) == len({one.thing.key for one in members}) == 25
    assert len({key for one in members for name, key in one.keys.items() if name != "dev_addr"}) == 31
    for one in members:
        if one.abp:
            block, _, bits = DEV_ADDRS[one.device.municipality].partition("/")
            assert int(one.keys["dev_addr"], 16) >> 32 - int(bits) == int(block, 16) >> 32 - int(bits)


def test_border_devices_are_heard_by_both_cities() -> None:
    places = sites()
    both: set[str] = set()
    only_there: set[str] = set()
    for one in fleet(1).members:
        radio = Radio([site.place for site in places])
        for turn in range(10):
            flight = radio.up(
                one.place, bytes(25), frequency_hz=868_100_000, data_rate=EU868.data_rate(5), eirp_dbm=14.0,
                start_s=turn * 10.0, airtime_s=0.08,
            )  # fmt: skip
            cities = {places[number].municipality for number, _ in radio.heard_by_gateways(flight)}
            if len(cities) == 2:
                both.add(one.device.dev_eui)
            elif cities and one.device.municipality not in cities:
                only_there.add(one.device.dev_eui)
    assert len(both) >= 6
    assert only_there


def test_same_seed_same_fleet_another_seed_other_keys() -> None:
    fleet.cache_clear()
    again = fleet(1)
    fleet.cache_clear()
    assert fleet(1) == again
    assert {one.keys["app_key"] for one in fleet(1).members if not one.abp}.isdisjoint(
        one.keys["app_key"] for one in fleet(2).members if not one.abp
    )


async def test_unanswered_joins_back_off_and_reach_further() -> None:
    life, ear = alone(member("Klimasensor City"), speed=200.0)
    task = asyncio.create_task(life.live())
    try:
        await asyncio.wait_for(ear.twice.wait(), 60)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    first, second = ear.heard_frames[:2]
    # The join windows open after 5 and 6 s, in real time at any speed.
    assert second.ended_at - first.ended_at > 6.0
    assert first.phy[0] == second.phy[0] == 0
    assert first.phy[17:19] != second.phy[17:19]


def test_windows_of_a_class_a_device_are_short() -> None:
    life, _ = alone(member("Klimasensor Geisecke"), speed=1.0)
    radio = life._ether.radio
    emission = life.radio.uplink(b"\x01", 1)
    life._windows = tuple((window, 100.0 + (window.delay_s or 0)) for window in life.radio.windows())
    rx1, rx2 = life.radio.windows()

    def listens(start_s: float, hz: int, number: int) -> str | None:
        flight = radio.down(
            0, b"\x60" * 12, frequency_hz=hz, data_rate=EU868.data_rate(number), power_dbm=14.0,
            start_s=start_s, airtime_s=0.05,
        )  # fmt: skip
        return life._listening(flight)

    assert rx1.frequency_hz == emission.frequency_hz
    assert listens(101.0, rx1.frequency_hz, rx1.data_rate) == "RX1"
    assert listens(102.0, rx2.frequency_hz, rx2.data_rate) == "RX2"
    assert listens(101.2, rx1.frequency_hz, rx1.data_rate) is None
    assert listens(100.5, rx2.frequency_hz, rx2.data_rate) is None
    assert listens(101.0, rx1.frequency_hz, 0) is None


async def test_lamp_does_what_it_is_told() -> None:
    life, _ = alone(member("Leuchte City"), speed=1.0)
    kind = life.member.device.device_type
    assert life._payload() != b""
    for payload, dimming, power_w in (
        (b"\x62\x28", 40, 36 * 0.448),
        (b"\x62\x00", 0, 0.4),
        (b"\x62\xc8", 100, 36),
    ):
        life._obey(LAMP_PORT, payload)
        decoded = kind.format.unpack(life._payload())
        assert decoded == {"power": pytest.approx(power_w, abs=0.051), "dimming": dimming, "failure": False}
    life._obey(LAMP_PORT, b"\x62\xff")
    assert life.dimming is None
    for port, payload in ((LAMP_PORT, b"\x63\x28"), (LAMP_PORT, b"\x62"), (1, b"\x62\x28")):
        life._obey(port, payload)
        assert life.dimming is None


def test_nonces_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "radio.json"
    first = Memory(path)
    first.remember("025e00fffe010001", 7, None)
    first.remember("025e00fffe010002", 9, 3)
    again = Memory(path)
    assert (first.run, again.run) == (0, 1)
    assert again.nonces("025e00fffe010001") == (7, None)
    assert again.nonces("025e00fffe010002") == (9, 3)
    assert again.nonces("025e00fffe010003") == (0, None)
    assert json.loads(path.read_text())["run"] == 1
    one = member("Klimasensor Mengede")
    again.remember(one.device.dev_eui, 41, 5)
    life, _ = alone(one, speed=1.0, memory=Memory(path))
    life.radio.join()
    assert life.radio.dev_nonce == 42


@pytest.mark.parametrize("text", ["", "dortmund", "dortmund=1700", "dortmund=a:b", "=1:2"])
def test_server_addresses(text: str) -> None:
    assert RadioPorts.parse("dortmund=1700:3001") == ("dortmund", RadioPorts(1700, 3001))
    assert RadioPorts.parse(f"x={RadioPorts(1, 2, 3)}") == ("x", RadioPorts(1, 2, 3))
    with pytest.raises(ValueError, match="CITY=UDPPORT:STATIONPORT"):
        RadioPorts.parse(text)


async def test_codec_of_the_lamp_says_what_the_lamp_understands() -> None:
    life, _ = alone(member("Leuchte City"), speed=1.0)
    async with CodecPool(processes=1) as pool:
        for dimming, expected in ((40, 40), (0, 0), (99.6, 100), (None, None)):
            encoded = await pool.encode_downlink(codec_source("virtual-lamp"), {"dimming": dimming})
            assert isinstance(encoded, Encoded)
            assert encoded.port == LAMP_PORT
            life._obey(LAMP_PORT, encoded.payload)
            assert life.dimming == expected
        for wrong in (101, -1, "40", [40]):
            refused = await pool.encode_downlink(codec_source("virtual-lamp"), {"dimming": wrong})
            assert isinstance(refused, CodecError)
            assert "dimming" in refused.detail
