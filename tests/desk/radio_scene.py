"""A radio network in both cities: gateways, devices with sessions, frames, downlinks, a peer and its ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from quartier.cities.models import Municipality
from quartier.cities.rules import SYSTEM
from quartier.lorawan import domain
from quartier.lorawan.domain import DeviceSettings
from quartier.lorawan.domain import peers as peer_rules
from quartier.lorawan.models import (
    DeviceProfile,
    Downlink,
    Frame,
    Gateway,
    GatewayHour,
    LoraDevice,
    MulticastGroup,
    Session,
)
from quartier.lorawan.models_roaming import LoraPeer, RoamingAgreement, RoamingDay, RoamingFrame
from quartier.lorawan.roaming.policy import day_of
from quartier.twin.models import Device, DeviceType, Thing
from tests.desk.scene import Scene
from tests.world import frame_days

APP_KEY = "000102030405060708090a0b0c0d0e0f"
GATEWAYS = {"dortmund": "0016c001f10000d0", "schwerte": "0016c001f10000a0"}
DEVICES = {"dortmund": "70b3d57ed00000d1", "schwerte": "70b3d57ed00000a1"}
PRIVATE = "0016c001f10000ff"
FRAMES = 24
STATUS = {
    "online": True,
    "address": "192.0.2.7:40000",
    "version": "2.0.6",
    "model": "linux",
    "rtt_median_s": 0.043,
    "noise_floor_dbm": -112.5,
    "channels": {"868100000": [80, 20], "868300000": [10, 30]},
    "duty_cycle": {"868.0-868.6": 0.12, "869.4-869.65": 0.81},
}


@dataclass(slots=True)
class Radio:
    """The rows that tests refer to."""

    now: datetime
    profiles: dict[str, DeviceProfile] = field(default_factory=dict)
    gateways: dict[str, Gateway] = field(default_factory=dict)
    devices: dict[str, LoraDevice] = field(default_factory=dict)
    downlinks: dict[str, Downlink] = field(default_factory=dict)
    groups: dict[str, MulticastGroup] = field(default_factory=dict)
    peers: dict[str, LoraPeer] = field(default_factory=dict)
    agreements: dict[str, RoamingAgreement] = field(default_factory=dict)


def build(scene: Scene) -> Radio:
    """Write it into the cities of the desk's scene."""
    radio = Radio(scene.now)
    radio.profiles["a"] = domain.save_profile(SYSTEM, "muster-a", name="Muster A", mac_version="1.0.3")
    radio.profiles["c"] = domain.save_profile(
        SYSTEM, "muster-c", name="Muster C", mac_version="1.0.4", device_class="C"
    )
    for slug in ("dortmund", "schwerte"):
        _city(radio, scene, slug)
    return radio


def _city(radio: Radio, scene: Scene, slug: str) -> None:
    city, now = scene.municipality(slug), radio.now
    gateway = domain.save_gateway(
        SYSTEM,
        city,
        GATEWAYS[slug],
        name=f"Rathaus {city.name}",
        place="Rathaus",
        lon=city.lon,
        lat=city.lat,
        height_above_ground_m=20,
        protocol="gwmp",
    )
    Gateway.objects.filter(pk=gateway.pk).update(last_seen_at=now, status=STATUS)
    hour = now.replace(minute=0, second=0, microsecond=0)
    GatewayHour.objects.create(
        gateway=gateway, hour=hour, received=40, accepted=30, foreign=4, sent=5, failed=1, airtime_s=2.5
    )
    radio.gateways[slug] = gateway
    device = _device(
        radio,
        city,
        DEVICES[slug],
        profile="a",
        name="Fühler",
        device_type=scene.device_type,
        thing=scene.things[slug],
    )
    radio.devices[slug] = device
    lamp = _device(radio, city, f"{DEVICES[slug][:-1]}c", profile="c", name="Leuchte")
    radio.devices[f"{slug} lamp"] = lamp
    Session.objects.create(
        device=device,
        dev_addr=0x00E20001 if slug == "schwerte" else 0x00E30001,
        mac_version="1.0.3",
        sealed_keys=b"never shown",
        uplink_counter=FRAMES,
        mac={"data_rate": 3, "power": 1, "margin_db": 7},
        gateway=bytes.fromhex(GATEWAYS[slug]),
        last_uplink_at=now,
    )
    _frames(device, now)
    sent = domain.enqueue(SYSTEM, device, b"\x01\xff", port=2, confirmed=True)
    Downlink.objects.filter(pk=sent.pk).update(
        state="sent", sent_at=now, gateway=GATEWAYS[slug], attempts=1, done_at=now
    )
    radio.downlinks[slug] = domain.enqueue(SYSTEM, device, b"\x02", port=3)
    radio.groups[slug] = domain.create_group(
        SYSTEM,
        city,
        f"Leuchten {city.name}",
        dev_addr="00ab00" + f"{city.pk % 200:02x}",
        key=APP_KEY,
        devices=[lamp],
    )
    _peer(radio, city, slug)


