"""Registers the virtual cities' own radio networks for the demo: gateways, profiles, devices with keys, and each
network as the other's peer.

Each city runs a network server of its own. What they agreed is what a neighbour would sign: public gateways, all
devices, every class of data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any, Final

from quartier.cli.common import actor
from quartier.virtual.lora.fleet import Fleet, fleet
from quartier.virtual.lora.plan import DEV_ADDRS, JOIN_EUIS, NET_IDS, RadioPorts
from quartier.virtual.lora.radio import CHANNELS_HZ
from quartier.virtual.lora.sites import sites, token_of

if TYPE_CHECKING:
    from quartier.cities.models import Municipality
    from quartier.lorawan.models import DeviceProfile
    from quartier.lorawan.models_roaming import LoraPeer
    from quartier.twin.models import DeviceType, Thing

PEERS: Final = {"dortmund": "schwerte", "schwerte": "dortmund"}
_SEED: Final = 1
_KEPT_DAYS: Final = 30
_DEFAULT_CHANNELS: Final = 3


def seed_radio(
    municipalities: Mapping[str, Municipality],
    things: Mapping[str, Thing],
    types: Mapping[str, DeviceType],
    ports: Mapping[str, RadioPorts],
) -> None:
    """Bring gateways, devices and peers up to date; what somebody has changed on the desk stays."""
    everyone = fleet(_SEED)
    _gateways(municipalities)
    _devices(everyone, municipalities, things, types)
    _peers(municipalities, ports)


def _gateways(municipalities: Mapping[str, Municipality]) -> None:
    from quartier.lorawan.domain import save_gateway  # noqa: PLC0415 (needs Django set up)
    from quartier.lorawan.models import Gateway  # noqa: PLC0415

    there = set(Gateway.objects.values_list("eui", flat=True))
    for site in sites():
        if site.eui.hex() in there:
            continue
        token = hashlib.sha256(token_of(site, _SEED).encode()).hexdigest()
        save_gateway(
            actor(),
            municipalities[site.municipality],
            site.eui.hex(),
            name=site.name,
            protocol=site.protocol,
            place=f"{site.roof}, {site.neighbourhood} (simuliert)",
            lon=site.place.lon,
            lat=site.place.lat,
            altitude_m=site.place.altitude_m,
            height_above_ground_m=site.place.height_m,
            antenna_gain_dbi=site.place.gain_dbi,
            private=not site.public,
            # Without beacons no device would come into class B.
            beacon=site.gps,
            networks=["127.0.0.0/8"],
            credentials=[token] if site.protocol == "station" else [],
        )


def _profiles(everyone: Fleet) -> dict[str, DeviceProfile]:
    from quartier.lorawan.domain import save_profile  # noqa: PLC0415
    from quartier.lorawan.models import DeviceProfile  # noqa: PLC0415

    found = {row.key: row for row in DeviceProfile.objects.all()}
    for one in everyone.members:
        if one.profile not in found:
            found[one.profile] = save_profile(
                actor(),
                one.profile,
                name=f"LoRaWAN {one.version}, Klasse {one.device_class} (virtuelle Stadt)",
                mac_version=one.version,
                device_class=one.device_class,
                extra_frequencies_hz=list(CHANNELS_HZ[_DEFAULT_CHANNELS:]),
            )
    return found


def _devices(
    everyone: Fleet,
    municipalities: Mapping[str, Municipality],
    things: Mapping[str, Thing],
    types: Mapping[str, DeviceType],
) -> None:
    from quartier.lorawan.domain import DeviceSettings, register_device  # noqa: PLC0415
    from quartier.lorawan.domain.changes import notify  # noqa: PLC0415
    from quartier.lorawan.models import LoraDevice  # noqa: PLC0415

    there = set(LoraDevice.objects.values_list("dev_eui", flat=True))
    new = [one for one in everyone.members if one.device.dev_eui not in there]
    if not new:
        return
    profiles = _profiles(everyone)
    for one in new:
        register_device(
            actor(),
            municipalities[one.device.municipality],
            DeviceSettings(
                dev_eui=one.device.dev_eui,
                name=one.device.name,
                profile=profiles[one.profile],
                activation="abp" if one.abp else "otaa",
                join_eui=one.join_eui,
                keys=one.keys,
                device_type=types[one.device.type],
                expected_interval_s=one.device.expected_interval_s,
                # A virtual ABP device is made anew with every start, and counts from 0 again.
                counter_reset=one.abp,
                firmware="virtual 1.0",
            ),
            thing=things[one.thing.key],
            since=datetime.combine(one.device.installed_on, time(), UTC),
            log=False,
        )
    notify()


def _peers(municipalities: Mapping[str, Municipality], ports: Mapping[str, RadioPorts]) -> None:
    """Each city knows the other's network, and how to prove who it is."""
    from quartier.lorawan.domain.peers import make_bearer, save_peer  # noqa: PLC0415
    from quartier.lorawan.models_roaming import LoraPeer  # noqa: PLC0415

    there = {row.key: row for row in LoraPeer.objects.all()}
    made: dict[str, LoraPeer] = {}
    for city, other in PEERS.items():
        key, url = f"funknetz-{other}", f"http://127.0.0.1:{ports[other].roaming}"
        known = there.get(key)
        if known is not None:
            if known.url != url:
                save_peer(actor(), municipalities[city], key, url=url)
            continue
        made[city] = save_peer(
            actor(),
            municipalities[city],
            key,
            name=f"Funknetz {municipalities[other].name}",
            protocol=LoraPeer.Protocol.TS002_1_1,
            net_ids=[NET_IDS[other]],
            join_euis=[JOIN_EUIS[other]],
            url=url,
            contact=f"quartier@{other}.example",
        )
    for city, peer in made.items():
        other = PEERS[city]
        # What the other side shows when it calls us is made here and handed over there.
        theirs = made.get(other) or there[f"funknetz-{city}"]
        save_peer(
            actor(), municipalities[other], theirs.key, secret={"authorization": make_bearer(actor(), peer)}
        )
        for direction, whose in (("carry", other), ("carried", city)):
            _agree(peer, direction, whose, signed_there_by=municipalities[other].name)


def _agree(peer: LoraPeer, direction: str, whose: str, *, signed_there_by: str) -> None:
    from quartier.lorawan.domain.peers import note_signature, propose, sign  # noqa: PLC0415

    terms: dict[str, Any] = {
        "dev_addrs": [DEV_ADDRS[whose].lower()],
        "join_euis": [JOIN_EUIS[whose]],
        "uplink_airtime_s_per_day": 3600,
        "downlink_airtime_s_per_day": 1800,
        "purpose": "Geräte an der Stadtgrenze erreichen (Demo)",
        "retention_days": _KEPT_DAYS,
    }
    agreement = propose(actor(), peer, direction, **terms)
    sign(actor(), agreement)
    note_signature(actor(), agreement, f"Stadt {signed_there_by} (Demo)")
