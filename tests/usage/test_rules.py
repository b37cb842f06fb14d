"""What somebody may read: open data for everybody, the rest for those it belongs to."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from django.db import IntegrityError, transaction
from pytest_django import DjangoAssertNumQueries

from quartier.cities import tokens
from quartier.cities.models import Municipality, Person, Role, RoleAssignment
from quartier.cities.rules import NOBODY, SYSTEM, Actor, actor_of, actor_of_token
from quartier.twin.models import Thing
from quartier.usage.models import Dataset
from quartier.usage.rules import dataset_of, licence, may, visible_things

# Key of each thing: city, kind, and what makes it special.
THINGS = {
    "here-station": ("here", "station", True, None),
    "here-lamp": ("here", "street_lamp", True, None),
    "here-hidden": ("here", "station", False, None),
    "here-balcony": ("here", "citizen_sensor", False, "maker"),
    "here-garden": ("here", "citizen_sensor", True, "maker"),
    "there-station": ("there", "station", True, None),
    "there-hidden": ("there", "station", False, None),
    "there-lamp": ("there", "street_lamp", True, None),
}
OPEN = {"here-station", "here-lamp", "here-garden", "there-station", "there-lamp"}


@pytest.fixture
def cities(db: None) -> Mapping[str, Municipality]:
    return {
        slug: Municipality.objects.create(
            slug=slug, name=slug, lon=7.5, lat=51.5, west=7.4, south=51.4, east=7.6, north=51.6
        )
        for slug in ("here", "there")
    }


@pytest.fixture
def people(cities: Mapping[str, Municipality]) -> Mapping[str, Person]:
    made = {
        name: Person.objects.create(email=f"{name}@example.org", name=name)
        for name in ("citizen", "maker", "staff", "steward_all", "closed")
    }
    RoleAssignment.objects.create(person=made["maker"], role=Role.MAKER, municipality=cities["here"])
    RoleAssignment.objects.create(person=made["staff"], role=Role.STAFF, municipality=cities["here"])
    RoleAssignment.objects.create(person=made["steward_all"], role=Role.STEWARD)
    return made


@pytest.fixture
def things(cities: Mapping[str, Municipality], people: Mapping[str, Person]) -> None:
    for key, (city, kind, public, owner) in THINGS.items():
        Thing.objects.create(
            municipality=cities[city],
            key=key,
            name=key,
            kind=kind,
            public=public,
            owner_person_id=people[owner].pk if owner else None,
        )


def dataset(city: Municipality, slug: str, *kinds: str, public: bool = True) -> Dataset:
    return Dataset.objects.create(
        municipality=city, slug=slug, title_de=slug, title_en=slug, thing_kinds=list(kinds), public=public
    )


def seen(actor: Actor) -> set[str]:
    return {thing.key for thing in visible_things(actor)}


@pytest.mark.usefixtures("things")
def test_everybody_sees_what_is_public(people: Mapping[str, Person]) -> None:
    assert seen(NOBODY) == OPEN
    assert seen(actor_of(people["citizen"])) == OPEN


@pytest.mark.usefixtures("things")
def test_maker_sees_her_own_as_well(people: Mapping[str, Person]) -> None:
    assert seen(actor_of(people["maker"])) == OPEN | {"here-balcony"}


@pytest.mark.usefixtures("things")
def test_closed_account_sees_what_everybody_sees(people: Mapping[str, Person]) -> None:
    Person.objects.filter(pk=people["maker"].pk).update(is_active=False)
    assert seen(actor_of(Person.objects.get(pk=people["maker"].pk))) == OPEN


@pytest.mark.usefixtures("things")
def test_staff_sees_all_of_its_city_and_no_more_of_the_neighbours(people: Mapping[str, Person]) -> None:
    assert seen(actor_of(people["staff"])) == OPEN | {"here-hidden", "here-balcony"}


@pytest.mark.usefixtures("things")
def test_who_may_read_everywhere_sees_all(people: Mapping[str, Person]) -> None:
    assert seen(actor_of(people["steward_all"])) == set(THINGS)
    assert seen(SYSTEM) == set(THINGS)


@pytest.mark.usefixtures("things")
def test_closed_data_set_closes_its_things_and_no_others(
    cities: Mapping[str, Municipality], people: Mapping[str, Person]
) -> None:
    dataset(cities["here"], "leuchten", "street_lamp", "citizen_sensor", public=False)
    dataset(cities["there"], "stationen", "station")
    assert seen(NOBODY) == OPEN - {"here-lamp", "here-garden"}
    assert seen(actor_of(people["maker"])) == OPEN - {"here-lamp"} | {"here-balcony"}, "her own stay hers"
    assert seen(actor_of(people["staff"])) == OPEN | {"here-hidden", "here-balcony"}
    dataset(cities["there"], "alles", "station", "street_lamp", public=False)
    assert seen(actor_of(people["staff"])) == {key for key in THINGS if key.startswith("here")}


@pytest.mark.usefixtures("things")
def test_closed_data_set_without_kinds_closes_nothing(cities: Mapping[str, Municipality]) -> None:
    dataset(cities["here"], "leer", public=False)
    assert seen(NOBODY) == OPEN


@pytest.mark.usefixtures("things")
def test_token_reads_as_far_as_its_scopes(people: Mapping[str, Person]) -> None:
    writing, _ = tokens.make(people["staff"], name="x", scopes=[])
    reading, _ = tokens.make(people["staff"], name="x", scopes=["things:read"])
    assert seen(actor_of_token(writing)) == OPEN
    assert seen(actor_of_token(reading)) == OPEN | {"here-hidden", "here-balcony"}


@pytest.mark.usefixtures("things")
def test_choice_of_things_is_only_ever_narrowed(people: Mapping[str, Person]) -> None:
    stations = Thing.objects.filter(kind="station")
    for actor, wanted in (
        (NOBODY, {"here-station", "there-station"}),
        (actor_of(people["staff"]), {"here-station", "here-hidden", "there-station"}),
        (SYSTEM, {"here-station", "here-hidden", "there-station", "there-hidden"}),
    ):
        assert {thing.key for thing in visible_things(actor, stations)} == wanted


@pytest.mark.usefixtures("things")
def test_question_costs_two_queries(
    cities: Mapping[str, Municipality], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        dataset(cities["here"], f"zu-{number}", "tree", public=False)
    with django_assert_num_queries(2):
        assert len(visible_things(NOBODY)) == len(OPEN)


@pytest.mark.usefixtures("things")
def test_data_set_of_a_thing(cities: Mapping[str, Municipality]) -> None:
    klima = dataset(cities["here"], "klima", "station", "citizen_sensor")
    dataset(cities["there"], "licht", "street_lamp")
    found = {thing.key: dataset_of(thing) for thing in Thing.objects.all()}
    assert found["here-station"] == found["here-balcony"] == klima
    assert found["here-lamp"] is None
    assert found["there-station"] is None, "the neighbour's licence is his own"


@pytest.mark.parametrize("public", [True, False])
def test_may(public: bool, cities: Mapping[str, Municipality], people: Mapping[str, Person]) -> None:
    klima = dataset(cities["here"], "klima", "station", public=public)
    foreign = dataset(cities["there"], "klima", "station", public=public)
    everybody, staff = NOBODY, actor_of(people["staff"])
    assert may(everybody, "read", klima) is public
    assert may(actor_of(people["maker"]), "read", klima) is public
    assert may(staff, "read", klima)
    assert may(staff, "read", foreign) is public
    assert may(SYSTEM, "read", foreign)
    # Openness is about reading only.
    steward = actor_of(people["steward_all"])
    assert not may(everybody, "quality:write", klima)
    assert not may(staff, "quality:write", klima)
    assert may(steward, "quality:write", klima)


def test_licence_is_stated_or_said_to_be_missing(cities: Mapping[str, Municipality]) -> None:
    klima = dataset(cities["here"], "klima", "station")
    klima.attribution = "Stadt Hierstadt"
    assert licence(klima) == {
        "licence": "Datenlizenz Deutschland – Zero – Version 2.0",
        "licence_url": "https://www.govdata.de/dl-de/zero-2-0",
        "attribution": "Stadt Hierstadt",
    }
    assert licence(None) == {"licence": None, "licence_url": None, "attribution": None}


def test_slug_of_a_data_set_is_taken_once_per_city(cities: Mapping[str, Municipality]) -> None:
    dataset(cities["here"], "klima")
    dataset(cities["there"], "klima")
    with pytest.raises(IntegrityError), transaction.atomic():
        dataset(cities["here"], "klima")
