"""Who may do what: one table, asked everywhere.

Rules are plain functions of the actor. An actor is a person, a token (which can do no more than its person and its
scopes), or nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from django.contrib.auth.models import AnonymousUser

from quartier.cities.models import Person, Role, Token

# Scope names double as the names of actions.
SCOPES: Final[dict[str, str]] = {
    "observations:write": "eigene Messwerte senden",
    "things:read": "auch nicht öffentliche Orte lesen",
    "devices:write": "Geräte anlegen und ändern",
    "sources:write": "Quellen einrichten",
    "quality:write": "Qualitätsbefunde bestätigen oder verwerfen",
    "messages:read": "Rohnachrichten und abgelehnte Nachrichten sehen",
    "codecs:write": "Codecs und Zuordnungen ändern, Nachrichten erneut verarbeiten",
    "lorawan:write": "Gateways, Geräteprofile und Partnernetze einrichten",
    "lorawan:send": "Nachrichten an Geräte senden",
}

ACTIONS_OF_ROLE: Final[dict[str, frozenset[str]]] = {
    Role.OPERATOR: frozenset(SCOPES) | {"desk:enter", "audit:read"},
    Role.STEWARD: frozenset(
        {
            "desk:enter",
            "things:read",
            "quality:write",
            "messages:read",
            "devices:write",
            "codecs:write",
            "lorawan:send",
        }
    ),
    Role.STAFF: frozenset({"desk:enter", "things:read"}),
    Role.MAKER: frozenset({"observations:write"}),
}


class NotAllowed(PermissionError):
    """The actor lacks a right; the message names the right that is missing."""

    def __init__(self, action: str, municipality: str | None = None) -> None:
        self.action = action
        place = f" in {municipality}" if municipality else ""
        super().__init__(f"missing right {action}{place}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who asks: rights per municipality id; key None holds everywhere."""

    name: str
    person_id: int | None = None
    rights: dict[int | None, frozenset[str]] = field(default_factory=dict)
    superuser: bool = False

    def may(self, action: str, municipality_id: int | None = None) -> bool:
        """Whether the actor may do ``action`` there (``municipality_id`` None: anywhere at all)."""
        if self.superuser:
            return True
        if municipality_id is None:
            return any(action in actions for actions in self.rights.values())
        return action in self.rights.get(municipality_id, frozenset()) or action in self.rights.get(
            None, frozenset()
        )

    def require(self, action: str, municipality_id: int | None = None) -> None:
        """Raise NotAllowed unless :meth:`may`."""
        if not self.may(action, municipality_id):
            raise NotAllowed(action)

    def municipalities(self, action: str) -> frozenset[int] | None:
        """Ids of the municipalities where the actor may do ``action``; None means all."""
        if self.superuser or action in self.rights.get(None, frozenset()):
            return None
        return frozenset(key for key, actions in self.rights.items() if key is not None and action in actions)


NOBODY: Final = Actor("anonymous")
SYSTEM: Final = Actor("system", superuser=True)


def actor_of(person: Person | AnonymousUser) -> Actor:
    """The actor behind a signed-in person."""
    if not isinstance(person, Person) or not person.is_active:
        return NOBODY
    rights: dict[int | None, frozenset[str]] = {}
    for assignment in person.roles.all():
        granted = ACTIONS_OF_ROLE.get(assignment.role, frozenset())
        rights[assignment.municipality_id] = rights.get(assignment.municipality_id, frozenset()) | granted
    return Actor(str(person), person.pk, rights, person.is_superuser)


def actor_of_token(token: Token) -> Actor:
    """The actor behind a token: the person's rights cut down to the token's scopes and municipality."""
    whole = actor_of(token.person)
    scopes = frozenset(token.scopes)
    if whole.superuser:
        return Actor(
            f"{whole.name} ({token.name})",
            whole.person_id,
            {token.municipality_id: scopes & frozenset(SCOPES)},
        )
    rights: dict[int | None, frozenset[str]] = {}
    for municipality_id, actions in whole.rights.items():
        if token.municipality_id is None:
            rights[municipality_id] = actions & scopes
        elif municipality_id in (None, token.municipality_id):
            # What the person may do there comes from roles held there and from roles held everywhere.
            held = rights.get(token.municipality_id, frozenset())
            rights[token.municipality_id] = held | (actions & scopes)
    return Actor(f"{whole.name} ({token.name})", whole.person_id, rights)
