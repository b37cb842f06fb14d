"""Django application of the room ``intake``."""

from django.apps import AppConfig


class IntakeConfig(AppConfig):
    """Registers the room with Django."""

    name = "quartier.intake"
    label = "intake"

    def ready(self) -> None:
        """Watch what the pipeline keeps in memory."""
        from quartier.intake import signals  # noqa: PLC0415 (models are not loaded before)

        signals.connect()
