"""The things and devices of the virtual cities.

``world(seed)`` gives plain frozen data: what stands where, which devices hang at it, and which of them are faulty.
Keys and device EUIs do not depend on the seed; positions within a neighbourhood, house numbers and characters do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from types import MappingProxyType
from typing import Literal

from .city import Stream
from .device_types import DEVICE_TYPES, DeviceType
from .noise import between, key_of, mix, unit
from .places import Municipality, Place, east_north_km, municipalities, offset, places
from .weather import Spot

type Kind = Literal[
    "station", "level_gauge", "parking_space", "car_park", "waste_container", "tree", "street_lamp", "counter"
]
type Network = Literal["element", "chirpstack", "radio"]
type Fault = Literal["stuck", "spikes", "drift", "silent", "weak_battery"]

PREFIX = {"dortmund": "do", "schwerte": "sw"}
NETWORK: dict[str, Network] = {"dortmund": "element", "schwerte": "chirpstack"}


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that stands in one of the cities. ``district`` is the district's slug."""

    key: str
    name: str
    kind: Kind
    municipality: str
    lon: float
    lat: float
    altitude_m: float
    street: str
    house_number: str
    postcode: str
    district: str
    surface: str
    height_above_ground_m: float
    properties: Mapping[str, str | int | float]
    spot: Spot
    seed: int
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A sensor at a thing. ``type`` is a key of DEVICE_TYPES, ``thing`` the key of its thing."""

    index: int
    dev_eui: str
    name: str
    type: str
    thing: str
    municipality: str
    network: Network
    expected_interval_s: int
    serial: int
    installed_on: date
    fault: Fault | None
    seed: int

    @property
    def device_type(self) -> DeviceType:
        """The model of this device."""
        return DEVICE_TYPES[self.type]


@dataclass(frozen=True, slots=True)
class World:
    """Both virtual cities."""

    seed: int
    municipalities: tuple[Municipality, ...]
    things: tuple[Thing, ...]
    devices: tuple[Device, ...]
    _things: dict[str, Thing] = field(repr=False)

    def thing(self, key: str) -> Thing:
        """The thing with a key. Raises KeyError."""
        return self._things[key]

    def thing_of(self, device: Device) -> Thing:
        """The thing at which a device hangs."""
        return self._things[device.thing]

    def devices_in(self, network: Network) -> tuple[Device, ...]:
        """The devices that report through one of the two networks."""
        return tuple(device for device in self.devices if device.network == network)


# municipality, stream, neighbourhood, lon, lat, base level m, metres per mm of rain, hours to the peak
GAUGES = (
    ("dortmund", "Rahmkebach", "Rahm", 7.3918, 51.5399, 0.22, 0.034, 2.0),
    ("dortmund", "Schondelle", "Brünninghausen", 7.4611, 51.4762, 0.18, 0.041, 1.5),
    ("dortmund", "Rüpingsbach", "Barop", 7.4213, 51.4829, 0.25, 0.045, 2.2),
    ("dortmund", "Hörder Bach", "Benninghofen", 7.5131, 51.4820, 0.16, 0.038, 1.4),
    ("dortmund", "Emscher", "Dorstfeld", 7.4240, 51.5076, 0.62, 0.058, 5.0),
    ("dortmund", "Emscher", "Aplerbeck", 7.5599, 51.4956, 0.38, 0.047, 3.5),
    ("dortmund", "Roßbach", "Marten", 7.3868, 51.5159, 0.24, 0.037, 1.9),
    ("dortmund", "Nettebach", "Nette", 7.3862, 51.5601, 0.27, 0.035, 2.4),
    ("dortmund", "Körne", "Kurl", 7.5849, 51.5499, 0.35, 0.042, 3.2),
    ("schwerte", "Elsebach", "Ergste", 7.5760, 51.4262, 0.28, 0.049, 2.6),
    ("schwerte", "Elsebach", "Bürenbruch", 7.6001, 51.4068, 0.14, 0.052, 1.3),
    ("schwerte", "Wannebach", "Westhofen", 7.5363, 51.4216, 0.19, 0.046, 1.6),
)
# municipality, name, neighbourhood, capacity
CAR_PARKS = (
    ("dortmund", "Tiefgarage Ostwall", "City", 420),
    ("dortmund", "Parkhaus Kampstraße", "City", 310),
    ("dortmund", "Parkhaus Klinikviertel", "Klinikviertel", 520),
    ("dortmund", "Tiefgarage Hörde", "Hörde", 180),
    ("schwerte", "Parkhaus am Bahnhof", "Bahnhof", 150),
    ("schwerte", "Tiefgarage Altstadt", "Altstadt", 95),
)
# municipality, neighbourhood, spaces in a row
PARKING_ROWS = (
    ("dortmund", "City", 8),
    ("dortmund", "Nordmarkt", 6),
    ("dortmund", "Hörde", 7),
    ("dortmund", "Phoenix-See", 7),
    ("schwerte", "Altstadt", 7),
    ("schwerte", "Bahnhof", 5),
)
# municipality, name, neighbourhood, pedestrians and bicycles in a busy hour
COUNTERS = (
    ("dortmund", "Fußgängerzone Westenhellweg", "City", 2600, 60),
    ("dortmund", "Emscherweg Phoenix-See", "Phoenix-See", 420, 190),
    ("dortmund", "Radweg Kreuzviertel", "Kreuzviertel", 180, 260),
    ("dortmund", "Nordmarkt Südseite", "Nordmarkt", 640, 110),
    ("dortmund", "Westfalenpark Eingang", "Westfalenpark", 300, 45),
    ("dortmund", "Universität Mensabrücke", "Universität", 900, 140),
    ("dortmund", "Kanalweg Hafen", "Hafen", 150, 170),
    ("schwerte", "Fußgängerzone Hüsingstraße", "Altstadt", 780, 50),
    ("schwerte", "RuhrtalRadweg Villigst", "Villigst", 90, 220),
    ("schwerte", "Bahnhofsvorplatz", "Bahnhof", 520, 80),
)
SPECIES = ("Winterlinde", "Platane", "Stieleiche", "Spitzahorn", "Rosskastanie", "Hainbuche", "Feldahorn")
CONTAINERS = {"dortmund": 20, "schwerte": 10}
TREES = {"dortmund": 17, "schwerte": 8}
LAMPS = {"dortmund": 27, "schwerte": 13}

# Deliberately faulty devices, so that quality control and the desk have something to find.
FAULTS: dict[tuple[str, str], Fault] = {
    ("do-klima-008", "decentlab-dl-sht35"): "stuck",
    ("do-klima-021", "decentlab-dl-sht35"): "drift",
    ("do-klima-033", "decentlab-dl-sht35"): "silent",
    ("sw-klima-005", "virtual-climate"): "spikes",
    ("sw-baum-003", "virtual-soil"): "weak_battery",
}
FAILED_LAMPS = frozenset({"do-leuchte-009", "sw-leuchte-004"})

_TYPE_CODE = {key: number for number, key in enumerate(DEVICE_TYPES, start=1)}
_SHORT = {
    "virtual-climate": "KLIMA",
    "virtual-weather": "WETTER",
    "virtual-globe": "KUGEL",
    "virtual-level": "PEGEL",
    "virtual-parking": "STELLPLATZ",
    "virtual-carpark": "PARKHAUS",
    "virtual-waste": "CONTAINER",
    "virtual-soil": "BODEN",
    "virtual-lamp": "LEUCHTE",
    "virtual-counter": "ZAEHLER",
}


class Builder:
    """Collects things and devices in a fixed order, so that indexes are stable."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.things: list[Thing] = []
        self.devices: list[Device] = []
        self.serials: dict[str, int] = {}

    def near(self, place: Place, key: str, radius_km: float) -> tuple[float, float]:
        """A position within a radius of a neighbourhood's centre."""
        angle = 2.0 * math.pi * unit(self.seed, key_of(key), 1)
        distance_km = radius_km * math.sqrt(unit(self.seed, key_of(key), 2))
        return offset(place.lon, place.lat, distance_km * math.sin(angle), distance_km * math.cos(angle))

    def thing(
        self,
        key: str,
        name: str,
        kind: Kind,
        place: Place,
        *,
        position: tuple[float, float] | None = None,
        street: str | None = None,
        surface: str | None = None,
        height_m: float = 3.0,
        properties: dict[str, str | int | float] | None = None,
        stream: Stream | None = None,
    ) -> Thing:
        thing_seed = mix(self.seed, key_of(key))
        lon, lat = position or self.near(place, key, 0.28)
        altitude_m = round(place.altitude_m + between(-4.0, 4.0, thing_seed, 3), 1)
        if surface is None:
            built = ("asphalt", "paving") if place.density > 0.6 else ("paving", "grass")
            surface = "grass" if place.density < 0.3 else built[mix(thing_seed, 4) % 2]
        east_km, north_km = east_north_km(lon, lat)
        made = Thing(
            key=key,
            name=name,
            kind=kind,
            municipality=place.municipality,
            lon=lon,
            lat=lat,
            altitude_m=altitude_m,
            street=street or place.streets[mix(thing_seed, 5) % len(place.streets)],
            house_number=str(1 + mix(thing_seed, 6) % 140),
            postcode=place.postcode,
            district=place.district,
            surface=surface,
            height_above_ground_m=height_m,
            properties=MappingProxyType(properties or {}),
            spot=Spot(
                east_km=east_km,
                north_km=north_km,
                altitude_m=altitude_m,
                density=min(1.0, max(0.0, place.density + between(-0.08, 0.08, thing_seed, 7))),
                shade=between(0.0, 0.5, thing_seed, 8),
                height_m=max(0.5, height_m),
                seed=thing_seed,
            ),
            seed=thing_seed,
            stream=stream,
        )
        self.things.append(made)
        return made

    def device(self, thing: Thing, type_key: str) -> None:
        serial = self.serials.get(type_key, 0) + 1
        self.serials[type_key] = serial
        number = serial
        if type_key.startswith("decentlab"):
            # The real network numbers its devices 0x53.. and 0x54..; ours stay clear of them.
            number = 0xD000 + 0x100 * _TYPE_CODE[type_key] + serial
            name = f"DEC00{number:04X}"
        else:
            name = f"V{PREFIX[thing.municipality].upper()}-{_SHORT[type_key]}-{serial:03d}"
        device_seed = mix(self.seed, key_of(thing.key), key_of(type_key))
        self.devices.append(
            Device(
                index=len(self.devices),
                # 02-… is a locally administered prefix (IEEE 802, second bit of the first byte): it belongs to nobody.
                dev_eui=f"02005e{_TYPE_CODE[type_key]:02x}0000{number:04x}",
                name=name,
                type=type_key,
                thing=thing.key,
                municipality=thing.municipality,
                network=NETWORK[thing.municipality],
                expected_interval_s=DEVICE_TYPES[type_key].interval_s,
                serial=number,
                installed_on=date(2024, 3, 1) + timedelta(days=mix(device_seed, 1) % 540),
                fault=FAULTS.get((thing.key, type_key)),
                seed=device_seed,
            )
        )

    def scattered(self, slug: str, count: int, salt: int, least_density: float) -> list[Place]:
        """Neighbourhoods for ``count`` things, spread over the municipality."""
        known = [place for place in places()[slug] if place.density >= least_density]
        known.sort(key=lambda place: unit(self.seed, salt, key_of(place.name)))
        return [known[number % len(known)] for number in range(count)]


