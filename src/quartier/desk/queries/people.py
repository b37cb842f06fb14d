"""People with roles, and the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone

from quartier.cities.models import AuditEntry, Person, RoleAssignment
from quartier.cities.rules import Actor
from quartier.desk.access import AUDIT, PEOPLE, everywhere, within

PAGE_SIZE = 50


def people(actor: Actor, text: str = "") -> QuerySet[Person]:
    """People who hold a role in the actor's cities, with those roles only (``shown_roles``).

    Somebody who manages one city does not see who works for the other.
    """
    roles = RoleAssignment.objects.filter(within(actor, PEOPLE)).select_related(
        "municipality", "organisation"
    )
    rows = Person.objects.filter(Q(roles__in=roles)).distinct()
    if text:
        rows = rows.filter(Q(name__icontains=text) | Q(email__icontains=text))
    ordered = roles.order_by("municipality_id", "role")
    return rows.prefetch_related(Prefetch("roles", queryset=ordered, to_attr="shown_roles")).order_by(
        "name", "email"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """What the log is narrowed to; empty values do not narrow. Days are local."""

    action: str = ""
    text: str = ""
    since: date | None = None
    until: date | None = None


def audit(actor: Actor, wanted: AuditFilter) -> QuerySet[AuditEntry]:
    """Entries of the actor's cities, newest first; those of no city are for whoever reads all of them."""
    rows = AuditEntry.objects.filter(within(actor, AUDIT)).select_related("municipality")
    if wanted.action:
        rows = rows.filter(action=wanted.action)
    if wanted.text:
        rows = rows.filter(Q(actor__icontains=wanted.text) | Q(target__icontains=wanted.text))
    if wanted.since is not None:
        rows = rows.filter(at__gte=_midnight(wanted.since))
    if wanted.until is not None:
        rows = rows.filter(at__lt=_midnight(wanted.until + timedelta(days=1)))
    return rows.order_by("-at", "-id")


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def page(
    rows: QuerySet[AuditEntry], after: tuple[datetime, int] | None
) -> tuple[list[AuditEntry], tuple[datetime, int] | None]:
    """A page by keyset, and the key of the next one (None: this was the last)."""
    if after is not None:
        at, pk = after
        rows = rows.filter(Q(at__lt=at) | Q(at=at, pk__lt=pk))
    found = list(rows[: PAGE_SIZE + 1])
    if len(found) <= PAGE_SIZE:
        return found, None
    return found[:PAGE_SIZE], (found[PAGE_SIZE - 1].at, found[PAGE_SIZE - 1].pk)


def audit_actions(actor: Actor) -> list[str]:
    """The actions that occur in the log."""
    return list(
        AuditEntry.objects.filter(within(actor, AUDIT))
        .order_by("action")
        .values_list("action", flat=True)
        .distinct()
    )


def may_grant_everywhere(actor: Actor) -> bool:
    """Whether the actor may give a role that holds in all cities."""
    return everywhere(actor, PEOPLE)
