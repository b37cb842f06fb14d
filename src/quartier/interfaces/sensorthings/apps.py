"""The room's Django app."""

from django.apps import AppConfig


class SensorThingsConfig(AppConfig):
    """SensorThings: the twin, spoken as OGC 18-088."""

    name = "quartier.interfaces.sensorthings"
    label = "sensorthings"
    verbose_name = "SensorThings"
