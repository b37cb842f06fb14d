"""How raw messages become readings: codecs, field mappings; and what was refused or found implausible."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality, Person
from quartier.twin.models import Device, DeviceType, ObservedProperty, Series


class Codec(models.Model):
    """A version of the JavaScript payload codec of a device type; the newest active one decodes."""

    device_type = models.ForeignKey(DeviceType, models.CASCADE, related_name="codecs")
    version = models.PositiveIntegerField()
    script = models.TextField(max_length=262_144)
    note = models.CharField(max_length=300, blank=True)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)

    class Meta:
        ordering = ["device_type_id", "-version"]
        constraints = [models.UniqueConstraint(fields=["device_type", "version"], name="codec_version")]


class FieldMapping(models.Model):
    """One decoded field of a device type becomes one observed property.

    ``path`` is a field name of the decoded object, or a JSONPath (RFC 9535) beginning with ``$``.
    """

    device_type = models.ForeignKey(DeviceType, models.CASCADE, related_name="mappings")
    path = models.CharField(_("Feld"), max_length=200)
    observed_property = models.ForeignKey(ObservedProperty, models.PROTECT, null=True, blank=True)
    unit = models.CharField(_("Einheit des Feldes (UCUM)"), max_length=40, blank=True)
    channel = models.CharField(max_length=40, blank=True)
    role = models.CharField(
        max_length=20,
        default="observation",
        help_text="observation, time (device time), battery_v, battery_percent or ignore",
    )

    class Meta:
        ordering = ["device_type_id", "id"]
        constraints = [models.UniqueConstraint(fields=["device_type", "path"], name="field_mapping_once")]


class RefusedMessage(models.Model):
    """A message that could not be recorded, with the reason; the raw message stays for a second try."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    municipality = models.ForeignKey(Municipality, models.CASCADE, null=True, blank=True)
    source_key = models.CharField(max_length=60)
    external_id = models.CharField(max_length=120, blank=True)
    inbox_position = models.BigIntegerField(null=True, blank=True)
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    topic = models.CharField(max_length=300, blank=True)
    body = models.BinaryField(max_length=65_536)
    headers = models.JSONField(default=dict)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["municipality", "resolved_at", "-at"])]


class QualityFinding(models.Model):
    """A run of flagged readings of one series, for a data steward to confirm or dismiss."""

    class State(models.TextChoices):
        OPEN = "open", _("offen")
        CONFIRMED = "confirmed", _("bestätigt")
        DISMISSED = "dismissed", _("verworfen")

    municipality = models.ForeignKey(Municipality, models.CASCADE)
    series = models.ForeignKey(Series, models.CASCADE, related_name="findings")
    check_name = models.CharField(max_length=20)
    first_time = models.DateTimeField()
    last_time = models.DateTimeField()
    n = models.PositiveIntegerField(default=1)
    example = models.FloatField(null=True, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)
    decided_by = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-last_time"]
        indexes = [models.Index(fields=["municipality", "state", "-last_time"])]


class Frame(models.Model):
    """Frames already seen, so that one that arrives twice is recorded once."""

    municipality_id = models.SmallIntegerField()
    device = models.ForeignKey(Device, models.CASCADE, db_constraint=False)
    counter = models.BigIntegerField()
    time = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "counter", "time"], name="frame_once")]
        indexes = [models.Index(fields=["time"])]


class Replay(models.Model):
    """A run of raw messages through today's codecs and mappings."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)
    selection = models.JSONField(
        default=dict, help_text="source_key, external_ids, device_type, since, until, refused"
    )
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    corrected = models.PositiveIntegerField(default=0)
    added = models.PositiveIntegerField(default=0)
    removed = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-created_at"]
