"""What the tables themselves keep right."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from quartier.cities.models import Municipality, Person, Role, RoleAssignment
from tests.cities.conftest import MakePerson


def test_e_mail_address_is_one_account_however_it_is_written(db: None) -> None:
    ada = Person.objects.create_user("Ada.Muster@Example.ORG", "ein langes Kennwort", name="Ada")
    assert ada.email == "ada.muster@example.org"
    assert ada.check_password("ein langes Kennwort")
    with pytest.raises(IntegrityError), transaction.atomic():
        Person.objects.create_user("ada.muster@EXAMPLE.org", "x")


def test_person_without_password_cannot_sign_in_by_one(db: None) -> None:
    ada = Person.objects.create_user("ada@example.org")
    assert not ada.has_usable_password()
    assert not ada.check_password("")


def test_superuser_enters_the_admin(db: None) -> None:
    root = Person.objects.create_superuser("root@example.org", "ein langes Kennwort")
    assert (root.is_staff, root.is_superuser, root.is_active) == (True, True, True)


def test_person_is_called_by_name_or_address(db: None) -> None:
    assert str(Person(email="ada@example.org", name="Ada")) == "Ada"
    assert str(Person(email="ada@example.org")) == "ada@example.org"
    assert Person(email="ada@example.org").get_full_name() == "ada@example.org"


@pytest.mark.parametrize("everywhere", [True, False])
def test_role_is_held_once(everywhere: bool, here: Municipality, person: MakePerson) -> None:
    place = None if everywhere else here
    ada = person((Role.MAKER, place))
    with pytest.raises(IntegrityError), transaction.atomic():
        RoleAssignment.objects.create(person=ada, role=Role.MAKER, municipality=place)
    RoleAssignment.objects.create(person=ada, role=Role.STAFF, municipality=place)
