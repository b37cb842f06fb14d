"""Words of the pages for codes of the other rooms."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext_lazy as _

# What a right lets somebody do; completes "Dafür fehlt Ihnen das Recht: …".
RIGHTS: Final[dict[str, Any]] = {
    "desk:enter": _("die Seiten der Verwaltung betreten"),
    "audit:read": _("das Protokoll der Änderungen lesen"),
    "observations:write": _("eigene Messwerte senden"),
    "things:read": _("auch nicht öffentliche Orte lesen"),
    "devices:write": _("Geräte anlegen und ändern"),
    "sources:write": _("Quellen einrichten"),
    "quality:write": _("Qualitätsbefunde bestätigen oder verwerfen"),
    "messages:read": _("Rohnachrichten und abgelehnte Nachrichten sehen"),
    "codecs:write": _("Codecs und Zuordnungen ändern, Nachrichten erneut verarbeiten"),
    "lorawan:write": _("Gateways, Geräteprofile und Partnernetze einrichten"),
    "lorawan:send": _("Nachrichten an Geräte senden"),
}
