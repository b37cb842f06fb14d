"""Quality: findings and decisions; silent, drifting and implausible stations."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection

from quartier.cities.models import AuditEntry
from quartier.cities.rules import SYSTEM, actor_of
from quartier.desk.queries import quality
from quartier.intake.models import QualityFinding
from quartier.twin.flags import Flag
from quartier.twin.models import Deployment, Device, Series, Thing
from tests.desk.scene import Scene, count_queries, record


def _flags(series: Series) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT flags FROM twin_observation WHERE series_id = %s ORDER BY time", [series.pk])
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize(
    ("state", "flag"),
    [("confirmed", Flag.RANGE | Flag.CONFIRMED), ("dismissed", Flag.RANGE | Flag.DISMISSED)],
)
def test_decision_flags_the_readings_and_is_noted(scene: Scene, state: str, flag: Flag) -> None:
    finding = scene.findings["schwerte"]
    answer = scene.client("steward").post(
        "/amt/qualitaet/entscheiden/",
        {"id": finding.pk, "state": state, "note": "nachgesehen", "zurueck": f"/amt/qualitaet/{finding.pk}/"},
    )
    assert answer["Location"] == f"/amt/qualitaet/{finding.pk}/"
    finding.refresh_from_db()
    assert (finding.state, finding.decided_by, finding.detail["note"]) == (
        state,
        scene.people["steward"],
        "nachgesehen",
    )
    assert _flags(scene.series["schwerte"]) == [0] * 8 + [int(flag)] * 4 + [0] * 8
    assert list(AuditEntry.objects.order_by("pk").values_list("action", "municipality__slug")) == [
        (f"finding.{state}", "schwerte"),
        ("finding.note", "schwerte"),
    ]


def test_several_are_decided_at_once(scene: Scene) -> None:
    ids = [scene.findings[slug].pk for slug in ("schwerte", "dortmund")]
    client = scene.client("operator_all")
    answer = client.post("/amt/qualitaet/entscheiden/", {"id": ids, "state": "dismissed"}, follow=True)
    assert set(QualityFinding.objects.values_list("state", flat=True)) == {"dismissed"}
    assert "2 Befunde entschieden (8 Messwerte)." in answer.content.decode()


def test_a_finding_of_the_other_city_spoils_the_selection(scene: Scene) -> None:
    ids = [scene.findings[slug].pk for slug in ("schwerte", "dortmund")]
    answer = scene.client("steward").post("/amt/qualitaet/entscheiden/", {"id": ids, "state": "dismissed"})
    assert answer.status_code == 403
    assert set(QualityFinding.objects.values_list("state", flat=True)) == {"open"}


@pytest.mark.parametrize(
    "data", [{"state": "confirmed"}, {"id": "x", "state": "confirmed"}, {"state": "open"}]
)
def test_nothing_to_decide(scene: Scene, data: dict[str, str]) -> None:
    answer = scene.client("steward").post("/amt/qualitaet/entscheiden/", data, follow=True)
    assert "Bitte wählen Sie mindestens einen Befund und eine Entscheidung." in answer.content.decode()
    assert set(QualityFinding.objects.values_list("state", flat=True)) == {"open"}


def test_list_is_filtered_by_its_address(scene: Scene) -> None:
    client = scene.client("operator_all")

    def shown(query: str) -> list[int]:
        return [row["finding"].pk for row in client.get(f"/amt/qualitaet/?{query}").context["rows"]]

    schwerte, dortmund = scene.findings["schwerte"].pk, scene.findings["dortmund"].pk
    assert shown("") == [schwerte, dortmund]
    assert shown("stadt=dortmund") == [dortmund]
    assert shown("pruefung=spike") == []
    assert shown("pruefung=range&messgroesse=air_temperature") == [schwerte, dortmund]
    assert shown("zustand=confirmed") == []
    assert shown("zustand=alle&stadt=schwerte") == [schwerte]


def test_finding_shows_reason_course_and_neighbours(scene: Scene) -> None:
    finding, now = scene.findings["schwerte"], scene.now
    neighbour = Thing.objects.create(
        municipality=scene.schwerte, key="n", name="Nachbar", kind="station", lon=7.58, lat=51.44
    )
    series = Series.objects.create(
        municipality=scene.schwerte,
        thing=neighbour,
        observed_property=scene.properties["air_temperature"],
        unit="Cel",
    )
    hour = finding.first_time.replace(minute=0, second=0, microsecond=0)
    record(series, [(hour, 17.0, 0), (hour + timedelta(minutes=20), 18.0, 0), (now, 30.0, 0)])
    page = scene.client("staff").get(f"/amt/qualitaet/{finding.pk}/")
    text = page.content.decode()
    assert "Der Wert liegt außerhalb des möglichen Bereichs von −40 bis 60\u00a0°C." in text
    assert text.count("desk-spark__flagged") == 4
    assert [
        (one.series.thing.name, round(one.distance_km, 1), one.mean) for one in page.context["nearby"]
    ] == [("Nachbar", 0.7, 17.5), ("Markt Dortmund", 10.9, None)]
    # All readings of Dortmund's station in that hour are flagged, so it has no mean. Staff may look and not decide.
    assert "Entscheiden" not in text


def test_limits_that_cannot_be_read_do_not_break_the_page(scene: Scene) -> None:
    scene.properties["air_temperature"].limits = {"nonsense": 1}
    scene.properties["air_temperature"].save()
    assert scene.client("staff").get(f"/amt/qualitaet/{scene.findings['schwerte'].pk}/").status_code == 200


def test_queries_do_not_grow_with_findings(scene: Scene) -> None:
    client = scene.client("operator_all")
    few = count_queries(client, "/amt/qualitaet/")
    finding = scene.findings["schwerte"]
    for _ in range(2):
        finding.pk = None
        finding.save()
    assert count_queries(client, "/amt/qualitaet/") == few


NOW = datetime(2026, 5, 8, 12, 30, tzinfo=UTC)
SINCE = datetime(2026, 5, 1, 12, tzinfo=UTC)


def _station(scene: Scene, name: str, km_east: float, offset: Any, slug: str = "schwerte") -> Series:
    """A station that measures a day's course plus ``offset(hour)``; None leaves the hour out."""
    city = scene.municipality(slug)
    thing = Thing.objects.create(
        municipality=city,
        key=name,
        name=name,
        kind="station",
        lon=7.0 + km_east / (111.2 * math.cos(math.radians(51.0))),
        lat=51.0,
    )
    series = Series.objects.create(
        municipality=city, thing=thing, observed_property=scene.properties["air_temperature"], unit="Cel"
    )
    readings = [
        (SINCE + timedelta(hours=hour), 10 + 8 * math.sin(hour / 24 * math.tau) + offset(hour), 0)
        for hour in range(168)
        if offset(hour) is not None
    ]
    if readings:
        record(series, readings)
    return series


