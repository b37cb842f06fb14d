"""Django application of the room ``portal``."""

from django.apps import AppConfig


class PortalConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.portal"
    label = "portal"
