"""Connecting a sensor: registration, where it stands, what its page says, and that it is its owner's alone."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from quartier.cities import tokens
from quartier.cities.models import AuditEntry, Municipality, RoleAssignment, Token
from quartier.cities.rules import actor_of
from quartier.intake.models import RefusedMessage
from quartier.portal import sensors
from quartier.portal.sensor_forms import locate, municipality_at
from quartier.twin.models import Device, ObservedProperty, Series, Thing
from tests.browser.scene import Scene, build

DATA = {
    "name": "Balkon Kaiserviertel",
    "exposure": "outdoor",
    "lon": "7.4653",
    "lat": "51.5139",
    "height": "2,5",
    "properties": ["air_temperature", "co2"],
}


@pytest.fixture
def scene(db: None) -> Scene:
    cache.clear()
    return build()


def test_guide_is_for_everybody_and_the_form_for_who_is_signed_in(client: Client, scene: Scene) -> None:
    text = client.get("/mitmachen/sensor/").content.decode()
    assert "/accounts/signup/?next=/mitmachen/sensor/" in text
    assert 'name="lon"' not in text
    assert "IHR_SCHLUESSEL" in text
    assert client.post("/mitmachen/sensor/", DATA).headers["Location"] == "/accounts/login/"
    client.force_login(scene.people["citizen"])
    assert 'name="lon"' in client.get("/mitmachen/sensor/").content.decode()


def test_sensor_is_registered_with_a_key_of_its_own(client: Client, scene: Scene) -> None:
    client.force_login(scene.people["citizen"])
    response = client.post("/mitmachen/sensor/", DATA)
    assert response.headers["Location"] == "/mitmachen/sensor/dortmund/balkon-kaiserviertel/"
    thing = Thing.objects.get()
    device = sensors.device_of(thing)
    assert device is not None
    assert (thing.municipality, thing.kind, thing.lon, thing.lat, thing.public) == (
        scene.dortmund,
        "citizen_sensor",
        7.4653,
        51.5139,
        True,
    )
    assert thing.deployments.get().height_above_ground_m == 2.5
    assert (device.source_key, device.external_id) == ("makers", "balkon-kaiserviertel")
    assert RoleAssignment.objects.filter(person=scene.people["citizen"], role="maker").count() == 1

    page = client.get(response.headers["Location"]).content.decode()
    shown = re.findall(r"qt_[0-9a-f]{10}_[\w-]{43}", page)
    token = tokens.find(shown[0])
    assert set(shown) == {shown[0]}
    assert (token.scopes, token.municipality) == (["observations:write"], scene.dortmund)
    assert "&quot;air_temperature&quot;: 21.4, &quot;co2&quot;: 612" in page or '"co2": 612' in page
    assert "quartier/v1/balkon-kaiserviertel" in page

    again = client.get(response.headers["Location"]).content.decode()
    assert shown[0] not in again
    assert "IHR_SCHLUESSEL" in again
    assert {e.action for e in AuditEntry.objects.all()} == {"role.grant", "sensor.register", "token.create"}


def test_indoor_sensor_is_not_public(client: Client, scene: Scene) -> None:
    client.force_login(scene.people["maker"])
    client.post("/mitmachen/sensor/", {**DATA, "exposure": "indoor"})
    assert not Thing.objects.get().public


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"lon": "", "lat": ""}, "lon"),
        ({"lon": "abc"}, "lon"),
        ({"lon": "nan"}, "lon"),
        ({"lon": "181"}, "lon"),
        ({"lat": "91"}, "lat"),
        ({"lon": "13.4", "lat": "52.5"}, "lon"),  # Berlin
        ({"lon": "51.5139", "lat": "7.4653"}, "lon"),  # swapped
        ({"exposure": "roof"}, "exposure"),
        ({"height": "1e9"}, "height"),
        ({"properties": ["love"]}, "properties"),
        ({"sensor_id": "x" * 121}, "sensor_id"),
        ({"street": "Hinter den Sieben Bergen", "lon": "", "lat": ""}, "lon"),
    ],
)
def test_registration_that_cannot_be_used_names_the_field(
    client: Client, scene: Scene, wrong: dict[str, object], field: str
) -> None:
    client.force_login(scene.people["citizen"])
    response = client.post("/mitmachen/sensor/", {**DATA, **wrong})
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert not Thing.objects.exists()
    assert not Token.objects.exists()
    assert not RoleAssignment.objects.filter(person=scene.people["citizen"]).exists()


def test_place_is_found_by_a_known_street_and_shown_for_a_check(client: Client, scene: Scene) -> None:
    Thing.objects.create(
        municipality=scene.schwerte,
        key="a",
        name="Markt",
        kind="station",
        street="Hagener Straße",
        lon=7.56,
        lat=51.44,
    )
    assert locate("Hagener Str. 5") == (7.56, 51.44)
    assert locate("Nirgendwo 1") is None
    client.force_login(scene.people["citizen"])
    data = {**DATA, "street": "Hagener Straße", "house_number": "5", "lon": "", "lat": ""}
    first = client.post("/mitmachen/sensor/", data)
    assert first.status_code == 422
    text = first.content.decode()
    assert 'value="7.56000"' in text
    assert 'value="51.44000"' in text
    assert "Ungefähr hier" in text
    second = client.post("/mitmachen/sensor/", {**data, "lon": "7.56000", "lat": "51.44000"})
    assert second.headers["Location"].startswith("/mitmachen/sensor/")
    assert Thing.objects.get(kind="citizen_sensor").street == "Hagener Straße"


@pytest.mark.parametrize(
    ("lon", "lat", "slug"),
    [
        (7.40, 51.55, "dortmund"),
        (7.65, 51.40, "schwerte"),
        (7.56, 51.41, "schwerte"),  # inside both bounds with their margin, but only Schwerte's district
        (9.99, 53.55, None),
    ],
)
def test_municipality_at_a_point(scene: Scene, lon: float, lat: float, slug: str | None) -> None:
    found = municipality_at(lon, lat)
    assert (found.slug if found else None) == slug


def test_municipality_without_districts_is_found_by_its_bounds(scene: Scene) -> None:
    Municipality.objects.create(
        slug="insel", name="Insel", lon=8, lat=54, west=7.9, south=53.9, east=8.1, north=54.1
    )
    found = municipality_at(8.0, 54.0)
    assert found is not None
    assert found.slug == "insel"


@pytest.fixture
def thing(client: Client, scene: Scene) -> Thing:
    client.force_login(scene.people["citizen"])
    client.post("/mitmachen/sensor/", DATA)
    return Thing.objects.get()


ADDRESS = "/mitmachen/sensor/dortmund/balkon-kaiserviertel/"


@pytest.mark.parametrize("other", ["operator", "maker", None])
@pytest.mark.parametrize("what", ["", "stand/"])
def test_page_is_its_owners_alone(scene: Scene, thing: Thing, other: str | None, what: str) -> None:
    visitor = Client()
    if other is None:
        assert visitor.get(ADDRESS + what).status_code == 302
    else:
        visitor.force_login(scene.people[other])
        assert visitor.get(ADDRESS + what).status_code == 404
        assert visitor.post(ADDRESS + "abmelden/").status_code == 404
    assert thing.deployments.get().until is None


def _refuse(thing: Thing, **values: object) -> RefusedMessage:
    return RefusedMessage.objects.create(
        **{
            "municipality": thing.municipality,
            "source_key": "makers",
            "external_id": "balkon-kaiserviertel",
            "reason": "bad_value",
            "detail": "values.air_temperature",
            "body": b"{}",
            **values,
        }
    )


def test_page_waits_until_something_arrives(client: Client, thing: Thing) -> None:
    response = client.get(ADDRESS + "stand/")
    text = response.content.decode()
    assert response.status_code == 200, "the page asks again"
    assert 'hx-trigger="every 3s"' in text
    assert "Wir warten auf Ihre erste Nachricht" in text


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({}, True),
        ({"external_id": "", "headers": {"device": "balkon-kaiserviertel"}}, True),
        ({"external_id": "another"}, False),
        ({"source_key": "element"}, False),
        ({"resolved_at": timezone.now()}, False),
        ({"at": timezone.now() - timedelta(days=1)}, False),  # before it was registered
    ],
)
def test_refusal_is_explained_to_the_maker(
    client: Client, thing: Thing, values: dict[str, object], shown: bool
) -> None:
    _refuse(thing, **values)
    text = client.get(ADDRESS + "stand/").content.decode()
    assert ("Ein Wert ist keine Zahl" in text) == shown
    assert ("values.air_temperature" in text) == shown
    assert ("Wir warten" in text) != shown


def test_refusal_of_municipality_elsewhere_is_not_shown(client: Client, scene: Scene, thing: Thing) -> None:
    _refuse(thing, municipality=scene.schwerte)
    assert "Ein Wert ist keine Zahl" not in client.get(ADDRESS + "stand/").content.decode()


def test_unknown_reason_is_shown_as_it_is(client: Client, thing: Thing) -> None:
    _refuse(thing, reason="new_reason", detail="<script>")
    text = client.get(ADDRESS + "stand/").content.decode()
    assert "new_reason" in text
    assert "&lt;script&gt;" in text


def _record(thing: Thing, value: float, seconds_ago: float = 0) -> None:
    from django.db import connection

    prop = ObservedProperty.objects.get(slug="air_temperature")
    series, _made = Series.objects.get_or_create(
        municipality=thing.municipality,
        thing=thing,
        observed_property=prop,
        defaults={"unit": prop.unit, "result_type": prop.result_type},
    )
    time = timezone.now() - timedelta(seconds=seconds_ago)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO twin_state (municipality_id, series_id, n, first_time, time, result, flags,"
            " recorded_at) VALUES (%s, %s, 1, %s, %s, %s, 0, %s)",
            [thing.municipality_id, series.pk, time, time, value, time],
        )


def test_first_reading_ends_the_waiting(client: Client, thing: Thing) -> None:
    _refuse(thing, at=timezone.now() - timedelta(seconds=10))
    Device.objects.update(created_at=timezone.now() - timedelta(minutes=1))
    _record(thing, 21.44)
    response = client.get(ADDRESS + "stand/")
    text = response.content.decode()
    assert response.status_code == 286, "htmx stops asking"
    assert "Angekommen!" in text
    assert "21,4\u00a0°C" in text
    assert "Ein Wert ist keine Zahl" not in text, "what came after the refusal was fine"
    _refuse(thing)
    assert "Ein Wert ist keine Zahl" in client.get(ADDRESS + "stand/").content.decode()


def test_sensor_is_retired_and_keeps_what_it_measured(client: Client, scene: Scene, thing: Thing) -> None:
    assert client.get(ADDRESS + "abmelden/").status_code == 405
    assert client.post(ADDRESS + "abmelden/").headers["Location"] == "/konto/"
    assert thing.deployments.get().until is not None
    assert not Device.objects.get().active
    assert AuditEntry.objects.filter(action="sensor.retire").count() == 1
    assert "abgemeldet" in client.get(ADDRESS).content.decode()
    assert client.get(ADDRESS + "stand/").status_code == 286
    assert Thing.objects.count() == 1


def test_examples_fit_what_the_sensor_measures() -> None:
    assert sensors.example_values(["co2", "pm10"]) == [("co2", "612"), ("pm10", "11.8")]
    assert sensors.example_values([]) == [("air_temperature", "21.4")]
    assert sensors.example_values(["not-in-the-list"]) == [("air_temperature", "21.4")]


def test_actor_of_a_maker_may_send_where_her_sensor_stands(scene: Scene, thing: Thing) -> None:
    actor = actor_of(scene.people["citizen"])
    assert actor.may("observations:write", scene.dortmund.pk)
    assert not actor.may("observations:write", scene.schwerte.pk)
