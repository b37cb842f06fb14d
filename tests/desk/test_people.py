"""People and roles, the audit log, data sets."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from quartier.cities import audit
from quartier.cities.models import AuditEntry, Feedback, Person, Role, RoleAssignment
from quartier.cities.rules import SYSTEM
from tests.desk.scene import Scene, count_queries

BERLIN = ZoneInfo("Europe/Berlin")


def _grant(scene: Scene, name: str, **data: str) -> Any:
    whole = {"email": "citizen@example.org", "role": "steward", "municipality": "schwerte", **data}
    return scene.client(name).post("/amt/personen/rolle/", whole)


def test_role_is_granted_and_logged(scene: Scene) -> None:
    assert _grant(scene, "operator", email="Citizen@Example.org").status_code == 302
    person = scene.people["citizen"]
    assert RoleAssignment.objects.filter(
        person=person, role=Role.STEWARD, municipality=scene.schwerte
    ).exists()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.person, entry.municipality, entry.detail) == (
        "role.grant",
        scene.people["operator"],
        scene.schwerte,
        {"person": person.pk, "role": "steward"},
    )
    assert scene.client("citizen").get("/amt/").status_code == 200


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"email": "niemand@example.org"}, "email"),
        ({"role": "kaiser"}, "role"),
        ({"municipality": "dortmund"}, "municipality"),
        # All cities at once: only by somebody who manages all of them.
        ({"municipality": "*"}, "municipality"),
        ({"email": "steward@example.org"}, "role"),
    ],
)
def test_roles_that_cannot_be_granted(scene: Scene, data: dict[str, str], field: str) -> None:
    before = RoleAssignment.objects.count()
    answer = _grant(scene, "operator", **data)
    assert (answer.status_code, list(answer.context["grant"].errors)) == (422, [field])
    assert RoleAssignment.objects.count() == before


def test_a_role_in_all_cities(scene: Scene) -> None:
    assert _grant(scene, "operator_all", municipality="*").status_code == 302
    assert RoleAssignment.objects.filter(person=scene.people["citizen"], municipality=None).exists()


def test_blocked_people_get_no_role(scene: Scene) -> None:
    Person.objects.filter(email="citizen@example.org").update(is_active=False)
    assert _grant(scene, "operator").status_code == 422


def test_role_is_revoked_after_a_question(scene: Scene) -> None:
    assignment = RoleAssignment.objects.get(person=scene.people["steward"])
    client = scene.client("operator")
    address = f"/amt/personen/rolle/{assignment.pk}/entziehen/"
    assert "steward@example.org" in client.get(address).content.decode()
    assert RoleAssignment.objects.filter(pk=assignment.pk).exists()
    assert client.post(address).status_code == 302
    assert scene.client("steward").get("/amt/").status_code == 403
    assert AuditEntry.objects.get().detail == {"person": scene.people["steward"].pk, "role": "steward"}


def test_nobody_takes_his_own_last_key_away(scene: Scene) -> None:
    assignment = RoleAssignment.objects.get(person=scene.people["operator"])
    answer = scene.client("operator").post(f"/amt/personen/rolle/{assignment.pk}/entziehen/", follow=True)
    assert "Die eigene Betriebsrolle kann nur jemand anders entziehen." in answer.content.decode()
    assert RoleAssignment.objects.filter(pk=assignment.pk).exists()


def test_a_role_in_all_cities_is_not_for_an_operator_of_one(scene: Scene) -> None:
    assignment = RoleAssignment.objects.get(person=scene.people["operator_all"])
    address = f"/amt/personen/rolle/{assignment.pk}/entziehen/"
    assert scene.client("operator").get(address).status_code == 403
    assert scene.client("operator").post(address).status_code == 403
    assert RoleAssignment.objects.filter(pk=assignment.pk).exists()


def test_list_holds_the_people_of_the_own_city_with_their_roles_there(scene: Scene) -> None:
    RoleAssignment.objects.create(
        person=scene.people["citizen"], role=Role.STAFF, municipality=scene.dortmund
    )
    RoleAssignment.objects.create(
        person=scene.people["steward"], role=Role.STAFF, municipality=scene.dortmund
    )
    rows = scene.client("operator").get("/amt/personen/").context["page"].object_list
    assert {str(one): [role.role for role in one.shown_roles] for one in rows} == {
        "Maker": ["maker"],
        "Operator": ["operator"],
        "Staff": ["staff"],
        "Steward": ["steward"],
    }
    found = scene.client("operator").get("/amt/personen/?q=STEW").context["page"].object_list
    assert [str(one) for one in found] == ["Steward"]


def test_queries_do_not_grow_with_people(scene: Scene) -> None:
    client = scene.client("operator_all")
    few = count_queries(client, "/amt/personen/")
    for number in range(3):
        person = Person.objects.create_user(f"n{number}@example.org")
        RoleAssignment.objects.create(person=person, role=Role.STAFF, municipality=scene.schwerte)
    assert count_queries(client, "/amt/personen/") == few


def _entries(scene: Scene, query: str, name: str = "operator_all") -> list[str]:
    return [row.target for row in scene.client(name).get(f"/amt/protokoll/?{query}").context["rows"]]


def test_audit_log_is_filtered(scene: Scene) -> None:
    audit.log(SYSTEM, "device.change", "Gerät A", municipality_id=scene.schwerte.pk)
    audit.log(SYSTEM, "device.move", "Gerät B", municipality_id=scene.dortmund.pk)
    audit.log(SYSTEM, "codec.save", "Typ")
    for number, (target, moment) in enumerate(
        (
            ("Gerät A", datetime(2026, 5, 1, 23, 59, tzinfo=BERLIN)),
            ("Gerät B", datetime(2026, 5, 2, 0, 0, tzinfo=BERLIN)),
            ("Typ", datetime(2026, 5, 3, 0, 0, tzinfo=BERLIN)),
        )
    ):
        assert AuditEntry.objects.filter(target=target).update(at=moment) == 1, number
    assert _entries(scene, "") == ["Typ", "Gerät B", "Gerät A"]
    assert _entries(scene, "aktion=device.move") == ["Gerät B"]
    assert _entries(scene, "q=gerät") == ["Gerät B", "Gerät A"]
    # Days are those of the city, not of UTC.
    assert _entries(scene, "von=2026-05-02&bis=2026-05-02") == ["Gerät B"]
    assert _entries(scene, "bis=01.05.2026") == ["Gerät A"]
    assert _entries(scene, "von=Unsinn") == ["Typ", "Gerät B", "Gerät A"]
    # What belongs to no city is for those who read all.
    assert _entries(scene, "", "operator") == ["Gerät A"]


def test_audit_log_is_paged(scene: Scene) -> None:
    for number in range(60):
        audit.log(SYSTEM, "device.change", str(number), municipality_id=scene.schwerte.pk)
    AuditEntry.objects.update(at=scene.now)
    client = scene.client("operator")
    first = client.get("/amt/protokoll/")
    second = client.get(f"/amt/protokoll/{first.context['next']}")
    targets = [row.target for row in [*first.context["rows"], *second.context["rows"]]]
    assert targets == [str(number) for number in reversed(range(60))]
    assert second.context["next"] == ""


def test_feedback_is_ticked_off_and_logged(scene: Scene) -> None:
    message, client = scene.feedback["schwerte"], scene.client("staff")
    assert "a@example.org" in client.get("/amt/rueckmeldungen/?art=barrier").content.decode()
    for answered in ("1", "1", "0"):
        client.post(f"/amt/rueckmeldungen/{message.pk}/", {"beantwortet": answered})
    assert list(AuditEntry.objects.order_by("pk").values_list("action", flat=True)) == [
        "feedback.answered",
        "feedback.reopened",
    ]
    client.post(f"/amt/rueckmeldungen/{message.pk}/", {"beantwortet": "1"})
    shown = {
        query: [one.pk for one, _kind in client.get(f"/amt/rueckmeldungen/?{query}").context["rows"]]
        for query in ("", "zustand=beantwortet", "zustand=alle", "zustand=alle&art=idea", "zustand=nix")
    }
    assert shown == {
        "": [],
        "zustand=beantwortet": [message.pk],
        "zustand=alle": [message.pk],
        "zustand=alle&art=idea": [],
        "zustand=nix": [],
    }


def test_feedback_to_no_city_is_for_everybody_on_the_desk(scene: Scene) -> None:
    message = Feedback.objects.create(message="Für beide <script>alert(1)</script>")
    client = scene.client("staff")
    text = client.get("/amt/rueckmeldungen/").content.decode()
    assert "Für beide &lt;script&gt;" in text
    assert client.post(f"/amt/rueckmeldungen/{message.pk}/", {"beantwortet": "1"}).status_code == 302


def test_licence_is_changed_and_logged(scene: Scene) -> None:
    dataset = scene.datasets["schwerte"]
    answer = scene.client("operator").post(
        f"/amt/datensaetze/{dataset.pk}/",
        {
            "title_de": dataset.title_de,
            "title_en": dataset.title_en,
            "licence": "CC BY 4.0",
            "licence_url": "https://creativecommons.org/licenses/by/4.0/",
            "attribution": "Stadt Schwerte",
            "public": "on",
        },
    )
    assert answer.status_code == 302
    dataset.refresh_from_db()
    assert (dataset.licence, dataset.attribution, dataset.public) == ("CC BY 4.0", "Stadt Schwerte", True)
    assert set(AuditEntry.objects.get(action="dataset.change").detail["changed"]) == {
        "licence",
        "licence_url",
        "attribution",
    }


@pytest.mark.parametrize(
    "page",
    [
        "cities/person", "cities/municipality", "cities/district", "cities/organisation", "cities/token",
        "cities/auditentry", "cities/feedback", "twin/thing", "twin/device", "twin/devicetype",
        "twin/observedproperty", "twin/series", "intake/codec", "intake/fieldmapping", "intake/refusedmessage",
        "intake/qualityfinding", "intake/replay", "sources/source", "usage/dataset",
    ],
)  # fmt: skip
def test_django_admin_is_for_super_users(scene: Scene, page: str) -> None:
    address = f"/admin/{page}/"
    assert scene.client("superuser").get(address).status_code == 200
    assert scene.client("operator_all").get(address).status_code == 302


def test_django_admin_shows_no_secrets_and_changes_no_log(scene: Scene) -> None:
    source = scene.sources["schwerte"]
    source.credentials = {"api_key": "geheim"}
    source.save()
    client = scene.client("superuser")
    text = client.get(f"/admin/sources/source/{source.pk}/change/").content.decode()
    assert source.sealed_credentials not in text
    assert "geheim" not in text
    audit.log(SYSTEM, "device.change", "x")
    entry = AuditEntry.objects.get()
    assert client.post(f"/admin/cities/auditentry/{entry.pk}/change/", {"actor": "y"}).status_code == 403
    assert client.post(f"/admin/cities/auditentry/{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    person = scene.people["steward"]
    assert client.get(f"/admin/cities/person/{person.pk}/change/").status_code == 200
