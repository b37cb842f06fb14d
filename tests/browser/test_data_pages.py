"""The data pages in a real browser: accessible, complete without scripts, alive with them."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

from quartier.engines import bus, nats
from quartier.engines.bus import OBSERVED
from tests.browser.checks import (
    assert_accessible,
    assert_fits,
    assert_passes_at_both_widths,
    focus_is_visible,
    wait_for,
)
from tests.browser.conftest import OpenPage
from tests.browser.scene import Scene
from tests.portal import data_scene
from tests.portal.data_scene import DataScene

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", autouse=True)
def data(scene: Scene) -> DataScene:
    """Places with readings; built before the browser starts, whose loop would be in the way."""
    return data_scene.build()


def comparison(data: DataScene) -> str:
    first, second, third = (
        data.series[key].pk
        for key in (("do-1", "air_temperature"), ("sw-1", "air_temperature"), ("do-park", "free_spaces"))
    )
    return f"/vergleich/?reihe={first}&reihe={second}&reihe={third}&versatz=woche"


PAGES = (
    "/",
    "/?stadt=schwerte",
    "/orte/",
    "/orte/?q=Hermanstraße",
    "/orte/?q=Xylophonweg",
    "/orte/karte?messgroesse=air_temperature",
    "/orte/dortmund/do-1/",
    "/orte/dortmund/do-1/?messgroesse=precipitation&zeitraum=woche",
    "/orte/dortmund/do-1/?messgroesse=wind_direction",
    "/orte/dortmund/do-still/",
    "/orte/dortmund/do-neu/",
    "/messgroessen/",
    "/messgroessen/air_temperature/",
    "/messgroessen/occupied/",
    "/vergleich/",
    "/schnittstellen/sensorthings/",
    "/schnittstellen/sensorthings/?anfrage=Observations?$filter=result gtt 20",
)


@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("path", PAGES)
def test_page_is_accessible_and_fits(open_page: OpenPage, path: str, language: str) -> None:
    page = open_page(path, language=language)
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert_passes_at_both_widths(page)


@pytest.mark.parametrize("language", ["de", "en"])
def test_comparison_is_accessible_and_fits(open_page: OpenPage, data: DataScene, language: str) -> None:
    page = open_page(comparison(data), language=language)
    page.wait_for_load_state("networkidle")
    assert_passes_at_both_widths(page)


@pytest.mark.parametrize("path", ["/", "/orte/dortmund/do-1/", "/messgroessen/air_temperature/"])
def test_dark_page_is_accessible(open_page: OpenPage, path: str) -> None:
    page = open_page(path, dark=True)
    page.wait_for_load_state("networkidle")
    assert_accessible(page)


@pytest.mark.parametrize("width", [360, 1280])
def test_place_is_complete_without_scripts(open_page: OpenPage, width: int) -> None:
    page = open_page("/orte/dortmund/do-1/", scripts=False, width=width)
    expect(page.locator("h1")).to_have_text("Hörde, Hermannstraße")
    expect(page.locator(".q-headline")).to_have_text("29 °C, gefühlt 30 °C, mäßige Wärmebelastung")
    chart = page.locator("time-chart > svg.q-chart")
    expect(chart).to_be_visible()
    box = chart.bounding_box()
    assert box is not None
    assert box["height"] == 260
    page.locator("summary", has_text="Dieselben Werte als Tabelle").click()
    # Twenty-four hours touch 25 full hours.
    assert page.locator(".q-details table tbody tr").count() in {24, 25}
    page.get_by_role("link", name="Woche").click()
    expect(page.locator(".q-figure__title")).to_contain_text("In den letzten 7 Tagen")


def test_filters_work_without_scripts(open_page: OpenPage) -> None:
    page = open_page("/orte/", scripts=False)
    page.get_by_label("Art").select_option("station")
    page.get_by_label("Messgröße").select_option("utci")
    page.get_by_role("button", name="Anzeigen").click()
    assert re.search(r"art=station&messgroesse=utci", page.url)
    expect(page.locator(".q-place__name")).to_have_text(["Hörde, Hermannstraße"])
    page.get_by_role("link", name="Filter löschen").click()
    expect(page.locator(".q-results")).to_have_text("11 Orte")


def test_filters_answer_at_once_with_scripts(open_page: OpenPage) -> None:
    page = open_page("/orte/")
    page.evaluate("window.stayed = true")
    # The page's script fetches htmx only where it is wanted; before it is there, the button does the same.
    wait_for(page, "Boolean(document.querySelector('form.q-filters')['htmx-internal-data'])")
    page.get_by_label("Stadt", exact=True).select_option("schwerte")
    expect(page.locator(".q-results")).to_have_text("1 Ort")
    expect(page.locator(".q-place__name")).to_have_text(["Markt"])
    assert "stadt=schwerte" in page.url
    assert page.evaluate("window.stayed")


def test_search_by_keyboard(open_page: OpenPage) -> None:
    page = open_page("/")
    page.get_by_label("Was misst ein Sensor bei mir?").focus()
    assert focus_is_visible(page)
    page.keyboard.type("hermannstr 12")
    page.keyboard.press("Enter")
    expect(page.locator(".q-place__name")).to_have_text(["Hörde, Hermannstraße"])
    page.locator(".q-place__name").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Hörde, Hermannstraße")


def test_map_draws_all_places_and_its_legend(open_page: OpenPage) -> None:
    page = open_page("/orte/karte?messgroesse=air_temperature")
    expect(page.locator("city-map canvas")).to_be_visible(timeout=20_000)
    expect(page.locator(".q-map__legend li").first).to_have_text("unter 0 °C")
    expect(page.locator(".q-place__name")).to_have_count(4)


def test_chart_is_read_with_arrow_keys(open_page: OpenPage) -> None:
    page = open_page("/orte/dortmund/do-1/")
    slider = page.locator("time-chart [role=slider]")
    expect(slider).to_be_visible()
    slider.focus()
    assert focus_is_visible(page)
    newest = slider.get_attribute("aria-valuetext") or ""
    assert "29,0 °C" in newest
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    before = slider.get_attribute("aria-valuetext") or ""
    assert before != newest
    assert re.search(r"28,\d °C", before)


async def _publish(url: str, thing: str, series: int, slug: str, result: float) -> None:
    connection_ = await bus.connect(url, name="test-publish")
    message = {
        "municipality": "dortmund",
        "kind": "station",
        "thing": thing,
        "name": "",
        "readings": [
            {
                "series": series,
                "property": slug,
                "channel": "",
                "unit": "Cel",
                "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "result": result,
                "flags": 0,
            }
        ],
    }
    await connection_.js.publish(f"{OBSERVED}.dortmund.station.{thing}", json.dumps(message).encode())
    await connection_.close()


def publish(server: nats.Server, thing: str, series: int, slug: str, result: float) -> None:
    """As the worker does, in a thread of its own: Playwright holds this one's loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(_publish(server.url, thing, series, slug, result))).result(20)


