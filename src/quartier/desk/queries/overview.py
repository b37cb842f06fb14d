"""What needs somebody's attention today, counted per municipality in a fixed number of queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Max, Q, QuerySet

from quartier.cities.models import Feedback, Municipality
from quartier.cities.rules import Actor
from quartier.desk.access import MESSAGES, municipalities, within
from quartier.desk.queries import devices as device_queries
from quartier.desk.queries import feedback as feedback_queries
from quartier.intake.models import QualityFinding, RefusedMessage, Replay
from quartier.sources.models import Source
from quartier.twin.models import Device

REFUSED_PERIOD = timedelta(hours=24)


@dataclass(slots=True)
class Counts:
    """The numbers of one municipality."""

    municipality: Municipality
    devices: int = 0
    live: int = 0
    silent: int = 0
    never: int = 0
    weak: int = 0
    sources: int = 0
    failing: int = 0
    refused: int = 0
    findings: int = 0


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How often messages were refused for one reason, and when last."""

    reason: str
    n: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the first page of the desk."""

    counts: list[Counts]
    silent: list[Device]
    weak: list[Device]
    failing: list[Source]
    reasons: list[ReasonCount]
    findings: list[QualityFinding]
    replays: list[Replay] = field(default_factory=list)
    feedback: list[Feedback] = field(default_factory=list)


def counts(actor: Actor, now: datetime) -> list[Counts]:
    """One row per municipality of the actor."""
    rows = {one.pk: Counts(one) for one in municipalities(actor)}
    states = (
        device_queries.visible(actor)
        .order_by()
        .values("municipality_id")
        .annotate(
            total=Count("pk", filter=Q(active=True)),
            live=Count("pk", filter=Q(state="live")),
            silent=Count("pk", filter=Q(state="silent")),
            never=Count("pk", filter=Q(state="never")),
            weak=Count("pk", filter=device_queries.WEAK_BATTERY & Q(active=True)),
        )
    )
    for state in states:
        row = rows[state["municipality_id"]]
        row.devices, row.live, row.silent = state["total"], state["live"], state["silent"]
        row.never, row.weak = state["never"], state["weak"]
    for municipality_id, total, failing in (
        Source.objects.filter(within(actor), enabled=True)
        .order_by()
        .values_list("municipality_id")
        .annotate(total=Count("pk"), failing=Count("pk", filter=Q(state=Source.State.WAITING)))
    ):
        rows[municipality_id].sources, rows[municipality_id].failing = total, failing
    for municipality_id, n in (
        RefusedMessage.objects.filter(within(actor), municipality__isnull=False)
        .filter(at__gte=now - REFUSED_PERIOD, resolved_at__isnull=True)
        .order_by()
        .values_list("municipality_id")
        .annotate(n=Count("pk"))
    ):
        rows[municipality_id].refused = n
    for municipality_id, n in (
        QualityFinding.objects.filter(within(actor), state=QualityFinding.State.OPEN)
        .order_by()
        .values_list("municipality_id")
        .annotate(n=Count("pk"))
    ):
        rows[municipality_id].findings = n
    return list(rows.values())


def failing_sources(actor: Actor) -> QuerySet[Source]:
    """Enabled sources that wait after an error, the longest first."""
    return (
        Source.objects.filter(within(actor), enabled=True, state=Source.State.WAITING)
        .select_related("municipality")
        .order_by("state_since")
    )


def running_replays(actor: Actor) -> QuerySet[Replay]:
    """Replays that have not ended."""
    return Replay.objects.filter(within(actor), finished_at__isnull=True).select_related(
        "municipality", "created_by"
    )


def overview(actor: Actor, now: datetime, *, lines: int = 5) -> Overview:
    """Counters, and the first ``lines`` of each list. Refused messages only for whoever may read messages."""
    devices = device_queries.with_place(device_queries.visible(actor))
    reasons: list[ReasonCount] = []
    if actor.may(MESSAGES):
        reasons = [
            ReasonCount(*row)
            for row in RefusedMessage.objects.filter(
                within(actor, MESSAGES), at__gte=now - REFUSED_PERIOD, resolved_at__isnull=True
            )
            .order_by()
            .values_list("reason")
            .annotate(n=Count("pk"), newest=Max("at"))
            .order_by("-n", "reason")
        ]
    return Overview(
        counts=counts(actor, now),
        silent=list(devices.filter(Q(state="silent")).order_by("last_seen_at", "pk")[:lines]),
        weak=list(
            devices.filter(device_queries.WEAK_BATTERY, active=True).order_by(
                "battery_percent", "battery_v", "pk"
            )[:lines]
        ),
        failing=list(failing_sources(actor)[:lines]),
        reasons=reasons,
        findings=list(
            QualityFinding.objects.filter(within(actor), state=QualityFinding.State.OPEN).select_related(
                "series__thing", "series__observed_property", "municipality"
            )[:lines]
        ),
        replays=list(running_replays(actor)[:lines]),
        feedback=list(feedback_queries.filtered(actor)[:lines]),
    )
