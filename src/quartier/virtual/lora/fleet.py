"""Devices of the cities' own LoRaWAN networks: things beside those of ``quartier.virtual.world``, with radio and keys.

Many stand at the border, where the other city's gateways hear them as well or better. Keys follow from the seed: they
are worth nothing, and registration and device must agree on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal

from quartier.lorawan.frames.crypto import session_1_0

from ..city import Stream
from ..device_types import DEVICE_TYPES
from ..noise import between, key_of, mix
from ..places import Place as Neighbourhood
from ..places import municipalities, offset, places
from ..world import PREFIX, Builder, Device, Kind, Thing, World
from .device import Abp, Otaa
from .device import Device as Radio
from .plan import JOIN_EUIS
from .propagation import Place
from .sites import FIRST_DEVICE

type Version = Literal["1.0.2", "1.0.3", "1.0.4", "1.1.0"]

_ABP_FIRST: Final = {"dortmund": 0x00DFFF00, "schwerte": 0x025FFF00}

# What is made of a type of device: kind and name of the thing, height in m, further loss in dB, interval in s.
_MAKES: Final[dict[str, tuple[Kind, str, float, float, int]]] = {
    "virtual-climate": ("station", "Klimasensor", 3.0, 0.0, 120),
    "virtual-level": ("level_gauge", "Rückhaltebecken", 2.0, 3.0, 300),
    "virtual-parking": ("parking_space", "Stellplatz", 0.0, 9.0, 300),
    "virtual-waste": ("waste_container", "Glascontainer", 1.6, 6.0, 600),
    "virtual-soil": ("tree", "Straßenbaum", -0.3, 11.0, 600),
    "virtual-lamp": ("street_lamp", "Leuchte", 6.0, 0.0, 240),
    "virtual-counter": ("counter", "Zählstelle", 3.5, 0.0, 300),
}
# municipality, neighbourhood, type, version, ABP
_FLEET: Final[tuple[tuple[str, str, str, Version, bool], ...]] = (
    ("dortmund", "City", "virtual-climate", "1.0.3", False),
    ("dortmund", "City", "virtual-lamp", "1.0.3", False),
    ("dortmund", "Eving", "virtual-climate", "1.0.2", False),
    ("dortmund", "Mengede", "virtual-climate", "1.0.4", False),
    ("dortmund", "Scharnhorst", "virtual-waste", "1.0.3", False),
    ("dortmund", "Westfalenpark", "virtual-soil", "1.0.4", False),
    ("dortmund", "Lütgendortmund", "virtual-counter", "1.1.0", False),
    ("dortmund", "Hörde", "virtual-parking", "1.0.3", True),
    ("dortmund", "Hörde", "virtual-lamp", "1.0.4", False),
    ("dortmund", "Höchsten", "virtual-waste", "1.1.0", False),
    ("dortmund", "Lichtendorf", "virtual-climate", "1.0.4", False),
    ("dortmund", "Lichtendorf", "virtual-level", "1.0.3", False),
    ("dortmund", "Lichtendorf", "virtual-lamp", "1.0.4", False),
    ("dortmund", "Syburg", "virtual-climate", "1.0.3", False),
    ("schwerte", "Altstadt", "virtual-climate", "1.0.3", False),
    ("schwerte", "Altstadt", "virtual-counter", "1.1.0", False),
    ("schwerte", "Altstadt", "virtual-lamp", "1.0.4", False),
    ("schwerte", "Ergste", "virtual-soil", "1.0.2", False),
    ("schwerte", "Geisecke", "virtual-climate", "1.0.3", True),
    ("schwerte", "Schwerterheide", "virtual-climate", "1.0.4", False),
    ("schwerte", "Schwerterheide", "virtual-parking", "1.0.3", False),
    ("schwerte", "Holzen", "virtual-climate", "1.0.3", False),
    ("schwerte", "Holzen", "virtual-lamp", "1.0.4", False),
    ("schwerte", "Rosen", "virtual-soil", "1.1.0", False),
    ("schwerte", "Rosen", "virtual-waste", "1.0.3", False),
)
# A lamp that runs on a battery: it listens every two seconds.
_CLASS_B: Final = frozenset({("dortmund", "Hörde", "virtual-lamp")})
_PERIODICITY: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device of the fleet: what it measures, where it is, and how it speaks."""

    device: Device
    thing: Thing
    place: Place
    version: Version
    device_class: Literal["A", "B", "C"]
    keys: Mapping[str, str]
    """As they are registered: ``app_key`` and ``nwk_key``, or ``dev_addr`` and session keys, hexadecimal."""

    @property
    def abp(self) -> bool:
        """Whether it has its session from the start."""
        return "dev_addr" in self.keys

    @property
    def profile(self) -> str:
        """Key of its device profile."""
        return f"virtual-{self.version.replace('.', '-')}-{self.device_class.lower()}"

    @property
    def join_eui(self) -> str:
        """Its city's join server; empty with ABP."""
        return "" if self.abp else JOIN_EUIS[self.device.municipality]

    def radio(self, *, seed: int) -> Radio:
        """The device as it leaves the factory; ``seed`` decides what it leaves to chance."""
        keys = {name: bytes.fromhex(key) for name, key in self.keys.items()}
        identity: Otaa | Abp
        if self.abp:
            session = session_1_0(keys["nwk_s_key"], keys["app_s_key"])
            identity = Abp(dev_addr=int(self.keys["dev_addr"], 16), session=session)
        else:
            identity = Otaa(
                dev_eui=bytes.fromhex(self.device.dev_eui),
                join_eui=bytes.fromhex(self.join_eui),
                app_key=keys["app_key"],
                nwk_key=keys.get("nwk_key"),
            )
        major, minor, patch = (int(part) for part in self.version.split("."))
        return Radio(
            identity,
            version=(major, minor, patch),
            seed=mix(seed, self.device.seed),
            data_rate=2 if self.abp else 5,
            device_class=self.device_class,
            periodicity=_PERIODICITY,
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of them, and the world in which they measure."""

    world: World
    members: tuple[Member, ...]


@cache
def fleet(seed: int = 1) -> Fleet:
    """The devices for a seed; the same seed gives the same in every process."""
    build = Builder(seed)
    by_name = {(slug, place.name): place for slug, known in places().items() for place in known}
    numbers: dict[tuple[str, str], int] = {}
    members: list[Member] = []
    for slug, where, type_key, version, abp in _FLEET:
        number = numbers[slug, type_key] = numbers.get((slug, type_key), 0) + 1
        thing = _thing(build, by_name[slug, where], type_key, number)
        build.device(thing, type_key)
        index = len(members)
        eui = f"025e00fffe01{index + 1:04x}"
        device = replace(
            build.devices[-1],
            dev_eui=eui,
            name=f"{build.devices[-1].name}-FUNK",
            network="radio",
            expected_interval_s=_MAKES[type_key][4],
        )
        build.devices[-1] = device
        members.append(
            Member(
                device=device,
                thing=thing,
                place=_place(thing, by_name[slug, where], index, _MAKES[type_key][3]),
                version=version,
                device_class="B"
                if (slug, where, type_key) in _CLASS_B
                else "C"
                if type_key == "virtual-lamp"
                else "A",
                keys=_keys(seed, slug, eui, index, version, abp=abp),
            )
        )
    return Fleet(
        World(
            seed=seed,
            municipalities=municipalities(),
            things=tuple(build.things),
            devices=tuple(build.devices),
            _things={thing.key: thing for thing in build.things},
        ),
        tuple(members),
    )


def _thing(build: Builder, around: Neighbourhood, type_key: str, number: int) -> Thing:
    kind, word, height_m, _, _ = _MAKES[type_key]
    slug = around.municipality
    key = f"{PREFIX[slug]}-funk-{DEVICE_TYPES[type_key].key.removeprefix('virtual-')}-{number:02d}"
    seed = key_of(key)
    position = offset(around.lon, around.lat, between(-0.3, 0.3, seed, 1), between(-0.3, 0.3, seed, 2))
    properties: dict[str, dict[str, str | int | float]] = {
        "station": {"station_type": "temperature_humidity"},
        "level_gauge": {"stream": f"Rückhaltebecken {around.name}"},
        "parking_space": {"row": f"{around.streets[0]}, {around.name}"},
        "waste_container": {"waste": "glass", "volume_m3": 3.2},
        "tree": {"species": "Winterlinde", "planted": 1990},
        "street_lamp": {"rated_power_w": 36},
        "counter": {"busy_pedestrians_per_hour": 240, "busy_bicycles_per_hour": 90},
    }
    return build.thing(
        key,
        f"{word} {around.name} (eigenes Funknetz)",
        kind,
        around,
        position=position,
        surface={"level_gauge": "water", "tree": "grass", "parking_space": "asphalt"}.get(kind),
        height_m=height_m,
        properties=properties[kind],
        stream=Stream(base_m=0.3, gain_m_per_mm=0.05, rise_s=5400.0) if kind == "level_gauge" else None,
    )


def _place(thing: Thing, around: Neighbourhood, index: int, loss_db: float) -> Place:
    return Place(
        number=FIRST_DEVICE + index,
        lon=thing.lon,
        lat=thing.lat,
        altitude_m=thing.altitude_m,
        height_m=max(0.2, thing.height_above_ground_m),
        density=around.density,
        loss_db=loss_db,
    )


def _keys(seed: int, slug: str, eui: str, index: int, version: Version, *, abp: bool) -> Mapping[str, str]:
    def key(number: int) -> str:
        return f"{mix(seed, key_of(eui), 601, number):016x}{mix(seed, key_of(eui), 602, number):016x}"

    if abp:
        address = _ABP_FIRST[slug] + index
        return {"dev_addr": f"{address:08x}", "nwk_s_key": key(1), "app_s_key": key(2)}
    keys = {"app_key": key(3)}
    if version.startswith("1.1"):
        keys["nwk_key"] = key(4)
    return keys
