"""Software updates for Basics Stations: what was uploaded, for whom, and what became of it at each Station."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality, Person


class StationUpdate(models.Model):
    """A signed program that brings a model's Stations to ``package``. Its bytes are in :class:`StationUpdatePart`."""

    municipality = models.ForeignKey(
        Municipality, models.CASCADE, null=True, blank=True, help_text="empty: for all municipalities"
    )
    model = models.CharField(_("Modell"), max_length=80, help_text="as Stations tell it")
    package = models.CharField(_("Softwarepaket"), max_length=80, help_text="as Stations tell it afterwards")
    packages = models.JSONField(default=list, blank=True, help_text="packages it can be put on; empty: any")
    stations = models.JSONField(
        default=list, blank=True, help_text="beginnings of Station's versions; empty: any"
    )
    note = models.CharField(_("Bemerkung"), max_length=200, blank=True)
    size = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    sha512 = models.CharField(max_length=128, help_text="what the signatures sign")
    signatures = models.JSONField(
        help_text="CRC-32 of the key (decimal) to signature (DER, hexadecimal); all were verified"
    )
    everywhere = models.BooleanField(
        _("für alle Stationen des Modells"), default=False, help_text="or only where it is assigned"
    )
    active = models.BooleanField(_("aktiv"), default=False)
    activated_at = models.DateTimeField(null=True, blank=True, help_text="the newest wins")
    uploaded_at = models.DateTimeField(default=timezone.now)
    uploaded_by = models.CharField(max_length=200)
    person = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)

    class Meta:
        ordering = ["model", "-uploaded_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["municipality", "model", "package"],
                nulls_distinct=False,
                name="lora_station_update_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.package}"


class StationUpdatePart(models.Model):
    """A piece of an update: neither pages nor the radio ever hold all of it."""

    update = models.ForeignKey(StationUpdate, models.CASCADE, related_name="parts")
    number = models.PositiveSmallIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["update", "number"], name="lora_station_update_part")]


class StationDelivery(models.Model):
    """An update at one Station: whether it was assigned there, how often it was given, and what became of it."""

    update = models.ForeignKey(StationUpdate, models.CASCADE, related_name="deliveries")
    gateway = models.ForeignKey("lorawan.Gateway", models.CASCADE, related_name="deliveries")
    assigned = models.BooleanField(default=False, help_text="to this gateway, ahead of those for all")
    attempts = models.PositiveSmallIntegerField(default=0)
    # Written by the radio. "begun" without "delivered" after it is a transfer that broke off.
    begun_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True, help_text="the Station told that it runs it")
    missed_at = models.DateTimeField(
        null=True, blank=True, help_text="the Station asked again and runs something else"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["update", "gateway"], name="lora_station_delivery"),
            models.UniqueConstraint(
                fields=["gateway"], condition=models.Q(assigned=True), name="lora_station_assigned_once"
            ),
        ]
