"""The shell's pages without a browser: languages, errors, headers of the page, number of queries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import pytest
from django.core.cache import cache
from django.db import DatabaseError
from django.test import Client, override_settings
from django.urls import path
from django.utils import translation
from django.utils.formats import date_format
from pytest_django import DjangoAssertNumQueries
from tools import compile_messages

from quartier.cities.models import Feedback, Municipality, Person, Role, RoleAssignment
from quartier.cities.rules import NotAllowed
from quartier.portal import context, limits
from tests.browser.scene import Scene, build

PAGES = ("/impressum/", "/datenschutz/", "/barrierefreiheit/", "/leichte-sprache/", "/feedback/", "/daten/")


@pytest.fixture(scope="module", autouse=True)
def _translations() -> None:
    compile_messages.compile_all()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Names of cities and counts of tries are kept in the process; each test begins without."""
    context._kept = None
    cache.clear()
    yield
    context._kept = None


@pytest.fixture
def scene(db: None) -> Scene:
    return build()


def _heading(content: bytes) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", content.decode(), re.DOTALL)
    assert found is not None
    return found[1].strip()


@pytest.mark.parametrize("address", PAGES)
def test_page_answers_in_both_languages(client: Client, scene: Scene, address: str) -> None:
    german = client.get(address)
    english = client.get(address, {"lang": "en"})
    assert (german.status_code, english.status_code) == (200, 200)
    assert b'<html lang="de"' in german.content
    assert b'<html lang="en"' in english.content
    assert english.cookies["django_language"].value == "en"
    assert b'<html lang="en"' in client.get(address).content, "the choice is remembered"


def test_unknown_language_changes_nothing(client: Client, db: None) -> None:
    response = client.get("/impressum/", {"lang": "xx"})
    assert b'<html lang="de"' in response.content
    assert not response.cookies


def test_page_works_in_an_empty_installation(client: Client, db: None) -> None:
    for address in PAGES:
        assert client.get(address).status_code == 200
    assert "Noch keine Kommune eingerichtet" in client.get("/impressum/").content.decode()