def _drift(scene: Scene, name: str = "superuser") -> dict[str, tuple[float, float | None, int, int, bool]]:
    return {
        row.series.thing.name: (
            round(row.mean, 3),
            None if row.change is None else round(row.change, 3),
            row.hours,
            row.neighbours,
            row.notable,
        )
        for row in quality.drift(actor_of(scene.people[name]), "air_temperature", NOW)
    }


def test_drift_is_the_mean_difference_from_the_neighbours_median(scene: Scene) -> None:
    for number, offset in enumerate([0.0, 0.2, 0.4, 0.6]):
        _station(scene, f"s{number}", number, lambda _hour, offset=offset: offset)
    _station(scene, "warm", 4, lambda _hour: 2.6)
    # Grows by 0.015 K an hour: 120 hours lie between the middles of the first and the last two days.
    _station(scene, "aging", 5, lambda hour: hour * 0.015)
    found = _drift(scene)
    mean, change, hours, neighbours, notable = found["warm"]
    assert 2.1 <= mean <= 2.3
    assert change is not None
    assert abs(change) <= 0.1
    assert (hours, neighbours, notable) == (168, 5, True)
    assert found["aging"][1] == pytest.approx(1.8, abs=0.001)
    assert found["aging"][4] is True
    assert [name for name, row in found.items() if row[4]] == ["warm", "aging"]
    # The median of 0.2, 0.4, 0.6, 2.6 and the growing one (0 to 2.5) lies between 0.4 and 0.6.
    assert -0.6 <= found["s0"][0] <= -0.4


