"""The door of the desk: who comes in, and what each page then shows.

Every view gets the actor as its second argument and asks it before it changes anything. A missing right gives a
403 that names the right, so that staff know what to ask their operator for. Scope is a filter: a steward of
Schwerte never sees a row of Dortmund.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, Protocol

from django.contrib.auth.views import redirect_to_login
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render as django_render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor, NotAllowed, actor_of
from quartier.desk.words import right_in_words

ENTER: Final = "desk:enter"
DEVICES: Final = "devices:write"
SOURCES: Final = "sources:write"
MESSAGES: Final = "messages:read"
CODECS: Final = "codecs:write"
QUALITY: Final = "quality:write"
AUDIT: Final = "audit:read"
RADIO: Final = "lorawan:write"
SEND: Final = "lorawan:send"
# Only operators hold the two rights below; the table of rights has no names of their own for people and data sets.
PEOPLE: Final = AUDIT
DATASETS: Final = SOURCES


class NotAllowedIn(NotAllowed):
    """The actor lacks a right in one municipality."""

    def __init__(self, action: str, municipality: Municipality) -> None:
        super().__init__(action, municipality.name)
        self.municipality = municipality


def require(actor: Actor, action: str, municipality: Municipality) -> None:
    """Raise NotAllowedIn, which names the municipality, unless the actor may do ``action`` there."""
    if not actor.may(action, municipality.pk):
        raise NotAllowedIn(action, municipality)


class DeskView(Protocol):
    """A view of the desk: request, actor, then what the address names."""

    def __call__(self, request: HttpRequest, actor: Actor, /, *args: Any, **kwargs: Any) -> HttpResponse: ...


def desk_page(action: str = ENTER) -> Callable[[DeskView], Callable[..., HttpResponse]]:
    """Let only people in who hold ``action`` in some municipality; others sign in first or learn what they lack."""

    def decorate(view: DeskView) -> Callable[..., HttpResponse]:
        @never_cache
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            actor = actor_of(request.user)
            try:
                actor.require(ENTER)
                actor.require(action)
                return view(request, actor, *args, **kwargs)
            except NotAllowed as refusal:
                return not_allowed(request, actor, refusal)

        return guarded

    return decorate


def not_allowed(request: HttpRequest, actor: Actor, refusal: NotAllowed) -> HttpResponse:
    """The page that says which right is missing."""
    context = {
        "right": refusal.action,
        "right_in_words": right_in_words(refusal.action),
        "municipality": getattr(refusal, "municipality", None),
    }
    return render(request, actor, "desk/not_allowed.html", context, status=403)


def within(actor: Actor, action: str = ENTER, field: str = "municipality_id") -> Q:
    """A filter on rows of the municipalities where the actor may do ``action``; empty, which filters nothing, for all.

    To be joined to others with ``&`` only: Django drops an empty Q from an ``|``.
    """
    ids = actor.municipalities(action)
    return Q() if ids is None else Q(**{f"{field}__in": ids})


def everywhere(actor: Actor, action: str) -> bool:
    """Whether the actor holds ``action`` in all municipalities, those that will join later included."""
    return actor.municipalities(action) is None


def municipalities(actor: Actor, action: str = ENTER) -> list[Municipality]:
    """The municipalities where the actor may do ``action``, in order."""
    return list(Municipality.objects.filter(within(actor, action, "pk")))


def _navigation(request: HttpRequest, actor: Actor) -> list[dict[str, Any]]:
    rooms = [
        ("", ENTER, _("Übersicht")),
        ("geraete", ENTER, _("Geräte")),
        ("quellen", ENTER, _("Quellen")),
        ("funknetz", ENTER, _("Funknetz")),
        ("nachrichten", MESSAGES, _("Abgelehnte Nachrichten")),
        ("codecs", MESSAGES, _("Codecs")),
        ("nachspielen", CODECS, _("Nachspielen")),
        ("qualitaet", ENTER, _("Qualität")),
        ("rueckmeldungen", ENTER, _("Rückmeldungen")),
        ("personen", PEOPLE, _("Personen und Rollen")),
        ("datensaetze", DATASETS, _("Datensätze")),
        ("protokoll", AUDIT, _("Protokoll")),
    ]
    room = request.path.removeprefix("/amt/").split("/", 1)[0]
    return [
        {"url": f"/amt/{slug}/" if slug else "/amt/", "label": label, "current": slug == room}
        for slug, action, label in rooms
        if actor.may(action)
    ]


def render(
    request: HttpRequest, actor: Actor, template: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """A page of the desk, with its navigation (only what the actor may open) and the actor."""
    whole = {"actor": actor, "desk_navigation": _navigation(request, actor), **context}
    return django_render(request, template, whole, status=status)
