"""Who may open and change what of the radio network: role × page × city, expected status."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from tests.desk import radio_scene
from tests.desk.radio_scene import DEVICES, GATEWAYS, Radio
from tests.desk.scene import Scene

PEOPLE = ("citizen", "maker", "staff", "steward", "operator", "operator_all", "superuser")

GENERAL: list[tuple[str, str]] = [
    ("", "403 403 200 200 200 200 200"),
    ("gateways/", "403 403 200 200 200 200 200"),
    ("gateways/neu/", "403 403 403 403 200 200 200"),
    ("geraete/", "403 403 200 200 200 200 200"),
    ("geraete/neu/", "403 403 403 200 200 200 200"),
    ("geraete/einlesen/", "403 403 403 200 200 200 200"),
    ("protokoll/", "403 403 403 200 200 200 200"),
    ("profile/", "403 403 200 200 200 200 200"),
    ("profile/neu/", "403 403 403 403 200 200 200"),
    ("profile/muster-a/", "403 403 200 200 200 200 200"),
    ("gruppen/", "403 403 200 200 200 200 200"),
    ("gruppen/neu/", "403 403 403 403 200 200 200"),
    ("partner/", "403 403 403 403 200 200 200"),
    ("partner/neu/", "403 403 403 403 200 200 200"),
    ("updates/", "403 403 200 200 200 200 200"),
    ("updates/neu/", "403 403 403 403 200 200 200"),
    ("datenschutz/", "403 403 403 403 200 200 200"),
]

OWN_AND_OTHER: list[tuple[str, str, str]] = [
    ("gateways/{gateway}/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("gateways/{gateway}/bearbeiten/", "403 403 403 403 200 200 200", "403 403 403 403 403 200 200"),
    ("geraete/{device}/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("geraete/{device}/bearbeiten/", "403 403 403 200 200 200 200", "403 403 403 403 403 200 200"),
    ("geraete/{device}/schluessel/", "403 403 403 200 200 200 200", "403 403 403 403 403 200 200"),
    ("geraete/{slug}.csv", "403 403 403 200 200 200 200", "403 403 403 403 403 200 200"),
    ("nachrichten/{downlink}/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("nachrichten/{downlink}/stand/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("gruppen/{group}/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("partner/{peer}/", "403 403 403 403 200 200 200", "403 403 403 403 403 200 200"),
    ("partner/{peer}/bearbeiten/", "403 403 403 403 200 200 200", "403 403 403 403 403 200 200"),
    ("partner/{peer}/vereinbarungen/neu/", "403 403 403 403 200 200 200", "403 403 403 403 403 200 200"),
    (
        "partner/{peer}/vereinbarungen/{agreement}/",
        "403 403 403 403 200 200 200",
        "403 403 403 403 403 200 200",
    ),
    ("partner/{peer}/{day}/", "403 403 403 403 200 200 200", "403 403 403 403 403 200 200"),
]

PROFILE_OF_ALL: dict[str, Any] = {
    "name": "Neu",
    "mac_version": "1.0.3",
    "device_class": "A",
    "adr_margin_db": "10",
    "rx1_delay_s": "1",
    "rx1_dr_offset": "0",
    "rx2_data_rate": "0",
    "rx2_frequency_mhz": "869.525",
    "status_interval_s": "0",
    "class_c_timeout_s": "5",
    "ping_slot_periodicity": "7",
    "ping_slot_data_rate": "3",
    "ping_slot_frequency_mhz": "869.525",
    "class_b_timeout_s": "8",
}

# Changes: 302 is "done", 403 "no right", 422 "the form is wrong" (the other city is no choice of the form).
CHANGES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "gateways/neu/",
        {"municipality": "{municipality}", "eui": "0016c001f1000099", "name": "Neu", "protocol": "gwmp"},
        "403 403 403 403 302 302 302",
        "403 403 403 403 422 302 302",
    ),
    (
        "gateways/{gateway}/bearbeiten/",
        {"name": "Neu", "protocol": "station"},
        "403 403 403 403 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "gateways/{gateway}/schalten/",
        {"an": "0"},
        "403 403 403 403 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    ("gateways/{gateway}/schluessel/", {}, "403 403 403 403 302 302 302", "403 403 403 403 403 302 302"),
    (
        "geraete/neu/",
        {
            "municipality": "{municipality}",
            "dev_eui": "70b3d57ed0009999",
            "name": "Neu",
            "profile": "{profile}",
            "activation": "otaa",
            "app_key": radio_scene.APP_KEY,
        },
        "403 403 403 302 302 302 302",
        "403 403 403 422 422 302 302",
    ),
    (
        "geraete/{device}/bearbeiten/",
        {"name": "Neu", "profile": "{profile}"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "geraete/{device}/schluessel/",
        {"profile": "{profile}", "activation": "otaa", "app_key": "ff" * 16},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    ("geraete/{device}/schalten/", {"an": "0"}, "403 403 403 302 302 302 302", "403 403 403 403 403 302 302"),
    (
        "geraete/{device}/abgeben/",
        {"municipality": "{municipality}"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "geraete/{device}/senden/",
        {"payload": "01", "port": "1"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "nachrichten/{downlink}/zurueckziehen/",
        {},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "profile/neu/",
        {
            "municipality": "{municipality}",
            "key": "neu",
            "name": "Neu",
            "mac_version": "1.0.3",
            "device_class": "A",
            "adr_margin_db": "10",
            "rx1_delay_s": "1",
            "rx1_dr_offset": "0",
            "rx2_data_rate": "0",
            "rx2_frequency_mhz": "869.525",
            "status_interval_s": "0",
            "class_c_timeout_s": "5",
            "ping_slot_periodicity": "7",
            "ping_slot_data_rate": "3",
            "ping_slot_frequency_mhz": "869.525",
            "class_b_timeout_s": "8",
        },
        "403 403 403 403 302 302 302",
        "403 403 403 403 422 302 302",
    ),
    # A profile of all cities: only somebody with the right in all of them changes it, the others read it.
    ("profile/muster-a/", PROFILE_OF_ALL, "403 403 403 403 403 302 302", "403 403 403 403 403 302 302"),
    (
        "gruppen/neu/",
        {
            "municipality": "{municipality}",
            "name": "Neu",
            "key": "11" * 16,
            "data_rate": "0",
            "frequency_mhz": "869.525",
        },
        "403 403 403 403 302 302 302",
        "403 403 403 403 422 302 302",
    ),
    (
        "gruppen/{group}/",
        {"action": "send", "payload": "01", "port": "1"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    ("gruppen/{group}/", {"action": "members"}, "403 403 403 403 302 302 302", "403 403 403 403 403 302 302"),
    (
        "partner/neu/",
        {
            "municipality": "{municipality}",
            "slug": "neu",
            "name": "Neu",
            "protocol": "ts002-1.0",
            "net_ids": "000013",
            "timeout_s": "5",
        },
        "403 403 403 403 302 302 302",
        "403 403 403 403 422 302 302",
    ),
    ("partner/{peer}/schluessel/", {}, "403 403 403 403 302 302 302", "403 403 403 403 403 302 302"),
    (
        "partner/{peer}/vereinbarungen/{agreement}/",
        {"action": "end"},
        "403 403 403 403 302 302 302",
        "403 403 403 403 403 302 302",
    ),
]


@pytest.fixture
def radio(scene: Scene) -> Radio:
    return radio_scene.build(scene)


def _values(scene: Scene, radio: Radio, slug: str) -> dict[str, Any]:
    return {
        "gateway": GATEWAYS[slug],
        "device": DEVICES[slug],
        "downlink": radio.downlinks[slug].pk,
        "group": radio.groups[slug].pk,
        "peer": radio.peers[slug].key,
        "agreement": radio.agreements[slug].pk,
        "profile": radio.profiles["a"].pk,
        "municipality": scene.municipality(slug).pk,
        "slug": slug,
        "day": f"{radio.now:%Y-%m-%d}",
    }


def _check(found: dict[tuple[str, str, str], int], expected: dict[tuple[str, str, str], int]) -> None:
    assert {key: status for key, status in found.items() if status != expected[key]} == {}


def test_pages(scene: Scene, radio: Radio) -> None:
    found, expected = {}, {}
    for name, place in zip(PEOPLE, range(len(PEOPLE)), strict=True):
        client = scene.client(name)
        for page, statuses in GENERAL:
            found[name, page, ""] = client.get(f"/amt/funknetz/{page}").status_code
            expected[name, page, ""] = int(statuses.split()[place])
        for page, own, other in OWN_AND_OTHER:
            for slug, statuses in (("schwerte", own), ("dortmund", other)):
                address = f"/amt/funknetz/{page.format(**_values(scene, radio, slug))}"
                found[name, page, slug] = client.get(address).status_code
                expected[name, page, slug] = int(statuses.split()[place])
    _check(found, expected)


def test_strangers_sign_in_first(scene: Scene, radio: Radio) -> None:
    for page, _ in GENERAL:
        answer = scene.client("nobody").get(f"/amt/funknetz/{page}")
        assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/accounts/login/"), page


@pytest.mark.parametrize("place", range(len(PEOPLE)), ids=PEOPLE)
def test_changes(scene: Scene, radio: Radio, place: int) -> None:
    client = scene.client(PEOPLE[place])
    found, expected = {}, {}
    for number, (page, data, own, other) in enumerate(CHANGES):
        for slug, statuses in (("schwerte", own), ("dortmund", other)):
            values = _values(scene, radio, slug)
            filled = {key: value.format(**values) for key, value in data.items()}
            with transaction.atomic():
                answer = client.post(f"/amt/funknetz/{page.format(**values)}", filled)
                transaction.set_rollback(True)
            key = (PEOPLE[place], f"{number} {page}", slug)
            found[key], expected[key] = answer.status_code, int(statuses.split()[place])
    _check(found, expected)
