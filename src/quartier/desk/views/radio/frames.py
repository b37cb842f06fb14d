"""The frame log: every frame in plain words, as it comes and afterwards."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.views.decorators.http import require_safe

from quartier.cities.rules import Actor
from quartier.desk import radio_frames
from quartier.desk.access import MESSAGES, desk_page
from quartier.desk.forms.radio.frames import FrameFilterForm
from quartier.desk.queries.radio import frames as queries
from quartier.desk.views.common import keyset_address, keyset_key
from quartier.desk.views.radio.common import page


@require_safe
@desk_page(MESSAGES)
def frame_log(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Newest first. The first page follows what comes; later ones stand still."""
    form = FrameFilterForm(actor, request.GET)
    frames, following = queries.page(actor, form.wanted(), keyset_key(request.GET.get("vor", "")))
    later = "vor" in request.GET
    context: dict[str, Any] = {
        "form": form,
        "frames": radio_frames.told(actor, frames),
        "next": keyset_address(request.GET, following),
        "later_page": later,
        "query": request.GET.urlencode(),
        "first": f"?{_without(request.GET, 'vor')}",
        "live": "" if later else f"/live/frames?{_without(request.GET, 'lang')}",
    }
    return page(request, actor, "desk/radio/frames.html", context, tab="radio-frames")


def _without(query: QueryDict, name: str) -> str:
    kept = query.copy()
    kept.pop(name, None)
    return kept.urlencode()
