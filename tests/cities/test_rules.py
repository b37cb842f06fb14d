"""Who may do what: the whole table of rights, written a second time and by hand."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils.functional import SimpleLazyObject
from pytest_django import DjangoAssertNumQueries

from quartier.cities import tokens
from quartier.cities.models import Municipality, Person, Role, RoleAssignment
from quartier.cities.rules import NOBODY, SCOPES, SYSTEM, Actor, NotAllowed, actor_of, actor_of_token
from tests.cities.conftest import MakePerson

ACTIONS = (
    "observations:write",
    "things:read",
    "devices:write",
    "sources:write",
    "quality:write",
    "messages:read",
    "codecs:write",
    "lorawan:write",
    "lorawan:send",
    "desk:enter",
    "audit:read",
)
# One column per action above.
TABLE = {
    Role.OPERATOR: "yes yes yes yes yes yes yes yes yes yes yes",
    Role.STEWARD: "no  yes yes no  yes yes yes no  yes yes no",
    Role.STAFF: "no  yes no  no  no  no  no  no  no  yes no",
    Role.MAKER: "yes no  no  no  no  no  no  no  no  no  no",
}
NOTHING = dict.fromkeys(ACTIONS, False)


def table(role: str) -> dict[str, bool]:
    return {action: word == "yes" for action, word in zip(ACTIONS, TABLE[Role(role)].split(), strict=True)}


def rights(actor: Actor, municipality: Municipality | None) -> dict[str, bool]:
    return {action: actor.may(action, municipality.pk if municipality else None) for action in ACTIONS}


def cut(allowed: dict[str, bool], scopes: list[str]) -> dict[str, bool]:
    return {action: yes and action in scopes for action, yes in allowed.items()}


def test_table_has_every_role_and_action() -> None:
    assert set(TABLE) == set(Role)
    assert set(SCOPES) == set(ACTIONS) - {"desk:enter", "audit:read"}


@pytest.mark.parametrize("role", TABLE)
def test_role_in_one_city(role: str, here: Municipality, there: Municipality, person: MakePerson) -> None:
    actor = actor_of(person((role, here)))
    assert rights(actor, here) == table(role)
    assert rights(actor, there) == NOTHING
    assert rights(actor, None) == table(role), "anywhere at all"
    for action in ACTIONS:
        assert actor.municipalities(action) == (frozenset({here.pk}) if table(role)[action] else frozenset())


@pytest.mark.parametrize("role", TABLE)
def test_role_everywhere(role: str, here: Municipality, there: Municipality, person: MakePerson) -> None:
    actor = actor_of(person((role, None)))
    for place in (here, there, None):
        assert rights(actor, place) == table(role)
    for action in ACTIONS:
        assert actor.municipalities(action) == (None if table(role)[action] else frozenset())


def test_roles_add_up(here: Municipality, there: Municipality, person: MakePerson) -> None:
    actor = actor_of(
        person((Role.STAFF, here), (Role.MAKER, here), (Role.STEWARD, there), (Role.MAKER, None))
    )
    staff_and_maker = {a: table(Role.STAFF)[a] or table(Role.MAKER)[a] for a in ACTIONS}
    steward_and_maker = {a: table(Role.STEWARD)[a] or table(Role.MAKER)[a] for a in ACTIONS}
    assert rights(actor, here) == staff_and_maker
    assert rights(actor, there) == steward_and_maker
    assert actor.municipalities("things:read") == frozenset({here.pk, there.pk})
    assert actor.municipalities("quality:write") == frozenset({there.pk})
    assert actor.municipalities("observations:write") is None


def test_role_that_is_no_longer_known_gives_nothing(here: Municipality, person: MakePerson) -> None:
    assert rights(actor_of(person(("mayor", here))), here) == NOTHING


def test_superuser_may_everything(here: Municipality, person: MakePerson) -> None:
    actor = actor_of(person(superuser=True))
    assert rights(actor, here) == dict.fromkeys(ACTIONS, True)
    assert actor.municipalities("audit:read") is None
    assert rights(SYSTEM, here) == dict.fromkeys(ACTIONS, True)


def test_nobody_may_nothing(here: Municipality, person: MakePerson) -> None:
    closed = person((Role.OPERATOR, here), active=False)
    closed_superuser = person(superuser=True, active=False)
    for actor in (
        NOBODY,
        actor_of(AnonymousUser()),
        actor_of(closed),
        actor_of(closed_superuser),
        actor_of(person()),
    ):
        assert rights(actor, here) == NOTHING
        assert rights(actor, None) == NOTHING
        assert actor.municipalities("things:read") == frozenset()
    assert actor_of(closed).person_id is None, "what belonged to a closed account is not shown to it"


def test_person_of_a_request_is_found_behind_its_lazy_wrapper(here: Municipality, person: MakePerson) -> None:
    steward = person((Role.STEWARD, here))
    lazy: Person = SimpleLazyObject(lambda: steward)  # type: ignore[assignment]
    assert actor_of(lazy) == actor_of(steward)


def test_require_names_the_missing_right(here: Municipality, there: Municipality, person: MakePerson) -> None:
    actor = actor_of(person((Role.STEWARD, here)))
    actor.require("quality:write", here.pk)
    with pytest.raises(NotAllowed) as caught:
        actor.require("quality:write", there.pk)
    assert caught.value.action == "quality:write"
    assert str(caught.value) == "missing right quality:write"
    assert str(NotAllowed("codecs:write", "Dortstadt")) == "missing right codecs:write in Dortstadt"


@pytest.mark.parametrize("role", TABLE)
@pytest.mark.parametrize(
    "scopes", [[], ["things:read"], ["observations:write", "quality:write"], list(SCOPES)]
)
def test_token_can_no_more_than_its_person_and_its_scopes(
    role: str, scopes: list[str], here: Municipality, there: Municipality, person: MakePerson
) -> None:
    token, _ = tokens.make(person((role, here)), name="Skript", scopes=scopes)
    actor = actor_of_token(token)
    assert rights(actor, here) == cut(table(role), scopes)
    assert rights(actor, there) == NOTHING
    assert (actor.name, actor.person_id, actor.superuser) == ("Ada (Skript)", token.person_id, False)


@pytest.mark.parametrize("held_everywhere", [True, False])
def test_token_bound_to_a_city(
    held_everywhere: bool, here: Municipality, there: Municipality, person: MakePerson
) -> None:
    held = [(Role.STEWARD, None)] if held_everywhere else [(Role.STEWARD, here), (Role.STEWARD, there)]
    token, _ = tokens.make(person(*held), name="Skript", scopes=list(SCOPES), municipality=here)
    actor = actor_of_token(token)
    assert rights(actor, here) == cut(table(Role.STEWARD), list(SCOPES))
    assert rights(actor, there) == NOTHING
    assert actor.municipalities("things:read") == frozenset({here.pk})


def test_token_bound_to_a_city_where_the_person_has_no_role(
    here: Municipality, there: Municipality, person: MakePerson
) -> None:
    token, _ = tokens.make(person((Role.STEWARD, there)), name="x", scopes=list(SCOPES), municipality=here)
    assert rights(actor_of_token(token), here) == NOTHING
    assert rights(actor_of_token(token), there) == NOTHING


@pytest.mark.parametrize("order", [1, -1])
def test_token_bound_to_a_city_joins_roles_held_there_and_everywhere(
    order: int, here: Municipality, there: Municipality, person: MakePerson
) -> None:
    held = [(Role.STEWARD, here), (Role.MAKER, None)][::order]
    token, _ = tokens.make(person(*held), name="x", scopes=list(SCOPES), municipality=here)
    both = {a: table(Role.STEWARD)[a] or table(Role.MAKER)[a] for a in ACTIONS}
    assert rights(actor_of_token(token), here) == cut(both, list(SCOPES))
    assert rights(actor_of_token(token), there) == NOTHING


def test_superusers_token_is_cut_to_its_scopes(
    here: Municipality, there: Municipality, person: MakePerson
) -> None:
    root = person(superuser=True)
    scopes = ["messages:read", "things:read"]
    everywhere, _ = tokens.make(root, name="x", scopes=scopes)
    wanted = {action: action in scopes for action in ACTIONS}
    assert rights(actor_of_token(everywhere), here) == wanted
    assert rights(actor_of_token(everywhere), there) == wanted
    assert not actor_of_token(everywhere).superuser
    bound, _ = tokens.make(root, name="x", scopes=scopes, municipality=here)
    assert rights(actor_of_token(bound), here) == wanted
    assert rights(actor_of_token(bound), there) == NOTHING


def test_scope_that_was_written_past_the_check_opens_no_desk(here: Municipality, person: MakePerson) -> None:
    token, _ = tokens.make(person(superuser=True), name="x", scopes=["things:read"])
    token.scopes = ["things:read", "desk:enter", "audit:read"]
    assert rights(actor_of_token(token), here) == NOTHING | {"things:read": True}


@pytest.mark.parametrize("superuser", [True, False])
def test_token_of_a_closed_account_can_nothing(
    superuser: bool, here: Municipality, person: MakePerson
) -> None:
    closed = person((Role.OPERATOR, here), active=False, superuser=superuser)
    token, _ = tokens.make(closed, name="x", scopes=list(SCOPES))
    assert rights(actor_of_token(token), here) == NOTHING
    assert actor_of_token(token).person_id is None


def test_actor_costs_one_query_however_many_roles(
    here: Municipality,
    there: Municipality,
    person: MakePerson,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    many = person(*((role, city) for role in Role for city in (here, there, None)))
    assert RoleAssignment.objects.filter(person=many).count() == 12
    with django_assert_num_queries(1):
        actor_of(many)
    people = Person.objects.prefetch_related("roles")
    person((Role.MAKER, here))
    with django_assert_num_queries(2):
        assert [len(actor_of(one).rights) for one in people.order_by("pk")] == [3, 1]