def test_static_page_costs_no_query_once_the_cities_are_known(
    client: Client, scene: Scene, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client.get("/impressum/")
    with django_assert_num_queries(0):
        client.get("/impressum/")


def test_open_data_needs_as_many_queries_for_many_data_sets(
    client: Client, scene: Scene, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client.get("/daten/")
    with django_assert_num_queries(4):
        assert client.get("/daten/").content.count(b"q-card__title") == 2
    for municipality in Municipality.objects.all():
        for kind in ("tree", "counter", "level_gauge"):
            municipality.datasets.create(slug=kind, title_de=kind, title_en=kind, thing_kinds=[kind])
    with django_assert_num_queries(4):
        assert client.get("/daten/").content.count(b"q-card__title") == 8


def test_imprint_names_both_cities_and_their_contacts(client: Client, scene: Scene) -> None:
    text = client.get("/impressum/").content.decode()
    for slug in ("dortmund", "schwerte"):
        assert f"mailto:daten@{slug}.example" in text


def test_only_city_lends_its_theme(client: Client, scene: Scene) -> None:
    assert b'data-city="' not in client.get("/impressum/").content.split(b"<head>")[0]
    scene.schwerte.delete()
    context._kept = None
    assert b'<html lang="de" data-city="dortmund">' in client.get("/impressum/").content


def test_page_is_shown_while_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_options: object) -> tuple[context.City, ...]:
        raise DatabaseError("gone")

    monkeypatch.setattr(context, "cities", away)
    assert client.get("/nirgendwo/").status_code == 404


def test_too_many_tries_to_sign_in_are_explained(client: Client, scene: Scene) -> None:
    for _try in range(40):
        response = client.post("/accounts/login/", {"login": "nobody@example.org", "password": "x"})
        if response.status_code == 429:
            break
    assert response.status_code == 429
    assert _heading(response.content) == "Bitte etwas langsamer"


def test_navigation_marks_the_nearest_entry() -> None:
    def current(path: str) -> list[str]:
        return [entry["address"] for entry in context._navigation(path) if entry["current"]]

    assert current("/") == ["/"]
    assert current("/orte/") == ["/orte/"]
    assert current("/orte/karte") == ["/orte/karte"]
    assert current("/orte/dortmund/x/") == ["/orte/"]
    assert current("/impressum/") == []


def test_missing_page_is_a_404_with_a_search(client: Client, db: None) -> None:
    response = client.get("/nirgendwo/")
    assert response.status_code == 404
    assert _heading(response.content) == "Diese Seite gibt es nicht"
    assert b'id="q-search-error"' in response.content


def _forbidden(request: object) -> None:
    raise NotAllowed("codecs:write")


def _broken(request: object) -> None:
    raise RuntimeError("on purpose")


urlpatterns = [path("verboten/", _forbidden), path("kaputt/", _broken)]  # type: ignore[arg-type]


@pytest.fixture
def odd_urls() -> Iterator[None]:
    """The usual addresses and two that fail."""
    from quartier import urls

    before = list(urls.urlpatterns)
    urls.urlpatterns[:0] = urlpatterns
    from django.urls import clear_url_caches

    clear_url_caches()
    yield
    urls.urlpatterns[:] = before
    clear_url_caches()


def test_missing_right_is_a_403_that_names_it(client: Client, scene: Scene, odd_urls: None) -> None:
    anonymous = client.get("/verboten/")
    assert anonymous.status_code == 403
    text = anonymous.content.decode()
    assert "Codecs und Zuordnungen ändern" in text
    assert "codecs:write" in text
    assert "nur anmelden" in text
    client.force_login(scene.people["staff"])
    assert "Der Betrieb Ihrer Stadt kann es Ihnen geben" in client.get("/verboten/").content.decode()


def test_failure_is_a_500_without_details(scene: Scene, odd_urls: None) -> None:
    response = Client(raise_request_exception=False).get("/kaputt/")
    assert response.status_code == 500
    assert b"on purpose" not in response.content
    assert _heading(response.content) == "Das hat leider nicht geklappt"


def test_address_of_a_form_is_explained_to_who_opens_it(client: Client, scene: Scene) -> None:
    person = Person.objects.create_user(email="admin@example.org", password=None, is_superuser=True)
    client.force_login(person)
    answer = client.get("/amt/qualitaet/entscheiden/", headers={"accept-language": "en"})
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "There is nothing to read here" in answer.content.decode()


def test_staff_find_the_desk_in_the_header(client: Client, scene: Scene) -> None:
    link = '<a class="q-tool" href="/amt/">'
    assert link not in client.get("/impressum/").content.decode()
    maker = Person.objects.create_user(email="newcomer@example.org", password=None)
    client.force_login(maker)
    assert link not in client.get("/impressum/").content.decode()
    steward = Person.objects.create_user(email="carer@example.org", password=None)
    RoleAssignment.objects.create(
        person=steward, role=Role.STEWARD, municipality=Municipality.objects.order_by("pk")[0]
    )
    client.force_login(steward)
    assert link in client.get("/impressum/").content.decode()


def test_dates_in_english_are_not_american() -> None:
    moment = datetime(2026, 11, 3, 15, 4)  # noqa: DTZ001 (only its numbers matter)
    formats = ("DATE_FORMAT", "SHORT_DATE_FORMAT", "DATETIME_FORMAT", "SHORT_DATETIME_FORMAT", "TIME_FORMAT")
    with translation.override("en"):
        assert [date_format(moment, name) for name in formats] == [
            "3 November 2026", "3 Nov 2026", "3 November 2026, 15:04", "3 Nov 2026, 15:04", "15:04",
        ]  # fmt: skip
    with translation.override("de"):
        assert date_format(moment, "SHORT_DATETIME_FORMAT") == "03.11.2026 15:04"


def test_form_without_csrf_token_is_explained(scene: Scene) -> None:
    response = Client(enforce_csrf_checks=True).post("/feedback/", {"message": "Hallo", "kind": "general"})
    assert response.status_code == 403
    assert _heading(response.content) == "Das Formular ist abgelaufen"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/daten/", "/daten/"),
        ("https://evil.example/", ""),
        ("//evil.example/", ""),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
def test_feedback_is_kept_with_a_page_of_ours_only(
    client: Client, scene: Scene, given: str, kept: str
) -> None:
    response = client.post(
        "/feedback/",
        {
            "kind": "error",
            "message": " Der Pegel steht still. ",
            "page": given,
            "email": "",
            "municipality": "",
        },
    )
    assert response.status_code == 302
    assert response.headers["Location"] == "/feedback/danke/"
    entry = Feedback.objects.get()
    assert (entry.kind, entry.message, entry.page, entry.email, entry.municipality) == (
        "error",
        "Der Pegel steht still.",
        kept,
        "",
        None,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"message": ""},
        {"message": "  "},
        {"message": "ab"},
        {"message": "x" * 4001},
        {"kind": "praise"},
        {"email": "keine Adresse"},
        {"municipality": "99999"},
        {"municipality": "abc"},
        {"page": "/" + "x" * 300},
    ],
)
def test_feedback_that_cannot_be_used_is_shown_again(
    client: Client, scene: Scene, wrong: dict[str, str]
) -> None:
    response = client.post("/feedback/", {"kind": "general", "message": "Hallo Stadt", **wrong})
    assert response.status_code == 422
    assert "Bitte prüfen Sie Ihre Angaben" in response.content.decode()
    assert not Feedback.objects.exists()


