"""The radio network's pages in a real Chromium: accessible, fitting, whole without scripts, and live with them."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import nats
import pytest
from playwright.sync_api import Page, expect

from quartier.cities.rules import SYSTEM
from quartier.engines import nats as engine
from quartier.lorawan import domain
from quartier.lorawan.models_stations import StationDelivery, StationUpdate
from quartier.lorawan.store.frames import SUBJECT, FrameLog, Heard, Line
from tests.browser import scene as scenes
from tests.browser.checks import assert_accessible, assert_fits, focus_is_visible
from tests.browser.conftest import OpenPage
from tests.desk import radio_scene
from tests.desk.radio_scene import DEVICES, GATEWAYS, Radio
from tests.desk.scene import Scene, furnish
from tests.lorawan.network.test_updates import CRC, IMAGE, pem, signed

pytestmark = pytest.mark.browser

PAGES = (
    "",
    "gateways/",
    "gateways/neu/",
    "gateways/{gateway}/",
    "gateways/{gateway}/bearbeiten/",
    "geraete/",
    "geraete/neu/",
    "geraete/einlesen/",
    "geraete/{device}/",
    "geraete/{device}/bearbeiten/",
    "geraete/{device}/schluessel/",
    "nachrichten/{downlink}/",
    "protokoll/",
    "profile/",
    "profile/muster-a/",
    "gruppen/",
    "gruppen/neu/",
    "gruppen/{group}/",
    "partner/",
    "partner/neu/",
    "partner/{peer}/",
    "partner/{peer}/bearbeiten/",
    "partner/{peer}/vereinbarungen/neu/",
    "partner/{peer}/vereinbarungen/{agreement}/",
    "partner/{peer}/{day}/",
    "datenschutz/?municipality={municipality}&geraet={device}",
)


@pytest.fixture(scope="module")
def desk(scene: scenes.Scene) -> Scene:
    """The desk's scene, which the radio network belongs into."""
    made = furnish(scene.dortmund, scene.schwerte, datetime.now(UTC))
    made.people = scene.people
    return made


@pytest.fixture(scope="module")
def radio(desk: Scene) -> Radio:
    return radio_scene.build(desk)


def _address(radio: Radio, desk: Scene, page: str) -> str:
    return "/amt/funknetz/" + page.format(
        gateway=GATEWAYS["schwerte"],
        device=DEVICES["schwerte"],
        downlink=radio.downlinks["schwerte"].pk,
        group=radio.groups["schwerte"].pk,
        peer=radio.peers["schwerte"].key,
        agreement=radio.agreements["schwerte"].pk,
        municipality=desk.schwerte.pk,
        day=f"{radio.now:%Y-%m-%d}",
    )


def _check(page: Page) -> None:
    assert_accessible(page)
    assert_fits(page)


# In parts, because a machine that does much else needs seconds for a page.
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("look", [("de", 360), ("en", 1280)])
def test_pages_are_accessible_and_fit(
    open_page: OpenPage, desk: Scene, radio: Radio, look: tuple[str, int], part: int
) -> None:
    page = open_page("/amt/", language=look[0], width=look[1], person=desk.people["operator"])
    wrong = []
    for path in PAGES[part::4]:
        page.goto(_address(radio, desk, path))
        try:
            expect(page.locator("h1")).to_be_visible()
            _check(page)
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, "\n\n".join(wrong)


@pytest.fixture(scope="module")
def update(desk: Scene) -> StationUpdate:
    """A software update that a Basics Station was given three times in vain."""
    gateway = domain.save_gateway(SYSTEM, desk.schwerte, "0016c001f10000e0", name="Turm", protocol="station")
    gateway.cups = {
        "asked_at": desk.now.isoformat(), "station": "2.0.6(linux/std) 2022-01-01 00:00:00", "model": "linux",
        "package": "1.0", "keys": 1, "key_checksums": [CRC],
    }  # fmt: skip
    gateway.save()
    made = domain.add_update(
        SYSTEM, desk.schwerte, model="linux", package="2.0", image=[IMAGE], signature=signed(IMAGE), key=pem(),
        packages=["1.0"], note="Sicherheit", everywhere=True,
    )  # fmt: skip
    domain.set_update(SYSTEM, made, active=True)
    at = desk.now - timedelta(hours=1)
    StationDelivery.objects.create(
        update=made, gateway=gateway, attempts=3, begun_at=at, delivered_at=at, missed_at=desk.now
    )
    return made


@pytest.mark.parametrize(("language", "width"), [("de", 360), ("en", 1280)])
def test_updates_of_stations_are_accessible_and_fit(
    open_page: OpenPage, desk: Scene, update: StationUpdate, language: str, width: int
) -> None:
    page = open_page("/amt/", language=language, width=width, person=desk.people["operator"])
    for path in (
        "updates/",
        "updates/neu/",
        f"updates/{update.pk}/",
        "gateways/0016c001f10000e0/fernverwaltung/",
    ):
        page.goto(f"/amt/funknetz/{path}")
        expect(page.locator("h1")).to_be_visible()
        _check(page)


