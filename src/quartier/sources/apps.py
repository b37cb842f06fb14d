"""Django application of the room ``sources``."""

from django.apps import AppConfig


class SourcesConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.sources"
    label = "sources"
