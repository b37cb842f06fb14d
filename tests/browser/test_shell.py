"""The frame of every page, the pages in the footer, the account and the way to a sensor of one's own."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from quartier.cities.models import Feedback, Token
from quartier.twin.models import Thing
from tests.browser.checks import (
    assert_accessible,
    assert_fits,
    assert_passes_at_both_widths,
    focus_is_visible,
    wait_for_map,
)
from tests.browser.conftest import OpenPage
from tests.browser.scene import PASSWORD, Scene

pytestmark = pytest.mark.browser

PUBLIC = (
    "/impressum/",
    "/datenschutz/",
    "/barrierefreiheit/",
    "/leichte-sprache/",
    "/feedback/",
    "/feedback/danke/",
    "/daten/",
    "/mitmachen/sensor/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
    "/accounts/password/reset/done/",
    "/accounts/confirm-email/",
)
SIGNED_IN = (
    "/konto/",
    "/konto/schluessel/neu/",
    "/mitmachen/sensor/",
    "/accounts/logout/",
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/reauthenticate/",
    "/accounts/2fa/",
    "/accounts/2fa/totp/activate/",
    "/accounts/3rdparty/",
)


@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("path", PUBLIC)
def test_public_page_is_accessible_and_fits(open_page: OpenPage, path: str, language: str) -> None:
    page = open_page(path, language=language)
    assert page.locator("html").get_attribute("lang") == language
    assert_passes_at_both_widths(page)


@pytest.mark.parametrize("path", SIGNED_IN)
def test_account_page_is_accessible_and_fits(open_page: OpenPage, scene: Scene, path: str) -> None:
    page = open_page(path, person=scene.people["maker"])
    assert page.url.endswith(path), "not sent elsewhere"
    assert_passes_at_both_widths(page)
    assert_accessible(open_page(path, language="en", person=scene.people["maker"]))


@pytest.mark.parametrize("path", PUBLIC)
def test_dark_page_is_accessible(open_page: OpenPage, path: str) -> None:
    page = open_page(path, dark=True)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 17, 25)"
    assert_accessible(page)


def test_error_page_is_accessible_and_offers_a_way_on(open_page: OpenPage) -> None:
    page = open_page("/nirgendwo/", faults=True)
    assert page.evaluate("performance.getEntriesByType('navigation')[0].responseStatus") == 404
    expect(page.get_by_role("main").get_by_role("link", name="Zur Übersicht")).to_be_visible()
    assert_passes_at_both_widths(page)


@pytest.mark.parametrize("path", PUBLIC)
def test_page_is_complete_without_scripts(open_page: OpenPage, path: str) -> None:
    with_scripts = open_page(path)
    without = open_page(path, width=360, scripts=False)
    assert without.locator("main h1").inner_text() == with_scripts.locator("main h1").inner_text()
    # Every link of the page leads somewhere, and every form has a button to send it.
    assert without.locator("a[href='#'], a:not([href])").count() == 0
    forms = without.locator("form")
    for i in range(forms.count()):
        assert forms.nth(i).locator("button[type=submit], button:not([type])").count() >= 1


def test_skip_link_is_first_and_leads_to_the_content(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "q-skip"
    box = page.locator(".q-skip").bounding_box()
    assert box is not None
    assert box["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("path", ["/feedback/", "/daten/", "/mitmachen/sensor/", "/accounts/login/"])
def test_everything_is_reached_by_keyboard_and_focus_is_seen(open_page: OpenPage, path: str) -> None:
    page = open_page(path)
    wanted = page.evaluate(
        """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea')]
            .filter(e => e.checkVisibility({visibilityProperty: true}) && e.tabIndex >= 0 && !e.closest('.q-trap'))
            .filter(e => e.type !== 'radio' || e.checked).length"""
    )
    seen = 0
    for _step in range(wanted + 10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        assert focus_is_visible(page), page.evaluate("document.activeElement.outerHTML")
        seen += page.evaluate("document.activeElement.matches('a, button, input, select, textarea')")
    assert seen >= wanted


@pytest.mark.parametrize("scripts", [True, False])
def test_menu_of_small_screens_opens_and_closes_by_keyboard(open_page: OpenPage, scripts: bool) -> None:
    page = open_page("/impressum/", width=360, scripts=scripts)
    menu = page.get_by_role("navigation", name="Hauptmenü")
    expect(menu).to_be_hidden()
    page.get_by_role("button", name="Menü").focus()
    page.keyboard.press("Enter")
    expect(menu.get_by_role("link", name="Offene Daten")).to_be_visible()
    expect(menu.get_by_role("link", name="English")).to_be_visible()
    if scripts:
        assert_accessible(page)
        assert_fits(page)
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()


def test_language_is_chosen_by_a_link_and_remembered(open_page: OpenPage) -> None:
    page = open_page("/impressum/?a=b", scripts=False)
    page.get_by_role("link", name="English").click()
    expect(page.locator("h1")).to_have_text("Imprint")
    assert "a=b" in page.url
    page.goto("/datenschutz/")
    expect(page.locator("h1")).to_have_text("Privacy")


def test_feedback_is_sent_without_scripts(open_page: OpenPage) -> None:
    page = open_page("/feedback/?page=/daten/&kind=barrier", scripts=False, faults=True)
    expect(page.get_by_label("Eine Barriere")).to_be_checked()
    page.get_by_role("button", name="Absenden").click()
    expect(page.get_by_role("alert")).to_contain_text("Bitte prüfen Sie Ihre Angaben")
    page.get_by_label("Ihre Nachricht").fill("Die Karte ist für mich zu klein.")
    page.get_by_role("button", name="Absenden").click()
    expect(page.locator("h1")).to_have_text("Danke für Ihre Rückmeldung")
    written = Feedback.objects.get()
    assert (written.kind, written.page, written.message) == (
        "barrier",
        "/daten/",
        "Die Karte ist für mich zu klein.",
    )


def test_form_errors_are_accessible(open_page: OpenPage) -> None:
    page = open_page("/feedback/", width=360, faults=True)
    page.get_by_role("button", name="Absenden").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible(page)


def test_sign_in_by_password(open_page: OpenPage, scene: Scene) -> None:
    page = open_page("/accounts/login/?next=/impressum/", scripts=False)
    page.get_by_label("E-Mail-Adresse").fill(scene.people["operator"].email)
    page.get_by_label("Passwort", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Anmelden").click()
    expect(page.get_by_role("link", name="Mein Konto").first).to_be_visible()


def test_token_is_made_shown_once_and_revoked(open_page: OpenPage, scene: Scene) -> None:
    page = open_page("/konto/", person=scene.people["maker"])
    page.get_by_role("link", name="Schlüssel erstellen").click()
    page.get_by_label("Bezeichnung").fill("Sensor Balkon")
    page.get_by_label("eigene Messwerte senden").check()
    page.get_by_role("button", name="Erstellen").click()
    token = page.locator(".q-once code").inner_text().strip()
    assert re.fullmatch(r"qt_[0-9a-f]{10}_[\w-]{43}", token)
    assert_accessible(page)
    page.reload()
    expect(page.locator("h1")).to_have_text("Mein Konto")
    assert token not in page.content()
    page.get_by_role("button", name="Widerrufen: Sensor Balkon").click()
    expect(page.get_by_role("status")).to_contain_text("gilt nicht mehr")
    assert Token.objects.get(name="Sensor Balkon").revoked_at is not None


def test_sensor_is_registered_by_a_click_on_the_map(open_page: OpenPage, scene: Scene) -> None:
    page = open_page("/mitmachen/sensor/", person=scene.people["citizen"])
    page.get_by_label("Wie soll Ihr Sensor heißen?").fill("Balkon Nordstadt")
    canvas = page.locator("city-map canvas")
    canvas.scroll_into_view_if_needed()
    wait_for_map(page)
    canvas.click()
    expect(page.get_by_label("Länge (Ost)")).to_have_value(re.compile(r"^7\.\d{5}$"))
    assert_accessible(page)
    page.get_by_role("button", name="Eintragen und Schlüssel bekommen").click()
    assert not page.get_by_role("alert").count(), page.get_by_role("alert").inner_text()
    expect(page.locator("h1")).to_have_text("Balkon Nordstadt")
    expect(page.locator("#status")).to_contain_text("Wir warten auf Ihre erste Nachricht")
    token = page.locator(".q-once code").inner_text().strip()
    assert token in page.locator("#http pre").first.inner_text()
    assert "balkon-nordstadt" in page.locator("#http pre").first.inner_text()
    assert_accessible(page)
    thing = Thing.objects.get(name="Balkon Nordstadt")
    assert thing.public
    assert thing.owner_person_id == scene.people["citizen"].pk
    assert Token.objects.get(person=scene.people["citizen"]).scopes == ["observations:write"]


def test_tabs_follow_the_arrow_keys(open_page: OpenPage) -> None:
    page = open_page("/mitmachen/sensor/")
    page.get_by_role("tab", name="HTTP").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tabpanel", name="Python")).to_be_visible()
    expect(page.get_by_role("tabpanel", name="HTTP")).to_be_hidden()
    page.keyboard.press("End")
    expect(page.get_by_role("tab", name="sensor.community")).to_have_attribute("aria-selected", "true")
