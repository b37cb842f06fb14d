"""Django's admin for super-users: sources. Credentials are not shown here either; the desk sets them."""

from __future__ import annotations

from django.contrib import admin

from quartier.cities.admin_base import ModelAdmin
from quartier.sources.models import Source


@admin.register(Source)
class SourceAdmin(ModelAdmin[Source]):
    """Connections to outside systems."""

    list_display = ("name", "key", "kind", "municipality", "enabled", "state", "last_message_at", "failures")
    list_filter = ("municipality", "kind", "state")
    readonly_fields = (
        "state",
        "state_since",
        "last_message_at",
        "last_error",
        "last_error_at",
        "failures",
        "received",
    )
