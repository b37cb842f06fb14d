"""Refused messages: filtered, grouped by reason, paged by keyset because the list grows with every bad day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Min, Q, QuerySet

from quartier.cities.rules import Actor
from quartier.desk.access import MESSAGES, within
from quartier.intake.models import RefusedMessage

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFilter:
    """What the list is narrowed to; empty values do not narrow."""

    municipality: str = ""
    source: str = ""
    reason: str = ""
    device: str = ""
    state: str = "open"


@dataclass(frozen=True, slots=True)
class Group:
    """Refused messages of one reason (and device, where that is asked for)."""

    reason: str
    n: int
    devices: int
    oldest: datetime
    newest: datetime


def filtered(actor: Actor, wanted: RefusedFilter, action: str = MESSAGES) -> QuerySet[RefusedMessage]:
    """The messages that ``wanted`` describes and where the actor may do ``action``, newest first."""
    messages = RefusedMessage.objects.filter(within(actor, action))
    if wanted.municipality:
        messages = messages.filter(municipality__slug=wanted.municipality)
    if wanted.source:
        messages = messages.filter(source_key=wanted.source)
    if wanted.reason:
        messages = messages.filter(reason=wanted.reason)
    if wanted.device:
        messages = messages.filter(external_id=wanted.device)
    if wanted.state == "open":
        messages = messages.filter(resolved_at__isnull=True)
    elif wanted.state == "resolved":
        messages = messages.filter(resolved_at__isnull=False)
    return messages.order_by("-at", "-id")


def page(
    messages: QuerySet[RefusedMessage], after: tuple[datetime, int] | None = None
) -> tuple[list[RefusedMessage], tuple[datetime, int] | None]:
    """A page without the raw bodies, and the key of the next page (None: this was the last)."""
    if after is not None:
        at, pk = after
        messages = messages.filter(Q(at__lt=at) | Q(at=at, pk__lt=pk))
    rows = list(messages.select_related("municipality").defer("body", "headers")[: PAGE_SIZE + 1])
    if len(rows) <= PAGE_SIZE:
        return rows, None
    last = rows[PAGE_SIZE - 1]
    return rows[:PAGE_SIZE], (last.at, last.pk)


def groups(messages: QuerySet[RefusedMessage]) -> list[Group]:
    """The same messages by reason, the most frequent first."""
    return [
        Group(*row)
        for row in messages.order_by()
        .values_list("reason")
        .annotate(
            n=Count("pk"),
            devices=Count("external_id", distinct=True, filter=~Q(external_id="")),
            oldest=Min("at"),
            newest=Max("at"),
        )
        .order_by("-n", "reason")
    ]


def source_keys(actor: Actor) -> list[str]:
    """Sources of which something was refused."""
    return list(
        RefusedMessage.objects.filter(within(actor, MESSAGES))
        .order_by("source_key")
        .values_list("source_key", flat=True)
        .distinct()
    )
