"""The first page of the desk: what needs somebody today."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from quartier.cities.rules import Actor
from quartier.desk import words
from quartier.desk.access import MESSAGES, desk_page, render
from quartier.desk.queries import devices as device_queries
from quartier.desk.queries.overview import Overview, overview


@require_safe
@desk_page()
def index(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Counters per municipality and the top of each list."""
    found = overview(actor, timezone.now())
    may_read_messages = actor.may(MESSAGES)
    return render(
        request,
        actor,
        "desk/overview.html",
        {
            "overview": found,
            "summary": _summary(found, messages=may_read_messages),
            "may_read_messages": may_read_messages,
            "reasons": [(row, words.reason(row.reason)) for row in found.reasons],
            "weak_percent": device_queries.WEAK_BATTERY_PERCENT,
            "weak_v": device_queries.WEAK_BATTERY_V,
        },
    )


def _summary(found: Overview, *, messages: bool) -> str:
    """The day in a sentence; empty where nothing is to be done."""
    silent = sum(row.silent for row in found.counts)
    failing = sum(row.failing for row in found.counts)
    refused = sum(row.refused for row in found.counts) if messages else 0
    open_findings = sum(row.findings for row in found.counts)
    parts = []
    if silent:
        parts.append(
            ngettext("%(n)d Gerät ist verstummt", "%(n)d Geräte sind verstummt", silent) % {"n": silent}
        )
    if failing:
        parts.append(
            ngettext("%(n)d Quelle meldet Fehler", "%(n)d Quellen melden Fehler", failing) % {"n": failing}
        )
    if refused:
        parts.append(
            ngettext(
                "%(n)d Nachricht wurde in 24 Stunden abgelehnt",
                "%(n)d Nachrichten wurden in 24 Stunden abgelehnt",
                refused,
            )
            % {"n": refused}
        )
    if open_findings:
        parts.append(
            ngettext("%(n)d Befund ist offen", "%(n)d Befunde sind offen", open_findings)
            % {"n": open_findings}
        )
    return ", ".join(parts) + "." if parts else ""
