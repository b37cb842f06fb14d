"""The JSON documents of the virtual ELEMENT IoT server: folders, devices, packets and readings.

Keys and shapes are those of a real server's answers. As there, a device's document carries its keys; these are
invented, but whoever reads the document must drop them all the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .messages import (
    READING_DELAY_US,
    device_id,
    from_us,
    iso,
    message_id,
    payload_of,
    reported_time,
    secret_of,
    uuid_of,
)
from .noise import key_of, mix
from .payloads import PayloadError
from .radio import Radio, airtime_ms
from .schedule import Schedule, Transmission
from .world import Device, World

ROOT = "Virtuelles Dortmund"
FOLDER_OF_TYPE = {
    "decentlab-dl-sht35": "Klimasensoren / aktiv / SHT35",
    "decentlab-dl-atm41": "Klimasensoren / aktiv / ATM41",
    "decentlab-dl-blg": "Klimasensoren / aktiv / Blackglobe",
    "virtual-level": "Pegel",
    "virtual-parking": "Parken / Stellplätze",
    "virtual-carpark": "Parken / Parkhäuser",
    "virtual-waste": "Wertstoffcontainer",
    "virtual-soil": "Stadtbäume",
    "virtual-lamp": "Straßenbeleuchtung",
    "virtual-counter": "Verkehrszählung",
}
PROFILE_FIELDS = (
    ("hersteller", "Hersteller", "string"),
    ("geratetyp", "Gerätetyp", "string"),
    ("seriennummer", "Seriennummer", "string"),
    ("strasse", "Strasse", "string"),
    ("hausnummer", "Hausnummer", "string"),
    ("plz", "PLZ", "integer"),
    ("ort", "Ort", "string"),
    ("bemerkung", "Bemerkung", "string"),
    ("installationsdatum", "Installationsdatum", "date"),
)
UMLAUTS = {ord("ä"): "a", ord("ö"): "o", ord("ü"): "u", ord("ß"): "ss"}
MADE_AT = datetime(2024, 2, 1, 9, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder (the API says "tag") and its ancestors' ids from the root down, itself included."""

    id: str
    slug: str
    name: str
    path: tuple[str, ...]
    inserted_at: str


def slug_of(name: str) -> str:
    """How ELEMENT makes the slug of a name."""
    plain = name.lower().translate(UMLAUTS)
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def document_id(world: World, name: str) -> str:
    """The identifier of one of the few documents that are named by text."""
    return uuid_of(world.seed, 503, key_of(name))