def _shown(page: Page) -> str:
    return page.locator(".q-valuecard").filter(has_text="Lufttemperatur").locator("[data-value]").inner_text()


def test_values_change_by_themselves(open_page: OpenPage, data: DataScene, nats_server: nats.Server) -> None:
    page = open_page("/orte/dortmund/do-1/")
    series = data.series["do-1", "air_temperature"].pk
    assert _shown(page) == "29,0"
    value = page.locator(".q-valuecard").filter(has_text="Lufttemperatur").locator("[data-value]")
    for attempt in range(20):
        publish(nats_server, "do-1", series, "air_temperature", 31.5)
        try:
            expect(value).to_have_text("31,5", timeout=1_000)
            break
        except AssertionError:
            # The page may still be opening its stream.
            assert attempt < 19
    expect(page.locator(".q-valuecard").filter(has_text="Lufttemperatur").locator("time")).to_have_text(
        "gerade eben"
    )
    slider = page.locator("time-chart [role=slider]")
    slider.focus()
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("31,5 °C"))


def test_download_is_a_file(open_page: OpenPage) -> None:
    page = open_page("/orte/dortmund/do-1/")
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    assert re.fullmatch(r"do-1_\d{4}-\d\d-\d\d_\d{4}-\d\d-\d\d\.csv", started.value.suggested_filename)


def test_comparison_grows_without_scripts(open_page: OpenPage) -> None:
    page = open_page("/vergleich/", scripts=False, width=360)
    page.locator("main").get_by_label("Straße, Stadtteil oder Name").fill("Markt")
    page.locator("main").get_by_role("button", name="Suchen").click()
    page.get_by_role("link", name=re.compile("Hinzufügen ?: Markt, Lufttemperatur")).click()
    expect(page.locator("svg.q-chart")).to_be_visible()
    page.get_by_role("link", name=re.compile("Hinzufügen ?: Bolmke, Ardeystraße, Lufttemperatur")).click()
    expect(page.locator(".q-figure__title").first).to_contain_text("im Mittel 3,0 °C niedriger als Markt")
    assert_fits(page)


def test_try_sensorthings_with_the_keyboard(open_page: OpenPage) -> None:
    page = open_page("/schnittstellen/sensorthings/")
    page.wait_for_load_state("networkidle")
    asked = page.get_by_label("Pfad und Bedingungen")
    asked.fill("Things?$filter=nam eq 1")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name="Fragen")
    expect(button).to_be_focused()
    assert focus_is_visible(page)
    page.keyboard.press("Enter")
    expect(page.locator(".q-try__place mark")).to_have_text("nam")
    # The form stays as it is, and so does the focus; only the answer was exchanged.
    expect(button).to_be_focused()
    assert "anfrage=Things" in page.url
    expect(page.locator(".q-try__examples [aria-current]")).to_have_count(0)
    assert_accessible(page)
    asked.fill("Things?$top=1&$select=id,name")
    button.press("Enter")
    expect(page.locator(".q-try__answer")).to_contain_text('"@iot.id"')
    page.get_by_role("tab", name="JavaScript").click()
    expect(page.locator("#als-javascript")).to_contain_text("new URLSearchParams")
    page.go_back()
    expect(page.locator(".q-try__place mark")).to_have_text("nam")


def test_try_sensorthings_without_scripts(open_page: OpenPage) -> None:
    page = open_page("/schnittstellen/sensorthings/", scripts=False, width=360)
    page.get_by_label("Pfad und Bedingungen").fill("Datastreams/$count")
    page.get_by_role("button", name="Fragen").click()
    assert int(page.locator(".q-try__answer").inner_text()) > 5
    page.get_by_role("link", name="Ein Jahr in Tageswerten").click()
    expect(page.locator(".q-try__answer")).to_contain_text('"mean"')
    expect(page.locator("#als-python")).to_contain_text("import httpx")