def _stations(build: Builder) -> None:
    for slug, most_biomet in (("dortmund", 25), ("schwerte", 5)):
        chosen = list(places()[slug])
        if slug == "schwerte":
            chosen.append(chosen[0])
        biomet_left = most_biomet
        for number, place in enumerate(chosen, start=1):
            key = f"{PREFIX[slug]}-klima-{number:03d}"
            biomet = number % 3 == 1 and biomet_left > 0
            biomet_left -= biomet
            street = place.streets[(number - 1) % len(place.streets)]
            thing = build.thing(
                key,
                f"{place.name}, {street}",
                "station",
                place,
                street=street,
                properties={"station_type": "biomet" if biomet else "temperature_humidity"},
            )
            if slug == "dortmund":
                types = ("decentlab-dl-atm41", "decentlab-dl-blg") if biomet else ("decentlab-dl-sht35",)
            else:
                types = ("virtual-weather", "virtual-globe") if biomet else ("virtual-climate",)
            for type_key in types:
                build.device(thing, type_key)


def _water_and_trees(build: Builder, by_name: dict[tuple[str, str], Place]) -> None:
    for number, (slug, stream, where, lon, lat, base_m, gain, hours) in enumerate(GAUGES, start=1):
        place = by_name[slug, where]
        thing = build.thing(
            f"{PREFIX[slug]}-pegel-{number:02d}",
            f"Pegel {stream}, {where}",
            "level_gauge",
            place,
            position=(lon, lat),
            surface="water",
            height_m=2.0,
            properties={"stream": stream},
            stream=Stream(base_m=base_m, gain_m_per_mm=gain, rise_s=hours * 3600.0),
        )
        build.device(thing, "virtual-level")
    for slug, count in TREES.items():
        for number, place in enumerate(build.scattered(slug, count, 102, 0.1), start=1):
            key = f"{PREFIX[slug]}-baum-{number:03d}"
            species = SPECIES[mix(build.seed, key_of(key), 9) % len(SPECIES)]
            thing = build.thing(
                key,
                f"{species}, {place.name}",
                "tree",
                place,
                surface="grass",
                height_m=-0.3,
                properties={"species": species, "planted": 1950 + mix(build.seed, key_of(key), 10) % 72},
            )
            build.device(thing, "virtual-soil")


