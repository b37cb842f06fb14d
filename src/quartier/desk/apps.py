"""Django application of the room ``desk``."""

from django.apps import AppConfig


class DeskConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.desk"
    label = "desk"
