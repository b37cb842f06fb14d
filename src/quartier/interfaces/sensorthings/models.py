"""What SensorThings knows and the twin does not: Locations, Sensors, features, words of Datastreams, STAplus, Tasking.

Things, series, observed properties and observations stay in the twin. Rows that nobody posted (the Location of a thing
with coordinates, the Sensor of a device, the FeatureOfInterest of a Location) are kept by triggers on slow tables
(``migrations/store.sql``), because bulk inserts pass Django's signals by. Boxes of geometries are generated columns.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from quartier.cities.models import Municipality
from quartier.twin.models import Device, ObservedProperty, Series, Thing

GEOJSON = "application/geo+json"


class Party(models.Model):
    """Who measures or owns (STAplus): a person or an institution."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, null=True, blank=True)
    description = models.TextField(blank=True)
    auth_id = models.CharField(
        max_length=200, blank=True, help_text="as the sign-in calls them; shown to nobody else"
    )
    role = models.CharField(max_length=20, default="individual")
    display_name = models.CharField(max_length=200, blank=True)
    properties = models.JSONField(null=True, blank=True)


class License(models.Model):
    """Under which terms observations may be used (STAplus)."""

    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    definition = models.CharField(max_length=2000)
    logo = models.CharField(max_length=2000, blank=True)
    attribution_text = models.TextField(blank=True)
    properties = models.JSONField(null=True, blank=True)


class ThingDetails(models.Model):
    """What a Thing has besides the twin's columns."""

    thing = models.OneToOneField(Thing, models.CASCADE, primary_key=True, related_name="+")
    party = models.ForeignKey(Party, models.SET_NULL, null=True, blank=True, related_name="+")


class Location(models.Model):
    """A place as an entity. ``thing`` names the thing whose coordinates it is, where nobody posted it."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    encoding_type = models.CharField(max_length=100, default=GEOJSON)
    location = models.JSONField()
    properties = models.JSONField(null=True, blank=True)
    thing = models.OneToOneField(Thing, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)


class ThingLocation(models.Model):
    """A thing is at a Location now (several descriptions of one place are allowed)."""

    thing = models.ForeignKey(Thing, models.CASCADE, related_name="+")
    location = models.ForeignKey(Location, models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["thing", "location"], name="sensorthings_thing_location")
        ]


class HistoricalLocation(models.Model):
    """Since when a thing was where."""

    thing = models.ForeignKey(Thing, models.CASCADE, related_name="+", db_index=False)
    time = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["thing", "time", "id"], name="sensorthings_history")]


class HistoricalLocationLocation(models.Model):
    """The Locations of a HistoricalLocation."""

    historical_location = models.ForeignKey(HistoricalLocation, models.CASCADE, related_name="+")
    location = models.ForeignKey(Location, models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["historical_location", "location"], name="sensorthings_historical_location"
            )
        ]


class Sensor(models.Model):
    """How something is measured. One per device and per derivation of a city without anybody posting it.

    Where ``device`` or ``derivation`` is set, empty columns are filled in from there when the row is read.
    """

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    device = models.OneToOneField(Device, models.CASCADE, null=True, blank=True, related_name="+")
    derivation = models.CharField(max_length=60, blank=True)
    name = models.CharField(max_length=300, blank=True)
    description = models.TextField(blank=True)
    encoding_type = models.CharField(max_length=100, blank=True)
    metadata = models.JSONField(null=True, blank=True, help_text="any JSON, mostly an address")
    properties = models.JSONField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["municipality", "derivation"],
                condition=~models.Q(derivation=""),
                name="sensorthings_sensor_derivation",
            )
        ]


class PropertyDetails(models.Model):
    """What a posted ObservedProperty has besides the twin's columns."""

    observed_property = models.OneToOneField(
        ObservedProperty, models.CASCADE, primary_key=True, related_name="+"
    )
    description = models.TextField(blank=True)
    definition = models.CharField(max_length=2000, blank=True)
    properties = models.JSONField(null=True, blank=True)


class MultiDatastream(models.Model):
    """Several results at once. Its components are series of their own; the first one's observations are its own."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    thing = models.ForeignKey(Thing, models.CASCADE, related_name="+")
    sensor = models.ForeignKey(Sensor, models.PROTECT, related_name="+")
    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    observation_types = models.JSONField(default=list)
    units = models.JSONField(default=list)
    properties = models.JSONField(null=True, blank=True)
    party = models.ForeignKey(Party, models.SET_NULL, null=True, blank=True, related_name="+")
    license = models.ForeignKey(License, models.SET_NULL, null=True, blank=True, related_name="+")


class Datastream(models.Model):
    """What a series lacks to be a Datastream; empty columns have computed defaults.

    With ``multi`` the series is no Datastream but component number ``position`` (from 0) of a MultiDatastream.
    """

    series = models.OneToOneField(Series, models.CASCADE, primary_key=True, related_name="+")
    name = models.CharField(max_length=300, blank=True)
    description = models.TextField(blank=True)
    observation_type = models.CharField(max_length=300, blank=True)
    unit = models.JSONField(null=True, blank=True, help_text="name, symbol and definition as posted")
    properties = models.JSONField(null=True, blank=True)
    sensor = models.ForeignKey(Sensor, models.PROTECT, null=True, blank=True, related_name="+")
    party = models.ForeignKey(Party, models.SET_NULL, null=True, blank=True, related_name="+")
    license = models.ForeignKey(License, models.SET_NULL, null=True, blank=True, related_name="+")
    multi = models.ForeignKey(MultiDatastream, models.CASCADE, null=True, blank=True, related_name="+")
    position = models.SmallIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["multi", "position"], name="sensorthings_component")]


class FeatureOfInterest(models.Model):
    """What is observed. Where ``location`` is set it is the feature of that Location and follows it."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    encoding_type = models.CharField(max_length=100, default=GEOJSON)
    feature = models.JSONField()
    properties = models.JSONField(null=True, blank=True)
    location = models.OneToOneField(Location, models.SET_NULL, null=True, blank=True, related_name="+")