def _traffic(build: Builder, by_name: dict[tuple[str, str], Place]) -> None:
    numbers = {"dortmund": 0, "schwerte": 0}
    for slug, where, count in PARKING_ROWS:
        place = by_name[slug, where]
        row_key = f"row-{slug}-{where}"
        start = build.near(place, row_key, 0.2)
        street = place.streets[mix(build.seed, key_of(row_key)) % len(place.streets)]
        angle = 2.0 * math.pi * unit(build.seed, key_of(row_key), 3)
        for number in range(1, count + 1):
            numbers[slug] += 1
            along_km = 0.006 * (number - 1)
            thing = build.thing(
                f"{PREFIX[slug]}-stellplatz-{numbers[slug]:03d}",
                f"Stellplatz {number}, {street}",
                "parking_space",
                place,
                position=offset(*start, along_km * math.sin(angle), along_km * math.cos(angle)),
                street=street,
                surface="asphalt",
                height_m=0.0,
                properties={"row": f"{street}, {place.name}"},
            )
            build.device(thing, "virtual-parking")
    for number, (slug, name, where, capacity) in enumerate(CAR_PARKS, start=1):
        thing = build.thing(
            f"{PREFIX[slug]}-parkhaus-{number:02d}",
            name,
            "car_park",
            by_name[slug, where],
            surface="asphalt",
            height_m=1.0,
            properties={"capacity": capacity},
        )
        build.device(thing, "virtual-carpark")
    for number, (slug, name, where, pedestrians, bicycles) in enumerate(COUNTERS, start=1):
        thing = build.thing(
            f"{PREFIX[slug]}-zaehler-{number:02d}",
            name,
            "counter",
            by_name[slug, where],
            height_m=3.5,
            properties={"busy_pedestrians_per_hour": pedestrians, "busy_bicycles_per_hour": bicycles},
        )
        build.device(thing, "virtual-counter")