class Documents:
    """Builds the documents of one server."""

    def __init__(self, schedule: Schedule, radio: Radio) -> None:
        self.schedule = schedule
        self.world = schedule.world
        self.radio = radio
        self.devices = schedule.devices
        self.mandate_id = document_id(self.world, "mandate")
        self.driver_id = document_id(self.world, "driver")
        self.folders = self._make_folders()
        self._folder_of_type = {
            kind: self.folders[slug_of(f"{ROOT} / {leaf}")] for kind, leaf in FOLDER_OF_TYPE.items()
        }
        self._ids = {device.index: device_id(self.world, device) for device in self.devices}

    def _make_folders(self) -> dict[str, Folder]:
        names = {ROOT}
        for leaf in FOLDER_OF_TYPE.values():
            parts = leaf.split(" / ")
            names |= {" / ".join([ROOT, *parts[: depth + 1]]) for depth in range(len(parts))}
        found = {}
        for number, name in enumerate(sorted(names)):
            parts = name.split(" / ")
            path = tuple(
                document_id(self.world, " / ".join(parts[: depth + 1])) for depth in range(len(parts))
            )
            found[slug_of(name)] = Folder(
                path[-1], slug_of(name), name, path, iso(MADE_AT + timedelta(minutes=17 * number))
            )
        return found

    def folder_of(self, device: Device) -> Folder:
        """The folder a device lies in."""
        return self._folder_of_type[device.type]

    def devices_in(self, folder: Folder) -> list[Device]:
        """The devices in a folder and in the folders below it."""
        return [device for device in self.devices if folder.id in self.folder_of(device).path]

    def id_of(self, device: Device) -> str:
        """The server's identifier of a device."""
        return self._ids[device.index]

    def parser_id(self, device: Device) -> str:
        """The identifier of the parser that decodes a device's packets."""
        return document_id(self.world, f"parser {device.type}")

    def folder(self, folder: Folder, *, detailed: bool = False) -> dict[str, Any]:
        """A folder's document; inside a single device's document it has two more keys."""
        document: dict[str, Any] = {"stats": None}
        if detailed:
            document |= {"profile_data": [], "fields": {}}
        return document | {
            "updated_at": folder.inserted_at,
            "inserted_at": folder.inserted_at,
            "group_interface_id": None,
            "default_devices_view_id": None,
            "default_packets_view_id": None,
            "default_readings_view_id": None,
            "default_graph_preset_id": None,
            "default_layers_id": None,
            "parent_id": folder.path[-2] if len(folder.path) > 1 else None,
            "mandate_id": self.mandate_id,
            "path": list(folder.path),
            "slug": folder.slug,
            "color_hue": 200,
            "description": None,
            "name": folder.name,
            "id": folder.id,
        }

    def inserted_at(self, device: Device) -> datetime:
        """When a device was entered into the server: some days before it was mounted."""
        start = datetime.combine(device.installed_on, datetime.min.time(), UTC)
        return start - timedelta(days=9, minutes=mix(device.seed, 601) % 600)

    def device(self, device: Device, *, detailed: bool) -> dict[str, Any]:
        """A device's document, as in a list, or detailed with its profile."""
        thing = self.world.thing_of(device)
        now_us = self.schedule.clock.now_us()
        last = self.schedule.last_sent(device, now_us)
        document: dict[str, Any] = {
            "interfaces": [self._interface(device, last)],
            "tags": [self.folder(self.folder_of(device), detailed=detailed)],
            "last_readings": [],
        }
        if detailed:
            document |= self._profile(device)
        made = iso(self.inserted_at(device))
        return document | {
            "stats": self._stats(device, last),
            "updated_at": made,
            "inserted_at": made,
            "deleted_at": None,
            "default_packets_view_id": None,
            "default_readings_view_id": None,
            "template_id": None,
            "default_graph_preset_id": None,
            "default_layers_id": None,
            "mandate_id": self.mandate_id,
            "parser_id": self.parser_id(device),
            "static_location": False,
            "icon": "devices",
            "slug": device.name.lower(),
            "meta": None,
            "location": {"coordinates": [thing.lon, thing.lat], "type": "Point"},
            "name": device.name,
            "id": self.id_of(device),
        }

    def interface_id(self, device: Device) -> str:
        """The identifier of a device's radio interface."""
        return uuid_of(self.world.seed, 504, device.index)

    def _interface(self, device: Device, last: Transmission | None) -> dict[str, Any]:
        seed = self.world.seed
        application_key = secret_of(seed, 602, device.index)
        network_key = secret_of(seed, 603, device.index)
        address = f"{0x0190_0000 + mix(device.seed, 604) % 0x10_0000:08X}"
        return {
            "deleted_at": None,
            "driver_instance_id": self.driver_id,
            "device_id": self.id_of(device),
            "enabled": True,
            "meta": None,
            "opts": {
                "app_session_key": application_key,
                "check_fcnt": True,
                "check_join_eui": True,
                "class_c": False,
                "device_address": address,
                "device_eui": device.dev_eui.upper(),
                "device_key": secret_of(seed, 605, device.index),
                "device_type": "otaa",
                "gw_whitelist": None,
                "join_eui": "02005E0000000001",
                "lns_session_context": {
                    "a_fcnt_down": mix(device.seed, 606) % 90,
                    "app_s_key": application_key,
                    "dev_addr": address,
                    "f_nwk_s_int_key": network_key,
                    "fcnt_down": None,
                    "fcnt_up": last.frame_count if last else 0,
                    "n_fcnt_down": 0,
                    "nwk_s_enc_key": network_key,
                    "nwk_s_key": None,
                    "s_nwk_s_int_key": network_key,
                },
                "max_adr_steps_per_change": 5,
                "net_id": None,
                "network_session_key": network_key,
                "region": "EU863",
                "rx2_dr": 0,
                "rx_delay": 1,
            },
            "id": self.interface_id(device),
        }

    def _stats(self, device: Device, last: Transmission | None) -> dict[str, Any]:
        factor = float(self.radio.spreading_factor(device))
        seconds, micro = divmod(
            device.expected_interval_s * 1_000_000 + mix(device.seed, 607) % 900_000, 1_000_000
        )
        heard = self.radio.frame(device, last.frame_count, last.sent_us, 8).receptions if last else ()
        return {
            "expires_at": None,
            "dirty": None,
            "mandate_id": self.mandate_id,
            "last_probe_ping": None,
            "last_packet_forwarder_ping": None,
            "missed_up_frames": str(mix(device.seed, 608) % 30),
            "nominally_sending": device.fault != "silent",
            "avg_gw_count": f"{len(heard)}.0000000000000000",
            "packet_interval": {"days": 0, "microsecs": micro, "months": 0, "secs": seconds},
            "transceived_at": iso(from_us(last.sent_us)) if last else None,
            "avg_sf": factor,
            "avg_rssi": float(max((r.rssi_dbm for r in heard), default=-120)),
            "avg_snr": max((r.snr_db for r in heard), default=-10.0),
            "id": self.id_of(device),
        }

    def _profile(self, device: Device) -> dict[str, Any]:
        thing = self.world.thing_of(device)
        data = {
            "bemerkung": f"Simuliert | {thing.name}",
            "geratetyp": device.device_type.name.removeprefix("DL-"),
            "hausnummer": thing.house_number,
            "hersteller": device.device_type.manufacturer,
            "installationsdatum": device.installed_on.isoformat(),
            "ort": "Dortmund",
            "plz": int(thing.postcode),
            "seriennummer": str(device.serial),
            "strasse": thing.street,
        }
        profile_id = document_id(self.world, "profile")
        made = self.inserted_at(device)
        return {
            "profile_data": [
                {
                    "profile": {
                        "updated_at": MADE_AT.strftime("%Y-%m-%dT%H:%M:%S"),
                        "inserted_at": MADE_AT.strftime("%Y-%m-%dT%H:%M:%S"),
                        "mandate_id": self.mandate_id,
                        "fields": [
                            {
                                "allowed_options": [],
                                "display": display,
                                "input_type": "text",
                                "name": name,
                                "required": False,
                                "type": kind,
                            }
                            for name, display, kind in PROFILE_FIELDS
                        ],
                        "limit_to": "none",
                        "slug": "gerateinformation",
                        "name": "Geräteinformation",
                        "id": profile_id,
                    },
                    "updated_at": iso(made),
                    "inserted_at": iso(made),
                    "device_id": self.id_of(device),
                    "profile_id": profile_id,
                    "data": data,
                }
            ],
            "fields": {"gerateinformation": data},
        }

    def packet(self, transmission: Transmission) -> dict[str, Any]:
        """The document of a raw packet."""
        device = transmission.device
        payload = payload_of(self.world, transmission)
        frame = self.radio.frame(device, transmission.frame_count, transmission.sent_us, len(payload))
        identifier = message_id(self.world.seed, transmission, reading=False)
        bitrate = {7: 5470, 8: 3125, 9: 1760, 10: 980}[frame.spreading_factor]
        return {
            "driver": None,
            "device_id": self.id_of(device),
            "interface_id": self.interface_id(device),
            "skip_parsers": False,
            "meta": {
                "ack": False,
                "adr": True,
                "adr_ack_req": False,
                "chan": frame.channel,
                "codr": "4/5",
                "confirm": False,
                "data_rate": frame.data_rate,
                "datr": f"SF{frame.spreading_factor}BW125",
                "dev_nonce": None,
                "frame_count_up": transmission.frame_count,
                "frame_port": device.device_type.f_port,
                "frequency": frame.frequency_hz / 1e6,
                "gateway_stats": [
                    {
                        "router_id": int(reception.gateway.hex_id, 16),
                        "router_id_hex": reception.gateway.hex_id.upper(),
                        "rssi": reception.rssi_dbm,
                        "snr": reception.snr_db,
                        "tmst": reception.counter_us,
                    }
                    for reception in frame.receptions
                ],
                "lns_packet_uuid": identifier,
                "lorawan_toa_ms": airtime_ms(frame.spreading_factor, frame.size_bytes),
                "mac_commands": [],
                "modu": "LORA",
                "region": "eu863",
                "region_meta": {
                    "bandwidth": 125,
                    "bitrate": bitrate,
                    "code": "eu863",
                    "datarate": frame.data_rate,
                    "name": "EU863",
                    "spreadingfactor": frame.spreading_factor,
                },
                "rfch": 0 if frame.frequency_hz < 868_000_000 else 1,
                "size": frame.size_bytes,
                "stat": 1,
                "updated": True,
            },
            "inserted_at": iso(from_us(transmission.arrived_us)),
            "transceived_at": iso(reported_time(transmission)),
            "packet_type": "up",
            "payload_encoding": "binary",
            "payload": payload.hex().upper(),
            "id": identifier,
        }

    def reading(self, transmission: Transmission) -> dict[str, Any] | None:
        """The document of a decoded reading; None where the server's parser cannot decode the packet."""
        device = transmission.device
        try:
            data = device.device_type.format.unpack(payload_of(self.world, transmission))
        except PayloadError:
            return None
        return {
            "meta": None,
            "parser_id": self.parser_id(device),
            "device_id": self.id_of(device),
            "packet_id": message_id(self.world.seed, transmission, reading=False),
            "location": None,
            "inserted_at": iso(from_us(transmission.arrived_us + READING_DELAY_US)),
            "measured_at": iso(reported_time(transmission)),
            "data": dict(sorted(data.items())),
            "id": message_id(self.world.seed, transmission, reading=True),
        }
