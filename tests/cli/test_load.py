"""Files are loaded: cities, stations, readings, car parks, devices; twice is the same as once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.conftest import Quartier

REAL = Path(__file__).parents[3] / "shared" / "data"
needs_real_files = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not on this machine")


@pytest.fixture
def ready(quartier: Quartier) -> Quartier:
    """With both cities and all properties."""
    from quartier.cli.seed import seed_properties

    seed_properties()
    quartier("load", "cities")
    return quartier


def observations(store: str) -> list[tuple[Any, ...]]:
    """Thing, property, time, value and flags of everything stored."""
    with psycopg.connect(store) as connection:
        return connection.execute(
            "SELECT t.key, p.slug, to_char(o.time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"'),"
            " round(o.result::numeric, 3)::float8, o.flags"
            " FROM twin_observation o JOIN twin_series s ON s.id = o.series_id JOIN twin_thing t ON t.id = s.thing_id"
            " JOIN twin_observedproperty p ON p.id = s.observed_property_id ORDER BY 1, 2, 3"
        ).fetchall()


def test_shipped_cities(quartier: Quartier) -> None:
    from quartier.cities.models import District, Municipality

    said = quartier("load", "cities")
    assert said == "Dortmund: 12 districts.\nSchwerte: 8 districts.\n"
    assert list(Municipality.objects.values_list("slug", "key", "theme")) == [
        ("dortmund", "05913000", "dortmund"),
        ("schwerte", "05978028", "schwerte"),
    ]
    before = set(District.objects.values_list("pk", flat=True))
    quartier("load", "cities")
    assert set(District.objects.values_list("pk", flat=True)) == before


def test_third_city_joins_by_a_file(quartier: Quartier, tmp_path: Path) -> None:
    from quartier.cities.models import Municipality

    city: dict[str, Any] = {
        "slug": "unna",
        "name": "Unna",
        "ags": "05978036",
        "centre": [7.688, 51.537],
        "bbox": [7.6, 51.48, 7.78, 51.58],
        "districts": [{"slug": "mitte", "name": "Mitte", "polygon": {"type": "Polygon", "coordinates": []}}],
    }
    file = tmp_path / "unna.json"
    file.write_text(json.dumps(city))
    assert quartier("load", "cities", str(file)) == "Unna: 1 districts.\n"
    unna = Municipality.objects.get()
    assert (unna.lon, unna.west, unna.time_zone, unna.theme) == (7.688, 7.6, "Europe/Berlin", "unna")

    for change, message in (
        ({"bbox": None}, "unna.json is not the description of a municipality"),
        ({"name": ...}, "unna.json: name is missing"),
    ):
        changed = {k: v for k, v in {**city, **change}.items() if v is not ...}
        file.write_text(json.dumps(changed))
        assert message in quartier("load", "cities", str(file), status=1)


CSV = """thing,property,unit,time,value
markt,air_temperature,Cel,2026-05-01T10:00:00Z,21.5
markt,air_temperature,[degF],2026-05-01T10:10:00Z,70.7
markt,air_temperature,Cel,2026-05-01T12:20:00+02:00,99
markt,relative_humidity,%,2026-05-01T10:00:00Z,55
bahnhof,air_temperature,Cel,2026-05-01T10:00:00Z,20
markt,air_temperature,Cel,2026-05-01T10:00:00,20
markt,wind,m/s,2026-05-01T10:00:00Z,3
"""


def _market(city: str = "schwerte") -> None:
    from quartier.cities.models import Municipality
    from quartier.twin.models import Thing

    Thing.objects.create(
        municipality=Municipality.objects.get(slug=city),
        key="markt",
        name="Markt",
        kind="station",
        lon=7.56,
        lat=51.44,
    )


def test_plain_csv(ready: Quartier, store: str, tmp_path: Path) -> None:
    from quartier.intake.models import QualityFinding

    _market()
    file = tmp_path / "readings.csv"
    file.write_text(CSV)
    said = ready("load", "csv", str(file), "--municipality", "schwerte")
    # 70.7 °F are 21.5 °C; 99 °C are out of range, kept and flagged.
    expected = [
        ("markt", "air_temperature", "2026-05-01T10:00Z", 21.5, 0),
        ("markt", "air_temperature", "2026-05-01T10:10Z", 21.5, 0),
        ("markt", "air_temperature", "2026-05-01T10:20Z", 99.0, 1),
        ("markt", "relative_humidity", "2026-05-01T10:00Z", 55.0, 0),
    ]
    assert observations(store) == expected
    assert "4 recorded, 0 were there, 1 found implausible." in said
    assert "1 skipped: nothing to record bahnhof air_temperature in Cel." in said
    assert "readings.csv, line 7, column time" in said
    assert "'wind' is not a known property" in said
    finding = QualityFinding.objects.get()
    assert (finding.check_name, finding.n, finding.example) == ("range", 1, 99.0)

    again = ready("load", "csv", str(file), "--municipality", "schwerte")
    assert "0 recorded, 4 were there, 0 found implausible." in again
    assert observations(store) == expected
    assert QualityFinding.objects.get().n == 1


def test_things_of_another_city_are_not_touched(ready: Quartier, store: str, tmp_path: Path) -> None:
    _market("schwerte")
    file = tmp_path / "readings.csv"
    file.write_text(CSV)
    assert "0 recorded" in ready("load", "csv", str(file), "--municipality", "dortmund")
    assert observations(store) == []


def test_file_that_is_no_table(ready: Quartier, tmp_path: Path) -> None:
    file = tmp_path / "readings.csv"
    file.write_text("a,b\n1,2\n")
    said = ready("load", "csv", str(file), "--municipality", "dortmund", status=1)
    assert "the header has no column thing" in said
    file.write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8" in ready("load", "csv", str(file), "--municipality", "dortmund", status=1)


@needs_real_files
def test_real_climate_network(ready: Quartier, store: str) -> None:
    from quartier.twin.models import Thing
    from quartier.usage.models import Dataset

    said = ready("load", "climate", str(REAL / "dortmund-climate"))
    assert "77 things added" in said
    assert "141 recorded" in said
    assert "data.csv, line 61, column longitude" in said
    assert Thing.objects.filter(kind="station", district=None).count() == 0
    # The barometer at Phoenix-See sent nothing; one thermometer is far warmer than all around it.
    flagged = {
        (thing, slug): (value, flags) for thing, slug, _time, value, flags in observations(store) if flags
    }
    assert flagged == {("dodphx", "air_pressure"): (0.0, 1), ("dotzhe", "air_temperature"): (14.612, 8)}
    dataset = Dataset.objects.get()
    assert (dataset.slug, dataset.licence, dataset.attribution) == (
        "klima",
        "MIT",
        "Jonas Kittner & Data2Resilience contributors",
    )
    before = observations(store)
    assert "0 things" not in ready("load", "climate", str(REAL / "dortmund-climate"))
    assert observations(store) == before


@needs_real_files
def test_real_raw_readings_of_one_device(ready: Quartier, store: str) -> None:
    _market("dortmund")
    file = REAL / "dortmund-climate" / "SHT35_DEC0054A4_raw_data.csv"
    ready("load", "raw", str(file), "--thing", "markt")
    temperatures = [row[3] for row in observations(store) if row[1] == "air_temperature"]
    assert len(temperatures) == 4
    assert temperatures[-1] == 12.682
    assert "dortmund has no thing 'mond'" in ready("load", "raw", str(file), "--thing", "mond", status=1)


DEVICES = """external_id;name;device_type;thing_key;thing_name;kind;lon;lat;height_above_ground_m
A81758FFFE0312AB;Fühler 1;sensor;markt;Am Markt;station;7,5651;51,4419;3
A81758FFFE0312AC;Fühler 2;sensor;rathaus;Rathaus;station;7,5652;51,4429;3,5
"""


def test_devices_of_a_source(ready: Quartier, tmp_path: Path) -> None:
    from quartier.cities.models import Municipality
    from quartier.sources.models import Source
    from quartier.twin.models import Deployment, DeviceType

    Source.objects.create(
        municipality=Municipality.objects.get(slug="schwerte"), key="lora", name="LoRa", kind="chirpstack"
    )
    DeviceType.objects.create(key="sensor", model="Sensor")
    file = tmp_path / "devices.csv"
    file.write_text(DEVICES)
    assert "There is no source 'radio'. Known: lora." in ready(
        "load", "devices", str(file), "--source", "radio", status=1
    )
    assert "2 devices: 2 would be added" in ready("load", "devices", str(file), "--source", "lora", "--check")
    assert not Deployment.objects.exists()
    assert "2 devices: 2 were added, 0 changed; 2 things were added." in ready(
        "load", "devices", str(file), "--source", "lora"
    )
    assert list(Deployment.objects.order_by("pk").values_list("device__external_id", "thing__key")) == [
        ("a81758fffe0312ab", "markt"),
        ("a81758fffe0312ac", "rathaus"),
    ]
    file.write_text(DEVICES.replace("7,5652", "75652"))
    said = ready("load", "devices", str(file), "--source", "lora", status=1)
    assert "devices.csv, line 3, lon:" in said
    assert "1 problems; nothing was written." in said
