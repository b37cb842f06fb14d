"""The custom elements on markup of our own: each must be readable by keyboard, and do no harm where it cannot work."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from quartier.engines import bus as engine
from quartier.engines import nats
from quartier.twin.models import Thing
from tests.browser.checks import assert_accessible, assert_fits, wait_for_map
from tests.browser.conftest import OpenPage, Site
from tests.browser.scene import Scene

pytestmark = pytest.mark.browser

HOUR_MS = 3_600_000
NOON = datetime(2026, 7, 1, 10, tzinfo=UTC)  # 12:00 in Berlin
NOON_MS = int(NOON.timestamp() * 1000)


def show(page: Page, markup: str, *, geojson: dict[str, Any] | None = None) -> None:
    """Open a page of ours whose content is ``markup``; everything else, the policy included, is as served."""

    def with_markup(route: Route) -> None:
        response = route.fetch()
        body = re.sub(
            r"<main .*?</main>",
            lambda _m: f'<main id="main" tabindex="-1"><h1>Probe</h1>{markup}</main>',
            response.text(),
            flags=re.DOTALL,
        )
        route.fulfill(response=response, body=body)

    page.route("**/impressum/", with_markup)
    if geojson is not None:
        page.route("**/probe.geojson", lambda route: route.fulfill(json=geojson))
    page.goto("/impressum/")


def chart(points: list[list[float | None]], **extra: object) -> str:
    content = {
        "series": [
            {"id": 1, "thing": "dortmund/a", "name": "Luft", "unit": "°C", "decimals": 1, "points": points}
        ],
        "since": NOON_MS - 6 * HOUR_MS,
        "until": NOON_MS,
        **extra,
    }
    return (
        '<time-chart label="Lufttemperatur">'
        '<svg class="q-chart" role="img" aria-label="Bild" width="100" height="40"></svg>'
        f'<script type="application/json">{json.dumps(content)}</script></time-chart>'
    )


POINTS: list[list[float | None]] = [
    [NOON_MS - 3 * HOUR_MS, 20.0, 19.0, 21.0, 0],
    [NOON_MS - 2 * HOUR_MS, -5.25, -5.25, -5.25, 1],
    [NOON_MS - 1 * HOUR_MS, 22.0, 21.5, 22.5, 0],
]


def test_chart_is_read_out_with_the_arrow_keys(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    show(page, chart(POINTS))
    slider = page.get_by_role("slider", name="Lufttemperatur – Zeitpunkt wählen")
    expect(slider).to_have_attribute("aria-valuetext", "Mi., 1.7., 11:00, 22,0 °C (21,5 bis 22,5)")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("10:00, −5,3 °C$"))
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("9:00, 20,0 °C"))
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", "0")
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuenow", "2")
    expect(page.locator(".q-timechart__readout")).to_contain_text("22,0 °C")
    expect(page.locator("svg.q-chart")).to_be_hidden()
    assert_accessible(page)
    page.set_viewport_size({"width": 360, "height": 800})
    page.wait_for_timeout(200)
    assert_fits(page)


def test_chart_speaks_english_on_an_english_page(open_page: OpenPage) -> None:
    page = open_page("/impressum/", language="en")
    show(page, chart(POINTS))
    expect(page.get_by_role("slider")).to_have_attribute(
        "aria-valuetext", re.compile(r"22\.0 °C \(21\.5 to 22\.5\)$")
    )


def test_chart_draws_line_band_and_a_cross_at_flagged_points(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    show(page, chart(POINTS))
    expect(page.locator("time-chart canvas")).to_be_visible()
    page.wait_for_timeout(300)
    colours = page.evaluate(
        """() => {
          const c = document.querySelector('time-chart canvas');
          const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
          const near = (r, g, b) => { let n = 0; for (let i = 0; i < d.length; i += 4)
            if (d[i+3] > 200 && Math.abs(d[i]-r) + Math.abs(d[i+1]-g) + Math.abs(d[i+2]-b) < 24) n++; return n; };
          return {line: near(0x1f, 0x57, 0xc3), flag: near(0xb3, 0x15, 0x0d)};
        }"""
    )
    assert colours["line"] > 50
    assert 10 < colours["flag"] < 200


def test_chart_steps_over_gaps(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    show(page, chart(POINTS, gap_s=1800))
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    seen = []
    for _step in range(3):
        seen.append(slider.get_attribute("aria-valuetext"))
        page.keyboard.press("ArrowLeft")
    assert [text is not None and "°C" in text for text in seen] == [True, True, True]
    assert len(set(seen)) == 3


@pytest.mark.parametrize("points", [[], [[NOON_MS, None, None, None, 0]], [[NOON_MS, 1.0, None, None, 0]]])
def test_chart_with_hardly_any_data_does_no_harm(
    open_page: OpenPage, points: list[list[float | None]]
) -> None:
    page = open_page("/impressum/")
    show(page, chart(points))
    page.wait_for_timeout(300)
    known = any(point[1] is not None for point in points)
    assert page.locator("svg.q-chart").is_visible() == (not known)
    assert_accessible(page)


def _collection(count: int) -> dict[str, Any]:
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": i,
                "geometry": {"type": "Point", "coordinates": [7.46 + i / 1000, 51.51]},
                "properties": {
                    "key": f"dortmund/s{i}",
                    "name": f"Station {i}",
                    "url": f"/orte/dortmund/s{i}/",
                    "text": "21,4 °C",
                    "age_text": "vor 3 Minuten",
                    "class": i % 7,
                    "asleep": i % 5 == 0,
                },
            }
            for i in range(count)
        ],
        "legend": [{"class": 1, "label": "unter 10 °C"}, {"class": 6, "label": "ab 30 °C"}],
    }


MAP = (
    '<city-map src="/probe.geojson" label="Karte der Stationen" list="liste"></city-map>'
    '<ul id="liste"><li data-thing="dortmund/s0"><a href="/orte/">Station 0</a></li></ul>'
)


def test_map_opens_a_place_on_click(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    show(page, MAP, geojson=_collection(1))
    wait_for_map(page)
    page.locator("city-map canvas").click()
    link = page.locator(".maplibregl-popup").get_by_role("link", name="Station 0")
    expect(link).to_be_visible()
    expect(page.locator(".maplibregl-popup")).to_contain_text("21,4 °C")
    expect(page.get_by_role("list", name="Legende")).to_contain_text("ab 30 °C")
    assert link.get_attribute("href") == "/orte/dortmund/s0/"
    assert_accessible(page)
    page.set_viewport_size({"width": 360, "height": 800})
    assert_fits(page)


@pytest.mark.parametrize("dark", [False, True])
def test_map_with_a_thousand_places_draws_quickly(open_page: OpenPage, dark: bool) -> None:
    page = open_page("/impressum/", dark=dark)
    show(page, MAP, geojson=_collection(1000))
    wait_for_map(page)
    page.locator("#liste a").hover()
    page.locator("#liste a").focus()
    assert_accessible(page)


def test_map_that_cannot_be_drawn_says_so_and_leaves_the_list(open_page: OpenPage) -> None:
    page = open_page("/impressum/", faults=True)
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    show(page, MAP, geojson=_collection(3))
    expect(page.locator("city-map")).to_contain_text("Die Karte kann hier nicht gezeigt werden")
    expect(page.locator("#liste")).to_be_visible()
    assert page.locator("city-map canvas").count() == 0


def test_map_without_its_data_says_so(open_page: OpenPage) -> None:
    page = open_page("/impressum/", faults=True)
    page.route("**/probe.geojson", lambda route: route.fulfill(status=500))
    show(page, MAP)
    expect(page.locator("city-map")).to_contain_text("Alle Orte stehen in der Liste")


def test_map_asks_no_other_server(open_page: OpenPage, site: Site) -> None:
    page = open_page("/impressum/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    show(page, MAP, geojson=_collection(3))
    wait_for_map(page)
    assert all(url.startswith((site.url, "blob:", "data:")) for url in asked), asked


def _publish(server: nats.Server, body: dict[str, Any]) -> None:
    """Send an observed message; in a thread of its own, because Playwright's loop runs in this one."""

    async def send() -> None:
        connection = await engine.connect(server.url, name="test-live")
        subject = f"{engine.OBSERVED}.{body['municipality']}.{body['kind']}.{body['thing']}"
        await connection.js.publish(subject, json.dumps(body).encode())
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(send()))
    thread.start()
    thread.join(20)


