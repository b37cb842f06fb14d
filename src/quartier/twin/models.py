"""The twin's slow tables: what stands in the city and what it measures (after ISO 19156).

The fast tables (observations, their state per series, roll-ups, changes) are plain SQL in ``migrations/0002`` and are
written by :mod:`quartier.twin.record` only.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import District, Municipality, Organisation


class ThingKind(models.TextChoices):
    """Kinds of things with a page of their own wording; other rooms add theirs by data, the column is free text."""

    STATION = "station", _("Klimastation")
    LEVEL_GAUGE = "level_gauge", _("Pegel")
    CAR_PARK = "car_park", _("Parkhaus")
    PARKING_SPACE = "parking_space", _("Stellplatz")
    WASTE_CONTAINER = "waste_container", _("Wertstoffcontainer")
    TREE = "tree", _("Baum")
    STREET_LAMP = "street_lamp", _("Straßenleuchte")
    COUNTER = "counter", _("Zählstelle")
    CITIZEN_SENSOR = "citizen_sensor", _("Bürgersensor")


class Thing(models.Model):
    """Something in the city that is observed."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="things")
    key = models.SlugField(_("Kennung"), max_length=80)
    name = models.CharField(_("Name"), max_length=200)
    kind = models.CharField(_("Art"), max_length=40, choices=ThingKind.choices)
    description = models.TextField(_("Beschreibung"), blank=True)
    lon = models.FloatField(_("Länge"), null=True, blank=True)
    lat = models.FloatField(_("Breite"), null=True, blank=True)
    altitude_m = models.FloatField(_("Höhe über NHN in m"), null=True, blank=True)
    geometry = models.BinaryField(null=True, blank=True, help_text="WKB where the place is more than a point")
    surface = models.CharField(_("Untergrund"), max_length=40, blank=True)
    street = models.CharField(_("Straße"), max_length=120, blank=True)
    house_number = models.CharField(_("Hausnummer"), max_length=12, blank=True)
    postcode = models.CharField(_("Postleitzahl"), max_length=10, blank=True)
    district = models.ForeignKey(District, models.SET_NULL, null=True, blank=True, related_name="things")
    owner = models.ForeignKey(Organisation, models.SET_NULL, null=True, blank=True)
    owner_person_id = models.BigIntegerField(null=True, blank=True, help_text="the maker who registered it")
    public = models.BooleanField(default=True)
    simulated = models.BooleanField(default=False)
    properties = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["municipality", "key"], name="thing_key")]
        indexes = [models.Index(fields=["municipality", "kind", "name"])]

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> str:
        """Street and house number, as a visitor would say it."""
        return f"{self.street} {self.house_number}".strip()


class ObservedProperty(models.Model):
    """What is measured, with a stable IRI, words for citizens, and the limits of plausible values."""

    slug = models.SlugField(max_length=60, unique=True)
    iri = models.URLField(max_length=300)
    name_de = models.CharField(max_length=120)
    name_en = models.CharField(max_length=120)
    description_de = models.TextField(blank=True)
    description_en = models.TextField(blank=True)
    unit = models.CharField(
        max_length=40, help_text="UCUM; every series of this property is kept in this unit"
    )
    decimals = models.SmallIntegerField(default=1)
    category = models.CharField(max_length=40)
    circular = models.BooleanField(default=False, help_text="degrees that wrap, such as wind direction")
    result_type = models.CharField(max_length=10, default="number")
    aggregation = models.CharField(
        max_length=10, default="mean", help_text="what a period is summed up by: mean, sum, last"
    )
    limits = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["category", "name_de"]
        verbose_name_plural = "observed properties"

    def __str__(self) -> str:
        return self.slug


class DeviceType(models.Model):
    """A make and model of sensor: what its codec and field mapping belong to."""

    key = models.SlugField(max_length=80, unique=True)
    vendor = models.CharField(max_length=120, blank=True)
    model = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    datasheet = models.URLField(blank=True)

    class Meta:
        ordering = ["vendor", "model"]

    def __str__(self) -> str:
        return f"{self.vendor} {self.model}".strip()


class Device(models.Model):
    """The physical sensor. It moves between things; a source knows it by ``external_id`` (a DevEUI in lower case)."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="devices")
    source_key = models.CharField(_("Quelle"), max_length=60)
    external_id = models.CharField(_("Kennung an der Quelle"), max_length=120)
    name = models.CharField(_("Name"), max_length=200)
    device_type = models.ForeignKey(DeviceType, models.PROTECT, null=True, blank=True, related_name="devices")
    expected_interval_s = models.PositiveIntegerField(_("Erwarteter Abstand in s"), null=True, blank=True)
    active = models.BooleanField(default=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    last_frame_counter = models.BigIntegerField(null=True, blank=True)
    battery_v = models.FloatField(null=True, blank=True)
    battery_percent = models.FloatField(null=True, blank=True)
    rssi_dbm = models.FloatField(null=True, blank=True)
    snr_db = models.FloatField(null=True, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["municipality", "source_key", "external_id"], name="device_external_id"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Deployment(models.Model):
    """A device at a thing, from–to. ``until`` empty: it is there now."""

    device = models.ForeignKey(Device, models.CASCADE, related_name="deployments")
    thing = models.ForeignKey(Thing, models.CASCADE, related_name="deployments")
    since = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)
    height_above_ground_m = models.FloatField(null=True, blank=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-since"]
        constraints = [
            models.UniqueConstraint(
                fields=["device"],
                condition=models.Q(until__isnull=True),
                name="deployment_one_place_at_a_time",
            )
        ]


class Series(models.Model):
    """One property of one thing. Derived series name the derivation that computes them."""

    id = models.AutoField(primary_key=True)
    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="series")
    thing = models.ForeignKey(Thing, models.CASCADE, related_name="series")
    observed_property = models.ForeignKey(ObservedProperty, models.PROTECT, related_name="series")
    device = models.ForeignKey(Device, models.SET_NULL, null=True, blank=True, related_name="series")
    channel = models.CharField(
        max_length=40, blank=True, help_text="tells two sensors of one property at one thing apart"
    )
    unit = models.CharField(max_length=40)
    result_type = models.CharField(max_length=10, default="number")
    derivation = models.CharField(max_length=60, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "series"
        constraints = [
            models.UniqueConstraint(fields=["thing", "observed_property", "channel"], name="series_once")
        ]
        indexes = [models.Index(fields=["municipality", "observed_property"])]
