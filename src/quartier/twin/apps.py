"""Django application of the room ``twin``."""

from django.apps import AppConfig


class TwinConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.twin"
    label = "twin"
