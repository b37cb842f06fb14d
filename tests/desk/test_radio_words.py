"""What the pages of the radio network say instead of codes: reasons, units, names."""

from __future__ import annotations

import pytest
from django.utils import translation

from quartier.desk import words_radio
from quartier.desk.templatetags.radio import gateway_link, sub_band
from quartier.lorawan.roaming.policy import Refused
from tests.desk import radio_scene
from tests.desk.radio_scene import DEVICES, GATEWAYS, Radio
from tests.desk.scene import Scene

BASE = "/amt/funknetz/"


@pytest.fixture
def radio(scene: Scene) -> Radio:
    return radio_scene.build(scene)


def test_reasons_of_the_ledger_have_words() -> None:
    assert set(Refused) - words_radio.LEDGER_RESULTS.keys() == set()
    with translation.override("de"):
        told = [
            words_radio.ledger_result(code) for code in ("UnknownDevAddr", "duty_cycle", "StaleDeviceProfile")
        ]
    assert told == ["Adresse dort unbekannt", "Sendezeit aufgebraucht", "StaleDeviceProfile"]


def test_a_sub_band_has_its_unit_in_the_language_of_the_page() -> None:
    with translation.override("de"):
        assert sub_band("868–868.6") == "868–868,6\u00a0MHz"
    with translation.override("en"):
        assert sub_band("868–868.6") == "868–868.6\u00a0MHz"


def test_a_gateway_is_told_by_its_name_and_a_peers_by_the_peer(scene: Scene, radio: Radio) -> None:
    eui = GATEWAYS["schwerte"]
    assert gateway_link(bytes.fromhex(eui), "") == (
        f'<a href="{BASE}gateways/{eui}/">{radio.gateways["schwerte"].name}</a>'
    )
    assert gateway_link(b"\x01" * 8, "") == "01" * 8
    assert gateway_link(b"\x01" * 8, "<nachbar>") == (
        'Partnernetz &lt;nachbar&gt;<span class="desk-detail desk-mono">0101010101010101</span>'
    )
    page = scene.client("operator").get(f"{BASE}geraete/{DEVICES['schwerte']}/").content.decode()
    assert f">{radio.gateways['schwerte'].name}</a>" in page


def test_what_is_passed_on_and_who_listens_are_chosen_by_ticking(scene: Scene, radio: Radio) -> None:
    client = scene.client("operator")
    page = client.get(f"{BASE}partner/{radio.peers['schwerte'].key}/vereinbarungen/neu/").content.decode()
    assert page.count('type="checkbox" name="classes"') == len(words_radio.DATA_CLASSES)
    group = client.get(f"{BASE}gruppen/{radio.groups['schwerte'].pk}/").content.decode()
    assert group.count('type="checkbox" name="devices"') == 1


def test_the_page_for_many_devices_keeps_the_head_of_every_page(scene: Scene, radio: Radio) -> None:
    client = scene.client("operator")
    assert (
        client.get(f"{BASE}geraete/einlesen/").context["cities"]
        == client.get(f"{BASE}geraete/").context["cities"]
    )
