"""What visitors wrote. Messages for both cities are everybody's on the desk."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from quartier.cities.models import Feedback
from quartier.cities.rules import Actor
from quartier.desk.access import ENTER, everywhere, within


def visible(actor: Actor) -> QuerySet[Feedback]:
    """Messages to the actor's cities and those to no particular one, newest first."""
    messages = Feedback.objects.select_related("municipality").order_by("-created_at", "-pk")
    if everywhere(actor, ENTER):
        return messages
    return messages.filter(within(actor) | Q(municipality__isnull=True))


def filtered(actor: Actor, *, kind: str = "", state: str = "open") -> QuerySet[Feedback]:
    """The visible messages of a kind (all if empty) that are open, answered, or both (empty)."""
    messages = visible(actor)
    if kind:
        messages = messages.filter(kind=kind)
    if state == "open":
        messages = messages.filter(answered_at__isnull=True)
    elif state == "answered":
        messages = messages.filter(answered_at__isnull=False)
    return messages
