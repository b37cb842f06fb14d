"""Django application of the room ``lorawan``."""

from django.apps import AppConfig


class LorawanConfig(AppConfig):
    """Registers the room with Django, and its parser with the intake."""

    name = "quartier.lorawan"
    label = "lorawan"

    def ready(self) -> None:
        """Tell the intake how frames of our own network are read."""
        from quartier.intake import parsers  # noqa: PLC0415 (apps must be loaded)
        from quartier.lorawan import message  # noqa: PLC0415

        parsers.register(message.KIND, message.parse)
