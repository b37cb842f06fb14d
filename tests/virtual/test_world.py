"""The things and devices of the virtual cities, and the seed data of both municipalities."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import shapely
from shapely.geometry import Point, shape

from quartier.virtual.device_types import DEVICE_TYPES
from quartier.virtual.places import municipalities
from quartier.virtual.world import world

PROBE = """
import hashlib, itertools
from quartier.virtual.chirpstack import Events
from quartier.virtual.element_json import Documents
from quartier.virtual.load import chirpstack_events
from quartier.virtual.radio import Radio
from quartier.virtual.schedule import Clock, Faults, Schedule
from quartier.virtual.world import world
cities, digest = world(3), hashlib.sha256()
clock, radio = Clock(1780567200.0, 5.0, lambda: 1780568000.0), Radio(cities)
faults = Faults(0.02, 0.02, 0.02, 0.02)
element = Schedule(cities, cities.devices_in("element"), clock, faults, 3600)
documents = Documents(element, radio)
for item in element.window(1780566000_000000, 1780567300_000000, "arrived"):
    digest.update(repr((documents.packet(item), documents.reading(item))).encode())
chirpstack = Schedule(cities, cities.devices_in("chirpstack"), clock, faults, 3600)
events = Events(chirpstack, radio)
for item in chirpstack.window(1780566000_000000, 1780567300_000000, "sent"):
    digest.update(repr(events.events_of(item)).encode())
for event in itertools.islice(chirpstack_events(7, 3, 1780567200_000000), 50):
    digest.update(repr(event).encode())
