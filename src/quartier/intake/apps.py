"""Django application of the room ``intake``."""

from django.apps import AppConfig


class IntakeConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.intake"
    label = "intake"
