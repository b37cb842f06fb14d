"""The radio network in numbers: what came in, who is silent, who is hardly heard, where it is noisy.

Computed over a day of the frame log, so that the result is kept for a minute per set of cities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.cache import cache
from django.db import connection
from django.db.models import Count, Q

from quartier.cities.rules import Actor
from quartier.desk.access import ENTER, municipalities
from quartier.desk.queries import devices as device_queries
from quartier.desk.queries.radio import gateways as gateway_queries
from quartier.desk.queries.radio.gateways import ENOUGH_FRAMES, MANY_BROKEN, GatewayHealth
from quartier.lorawan.message import SOURCE
from quartier.lorawan.models import Frame
from quartier.lorawan.network.adr import FLOOR_DB
from quartier.twin.models import Device

_KEPT_S: Final = 60
_SHOWN: Final = 8
EDGE_DB: Final = 3.0
NEAR_THE_EDGE_DB: Final = 10.0
"""The margin that data rate control keeps by itself: whoever has less is worth a look."""
_FRAMES_FOR_EDGE: Final = 5

# What is left above the weakest signal that is understood, by the best gateway of each frame; the median of a day.
_EDGE: Final = """
SELECT f.device_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY h.snr_db - (%(floors)s::float[])[
           least(f.data_rate, %(fastest)s) + 1]) AS margin_db, count(*) AS n, avg(h.gateways)::float AS gateways
  FROM lorawan_frame f
 CROSS JOIN LATERAL (SELECT max((g ->> 'snr_db')::float) AS snr_db, count(*) AS gateways
                       FROM jsonb_array_elements(f.gateways) g) h
 WHERE f.municipality_id = ANY(%(cities)s) AND f.at > %(since)s AND f.direction = 'up' AND f.outcome = 'accepted'
   AND f.device_id IS NOT NULL AND h.snr_db IS NOT NULL
 GROUP BY f.device_id
HAVING count(*) >= %(enough)s
 ORDER BY 2, 1
 LIMIT %(shown)s
"""


@dataclass(frozen=True, slots=True)
class AtTheEdge:
    """A device that is hardly heard."""

    dev_eui: str
    name: str
    margin_db: float
    frames: int
    gateways: float

    @property
    def weak(self) -> bool:
        """So little is left that frames will be lost."""
        return self.margin_db < EDGE_DB


@dataclass(frozen=True, slots=True)
class NoisyChannel:
    """A frequency on which many frames break at a gateway."""

    gateway: GatewayHealth
    frequency_hz: int
    share: float
    frames: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the first page of the radio network."""

    gateways: list[GatewayHealth]
    outcomes: list[tuple[str, str, int]]
    silent: list[Device]
    n_silent: int
    edge: list[AtTheEdge]
    noisy: list[NoisyChannel]

    @property
    def online(self) -> int:
        """Gateways that are connected."""
        return sum(one.online for one in self.gateways)

    @property
    def wanted(self) -> int:
        """Gateways that should be connected."""
        return sum(not one.gateway.disabled for one in self.gateways)

    @property
    def unprotected(self) -> list[GatewayHealth]:
        """Gateways in whose name anybody may speak."""
        return [one for one in self.gateways if one.unprotected]


def overview(actor: Actor, now: datetime) -> Overview:
    """The numbers of the actor's cities."""
    cities = [one.pk for one in municipalities(actor, ENTER)]
    gateways = gateway_queries.health(gateway_queries.visible(actor).order_by("municipality_id", "name"))
    silent = device_queries.visible(actor).filter(Q(state__in=("silent", "never")), source_key=SOURCE)
    return Overview(
        gateways=gateways,
        outcomes=_kept("outcomes", cities, lambda: _outcomes(cities, now)),
        silent=list(silent.select_related("lora").order_by("last_seen_at", "pk")[:_SHOWN]),
        n_silent=silent.count(),
        edge=_kept("edge", cities, lambda: _edge(cities, now)),
        noisy=noisy(gateways),
    )


def _kept(name: str, cities: Sequence[int], compute: Any) -> Any:
    return cache.get_or_set(f"radio-{name}-{'-'.join(map(str, sorted(cities)))}", compute, _KEPT_S)


def _outcomes(cities: Sequence[int], now: datetime) -> list[tuple[str, str, int]]:
    """(direction, outcome, frames) of the last 24 hours, the most frequent first."""
    return list(
        Frame.objects.filter(municipality__in=cities, at__gt=now - timedelta(hours=24))
        .order_by()
        .values_list("direction", "outcome")
        .annotate(n=Count("pk"))
        .order_by("-direction", "-n", "outcome")
    )


def _edge(cities: Sequence[int], now: datetime) -> list[AtTheEdge]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT d.dev_eui, d.name, e.margin_db, e.n, e.gateways FROM ({_EDGE}) e"  # noqa: S608 (a constant)
            " JOIN lorawan_loradevice d ON d.id = e.device_id WHERE e.margin_db < %(near)s ORDER BY e.margin_db, d.id",
            {
                "floors": list(FLOOR_DB),
                "fastest": len(FLOOR_DB) - 1,
                "cities": list(cities),
                "since": now - timedelta(hours=24),
                "near": NEAR_THE_EDGE_DB,
                "enough": _FRAMES_FOR_EDGE,
                "shown": _SHOWN,
            },
        )
        return [AtTheEdge(*row) for row in cursor.fetchall()]


def noisy(gateways: Sequence[GatewayHealth]) -> list[NoisyChannel]:
    """Channels on which many frames break, the worst first."""
    found = [
        NoisyChannel(one, channel.frequency_hz, channel.share, channel.intact + channel.broken)
        for one in gateways
        for channel in one.channels
        if channel.intact + channel.broken >= ENOUGH_FRAMES and channel.share >= MANY_BROKEN
    ]
    return sorted(found, key=lambda one: one.share, reverse=True)[:_SHOWN]
