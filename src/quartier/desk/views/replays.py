"""Replays: start one, watch it, look back at earlier ones."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods, require_safe

from quartier.cities.rules import Actor, NotAllowed
from quartier.config import config
from quartier.desk.access import CODECS, desk_page, everywhere, municipalities, render, within
from quartier.desk.forms.codecs import ReplayForm
from quartier.desk.views.common import page_of
from quartier.intake import domain as intake
from quartier.intake.models import Replay
from quartier.twin.models import DeviceType


def _visible(actor: Actor) -> QuerySet[Replay]:
    """Replays of the actor's cities, and those he started himself (a second try belongs to no single city)."""
    replays = Replay.objects.select_related("municipality", "created_by")
    if everywhere(actor, CODECS):
        return replays
    return replays.filter(within(actor, CODECS) | Q(created_by_id=actor.person_id, created_by__isnull=False))


@require_safe
@desk_page(CODECS)
def replay_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The newest first."""
    return render(request, actor, "desk/replays.html", page_of(request, _visible(actor)))


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(CODECS)
def replay_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Which raw messages are read again with today's codecs and mappings."""
    if request.method == "POST":
        form = ReplayForm(actor, request.POST)
        if form.is_valid():
            try:
                replay = intake.start_replay(actor, form.selection)
            except intake.InputError as error:
                form.refuse(error)
            else:
                return redirect("desk:replay", pk=replay.pk)
    else:
        initial: dict[str, Any] = {
            "device_type": DeviceType.objects.filter(key=request.GET.get("typ", "")).first(),
            "external_ids": request.GET.get("geraete", "")[:2000],
            "municipality": next(
                (one for one in municipalities(actor, CODECS) if one.slug == request.GET.get("stadt")), None
            ),
        }
        form = ReplayForm(actor, initial=initial)
    context = {"form": form, "inbox_days": config().inbox_days}
    return render(request, actor, "desk/replay_new.html", context, status=422 if form.errors else 200)


def _replay(actor: Actor, pk: int) -> Replay:
    replay = get_object_or_404(Replay.objects.select_related("municipality", "created_by"), pk=pk)
    if not _visible(actor).filter(pk=pk).exists():
        raise NotAllowed(CODECS)
    return replay


@require_safe
@desk_page(CODECS)
def replay_detail(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Progress; the part that changes is fetched again while it runs."""
    return render(request, actor, "desk/replay.html", {"replay": _replay(actor, pk)})


@require_safe
@desk_page(CODECS)
def replay_progress(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Only the part that changes. Its last answer polls no more."""
    return render(request, actor, "desk/parts/replay_progress.html", {"replay": _replay(actor, pk)})
