"""People, roles and tokens by command."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Quartier

PASSWORD = "Ruhr-Emscher-7"


@pytest.fixture
def cities(quartier: Quartier) -> None:
    quartier("load", "cities")


def add(quartier: Quartier, email: str, *options: str) -> str:
    return quartier("users", "add", email, "--password-stdin", *options, typed=f"{PASSWORD}\n")


def test_person_can_sign_in_and_has_the_role(quartier: Quartier, cities: None) -> None:
    from allauth.account.models import EmailAddress
    from django.contrib.auth import authenticate

    from quartier.cities.models import AuditEntry, Person
    from quartier.cities.rules import actor_of

    said = add(
        quartier, "Erika@Example.org", "--name", "Erika", "--role", "steward", "--municipality", "schwerte"
    )
    assert said == "Erika@Example.org has an account.\n"
    person = Person.objects.get()
    assert (person.email, person.name, person.is_superuser) == ("erika@example.org", "Erika", False)
    assert authenticate(email="erika@example.org", password=PASSWORD) == person
    assert EmailAddress.objects.filter(user=person, verified=True, primary=True).count() == 1
    schwerte = person.roles.get().municipality
    assert schwerte is not None
    assert schwerte.slug == "schwerte"
    assert actor_of(person).may("quality:write", schwerte.pk)
    assert not actor_of(person).may("quality:write", schwerte.pk + 1)
    entries = list(AuditEntry.objects.filter(target="erika@example.org").values_list("action", flat=True))
    assert sorted(entries) == ["person.add", "role.grant"]
    assert AuditEntry.objects.filter(target="erika@example.org")[0].actor.startswith("command line (")


def test_password_is_made_up_where_none_is_given(quartier: Quartier) -> None:
    from quartier.cities.models import Person

    said = quartier("users", "add", "a@example.org", typed="\n\n")
    made = said.rpartition("Password: ")[2].strip()
    assert len(made) == 16
    assert Person.objects.get().check_password(made)


@pytest.mark.parametrize(
    ("arguments", "typed", "status", "message"),
    [
        (["users", "add", "nobody", "--password-stdin"], PASSWORD, 2, "'nobody' is not an e-mail address"),
        (["users", "add", "a@example.org", "--password-stdin"], "short", 1, "at least 10 characters"),
        (
            ["users", "add", "a@example.org", "--password-stdin", "--role", "king"],
            PASSWORD,
            2,
            "'king' is not one of",
        ),
        (
            [
                "users",
                "add",
                "a@example.org",
                "--password-stdin",
                "--role",
                "staff",
                "--municipality",
                "unna",
            ],
            PASSWORD,
            1,
            "There is no municipality 'unna'. Known: dortmund, schwerte.",
        ),
        (["users", "role", "a@example.org", "staff"], "", 1, "Nobody has an account with a@example.org."),
        (["tokens", "revoke", "0123456789"], "", 1, "There is no token 0123456789"),
    ],
)
@pytest.mark.usefixtures("cities")
def test_mistakes_are_explained_and_change_nothing(
    quartier: Quartier, arguments: list[str], typed: str, status: int, message: str
) -> None:
    from quartier.cities.models import Person

    assert message in quartier(*arguments, typed=typed, status=status)
    assert not Person.objects.exists()


def test_second_account_is_refused(quartier: Quartier) -> None:
    add(quartier, "a@example.org")
    assert "A@example.org has an account already." in quartier(
        "users", "add", "A@example.org", "--password-stdin", typed=PASSWORD, status=1
    )


def test_roles_are_granted_and_taken_away(quartier: Quartier, cities: None) -> None:
    from quartier.cities.models import RoleAssignment

    add(quartier, "a@example.org")
    assert quartier("users", "role", "a@example.org", "staff") == "a@example.org is now staff everywhere.\n"
    assert (
        quartier("users", "role", "a@example.org", "staff") == "a@example.org is already staff everywhere.\n"
    )
    quartier("users", "role", "a@example.org", "staff", "--municipality", "dortmund")
    assert "a@example.org is not staff in schwerte." in quartier(
        "users", "role", "a@example.org", "staff", "--municipality", "schwerte", "--remove", status=1
    )
    quartier("users", "role", "a@example.org", "staff", "--municipality", "dortmund", "--remove")
    assert RoleAssignment.objects.get().municipality is None
    listed = quartier("users", "list")
    assert "a@example.org" in listed
    assert "staff (everywhere)" in listed


def test_password_changes_and_account_closes(quartier: Quartier) -> None:
    from quartier.cities.models import Person

    add(quartier, "a@example.org", "--superuser")
    quartier("users", "password", "a@example.org", "--password-stdin", typed="Hohensyburg-1891\n")
    person = Person.objects.get()
    assert person.check_password("Hohensyburg-1891")
    assert person.is_superuser
    quartier("users", "close", "a@example.org")
    assert not Person.objects.get().is_active
    assert "no" in quartier("users", "list").splitlines()[-1].split()
    quartier("users", "close", "a@example.org", "--on")
    assert Person.objects.get().is_active


def test_token_is_shown_once_and_revoked(quartier: Quartier, cities: None) -> None:
    from quartier.cities.tokens import TokenError, find

    add(quartier, "a@example.org", "--role", "maker")
    text = quartier(
        "tokens",
        "create",
        "a@example.org",
        "--name",
        "balcony",
        "--scope",
        "observations:write",
        "--days",
        "30",
    ).strip()
    token = find(text)
    assert token.name == "balcony"
    assert token.scopes == ["observations:write"]
    assert token.expires_at is not None
    assert round((token.expires_at - token.created_at).total_seconds() / 86_400) == 30
    listed = quartier("tokens", "list")
    assert token.prefix in listed
    assert text.split("_")[2] not in listed
    quartier("tokens", "revoke", text)
    with pytest.raises(TokenError, match="revoked"):
        find(text)


def test_unknown_scope_names_the_known_ones(quartier: Quartier) -> None:
    add(quartier, "a@example.org")
    said = quartier("tokens", "create", "a@example.org", "--name", "x", "--scope", "everything", status=1)
    assert "unknown scope 'everything'; known: observations:write" in said