def _device(
    radio: Radio,
    city: Municipality,
    eui: str,
    *,
    profile: str,
    name: str,
    device_type: DeviceType | None = None,
    thing: Thing | None = None,
) -> LoraDevice:
    device = domain.register_device(
        SYSTEM,
        city,
        DeviceSettings(
            dev_eui=eui,
            name=f"{name} {city.name}",
            profile=radio.profiles[profile],
            join_eui="70b3d57ed0000000",
            keys={"app_key": APP_KEY},
            device_type=device_type,
        ),
        thing=thing,
        since=radio.now - timedelta(days=20),
    )
    Device.objects.filter(pk=device.device_id).update(last_seen_at=radio.now, rssi_dbm=-118, snr_db=-11)
    return device


def line(device: LoraDevice, at: datetime, **values: Any) -> Frame:
    """A line of the frame log, not saved."""
    default: dict[str, Any] = {
        "at": at,
        "municipality": device.municipality,
        "device_id": device.pk,
        "dev_eui": device.dev_eui,
        "direction": "up",
        "kind": "unconfirmed_up",
        "outcome": "accepted",
        "counter": 1,
        "port": 2,
        "size": 17,
        "data_rate": 3,
        "frequency_hz": 868_100_000,
        "gateways": [],
        "detail": {},
    }
    return Frame(**(default | values))


def _frames(device: LoraDevice, now: datetime) -> None:
    slug = device.municipality.slug
    other = GATEWAYS["dortmund" if slug == "schwerte" else "schwerte"]
    heard = [
        {"eui": GATEWAYS[slug], "rssi_dbm": -118.0, "snr_db": -11.0},
        {"eui": other, "rssi_dbm": -121.0, "snr_db": -12.0, "peer": "nachbar"},
    ]
    frames = [
        line(device, now - timedelta(minutes=5 * n), counter=FRAMES - n, gateways=heard)
        for n in range(1, FRAMES + 1)
    ]
    frames.append(
        line(device, now - timedelta(seconds=30), kind="confirmed_up", counter=FRAMES, gateways=heard,
             detail={"commands": ["LinkADRAns", "DevStatusAns"], "ack": True})
    )  # fmt: skip
    frames.append(
        line(device, now - timedelta(seconds=29), direction="down", kind="unconfirmed_down", outcome="ok", counter=4,
             port=None, size=14, gateways=[{"eui": GATEWAYS[slug]}],
             detail={"window": 0, "ack": True, "commands": ["LinkADRReq"]})
    )  # fmt: skip
    frames.append(line(device, now - timedelta(seconds=20), outcome="replay", counter=3, gateways=heard[:1]))
    frames.append(
        line(device, now - timedelta(seconds=10), device_id=None, dev_eui="", kind="join_request",
             outcome="unknown_device", counter=None, port=None, gateways=heard[:1],
             detail={"dev_eui": "ffffffffffff0001"})
    )  # fmt: skip
    frames.append(
        line(device, now - timedelta(seconds=5), device_id=None, dev_eui="", kind="gateway", outcome="unauthorised",
             counter=None, port=None, size=0, data_rate=0, frequency_hz=0, gateways=[{"eui": GATEWAYS[slug]}],
             detail={"detail": "wrong token or certificate", "protocol": "station", "address": "198.51.100.9"})
    )  # fmt: skip
    frame_days(one.at for one in frames)
    Frame.objects.bulk_create(frames)


def _peer(radio: Radio, city: Municipality, slug: str) -> None:
    now = datetime.now(UTC)
    peer = peer_rules.save_peer(
        SYSTEM,
        city,
        f"nachbar-{slug}",
        name=f"Nachbar von {city.name}",
        protocol="ts002-1.0",
        net_ids=["000000"],
        url="https://netz.example:8443/",
        fingerprints=["ab" * 32],
        secret={"keks": {"k1": "00" * 16}},
        kek_label="k1",
    )
    agreement = peer_rules.propose(
        SYSTEM,
        peer,
        "carry",
        purpose="Geräte an der Stadtgrenze",
        dev_addrs=["00e20000/16"],
        uplink_airtime_s_per_day=100.0,
        downlinks_per_day=50,
    )
    peer_rules.sign(SYSTEM, agreement)
    peer_rules.note_signature(SYSTEM, agreement, "B. Beispiel")
    radio.peers[slug], radio.agreements[slug] = peer, agreement
    eui = DEVICES[slug]
    for number, (state, direction) in enumerate(
        [("confirmed", "up"), ("confirmed", "up"), ("confirmed", "down"), ("open", "up"), ("refused", "down")]
    ):
        RoamingFrame.objects.create(
            peer=peer, agreement=agreement, we_carry=True, direction=direction, key=bytes([number]) * 16, at=now,
            day=day_of(now), kind="application", dev_addr=0x00E20001, dev_eui=eui, size=17, data_rate=3,
            airtime_us=206_000, classes="application signal_quality", state=state,
            result="budget" if state == "refused" else "",
        )  # fmt: skip
    RoamingDay.objects.create(
        peer=peer,
        day=(now - timedelta(days=40)).date(),
        we_carry=True,
        uplinks=7,
        reconciled_at=now,
        differences=0,
    )
    RoamingDay.objects.create(
        peer=peer,
        day=(now - timedelta(days=1)).date(),
        we_carry=False,
        uplinks=11,
        uplink_airtime_us=2_000_000,
        reconciled_at=now,
        differences=2,
    )
