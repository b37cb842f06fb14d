"""Dortmund's car parks: names that differ between the files, outdated capacities, three years of readings."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from quartier.cli.importers import ImportedReading, ImportedThing, RowError
from quartier.cli.importers.parking import CORRECTED_CAPACITIES, car_parks, occupancy, place_key

REAL = Path(__file__).parents[4] / "shared" / "data" / "dortmund-parking"
needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason="../shared/data/dortmund-parking is not on this machine"
)


@pytest.mark.parametrize(
    ("listed", "recorded", "key"),
    [
        ("HDI/Südbad", "HDI-Sudbad", "hdi-sudbad"),
        ("Dietr.-Keuning-Haus", "Dietr-Keuning-Haus", "dietr-keuning-haus"),
        ("Freistuhl/Bibliothek", "Freistuhl-Bibliothek", "freistuhl-bibliothek"),
        ("Alte Post", "Alte-Post", "alte-post"),
    ],
)
def test_place_key_is_the_same_for_both_files(listed: str, recorded: str, key: str) -> None:
    assert (place_key(listed), place_key(recorded)) == (key, key)


def test_car_parks(tmp_path: Path) -> None:
    path = tmp_path / "garages.csv"
    path.write_text(
        "name,longitude,latitude,capacity,address,kind\n"
        "Friedensplatz,7.466557,51.509942,2580,Südwall 2,underground\n"
        "Dortmunder U,7.454036,51.515653,467,Brinkhoffstraße,underground\n"
        "Halb,7.4,51.5,46.5,Weg 1,surface\n"
        "?,7.4,51.5,46,Weg 1,surface\n"
        "Ohne Ort,,51.5,46,Weg 1,surface\n",
        encoding="utf-8",
    )
    errors: list[RowError] = []
    assert list(car_parks(path, errors.append)) == [
        ImportedThing(
            key="friedensplatz",
            name="Friedensplatz",
            kind="car_park",
            longitude=7.466557,
            latitude=51.509942,
            street="Südwall",
            house_number="2",
            properties={"capacity": 448, "building": "underground", "listed_capacity": 2580},
        ),
        ImportedThing(
            key="dortmunder-u",
            name="Dortmunder U",
            kind="car_park",
            longitude=7.454036,
            latitude=51.515653,
            street="Brinkhoffstraße",
            properties={"capacity": 467, "building": "underground"},
        ),
    ]
    assert [str(error) for error in errors] == [
        "garages.csv, line 4, column capacity: 46.5 is not a number of spaces",
        "garages.csv, line 5, column name: '?' has no letters",
        "garages.csv, line 6, column longitude: is empty",
    ]


def test_occupancy(tmp_path: Path) -> None:
    path = tmp_path / "occupancy.csv"
    path.write_text(
        "ts,place,free\n"
        "2020-03-24T16:01:02+00:00,Alte-Post,76\n"
        "2020-03-24T16:01:02+00:00,Bissenkamp,-1\n"
        "2020-03-24T16:01:02+00:00,Nirgends,5\n"
        "then,Alte-Post,5\n"
        "2020-03-24T16:01:02+00:00,Alte-Post,full\n"
        "2020-03-24T16:06:02+00:00,Alte-Post,75\n"
    )
    errors: list[RowError] = []
    assert list(occupancy(path, {"alte-post", "bissenkamp"}, errors.append)) == [
        ImportedReading("alte-post", "free_spaces", "1", datetime(2020, 3, 24, 16, 1, 2, tzinfo=UTC), 76.0),
        ImportedReading("alte-post", "free_spaces", "1", datetime(2020, 3, 24, 16, 6, 2, tzinfo=UTC), 75.0),
    ]
    assert [str(error) for error in errors] == [
        "occupancy.csv, line 3, column free: -1 is not a number of spaces",
        "occupancy.csv, line 4, column place: 'Nirgends' is not in the list of car parks",
        "occupancy.csv, line 5, column ts: 'then' is not a time (ISO 8601)",
        "occupancy.csv, line 6, column free: 'full' is not a number",
    ]


@needs_real_files
def test_three_real_years() -> None:
    errors: list[RowError] = []
    known = {place.key: place for place in car_parks(REAL / "garages.csv", errors.append)}
    assert len(known) == 19
    counts: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    first, last = None, None
    for reading in occupancy(REAL / "occupancy-2020-2022.csv.gz", known.keys(), errors.append):
        counts[reading.thing_key] += 1
        largest[reading.thing_key] = max(largest[reading.thing_key], int(reading.value))
        first, last = first or reading.time, reading.time
    assert errors == []
    assert counts.total() == 751_151
    assert known.keys() - counts.keys() == {"cinestar", "klinikum-do"}
    assert (first, last) == (
        datetime(2020, 3, 24, 16, 1, 2, tzinfo=UTC),
        datetime(2022, 12, 31, 22, 45, 1, tzinfo=UTC),
    )
    assert {key: largest[key] for key in CORRECTED_CAPACITIES} == CORRECTED_CAPACITIES
    assert [key for key, place in known.items() if largest[key] > place.properties["capacity"]] == []
