"""The audit log: what people did."""

from __future__ import annotations

from typing import Any

from quartier.cities.models import AuditEntry
from quartier.cities.rules import Actor


def log(
    actor: Actor, action: str, target: object, *, municipality_id: int | None = None, **detail: Any
) -> None:
    """Write one entry, in the caller's transaction, so that what was undone is not in the log."""
    AuditEntry.objects.create(
        actor=actor.name[:200],
        person_id=actor.person_id,
        municipality_id=municipality_id,
        action=action,
        target=str(target)[:200],
        detail=detail,
    )
