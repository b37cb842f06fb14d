"""The data pages without a browser: what they say, in both languages, to whom, and with how many queries."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tools import compile_messages

from quartier.cities.models import Person, Role, RoleAssignment
from quartier.portal.axes import ZONE
from quartier.portal.data_queries import Value
from quartier.portal.periods import midnight
from quartier.portal.presentation import headline
from quartier.twin import queries
from quartier.twin.models import Series, Thing
from tests.portal.data_scene import DataScene

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fresh")]


@pytest.fixture(scope="module", autouse=True)
def _translations() -> None:
    compile_messages.compile_all()


def text_of(html: str) -> str:
    """What a reader sees: no tags, single blanks."""
    body = html[html.index("<main") : html.index("</main>")]
    body = re.sub(r"<(script|title|desc)[^>]*>.*?</\1>", " ", body, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body))).replace(" .", ".").replace(" ,", ",")


def read(client: Client, path: str, language: str = "de") -> str:
    answer = client.get(path, headers={"accept-language": language})
    assert answer.status_code == 200, path
    return text_of(answer.content.decode())


def names(client: Client, path: str) -> list[str]:
    """The names of the places of a list, in order."""
    html = client.get(path).content.decode()
    return [unescape(name) for name in re.findall(r'<a class="q-place__name"[^>]*>([^<]+)</a>', html)]


# Home


def test_home_says_how_both_cities_are(data: DataScene, client: Client) -> None:
    text = read(client, "/")
    assert "Wie geht es den Städten gerade?" in text
    # Eleven are public (one is hidden, the data set of the lamp is closed), two of them silent.
    assert "9 von 11 Orten senden Messwerte." in text
    assert (
        "Im Mittel von 2 Stationen. Am wärmsten: Hörde, Hermannstraße mit 29,0 °C."
        " Am kühlsten: Bolmke, Ardeystraße mit 15,0 °C." in text
    )
    assert "Schwerte 18,0 °C Gemessen an Markt." in text
    assert "Gefühlte Temperatur Dortmund" in text
    assert "Gemessen an Hörde, Hermannstraße : mäßige Wärmebelastung." in text
    assert "42 freie Plätze In 1 Parkhaus; 0 von 1 Stellplätzen am Straßenrand frei." in text
    assert (
        "1 fast voll Von 1 Containern mindestens zu 80 % gefüllt. Am vollsten: Glascontainer Hörde mit 85 %."
        in text
    )
    assert "steigend Am meisten gestiegen: Pegel Emscher in drei Stunden um" in text
    assert "14,5 %" in text
    assert "Straßenbeleuchtung" not in text
    assert "Geheime" not in text


def test_home_in_english(data: DataScene, client: Client) -> None:
    text = read(client, "/", "en")
    assert "How are the cities right now?" in text
    assert "Warmest: Hörde, Hermannstraße with 29.0 °C. Coolest: Bolmke, Ardeystraße with 15.0 °C." in text
    assert "Measured at Hörde, Hermannstraße : moderate heat stress." in text
    assert not re.search(r"\b(und|von|Orte|Regen)\b", text)


def test_home_of_one_city_leaves_the_other_out(data: DataScene, client: Client) -> None:
    text = read(client, "/?stadt=schwerte")
    assert "Wie geht es Schwerte gerade?" in text
    assert "Gemessen an Markt." in text
    assert "Hermannstraße" not in text
    assert "1 von 1 Orten sendet Messwerte." in text


def test_unknown_city_is_passed_over(data: DataScene, client: Client) -> None:
    assert "Wie geht es den Städten gerade?" in read(client, "/?stadt=atlantis")


# Lists


ALL_AWAKE = [
    "Bolmke, Ardeystraße", "Glascontainer Hörde", "Hörde, Hermannstraße", "Linde", "Markt", "Pegel Emscher",
    "Stellplatz 1", "Tiefgarage Hörde", "Zählstelle Hansa",
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("zustand=wach", ALL_AWAKE),
        ("zustand=still", ["Neue Station", "Schweigende Station"]),
        ("art=station&stadt=dortmund&zustand=wach", ["Bolmke, Ardeystraße", "Hörde, Hermannstraße"]),
        ("messgroesse=utci", ["Hörde, Hermannstraße"]),
        ("stadt=schwerte", ["Markt"]),
        ("stadtteil=dortmund/hoerde&art=station", ["Hörde, Hermannstraße"]),
        ("stadtteil=schwerte/hoerde", []),
        ("art=station&sort=-wert&zustand=wach", ["Hörde, Hermannstraße", "Markt", "Bolmke, Ardeystraße"]),
        ("messgroesse=air_temperature&sort=wert",
         ["Bolmke, Ardeystraße", "Markt", "Hörde, Hermannstraße", "Schweigende Station"]),
        ("q=hermannstr+12", ["Hörde, Hermannstraße"]),
        ("q=44263", ["Hörde, Hermannstraße"]),
        ("q=Hermanstrasse", ["Hörde, Hermannstraße"]),
        ("q=geheime", []),
        ("q=%00", ["Bolmke, Ardeystraße", *ALL_AWAKE[1:5], "Neue Station", *ALL_AWAKE[5:6], "Schweigende Station",
                   *ALL_AWAKE[6:]]),
        ("lat=51.4905&lon=7.449&art=station&zustand=wach",
         ["Bolmke, Ardeystraße", "Hörde, Hermannstraße", "Markt"]),
        ("art=tree&messgroesse=utci", []),
        ("stadt=atlantis&art=station&zustand=wach", ["Bolmke, Ardeystraße", "Hörde, Hermannstraße", "Markt"]),
    ],
)  # fmt: skip
def test_list_filters_and_sorts(data: DataScene, client: Client, query: str, expected: list[str]) -> None:
    assert names(client, f"/orte/?{query}") == expected


def test_list_shows_value_age_and_district(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/?q=hermannstr")
    assert "Hörde, Hermannstraße Klimastation · Hörde · Dortmund" in text
    assert re.search(r"Lufttemperatur: 29,0 °C vor \d+ Minute", text)


def test_list_says_how_it_understood_a_typing_error(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/?q=Hermanstraße")
    assert "„Hermanstraße“ gibt es nicht. Gezeigt wird, was zu „Hermannstraße“ passt." in text


def test_search_for_a_quarter_shows_what_is_nearest(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/?q=Kirchhörde&art=station&zustand=wach")
    assert "3 Orte – die nächsten um Kirchhörde" in text


def test_empty_list_says_what_helps(data: DataScene, client: Client) -> None:
    assert "Dazu gibt es keinen Ort." in read(client, "/orte/?q=Xylophonweg")


def test_list_has_pages(data: DataScene, client: Client) -> None:
    for n in range(30):
        Thing.objects.create(
            municipality=data.cities["schwerte"], key=f"b{n}", name=f"Baum {n:02}", kind="tree"
        )
    assert len(names(client, "/orte/?art=tree&stadt=schwerte")) == 25
    assert names(client, "/orte/?art=tree&stadt=schwerte&seite=2") == [f"Baum {n:02}" for n in range(25, 30)]
    assert names(client, "/orte/?art=tree&stadt=schwerte&seite=99") == [f"Baum {n:02}" for n in range(25, 30)]


def test_map_has_the_same_places_as_the_list(data: DataScene, client: Client) -> None:
    assert names(client, "/orte/karte?zustand=wach") == ALL_AWAKE
    html = client.get("/orte/karte?zustand=wach&stadt=dortmund").content.decode()
    assert 'src="/orte.geojson?stadt=dortmund&amp;zustand=wach"' in html


def test_geojson_holds_value_and_words(data: DataScene, client: Client) -> None:
    answer = client.get("/orte.geojson?messgroesse=utci", headers={"accept-language": "de"})
    assert answer["Content-Type"] == "application/geo+json"
    body = answer.json()
    feature = body["features"][0]
    assert feature["properties"].pop("age_text").startswith("vor ")
    newest = data.now - timedelta(minutes=1)
    assert feature == {
        "type": "Feature",
        "id": "dortmund/do-1",
        "geometry": {"type": "Point", "coordinates": [7.5, 51.49]},
        "properties": {
            "key": "dortmund/do-1", "name": "Hörde, Hermannstraße", "municipality": "dortmund", "kind": "station",
            "kind_text": "Klimastation", "district": "Hörde", "url": "/orte/dortmund/do-1/", "asleep": False,
            "property": "utci", "result": 30.0, "unit": "Cel", "flags": 0,
            "time": newest.isoformat(), "text": "30,0\xa0°C", "class": 4,
        },
    }  # fmt: skip
    assert (body["numberMatched"], body["numberReturned"], len(body["features"])) == (1, 1, 1)
    assert {"class": 4, "label": "mäßige Wärmebelastung"} in body["legend"]


def test_geojson_without_property_shows_kinds(data: DataScene, client: Client) -> None:
    body = client.get("/orte.geojson", headers={"accept-language": "en"}).json()
    kinds = {f["id"]: (f["properties"]["class"], f["properties"].get("text")) for f in body["features"]}
    assert kinds["dortmund/do-1"] == (1, "29.0\xa0°C")
    assert kinds["dortmund/do-platz"][1] == "occupied"
    assert "dortmund/do-geheim" not in kinds
    assert "dortmund/do-neu" not in kinds  # it has no position
    assert body["legend"][0] == {"class": 1, "label": "Climate stations"}
    # Silent places are drawn hollow, and the legend says so.
    assert [f["id"] for f in body["features"] if f["properties"]["asleep"]] == ["dortmund/do-still"]
    assert body["legend"][-1] == {"class": 0, "label": "silent", "asleep": True}


def test_wind_directions_have_no_ranks(data: DataScene, client: Client) -> None:
    html = client.get("/messgroessen/wind_direction/").content.decode()
    head = html.partition("<thead>")[2].partition("</thead>")[0]
    assert [text for text in re.findall(r">([^<>]+)<", head) if text.strip()] == [
        "Ort", "Jetzt", "Gemessen", "Stadtteil",
    ]  # fmt: skip


def test_sentence_of_a_place_is_as_old_as_its_first_value(data: DataScene, client: Client) -> None:
    thing = Thing.objects.get(key="do-1")
    values = {
        series.observed_property.slug: queries.latest([series.pk])[series.pk].time
        for series in Series.objects.filter(thing=thing).select_related("observed_property")
        if queries.latest([series.pk])
    }
    assert values["battery_voltage"] >= values["air_temperature"]
    html = client.get("/orte/dortmund/do-1/").content.decode()
    lede = re.search(r'<p class="q-lede">Gemessen <time[^>]*datetime="([^"]+)"', html)
    assert lede is not None
    assert lede[1] == values["air_temperature"].strftime("%Y-%m-%dT%H:%M:%SZ")


def test_counts_say_over_how_long(data: DataScene, client: Client) -> None:
    thing = Thing.objects.get(key="do-rad")
    assert headline_of(thing, {"bicycle_count": 1.0, "pedestrian_count": 12.0}, "15 Minuten") == (
        "In 15 Minuten 12 Menschen zu Fuß und 1 Fahrrad"
    )
    assert headline_of(thing, {"bicycle_count": 2.0}, "15 Minuten") == "In 15 Minuten 2 Fahrräder"
    assert headline_of(thing, {}, "15 Minuten") == ""
    with translation.override("en"):
        assert headline_of(thing, {"bicycle_count": 0.0, "pedestrian_count": 1.0}, "15 minutes") == (
            "1 person on foot and 0 bicycles in 15 minutes"
        )


def headline_of(thing: Thing, now: dict[str, float], interval: str) -> str:
    """The headline of a thing that says ``now``, without asking the store."""
    moment = timezone.now()
    known = {s: Value(0, thing.pk, s, "", "1", moment, x, None, 0, True) for s, x in now.items()}
    return headline(thing, known, {}, interval=interval)


# One place


def test_place_says_the_most_important_in_one_line(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/dortmund/do-1/")
    assert (
        "Klimastation · Dortmund, Hörde Hörde, Hermannstraße 29 °C, gefühlt 30 °C, mäßige Wärmebelastung"
        in text
    )
    assert re.search(r"Gemessen vor \d+ Minuten?, 3 m über Asphalt\.", text)
    assert "Hermannstraße 12, 44263 Dortmund" in text
    assert "Misst alle 10 Minuten" in text
    assert "Decentlab DL-SHT35" in text
    assert "Umweltamt Dortmund" in text
    assert "Batteriespannung 3,05 V" in text
    assert "Blitzschaden" in text
    assert "Stadt Dortmund" in text


def test_place_in_english(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/dortmund/do-1/", "en")
    assert "29 °C, feels like 30 °C, moderate heat stress" in text
    assert re.search(r"Measured \d+ minutes? ago, 3 m above asphalt\.", text)
    assert not re.search(r"\b(und|Messung|Verlauf|Sensor ist)\b", text)


def test_doubted_value_is_shown_with_its_reason_and_does_not_count(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/dortmund/do-1/?messgroesse=air_temperature")
    # The day holds 144 readings, the newest 144 of those rising by 0.05 from 20.04; the spike of 55.5 is left out.
    assert "In den letzten 24 Stunden 21,8 bis 29,0 °C, im Mittel 25,4 °C." in text
    assert "1 von 144 Werten (0,7 %) ist auffällig. Er fließt nicht in Mittelwerte ein." in text
    assert "55,5 °C Der Wert springt stärker, als es die Messungen davor und danach erwarten lassen." in text
    html = client.get("/orte/dortmund/do-1/").content.decode()
    assert html.count('class="q-chart-flag"') == 1


def test_value_that_never_changes_has_no_lowest_and_highest(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/dortmund/do-2/?messgroesse=air_temperature")
    assert "In den letzten 24 Stunden durchgehend 15,0 °C." in text
    assert "Am niedrigsten" not in text


@pytest.mark.parametrize("period", ["tag", "woche", "monat", "jahr", "unsinn"])
def test_every_period_has_sentence_picture_and_table(data: DataScene, client: Client, period: str) -> None:
    html = client.get(f"/orte/dortmund/do-1/?messgroesse=air_temperature&zeitraum={period}").content.decode()
    assert "°C, im Mittel" in html
    assert html.count('<svg xmlns="http://www.w3.org/2000/svg" class="q-chart"') == 1
    assert "Dieselben Werte als Tabelle" in html


def test_period_in_the_past_is_part_of_the_address(data: DataScene, client: Client) -> None:
    text = read(client, "/orte/dortmund/do-1/?zeitraum=woche&bis=2025-03-30")
    assert "Vom 24. März 2025 bis zum 30. März 2025 gibt es keine Werte." in text
    html = client.get("/orte/dortmund/do-1/?zeitraum=woche&bis=2025-03-30").content.decode()
    assert "zeitraum=woche&amp;bis=2025-03-23#verlauf" in html
    assert "zeitraum=woche&amp;bis=2025-04-06#verlauf" in html


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/orte/dortmund/do-1/?messgroesse=precipitation", "In den letzten 24 Stunden zusammen 14,4 mm, am meisten:"),
        ("/orte/dortmund/do-1/?messgroesse=wind_direction",
         "In den letzten 24 Stunden am häufigsten: Wind aus Südwest (100 % der Zeit)."),
        ("/orte/dortmund/do-platz/", "In den letzten 24 Stunden zu 50 % der Zeit belegt."),
        ("/orte/dortmund/do-platz/", "Der Stellplatz ist belegt"),
        ("/orte/dortmund/do-park/", "42 von 180 Plätzen frei"),
        ("/orte/dortmund/do-glas/", "Zu 85 % gefüllt"),
        ("/orte/dortmund/do-baum/", "Bodenfeuchte 14,5 %"),
        ("/orte/dortmund/do-still/", "Dieser Ort schweigt. Der letzte Wert kam vor 3 Tagen."),
        ("/orte/dortmund/do-neu/", "Dieser Ort hat noch keinen Messwert gesendet."),
    ],
)  # fmt: skip
def test_every_kind_of_place_speaks_its_own_words(
    data: DataScene, client: Client, path: str, expected: str
) -> None:
    assert expected in read(client, path)


def test_places_nearby_are_offered(data: DataScene, client: Client) -> None:
    html = client.get("/orte/dortmund/do-park/").content.decode()
    nearby = re.findall(r'<a class="q-place__name"[^>]*>([^<]+)</a>', html)
    assert nearby[:3] == ["Stellplatz 1", "Glascontainer Hörde", "Linde"] or set(nearby[:3]) == {
        "Stellplatz 1", "Glascontainer Hörde", "Linde",
    }  # fmt: skip
    assert "Hörde, Hermannstraße" in nearby
    assert "Geheime Station" not in nearby


def test_downloads_of_a_place_name_place_and_period(data: DataScene, client: Client) -> None:
    html = client.get("/orte/dortmund/do-1/?zeitraum=woche&bis=2025-03-30").content.decode()
    for form in ("csv", "geojson", "parquet"):
        address = f"/daten/beobachtungen.{form}?ort=dortmund%2Fdo-1&amp;von=2025-03-24&amp;bis=2025-03-30"
        assert address in html


HIDDEN = (
    "/orte/dortmund/do-geheim/",
    "/orte/dortmund/do-leuchte/",
    "/orte/dortmund/nichts/",
    "/orte/x/do-1/",
)


@pytest.mark.parametrize("path", HIDDEN)
def test_hidden_and_missing_places_look_the_same(data: DataScene, client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("role", "city", "seen"),
    [
        (None, None, False),
        (Role.MAKER, "dortmund", False),
        (Role.STAFF, "schwerte", False),
        (Role.STAFF, "dortmund", True),
        (Role.OPERATOR, None, True),
    ],
)
def test_hidden_place_is_for_those_with_the_right(
    data: DataScene, client: Client, role: str | None, city: str | None, seen: bool
) -> None:
    person = Person.objects.create_user("p@example.org")
    if role:
        RoleAssignment.objects.create(
            person=person, role=role, municipality=data.cities[city] if city else None
        )
    client.force_login(person)
    assert (client.get("/orte/dortmund/do-geheim/").status_code == 200) is seen
    assert ("Geheime Station" in names(client, "/orte/?art=station")) is seen
    assert ("Geheime Station" in read(client, "/messgroessen/air_temperature/")) is seen
    hidden = data.series["do-geheim", "air_temperature"].pk
    assert ("Geheime Station" in read(client, f"/vergleich/?reihe={hidden}")) is seen
    assert (client.get("/daten/beobachtungen.csv?ort=dortmund/do-geheim").status_code == 200) is seen
    found = [f["id"] for f in client.get("/orte.geojson?art=station").json()["features"]]
    assert ("dortmund/do-geheim" in found) is seen


def test_owner_sees_her_own_hidden_sensor(data: DataScene, client: Client) -> None:
    person = Person.objects.create_user("m@example.org")
    Thing.objects.create(
        municipality=data.cities["schwerte"], key="mein", name="Mein Sensor", kind="citizen_sensor", public=False,
        owner_person_id=person.pk,
    )  # fmt: skip
    assert client.get("/orte/schwerte/mein/").status_code == 404
    client.force_login(person)
    assert client.get("/orte/schwerte/mein/").status_code == 200


# Properties


def test_property_page_ranks_places(data: DataScene, client: Client) -> None:
    text = read(client, "/messgroessen/air_temperature/")
    assert (
        "Gerade 15,0 bis 29,0 °C an 3 Orten, im Mittel 20,7 °C. "
        "Am höchsten: Hörde, Hermannstraße; am niedrigsten: Bolmke, Ardeystraße." in text
    )
    order = [text.index(name) for name in ("1 Hörde, Hermannstraße", "2 Markt", "3 Bolmke", "– Schweigende")]
    assert order == sorted(order)
    assert "Dortmund 22,0 °C 2 Orte" in text
    assert "Hörde (Dortmund) 29,0 °C 1" in text


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", ["Hörde, Hermannstraße", "Markt", "Bolmke, Ardeystraße", "Schweigende Station"]),
        ("wert", ["Bolmke, Ardeystraße", "Markt", "Hörde, Hermannstraße", "Schweigende Station"]),
        ("name", ["Bolmke, Ardeystraße", "Hörde, Hermannstraße", "Markt", "Schweigende Station"]),
        ("stadtteil", ["Hörde, Hermannstraße", "Bolmke, Ardeystraße", "Schweigende Station", "Markt"]),
        ("unsinn", ["Hörde, Hermannstraße", "Markt", "Bolmke, Ardeystraße", "Schweigende Station"]),
    ],
)
def test_property_page_sorts(data: DataScene, client: Client, sort: str, expected: list[str]) -> None:
    html = client.get(f"/messgroessen/air_temperature/?sort={sort}").content.decode()
    found = re.findall(r'<th scope="row"><a href="/orte/[^"]+">([^<]+)</a>', html)
    assert [unescape(name) for name in found] == expected


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("occupied", "Gerade belegt: 1 von 1 Orten."),
        ("wind_direction", "Gerade am häufigsten: Wind aus Südwest, an 1 von 1 Orten."),
        ("fill_level", "Ein Ort sendet gerade: Glascontainer Hörde mit 85 %."),
        ("noise_level", "Hier gibt es dazu keine Werte."),
    ],
)
def test_property_page_of_other_kinds_of_results(
    data: DataScene, client: Client, slug: str, expected: str
) -> None:
    assert expected in read(client, f"/messgroessen/{slug}/")


def test_sum_is_ranked_by_what_came_together_today(data: DataScene, client: Client) -> None:
    text = read(client, "/messgroessen/bicycle_count/")
    total = sum(
        int(row.result or 0)
        for row in data.rows
        if row.series_id == data.series["do-rad", "bicycle_count"].pk
        and row.time >= midnight(timezone.localtime(data.now, ZONE).date())
    )
    assert re.search(rf"1 Zählstelle Hansa (Innenstadt-\w+ · )?vor \d+ Minuten? {total} ", text)


def test_property_that_does_not_exist_is_a_404(client: Client, data: DataScene) -> None:
    assert client.get("/messgroessen/nichts/").status_code == 404


def test_index_lists_what_is_measured(data: DataScene, client: Client) -> None:
    text = read(client, "/messgroessen/")
    assert "Lufttemperatur Wie warm die Luft ist." in text
    assert "in °C · 4 Orte" in text
    assert "Leistung der Leuchte" not in text  # only lamps of a closed data set have it


# Comparison


def test_comparison_says_the_difference(data: DataScene, client: Client) -> None:
    first, second = (data.series[key, "air_temperature"].pk for key in ("do-2", "sw-1"))
    text = read(client, f"/vergleich/?reihe={first}&reihe={second}&zeitraum=tag")
    assert "Markt: im Mittel 3,0 °C höher als Bolmke, Ardeystraße." in text
    assert "Dortmund · 15,0 °C, im Mittel 15,0 °C" in text
    english = read(client, f"/vergleich/?reihe={first}&reihe={second}&zeitraum=tag", "en")
    assert "Markt: 3.0 °C higher on average than Bolmke, Ardeystraße." in english


def test_comparison_with_the_day_before(data: DataScene, client: Client) -> None:
    series = data.series["do-1", "air_temperature"].pk
    text = read(client, f"/vergleich/?reihe={series}&zeitraum=tag&versatz=tag")
    # Of the day before there are 36 readings, 20.04 to 21.79.
    assert "Hörde, Hermannstraße: im Mittel 4,5 °C höher als davor." in text


def test_comparison_holds_at_most_six(data: DataScene, client: Client) -> None:
    ids = [s.pk for s in Series.objects.filter(thing__public=True).exclude(thing__kind="street_lamp")[:7]]
    text = read(client, "/vergleich/?" + "&".join(f"reihe={pk}" for pk in ids))
    assert "Mehr als 6 Messreihen passen nicht in ein Bild; die übrigen wurden weggelassen." in text
    assert "Das Bild ist voll." in text
    assert text.count("entfernen") == 6 + 1  # and once in the hint


def test_comparison_passes_over_what_is_no_series(data: DataScene, client: Client) -> None:
    text = read(client, "/vergleich/?reihe=x&reihe=-1&reihe=99999999&reihe=9999999999999&versatz=x")
    assert "1 Messreihe der Adresse gibt es nicht." in text


def test_comparison_finds_series_to_add(data: DataScene, client: Client) -> None:
    series = data.series["do-1", "air_temperature"].pk
    text = read(client, f"/vergleich/?reihe={series}")
    assert "Bolmke, Ardeystraße Lufttemperatur · Dortmund Hinzufügen" in text
    text = read(client, "/vergleich/?ort=emscher")
    assert "Pegel Emscher Wasserstand · Dortmund Hinzufügen" in text
    assert "Dazu gibt es keine Messreihe." in read(client, "/vergleich/?ort=xylophon")


def test_units_that_differ_have_a_picture_each(data: DataScene, client: Client) -> None:
    first, second = data.series["do-2", "air_temperature"].pk, data.series["do-park", "free_spaces"].pk
    html = client.get(f"/vergleich/?reihe={first}&reihe={second}").content.decode()
    assert html.count("<time-chart") == 2


# Queries


def clone(thing: Thing, times: int) -> None:
    """More things like one, with its series and their newest values."""
    for n in range(times):
        series = list(Series.objects.filter(thing_id=thing.pk))
        copy = Thing.objects.get(pk=thing.pk)
        copy.pk, copy.key, copy.name = None, f"{thing.key}-{n}", f"{thing.name} {n}"
        copy.save(force_insert=True)
        for one in series:
            old = one.pk
            one.pk, one.thing = None, copy
            one.save(force_insert=True)
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO twin_state SELECT municipality_id, %s, n, first_time, time, flags, result, value,"
                    " recorded_at FROM twin_state WHERE series_id = %s",
                    [one.pk, old],
                )


PAGES: dict[str, Callable[[DataScene], str]] = {
    "home": lambda _: "/",
    "list": lambda _: "/orte/",
    "map": lambda _: "/orte/karte?messgroesse=air_temperature&sort=wert",
    "search": lambda _: "/orte/?q=Hermannstra%C3%9Fe",
    "geojson": lambda _: "/orte.geojson",
    "place": lambda _: "/orte/dortmund/do-1/",
    "properties": lambda _: "/messgroessen/",
    "property": lambda _: "/messgroessen/air_temperature/",
    "comparison": lambda data: (
        f"/vergleich/?reihe={data.series['do-2', 'air_temperature'].pk}&ort=Hermannstra%C3%9Fe"
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_number_of_queries_does_not_depend_on_the_number_of_places(
    data: DataScene, client: Client, fresh: None, page: str
) -> None:
    from django.core.cache import cache

    def count() -> int:
        cache.clear()
        with CaptureQueriesContext(connection) as queries:
            assert client.get(PAGES[page](data)).status_code == 200
        return len(queries)

    count()  # names of cities are read once a minute
    few = count()
    clone(data.things["do-1"], 3)
    assert count() == few
    assert few <= 16


# Anything


words = st.text(max_size=20) | st.sampled_from(
    ["dortmund", "station", "air_temperature", "dortmund/hoerde", "wach", "-wert", "51.5", "7.5", "nan", "1e999", "-1",
     "2026-11-01", "0001-01-01", "9999-12-31", "woche", "jahr", "tag", "1", "\x00", "..", "%", "'", "<b>"]
)  # fmt: skip
parameters = st.dictionaries(
    st.sampled_from(
        ["q", "stadt", "art", "messgroesse", "stadtteil", "zustand", "lat", "lon", "sort", "seite", "zeitraum", "bis",
         "kanal", "reihe", "versatz", "ort", "lang"]
    ),
    words,
    max_size=6,
)  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/", "/orte/", "/orte/karte", "/orte.geojson", "/orte/dortmund/do-1/", "/messgroessen/air_temperature/",
     "/vergleich/"],
)  # fmt: skip
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=parameters)
def test_no_address_is_an_error(data: DataScene, client: Client, path: str, query: dict[str, Any]) -> None:
    assert client.get(path, query).status_code == 200
