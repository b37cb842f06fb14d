"""What every page's template may use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from quartier import __version__
from quartier.cities.models import Municipality
from quartier.cities.rules import actor_of
from quartier.config import config

# Names and themes of the cities change with a data file, not while pages are read.
_MUNICIPALITIES_KEPT_S = 60


@dataclass(frozen=True, slots=True)
class City:
    """A municipality as pages show it."""

    id: int
    slug: str
    name: str
    theme: str
    contact: dict[str, str]


@dataclass(frozen=True, slots=True)
class Destination:
    """An entry of the main navigation."""

    label: Any
    address: str

    def is_current(self, path: str) -> bool:
        """Whether the page at ``path`` belongs to this entry."""
        return path == self.address or (self.address != "/" and path.startswith(self.address))


NAVIGATION = (
    Destination(_("Übersicht"), "/"),
    Destination(_("Orte"), "/orte/"),
    Destination(_("Karte"), "/orte/karte"),
    Destination(_("Messgrößen"), "/messgroessen/"),
    Destination(_("Vergleich"), "/vergleich/"),
    Destination(_("Offene Daten"), "/daten/"),
    Destination(_("Mitmachen"), "/mitmachen/sensor/"),
)


@lru_cache(maxsize=1)
def source_code_url() -> str:
    """Where the source code lies, as the package's metadata says; empty if it does not."""
    try:
        entries = metadata("quartier").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    return next((e.split(",", 1)[1].strip() for e in entries if e.lower().startswith("source")), "")


_kept: tuple[float, tuple[City, ...]] | None = None


def cities(*, fresh: bool = False) -> tuple[City, ...]:
    """The municipalities of this installation; read at most once a minute."""
    global _kept  # noqa: PLW0603 (a cache of one value)
    now = time.monotonic()
    if not fresh and _kept is not None and now - _kept[0] < _MUNICIPALITIES_KEPT_S:
        return _kept[1]
    found = tuple(
        City(m.pk, m.slug, m.name, m.theme or m.slug, m.contact) for m in Municipality.objects.order_by("pk")
    )
    # An empty installation is being filled: look again at once.
    _kept = (now, found) if found else None
    return found


def _cities_or_none() -> tuple[City, ...]:
    # Error pages are shown when the database is away, and must not fail for the names in their header.
    try:
        return cities()
    except DatabaseError:
        return ()


def _navigation(path: str) -> list[dict[str, Any]]:
    current = max((d for d in NAVIGATION if d.is_current(path)), key=lambda d: len(d.address), default=None)
    return [{"label": d.label, "address": d.address, "current": d is current} for d in NAVIGATION]


def page(request: HttpRequest) -> dict[str, Any]:
    """Context for all templates. A view that shows one city passes its ``theme``."""
    known = _cities_or_none()
    user = getattr(request, "user", None)
    return {
        "theme": known[0].theme if len(known) == 1 else "",
        "simulated": config().simulated,
        "cities": known,
        "navigation": _navigation(request.path),
        "version": __version__,
        "source_code_url": source_code_url(),
        "map_style_url": config().map_style_url,
        # Asked by the template, and then only for people who signed in.
        "is_staff_here": cache(lambda: user is not None and actor_of(user).may("desk:enter")),
    }
