"""Where the virtual cities' gateways stand: on roofs that cities have, by neighbourhood.

The two at Höchsten and Lichtendorf look down on Schwerte from the Ardey; Schwerte's own stand in the Ruhr's valley.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from ..noise import between, key_of
from ..places import offset, places
from .propagation import Place

type Protocol = Literal["gwmp", "station"]

# municipality, neighbourhood, roof, height above ground in m, antenna gain in dBi, protocol, place is public
_SITES: Final[tuple[tuple[str, str, str, float, float, Protocol, bool], ...]] = (
    ("dortmund", "City", "Verwaltungshochhaus", 62.0, 5.0, "station", True),
    ("dortmund", "Eving", "Feuerwache", 22.0, 3.0, "gwmp", True),
    ("dortmund", "Scharnhorst", "Gesamtschule", 18.0, 3.0, "gwmp", True),
    ("dortmund", "Mengede", "Bezirksverwaltungsstelle", 20.0, 3.0, "gwmp", True),
    ("dortmund", "Lütgendortmund", "Wohnhochhaus", 45.0, 5.0, "station", True),
    ("dortmund", "Hörde", "Berufskolleg", 24.0, 3.0, "gwmp", True),
    ("dortmund", "Höchsten", "Wasserbehälter", 14.0, 5.0, "station", True),
    ("dortmund", "Lichtendorf", "Feuerwehrgerätehaus", 12.0, 3.0, "gwmp", True),
    ("schwerte", "Altstadt", "Rathaus", 26.0, 5.0, "station", True),
    ("schwerte", "Geisecke", "Grundschule", 14.0, 3.0, "gwmp", True),
    ("schwerte", "Ergste", "Privathaus", 10.0, 2.0, "gwmp", False),
)
# Numbers of links: gateways first, devices after them.
FIRST_DEVICE: Final = 1000


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway."""

    eui: bytes
    name: str
    municipality: str
    neighbourhood: str
    roof: str
    protocol: Protocol
    public: bool
    place: Place

    @property
    def gps(self) -> bool:
        """Whether it receives satellites; under the roof of a home it does not."""
        return self.public


@cache
def sites() -> tuple[Site, ...]:
    """All gateways; a gateway's place has its index as number."""
    by_name = {(slug, place.name): place for slug, known in places().items() for place in known}
    found: list[Site] = []
    for number, (slug, where, roof, height_m, gain_dbi, protocol, public) in enumerate(_SITES):
        around = by_name[slug, where]
        key = key_of(f"{slug}-{where}")
        lon, lat = offset(around.lon, around.lat, between(-0.2, 0.2, key, 1), between(-0.2, 0.2, key, 2))
        place = Place(
            number=number,
            lon=lon,
            lat=lat,
            altitude_m=around.altitude_m,
            height_m=height_m,
            gain_dbi=gain_dbi,
            density=around.density,
        )
        # 02-… is a locally administered prefix; the middle is how an EUI-64 is made of an EUI-48.
        eui = bytes.fromhex("025e00fffe00") + (number + 1).to_bytes(2)
        found.append(Site(eui, f"{roof} {where}", slug, where, roof, protocol, public, place))
    return tuple(found)


def token_of(site: Site, seed: int) -> str:
    """The token of a Basics Station, as it is registered; worth nothing, because everybody can compute it."""
    return hashlib.sha256(b"%d %s" % (seed, site.eui)).hexdigest()[:32]