def _message(result: object, time: datetime, **reading: object) -> dict[str, Any]:
    one = {"series": 7, "property": "air_temperature", "channel": "", "unit": "Cel", "flags": 0, **reading}
    return {
        "municipality": "dortmund",
        "kind": "station",
        "thing": "live-1",
        "name": "Live",
        "readings": [{**one, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "result": result}],
    }


LIVE = """
<p><live-value thing="dortmund/live-1" property="air_temperature" decimals="1"><span data-value>1,0</span> °C,
<time data-age datetime="2026-07-01T10:00:00Z">vor langer Zeit</time></live-value></p>
<p><live-value thing="dortmund/live-1" property="occupied">
<b data-value data-true="belegt" data-false="frei">?</b></live-value></p>
"""


def test_live_values_follow_the_stream(open_page: OpenPage, scene: Scene, nats_server: nats.Server) -> None:
    Thing.objects.get_or_create(
        municipality=scene.dortmund, key="live-1", defaults={"name": "Live", "kind": "station"}
    )
    page = open_page("/impressum/")
    with page.expect_request("**/live/events?things=dortmund%2Flive-1"):
        show(page, LIVE)
    value, state = page.locator("[data-value]").first, page.locator("b[data-value]")
    now = datetime.now(UTC)
    for _attempt in range(20):  # the server begins to follow when the first page does
        _publish(nats_server, _message(23.456, now))
        page.wait_for_timeout(300)
        if value.inner_text() != "1,0":
            break
    expect(value).to_have_text("23,5")
    expect(page.locator("main time")).to_have_text("gerade eben")
    _publish(nats_server, _message(-4.0, now - timedelta(hours=1)))
    _publish(nats_server, _message(99.0, now + timedelta(seconds=1), property="relative_humidity"))
    _publish(nats_server, _message(True, now, property="occupied"))
    expect(state).to_have_text("belegt")
    expect(value).to_have_text("23,5")  # neither what came late nor another property
    _publish(nats_server, _message(12345.678, now + timedelta(seconds=2)))
    expect(value).to_have_text("12\u202f345,7")
    assert_accessible(page)


