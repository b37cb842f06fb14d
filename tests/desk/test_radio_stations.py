"""Remote management of Basics Stations: what the page says of them, and what it changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone, translation

from quartier.cities.models import AuditEntry
from quartier.cities.rules import SYSTEM
from quartier.cities.secrets import unseal
from quartier.lorawan import domain
from quartier.lorawan.domain.stations import Roll
from quartier.lorawan.models import Gateway
from tests.desk.scene import Scene
from tests.lorawan.roaming.certificates import Authority

BASE = "/amt/funknetz/gateways/"
EUI = "0016c001f10000e0"
PAGE = f"{BASE}{EUI}/fernverwaltung/"
URIS = {"lns_uri": "wss://funk.example:3001", "cups_uri": "https://funk.example:3001"}
AUTHORITY = Authority("Stations")


@pytest.fixture
def gateway(scene: Scene) -> Gateway:
    return domain.save_gateway(SYSTEM, scene.schwerte, EUI, name="Turm", protocol="station")


def told(gateway: Gateway, **values: Any) -> None:
    """What the radio writes."""
    Gateway.objects.filter(pk=gateway.pk).update(cups=values)


def test_addresses_and_certificate_are_saved_by_the_rules(scene: Scene, gateway: Gateway) -> None:
    answer = scene.client("operator").post(PAGE, URIS | {"trust": AUTHORITY.certificate})
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    state = domain.station_state(Gateway.objects.get(pk=gateway.pk))
    assert (state.lns_uri, state.cups_uri) == (URIS["lns_uri"], URIS["cups_uri"])
    assert state.trust is not None
    assert state.trust.subject == "CN=Stations"
    # Without a new one the certificate stays.
    scene.client("operator").post(PAGE, {"lns_uri": URIS["lns_uri"], "cups_uri": "", "trust": ""})
    after = domain.station_state(Gateway.objects.get(pk=gateway.pk))
    assert (after.lns_uri, after.cups_uri, after.trust) == (URIS["lns_uri"], "", state.trust)
    entries = AuditEntry.objects.filter(action="lorawan.gateway.change", target=EUI)
    assert [entry.detail for entry in entries] == [{"changed": ["station"]}] * 2


@pytest.mark.parametrize(
    ("values", "errors"),
    [
        ({"lns_uri": "https://funk.example"}, {"lns_uri": ["beginnt mit wss:// / ws://"]}),
        ({"lns_uri": "wss://"}, {"lns_uri": ["ist keine Adresse wie wss://funk.example:3001"]}),
        ({"lns_uri": "wss://funk.example:x"}, {"lns_uri": ["ist keine Adresse wie wss://funk.example:3001"]}),
        ({"cups_uri": "https://köln.example"}, {"cups_uri": ["höchstens 127 Zeichen, keine Umlaute"]}),
        ({"cups_uri": "https://a b"}, {"cups_uri": ["ist keine Adresse wie https://funk.example:3001"]}),
        ({"trust": "nothing"}, {"trust": ["ist kein Zertifikat"]}),
    ],
)
def test_wrong_values_are_shown_at_their_field(
    scene: Scene, gateway: Gateway, values: dict[str, str], errors: dict[str, list[str]]
) -> None:
    answer = scene.client("operator").post(PAGE, values)
    assert (answer.status_code, answer.context["form"].errors) == (422, errors)
    assert Gateway.objects.get(pk=gateway.pk).settings == {}


def test_a_token_is_rolled_and_never_shown(scene: Scene, gateway: Gateway) -> None:
    client = scene.client("operator")
    refused = client.post(f"{PAGE}wechseln/", follow=True)
    assert "Zertifikat der ausstellenden Stelle: wird gebraucht" in refused.content.decode()
    domain.set_station(SYSTEM, gateway, **URIS, trust=AUTHORITY.certificate)
    refused = client.post(f"{PAGE}wechseln/", follow=True)
    assert "Schlüssel der Station: das Gateway hat noch keinen Schlüssel" in refused.content.decode()
    domain.make_token(SYSTEM, gateway)
    answer = client.post(f"{PAGE}wechseln/", follow=True)
    assert (answer.redirect_chain, answer.context["state"].roll) == ([(PAGE, 302)], Roll.WAITING)
    row = Gateway.objects.get(pk=gateway.pk)
    token = unseal(row.settings["station"]["sealed"])["lns_token"]
    assert token not in answer.content.decode()
    assert len(row.credentials) == 2


def test_how_far_a_new_token_has_come(scene: Scene, gateway: Gateway) -> None:
    client, now = scene.client("operator"), timezone.now()
    domain.set_station(SYSTEM, gateway, **URIS, trust=AUTHORITY.certificate)
    domain.make_token(SYSTEM, gateway)
    assert client.get(PAGE).context["state"].roll == Roll.NEVER
    # What was given before the roll is not the new one.
    told(gateway, credentials_given_at=(now - timedelta(days=1)).isoformat())
    domain.roll_station_token(SYSTEM, gateway)
    assert client.get(PAGE).context["state"].roll == Roll.WAITING
    told(gateway, credentials_given_at=(now + timedelta(minutes=1)).isoformat())
    page = client.get(PAGE)
    assert page.context["state"].roll == Roll.GIVEN
    assert "noch nicht damit gemeldet" in page.content.decode()
    row = Gateway.objects.get(pk=gateway.pk)
    row.credentials = row.credentials[1:]
    row.cups = {"signed_in_at": (now + timedelta(minutes=2)).isoformat()}
    row.save()
    state = client.get(PAGE).context["state"]
    assert (state.roll, state.roll_done_at) == (Roll.DONE, now + timedelta(minutes=2))
    # A token by hand ends the story.
    domain.make_token(SYSTEM, gateway)
    assert client.get(PAGE).context["state"].roll == Roll.NEVER


def test_the_page_tells_what_the_station_has_and_was_given(scene: Scene, gateway: Gateway) -> None:
    client = scene.client("operator")
    assert "noch nie gefragt" in client.get(PAGE).content.decode()
    domain.set_station(SYSTEM, gateway, **URIS)
    asked = timezone.now() - timedelta(minutes=5)
    told(
        gateway,
        asked_at=asked.isoformat(),
        station="2.0.6(linux/std)",
        model="linux",
        package="1.4",
        lns_uri=URIS["lns_uri"],
        cups_uri="https://alt.example",
        given=["cups_uri", "lns_credentials"],
        given_at=asked.isoformat(),
    )
    with translation.override("de"):
        text = " ".join(client.get(PAGE).content.decode().split())
    expected = (
        "2.0.6(linux/std)",
        "linux",
        "1.4",
        "hat die Station",
        "noch nicht dort",
        "https://alt.example",
        "Adresse der Fernverwaltung (CUPS), Zugangsschlüssel für den Netzserver",
        "vor 5 Minuten",
    )
    for words in expected:
        assert words in text, words
    english = client.get(PAGE, headers={"accept-language": "en"}).content.decode()
    assert "The Station still has:" in english


def test_staff_read_and_only_operators_of_the_city_change(scene: Scene, gateway: Gateway) -> None:
    elsewhere = domain.save_gateway(
        SYSTEM, scene.municipality("dortmund"), "0016c001f10000e1", name="Fern", protocol="station"
    )
    other = f"{BASE}{elsewhere.eui}/fernverwaltung/"
    staff, operator = scene.client("staff"), scene.client("operator")
    page = staff.get(PAGE)
    assert (page.status_code, '<form class="q-form"' in page.content.decode()) == (200, False)
    assert [
        staff.post(PAGE, URIS).status_code,
        staff.post(f"{PAGE}wechseln/").status_code,
        operator.get(other).status_code,
        operator.post(other, URIS).status_code,
        operator.post(f"{other}wechseln/").status_code,
    ] == [403] * 5
    assert not Gateway.objects.exclude(settings={}).exists()


def test_other_protocols_have_no_such_page(scene: Scene, gateway: Gateway) -> None:
    Gateway.objects.filter(pk=gateway.pk).update(protocol="gwmp")
    client = scene.client("operator")
    assert [client.get(PAGE).status_code, client.post(f"{PAGE}wechseln/").status_code] == [404, 404]
