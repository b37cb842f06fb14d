"""Django application of the room ``climate``."""

from django.apps import AppConfig


class ClimateConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.climate"
    label = "climate"