def test_page_without_the_stream_shows_what_it_showed(open_page: OpenPage) -> None:
    page = open_page("/impressum/", faults=True)
    page.route("**/live/events*", lambda route: route.fulfill(status=503))
    show(page, LIVE)
    page.wait_for_timeout(500)
    expect(page.locator("[data-value]").first).to_have_text("1,0")


def test_text_is_copied(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(page, "<copy-text><pre><code> curl -X POST </code></pre></copy-text>")
    page.get_by_role("button", name="Kopieren").click()
    expect(page.get_by_role("button", name="Kopiert")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "curl -X POST"
    assert_accessible(page)


def test_near_me_adds_a_rounded_place(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    page.context.grant_permissions(["geolocation"])
    page.context.set_geolocation({"latitude": 51.513789, "longitude": 7.465321})
    show(page, '<near-me href="/feedback/?kind=idea"></near-me>')
    page.get_by_role("button", name="In meiner Nähe").click()
    page.wait_for_url("**/feedback/**")
    assert page.url.endswith("/feedback/?kind=idea&lat=51.514&lon=7.465")


def test_near_me_explains_a_refusal(open_page: OpenPage) -> None:
    page = open_page("/impressum/")
    show(page, '<near-me href="/orte/"></near-me>')
    page.get_by_role("button", name="In meiner Nähe").click()
    expect(page.get_by_role("status")).to_contain_text("Bitte eine Straße oder einen Stadtteil suchen")
