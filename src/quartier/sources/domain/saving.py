"""Setting up and changing sources."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.config import config
from quartier.sources.kinds import KINDS, SettingError
from quartier.sources.models import Source

# Keys that messages carry which no source of this table sends.
RESERVED_KEYS: Final = frozenset({"makers", "unknown", "lorawan"})
_KEY = re.compile(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?")
# Settings that say where a source's messages come from: with another one the old position means nothing.
_POSITION_SETTINGS: Final = ("url", "use", "since")


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved source. ``generated`` holds credentials that were made just now; they are shown once and never again."""

    source: Source
    generated: dict[str, str] = field(default_factory=dict)


@transaction.atomic
def save_source(  # noqa: PLR0917 (the order in which the form asks)
    actor: Actor,
    municipality: Municipality,
    key: str,
    name: str,
    kind: str,
    settings: Mapping[str, Any],
    credentials: Mapping[str, str] | None = None,
    *,
    enabled: bool = True,
) -> Saved:
    """Create the source ``key`` or change it.

    Credentials that are not named stay as they are; an empty text removes one. Needs ``sources:write``. Raises
    SettingError naming the field, NotAllowed.
    """
    actor.require("sources:write", municipality.pk)
    chosen = KINDS.get(kind)
    if chosen is None:
        raise SettingError("kind", gettext("muss eines sein von: %s") % ", ".join(KINDS))
    if not _KEY.fullmatch(key) or key in RESERVED_KEYS:
        raise SettingError("key", gettext("muss aus kleinen Buchstaben, Ziffern und Bindestrichen bestehen"))
    name = name.strip()
    if not 1 <= len(name) <= 200:
        raise SettingError("name", gettext("muss 1 bis 200 Zeichen haben"))
    source = Source.objects.select_for_update().filter(key=key).first()
    if source is not None and source.municipality_id != municipality.pk:
        raise SettingError("key", gettext("ist schon vergeben"))
    if source is not None and source.kind != kind:
        raise SettingError("kind", gettext("kann nicht geändert werden; legen Sie eine neue Quelle an"))
    cleaned = chosen.clean_settings(settings)
    before = source.settings if source else {}
    kept = source.credentials if source else {}
    merged = {name_: value for name_, value in {**kept, **(credentials or {})}.items() if value}
    cleaned_credentials = chosen.clean_credentials(merged, cleaned)
    generated = _generate(chosen.transport(cleaned), cleaned, cleaned_credentials)
    cleaned_credentials.update(generated)
    created = source is None
    if source is None:
        source = Source(municipality=municipality, key=key, kind=kind)
    elif any(before.get(one) != cleaned.get(one) for one in _POSITION_SETTINGS):
        source.cursor = {name_: value for name_, value in source.cursor.items() if name_ == "topics"}
    source.name, source.settings, source.enabled = name, cleaned, enabled
    if cleaned_credentials != kept:
        source.credentials = cleaned_credentials
    source.save()
    audit.log(
        actor,
        "source.create" if created else "source.change",
        source.key,
        municipality_id=municipality.pk,
        kind=kind,
        enabled=enabled,
        changed=sorted(one for one in {*before, *cleaned} if created or before.get(one) != cleaned.get(one)),
        # Names only; what they hold is nobody's business.
        credentials=sorted(
            one for one in {*kept, *cleaned_credentials} if kept.get(one) != cleaned_credentials.get(one)
        ),
    )
    return Saved(source, generated)


def _generate(transport: str, settings: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Secrets that a source cannot do without and nobody has chosen."""
    made: dict[str, str] = {}
    if transport == "webhook" and not given.get("webhook_secret"):
        made["webhook_secret"] = secrets.token_urlsafe(32)
    if settings.get("broker") == "own" and not given.get("broker_password"):
        made["broker_password"] = secrets.token_urlsafe(24)
    return made


@transaction.atomic
def set_enabled(actor: Actor, source: Source, enabled: bool) -> Source:
    """Switch a source on or off; its connector follows within seconds. Needs ``sources:write``."""
    actor.require("sources:write", source.municipality_id)
    if source.enabled != enabled:
        source.enabled = enabled
        if not enabled:
            source.state, source.state_since = Source.State.OFF, timezone.now()
        source.save(update_fields=["enabled", "state", "state_since"])
        audit.log(
            actor,
            "source.enable" if enabled else "source.disable",
            source.key,
            municipality_id=source.municipality_id,
        )
    return source


def broker_access(source: Source) -> dict[str, str | int]:
    """Where a network server that uses our own broker signs in (without the password, which was shown once)."""
    return {"host": config().mqtt_host, "port": config().mqtt_port, "username": source.key}


def webhook_url(source: Source) -> str:
    """Where a network server sends its events."""
    return f"{config().public_url}/api/sources/{source.key}/events"