def _street(build: Builder) -> None:
    for slug, count in CONTAINERS.items():
        for number, place in enumerate(build.scattered(slug, count, 101, 0.25), start=1):
            thing = build.thing(
                f"{PREFIX[slug]}-container-{number:03d}",
                f"Glascontainer {place.name}",
                "waste_container",
                place,
                surface="paving",
                height_m=1.6,
                properties={"waste": "glass", "volume_m3": 3.2},
            )
            build.device(thing, "virtual-waste")
    for slug, count in LAMPS.items():
        for number, place in enumerate(build.scattered(slug, count, 103, 0.3), start=1):
            key = f"{PREFIX[slug]}-leuchte-{number:03d}"
            thing = build.thing(
                key,
                f"Leuchte {number}, {place.name}",
                "street_lamp",
                place,
                height_m=6.0,
                properties={"rated_power_w": (28, 36, 52, 74)[mix(build.seed, key_of(key), 11) % 4]},
            )
            build.device(thing, "virtual-lamp")


@cache
def world(seed: int = 1) -> World:
    """Both cities for a seed; the same seed gives equal data in every process."""
    build = Builder(seed)
    by_name = {(slug, place.name): place for slug, known in places().items() for place in known}
    _stations(build)
    _water_and_trees(build, by_name)
    _traffic(build, by_name)
    _street(build)
    return World(
        seed=seed,
        municipalities=municipalities(),
        things=tuple(build.things),
        devices=tuple(build.devices),
        _things={thing.key: thing for thing in build.things},
    )
