"""First page of the radio network."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from quartier.cities.rules import Actor
from quartier.desk import words_radio
from quartier.desk.access import MESSAGES, RADIO, desk_page
from quartier.desk.queries.radio import overview as queries
from quartier.desk.queries.radio.gateways import MUCH_USED
from quartier.desk.views.radio.common import page


@require_safe
@desk_page()
def index(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Gateways, frames of a day, and what needs somebody."""
    found = queries.overview(actor, timezone.now())
    context = {
        "overview": found,
        "outcomes": [
            (direction, code, *words_radio.outcome(direction, code), n)
            for direction, code, n in found.outcomes
        ],
        "much_used": MUCH_USED,
        "edge_db": queries.EDGE_DB,
        "may_write": actor.may(RADIO),
        "may_read_messages": actor.may(MESSAGES),
    }
    return page(request, actor, "desk/radio/overview.html", context, tab="radio")