class FeatureSeries(models.Model):
    """Series with at least one observation that names this feature in its details; kept by whoever records those."""

    feature = models.ForeignKey(FeatureOfInterest, models.CASCADE, related_name="+", db_index=False)
    series = models.ForeignKey(Series, models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["feature", "series"], name="sensorthings_feature_series")
        ]


class Campaign(models.Model):
    """A period of measuring together (STAplus)."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    classification = models.CharField(max_length=300, blank=True)
    terms_of_use = models.TextField(blank=True)
    privacy_policy = models.TextField(blank=True)
    creation_time = models.DateTimeField(default=timezone.now)
    start_time = models.DateTimeField(null=True, blank=True)
    end_time = models.DateTimeField(null=True, blank=True)
    url = models.CharField(max_length=2000, blank=True)
    properties = models.JSONField(null=True, blank=True)
    party = models.ForeignKey(Party, models.SET_NULL, null=True, blank=True, related_name="+")
    license = models.ForeignKey(License, models.SET_NULL, null=True, blank=True, related_name="+")
    series = models.ManyToManyField(Series, related_name="+")
    multi_datastreams = models.ManyToManyField(MultiDatastream, related_name="+")


class ObservationGroup(models.Model):
    """Observations that belong together (STAplus)."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    purpose = models.TextField(blank=True)
    terms_of_use = models.TextField(blank=True)
    privacy_policy = models.TextField(blank=True)
    creation_time = models.DateTimeField(default=timezone.now)
    end_time = models.DateTimeField(null=True, blank=True)
    data_quality = models.JSONField(null=True, blank=True)
    properties = models.JSONField(null=True, blank=True)
    party = models.ForeignKey(Party, models.SET_NULL, null=True, blank=True, related_name="+")
    license = models.ForeignKey(License, models.SET_NULL, null=True, blank=True, related_name="+")
    campaigns = models.ManyToManyField(Campaign, related_name="+")


class GroupObservation(models.Model):
    """An observation of a group, by its key in the twin."""

    group = models.ForeignKey(ObservationGroup, models.CASCADE, related_name="+", db_index=False)
    series = models.ForeignKey(Series, models.CASCADE, related_name="+", db_index=False)
    time = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["group", "series", "time"], name="sensorthings_group_observation")
        ]
        indexes = [models.Index(fields=["series", "time"], name="sensorthings_observation_group")]


class Relation(models.Model):
    """What one observation is to another one, or to something outside (STAplus)."""

    role = models.CharField(max_length=2000)
    description = models.TextField(blank=True)
    external_object = models.CharField(max_length=2000, blank=True)
    properties = models.JSONField(null=True, blank=True)
    subject_series = models.ForeignKey(Series, models.CASCADE, related_name="+", db_index=False)
    subject_time = models.DateTimeField()
    object_series = models.ForeignKey(
        Series, models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    object_time = models.DateTimeField(null=True, blank=True)
    groups = models.ManyToManyField(ObservationGroup, related_name="+")

    class Meta:
        indexes = [
            models.Index(fields=["subject_series", "subject_time"], name="sensorthings_subject"),
            models.Index(fields=["object_series", "object_time"], name="sensorthings_object"),
        ]


class Actuator(models.Model):
    """What can be switched or set (17-079r1)."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    device = models.ForeignKey(Device, models.SET_NULL, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    encoding_type = models.CharField(max_length=100, blank=True)
    metadata = models.JSONField(null=True, blank=True)
    properties = models.JSONField(null=True, blank=True)


class TaskingCapability(models.Model):
    """Which tasks a thing takes, and their parameters."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    thing = models.ForeignKey(Thing, models.CASCADE, related_name="+")
    actuator = models.ForeignKey(Actuator, models.PROTECT, related_name="+")
    name = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    tasking_parameters = models.JSONField(default=dict)
    properties = models.JSONField(null=True, blank=True)


class Task(models.Model):
    """A task that somebody gave to a thing."""

    capability = models.ForeignKey(TaskingCapability, models.CASCADE, related_name="+")
    tasking_parameters = models.JSONField(default=dict)
    creation_time = models.DateTimeField(default=timezone.now)
    person_id = models.BigIntegerField(null=True, blank=True, help_text="who gave it; not shown")
    state = models.CharField(max_length=20, default="accepted")
    state_detail = models.TextField(blank=True)
    states = models.JSONField(default=list, help_text="state, time and detail, the oldest one first")
