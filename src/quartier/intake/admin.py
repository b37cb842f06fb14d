"""Django's admin for super-users: codecs, mappings, refusals, findings, replays."""

from __future__ import annotations

from django.contrib import admin

from quartier.cities.admin_base import ModelAdmin
from quartier.intake.models import Codec, FieldMapping, QualityFinding, RefusedMessage, Replay


@admin.register(Codec)
class CodecAdmin(ModelAdmin[Codec]):
    """Versions of codecs; the desk checks a script before it is saved, this page does not."""

    list_display = ("device_type", "version", "active", "created_at", "created_by", "note")
    list_filter = ("device_type", "active")
    raw_id_fields = ("created_by",)


@admin.register(FieldMapping)
class FieldMappingAdmin(ModelAdmin[FieldMapping]):
    """Fields and their properties."""

    list_display = ("device_type", "path", "observed_property", "unit", "channel", "role")
    list_filter = ("device_type", "role")


@admin.register(RefusedMessage)
class RefusedMessageAdmin(ModelAdmin[RefusedMessage]):
    """Messages that gave no reading; their raw view is on the desk."""

    list_display = ("at", "reason", "source_key", "external_id", "municipality", "resolved_at")
    list_filter = ("reason", "municipality", "source_key")
    search_fields = ("external_id", "detail")
    exclude = ("body",)


@admin.register(QualityFinding)
class QualityFindingAdmin(ModelAdmin[QualityFinding]):
    """Runs of flagged readings."""

    list_display = ("series", "check_name", "first_time", "last_time", "n", "state", "decided_by")
    list_filter = ("state", "check_name", "municipality")
    raw_id_fields = ("series", "decided_by")


@admin.register(Replay)
class ReplayAdmin(ModelAdmin[Replay]):
    """Runs of raw messages through today's codecs."""

    list_display = ("id", "municipality", "created_at", "created_by", "total", "done", "finished_at", "error")
    raw_id_fields = ("created_by",)
