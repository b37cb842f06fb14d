"""The home page: how are the cities right now?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from quartier.cities.rules import NOBODY, actor_of
from quartier.portal import data_queries
from quartier.portal.axes import ZONE
from quartier.portal.context import cities
from quartier.portal.periods import midnight
from quartier.portal.presentation import KINDS, kind_of
from quartier.portal.rows import properties_by_slug
from quartier.portal.topics import SLUGS, scene_of, topics_of
from quartier.usage.rules import visible_things


@dataclass(frozen=True, slots=True)
class KindCount:
    """How many places of a kind there are."""

    slug: str
    name: Any
    count: int


def _counted(slug: str, count: int) -> KindCount:
    kind = kind_of(slug)
    return KindCount(slug, kind.one if count == 1 else kind.many, count)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """``/``: both cities side by side, or one of them (``?stadt=``)."""
    actor = actor_of(request.user)
    every = cities()
    chosen = next((c for c in every if c.slug == request.GET.get("stadt")), None)
    shown = (chosen,) if chosen else every
    visible = visible_things(actor).order_by()
    if chosen:
        visible = visible.filter(municipality_id=chosen.id)
    places = data_queries.places(visible)
    activity = data_queries.activity([place.id for place in places])
    now = timezone.now()
    scene = scene_of(
        places,
        properties_by_slug(SLUGS),
        now=now,
        midnight=midnight(timezone.localtime(now, ZONE).date()),
        public=actor is NOBODY,
    )
    counted = Counter(place.kind for place in places)
    order = list(KINDS)
    kinds = sorted(counted, key=lambda slug: (order.index(slug) if slug in KINDS else len(order), slug))
    context = {
        "chosen": chosen,
        "theme": chosen.theme if chosen else "",
        "topics": topics_of(scene, shown),
        "places": len(places),
        "awake": sum(awake for _time, awake in activity.values()),
        "newest": max((time for time, _awake in activity.values()), default=None),
        "kinds": [
            KindCount(slug, kind_of(slug).one if counted[slug] == 1 else kind_of(slug).many, counted[slug])
            for slug in kinds
        ],
        "city_query": f"stadt={chosen.slug}&" if chosen else "",
    }
    return render(request, "portal/data/home.html", context)