@pytest.mark.parametrize(("language", "width"), [("de", 360), ("en", 1280)])
def test_coverage_is_accessible_and_fits(
    open_page: OpenPage, radio: Radio, language: str, width: int
) -> None:
    page = open_page("/funknetz/", language=language, width=width)
    expect(page.locator("city-map canvas")).to_be_visible(timeout=20_000)
    page.locator("summary:not(.maplibregl-ctrl-attrib-button)").first.click()
    expect(page.locator("table").first).to_contain_text("Mitte (Schwerte)")
    _check(page)


def test_coverage_is_whole_without_scripts(open_page: OpenPage, radio: Radio) -> None:
    page = open_page("/funknetz/", scripts=False, width=360)
    page.locator("summary").first.click()
    expect(page.get_by_role("table", name="Felder der Karte")).to_contain_text("Mitte (Dortmund)")
    expect(page.get_by_role("table", name="Öffentliche Gateways")).to_contain_text("Rathaus Dortmund")


def test_the_frame_log_follows_what_comes(
    open_page: OpenPage, desk: Scene, radio: Radio, nats_server: engine.Server
) -> None:
    page = open_page("/amt/funknetz/protokoll/?stadt=schwerte", person=desk.people["steward"], language="en")
    log = page.locator("frame-log")
    expect(log).to_have_attribute("data-live", "true", timeout=15_000)
    heard = Heard(eui=GATEWAYS["schwerte"], rssi_dbm=-97, snr_db=7.5)
    line = Line(
        at=datetime.now(UTC), municipality="schwerte", direction="up", kind="join_request", outcome="dev_nonce_used",
        size=23, data_rate=5, frequency_hz=868_100_000, gateways=[heard], device_id=radio.devices["schwerte"].pk,
        dev_eui=DEVICES["schwerte"],
    )  # fmt: skip
    other = Line(
        at=datetime.now(UTC), municipality="dortmund", direction="up", kind="proprietary", outcome="proprietary",
        size=1, data_rate=5, frequency_hz=868_100_000, gateways=[],
    )  # fmt: skip
    _tell(nats_server.url, [line, other])
    newest = page.locator(".desk-frames > li").first
    expect(newest).to_contain_text("Join request was used before", timeout=15_000)
    expect(newest).to_contain_text("DR5 (SF7BW125), 868.1")
    expect(newest.get_by_role("link", name="Rathaus Schwerte")).to_be_visible()
    expect(page.locator("frame-log")).not_to_contain_text("vendor's own format")
    page.get_by_role("button", name="Stop").click()
    expect(log).to_have_attribute("data-live", "false")
    _check(page)


@pytest.mark.parametrize(("person", "status"), [("staff", 403), ("citizen", 403), ("nobody", 403)])
def test_only_who_may_read_messages_follows_frames(
    open_page: OpenPage, desk: Scene, radio: Radio, person: str, status: int
) -> None:
    page = open_page("/impressum/", person=desk.people.get(person))
    answer = page.request.get(page.url.replace("/impressum/", "/live/frames"))
    assert (answer.status, answer.json()["error"]) == (status, "forbidden")


def _tell(url: str, lines: list[Line]) -> None:
    """As the radio does; in a thread of its own, because Playwright's loop runs in this one."""
    log = FrameLog(None)  # type: ignore[arg-type] # nothing is written
    for line in lines:
        log.add(line)

    async def publish() -> None:
        client = await nats.connect(url)
        for municipality, data in log.take_live().items():
            await client.publish(f"{SUBJECT}.{municipality}", data)
        await client.drain()

    thread = threading.Thread(target=lambda: asyncio.run(publish()))
    thread.start()
    thread.join()


def test_a_gateway_is_registered_with_the_keyboard_alone(
    open_page: OpenPage, desk: Scene, radio: Radio
) -> None:
    page = open_page("/amt/funknetz/gateways/neu/", person=desk.people["operator"], width=360)
    page.get_by_label("Gateway-EUI").focus()
    page.keyboard.type("00-16-C0-01-F1-00-00-77")
    page.keyboard.press("Tab")
    assert focus_is_visible(page)
    page.keyboard.type("FabLab")
    page.get_by_label("Gateway-Protokoll").select_option("station")
    page.get_by_role("button", name="Jetzt anmelden").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="FabLab")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Authorization: Bearer ")
    _check(page)
    page.reload()
    expect(page.locator("main")).to_contain_text("Authorization: Bearer …")


def test_a_downlink_is_sent_and_followed(open_page: OpenPage, desk: Scene, radio: Radio) -> None:
    from quartier.lorawan.models import Downlink

    page = open_page(
        f"/amt/funknetz/geraete/{DEVICES['schwerte']}/", person=desk.people["steward"], faults=True
    )
    page.get_by_text("Nachricht senden").click()
    page.get_by_label("Nutzdaten in Hex").fill("zz")
    page.get_by_role("button", name="Senden").click()
    expect(page.get_by_role("alert")).to_contain_text("Bitte Paare aus 0–9 und a–f eingeben")
    page.get_by_label("Nutzdaten in Hex").fill("01 ff")
    page.get_by_role("button", name="Senden").click()
    expect(page.locator("main")).to_contain_text("Wartet, bis das Gerät das nächste Mal sendet")
    downlink = Downlink.objects.latest("pk")
    downlink.state, downlink.reason, downlink.attempts = "failed", "duty_cycle", 3
    downlink.save()
    expect(page.get_by_role("status")).to_contain_text("gescheitert", timeout=15_000)
    expect(page.locator("main")).to_contain_text("Sendezeit aufgebraucht")
