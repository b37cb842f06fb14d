"""Two neighbouring cities, and people in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quartier.cities.models import Municipality, Person, RoleAssignment

# A role held in a city, or everywhere where the city is None.
Held = tuple[str, Municipality | None]
MakePerson = Callable[..., Person]


def _city(slug: str, lon: float) -> Municipality:
    return Municipality.objects.create(
        slug=slug,
        name=slug.capitalize(),
        lon=lon,
        lat=51.5,
        west=lon - 0.1,
        south=51.4,
        east=lon + 0.1,
        north=51.6,
    )


@pytest.fixture
def here(db: None) -> Municipality:
    """The city in which roles are held."""
    return _city("hierstadt", 7.5)


@pytest.fixture
def there(db: None) -> Municipality:
    """The neighbour."""
    return _city("dortstadt", 7.9)


@pytest.fixture
def person(db: None) -> MakePerson:
    """Makes a person with roles."""

    def make(*held: Held, active: bool = True, superuser: bool = False, name: str = "Ada") -> Person:
        made = Person.objects.create(
            email=f"person{Person.objects.count()}@example.org",
            name=name,
            is_active=active,
            is_superuser=superuser,
        )
        for role, municipality in held:
            RoleAssignment.objects.create(person=made, role=role, municipality=municipality)
        return made

    return make