def test_feedback_of_a_program_is_thanked_for_and_dropped(client: Client, scene: Scene) -> None:
    response = client.post(
        "/feedback/", {"kind": "general", "message": "Buy now", "website": "http://spam.example"}
    )
    assert response.headers["Location"] == "/feedback/danke/"
    assert not Feedback.objects.exists()


def test_feedback_is_limited_per_visitor(client: Client, scene: Scene) -> None:
    data = {"kind": "general", "message": "Hallo Stadt"}
    for _try in range(5):
        assert client.post("/feedback/", data).status_code == 302
    refused = client.post("/feedback/", data)
    assert refused.status_code == 429
    assert _heading(refused.content) == "Bitte etwas langsamer"
    assert client.post("/feedback/", data, REMOTE_ADDR="203.0.113.9").status_code == 302
    assert Feedback.objects.count() == 6


@pytest.mark.parametrize(
    ("peer", "forwarded", "visitor"),
    [
        ("91.10.0.5", "", "91.10.0.5"),
        ("91.10.0.5", "198.51.100.1", "91.10.0.5"),  # not our proxy: anybody may write this header
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_visitor_is_told_from_the_proxy(peer: str, forwarded: str, visitor: str) -> None:
    from django.test import RequestFactory

    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)
    assert limits.visitor_address(request) == visitor


def test_feedback_form_takes_what_the_address_says(client: Client, scene: Scene) -> None:
    text = client.get("/feedback/", {"kind": "barrier", "page": "/orte/"}).content.decode()
    assert re.search(r'value="barrier"[^>]*checked', text)
    assert '<input type="hidden" name="page" value="/orte/"' in text
    assert re.search(r'value="general"[^>]*checked', client.get("/feedback/", {"kind": "?"}).content.decode())


@override_settings(DEBUG=False)
def test_base_map_is_cached_and_revalidated(client: Client) -> None:
    first = client.get("/karte/grundkarte.json")
    assert first.headers["Content-Type"] == "application/geo+json"
    assert "max-age=86400" in first.headers["Cache-Control"]
    kinds = {feature["properties"]["kind"] for feature in first.json()["features"]}
    assert kinds <= {"water", "river", "road", "green", "rail", "label"}
    again = client.get("/karte/grundkarte.json", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


def test_districts_are_geojson(client: Client, scene: Scene) -> None:
    collection = client.get("/karte/bezirke.json").json()
    assert [f["properties"] for f in collection["features"]] == [
        {"name": "Mitte", "municipality": "dortmund"},
        {"name": "Mitte", "municipality": "schwerte"},
    ]
    assert collection["features"][0]["geometry"]["coordinates"][0][0] == [7.3, 51.42]


@pytest.mark.parametrize("address", [*PAGES, "/karte/bezirke.json"])
def test_page_takes_no_other_method(client: Client, db: None, address: str) -> None:
    assert client.delete(address).status_code == 405
