"""Django application of the room ``usage``."""

from django.apps import AppConfig


class UsageConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.usage"
    label = "usage"