def test_two_neighbours_are_not_enough(scene: Scene) -> None:
    for number in range(3):
        _station(scene, f"s{number}", number, lambda _hour: 0.0)
    assert _drift(scene) == {}


def test_far_stations_are_no_neighbours(scene: Scene) -> None:
    for number in range(4):
        _station(scene, f"s{number}", number * 3.9, lambda _hour: 0.0)
    # 3.9 and 7.8 km are near, 11.7 km is not.
    assert {name: row[3] for name, row in _drift(scene).items()} == {"s1": 3, "s2": 3}


def test_hours_with_too_few_neighbours_do_not_count(scene: Scene) -> None:
    _station(scene, "s0", 0, lambda _hour: 0.0)
    for number in (1, 2, 3):
        _station(scene, f"s{number}", number, lambda hour: 0.0 if hour < 40 else None)
    found = _drift(scene)
    assert found["s0"] == (0.0, None, 40, 3, False)


def test_a_station_with_a_day_of_readings_at_least(scene: Scene) -> None:
    for number in range(3):
        _station(scene, f"s{number}", number, lambda _hour: 0.0)
    _station(scene, "new", 3, lambda hour: 5.0 if hour >= 145 else None)
    assert "new" not in _drift(scene)


def test_neighbours_come_from_both_cities_but_only_the_own_are_listed(scene: Scene) -> None:
    for number in range(3):
        _station(scene, f"s{number}", number, lambda _hour: 0.0, "dortmund")
    _station(scene, "mine", 3, lambda _hour: 3.0)
    assert _drift(scene, "staff") == {"mine": (3.0, 0.0, 168, 3, True)}


def test_deviations_of_a_small_matrix() -> None:
    nan = math.nan
    values = np.array([[1.0, 2.0, 3.0, 9.0], [1.0, nan, 3.0, 5.0], [nan, 2.0, 3.0, 4.0]])
    found = quality.deviations(values, [[1, 2, 3], [0, 2, 3], [0, 1], []])
    expected = np.array([[-2.0, -1.0, nan, nan], [nan, nan, nan, nan], [nan, nan, nan, nan]])
    assert np.array_equal(found, expected, equal_nan=True)


def test_silent_places_have_no_device_that_is_heard(scene: Scene) -> None:
    actor = actor_of(scene.people["operator_all"])
    assert [row.thing.name for row in quality.silent_things(actor)] == ["Park Dortmund", "Park Schwerte"]
    # A second device at the park that sends: the place is not silent.
    second = Device.objects.create(
        municipality=scene.schwerte,
        source_key="netz-schwerte",
        external_id="zweites",
        name="Zweites",
        last_seen_at=scene.now,
    )
    Deployment.objects.create(device=second, thing=scene.things["schwerte park"], since=scene.now)
    assert [row.thing.name for row in quality.silent_things(actor)] == ["Park Dortmund"]
    # A device never heard stands behind all that were heard once.
    Device.objects.filter(pk=second.pk).update(last_seen_at=None)
    Device.objects.filter(pk=scene.devices["schwerte silent"].pk).update(last_seen_at=None)
    rows = quality.silent_things(actor)
    assert [(row.thing.name, row.last_seen_at is None, len(row.devices)) for row in rows] == [
        ("Park Dortmund", False, 1),
        ("Park Schwerte", True, 2),
    ]


def test_implausible_series_have_five_flagged_of_a_hundred(scene: Scene) -> None:
    found = quality.implausible(SYSTEM, scene.now)
    assert [(row.series.thing.name, row.n_flagged, row.n_all, row.share) for row in found] == [
        ("Markt Dortmund", 4, 20, 0.2),
        ("Markt Schwerte", 4, 20, 0.2),
    ]
    assert [
        row.series.thing.name for row in quality.implausible(actor_of(scene.people["staff"]), scene.now)
    ] == ["Markt Schwerte"]
    assert quality.implausible(SYSTEM, scene.now + timedelta(days=8)) == []


@pytest.mark.parametrize("query", ["", "messgroesse=relative_humidity", "messgroesse=nix", "alle=1"])
def test_page_of_the_stations(scene: Scene, query: str) -> None:
    assert scene.client("staff").get(f"/amt/qualitaet/stationen/?{query}").status_code == 200
