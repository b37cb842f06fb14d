"""Django application of the room ``cities``."""

from django.apps import AppConfig


class CitiesConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.cities"
    label = "cities"
