"""Class B on the radio network's pages: profile, device, downlink, frame log, gateway."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.utils import translation

from quartier.cities.rules import actor_of
from quartier.desk import radio_downlinks, radio_frames
from quartier.lorawan.models import DeviceProfile, Gateway, LoraDevice, Session
from tests.desk import radio_scene
from tests.desk.radio_scene import DEVICES, GATEWAYS, STATUS, Radio
from tests.desk.scene import Scene
from tests.desk.test_radio_permissions import PROFILE_OF_ALL

BASE = "/amt/funknetz/"
SINCE = int(datetime(2026, 11, 27, 5, 0, tzinfo=UTC).timestamp())
SLOT = "2026-11-27T05:12:30.340+00:00"


@pytest.fixture
def radio(scene: Scene) -> Radio:
    return radio_scene.build(scene)


@pytest.fixture
def device(radio: Radio) -> LoraDevice:
    """One that is in class B, and listens every four seconds."""
    profile = radio.profiles["a"]
    profile.device_class, profile.ping_slot_periodicity = "B", 5
    profile.save()
    device = radio.devices["schwerte"]
    mac = {"class_b_since": SINCE, "ping_slot_periodicity": 2, "refused": {"ping_slot": [5, 868_500_000]}}
    Session.objects.filter(device=device).update(mac=mac)
    return device


def test_a_profile_says_how_devices_listen(scene: Scene, radio: Radio) -> None:
    client, address = scene.client("operator_all"), f"{BASE}profile/neu/"
    data = PROFILE_OF_ALL | {
        "key": "lampe-b",
        "device_class": "B",
        "ping_slot_periodicity": "2",
        "ping_slot_data_rate": "5",
        "ping_slot_frequency_mhz": "868,5",
        "beacon_frequency_mhz": "869.6",
        "class_b_timeout_s": "20",
    }
    assert client.post(address, data).status_code == 302
    profile = DeviceProfile.objects.get(key="lampe-b")
    assert (
        profile.device_class,
        profile.ping_slot_periodicity,
        profile.ping_slot_data_rate,
        profile.ping_slot_frequency_hz,
        profile.beacon_frequency_hz,
        profile.class_b_timeout_s,
    ) == ("B", 2, 5, 868_500_000, 869_600_000, 20)
    form = client.get(f"{BASE}profile/lampe-b/").context["more"]
    shown = {field.name: field.value() for field in form}
    assert (shown["ping_slot_periodicity"], shown["beacon_frequency_mhz"]) == (2, "869.6")
    facts = dict(scene.client("operator").get(f"{BASE}profile/lampe-b/").context["more"])
    assert facts["Bei Klasse B hört das Gerät"] == "etwa alle 4 s"
    assert facts["Frequenz bei Klasse B in MHz"] == "868,5"


@pytest.mark.parametrize(
    ("values", "field", "why"),
    [
        ({"mac_version": "1.0.2"}, "device_class", "Klasse B gibt es erst ab LoRaWAN 1.0.3"),
        (
            {"ping_slot_frequency_mhz": "868.65"},
            "ping_slot_frequency_mhz",
            "liegt in keinem Band dieser Region",
        ),
        (
            {"ping_slot_frequency_mhz": "868.1 868.3"},
            "ping_slot_frequency_mhz",
            "Bitte eine Frequenz angeben.",
        ),
        ({"beacon_frequency_mhz": "1"}, "beacon_frequency_mhz", "liegt in keinem Band dieser Region"),
    ],
)
def test_what_a_profile_cannot_say(
    scene: Scene, radio: Radio, values: dict[str, str], field: str, why: str
) -> None:
    data = PROFILE_OF_ALL | {"key": "lampe-b", "device_class": "B"} | values
    answer = scene.client("operator_all").post(f"{BASE}profile/neu/", data)
    assert (answer.status_code, answer.context["form"].errors) == (422, {field: [why]})


def test_the_devices_page_says_since_when_and_how_often_it_listens(
    scene: Scene, radio: Radio, device: LoraDevice
) -> None:
    page = scene.client("operator").get(f"{BASE}geraete/{DEVICES['schwerte']}/").content.decode()
    assert "seit 27.11.2026 06:00, hört alle 4 s" in page
    assert "Frequenz und Datenrate des Profils lehnt es ab." in page
    Session.objects.filter(device=device).update(mac={})
    page = scene.client("operator").get(f"{BASE}geraete/{DEVICES['schwerte']}/").content.decode()
    assert "zurzeit nicht; was gesendet werden soll, wartet, bis das Gerät spricht" in page
    assert "lehnt es ab" not in page


SENTENCES: list[tuple[dict[str, Any], list[str], str]] = [
    (
        {"state": "queued"},
        ["Wartet auf den nächsten Ping-Slot; das Gerät hört etwa alle 4 s (Klasse B)."],
        "",
    ),
    (
        {"state": "queued", "attempts": 1, "reason": "gps_unlocked", "detail": f"ping slot {SLOT}; not yet"},
        [
            "Bisher 1 Versuch(e). Zuletzt: Gateway ohne GPS-Zeit.",
            "Es ging um den Ping-Slot um 06:12:30,340 (Klasse B).",
            "Sie geht mit, wenn das Gerät das nächste Mal sendet.",
        ],
        "not yet",
    ),
    (
        {"state": "acknowledged", "sent_at": True, "detail": f"ping slot {SLOT}"},
        [
            "Im Ping-Slot um 06:12:30,340: Da hört das Gerät (Klasse B).",
            "Das Gerät hat den Empfang bestätigt.",
        ],
        "",
    ),
    (
        {
            "state": "failed",
            "attempts": 2,
            "reason": "duty_cycle",
            "detail": f"ping slot {SLOT}; at 869.525 MHz",
        },
        [
            "Es ging um den Ping-Slot um 06:12:30,340 (Klasse B).",
            "Gescheitert: Sendezeit aufgebraucht.",
            "Das Gateway hat die erlaubte Sendezeit dieser Stunde (Duty Cycle) in diesem Band verbraucht.",
        ],
        "at 869.525 MHz",
    ),
]


@pytest.mark.parametrize(("language", "expected"), [("de", "06:12:30,340"), ("en", "06:12:30.340")])
def test_a_ping_slot_is_written_as_the_language_does(language: str, expected: str) -> None:
    with translation.override(language):
        assert radio_downlinks.slot_time(SLOT) == expected


@pytest.mark.parametrize(("values", "expected", "technical"), SENTENCES)
def test_a_downlink_names_its_ping_slot(
    radio: Radio, device: LoraDevice, values: dict[str, Any], expected: list[str], technical: str
) -> None:
    downlink = radio.downlinks["schwerte"]
    for name, value in values.items():
        setattr(downlink, name, radio.now if name == "sent_at" else value)
    with translation.override("de"):
        assert radio_downlinks.sentences(downlink)[-len(expected) :] == expected
    assert radio_downlinks.technical(downlink) == technical


def test_a_downlink_waits_for_an_uplink_while_the_device_is_in_class_a(
    radio: Radio, device: LoraDevice
) -> None:
    Session.objects.filter(device=device).update(mac={})
    assert radio_downlinks.sentences(radio.downlinks["schwerte"]) == [
        "Wartet, bis das Gerät das nächste Mal sendet; vorher hört es nicht zu."
    ]


@pytest.mark.parametrize(
    ("direction", "detail", "notes"),
    [
        ("up", {"class": "B"}, ["Das Gerät hört zurzeit zu festen Zeiten (Klasse B)."]),
        (
            "up",
            {"unknown_class": "B"},
            ["Das Gerät sagt, dass es Klasse B kann; sein Geräteprofil sieht sie nicht vor."],
        ),
        (
            "down",
            {"class": "B", "ping_slot": SLOT, "window": 0},
            ["Im Ping-Slot um 06:12:30,340 (Klasse B)."],
        ),
    ],
)
def test_the_frame_log_tells_of_class_b(
    scene: Scene, device: LoraDevice, direction: str, detail: dict[str, Any], notes: list[str]
) -> None:
    line = radio_scene.line(device, scene.now, direction=direction, detail=detail, outcome="ok")
    line.save()
    with translation.override("de"):
        [told] = radio_frames.told(actor_of(scene.people["steward"]), [line])
    assert told.notes == notes


def test_a_gateway_says_whether_it_has_gps_time_and_sends_beacons(scene: Scene, radio: Radio) -> None:
    client, address = scene.client("operator"), f"{BASE}gateways/{GATEWAYS['schwerte']}/"
    gateway = Gateway.objects.filter(eui=GATEWAYS["schwerte"])
    assert "zeigt sich, wenn es ein Gerät hört" in client.get(address).content.decode()
    for gps, words in (
        (True, "kann Geräte der Klasse B erreichen"),
        (False, "kann keine Geräte der Klasse B erreichen"),
    ):
        gateway.update(status=STATUS | {"gps": gps})
        assert words in client.get(address).content.decode()
    data = {"name": "Rathaus", "protocol": "gwmp", "beacon": "on"}
    assert client.post(f"{address}bearbeiten/", data).status_code == 302
    answer = client.get(address)
    page = answer.content.decode()
    assert "sendet es nach seiner eigenen Einstellung" in page
    assert "ohne GPS-Zeit sendet es keine" in page
    conf = json.loads(answer.context["files"][0].content)["gateway_conf"]
    assert {name: value for name, value in conf.items() if name.startswith("beacon")} == {
        "beacon_period": 128,
        "beacon_freq_hz": 869_525_000,
        "beacon_datarate": 9,
        "beacon_bw_hz": 125_000,
        "beacon_power": 14,
        "beacon_infodesc": 0,
    }
