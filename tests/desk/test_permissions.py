"""Who may open and change what: role × page × city, expected status.

Roles are held in Schwerte, except ``operator_all`` (everywhere) and ``superuser``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from tests.desk.scene import ROLES, Scene

PEOPLE = ("citizen", "maker", "staff", "steward", "operator", "operator_all", "superuser")

# Page, then the expected status for each of PEOPLE.
GENERAL: list[tuple[str, str]] = [
    ("", "403 403 200 200 200 200 200"),
    ("geraete/", "403 403 200 200 200 200 200"),
    ("geraete/export.csv", "403 403 200 200 200 200 200"),
    ("geraete/neu/", "403 403 403 200 200 200 200"),
    ("geraete/einlesen/", "403 403 403 200 200 200 200"),
    ("orte/neu/", "403 403 403 200 200 200 200"),
    ("quellen/", "403 403 200 200 200 200 200"),
    ("quellen/neu/element/", "403 403 403 403 200 200 200"),
    ("nachrichten/", "403 403 403 200 200 200 200"),
    ("codecs/", "403 403 403 200 200 200 200"),
    ("codecs/neu/", "403 403 403 200 200 200 200"),
    ("codecs/muster-th/", "403 403 403 200 200 200 200"),
    ("codecs/muster-th/zuordnung/", "403 403 403 200 200 200 200"),
    ("codecs/muster-th/versionen/", "403 403 403 200 200 200 200"),
    ("codecs/muster-th/typ/", "403 403 403 200 200 200 200"),
    ("nachspielen/", "403 403 403 200 200 200 200"),
    ("nachspielen/neu/", "403 403 403 200 200 200 200"),
    ("qualitaet/", "403 403 200 200 200 200 200"),
    ("qualitaet/stationen/", "403 403 200 200 200 200 200"),
    ("rueckmeldungen/", "403 403 200 200 200 200 200"),
    ("personen/", "403 403 403 403 200 200 200"),
    ("protokoll/", "403 403 403 403 200 200 200"),
    ("datensaetze/", "403 403 403 403 200 200 200"),
]

# Pages of one row: the expected status in the own city (Schwerte), then in the other (Dortmund).
OWN_AND_OTHER: list[tuple[str, str, str]] = [
    ("geraete/{device}/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("geraete/{device}/bearbeiten/", "403 403 403 200 200 200 200", "403 403 403 403 403 200 200"),
    ("orte/{thing}/", "403 403 403 200 200 200 200", "403 403 403 403 403 200 200"),
    ("quellen/{source}/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("quellen/{source}/bearbeiten/", "403 403 403 403 200 200 200", "403 403 403 403 403 200 200"),
    ("nachrichten/{refused}/", "403 403 403 200 200 200 200", "403 403 403 403 403 200 200"),
    ("qualitaet/{finding}/", "403 403 200 200 200 200 200", "403 403 403 403 403 200 200"),
    ("datensaetze/{dataset}/", "403 403 403 403 200 200 200", "403 403 403 403 403 200 200"),
]

# Changes: 302 is "done", 403 "no right", 422 "the form is wrong" (nothing but the right is tested here).
CHANGES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "geraete/{device}/bearbeiten/",
        {"name": "Neu", "active": "on"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "geraete/{device}/umsetzen/",
        {"thing": "{park}", "at": "{yesterday}"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "orte/{thing}/",
        {"name": "Neu", "kind": "station"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    ("quellen/{source}/schalten/", {"an": "0"}, "403 403 403 403 302 302 302", "403 403 403 403 403 302 302"),
    (
        "nachrichten/erneut/",
        {"id": "{refused}"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "qualitaet/entscheiden/",
        {"id": "{finding}", "state": "confirmed"},
        "403 403 403 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "nachspielen/neu/",
        {"municipality": "{municipality}"},
        "403 403 403 302 302 302 302",
        # The other city is no choice of the form.
        "403 403 403 422 422 302 302",
    ),
    (
        "personen/rolle/",
        {"email": "citizen@example.org", "role": "staff", "municipality": "{slug}"},
        "403 403 403 403 302 302 302",
        "403 403 403 403 422 302 302",
    ),
    (
        "rueckmeldungen/{feedback}/",
        {"beantwortet": "1"},
        "403 403 302 302 302 302 302",
        "403 403 403 403 403 302 302",
    ),
    (
        "datensaetze/{dataset}/",
        {"title_de": "a", "title_en": "b", "licence": "c", "licence_url": "https://example.org/"},
        "403 403 403 403 302 302 302",
        "403 403 403 403 403 302 302",
    ),
]

# Both cities use this device type, so only somebody with the right in both may change it.
SHARED: list[tuple[str, dict[str, Any], str]] = [
    ("codecs/muster-th/", {"script": "x", "action": "save"}, "403 403 403 403 403 422 422"),
    ("codecs/muster-th/", {"script": "x", "action": "try"}, "403 403 403 200 200 200 200"),
    ("codecs/muster-th/typ/", {"model": "TH 2"}, "403 403 403 403 403 302 302"),
    ("codecs/muster-th/versionen/1/einsetzen/", {}, "403 403 403 403 403 302 302"),
    (
        "codecs/muster-th/zuordnung/",
        {"row-TOTAL_FORMS": "0", "row-INITIAL_FORMS": "0"},
        "403 403 403 403 403 302 302",
    ),
]


def _values(scene: Scene, slug: str) -> dict[str, Any]:
    return {
        "device": scene.devices[f"{slug} live"].pk,
        "thing": scene.things[slug].pk,
        "park": scene.things[f"{slug} park"].key,
        "source": scene.sources[slug].key,
        "refused": scene.refused[slug].pk,
        "finding": scene.findings[slug].pk,
        "feedback": scene.feedback[slug].pk,
        "dataset": scene.datasets[slug].pk,
        "municipality": scene.municipality(slug).pk,
        "slug": slug,
        "yesterday": f"{scene.now - timedelta(days=1):%Y-%m-%dT%H:%M}",
    }


def _filled(data: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.format(**values) for key, value in data.items()}


def _expected(table: str) -> dict[str, int]:
    return dict(zip(PEOPLE, map(int, table.split()), strict=True))


def test_every_role_is_in_the_table() -> None:
    assert set(PEOPLE) == {*ROLES, "superuser"}


@pytest.mark.parametrize(("page", "table"), GENERAL, ids=[page or "overview" for page, _table in GENERAL])
def test_pages(scene: Scene, page: str, table: str) -> None:
    found = {name: scene.client(name).get(f"/amt/{page}").status_code for name in PEOPLE}
    assert found == _expected(table)


@pytest.mark.parametrize(("page", "own", "other"), OWN_AND_OTHER, ids=[row[0] for row in OWN_AND_OTHER])
def test_pages_of_a_row(scene: Scene, page: str, own: str, other: str) -> None:
    for slug, table in (("schwerte", own), ("dortmund", other)):
        address = f"/amt/{page.format(**_values(scene, slug))}"
        found = {name: scene.client(name).get(address).status_code for name in PEOPLE}
        assert found == _expected(table), slug


def _status_undone(scene: Scene, name: str, address: str, data: dict[str, Any]) -> int:
    """The status of a change, which is rolled back: the next role finds what this one found."""
    client = scene.client(name)
    with transaction.atomic():
        status = client.post(address, data).status_code
        transaction.set_rollback(True)
    return status


@pytest.mark.parametrize(
    ("page", "data", "own", "other"),
    CHANGES,
    ids=[f"{row[0]} {row[1].get('state', '')}".strip() for row in CHANGES],
)
def test_changes(scene: Scene, page: str, data: dict[str, Any], own: str, other: str) -> None:
    for slug, table in (("schwerte", own), ("dortmund", other)):
        values = _values(scene, slug)
        address, filled = f"/amt/{page.format(**values)}", _filled(data, values)
        found = {name: _status_undone(scene, name, address, filled) for name in PEOPLE}
        assert found == _expected(table), slug


@pytest.mark.parametrize(
    ("page", "data", "table"), SHARED, ids=[f"{row[0]} {row[1].get('action', '')}" for row in SHARED]
)
def test_changes_of_a_shared_device_type(scene: Scene, page: str, data: dict[str, Any], table: str) -> None:
    found = {name: _status_undone(scene, name, f"/amt/{page}", data) for name in PEOPLE}
    assert found == _expected(table)


def test_strangers_are_asked_to_sign_in(scene: Scene) -> None:
    client = scene.client("nobody")
    answers = {page: client.get(f"/amt/{page}") for page, _table in GENERAL}
    assert {page: (answer.status_code, answer["Location"]) for page, answer in answers.items()} == {
        page: (302, f"/accounts/login/?next=/amt/{page}") for page, _table in GENERAL
    }


def test_a_refusal_names_the_right_and_the_city(scene: Scene) -> None:
    pk = scene.devices["dortmund live"].pk
    text = scene.client("steward").get(f"/amt/geraete/{pk}/bearbeiten/").content.decode()
    assert "<code>devices:write</code>" in text
    assert "Geräte anlegen und ändern" in text
    assert "in Dortmund" in text


def test_changes_need_the_csrf_token(scene: Scene) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(
        scene.people["operator"], backend="allauth.account.auth_backends.AuthenticationBackend"
    )
    for page, data, _own, _other in CHANGES:
        values = _values(scene, "schwerte")
        answer = client.post(f"/amt/{page.format(**values)}", _filled(data, values))
        assert answer.status_code == 403, page


def test_reading_a_page_changes_nothing(scene: Scene) -> None:
    """Addresses that change something answer 405 to a link."""
    values = _values(scene, "schwerte")
    for page in (
        "geraete/{device}/umsetzen/",
        "quellen/{source}/schalten/",
        "nachrichten/erneut/",
        "qualitaet/entscheiden/",
        "personen/rolle/",
        "codecs/muster-th/versionen/1/einsetzen/",
    ):
        assert scene.client("superuser").get(f"/amt/{page.format(**values)}").status_code == 405, page


@pytest.mark.parametrize(
    "page", ["geraete/", "quellen/", "nachrichten/", "qualitaet/", "datensaetze/", "rueckmeldungen/"]
)
def test_lists_show_only_the_own_city(scene: Scene, page: str) -> None:
    names = {
        "geraete/": "{} live",
        "quellen/": "Netz {}",
        "nachrichten/": "netz-{}",
        "qualitaet/": "Markt {}",
        "datensaetze/": "Klima {}",
        "rueckmeldungen/": "Gruß aus {}",
    }
    text = scene.client("operator").get(f"/amt/{page}").content.decode()
    shown = names[page].format("Schwerte") if page != "nachrichten/" else "netz-schwerte"
    hidden = names[page].format("Dortmund") if page != "nachrichten/" else "netz-dortmund"
    assert shown in text
    assert hidden not in text
