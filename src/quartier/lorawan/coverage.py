"""Where devices are heard, from real receptions: squares of about 500 m, never single places.

A square is shown when enough frames came from it. Devices whose place is not public count only where several of them
stand in one square. What private gateways and other networks' gateways hear counts, but never as better than
``HIDDEN_RSSI_DBM``: the strongest square would otherwise be the one in which such a gateway stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.core.cache import cache
from django.db import connection

CELL_LON: Final = 0.0072
CELL_LAT: Final = 0.0045
"""About 500 m by 500 m at 51.5° north."""
LEAST_FRAMES: Final = 20
LEAST_HIDDEN_DEVICES: Final = 3
HIDDEN_RSSI_DBM: Final = -105.0
DAYS: Final = 7
MOST_FRAMES: Final = 300_000
_KEPT_S: Final = 900
_NOTHING_KEPT_S: Final = 60

_CELLS: Final = """
WITH newest AS (
    SELECT f.device_id, f.at, f.gateways FROM lorawan_frame f
     WHERE f.direction = 'up' AND f.outcome = 'accepted' AND f.device_id IS NOT NULL
       AND f.municipality_id = ANY(%(cities)s) AND f.at > now() - make_interval(days => %(days)s)
     ORDER BY f.at DESC LIMIT %(most)s
), heard AS (
    SELECT n.device_id, floor(t.lon / %(width)s)::int AS x, floor(t.lat / %(height)s)::int AS y, t.public, g.rssi_dbm,
           g.snr_db, g.gateways
      FROM newest n
      JOIN lorawan_loradevice l ON l.id = n.device_id
      JOIN twin_deployment d ON d.device_id = l.device_id AND d.since <= n.at AND (d.until IS NULL OR n.at < d.until)
      JOIN twin_thing t ON t.id = d.thing_id AND t.lon IS NOT NULL AND t.lat IS NOT NULL
     CROSS JOIN LATERAL (
           SELECT max(CASE WHEN w.eui IS NULL OR w.private THEN least((h ->> 'rssi_dbm')::float, %(hidden)s)
                           ELSE (h ->> 'rssi_dbm')::float END) AS rssi_dbm,
                  max(CASE WHEN w.eui IS NULL OR w.private THEN least((h ->> 'snr_db')::float, 0)
                           ELSE (h ->> 'snr_db')::float END) AS snr_db,
                  count(*) AS gateways
             FROM jsonb_array_elements(n.gateways) h
             LEFT JOIN lorawan_gateway w ON w.eui = h ->> 'eui' AND coalesce(h ->> 'peer', '') = ''
          ) g
     WHERE g.rssi_dbm IS NOT NULL
)
SELECT x, y, count(*) AS frames, max(rssi_dbm) AS rssi_dbm, max(snr_db) AS snr_db,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY gateways) AS gateways
  FROM heard
 GROUP BY x, y
HAVING count(*) >= %(least)s
   AND (bool_or(public) OR count(DISTINCT device_id) >= %(several)s)
 ORDER BY x, y
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A square: how well the best gateway hears from there, and by how many gateways half of the frames are heard."""

    x: int
    y: int
    frames: int
    rssi_dbm: float
    snr_db: float
    gateways: int

    @property
    def west(self) -> float:
        """Its western edge."""
        return self.x * CELL_LON

    @property
    def south(self) -> float:
        """Its southern edge."""
        return self.y * CELL_LAT

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude."""
        return self.west + CELL_LON / 2, self.south + CELL_LAT / 2

    @property
    def ring(self) -> list[list[float]]:
        """Its outline, for GeoJSON."""
        east, north = (self.x + 1) * CELL_LON, (self.y + 1) * CELL_LAT
        corners = [(self.west, self.south), (east, self.south), (east, north), (self.west, north)]
        return [[round(lon, 5), round(lat, 5)] for lon, lat in [*corners, corners[0]]]


def cells(cities: list[int], *, fresh: bool = False) -> list[Cell]:
    """The squares of the last week, kept for a quarter of an hour."""
    key = f"radio-coverage-{'-'.join(map(str, sorted(cities)))}"
    found: list[Cell] | None = None if fresh else cache.get(key)
    if found is None:
        found = _compute(cities)
        cache.set(key, found, _KEPT_S if found else _NOTHING_KEPT_S)
    return found


def _compute(cities: list[int]) -> list[Cell]:
    with connection.cursor() as cursor:
        cursor.execute(
            _CELLS,
            {
                "cities": cities,
                "days": DAYS,
                "most": MOST_FRAMES,
                "width": CELL_LON,
                "height": CELL_LAT,
                "hidden": HIDDEN_RSSI_DBM,
                "least": LEAST_FRAMES,
                "several": LEAST_HIDDEN_DEVICES,
            },
        )
        return [Cell(*row) for row in cursor.fetchall()]
