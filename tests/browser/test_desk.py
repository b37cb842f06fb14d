"""The desk in a real Chromium: accessible, fitting, and whole without scripts."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

from quartier.intake.models import Codec, QualityFinding, Replay
from tests.browser import scene as scenes
from tests.browser.checks import assert_accessible, assert_fits, focus_is_visible
from tests.browser.conftest import OpenPage
from tests.desk.scene import PAYLOAD, SCRIPT, Scene, furnish

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def desk(scene: scenes.Scene) -> Scene:
    """Devices, messages and findings in both cities."""

    made = furnish(scene.dortmund, scene.schwerte, datetime.now(UTC))
    made.people = scene.people
    Codec.objects.create(
        device_type=made.device_type, version=2, script=SCRIPT.replace("/ 10", "/ 100"), note="Hundertstel"
    )
    Replay.objects.create(municipality=made.schwerte, total=40, done=10, started_at=made.now)
    return made


PAGES = (
    "",
    "geraete/",
    "geraete/?zustand=silent&sortierung=gesehen",
    "geraete/neu/",
    "geraete/einlesen/",
    "geraete/{device}/",
    "geraete/{device}/bearbeiten/",
    "geraete/{device}/nachricht/",
    "orte/neu/",
    "orte/{thing}/",
    "quellen/",
    "quellen/neu/chirpstack/",
    "quellen/netz-schwerte/",
    "quellen/netz-schwerte/bearbeiten/",
    "nachrichten/",
    "nachrichten/{refused}/",
    "codecs/",
    "codecs/neu/",
    "codecs/muster-th/",
    "codecs/muster-th/zuordnung/",
    "codecs/muster-th/versionen/",
    "codecs/muster-th/typ/",
    "nachspielen/",
    "nachspielen/neu/",
    "nachspielen/{replay}/",
    "qualitaet/",
    "qualitaet/{finding}/",
    "qualitaet/stationen/?alle=1",
    "rueckmeldungen/?zustand=alle",
    "personen/",
    "protokoll/",
    "datensaetze/",
    "datensaetze/{dataset}/",
)


def _address(desk: Scene, page: str) -> str:
    return "/amt/" + page.format(
        device=desk.devices["schwerte live"].pk,
        thing=desk.things["schwerte"].pk,
        refused=desk.refused["schwerte"].pk,
        finding=desk.findings["schwerte"].pk,
        dataset=desk.datasets["schwerte"].pk,
        replay=Replay.objects.order_by("pk").values_list("pk", flat=True)[0],
    )


def _check(page: Page) -> None:
    assert_accessible(page)
    assert_fits(page)


@pytest.mark.parametrize(("language", "width"), [("de", 360), ("en", 1280)])
def test_pages_are_accessible_and_fit(open_page: OpenPage, desk: Scene, language: str, width: int) -> None:
    """All pages in one tab: a new one for each would take longer than the pages themselves."""
    page = open_page("/amt/", language=language, width=width, person=desk.people["operator"])
    wrong = []
    for path in PAGES:
        page.goto(_address(desk, path))
        try:
            expect(page.locator("h1")).to_be_visible()
            _check(page)
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, "\n\n".join(wrong)


def test_dark_pages_are_accessible(open_page: OpenPage, desk: Scene) -> None:
    page = open_page("/amt/", person=desk.people["operator"], dark=True)
    for path in ("", "geraete/", "codecs/muster-th/versionen/", "qualitaet/{finding}/"):
        page.goto(_address(desk, path))
        _check(page)


def test_a_missing_right_is_accessible(open_page: OpenPage, desk: Scene) -> None:
    page = open_page("/amt/personen/", person=desk.people["steward"], faults=True, width=360)
    expect(page.locator("main")).to_contain_text("audit:read")
    _check(page)


def test_navigation_opens_without_scripts_on_a_small_screen(open_page: OpenPage, desk: Scene) -> None:
    page = open_page("/amt/", person=desk.people["operator"], width=360, scripts=False)
    navigation = page.locator("#desk-nav")
    expect(navigation).to_be_hidden()
    page.get_by_role("button", name="Bereiche des Amts").click()
    navigation.get_by_role("link", name="Qualität").click()
    expect(page.locator("h1")).to_have_text("Qualität")


def test_navigation_is_a_column_on_a_wide_screen(open_page: OpenPage, desk: Scene) -> None:
    page = open_page("/amt/geraete/", person=desk.people["operator"])
    navigation = page.locator("#desk-nav")
    expect(navigation).to_be_visible()
    expect(navigation.locator("[aria-current=page]")).to_have_text("Geräte")
    expect(page.get_by_role("button", name="Bereiche des Amts")).to_be_hidden()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_codec_is_tried_out(open_page: OpenPage, desk: Scene, scripts: bool) -> None:
    page = open_page("/amt/codecs/muster-th/", person=desk.people["operator"], scripts=scripts, width=360)
    page.get_by_label("Nutzdaten").fill(PAYLOAD)
    page.get_by_role("button", name="Ausprobieren").click()
    result = page.locator("#ergebnis")
    expect(result).to_contain_text("Lufttemperatur")
    expect(result).to_contain_text('"temperature": 2.15')
    if scripts:
        _check(page)


def test_a_codec_that_fails_is_shown_accessibly(open_page: OpenPage, desk: Scene) -> None:
    page = open_page("/amt/codecs/muster-th/", person=desk.people["operator"])
    page.get_by_label("Codec (JavaScript)").fill(
        "function decodeUplink() {\n  console.log('x');\n  throw new Error('nein');\n}"
    )
    page.get_by_role("button", name="Ausprobieren").click()
    expect(page.locator("#ergebnis")).to_contain_text("Der Codec bricht in Zeile 3 ab")
    _check(page)


def test_devices_are_imported_after_a_preview(open_page: OpenPage, desk: Scene) -> None:
    page = open_page(
        "/amt/geraete/einlesen/?quelle=netz-schwerte",
        person=desk.people["steward"],
        scripts=False,
        faults=True,
    )

    def upload(content: bytes) -> None:
        page.get_by_role("button", name="CSV-Datei").set_input_files(
            {"name": "geraete.csv", "mimeType": "text/csv", "buffer": content}
        )
        page.get_by_role("button", name="Vorschau").first.click()

    upload(b"external_id,lon\nneu-1,999\n")
    expect(page.locator("#ergebnis")).to_contain_text("Noch nicht brauchbar")
    upload(b"external_id,name\nneu-1,Erstes\nneu-2,Zweites\n")
    expect(page.locator("#ergebnis")).to_contain_text("So würde es aussehen")
    page.get_by_role("button", name="So einlesen").click()
    expect(page.get_by_role("status")).to_contain_text("2 Geräte angelegt, 0 geändert, 0 unverändert")
    expect(page.locator("main")).to_contain_text("Erstes")


def test_preview_and_form_errors_are_accessible(open_page: OpenPage, desk: Scene) -> None:
    page = open_page("/amt/geraete/einlesen/", person=desk.people["steward"], width=360, faults=True)
    page.get_by_role("button", name="CSV-Datei").set_input_files(
        {"name": "geraete.csv", "mimeType": "text/csv", "buffer": b"external_id,lon\nneu-9,999\n"}
    )
    page.get_by_role("button", name="Vorschau").first.click()
    _check(page)
    page = open_page("/amt/quellen/neu/element/", person=desk.people["operator"], width=360, faults=True)
    page.locator("#id_key").fill("neu")
    page.locator("#id_name").fill("Neu")
    page.locator("#id_setting-url").fill("ftp://falsch")
    page.locator("#id_setting-tags").fill("klima")
    page.locator("#id_credential-api_key").fill("x")
    page.get_by_role("button", name="Speichern").click()
    _check(page)
    # The summary leads to the field.
    page.get_by_role("alert").get_by_role("link").first.click()
    expect(page.locator("#id_setting-url")).to_be_focused()


def test_progress_of_a_replay_follows_by_itself(open_page: OpenPage, desk: Scene) -> None:
    replay = Replay.objects.create(municipality=desk.schwerte, total=40, done=10, started_at=desk.now)
    page = open_page(f"/amt/nachspielen/{replay.pk}/", person=desk.people["operator"])
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "10")
    Replay.objects.filter(pk=replay.pk).update(done=30)
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "30", timeout=10_000)
    Replay.objects.filter(pk=replay.pk).update(done=40, corrected=7, finished_at=desk.now)
    expect(page.get_by_role("status")).to_have_text("Fertig.", timeout=10_000)
    expect(page.locator("[hx-get]")).to_have_count(0)
    _check(page)


def test_progress_of_a_replay_without_scripts(open_page: OpenPage, desk: Scene) -> None:
    replay = Replay.objects.create(municipality=desk.schwerte, total=40, done=10, started_at=desk.now)
    page = open_page(f"/amt/nachspielen/{replay.pk}/", person=desk.people["operator"], scripts=False)
    Replay.objects.filter(pk=replay.pk).update(done=30)
    page.get_by_role("link", name="Stand neu laden").click()
    expect(page.locator("main")).to_contain_text("30 von 40 Nachrichten gelesen.")
    Replay.objects.filter(pk=replay.pk).delete()


def test_a_finding_is_decided_with_the_keyboard(open_page: OpenPage, desk: Scene) -> None:
    page = open_page("/amt/qualitaet/?stadt=dortmund", person=desk.people["operator"])
    finding = desk.findings["dortmund"]
    page.get_by_role("checkbox", name=f"Befund {finding.pk} auswählen").focus()
    page.keyboard.press("Space")
    for _ in range(20):
        page.keyboard.press("Tab")
        assert focus_is_visible(page)
        if page.evaluate("document.activeElement.value") == "dismissed":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text(re.compile("1 Befund entschieden"))
    finding.refresh_from_db()
    assert finding.state == QualityFinding.State.DISMISSED
