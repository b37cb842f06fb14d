"""The audit log: written with what it tells of, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import transaction

from quartier.cities import audit, tokens
from quartier.cities.models import AuditEntry, Municipality, Role
from quartier.cities.rules import SYSTEM, actor_of, actor_of_token
from tests.cities.conftest import MakePerson


def test_entry_says_who_did_what_where(here: Municipality, person: MakePerson) -> None:
    ada = person((Role.STEWARD, here))
    audit.log(actor_of(ada), "finding.confirmed", "series 7", municipality_id=here.pk, readings=3, note="ä")
    entry = AuditEntry.objects.get()
    assert (entry.person, entry.actor, entry.municipality, entry.action, entry.target, entry.detail) == (
        ada,
        "Ada",
        here,
        "finding.confirmed",
        "series 7",
        {"readings": 3, "note": "ä"},
    )
    assert abs(entry.at - datetime.now(UTC)) < timedelta(seconds=10)


def test_token_and_command_line_are_told_apart(here: Municipality, person: MakePerson) -> None:
    token, _ = tokens.make(person((Role.OPERATOR, here)), name="Skript", scopes=["devices:write"])
    audit.log(actor_of_token(token), "device.save", "aa01")
    audit.log(SYSTEM, "device.save", "aa02")
    by_token, by_system = AuditEntry.objects.order_by("pk")
    assert (by_token.actor, by_token.person_id) == ("Ada (Skript)", token.person_id)
    assert (by_system.actor, by_system.person_id) == ("system", None)


def test_long_names_are_cut(person: MakePerson) -> None:
    audit.log(actor_of(person(name="A" * 150)), "x", "b" * 300)
    token, _ = tokens.make(person(name="A" * 150), name="N" * 100, scopes=[])
    audit.log(actor_of_token(token), "x", "b")
    assert [len(entry.actor) for entry in AuditEntry.objects.order_by("pk")] == [150, 200]
    assert AuditEntry.objects.order_by("pk")[0].target == "b" * 200


def test_what_was_undone_is_not_in_the_log(db: None) -> None:
    with transaction.atomic():
        audit.log(SYSTEM, "device.save", "aa01")
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()


def test_entry_outlives_its_person_and_city(here: Municipality, person: MakePerson) -> None:
    ada = person((Role.STEWARD, here))
    audit.log(actor_of(ada), "x", "y", municipality_id=here.pk)
    ada.delete()
    here.delete()
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.person, entry.municipality) == ("Ada", None, None)