print(digest.hexdigest())
"""


def polygons() -> dict[str, dict[str, Any]]:
    """District polygons by municipality and district."""
    return {
        city.slug: {district["slug"]: shape(district["polygon"]) for district in city.raw["districts"]}
        for city in municipalities()
    }


def test_world_has_the_promised_things() -> None:
    things = Counter((thing.municipality, thing.kind) for thing in world(1).things)
    assert things == {
        ("dortmund", "station"): 76,
        ("dortmund", "level_gauge"): 9,
        ("dortmund", "parking_space"): 28,
        ("dortmund", "car_park"): 4,
        ("dortmund", "waste_container"): 20,
        ("dortmund", "tree"): 17,
        ("dortmund", "street_lamp"): 27,
        ("dortmund", "counter"): 7,
        ("schwerte", "station"): 15,
        ("schwerte", "level_gauge"): 3,
        ("schwerte", "parking_space"): 12,
        ("schwerte", "car_park"): 2,
        ("schwerte", "waste_container"): 10,
        ("schwerte", "tree"): 8,
        ("schwerte", "street_lamp"): 13,
        ("schwerte", "counter"): 3,
    }
    biomet = Counter(
        thing.municipality for thing in world(1).things if thing.properties.get("station_type") == "biomet"
    )
    assert biomet == {"dortmund": 25, "schwerte": 5}


def test_world_biomet_station_has_two_devices_others_one() -> None:
    cities = world(1)
    at_thing = Counter(device.thing for device in cities.devices)
    for thing in cities.things:
        expected = 2 if thing.properties.get("station_type") == "biomet" else 1
        assert (thing.key, at_thing[thing.key]) == (thing.key, expected)


def test_world_keys_names_and_euis_are_unique() -> None:
    cities = world(1)
    for names in (
        [thing.key for thing in cities.things],
        [device.name for device in cities.devices],
        [device.dev_eui for device in cities.devices],
    ):
        assert len(names) == len(set(names))
    # The second-lowest bit of the first byte marks an address as locally administered (IEEE 802-2014 §8.2.2).
    assert {int(device.dev_eui[:2], 16) & 0b11 for device in cities.devices} == {0b10}
    assert {len(device.dev_eui) for device in cities.devices} == {16}


def test_world_has_the_promised_faulty_devices() -> None:
    faults = Counter(device.fault for device in world(1).devices if device.fault)
    assert faults == {"stuck": 1, "spikes": 1, "drift": 1, "silent": 1, "weak_battery": 1}


@pytest.mark.parametrize("seed", [1, 2, 77])
def test_world_things_stand_in_their_district(seed: int) -> None:
    districts = polygons()
    misplaced = [
        (thing.key, thing.district)
        for thing in world(seed).things
        if not districts[thing.municipality][thing.district].contains(Point(thing.lon, thing.lat))
    ]
    assert misplaced == []


def test_world_keys_do_not_depend_on_the_seed_but_places_do() -> None:
    one, two = world(1), world(2)
    assert [thing.key for thing in one.things] == [thing.key for thing in two.things]
    assert [device.dev_eui for device in one.devices] == [device.dev_eui for device in two.devices]
    assert one.thing("do-klima-001").lon != two.thing("do-klima-001").lon


def test_world_and_messages_are_the_same_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROBE],
            env={"PYTHONPATH": "src", "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1234")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_device_types_map_only_known_properties() -> None:
    known = {
        entry["slug"]
        for entry in json.loads(resources.files("quartier.twin").joinpath("data/properties.json").read_text())
    }
    used = {mapping.property for kind in DEVICE_TYPES.values() for mapping in kind.mapping}
    assert used <= known


def test_world_copies_no_real_station(data: Path) -> None:
    with (data / "dortmund-climate" / "stations.csv").open() as file:
        real = [(float(row["longitude"]), float(row["latitude"])) for row in csv.DictReader(file)]
    for thing in world(1).things:
        nearest_m = min(Point(thing.lon, thing.lat).distance(Point(position)) * 70_000 for position in real)
        assert nearest_m > 5.0, thing.key


# -- seed data of the municipalities ----------------------------------------------------------------------------


def test_districts_are_the_right_ones() -> None:
    names = {city.slug: [district["name"] for district in city.raw["districts"]] for city in municipalities()}
    assert names == {
        "dortmund": [
            "Innenstadt-West", "Innenstadt-Nord", "Innenstadt-Ost", "Eving", "Scharnhorst", "Brackel",
            "Aplerbeck", "Hörde", "Hombruch", "Lütgendortmund", "Huckarde", "Mengede",
        ],
        "schwerte": [
            "Schwerte-Mitte", "Schwerterheide", "Holzen", "Wandhofen", "Westhofen", "Ergste", "Villigst",
            "Geisecke",
        ],
    }  # fmt: skip
    assert {city.slug: city.ags for city in municipalities()} == {
        "dortmund": "05913000",
        "schwerte": "05978028",
    }
    assert {city.raw["accuracy"] for city in municipalities()} == {"approximate"}


def test_districts_tile_their_city_without_overlap() -> None:
    for city in municipalities():
        parts = list(polygons()[city.slug].values())
        assert shapely.coverage_is_valid(parts)
        whole = shape(city.raw["polygon"])
        assert whole.symmetric_difference(shapely.union_all(parts)).area == 0.0
        assert whole.geom_type == "Polygon"
        assert list(whole.bounds) == list(city.bbox)
        assert whole.contains(Point(city.centre))


def test_cities_share_a_border_but_no_area() -> None:
    dortmund, schwerte = (shape(city.raw["polygon"]) for city in municipalities())
    common = dortmund.intersection(schwerte)
    assert common.area == 0.0
    assert common.length > 0.1


def test_district_coordinates_have_five_decimals() -> None:
    for city in municipalities():
        for district in city.raw["districts"]:
            for lon, lat in shapely.get_coordinates(shape(district["polygon"])):
                assert (lon, lat) == (round(lon, 5), round(lat, 5))


def test_real_stations_lie_in_dortmund(data: Path) -> None:
    dortmund = shape(municipalities()[0].raw["polygon"])
    with (data / "dortmund-climate" / "stations.csv").open() as file:
        outside = [
            row["long_name"]
            for row in csv.DictReader(file)
            if not dortmund.contains(Point(float(row["longitude"]), float(row["latitude"])))
        ]
    assert outside == []


def test_basemap_is_small_and_complete() -> None:
    text = resources.files("quartier.cities").joinpath("data/basemap.json").read_text()
    assert len(text.encode()) < 60_000
    features = json.loads(text)["features"]
    kinds = Counter(feature["properties"]["kind"] for feature in features)
    assert set(kinds) == {"water", "river", "road", "green", "label"}
    assert 60 <= len(features) <= 120
    names = {feature["properties"]["name"] for feature in features}
    assert names >= {
        "Ruhr", "Emscher", "Hengsteysee", "Phoenix-See", "A1", "A2", "A45", "A40", "B1", "Westfalenpark",
        "Rombergpark", "Hauptfriedhof", "Bolmke", "Schwerter Wald", "Dortmund", "Schwerte",
    }  # fmt: skip
    assert all(shape(feature["geometry"]).is_valid for feature in features)
